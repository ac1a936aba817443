"""P1 (Lyu et al., eq. 44) over all cuts as a black box, and global optimizers that search it on equal budgets.

The variables are the cut, a whole number, and the five controls mapped to [0, 1]: retained ratios linearly, since the
budgets and most qualities are linear in them or nearly so; power and clocks by their logarithm, since delays and
energies are powers of them. An open lower end is taken at `OPEN_END` of the upper bound.

All optimizers except the one by rejection minimise the same merit. That of a decision within budgets and memories is
its objective, ``-quality``; that of any other is its relative excess over one of them. So what is feasible is always
better, and no weight must be chosen. The comparison counts feasible decisions only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, OptimizeResult, differential_evolution, dual_annealing

from baselines.checks import check_count
from baselines.quantum import MESSAGES, Box, minimize_quantum
from baselines.rules import MyopicExact
from coinfer_gym import Decision, Problem, Solution
from coinfer_gym._compile import kernel
from coinfer_gym.laim.decision import CONTROLS, check_cut
from coinfer_gym.laim.outcome import Tables, evaluate, model_quality

__all__ = ["OPTIMIZERS", "P1Search", "MyopicQuantum", "SearchProblem", "solve_quantum"]

Floats = NDArray[np.float64]

OPEN_END = 1e-3
"""Least clock and power of a search, as shares of the largest, where the problem itself sets no bound: what slower ones
would save is a millionth of the energy at full clock, and an upload at less power saves energy no more once the
power is below that of the noise."""

_FIRST_LOGARITHMIC = 2
_UNLIMITED = 10**9
_BATCH = 500
_LEAST_BUDGET = 1e-9
NOT_FOUND = "no decision within the budgets was found"


@dataclass
class SearchProblem:
    """A problem of mixed variables as the optimizers see it: functions of many columns at once.

    Attributes
    ----------
    objective : callable
        From points, shape (n, S), to values, shape (S,).
    box : Box
        Bounds, and which variables are whole numbers.
    excess : callable, optional
        From points to how far each misses the constraints; 0 within them.
    ceiling : float
        No value of the objective within the constraints is larger.
    """

    objective: Callable[[Floats], Floats]
    box: Box
    excess: Callable[[Floats], Floats] | None = None
    ceiling: float = 0.0


class P1Search(SearchProblem):
    """P1 at one cut or over all: the objective is ``-quality``, the excess the largest one of a budget or a memory."""

    def __init__(self, problem: Problem, cut: int | None = None) -> None:
        cuts = (0, problem.workload.cuts - 1) if cut is None else (check_cut(cut, problem.workload),) * 2
        super().__init__(self._objective, Box([cuts, *[(0.0, 1.0)] * 5], [True, *[False] * 5]), self._excess)
        self.problem = problem
        self._high = np.array([1.0, 1.0, *(getattr(problem, f"{name}_max") for name in CONTROLS[2:])])
        low = np.array([getattr(problem, f"{name}_min") for name in CONTROLS])
        low[_FIRST_LOGARITHMIC:] = np.maximum(low, OPEN_END * self._high)[_FIRST_LOGARITHMIC:]
        self._low = low
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
    """Best solution of P1 that the quantum-inspired search of Mu et al. finds.

    The settings are those of the paper, except that groups may lie outside the budgets: with rejection, as printed, the
    search finds no start when few decisions are feasible.

    Parameters
    ----------
    problem : Problem
    cut : int, optional
        The only cut to search. By default the cut is one more variable.
    evaluations : int
        Number of decisions to evaluate; the search restarts until they are used up.
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
    search = P1Search(problem, cut)
    result = _search_quantum(search, evaluations, seed, "penalty")
    solution = problem.evaluate(search.decision(result.x))
    return solution if solution.feasible else replace(solution, reason=NOT_FOUND)


