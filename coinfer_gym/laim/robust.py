"""The optimum of P1 (Lyu et al., eq. 44) when the gain is not known: the most quality that can be expected in time.

Delay and energy of every design fall in the gain, so a design meets its budgets exactly for gains from some threshold
on. Of all designs with a threshold the exact optimum at that gain has most quality. Hence the largest expected quality
of a design that must be in its budgets to count is

    max over gamma of  Q(gamma) P(g >= gamma)

with `Q` the exact optimum over all cuts, for any distribution of the gain. `Q` never falls; of one cut, and a concave
quality, it is concave in ``x = ln gamma`` (see docs/mathematics.md), and so is the bound that any price of time gives.
So that bound at two close points makes a line that lies above `Q` on either side of both. Between two points the
product of the lower of both lines with the probability, which is piecewise linear in `x`, is a bound in closed form.
The search looks at `Q` where that bound is highest, until it is within `TOLERANCE` of the best value found. For a
measured accuracy `Q` is only known to rise; the value at the right end is the line then, which takes more steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.costs import Case, case_of, controls_at, first_guess
from coinfer_gym.laim.cut_search import bound_cut, is_linear, solve_cut
from coinfer_gym.laim.decision import Solution
from coinfer_gym.laim.frontier import TOLERANCE as TOLERANCE_ACCURACY
from coinfer_gym.laim.frontier import solve_rising
from coinfer_gym.laim.optimum import cut_range, solution_from_row, solve_exact_batch
from coinfer_gym.laim.outcome import ACCURACY, Tables, model_quality
from coinfer_gym.laim.problem import Problem
from coinfer_gym.records import Record, Records, record_type
from coinfer_gym.world.belief import GainPosterior

TOLERANCE = 1e-6
"""How much more than the answer the optimum can be expected to deliver; a hundred times that for an accuracy."""

_STEPS = 2000  # intervals that are kept at most; ten to thirty are usual
_APART = 1e-4  # of the logarithms of two gains, through whose bounds a line goes
_INSIDE = 0.1  # share of an interval that either part keeps at least when it is split

_LIKELY = 0.75  # probability of the gain at which all cuts are bounded first
_NARROWEST = 1e-13

_LINES = ("rises_x", "rises_value", "rises_slope", "falls_x", "falls_value", "falls_slope")
_INTERVAL = record_type("start", "end", *_LINES, "bound", "peak", cut=np.int64, solved=np.int64)
"""Interval of ``x = ln gain`` for one cut, with the lines from its left and its right end that bound the quality there,
the bound of the expected quality, and where that is reached; `solved` is 1 if the cut is known to be feasible at the
right end."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RobustSolution(Solution):
    """The design with the largest expected quality, as the exact optimum at a gain that is surpassed often enough.

    What `Solution` tells, delay and energy above all, is at `threshold`.

    Attributes
    ----------
    threshold : float
        Least gain at which the design meets its budgets.
    probability : float
        That the gain is at least that.
    expected_quality : float
        Quality times probability: what the design delivers on average.
    gap : float
        Proven bound on how far the optimum can exceed `expected_quality`.
    """

    threshold: float = math.nan
    probability: float = math.nan
    expected_quality: float = math.nan


def solve_robust(problem: Problem, posterior: GainPosterior, cut: int | None = None) -> RobustSolution:
    """Global optimum of P1 in expectation, where a task counts its quality within both budgets and else nothing.

    Parameters
    ----------
    problem : Problem
        Its gain is not looked at.
    posterior : GainPosterior
        Distribution of the gain, such as `coinfer_gym.GainBelief` gives.
    cut : int, optional
        The cut to solve for; all of them where not given.

    Returns
    -------
    RobustSolution
        If the gain is certain, `coinfer_gym.solve_exact` at that gain. Where no gain is large enough for any decision,
        what that has for the largest gain, and 0 is expected.

    Raises
    ------
    InvalidInputError
        If the workload has no such cut, the problem is not P1, or the posterior is none.
    """
    first, last = cut_range(problem, cut)
    if not isinstance(posterior, GainPosterior):
        raise InvalidInputError("posterior", posterior, "Give a GainPosterior, as of GainBelief(scenario).given(gain).")
    threshold, bound, chosen = float(posterior.gains[-1]), 0.0, cut
    if posterior.gains.size > 1:
        budgets = (float(problem.delay_budget), float(problem.energy_budget))
        task = _Task(problem.tables, *budgets, posterior.log_gains, posterior.survival)
        best, x, bound, found = _search(task, first, last, np.empty(_STEPS, _INTERVAL))
        if best > 0.0:
            chosen, threshold = found, posterior.gain_at(x)
    solution = solution_from_row(solve_exact_batch(problem, [threshold], cut=chosen)[0])
    probability = float(posterior.probability(threshold))
    expected = solution.quality * probability if solution.feasible else 0.0
    gap = max(0.0, bound - expected) if posterior.gains.size > 1 else solution.gap
    fields = {name: getattr(solution, name) for name in Solution.__dataclass_fields__} | {"gap": gap}
    return RobustSolution(**fields, threshold=threshold, probability=probability, expected_quality=expected)


