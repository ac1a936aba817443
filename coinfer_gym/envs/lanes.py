"""A batch of lanes: the arrays of running episodes, and the calls into the compiled process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import machine_code
from coinfer_gym.checks import check_whole
from coinfer_gym.envs import process
from coinfer_gym.envs.actions import check_actions
from coinfer_gym.envs.observation import OBSERVATION_NAMES
from coinfer_gym.envs.process import LaneArrays
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.records import Records
from coinfer_gym.scenario import WorldScenario
from coinfer_gym.world import build_world_tables


@dataclass(frozen=True)
class Steps:
    """An environment's compiled steps of all lanes, on one core and on all; both as in `coinfer_gym.laim.dynamics`."""

    one_core: Callable[[Records, Any, LaneArrays], int]
    all_cores: Callable[[Records, Any, LaneArrays], int]


def check_count(count: object) -> int:
    """Number of lanes; None, a single environment, is one."""
    return 1 if count is None else check_whole("num_envs", count, 1)


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
    info_type : dtype
        Record of as many float64, by which compiled code writes them.
    count : int or None
        Number of lanes. None is one lane whose actions are no rows: a single environment.
    parallel : bool
        Spread the lanes over all cores.
    observation_names : tuple of str
        Components of an observation.
    kinds : sequence of WorldScenario
        The worlds of a lane's kinds of device, if it has several; by default one kind, in the world of `scenario`.
    devices : int
        Devices of a lane.

    Raises
    ------
    InvalidInputError
        If there is no lane.

    Attributes
    ----------
    rules : ndarray of `coinfer_gym.envs.process.RULES`, shape (kinds,)
    worlds : tuple of WorldTables
        What the worlds are drawn from, of each kind of device.
    model, action_names, observation_names, info_names
        As given.
    count : int
        Number of lanes.
    state : ndarray of `coinfer_gym.envs.process.STATE`, shape (count * devices,)
    arrivals : ndarray, shape (count * devices, tasks + 1)
        Arrival times in s of each device's world.
    gains : ndarray, shape (count * devices, path_blocks)
        Channel gain of each coherence block.
    observation : ndarray of float32, shape (count, len(observation_names))
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
        info_type: np.dtype[np.void],
        count: int | None,
        parallel: bool = False,
        observation_names: tuple[str, ...] = OBSERVATION_NAMES,
        kinds: Sequence[WorldScenario] = (),
        devices: int = 1,
    ) -> None:
        self._shape = (len(action_names),) if count is None else (count, len(action_names))
        self.count = check_count(count)
        kinds = kinds or (scenario,)
        self.worlds = tuple(build_world_tables(kind) for kind in kinds)
        self.rules = np.concatenate(
            [process.build_rules(kind, world) for kind, world in zip(kinds, self.worlds, strict=True)]
        )
        self.model = model
        self.action_names, self.observation_names, self.info_names = action_names, observation_names, info_names
        rows = self.count * devices
        blocks = max(int(world.record["blocks"][0]) for world in self.worlds)
        for world in self.worlds:
            world.record["blocks"] = blocks
        self.state = np.zeros(rows, process.STATE)
        self.arrivals = np.zeros((rows, max(kind.tasks for kind in kinds) + 1))
        self.gains = np.zeros((rows, blocks))
        self._queue = np.zeros((rows, scenario.queue_capacity), np.int64)
        self.observation = np.zeros((self.count, len(observation_names)), np.float32)
        self.infos = np.zeros((self.count, len(info_names)))
        self._info_type = info_type
        self._parallel = parallel
        self._link()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_arrays", "_run")}

    def __setstate__(self, content: dict[str, Any]) -> None:
        self.__dict__.update(content)
        self._link()

    def _link(self) -> None:
        """Bundle the arrays as compiled code takes them, and find the code that takes them."""
        count = self.count
        self._arrays = LaneArrays(
            self.state,
            self.arrivals,
            self.gains,
            self._queue,
            self.observation,
            self._view(self.infos),
            actions=np.zeros((count, len(self.action_names))),
            skipped=np.zeros(count, np.bool_),
            rewards=np.zeros(count),
            ends=np.zeros(count, np.bool_),
        )
        step = self.steps.all_cores if self._parallel else self.steps.one_core
        self._run = machine_code(step, self.rules, self.model, self._arrays)

    def _view(self, infos: NDArray[np.float64]) -> Records:
        """The same numbers by name."""
        records: Records = infos.view(self._info_type)[:, 0]
        return records

    def replace_infos(self, infos: NDArray[np.float64]) -> None:
        """Write infos to another array from now on, of the shape of `infos`."""
        self.infos = infos
        self._arrays = self._arrays._replace(info=self._view(infos))

    def reset(self, chosen: NDArray[np.int64], seeds: NDArray[np.uint64]) -> None:
        """Start new episodes in place, the k-th of the `chosen` lanes in the world of ``seeds[k]``."""
        self.infos[chosen] = 0.0
        run = process.reset_lanes_parallel if self._parallel else process.reset_lanes
        run(self.rules, self.worlds[0], self._arrays, chosen, seeds)

    def tasks(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """What an agent can know of the task at hand in every lane.

        Returns
        -------
        gain, delay_budget, energy_budget : ndarray, shape (count,)
            The observed gain, what waiting has left of T0 in s, and E0 or what less the battery holds in J (which is
            stricter than the device's own share of it).
        """
        gain, delay, energy = np.empty((3, self.count))
        process.write_task_view(self.rules, self._arrays, gain, delay, energy)
        return gain, delay, energy

    def step(
        self, actions: object, skipped: NDArray[np.bool_] | None = None, fresh_infos: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Decide the task at hand in every lane that is not `skipped`.

        Parameters
        ----------
        actions : array_like, shape (count, len(action_names))
            Components outside [-1, 1] are clipped and counted in ``info["clipped"]``. A single environment takes one
            row.
        skipped : ndarray of bool, shape (count,), optional
            Their actions are not looked at.
        fresh_infos : bool
            Write the infos of all lanes to a new array, so that one that was handed out keeps its values.

        Returns
        -------
        rewards : ndarray of float64, shape (count,)
            Overwritten by the next step, as `ends` is; 0 in the skipped lanes.
        ends : ndarray of bool, shape (count,)
            Whether the lane's world has no task left.

        Raises
        ------
        InvalidInputError
            If an action has another shape, a NaN, or anything but real numbers.
        """
        arrays = self._arrays
        arrays.actions[...] = check_actions(actions, self._shape)
        arrays.skipped[...] = False if skipped is None else skipped
        arrays.rewards.fill(0.0)
        arrays.ends.fill(False)
        kept = self.infos
        if fresh_infos:
            self.replace_infos(np.empty_like(self.infos))
        bad = self._run(self.rules, self.model, self._arrays)
        if bad >= 0:
            self.replace_infos(kept)
            lane, component = divmod(bad, len(self.action_names))
            place = "action" if len(self._shape) == 1 else f"action[{lane}]"
            raise InvalidInputError(f"{place}: {self.action_names[component]}", math.nan, "Give a number in [-1, 1].")
        return arrays.rewards, arrays.ends
