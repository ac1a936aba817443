"""A batch of lanes: the arrays of running episodes, and the calls into the compiled dynamics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.envs import dynamics, spaces
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.optimum import solve_exact
from coinfer_gym.scenario import Scenario


class Lanes:
    """Episodes that run side by side in one scenario.

    Parameters
    ----------
    scenario : Scenario
    count : int
        Number of lanes.
    parallel : bool
        Spread the lanes over all cores.

    Raises
    ------
    InvalidInputError
        If no decision meets the largest budgets even in the best channel.

    Attributes
    ----------
    state : ndarray of `coinfer_gym.envs.dynamics.STATE`, shape (count,)
    arrivals : ndarray, shape (count, tasks + 1)
        Arrival times in s of each lane's world.
    gains : ndarray, shape (count, path_blocks)
        Channel gain of each coherence block.
    observation : ndarray of float32, shape (count, 7)
        The current observations, overwritten by the next step.
    infos : ndarray, shape (count, 28)
        The current infos in the order of `coinfer_gym.envs.dynamics.INFO_NAMES`, likewise.
    """

    def __init__(self, scenario: Scenario, count: int, parallel: bool = False) -> None:
        self.constants = dynamics.build_constants(scenario)
        _check_budgets(scenario, self.constants)
        self.state = np.zeros(count, dynamics.STATE)
        self.arrivals = np.zeros((count, scenario.tasks + 1))
        self.gains = np.zeros((count, self.constants.path_blocks))
        self._queue = np.zeros((count, scenario.queue_capacity))
        self.observation = np.zeros((count, len(spaces.OBSERVATION_NAMES)), np.float32)
        self.infos = np.zeros((count, len(dynamics.INFO_NAMES)))
        self._constant_arrays = self.constants.arrays
        self._link()
        self._parallel = parallel

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lane_arrays", "_info_records")}

    def __setstate__(self, content: dict[str, Any]) -> None:
        self.__dict__.update(content)
        self._link()

    def _link(self) -> None:
        """Bundle the arrays as compiled code takes them."""
        self._lane_arrays = (self.state, self.arrivals, self.gains, self._queue)
        self._info_records = self.infos.view(dynamics.INFO)[:, 0]

    def replace_infos(self, infos: NDArray[np.float64]) -> None:
        """Write infos to another array from now on, of the shape of `infos`."""
        self.infos = infos
        self._link()

    def reset(self, chosen: NDArray[np.int64], seeds: NDArray[np.uint64]) -> None:
        """Start new episodes in place, the k-th of the `chosen` lanes in the world of ``seeds[k]``."""
        self.infos[chosen] = 0.0
        run = dynamics.reset_lanes_parallel if self._parallel else dynamics.reset_lanes
        run(self._constant_arrays, self._lane_arrays, chosen, seeds, self.observation, self._info_records)

    def tasks(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """What an agent can know of P1 of the task at hand in every lane.

        Returns
        -------
        gain, delay_budget, energy_budget : ndarray, shape (count,)
            The observed gain, what waiting has left of T0 in s, and E0 or what less the battery holds in J (which is
            stricter than the device's own share of it).
        """
        gain, delay, energy = np.empty((3, len(self.state)))
        dynamics.tell_tasks(self._lane_arrays, self.constants.rules, gain, delay, energy)
        return gain, delay, energy

    def step(
        self, actions: NDArray[np.floating[Any]], skipped: NDArray[np.bool_], fresh_infos: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Decide the task at hand in every lane that is not `skipped`.

        Parameters
        ----------
        actions : ndarray, shape (count, 6)
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
        if actions.shape != (len(self.state), len(spaces.ACTION_NAMES)):
            raise InvalidInputError(
                "action", actions.shape, f"Give {len(self.state)} x {len(spaces.ACTION_NAMES)} numbers in [-1, 1]."
            )
        kept = self.infos
        if fresh_infos:
            self.replace_infos(np.empty_like(self.infos))
        rewards = np.zeros(len(self.state))
        ends = np.zeros(len(self.state), np.bool_)
        run = dynamics.step_lanes_parallel if self._parallel else dynamics.step_lanes
        bad = run(
            self._constant_arrays,
            self._lane_arrays,
            skipped,
            actions,
            self.observation,
            rewards,
            ends,
            self._info_records,
        )
        if bad >= 0:
            self.replace_infos(kept)
            lane, component = divmod(bad, len(spaces.ACTION_NAMES))
            name = spaces.ACTION_NAMES[component]
            raise InvalidInputError(f"action[{lane}]: {name}", math.nan, "Give a number in [-1, 1].")
        return rewards, ends


def _check_budgets(scenario: Scenario, constants: dynamics.Constants) -> None:
    """Raise `InvalidInputError` if no decision meets the largest budgets even in the best channel."""
    delay_budget = max(scenario.delay_budget_range or (scenario.delay_budget,))
    energy_budget = max(scenario.energy_budget_range or (scenario.energy_budget,))
    gain = 10.0 ** (float(constants.scale["gain_db_high"][0]) / 10.0)
    best = solve_exact(scenario.problem(gain, delay_budget, energy_budget))
    if best.feasible:
        return
    needs = {"delay_budget": (delay_budget, best.delay_needed), "energy_budget": (energy_budget, best.energy_needed)}
    name = min(needs, key=lambda key: needs[key][1] / needs[key][0])
    given, needed = needs[name]
    remedy = "Raise both budgets." if math.isinf(needed) else f"In the best channel a task needs {needed:.4g}."
    raise InvalidInputError(name, given, f"No decision can meet it together with the other budget. {remedy}")