class _Task(NamedTuple):
    """What does not change in a search: problem, budgets in s and J, and the distribution of ``x = ln gain``."""

    tables: Tables
    delay_budget: float
    energy_budget: float
    knots: Floats
    survival: Floats


class _Line(NamedTuple):
    """Bound of a quality that is `value` at `x`; an infinite value is none."""

    x: float
    value: float
    slope: float


_NONE = _Line(0.0, math.inf, 0.0)


@kernel
def _case_at(x: float, task: _Task) -> Case:
    """P1 at the gain ``e^x``."""
    return case_of(task.tables, math.exp(x), task.delay_budget, task.energy_budget)


@kernel
def _bound_at(x: float, theta: float, task: _Task, s: int) -> float:
    """Bound of a cut's quality at the gain ``e^x`` by the price of time `theta`; negative if the cut is infeasible."""
    case = _case_at(x, task)
    merit = bound_cut(theta, case, s, controls_at(theta, case))
    if merit >= 0.0 and is_linear(task.tables.quality[0].kind):  # the merit is then the share of weights that is kept
        return model_quality(task.tables, s, merit, merit)
    return merit


@kernel
def _look(x: float, theta: float, task: _Task, s: int) -> tuple[float, float]:
    """Quality of a cut at the gain ``e^x``, negative if it is infeasible, and its price of time; `theta` is a guess."""
    case = _case_at(x, task)
    if task.tables.quality[0].kind == ACCURACY:
        found, _, value, _, _, price = solve_rising(case, s, s + 1, theta)
        return (value if found else -1.0), price
    found, _, device, server, price, _ = solve_cut(case, s, math.log(theta), -1.0)
    return (model_quality(task.tables, s, device, server) if found else -1.0), price


@kernel
def _lines_at(x: float, quality: float, theta: float, task: _Task, s: int) -> tuple[bool, _Line, _Line]:
    """Whether a cut can be feasible at ``e^x``, and the lines that bound it to the left and to the right of there.

    `quality` is that at `x` where the quality is an accuracy.
    """
    if task.tables[1][0].kind == ACCURACY:
        return quality >= 0.0, _Line(x, quality + TOLERANCE_ACCURACY, 0.0), _NONE
    here = _bound_at(x, theta, task, s)
    if here < 0.0:
        return False, _NONE, _NONE
    before, after = _bound_at(x - _APART, theta, task, s), _bound_at(x + _APART, theta, task, s)
    falls = _Line(x, here, max(0.0, after - here) / _APART)
    return True, falls, _Line(x, here, (here - before) / _APART) if before >= 0.0 else _NONE


@kernel
def _above(x: float, task: _Task) -> float:
    """Probability that the logarithm of the gain is at least `x`."""
    knots, survival = task.knots, task.survival
    after = np.searchsorted(knots, x)
    if after == knots.shape[0]:
        return 0.0
    above: float = survival[after]
    if after > 0 and knots[after] > x:
        above += (knots[after] - x) / (knots[after] - knots[after - 1]) * (survival[after - 1] - above)
    return above


@kernel
def _bound_product(line: _Line, start: float, end: float, task: _Task) -> tuple[float, float]:
    """Largest product of a line and the probability in ``(start, end]``, and where it is."""
    knots, survival = task.knots, task.survival
    last = knots.shape[0] - 1
    after = np.searchsorted(knots, start, side="right")
    best, peak, left = -1.0, end, start
    while left < end and after <= last:
        right = min(end, knots[after])
        below = after - 1 if after > 0 else 0
        width = knots[after] - knots[below]
        falls = (survival[after] - survival[below]) / width if width > 0.0 else 0.0
        high = survival[below] + falls * (left - knots[below])
        low = high + falls * (right - left)
        ours, theirs = line.value + line.slope * (left - line.x), line.value + line.slope * (right - line.x)
        if ours * high > best:
            best, peak = ours * high, left
        if theirs * low > best:
            best, peak = theirs * low, right
        if line.slope > 0.0 > falls:
            x = left - 0.5 * (ours / line.slope + high / falls)
            if left < x < right:
                value = (ours + line.slope * (x - left)) * (high + falls * (x - left))
                if value > best:
                    best, peak = value, x
        left = right
        while after <= last and knots[after] <= left:
            after += 1
    return best, peak


