"""Global optimizers of mixed variables, called alike and on equal budgets of evaluations.

All of them except ``quantum_printed``, which rejects, minimise the same merit. That of a point within the constraints
is its objective; that of any other is its excess, above all of these. So what is feasible is always better, and no
weight must be chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, OptimizeResult, differential_evolution, dual_annealing

from baselines.box import Box
from baselines.quantum import MESSAGES, minimize_quantum
from coinfer_gym.checks import check_whole

__all__ = ["OPTIMIZERS", "SearchProblem"]

Floats = NDArray[np.float64]

UNLIMITED = 10**9
"""Evaluations that no search comes to."""

_BATCH = 500


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


def run_quantum(search: SearchProblem, evaluations: int, seed: int, **settings: Any) -> OptimizeResult:
    """`minimize_quantum` on a search, within a number of evaluations."""
    return minimize_quantum(
        search.objective,
        Bounds(search.box.low, search.box.high),
        integrality=search.box.whole,
        vectorized=True,
        constraints=search.excess,
        max_evaluations=evaluations,
        seed=seed,
        **settings,
    )


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
            maxiter=UNLIMITED,
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
            maxiter=UNLIMITED,
            maxfun=UNLIMITED,
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
        minimize(_Task(n_var=n, n_obj=1, xl=0.0, xu=1.0), GA(), ("n_gen", UNLIMITED), seed=seed)
    return ledger.result()


def draw_at_random(search: SearchProblem, evaluations: int, seed: int) -> OptimizeResult:
    """Points uniform in the bounds."""
    ledger, generator = _Ledger(search, evaluations), np.random.default_rng(seed)
    with suppress(_Spent):
        while True:
            ledger.unit_merit(generator.random((_BATCH, len(search.box.low))))
    return ledger.result()


OPTIMIZERS: dict[str, Callable[[SearchProblem, int, int], OptimizeResult]] = {
    "quantum_printed": partial(run_quantum, form="printed", restarts=True),
    "quantum_mqhoa": partial(run_quantum, form="mqhoa"),
    "quantum_mqhoa_5": partial(run_quantum, form="mqhoa", k=5, scales=20, restarts=True),
    "differential_evolution": evolve_differences,
    "dual_annealing": anneal,
    "cma_es": adapt_covariance,
    "genetic_algorithm": evolve_genes,
    "random_search": draw_at_random,
}
"""Optimizers by name: each takes a search, a number of evaluations and a seed, and looks at no more points than that.

Results have the fields of `baselines.quantum.minimize_quantum` but `nit`: ``x``, ``fun``, ``maxcv``, ``nfev``,
``success`` (whether `x` meets the constraints), ``message`` and ``history``.

``quantum_mqhoa_5`` has the groups and scales of Mu et al. and begins anew after the last: with some thousands of
evaluations the 30 groups of ``quantum_mqhoa`` do not get far beyond their first scales.
"""


class _Spent(Exception):
    """The evaluations are spent."""


class _Ledger:
    """Merit of a search for an optimizer, and a record of the best so far; raises `_Spent` after `evaluations`."""

    def __init__(self, search: SearchProblem, evaluations: int) -> None:
        self._search, self._limit, self._used = search, check_whole("evaluations", evaluations, 1, UNLIMITED), 0
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