class MyopicQuantum(MyopicExact):
    """The quantum-inspired search of Mu et al. for each task.

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
        self._evaluations = check_count("evaluations", evaluations, 1, _UNLIMITED)
        self._seed = check_count("seed", seed, 0)
        super().__init__(env, scheme, cut)

    def solve(self, problem: Problem) -> Decision:
        """Best decision found."""
        restricted = self._scheme.restrict(problem)
        return solve_quantum(restricted, self._cut_of(problem), evaluations=self._evaluations, seed=self._seed)


def _search_quantum(search: SearchProblem, evaluations: int, seed: int, feasibility: str) -> OptimizeResult:
    return minimize_quantum(
        search.objective,
        Bounds(search.box.low, search.box.high),
        integrality=search.box.whole,
        vectorized=True,
        constraints=search.excess,
        feasibility=feasibility,
        max_evaluations=evaluations,
        restarts=True,
        seed=seed,
    )


def quantum_rejection(search: SearchProblem, evaluations: int, seed: int) -> OptimizeResult:
    """Algorithm 1 of Mu et al. as printed, restarted until the evaluations are used up."""
    return _search_quantum(search, evaluations, seed, "rejection")


def quantum_penalty(search: SearchProblem, evaluations: int, seed: int) -> OptimizeResult:
    """Algorithm 1 of Mu et al. on the merit: groups may lie outside the constraints."""
    return _search_quantum(search, evaluations, seed, "penalty")


def evolve_differences(search: SearchProblem, evaluations: int, seed: int) -> OptimizeResult:
    """SciPy's `differential_evolution` with its own settings, without polishing and without an early end."""
    ledger = _Ledger(search, evaluations)
    box = search.box
    merit: Any = ledger.merit  # the stubs know functions of one point only
    with suppress(_Spent):
        differential_evolution(
            merit,
            Bounds(box.low, box.high),
            integrality=box.whole,
            vectorized=True,
            updating="deferred",
            polish=False,
            tol=0.0,
            maxiter=_UNLIMITED,
            rng=np.random.default_rng(seed),
        )
    return ledger.result()


def anneal(search: SearchProblem, evaluations: int, seed: int) -> OptimizeResult:
    """SciPy's `dual_annealing` on the unit cube, without its local search.

    The local search needs gradients, which whole numbers and the edge of a budget do not have.
    """
    ledger = _Ledger(search, evaluations)

    def merit(unit: Floats) -> float:
        return float(ledger.unit_merit(unit[None])[0])

    with suppress(_Spent):
        dual_annealing(
            merit,
            [(0.0, 1.0)] * len(search.box.low),
            maxiter=_UNLIMITED,
            maxfun=_UNLIMITED,
            no_local_search=True,
            rng=np.random.default_rng(seed),
        )
    return ledger.result()


def adapt_covariance(search: SearchProblem, evaluations: int, seed: int) -> OptimizeResult:
    """CMA-ES on the unit cube, restarted with twice the population after it has converged.

    Whole numbers are rounded: the library's own treatment of them draws from numpy's global generator.
    """
    import cma

    ledger, n = _Ledger(search, evaluations), len(search.box.low)
    generator = np.random.default_rng(seed)
    options: dict[str, Any] = {
        "bounds": [0.0, 1.0],
        "randn": lambda *shape: generator.standard_normal(shape),
        "seed": math.nan,
        "verbose": -9,
        "popsize": 4 + int(3.0 * math.log(n)),
    }
    with suppress(_Spent):
        while True:
            strategy = cma.CMAEvolutionStrategy(generator.random(n), 0.3, options)
            while not strategy.stop():
                places = np.array(strategy.ask())
                strategy.tell(places, ledger.unit_merit(places))
            options["popsize"] *= 2
    return ledger.result()


def evolve_genes(search: SearchProblem, evaluations: int, seed: int) -> OptimizeResult:
    """Pymoo's genetic algorithm with its own settings, on the unit cube."""
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.core.problem import Problem as Task
    from pymoo.optimize import minimize

    ledger, n = _Ledger(search, evaluations), len(search.box.low)

    class _Task(Task):  # type: ignore[misc]  # the library has no types
        def _evaluate(self, x: Floats, out: dict[str, Any], *_: object, **__: object) -> None:
            out["F"] = ledger.unit_merit(x)

    with suppress(_Spent):
        minimize(_Task(n_var=n, n_obj=1, xl=0.0, xu=1.0), GA(), ("n_gen", _UNLIMITED), seed=seed)
    return ledger.result()


def draw_at_random(search: SearchProblem, evaluations: int, seed: int) -> OptimizeResult:
    """Points uniform in the bounds."""
    ledger, generator = _Ledger(search, evaluations), np.random.default_rng(seed)
    with suppress(_Spent):
        while True:
            ledger.unit_merit(generator.random((_BATCH, len(search.box.low))))
    return ledger.result()


