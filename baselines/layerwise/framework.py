"""The optimization framework of Mu et al. (Sec. V): four parts, each of which can be replaced, find the best design.

- Parameters generator: `ParametersGenerator` (of `baselines.layerwise.designs`), from the unit cube to designs and
  back. What a scheme does not decide is fixed in it, so that a scheme of fewer decisions is a generator.
- Accuracy predictor: that of the problem (`coinfer_gym.layerwise.predictor.RegressionPredictor`).
- Delay calculator: `DELAY_CALCULATOR` (eq. 2 to eq. 5), or `ENERGY_CALCULATOR`, which Sec. V-C names instead of it.
- Optimizer: `run_algorithm_1`, as printed; `run_and_mutate` and `search_each_cut`, which do not stop there; or any of
  `baselines.optimizers.OPTIMIZERS`.

The cut is a variable like all others, as printed. `search_each_cut` runs Algorithm 1 at each cut by itself instead.

Feasible designs to start from
------------------------------
Algorithm 1 draws its first solutions uniformly, and few of those are accurate enough. The first of them here is the
unpruned network at its best cut with its best codec; the others are drawn until they are accurate enough, as line 12
has it for all samples.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from baselines.box import Box
from baselines.checks import check_count
from baselines.layerwise.designs import (
    DELAY_CALCULATOR,
    Calculator,
    DesignSearch,
    ParametersGenerator,
    check_accuracy,
)
from baselines.optimizers import SearchProblem, run_quantum
from coinfer_gym.layerwise.problem import LayerwiseProblem, LayerwiseSolution

__all__ = ["Chosen", "Framework", "Optimizer", "run_algorithm_1", "run_and_mutate", "search_each_cut"]

Floats = NDArray[np.float64]
Optimizer = Callable[[DesignSearch, int, int], OptimizeResult]
"""From a search, a number of evaluations that it must not exceed, and a seed to a result as of `minimize_quantum`."""

_FIRST_SHARE = 0.5
"""Share of the evaluations that go to the first run at every cut."""
_FINALISTS = 3
_BATCH, _PATIENCE = 256, 25
_MOST_MUTATED = 3
_LOG_STEPS = (-2.5, 0.0)
_RAISED = (0.0, 0.0, 0.2, 0.6)  # share of the variables that go back to 1, chosen for each point


@dataclass(frozen=True)
class Chosen:
    """Design that a scheme chose, and what the search cost.

    Attributes
    ----------
    name : str
        Name of the scheme.
    solution : LayerwiseSolution
    evaluations : int
        Designs evaluated, including rejected ones.
    seconds : float
        Wall-clock time.
    history : tuple of (ndarray, ndarray)
        Evaluations at each improvement within the limits, and the objective there; empty for schemes without a search.
    """

    name: str
    solution: LayerwiseSolution
    evaluations: int
    seconds: float
    history: tuple[NDArray[np.int64], Floats] = field(default_factory=lambda: (np.empty(0, np.int64), np.empty(0)))


def run_algorithm_1(search: DesignSearch, evaluations: int, seed: int) -> OptimizeResult:
    """Algorithm 1 as printed: five groups, twenty scales that shrink by 1.3, rejection of what misses the limits.

    Parameters
    ----------
    search : DesignSearch
        The run begins at the first of its `start`.
    evaluations : int
        Points to look at at most; 20,000 end it after 18 of its twenty scales where little is accurate enough.
    seed : int

    Returns
    -------
    scipy.optimize.OptimizeResult
        As `baselines.quantum.minimize_quantum`, whose text says what the paper leaves open.
    """
    return run_quantum(search, evaluations, seed, start=search.start[:1])


def run_and_mutate(search: DesignSearch, evaluations: int, seed: int) -> OptimizeResult:
    """Algorithm 1 as printed, then points that differ in a few variables from its end, and again until all are spent.

    At the end of a run no single ratio can fall without losing too much accuracy, but one can if another rises. Points
    that differ in a few variables find such exchanges. Takes and returns the same as `run_algorithm_1`, for continuous
    variables only, and uses up all evaluations.
    """
    seeds = np.random.default_rng(seed)
    best = run_quantum(search, evaluations, seeds, start=search.start[:1])
    _mutate(search, best, evaluations - best.nfev, seeds)
    while best.nfev < evaluations:
        end = run_quantum(search, evaluations - best.nfev, seeds)
        _mutate(search, end, evaluations - best.nfev - end.nfev, seeds)
        _record(best, end.x, end)
    return best


def search_each_cut(search: DesignSearch, evaluations: int, seed: int) -> OptimizeResult:
    """Algorithm 1 at each cut by itself, then again and with mutations, as in `run_and_mutate`, at the best cuts.

    Parameters
    ----------
    search : DesignSearch
        Its first variable is the cut, and the only whole number.
    evaluations, seed
        As `run_algorithm_1`; the evaluations are spent.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x``, ``fun``, ``maxcv``, ``nfev`` and ``history``, as those of `baselines.quantum.minimize_quantum`.
    """
    seeds = np.random.default_rng(seed)
    best = OptimizeResult()
    best.update(x=search.box.low, fun=math.inf, maxcv=math.inf, nfev=0, history=(np.empty(0, np.int64), np.empty(0)))
    fixed, ends = [], []
    # No cut may take what the others need: where little is accurate enough, a run ends late.
    share = max(1, int(_FIRST_SHARE * evaluations / (search.box.high[0] - search.box.low[0] + 1.0)))
    for cut in np.arange(search.box.low[0], search.box.high[0] + 1.0):
        fixed.append(_fix_cut(search, cut))
        start = search.start[search.start[:, 0] == cut, 1:]
        end = run_quantum(fixed[-1], min(share, evaluations - best["nfev"]), seeds, start=start)
        ends.append((end.maxcv, end.fun))
        _record(best, np.append(cut, end.x), end)
        if best["nfev"] >= evaluations:
            return best
    finalists = sorted(range(len(ends)), key=ends.__getitem__)[:_FINALISTS]
    cuts = search.box.low[0] + np.array(finalists)
    turn = 0
    while best["nfev"] < evaluations:
        for place, cut in zip(finalists, cuts, strict=True):
            # Every other turn from nothing: what is best so far may have nothing better near it.
            again = best["x"][1:] if turn % 2 == 0 and cut == best["x"][0] else None
            end = run_quantum(fixed[place], min(share, evaluations - best["nfev"]), seeds, start=again)
            _mutate(fixed[place], end, evaluations - best["nfev"] - end.nfev, seeds)
            _record(best, np.append(cut, end.x), end)
            if best["nfev"] >= evaluations:
                break
        turn += 1
    return best


def _fix_cut(search: SearchProblem, cut: float) -> SearchProblem:
    """The search without its first variable."""
    box, excess = search.box, search.excess

    def whole(points: Floats) -> Floats:
        return np.concatenate([np.full((1, points.shape[1]), cut), points])

    return SearchProblem(
        lambda points: search.objective(whole(points)),
        Box(np.stack([box.low, box.high], axis=1)[1:], box.whole[1:]),
        None if excess is None else lambda points: excess(whole(points)),
    )


def _record(best: Any, x: Floats, end: Any) -> None:
    """Take over the end of a run, which lies at `x`, where it is better, and count its evaluations."""
    times, levels = end.history
    new = levels < best.fun
    best.history = np.append(best.history[0], best.nfev + times[new]), np.append(best.history[1], levels[new])
    best.nfev += end.nfev
    if (end.maxcv, end.fun) < (best.maxcv, best.fun):
        best.update(x=x, fun=end.fun, maxcv=end.maxcv)


def _mutate(search: SearchProblem, result: Any, evaluations: int, generator: np.random.Generator) -> None:
    """Move a result within the limits to better points around it, until a series of batches holds none.

    A point differs in up to `_MOST_MUTATED` variables by normal steps, whose size is drawn on a logarithmic scale; of
    half the points some variables first go back to 1, which keeps all and gives accuracy for the others to spend.
    """
    variables, failed = len(result.x), 0
    evaluations += result.nfev
    while result.maxcv == 0.0 and failed < _PATIENCE and result.nfev < evaluations:
        size = min(_BATCH, evaluations - result.nfev)
        order = generator.random((variables, size)).argsort(axis=0)
        chosen = order < generator.integers(1, _MOST_MUTATED + 1, size)
        steps = generator.normal(size=(variables, size)) * 10.0 ** generator.uniform(*_LOG_STEPS, size)
        points = np.repeat(result.x[:, None], size, axis=1)
        points[generator.random(points.shape) < generator.choice(_RAISED, size)] = 1.0
        points = np.clip(points + chosen * steps, 0.0, 1.0)
        result.nfev += size
        values = search.objective(points)
        points, values = points[:, values < result.fun], values[values < result.fun]
        if search.excess is not None and len(values):
            within = search.excess(points) == 0.0
            points, values = points[:, within], values[within]
        failed = 0 if len(values) else failed + 1
        if len(values):
            result.x, result.fun = points[:, values.argmin()].copy(), float(values.min())
            result.history = tuple(map(np.append, result.history, (result.nfev, result.fun)))


@dataclass(frozen=True)
class Framework:
    """The four parts put together.

    Attributes
    ----------
    generator : callable
        From a problem to its `ParametersGenerator`.
    calculator : Calculator
    optimizer : callable
        See `Optimizer`.
    evaluations : int
        Designs that the optimizer looks at at most, beside those that it starts from (`DesignSearch`).
    name : str
        Under which the result goes.
    """

    generator: Callable[[LayerwiseProblem], ParametersGenerator] = ParametersGenerator
    calculator: Calculator = DELAY_CALCULATOR
    optimizer: Optimizer = run_algorithm_1
    evaluations: int = 20_000
    name: str = "Proposed"

    def optimize(self, problem: LayerwiseProblem, seed: int = 0) -> Chosen:
        """The best design found.

        Raises
        ------
        InvalidInputError
            If no design found is accurate enough, or the seed is no whole number of at least 0.
        """
        seed = check_count("seed", seed, 0)
        began = time.perf_counter()
        search = DesignSearch(problem, self.generator(problem), self.calculator)
        result = self.optimizer(search, self.evaluations, seed)
        row = search.rows(result.x[:, None])[0]
        solution = check_accuracy(problem, self.name, problem.evaluate(problem.decision(row)))
        evaluations = search.looked_at + int(result.nfev)
        return Chosen(self.name, solution, evaluations, time.perf_counter() - began, result.history)
