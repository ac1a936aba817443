"""Dynamic programming of one device at prices: each device plans as if it were alone and paid for what it holds.

A device that holds the shares ``b`` of the band and ``s`` of the server for ``T`` seconds pays ``(p_b b + p_s s) T``.
The prices ``p_b`` and ``p_s`` stand for all that the other devices could do with them. At a given `T` the best shares
leave it a worth, quality less price, which takes the place of the quality in `baselines.stochastic`. What is maximised
is the mean worth per task of one device, with all of the band and the server free.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.cell.rules import ConstantPrices, respond
from baselines.farsighted import Choice, Memory, View
from baselines.quality_grid import QualityGrid, fastest_delay
from baselines.stochastic.model import PATHS, Fineness, Model, fine_axes, gain_chain, gain_paths, solve_worth
from baselines.stochastic.policy import check_plannable, plan
from coinfer_gym import Problem
from coinfer_gym.cell.dynamics import distance_factor
from coinfer_gym.laim.scenario import Scenario

__all__ = ["OneDeviceDP"]

Floats = NDArray[np.float64]


class OneDeviceDP(ConstantPrices):
    """Service times by value iteration for one device at prices, and the best shares at these prices.

    It uses what `baselines.stochastic.StochasticDP` uses of the device at hand, and what is free. A battery is not
    planned for. To solve the process of a kind of device takes some seconds.

    Parameters
    ----------
    env : gymnasium.Env, optional
    band, server : float
        Price in quality of holding all of the band, and all of the server, for a second.

    Attributes
    ----------
    models : list of Model
        The solved process of each kind of device.
    """

    remembers = True

    def __init__(self, env: gym.Env[Any, Any] | None = None, band: float = 0.2, server: float = 0.2) -> None:
        super().__init__(env, band, server)

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this cell from now on; solves the process of each kind, or takes the solution from the last time.

        The budgets must be fixed, and tasks must queue.
        """
        super().bind(env)
        rules, ring, self.models = self._env.lanes.rules, self._env.scenario.distance_range, []
        ends = float(rules["gain_db_low"].min()), float(rules["gain_db_high"].max())
        for kind in self._env.scenario.members:
            check_plannable(kind)
            self.models.append(_solve(kind.model_dump_json(by_alias=True), ring, ends, *self._prices.tolist()))
        return self

    def choose(self, view: View, problem: Problem, memory: Memory) -> Choice:
        """Service time with the best outlook."""
        model = self.models[self._env.device % len(self.models)]
        return plan(model, self.world, replace(view, battery=math.inf), memory)[0]

    def decide(self) -> NDArray[Any]:
        """Action for the task at hand; what is remembered has a row for each device, NaN before its first task."""
        rows = np.full((self._env.devices, 3), math.nan) if self._memory is None else self._memory.copy()
        own = rows[self._env.device]
        self._memory = None if np.isnan(own).any() else own
        action = super().decide()
        own[:], self._memory = self._memory, rows
        return action

    def _bill(self, seconds: float) -> Floats:
        return self._prices * seconds


@lru_cache(maxsize=8)
def _solve(
    scenario_json: str, ring: tuple[float, float] | None, ends: tuple[float, float], band: float, server: float
) -> Model:
    """Process of one device at prices; its distance is drawn from a ring, and its gain lies between `ends` in dB."""
    scenario, fineness = Scenario.model_validate_json(scenario_json), Fineness()
    paths, (gains, delays) = gain_paths(scenario), fine_axes(scenario, *ends)
    if ring is not None:
        law = ring, scenario.distance, scenario.path_loss_exponent
        paths += np.log([[distance_factor(np.uint64(seed), *law)] for seed in PATHS])
    worth = np.zeros((len(gains), len(delays), 1))
    for i, gain in enumerate(gains):
        for j, seconds in enumerate(delays):
            problem = scenario.problem(float(gain), float(seconds))
            worth[i, j] = respond(problem, np.ones(2), np.array([band, server]) * seconds).earned
    energies, fastest = np.array([scenario.energy_budget]), fastest_delay(scenario.problem(1.0), gains)
    grid = QualityGrid(np.log(gains), delays, energies, worth, np.zeros_like(worth), fastest)
    return solve_worth(scenario, fineness, gain_chain(paths, fineness.gains), grid)
