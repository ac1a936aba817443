"""Base class of the native vector environments: thousands of lanes in one compiled step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from coinfer_gym.envs.base import TaskEnv, next_world_seed, unit_box
from coinfer_gym.envs.lanes import Lanes
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.scenario import WorldScenario

Infos = dict[str, Any]


class TaskVectorEnv(VectorEnv[Any, Any, Any]):
    """Many lanes of a `coinfer_gym.envs.base.TaskEnv`; lane `i` seeded ``s`` is the single one seeded ``s + i``.

    Parameters
    ----------
    num_envs : int
        Number of lanes.
    scenario : str, optional
        As for the single environment.
    autoreset_mode : AutoresetMode or str
        ``NextStep`` (default), ``SameStep`` (with ``final_obs`` and ``final_info`` in the infos) or ``Disabled`` (lanes
        are reset by ``options={"reset_mask": mask}``).
    render_mode : None
        Only the single environment can be rendered.
    parallel : bool
        Spread the lanes over all cores. Useful for a thousand lanes or more on cores that are otherwise idle.
    **overrides
        Fields of the scenario to change.

    Raises
    ------
    InvalidInputError
        If there is no lane or no such mode, or the scenario cannot be used.
    """

    single: ClassVar[type[TaskEnv]]

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012  gymnasium's form

    scenario: WorldScenario
    lanes: Lanes

    def __init__(
        self,
        /,
        num_envs: int = 1,
        scenario: str = "",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        parallel: bool = False,
        **overrides: Any,
    ) -> None:
        setup = self.single.setup
        self.scenario = setup.load(scenario, overrides)
        self.lanes = lanes = setup.lanes(self.scenario, num_envs, parallel)
        if render_mode is not None:
            raise InvalidInputError("render_mode", render_mode, "Render the single environment with the same seed.")
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError as error:
            modes = ", ".join(repr(mode.value) for mode in AutoresetMode)
            raise InvalidInputError("autoreset_mode", autoreset_mode, f"Give one of {modes}.") from error
        self.metadata = self.metadata | {"autoreset_mode": self.autoreset_mode}
        self.num_envs = lanes.count
        self.render_mode = None
        self.single_observation_space = unit_box(lanes.observation_names)
        self.single_action_space = unit_box(lanes.action_names)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.generators: list[np.random.Generator] = []
        self._ended = np.zeros(self.num_envs, np.bool_)
        self._all = np.ones(self.num_envs, np.bool_)
        self._none = np.zeros(self.num_envs, np.bool_)
        self._info_masks = tuple(f"_{name}" for name in lanes.info_names)
        self._started = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], Infos]:
        """Draw new worlds.

        Parameters
        ----------
        seed : int or list of int, optional
            An int gives lane `i` the seed ``seed + i``.
        options : dict, optional
            ``reset_mask`` is a bool array of the lanes to reset; the others keep their episode. ``world_seed`` is as in
            the single environment.

        Returns
        -------
        observations : ndarray of float32, shape (num_envs, m)
        infos : dict of ndarray

        Raises
        ------
        InvalidInputError
            If the seeds or the mask have the wrong length, or an option is unknown.
        """
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", self._all))
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise InvalidInputError("options: reset_mask", mask, f"Give {self.num_envs} booleans, not all False.")
        if not self._started and not mask.all():
            raise InvalidInputError("options: reset_mask", mask, "Reset all lanes the first time.")
        self._seed(seed, mask)
        self.lanes.replace_infos(self.lanes.infos.copy())
        self._draw_worlds(np.flatnonzero(mask), options)
        self._started = True
        return self.lanes.observation.copy(), self._infos(mask)

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Infos]:
        """Serve the task at the head of the queue in every lane.

        Parameters
        ----------
        actions : ndarray of float32
            Element of `action_space`.

        Returns
        -------
        observations : ndarray of float32, shape (num_envs, m)
        rewards : ndarray of float64, shape (num_envs,)
        terminations, truncations : ndarray of bool, shape (num_envs,)
        infos : dict of ndarray

        Raises
        ------
        InvalidInputError
            If an action has another shape or a NaN.
        gymnasium.error.ResetNeeded
            Before the first reset. In mode ``Disabled`` also if an episode has ended and its lane was not reset.
        """
        if not self._started:
            raise ResetNeeded("No episode is running: call reset() before step().")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._ended.any():
            ended = ", ".join(map(str, np.flatnonzero(self._ended)[:10]))
            raise ResetNeeded(f"Episodes have ended in lanes {ended}: reset them with the option reset_mask.")
        restart = self._ended
        rewards, ends = self.lanes.step(actions, restart, fresh_infos=True)
        rewards, truncated = rewards.copy(), ends.copy()
        if restart.any():
            self._draw_worlds(np.flatnonzero(restart), {})
        self._ended = truncated.copy()
        final: Infos = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and truncated.any():
            final = self._finish(truncated)
        return self.lanes.observation.copy(), rewards, self._none.copy(), truncated, self._infos(self._all) | final

    @property
    def ended(self) -> NDArray[np.bool_]:
        """Lanes whose episode has ended, shape (num_envs,): the next step looks at no action of theirs."""
        return self._ended

    def _finish(self, ended: NDArray[np.bool_]) -> Infos:
        """Reset the ended lanes at once, keeping their last observation and info."""
        observations = np.full(self.num_envs, None, dtype=object)
        chosen = np.flatnonzero(ended)
        for i in chosen:
            observations[i] = self.lanes.observation[i].copy()
        infos = self._infos(ended)
        self._draw_worlds(chosen, {})
        self._ended = self._none
        return {"final_obs": observations, "_final_obs": ended.copy(), "final_info": infos, "_final_info": ended.copy()}

    def _seed(self, seed: int | list[int | None] | None, mask: NDArray[np.bool_]) -> None:
        if seed is None or isinstance(seed, (int, np.integer)):
            seeds: list[int | None] = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        else:
            try:
                seeds = list(seed)
            except TypeError as error:
                raise InvalidInputError("seed", seed, "Give a whole number, or one per lane.") from error
        if len(seeds) != self.num_envs:
            raise InvalidInputError("seed", f"{len(seeds)} seeds", f"Give one per lane, {self.num_envs}.")
        if not self.generators:
            self.generators = [seeding.np_random(value)[0] for value in seeds]
            return
        for i, value in enumerate(seeds):
            if value is not None and mask[i]:
                self.generators[i] = seeding.np_random(value)[0]

    def _draw_worlds(self, chosen: NDArray[np.int64], options: dict[str, Any]) -> None:
        generators = [self.generators[i] for i in chosen.tolist()]
        if options:
            seeds = [next_world_seed(generator, options) for generator in generators]
        else:
            seeds = [generator.bit_generator.random_raw() for generator in generators]
        self.lanes.reset(chosen, np.array(seeds, np.uint64))
        self._ended = self._ended.copy()
        self._ended[chosen] = False

    def _infos(self, present: NDArray[np.bool_]) -> Infos:
        """Infos by name, beside the mask of the lanes that have them."""
        values, present = self.lanes.infos, present.copy()
        if self.autoreset_mode is not AutoresetMode.NEXT_STEP:  # there every step writes all of a new array
            values = values.copy()
        infos: Infos = dict(zip(self.lanes.info_names, values.T, strict=True))
        return infos | dict.fromkeys(self._info_masks, present)


def info_names(infos: Mapping[str, Any]) -> list[str]:
    """Keys of infos for which every lane has a number."""
    return [name for name in infos if name[0] != "_" and not name.startswith("final_")]


def last_infos(infos: Mapping[str, Any]) -> Infos:
    """Results of the last decisions, by name.

    If an episode ended and its lane was reset at once, these come from ``final_info``, not from the first info of the
    next episode.
    """
    names = info_names(infos)
    if "final_info" not in infos:
        return {name: infos[name] for name in names}
    ended, final = infos["_final_info"], infos["final_info"]
    return {name: np.where(ended, final[name], infos[name]) for name in names}