@kernel
def _keep(task: _Task, s: int, start: float, end: float, rises: _Line, falls: _Line, row: Record, solved: int) -> None:
    """Store the interval ``(start, end]`` of a cut with its bound; `rises` and `falls` are the lines of its ends."""
    if rises.value == math.inf and falls.value == math.inf:
        falls = _Line(end, 1.0, 0.0)
    middle = start
    if falls.value == math.inf:
        middle = end
    elif rises.value < math.inf:
        left = falls.value + falls.slope * (start - falls.x) - rises.value - rises.slope * (start - rises.x)
        right = rises.value + rises.slope * (end - rises.x) - falls.value - falls.slope * (end - falls.x)
        if left > 0.0:
            middle = end if right <= 0.0 else start + (end - start) * left / (left + right)
    row.cut, row.solved, row.start, row.end = s, solved, start, end
    row.rises_x, row.rises_value, row.rises_slope = rises
    row.falls_x, row.falls_value, row.falls_slope = falls
    row.bound, row.peak = _bound_product(rises, start, middle, task)
    bound, peak = _bound_product(falls, middle, end, task)
    if bound > row.bound:
        row.bound, row.peak = bound, peak


@kernel
def _search(task: _Task, first: int, last: int, intervals: Records) -> tuple[float, float, float, int]:
    """Most that is expected over the cuts ``first..last-1``, at which logarithm of a gain, its bound, and the cut."""
    knots = task.knots
    is_accuracy = task.tables[1][0].kind == ACCURACY
    tolerance = 100.0 * TOLERANCE if is_accuracy else TOLERANCE
    theta = first_guess(task.tables.hardware[0])
    best, best_x, best_cut, bound = 0.0, knots[-1], first, 0.0
    middle = knots.shape[0] - 1
    if not is_accuracy:  # the price of a cut that may be the best at one gain bounds all others
        while middle > 0 and task.survival[middle] < _LIKELY:
            middle -= 1
        highest, promising = -1.0, first
        for s in range(first, last):
            promise = _bound_at(knots[middle], theta, task, s)
            if promise > highest:
                highest, promising = promise, s
        _, theta = _look(knots[middle], theta, task, promising)
    count = 0
    for s in range(first, last):
        quality = _look(knots[middle], theta, task, s)[0] if is_accuracy else 0.0
        feasible, falls, rises = _lines_at(knots[middle], quality, theta, task, s)
        if feasible:
            _keep(task, s, knots[0] - 1.0, knots[middle], _NONE, falls, intervals[count], is_accuracy)
            count += 1
        if middle < knots.shape[0] - 1:
            _keep(task, s, knots[middle], knots[-1], rises, _NONE, intervals[count], 0)
            count += 1
    while 0 < count < intervals.shape[0] - 1:
        top = 0
        for i in range(1, count):
            if intervals[i].bound > intervals[top].bound:
                top = i
        row = intervals[top]
        bound = max(best, row.bound)
        width = row.end - row.start
        if bound <= best + tolerance or width <= _NARROWEST * (1.0 + abs(row.end)):
            break
        s, start, end = row.cut, row.start, row.end
        left = _Line(row.rises_x, row.rises_value, row.rises_slope)
        right = _Line(row.falls_x, row.falls_value, row.falls_slope)
        x = end
        if row.solved == 1:
            x = 0.5 * (start + end)
            if left.value < math.inf:
                x = min(max(row.peak, start + _INSIDE * width), end - _INSIDE * width)
        quality, theta = _look(x, theta, task, s)
        feasible, falls, rises = _lines_at(x, quality, theta, task, s)
        if quality * _above(x, task) > best:
            best, best_x, best_cut = quality * _above(x, task), x, s
        count -= 1
        intervals[top] = intervals[count]
        if x < end:
            _keep(task, s, x, end, rises, right, intervals[count], 1)
            count += 1
        if feasible and quality >= 0.0:
            _keep(task, s, start, x, left, falls, intervals[count], 1)
            count += 1
    return best, best_x, bound if count > 0 else best, best_cut
