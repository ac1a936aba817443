"""Best quality of a task against its delay budget, tabulated with proven bounds between the nodes.

For one cut the best quality ``Q_s(T)`` is a concave function of the delay budget: the task's optimisation problem P1
(Lyu et al., eq. 44) is convex in durations (see docs/mathematics.md), each quality is concave in the retained ratios,
and the optimum of a convex problem is concave in its budgets. So a chord between two nodes never exceeds the truth, and
the neighbouring chords, extended, never fall short of it. The optimum over all cuts is the largest of these functions,
and not concave. So every cut has its own nodes: few where another cut is better, many where it can be the best.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from baselines.quality_grid import fastest_delay
from coinfer_gym import InvalidInputError, Problem, solve_exact_batch
from coinfer_gym._compile import inlined_kernel, kernel

__all__ = ["OptimumTable", "build_table", "upper_quality"]

Floats = NDArray[np.float64]

_COARSE = 7  # nodes of a cut that is nowhere the best: enough to prove it
_PROBES = 24
_TINY = 1e-9  # s; no task is done in that time, so that the solver answers with the least delay
_SLACK = 1e-9  # of quality: what rounding may leave of a proven bound


class OptimumTable(NamedTuple):
    """Best quality against the delay budget, for some gains and one energy budget; compiled code takes it as it is."""

    gains: Floats
    longest: float  # delay budget in s
    start: Floats  # shape (gains, cuts): least delay budget that a cut can meet in s; infinite beyond the longest
    nodes: NDArray[np.int64]  # of a cut, at ``start + (longest - start) (k / (nodes - 1))^2``, dense where it bends
    quality: Floats  # shape (gains, cuts, nodes)
    fastest: Floats  # least time in s that any decision takes, within the energy budget or not


def build_table(
    problem: Problem, gains: ArrayLike, longest: float, nodes: int = 40, width: float = 0.0
) -> OptimumTable:
    """Tabulate the optimum of P1 for some gains and delay budgets up to the longest, in s.

    A cut that is the best somewhere gets all `nodes`, and so does one that matters where `upper_quality` is
    interpolated over the span `width` in s.
    """
    if nodes <= _COARSE:
        raise InvalidInputError("nodes", nodes, f"Give {_COARSE + 1} or more.")
    g = np.asarray(gains, np.float64).ravel()
    cuts = problem.workload.cuts
    start = np.empty((len(g), cuts))
    for cut in range(cuts):
        rows = solve_exact_batch(problem, g, _TINY, cut=cut)
        needed = np.where(rows["reason"] == 0, _TINY, rows["delay_needed"])
        start[:, cut] = np.where(needed < longest, needed, np.inf)
    count, quality = np.full((len(g), cuts), 2, np.int64), np.zeros((len(g), cuts, nodes))
    table = OptimumTable(g, longest, start, count, quality, fastest_delay(problem, g))
    possible = np.isfinite(start)
    _fill_nodes(problem, table, possible, _COARSE)
    low = start.min(axis=1, keepdims=True)
    share = np.linspace(0.0, 1.0, _PROBES) ** 2
    probes = np.where(np.isfinite(low), low, 0.0) * (1.0 - share) + longest * share
    lower, _ = _probe(table, probes, width)
    best = np.zeros(start.shape, np.bool_)
    np.put_along_axis(best, lower.argmax(axis=1), True, axis=1)
    _fill_nodes(problem, table, best & possible, nodes)
    lower, upper = _probe(table, probes, width)
    contenders = (upper > lower.max(axis=1, keepdims=True)).any(axis=2)
    _fill_nodes(problem, table, contenders & (count < nodes) & possible, nodes)
    return table


def _fill_nodes(problem: Problem, table: OptimumTable, chosen: NDArray[np.bool_], nodes: int) -> None:
    """Solve for so many nodes of the chosen pairs of gain and cut."""
    share = (np.arange(nodes) / (nodes - 1)) ** 2
    for cut in range(chosen.shape[1]):
        pick = np.flatnonzero(chosen[:, cut])
        start = table.start[pick, cut, None]
        budgets = np.maximum(start * (1.0 + 1e-9), start + (table.longest - start) * share)
        rows = solve_exact_batch(problem, table.gains[pick, None], budgets, cut=cut)
        quality = np.where(rows["reason"] == 0, rows["quality"], 0.0)
        table.quality[pick, cut, :nodes] = np.maximum.accumulate(quality, axis=1)
        table.nodes[pick, cut] = nodes


def _probe(table: OptimumTable, probes: Floats, width: float) -> tuple[Floats, Floats]:
    """Bounds of each cut at the probed delay budgets of each gain, shape (n, cuts, probes)."""
    lower, upper = np.empty((2, *table.start.shape, probes.shape[1]))
    _fill_cuts(table, probes, width, lower, upper)
    return lower, upper


class _Curve(NamedTuple):
    """Nodes of one gain and cut: fields as in `OptimumTable`."""

    start: float
    longest: float
    nodes: int
    quality: Floats


@inlined_kernel
def _curve(table: OptimumTable, i: int, cut: int) -> _Curve:
    return _Curve(table.start[i, cut], table.longest, table.nodes[i, cut], table.quality[i, cut])


@inlined_kernel
def _node(curve: _Curve, k: int) -> float:
    """Delay budget of node `k`."""
    share = k / (curve.nodes - 1)
    return curve.start + (curve.longest - curve.start) * share * share


@inlined_kernel
def _cell(curve: _Curve, delay: float) -> int:
    """Node at or below a delay budget that is at least `start`."""
    share = math.sqrt(max(0.0, delay - curve.start) / (curve.longest - curve.start))
    return min(curve.nodes - 2, int(share * (curve.nodes - 1)))


@kernel
def _slope(curve: _Curve, k: int) -> float:
    """Slope of the chord from node `k` to the next."""
    return float((curve.quality[k + 1] - curve.quality[k]) / (_node(curve, k + 1) - _node(curve, k)))


@kernel
def _lower_of_cut(curve: _Curve, delay: float) -> float:
    """Chord of a concave function: never above it."""
    k, quality = _cell(curve, delay), curve.quality
    rise = _slope(curve, k) * (delay - _node(curve, k))
    return float(min(quality[k + 1], max(quality[k], quality[k] + rise)))


@kernel
def _upper_of_cut(curve: _Curve, delay: float) -> float:
    """The chords to the left and to the right, extended, and the next node: never below a concave rising function."""
    k, quality = _cell(curve, delay), curve.quality
    bound = quality[k + 1]
    if k >= 1:
        bound = min(bound, quality[k] + _slope(curve, k - 1) * (delay - _node(curve, k)))
    if k + 2 < curve.nodes:
        bound = min(bound, quality[k + 1] - _slope(curve, k + 1) * (_node(curve, k + 1) - delay))
    return float(max(bound, quality[k]) + _SLACK)


@kernel
def _bend_of_cut(curve: _Curve, delay: float, width: float) -> float:
    """How far the function can rise above a chord of at most `width` whose span holds `delay`."""
    first, last = _cell(curve, delay - width), _cell(curve, delay + width)
    most = _upper_of_cut(curve, min(delay + width, curve.longest))
    bend = most - _lower_of_cut(curve, max(delay - width, curve.start))
    if first >= 1:
        after = _slope(curve, last + 1) if last + 2 < curve.nodes else 0.0
        # two lines of these slopes through the ends of a chord meet at most a quarter of its span times that above it
        bend = min(bend, 0.25 * width * (_slope(curve, first - 1) - after))
    return max(0.0, bend)


@kernel
def _raised_of_cut(curve: _Curve, delay: float, width: float) -> float:
    """Bound of a cut's quality that may be interpolated over `width`."""
    value = _upper_of_cut(curve, delay)
    return value + _bend_of_cut(curve, delay, width) if width > 0.0 else value


@kernel
def upper_quality(table: OptimumTable, i: int, delay: float, width: float) -> float:
    """Bound of the quality that gain `i` allows within a delay budget, also when interpolated; negative where none.

    Take values of this function at delays at most `width` apart, with weights that sum to 1: their weighted mean never
    falls short of the best quality at the delays' weighted mean. With ``width=0`` it bounds the best quality at that
    delay alone.
    """
    best = -1.0
    for cut in range(table.start.shape[1]):
        if delay >= table.start[i, cut] - width:
            best = max(best, _raised_of_cut(_curve(table, i, cut), delay, width))
    return best


@kernel
def _fill_cuts(table: OptimumTable, probes: Floats, width: float, lower: Floats, upper: Floats) -> None:
    for i in range(lower.shape[0]):
        for cut in range(lower.shape[1]):
            curve = _curve(table, i, cut)
            for k in range(probes.shape[1]):
                lower[i, cut, k], upper[i, cut, k] = 0.0, 0.0
                if probes[i, k] >= curve.start:
                    lower[i, cut, k] = _lower_of_cut(curve, probes[i, k])
                if probes[i, k] >= curve.start - width:
                    upper[i, cut, k] = _raised_of_cut(curve, probes[i, k], width)
