"""A batch of lanes: the arrays of running episodes, and the calls into the compiled process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.envs import process
from coinfer_gym.envs.observation import OBSERVATION_NAMES
from coinfer_gym.envs.process import LaneArrays
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.records import record_type
from coinfer_gym.scenario import WorldScenario
from coinfer_gym.world import build_world_tables


@dataclass(frozen=True)
class Steps:
    """An environment's compiled steps of all lanes, on one core and on all; both as in `coinfer_gym.laim.dynamics`."""

    one_core: Callable[..., int]
    all_cores: Callable[..., int]


class Lanes:
    """Episodes that run side by side in one scenario; each environment has its own subclass.

    Parameters
    ----------
    scenario : WorldScenario
    model : tuple
        What a decision yields is computed from: the environment's own constants, as its compiled steps take them.
    action_names : tuple of str
        Components of an action, each in [-1, 1].
    info_names : tuple of str
        Keys of ``info``: `coinfer_gym.envs.process.SITUATION_NAMES`, the decision's, and `OUTCOME_NAMES`.
    count : int
        Number of lanes.
    parallel : bool
        Spread the lanes over all cores.

    Raises
    ------
    InvalidInputError
        If there is no lane.

    Attributes
    ----------
    rules : ndarray of `coinfer_gym.envs.process.RULES`, shape (1,)
    world : WorldTables
        What the lanes' worlds are drawn from.
    model, action_names, info_names
        As given.
    state : ndarray of `coinfer_gym.envs.process.STATE`, shape (count,)
    arrivals : ndarray, shape (count, tasks + 1)
        Arrival times in s of each lane's world.
    gains : ndarray, shape (count, path_blocks)
        Channel gain of each coherence block.
    observation : ndarray of float32, shape (count, 7)
        The current observations, overwritten by the next step.
    infos : ndarray, shape (count, len(info_names))
        The current infos, likewise.
    """

    steps: ClassVar[Steps]

    def __init__(
        self,
        scenario: WorldScenario,
        model: tuple[Any, ...],
        action_names: tuple[str, ...],
        info_names: tuple[str, ...],
        count: int,
        parallel: bool = False,
    ) -> None:
        given: object = count  # whatever the caller gave
        if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < 1:
            raise InvalidInputError("num_envs", given, "Give a whole number of at least 1.")
        self.world = build_world_tables(scenario)
        self.rules = process.build_rules(scenario, self.world)
        self.model = model
        self.action_names = action_names
        self.info_names = info_names
        self.state = np.zeros(count, process.STATE)
        self.arrivals = np.zeros((count, scenario.tasks + 1))
        self.gains = np.zeros((count, int(self.world.record["blocks"][0])))
        self._queue = np.zeros((count, scenario.queue_capacity), np.int64)
        self.observation = np.zeros((count, len(OBSERVATION_NAMES)), np.float32)
        self.infos = np.zeros((count, len(info_names)))
        self._info = record_type(*info_names)
        self._link()
        self._parallel = parallel

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_arrays"}

    def __setstate__(self, content: dict[str, Any]) -> None:
        self.__dict__.update(content)
        self._link()

    def _link(self) -> None:
        """Bundle the arrays as compiled code takes them."""
        info = self.infos.view(self._info)[:, 0]
        self._arrays = LaneArrays(
            self.state, self.arrivals, self.gains, self._queue, self.observation, self.infos, info
        )

    def replace_infos(self, infos: NDArray[np.float64]) -> None:
        """Write infos to another array from now on, of the shape of `infos`."""
        self.infos = infos
        self._link()

    def reset(self, chosen: NDArray[np.int64], seeds: NDArray[np.uint64]) -> None:
        """Start new episodes in place, the k-th of the `chosen` lanes in the world of ``seeds[k]``."""
        self.infos[chosen] = 0.0
        run = process.reset_lanes_parallel if self._parallel else process.reset_lanes
        run(self.rules, self.world, self._arrays, chosen, seeds)

    def tasks(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """What an agent can know of the task at hand in every lane.

        Returns
        -------
        gain, delay_budget, energy_budget : ndarray, shape (count,)
            The observed gain, what waiting has left of T0 in s, and E0 or what less the battery holds in J (which is
            stricter than the device's own share of it).
        """
        gain, delay, energy = np.empty((3, len(self.state)))
        process.write_task_view(self.rules, self._arrays, gain, delay, energy)
        return gain, delay, energy

    def step(
        self, actions: NDArray[np.floating[Any]], skipped: NDArray[np.bool_], fresh_infos: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Decide the task at hand in every lane that is not `skipped`.

        Parameters
        ----------
        actions : ndarray, shape (count, len(action_names))
            Components outside [-1, 1] are clipped and counted in ``info["clipped"]``.
        skipped : ndarray of bool, shape (count,)
        fresh_infos : bool
            Write the infos of all lanes to a new array, so that one that was handed out keeps its values.

        Returns
        -------
        rewards : ndarray of float64, shape (count,)
        ends : ndarray of bool, shape (count,)
            Whether the lane's world has no task left.

        Raises
        ------
        InvalidInputError
            If an action has another shape or a NaN.
        """
        try:
            actions = np.array(actions, dtype=np.float64, order="C")
        except (TypeError, ValueError) as error:
            raise InvalidInputError("action", actions, "Give numbers in [-1, 1].") from error
        if actions.shape != (len(self.state), len(self.action_names)):
            raise InvalidInputError(
                "action", actions.shape, f"Give {len(self.state)} x {len(self.action_names)} numbers in [-1, 1]."
            )
        kept = self.infos
        if fresh_infos:
            self.replace_infos(np.empty_like(self.infos))
        rewards = np.zeros(len(self.state))
        ends = np.zeros(len(self.state), np.bool_)
        run = self.steps.all_cores if self._parallel else self.steps.one_core
        bad = run(self.rules, self.model, self._arrays, skipped, actions, rewards, ends)
        if bad >= 0:
            self.replace_infos(kept)
            lane, component = divmod(bad, len(self.action_names))
            name = self.action_names[component]
            raise InvalidInputError(f"action[{lane}]: {name}", math.nan, "Give a number in [-1, 1].")
        return rewards, ends
