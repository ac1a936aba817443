"""Predictive control: plan the next tasks as if the future were as expected, and serve the first as planned."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.checks import check_positive
from baselines.farsighted import Choice, FarsightedPolicy, Memory, View
from baselines.quality_grid import QualityGrid, build_grid
from coinfer_gym import InvalidInputError, Problem
from coinfer_gym._compile import kernel
from coinfer_gym.checks import check_number, check_whole
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.physics import from_db
from coinfer_gym.world import draw, gain_db_range

__all__ = ["PredictiveControl"]

Floats = NDArray[np.float64]

_GAINS = 48
_STEPS = 40  # grid steps per delay budget


class PredictiveControl(FarsightedPolicy):
    """Plans some tasks ahead and serves the first as planned.

    The plan is the best one: dynamic programming over (task, time) with the exact optimum inside. Waiting tasks are
    taken to have come at even distances since the task at hand did. Later ones are taken to come at even distances of
    the expected rate, which mixes the observed estimate with the scenario's mean.

    It uses the gain, the age of the task, the queue, the observed estimate of the arrival rate and the channel's
    correlation.

    Parameters
    ----------
    env : gymnasium.Env, optional
    horizon : int
        Tasks to plan beyond those that wait.
    trust : float
        Weight of the observed estimate against the mean rate, from 0 to 1.
    haste : float
        Factor on the expected rate: above 1 plans for more tasks than are expected.
    forecast : {"hold", "mean"}
        Whether the gain stays as it is or returns to its mean as its correlation says.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any] | None = None,
        horizon: int = 6,
        trust: float = 0.7,
        haste: float = 1.0,
        forecast: Literal["hold", "mean"] = "mean",
    ) -> None:
        if forecast not in ("hold", "mean"):
            raise InvalidInputError("forecast", forecast, "Give 'hold' or 'mean'.")
        self._horizon = check_whole("horizon", horizon, 1, 1000)
        self._trust, self._haste = check_number("trust", trust, 0.0, 1.0), check_positive("haste", haste)
        self._forecast = forecast
        self._grid: QualityGrid | None = None
        self._budgets = (0.0, 0.0)
        super().__init__(env)

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on, see `ProblemPolicy.bind`."""
        super().bind(env)
        scenario: Scenario = self._env.scenario
        if scenario.arrivals == "one_at_a_time":
            raise InvalidInputError("arrivals", scenario.arrivals, "There is no queue to plan for.")
        self._grid = None
        self._mean, self._correlation = _log_gain_moments(scenario)
        return self

    def choose(self, view: View, problem: Problem, memory: Memory) -> Choice:
        """First service time of the best plan."""
        delay_budget = view.wait + view.left
        grid = self._tabulate(problem, delay_budget, view)
        step = delay_budget / _STEPS
        arrivals = self._expect_arrivals(view)
        times = math.ceil((float(arrivals[-1]) + delay_budget) / step) + 2
        block = self._env.scenario.block_duration
        change = np.maximum(0, (np.arange(times) * step / block + 0.5).astype(np.int64))  # half a block is over
        rows = np.stack([self._quality_row(grid, view.gain, k) for k in range(int(change[-1]) + 1)])
        fastest = max(1, math.ceil(float(np.min(grid.fastest)) / step))
        k = _plan(arrivals, delay_budget, step, rows, change, fastest, np.zeros(times))
        return Choice(view.left if (k + 1) * step > view.left else k * step)

    def _tabulate(self, problem: Problem, delay_budget: float, view: View) -> QualityGrid:
        """The exact optimum for this episode's budgets."""
        budgets = (delay_budget, view.energy_budget)
        if self._grid is None or not np.allclose(budgets, self._budgets, rtol=1e-3, atol=0.0):
            low, high = gain_db_range(self._env.scenario)
            gains = from_db(np.linspace(low, high, _GAINS))
            self._grid = build_grid(problem, gains, np.arange(_STEPS + 1) * (delay_budget / _STEPS))
            self._budgets = budgets
        return self._grid

    def _quality_row(self, grid: QualityGrid, gain: float, blocks: int) -> Floats:
        keep = 1.0 if self._forecast == "hold" else self._correlation**blocks
        quality, _ = grid.at(math.exp(self._mean + keep * (math.log(gain) - self._mean)))
        return quality[:, 0]

    def _expect_arrivals(self, view: View) -> Floats:
        """Arrival times of the task at hand and those after it, in s from now."""
        rate = self._haste * (self._trust * view.intensity + (1.0 - self._trust) * self._mean_rate)
        waiting = -view.wait * (1.0 - np.arange(1, view.waiting + 1) / (view.waiting + 1))
        later = np.arange(1, self._horizon + 1) / max(rate, 1e-3 * self._mean_rate)
        return np.concatenate([[-view.wait], waiting, later])


def _log_gain_moments(scenario: Scenario) -> tuple[float, float]:
    """Mean of the gain's natural logarithm, and its correlation from block to block."""
    path = np.log(draw(scenario, 2**63).gains)
    deviation = path - path.mean()
    variance = float(np.mean(deviation**2))
    if variance < 1e-12:
        return float(path.mean()), 1.0
    return float(path.mean()), max(0.0, float(np.mean(deviation[1:] * deviation[:-1])) / variance)


@kernel
def _plan(
    arrivals: Floats,
    delay_budget: float,
    step: float,
    rows: Floats,
    change: NDArray[np.int64],
    fastest: int,
    ahead: Floats,
) -> int:
    """Steps that the first task takes in the best plan; tasks are served in order, late ones are lost.

    ``ahead[n]`` is what the tasks after one earn from step `n` on. It is overwritten in rising order: a service looks
    ahead.
    """
    last = ahead.shape[0] - 1
    choice = fastest
    for i in range(arrivals.shape[0] - 1, -1, -1):
        first = max(0, math.ceil(arrivals[i] / step))
        due = min(last, int((arrivals[i] + delay_budget) / step + 1e-9))
        for n in range(last + 1):
            start = max(n, first)
            if start > due:
                continue
            best, choice = ahead[min(last, start + fastest)], fastest
            for end in range(start + 1, due + 1):
                earned = rows[change[start], end - start] + ahead[end]
                if earned > best:
                    best, choice = earned, end - start
            ahead[n] = best
            if i == 0:
                break  # the first task starts now
    return choice
