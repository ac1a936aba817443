"""P1 (Lyu et al., eq. 44) over all cuts as a black box, for the optimizers of `baselines.optimizers`.

The variables are the cut, a whole number, and the five controls mapped to [0, 1]: retained ratios linearly, since the
budgets and most qualities are linear in them or nearly so; power and clocks by their logarithm, since delays and
energies are powers of them. An open lower end is taken at `OPEN_END` of the upper bound.

The objective is ``-quality``; the excess is the largest relative one over a budget or a memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.box import Box
from baselines.optimizers import OPTIMIZERS, UNLIMITED, SearchProblem
from baselines.rules import MyopicExact
from coinfer_gym import Decision, Problem, Solution
from coinfer_gym._compile import kernel
from coinfer_gym.checks import check_whole
from coinfer_gym.laim.decision import CONTROLS, check_cut
from coinfer_gym.laim.outcome import Choice, Tables, model_quality, spend
from coinfer_gym.laim.problem import check_problem

__all__ = ["MyopicQuantum", "P1Search", "ends", "excess_of", "quality_of", "solve_quantum"]

Floats = NDArray[np.float64]

OPEN_END = 1e-3
"""Least clock and power of a search, as shares of the largest, where the problem itself sets no bound: what slower ones
would save is a millionth of the energy at full clock, and an upload at less power saves energy no more once the
power is below that of the noise."""

_FIRST_LOGARITHMIC = 2
_LEAST_BUDGET = 1e-9
NOT_FOUND = "no decision within the budgets was found"


class P1Search(SearchProblem):
    """P1 at one cut or over all: the objective is ``-quality``, the excess the largest one of a budget or a memory."""

    def __init__(self, problem: Problem, cut: int | None = None) -> None:
        cuts = (0, problem.workload.cuts - 1) if cut is None else (check_cut(cut, problem.workload),) * 2
        super().__init__(self._objective, Box([cuts, *[(0.0, 1.0)] * 5], [True, *[False] * 5]), self._excess)
        self.problem = problem
        self._low, self._high = ends(problem)
        self._tables = problem.tables

    def _objective(self, points: Floats) -> Floats:
        values = np.empty(points.shape[1])
        _qualities(self._tables, self._low, self._high, points, values)
        return -values

    def _excess(self, points: Floats) -> Floats:
        excesses = np.empty(points.shape[1])
        budgets = (self.problem.delay_budget, self.problem.energy_budget)
        _excesses(self._tables, self._low, self._high, self.problem.gain, budgets, points, excesses)
        return excesses

    def decision(self, point: Floats) -> Decision:
        """Decision of a point, shape (6,); ratio 1, clock 0 and power 0 if a side or the link has no work."""
        row = self._tables[2][int(point[0])]
        values = {name: float(_control(self._low, self._high, point[j + 1], j)) for j, name in enumerate(CONTROLS)}
        for side in ("device", "server"):
            if row[f"flops_{side}"] == 0.0:
                values[f"frequency_{side}"] = 0.0
                if row[f"prunable_{side}"] == 0.0:
                    values[f"retained_{side}"] = 1.0
        if row["upload_bits"] == 0.0:
            values["power"] = 0.0
        return Decision(int(point[0]), **values)


def solve_quantum(problem: Problem, cut: int | None = None, *, evaluations: int = 5000, seed: int = 0) -> Solution:
    """Best solution of P1 that the quantum-inspired search of Mu et al. finds, in the form ``mqhoa`` with five groups.

    As printed, with rejection, the search finds no start when few decisions are feasible.

    Parameters
    ----------
    problem : Problem
    cut : int, optional
        The only cut to search. By default the cut is one more variable.
    evaluations : int
        Number of decisions to evaluate; the search begins anew until they are used up.
    seed : int

    Returns
    -------
    Solution
        The same for the same arguments. If no decision within the budgets was found, the one with the smallest excess,
        and a `reason`.

    Raises
    ------
    InvalidInputError
        If the workload does not have the cut, or `evaluations` or `seed` is out of its range.
    """
    check_problem(problem)
    search = P1Search(problem, cut)
    result = OPTIMIZERS["quantum_mqhoa_5"](search, evaluations, seed)
    solution = problem.evaluate(search.decision(result.x))
    return solution if solution.feasible else replace(solution, reason=NOT_FOUND)


class MyopicQuantum(MyopicExact):
    """The quantum-inspired search of Mu et al. for each task, as `solve_quantum`.

    Parameters
    ----------
    env, scheme, cut
        As for `baselines.rules.MyopicExact`.
    evaluations : int
        Decisions evaluated per task.
    seed : int
        Seed of the search; equal tasks get equal decisions.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any] | None = None,
        scheme: str = "joint",
        cut: int | None = None,
        evaluations: int = 5000,
        seed: int = 0,
    ) -> None:
        self._evaluations = check_whole("evaluations", evaluations, 1, UNLIMITED)
        self._seed = check_whole("seed", seed, 0)
        super().__init__(env, scheme, cut)

    def solve(self, problem: Problem) -> Decision:
        """Best decision found."""
        restricted = self._scheme.restrict(problem)
        return solve_quantum(restricted, self._cut_of(problem), evaluations=self._evaluations, seed=self._seed)