OPTIMIZERS: dict[str, Callable[[SearchProblem, int, int], OptimizeResult]] = {
    "quantum_rejection": quantum_rejection,
    "quantum_penalty": quantum_penalty,
    "differential_evolution": evolve_differences,
    "dual_annealing": anneal,
    "cma_es": adapt_covariance,
    "genetic_algorithm": evolve_genes,
    "random_search": draw_at_random,
}
"""Optimizers by name: each takes a search, a number of evaluations and a seed, and looks at no more points than that.

Results have the fields of `baselines.quantum.minimize_quantum` but `nit`: ``x``, ``fun``, ``maxcv``, ``nfev``,
``success`` (whether `x` meets the constraints), ``message`` and ``history``.
"""


class _Spent(Exception):
    """The evaluations are spent."""


class _Ledger:
    """Merit of a search for an optimizer, and a record of the best so far; raises `_Spent` after `evaluations`."""

    def __init__(self, search: SearchProblem, evaluations: int) -> None:
        self._search, self._limit, self._used = search, check_count("evaluations", evaluations, 1, _UNLIMITED), 0
        self._x = np.full(len(search.box.low), math.nan)
        self._merit = math.inf
        self._value, self._excess = math.inf, math.inf
        self._times: list[int] = []
        self._levels: list[float] = []

    def unit_merit(self, units: Floats) -> Floats:
        """Merit of places in the unit cube, shape (S, n)."""
        return self.merit(self._search.box.points(units))

    def merit(self, points: Floats) -> Floats:
        """Merit of points, shape (n, S)."""
        asked = points.shape[1]
        points = points[:, : self._limit - self._used]
        count = points.shape[1]
        if count == 0:
            raise _Spent
        excesses = np.zeros(count) if self._search.excess is None else self._search.excess(points)
        values = self._search.objective(points)
        merits = np.where(excesses > 0.0, self._search.ceiling + excesses, values)
        before = np.minimum.accumulate(np.concatenate([[self._merit], merits[:-1]]))
        for i in np.flatnonzero(merits < before):
            self._merit, self._excess = float(merits[i]), max(float(excesses[i]), 0.0)
            if self._excess == 0.0:
                self._value = self._merit
                self._times.append(self._used + int(i) + 1)
                self._levels.append(self._value)
            self._x = points[:, i].copy()
        self._used += count
        if count < asked:
            raise _Spent
        return merits

    def result(self) -> OptimizeResult:
        """The best so far."""
        result = OptimizeResult()
        result.update(
            x=self._x,
            fun=self._value,
            maxcv=self._excess,
            nfev=self._used,
            success=self._excess == 0.0,
            message=MESSAGES[1] if self._used == self._limit else "The optimizer ended by itself.",
            history=(np.array(self._times, np.int64), np.array(self._levels)),
        )
        return result


@kernel
def _control(low: Floats, high: Floats, place: float, j: int) -> float:
    """Control `j` at a place in [0, 1]."""
    value: float = low[j] + place * (high[j] - low[j])
    if j >= _FIRST_LOGARITHMIC:
        value = low[j] * (high[j] / low[j]) ** place
    value = min(high[j], max(low[j], value))  # rounding must not leave the bounds
    return value


@kernel
def _qualities(tables: Tables, low: Floats, high: Floats, points: Floats, values: Floats) -> None:
    """Quality of each column."""
    hardware, quality, cuts, blocks = tables
    for i in range(points.shape[1]):
        device, server = _control(low, high, points[1, i], 0), _control(low, high, points[2, i], 1)
        values[i] = model_quality(hardware, quality, cuts, blocks, int(points[0, i]), device, server)


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
    """Excess of each column over the budget or the memory that it exceeds most."""
    hardware, _, cuts, _ = tables
    for i in range(points.shape[1]):
        s = int(points[0, i])
        device, server = _control(low, high, points[1, i], 0), _control(low, high, points[2, i], 1)
        power = _control(low, high, points[3, i], 2)
        clocks = _control(low, high, points[4, i], 3), _control(low, high, points[5, i], 4)
        spent = evaluate(hardware, cuts, s, gain, device, server, power, clocks[0], clocks[1])
        late = _excess(spent[0] + spent[1] + spent[2], budgets[0])
        hungry = _excess(spent[3] + spent[4] + spent[5], budgets[1])
        crowded = max(_excess(device, cuts[s].retained_device_max), _excess(server, cuts[s].retained_server_max))
        excesses[i] = max(late, hungry, crowded)


@kernel
def _excess(spent: float, budget: float) -> float:
    """Relative excess over a limit, 0 within it; a waiting task's budget of time may be used up or negative."""
    return (spent - budget) / max(abs(budget), _LEAST_BUDGET) if spent > budget else 0.0
