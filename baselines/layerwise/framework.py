"""The optimization framework of Mu et al. (Sec. V): four parts, each of which can be replaced, find the best design.

- Parameters generator: `ParametersGenerator`, from the unit cube to designs and back. What a scheme does not decide
  is fixed in it, so that a scheme of fewer decisions is a generator.
- Accuracy predictor: that of the problem (`coinfer_gym.layerwise.predictor.RegressionPredictor`).
- Delay calculator: `DELAY_CALCULATOR` (eq. 2 to eq. 5), or `ENERGY_CALCULATOR`, which Sec. V-C names instead of it.
- Optimizer: `run_algorithm_1`, as printed; `run_and_mutate` and `search_each_cut`, which do not stop there; or any of
  `baselines.search.OPTIMIZERS`.

What is decided and what follows exactly
----------------------------------------
Power and clock are no variables: at a given design the fastest ones within the energy budget are known
(`coinfer_gym.layerwise.optimum.solve_rows`); without a budget, as in the paper, these are the largest.

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
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, OptimizeResult

from baselines.checks import check_count
from baselines.quantum import Box, minimize_quantum
from baselines.search import SearchProblem
from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise.optimum import solve_rows
from coinfer_gym.layerwise.problem import LayerwiseProblem, LayerwiseSolution, Outcomes

__all__ = [
    "DELAY_CALCULATOR",
    "ENERGY_CALCULATOR",
    "Calculator",
    "Chosen",
    "DesignSearch",
    "Framework",
    "Optimizer",
    "ParametersGenerator",
    "run_algorithm_1",
    "run_and_mutate",
    "search_each_cut",
    "select_best",
]

Floats = NDArray[np.float64]
Optimizer = Callable[["DesignSearch", int, int], OptimizeResult]
"""From a search, a number of evaluations that it must not exceed, and a seed to a result as of `minimize_quantum`."""

CODEC_SHARE = 0.9
"""Part of the unit range in which the feature is compressed; in the rest there is no codec."""

_CEILING = 1e6
"""More seconds, and more joules, than any task takes."""

_FIRST_SHARE = 0.5
"""Share of the evaluations that go to the first run at every cut."""
_FINALISTS = 3
_BATCH, _PATIENCE = 256, 25
_MOST_MUTATED = 3
_LOG_STEPS = (-2.5, 0.0)
_RAISED = (0.0, 0.0, 0.2, 0.6)  # share of the variables that go back to 1, chosen for each point


class Calculator(NamedTuple):
    """What of a design's outcomes is minimised, and what is limited by a budget.

    Attributes
    ----------
    objective : callable
        From `Outcomes` to an array of shape (n,).
    limited : tuple of str
        Those of ``delay`` and ``energy`` that the problem's budgets limit. A minimised one need not be among them:
        where its least value exceeds the budget, nothing meets it.
    """

    objective: Callable[[Outcomes], Floats]
    limited: tuple[str, ...]


DELAY_CALCULATOR = Calculator(attrgetter("delay"), ("energy",))
ENERGY_CALCULATOR = Calculator(attrgetter("energy"), ("delay",))


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


class ParametersGenerator:
    """Designs from points of mixed variables, and points from designs.

    The mapping factor brings every variable to [0, 1]: a retained ratio linearly from the least one, the compression
    by its logarithm from one channel of the widest group, since ratios of sizes matter; `CODEC_SHARE` of its range is
    with a codec. The cut is a whole number and the first of the variables, where there is more than one.

    Parameters
    ----------
    problem : LayerwiseProblem
    cuts : tuple of int, optional
        First and last cut; all of them where None. Mu et al., eq. 7, leaves out cut 0, the image sent as it is.
    prune, compress : bool
        Whether ratios and compression are free; fixed at 1 where not.

    Attributes
    ----------
    box : Box
        Bounds of the free variables.
    cuts : range

    Raises
    ------
    InvalidInputError
        If the network does not have the cuts, or nothing is left free.
    """

    def __init__(
        self,
        problem: LayerwiseProblem,
        *,
        cuts: tuple[int, int] | None = None,
        prune: bool = True,
        compress: bool = True,
    ) -> None:
        last = problem.network.cuts - 1
        first_cut, last_cut = (0, last) if cuts is None else cuts
        if not 0 <= first_cut <= last_cut <= last:
            raise InvalidInputError("cuts", cuts, f"Give a first and a last one of 0 to {last}.")
        if not (prune or compress or first_cut < last_cut):
            raise InvalidInputError("cuts", cuts, "Leave the cut, the ratios or the compression free.")
        self._groups = len(problem.network.groups)
        self._prune, self._compress = prune, compress
        self._retained_min = problem.retained_min
        self._channels = [group.channels for group in problem.network.groups]
        self._log_least = -math.log(max(self._channels))
        self._groups_sent = problem.network.tables.cuts["group"]
        self.cuts = range(first_cut, last_cut + 1)
        whole = [True] * (len(self.cuts) > 1) + [False] * (self._groups * prune + compress)
        self.box = Box([(first_cut, last_cut) if each else (0.0, 1.0) for each in whole], whole)

    def designs(self, points: Floats) -> Floats:
        """Designs of points: shape (S, G + 4) for (n, S); power and clock are NaN."""
        designs = self._unpruned(points.shape[1])
        designs[:, 0] = points[0] if len(self.cuts) > 1 else self.cuts[0]
        if self._prune:
            first = int(len(self.cuts) > 1)
            places = points[first : first + self._groups].T
            designs[:, 1:-3] = self._retained_min + places * (1.0 - self._retained_min)
        if self._compress:
            shares = np.exp(self._log_least * (1.0 - points[-1] / CODEC_SHARE))
            designs[:, -3] = np.where(points[-1] < CODEC_SHARE, shares, 1.0)
        return designs

    def points(self, designs: Floats) -> Floats:
        """Points, shape (n, S), of designs, shape (S, G + 4), as far as its variables go."""
        columns = []
        if len(self.cuts) > 1:
            columns.append(designs[:, :1])
        if self._prune:
            columns.append((designs[:, 1:-3] - self._retained_min) / (1.0 - self._retained_min))
        if self._compress:
            shares = designs[:, -3:-2]
            places = CODEC_SHARE * (1.0 - np.log(shares) / self._log_least)
            columns.append(np.where(shares < 1.0, places, 1.0))
        return np.concatenate(columns, axis=1).T

    def unpruned(self) -> Floats:
        """The network as it is at each cut, shape (C, G + 4); power and clock are NaN."""
        designs = self._unpruned(len(self.cuts))
        designs[:, 0] = self.cuts
        return designs

    def compressed(self) -> Floats:
        """The unpruned network at each cut with every codec, or with none; shape (n, G + 4), as `unpruned`."""
        designs = []
        for cut in self.cuts:
            group = int(self._groups_sent[cut])
            channels = self._channels[group - 1] if group and self._compress else 1
            designs.append(self._unpruned(channels))
            designs[-1][:, 0], designs[-1][:, -3] = cut, np.arange(1, channels + 1) / channels
        return np.concatenate(designs)

    def _unpruned(self, count: int) -> Floats:
        designs = np.ones((count, self._groups + 4))
        designs[:, -2:] = math.nan
        return designs


class DesignSearch(SearchProblem):
    """A problem as a search over the points of a generator; `looked_at` counts the designs evaluated for `start`."""

    def __init__(self, problem: LayerwiseProblem, generator: ParametersGenerator, calculator: Calculator) -> None:
        super().__init__(self._objective, generator.box, self._excess, _CEILING)
        self._problem, self._generator, self._calculator = problem, generator, calculator
        self.looked_at = 0

    @cached_property
    def start(self) -> Floats:
        """Points, shape (C, n), of the unpruned network at each cut with its best codec, the best cut first."""
        rows = complete(self._problem, self._generator.compressed())
        self.looked_at += len(rows)
        values, excesses = assess(self._problem, rows, self._calculator)
        rows = rows[np.lexsort((values, excesses))]
        _, first = np.unique(rows[:, 0], return_index=True)
        return self._generator.points(rows[np.sort(first)]).T

    def rows(self, points: Floats) -> Floats:
        """Designs that points, shape (n, S), stand for, with power and clock; shape (S, G + 4)."""
        return complete(self._problem, self._generator.designs(points))

    def _objective(self, points: Floats) -> Floats:
        return assess(self._problem, self.rows(points), self._calculator)[0]

    def _excess(self, points: Floats) -> Floats:
        return assess(self._problem, self.rows(points), self._calculator)[1]


def complete(problem: LayerwiseProblem, rows: Floats) -> Floats:
    """The rows with the fastest power and clock within the energy budget."""
    if math.isinf(problem.energy_budget):
        rows[:, -2:] = problem.power_max, problem.frequency_device_max
        return rows
    return solve_rows(problem, rows)


def assess(problem: LayerwiseProblem, rows: Floats, calculator: Calculator) -> tuple[Floats, Floats]:
    """Objective of complete designs, and how far each misses the limits; 0 within them.

    Accurate designs over a budget miss by less than 1, others by 1 and the accuracy missing: what misses by least is
    accurate if anything is. A budget's excess up to `coinfer_gym.budgets.BUDGET_TOLERANCE` counts as rounding.
    """
    outcomes = problem.evaluate(rows)
    excesses = np.zeros(len(rows))
    for name in calculator.limited:
        budget = getattr(problem, f"{name}_budget")
        if budget < math.inf:
            spent = getattr(outcomes, name)
            over = np.where(spent > budget * (1.0 + BUDGET_TOLERANCE), 1.0 - budget / spent, 0.0)
            excesses = np.maximum(excesses, over)
    missing = problem.accuracy_min - outcomes.accuracy
    return calculator.objective(outcomes), np.where(missing > 0.0, 1.0 + missing, excesses)


def select_best(
    problem: LayerwiseProblem, designs: Floats, calculator: Calculator = DELAY_CALCULATOR
) -> NDArray[np.float64]:
    """Best row within the limits of some designs, shape (n, G + 4), whose power and clock it sets; the first of equals.

    If none is within the limits, the one with the smallest excess.
    """
    rows = complete(problem, designs)
    values, excesses = assess(problem, rows, calculator)
    best = np.lexsort((values, excesses))[0]
    return np.asarray(rows[best])


def check_accuracy(problem: LayerwiseProblem, name: str, solution: LayerwiseSolution) -> LayerwiseSolution:
    """The solution; raises `InvalidInputError` if it is not accurate enough."""
    if solution.accuracy < problem.accuracy_min:
        raise InvalidInputError(
            "accuracy_min",
            problem.accuracy_min,
            f"{name} found no design that is predicted to reach it; the best one found has {solution.accuracy:.4f}.",
        )
    return solution


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
    return _run(search, evaluations, seed, search.start[:1])


def run_and_mutate(search: DesignSearch, evaluations: int, seed: int) -> OptimizeResult:
    """Algorithm 1 as printed, then points that differ in a few variables from its end, and again until all are spent.

    At the end of a run no single ratio can fall without losing too much accuracy, but one can if another rises. Points
    that differ in a few variables find such exchanges. Takes and returns the same as `run_algorithm_1`, for continuous
    variables only, and uses up all evaluations.
    """
    seeds = np.random.default_rng(seed)
    best = _run(search, evaluations, seeds, search.start[:1])
    _mutate(search, best, evaluations - best.nfev, seeds)
    while best.nfev < evaluations:
        end = _run(search, evaluations - best.nfev, seeds, None)
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
        end = _run(fixed[-1], min(share, evaluations - best["nfev"]), seeds, start)
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
            end = _run(fixed[place], min(share, evaluations - best["nfev"]), seeds, again)
            _mutate(fixed[place], end, evaluations - best["nfev"] - end.nfev, seeds)
            _record(best, np.append(cut, end.x), end)
            if best["nfev"] >= evaluations:
                break
        turn += 1
    return best


def _run(
    search: SearchProblem, evaluations: int, seed: int | np.random.Generator, start: Floats | None
) -> OptimizeResult:
    return minimize_quantum(
        search.objective,
        Bounds(search.box.low, search.box.high),
        integrality=search.box.whole,
        vectorized=True,
        constraints=search.excess,
        max_evaluations=evaluations,
        start=start,
        seed=seed,
    )


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