def ends(problem: Problem) -> tuple[Floats, Floats]:
    """Ends of the five controls in a search."""
    low, high = problem.bounds()
    low[_FIRST_LOGARITHMIC:] = np.maximum(low, OPEN_END * high)[_FIRST_LOGARITHMIC:]
    return low, high


@kernel
def _control(low: Floats, high: Floats, place: float, j: int) -> float:
    """Control `j` at a place in [0, 1]."""
    value: float = low[j] + place * (high[j] - low[j])
    if j >= _FIRST_LOGARITHMIC:
        value = low[j] * (high[j] / low[j]) ** place
    value = min(high[j], max(low[j], value))  # rounding must not leave the bounds
    return value


@kernel
def quality_of(tables: Tables, low: Floats, high: Floats, points: Floats, i: int) -> float:
    """Quality of column `i`."""
    device, server = _control(low, high, points[1, i], 0), _control(low, high, points[2, i], 1)
    value: float = model_quality(tables, int(points[0, i]), device, server)
    return value


@kernel
def excess_of(
    tables: Tables, low: Floats, high: Floats, gain: float, budgets: tuple[float, float], points: Floats, i: int
) -> float:
    """Excess of column `i` over the budget or the memory that it exceeds most."""
    s, cuts = int(points[0, i]), tables.cuts
    device, server = _control(low, high, points[1, i], 0), _control(low, high, points[2, i], 1)
    power = _control(low, high, points[3, i], 2)
    clocks = _control(low, high, points[4, i], 3), _control(low, high, points[5, i], 4)
    delay, energy = spend(tables, gain, Choice(s, device, server, power, clocks[0], clocks[1]))
    late, hungry = _excess(delay, budgets[0]), _excess(energy, budgets[1])
    crowded = max(_excess(device, cuts[s].retained_device_max), _excess(server, cuts[s].retained_server_max))
    return max(late, hungry, crowded)


@kernel
def _qualities(tables: Tables, low: Floats, high: Floats, points: Floats, values: Floats) -> None:
    for i in range(points.shape[1]):
        values[i] = quality_of(tables, low, high, points, i)


@kernel
def _excesses(
    tables: Tables,
    low: Floats,
    high: Floats,
    gain: float,
    budgets: tuple[float, float],
    points: Floats,
    excesses: Floats,
) -> None:
    for i in range(points.shape[1]):
        excesses[i] = excess_of(tables, low, high, gain, budgets, points, i)


@kernel
def _excess(spent: float, budget: float) -> float:
    """Relative excess over a limit, 0 within it; a waiting task's budget of time may be used up or negative."""
    return (spent - budget) / max(abs(budget), _LEAST_BUDGET) if spent > budget else 0.0
