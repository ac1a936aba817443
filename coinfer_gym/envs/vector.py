"""LAIM-v0 as a native vector environment."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import AutoresetMode

from coinfer_gym.envs.laim import DEFAULT_SCENARIO, LAIMLanes
from coinfer_gym.envs.vector_base import TaskVectorEnv
from coinfer_gym.scenario import Scenario, load_scenario


class LAIMVectorEnv(TaskVectorEnv):
    """Many lanes of `coinfer_gym.envs.laim.LAIMEnv`; lane `i` seeded ``s`` is the single environment seeded ``s + i``.

    Parameters
    ----------
    num_envs : int
        Number of lanes.
    scenario : str
        Name of a shipped scenario or path of a YAML file.
    autoreset_mode : AutoresetMode or str
        ``NextStep`` (default), ``SameStep`` (with ``final_obs`` and ``final_info`` in the infos) or ``Disabled`` (lanes
        are reset by ``options={"reset_mask": mask}``).
    parallel : bool
        Spread the lanes over all cores: for a thousand lanes and more on cores that nothing else keeps busy.
    **overrides
        Fields of the scenario to set otherwise.

    Raises
    ------
    InvalidInputError
        If there is no lane, or the scenario cannot be used.
    """

    scenario: Scenario

    def __init__(
        self,
        num_envs: int = 1,
        scenario: str = DEFAULT_SCENARIO,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        parallel: bool = False,
        **overrides: Any,
    ) -> None:
        loaded = load_scenario(scenario, **overrides)
        super().__init__(loaded, LAIMLanes(loaded, num_envs, parallel), autoreset_mode, render_mode)
