"""The exact optimum of a task as a function of its delay budget, tabulated with proven bounds between the nodes.

For one cut the best quality ``Q_s(T)`` is a concave function of the delay budget, whatever the quality: P1 is convex
in durations (see docs/mathematics.md), each quality is concave in the retained ratios, and what a convex problem is
worth is concave in its budgets. So a chord between two nodes never exceeds the truth, and the neighbouring chords,
extended, never fall short of it. The optimum over all cuts is the largest of these functions, which is not concave:
every cut keeps its own nodes, few where another cut is better, many where it counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coinfer_gym import Problem, solve_exact_batch
from coinfer_gym._compile import inlined_kernel, kernel
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.problem import check_cut, evaluate

__all__ = [
    "OptimumTable",
    "QualityGrid",
    "build_grid",
    "build_table",
    "fastest_delay",
    "lower_quality",
    "upper_quality",
]

_COARSE = 7  # nodes of a cut that is nowhere the best: enough to prove it
_PROBES = 24
_TINY = 1e-9  # s; no task is done in that time, so that it asks for the least delay
_SLACK = 1e-9  # of quality: what rounding may leave of a proven bound

TableArrays = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], float]
"""Least delays, numbers of nodes, qualities and the longest delay of an `OptimumTable`, for compiled code."""


@dataclass(frozen=True, eq=False)
class OptimumTable:
    """Best quality against the delay budget, for some gains and one energy budget.

    Attributes
    ----------
    gains : ndarray, shape (n,)
    cuts : tuple of int, length c
        The cuts that may be chosen.
    longest : float
        Longest delay budget in s.
    start : ndarray, shape (n, c)
        Least delay budget that a cut can meet in s; infinite where it is beyond the longest.
    count : ndarray of int, shape (n, c)
        Number of nodes of a cut; they lie at ``start + (longest - start) (k / (count - 1))^2``, dense where it bends.
    quality : ndarray, shape (n, c, nodes)
        Qualities at the nodes.
    fastest : ndarray, shape (n,)
        Time in s that any decision takes at least, in or out of the energy budget.
    """

    gains: NDArray[np.float64]
    cuts: tuple[int, ...]
    longest: float
    start: NDArray[np.float64]
    count: NDArray[np.int64]
    quality: NDArray[np.float64]
    fastest: NDArray[np.float64]

    @property
    def arrays(self) -> TableArrays:
        """What the compiled functions of this module take."""
        return self.start, self.count, self.quality, self.longest

    def bounds(self, delay_budget: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bounds of the best quality, 0 where a budget cannot be met.

        Parameters
        ----------
        delay_budget : array_like, shape (m,)
            In s, at most `longest`.

        Returns
        -------
        lower, upper : ndarray, shape (n, m)
            Both non-decreasing in the budget; equal at the nodes of the best cut, up to rounding.
        """
        budgets = np.asarray(delay_budget, np.float64).ravel()
        lower, upper = np.empty((2, len(self.gains), len(budgets)))
        _fill_bounds(self.arrays, budgets, lower, upper)
        return lower, upper


def build_table(
    problem: Problem,
    gains: ArrayLike,
    longest: float,
    energy_budget: float | None = None,
    cuts: Sequence[int] | None = None,
    nodes: int = 32,
    width: float = 0.0,
) -> OptimumTable:
    """Tabulate the optimum of P1 for some gains.

    Parameters
    ----------
    problem : Problem
        Gives everything but gain and budgets. Its bounds are the restriction: raised ones tabulate a restricted scheme.
    gains : array_like, shape (n,)
    longest : float
        Longest delay budget in s.
    energy_budget : float, optional
        In J; the problem's own where not given.
    cuts : sequence of int, optional
        Cuts to choose from; all where not given.
    nodes : int
        Nodes of a cut that is the best somewhere, at least 8.
    width : float
        Span in s over which `upper_quality` is to be interpolated: a cut gets all its nodes where that matters.

    Returns
    -------
    OptimumTable

    Raises
    ------
    InvalidInputError
        If there are too few nodes or no such cut, or a gain is not positive and finite.
    """
    if nodes <= _COARSE:
        raise InvalidInputError("nodes", nodes, f"Give {_COARSE + 1} or more.")
    values = np.asarray(gains, np.float64).ravel()
    chosen = (
        tuple(range(problem.workload.cuts)) if cuts is None else tuple(check_cut(s, problem.workload) for s in cuts)
    )
    energy = problem.energy_budget if energy_budget is None else energy_budget
    fastest = fastest_delay(problem, values, chosen)
    builder = _Builder(problem, values, chosen, longest, energy, nodes, width)
    best = builder.best_at_probes()
    builder.refine(best)
    builder.refine(builder.contenders())
    return OptimumTable(values, chosen, longest, builder.start, builder.count, builder.quality, fastest)


class _Builder:
    """A table in the making: coarse nodes for every cut first, then fine ones where a cut may be the best."""

    def __init__(
        self,
        problem: Problem,
        gains: NDArray[np.float64],
        cuts: tuple[int, ...],
        longest: float,
        energy: float,
        nodes: int,
        width: float,
    ) -> None:
        self._problem, self._gains, self._cuts, self._longest = problem, gains, cuts, longest
        self._energy, self._nodes, self._width = energy, nodes, width
        shape = (len(gains), len(cuts))
        self.start, self.count = np.full(shape, np.inf), np.full(shape, 2, np.int64)
        self.quality = np.zeros((*shape, nodes))
        for column, cut in enumerate(cuts):
            rows = _solve(problem, gains, np.full(len(gains), _TINY), energy, cut)
            needed = np.where(rows["reason"] == 0, _TINY, rows["delay_needed"])
            self.start[:, column] = np.where(needed < longest, needed, np.inf)
        self._solve(np.isfinite(self.start), _COARSE)
        low = self.start.min(axis=1, keepdims=True)
        share = np.linspace(0.0, 1.0, _PROBES) ** 2
        self._probes = np.where(np.isfinite(low), low, 0.0) * (1.0 - share) + longest * share

    def best_at_probes(self) -> NDArray[np.bool_]:
        """Which cuts are the best of a gain at one of its probes."""
        lower, _ = self._probe()
        best = np.zeros(self.start.shape, np.bool_)
        np.put_along_axis(best, lower.argmax(axis=1), True, axis=1)
        best &= np.isfinite(self.start)
        return best

    def contenders(self) -> NDArray[np.bool_]:
        """Which cuts might be better than the best at one of the probes, for all that their coarse nodes tell."""
        lower, upper = self._probe()
        hopeful = (upper > lower.max(axis=1, keepdims=True)).any(axis=2)
        contenders: NDArray[np.bool_] = hopeful & (self.count < self._nodes) & np.isfinite(self.start)
        return contenders

    def refine(self, chosen: NDArray[np.bool_]) -> None:
        """Give the chosen pairs of gain and cut all their nodes."""
        self._solve(chosen, self._nodes)

    def _solve(self, chosen: NDArray[np.bool_], nodes: int) -> None:
        share = (np.arange(nodes) / (nodes - 1)) ** 2
        for column, cut in enumerate(self._cuts):
            pick = np.flatnonzero(chosen[:, column])
            start = self.start[pick, column, None]
            budgets = np.maximum(start * (1.0 + 1e-9), start + (self._longest - start) * share)
            rows = _solve(self._problem, self._gains[pick, None], budgets, self._energy, cut)
            quality = np.where(rows["reason"] == 0, rows["quality"], 0.0)
            self.quality[pick, column, :nodes] = np.maximum.accumulate(quality, axis=1)
            self.count[pick, column] = nodes

    def _probe(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bounds of each cut at the probes of each gain, shape (n, c, probes)."""
        lower, upper = np.empty((2, *self.start.shape, _PROBES))
        _fill_cuts((self.start, self.count, self.quality, self._longest), self._probes, self._width, lower, upper)
        return lower, upper


def _solve(problem: Problem, gains: ArrayLike, delays: ArrayLike, energies: ArrayLike, cut: int | None = None) -> Any:
    """The exact optimum of each combination; on one core, since many tables are made side by side."""
    g, t, e = (np.array(values) for values in np.broadcast_arrays(gains, delays, energies))
    return solve_exact_batch(problem, g, t, e, cut=cut, parallel=False)


def fastest_delay(problem: Problem, gains: NDArray[np.float64], cuts: Sequence[int]) -> NDArray[np.float64]:
    """Time in s that any decision takes at least: the smallest ratios at the highest clocks and power."""
    fastest = np.empty(len(gains))
    tables = problem.tables
    _fill_fastest(tables.hardware, tables.cuts, gains, np.asarray(cuts, np.int64), fastest)
    return fastest


@kernel
def _fill_fastest(
    hardware: NDArray[np.void],
    cuts: NDArray[np.void],
    gains: NDArray[np.float64],
    chosen: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    h = hardware[0]
    for i in range(gains.shape[0]):
        out[i] = math.inf
        for k in range(chosen.shape[0]):
            t_device, tau, t_server, _, _, _ = evaluate(
                hardware,
                cuts,
                chosen[k],
                gains[i],
                h.retained_device_min,
                h.retained_server_min,
                h.power_max,
                h.frequency_device_max,
                h.frequency_server_max,
            )
            out[i] = min(out[i], t_device + tau + t_server)


@inlined_kernel
def _node(start: float, longest: float, count: int, k: int) -> float:
    """Delay budget of node `k`."""
    share = k / (count - 1)
    return start + (longest - start) * share * share


@inlined_kernel
def _cell(start: float, longest: float, count: int, delay: float) -> int:
    """Node at or below a delay budget that is at least `start`."""
    return min(count - 2, int(math.sqrt(max(0.0, delay - start) / (longest - start)) * (count - 1)))


@kernel
def _slope(start: float, longest: float, count: int, quality: NDArray[np.float64], k: int) -> float:
    """Slope of the chord from node `k` to the next."""
    width = _node(start, longest, count, k + 1) - _node(start, longest, count, k)
    return float((quality[k + 1] - quality[k]) / width)


@kernel
def _lower_of_cut(start: float, longest: float, count: int, quality: NDArray[np.float64], delay: float) -> float:
    """Chord of a concave function: never above it."""
    k = _cell(start, longest, count, delay)
    rise = _slope(start, longest, count, quality, k) * (delay - _node(start, longest, count, k))
    return float(min(quality[k + 1], max(quality[k], quality[k] + rise)))


@kernel
def _upper_of_cut(start: float, longest: float, count: int, quality: NDArray[np.float64], delay: float) -> float:
    """The chords to the left and to the right, extended, and the next node: never below a concave rising function."""
    k = _cell(start, longest, count, delay)
    bound = quality[k + 1]
    if k >= 1:
        ahead = delay - _node(start, longest, count, k)
        bound = min(bound, quality[k] + _slope(start, longest, count, quality, k - 1) * ahead)
    if k + 2 < count:
        behind = _node(start, longest, count, k + 1) - delay
        bound = min(bound, quality[k + 1] - _slope(start, longest, count, quality, k + 1) * behind)
    return float(max(bound, quality[k]) + _SLACK)


@kernel
def _bend_of_cut(
    start: float, longest: float, count: int, quality: NDArray[np.float64], delay: float, width: float
) -> float:
    """How far the function can rise above a chord of at most `width` whose span holds `delay`."""
    first = _cell(start, longest, count, delay - width)
    last = _cell(start, longest, count, delay + width)
    most = _upper_of_cut(start, longest, count, quality, min(delay + width, longest))
    bend = most - _lower_of_cut(start, longest, count, quality, max(delay - width, start))
    if first >= 1:
        after = _slope(start, longest, count, quality, last + 1) if last + 2 < count else 0.0
        # two lines of these slopes through the ends of a chord meet at most a quarter of its span times that above it
        bend = min(bend, 0.25 * width * (_slope(start, longest, count, quality, first - 1) - after))
    return max(0.0, bend)


@kernel
def _raised_of_cut(
    start: float, longest: float, count: int, quality: NDArray[np.float64], delay: float, width: float
) -> float:
    """Bound of a cut's quality that is fit to be interpolated over `width`."""
    value = _upper_of_cut(start, longest, count, quality, delay)
    return value + _bend_of_cut(start, longest, count, quality, delay, width) if width > 0.0 else value


@kernel
def lower_quality(table: TableArrays, i: int, delay: float) -> float:
    """Quality that gain `i` surely allows within a delay budget."""
    start, count, quality, longest = table
    best = 0.0
    for c in range(start.shape[1]):
        if delay >= start[i, c]:
            best = max(best, _lower_of_cut(start[i, c], longest, count[i, c], quality[i, c], delay))
    return best


@kernel
def upper_quality(table: TableArrays, i: int, delay: float, width: float) -> float:
    """Bound of the quality that gain `i` allows within a delay budget, fit to be interpolated; negative where none.

    Values of this function at delays that are at most `width` apart, weighted by shares that sum to 1, never fall short
    of the best quality at the delays' weighted mean. With ``width=0`` it bounds the best quality at that delay alone.
    """
    start, count, quality, longest = table
    best = -1.0
    for c in range(start.shape[1]):
        if delay >= start[i, c] - width:
            best = max(best, _raised_of_cut(start[i, c], longest, count[i, c], quality[i, c], delay, width))
    return best


@kernel
def _fill_bounds(
    table: TableArrays, budgets: NDArray[np.float64], lower: NDArray[np.float64], upper: NDArray[np.float64]
) -> None:
    for i in range(lower.shape[0]):
        for k in range(budgets.shape[0]):
            lower[i, k] = lower_quality(table, i, budgets[k])
            upper[i, k] = max(0.0, upper_quality(table, i, budgets[k], 0.0))


@kernel
def _fill_cuts(
    table: TableArrays,
    probes: NDArray[np.float64],
    width: float,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> None:
    start, count, quality, longest = table
    for i in range(lower.shape[0]):
        for c in range(lower.shape[1]):
            for k in range(probes.shape[1]):
                lower[i, c, k], upper[i, c, k] = 0.0, 0.0
                row = quality[i, c]
                if probes[i, k] >= start[i, c]:
                    lower[i, c, k] = _lower_of_cut(start[i, c], longest, count[i, c], row, probes[i, k])
                if probes[i, k] >= start[i, c] - width:
                    upper[i, c, k] = _raised_of_cut(start[i, c], longest, count[i, c], row, probes[i, k], width)


@dataclass(frozen=True, eq=False)
class QualityGrid:
    """Best quality on a grid of gains, delay and energy budgets: what rules look up, interpolated without a bound.

    Attributes
    ----------
    log_gains : ndarray, shape (n,)
        Natural logarithms, increasing.
    delays : ndarray, shape (m,)
        Delay budgets in s.
    energies : ndarray, shape (e,)
        Energy budgets in J.
    quality : ndarray, shape (n, m, e)
        0 where both budgets cannot be met.
    device_energy : ndarray, shape (n, m, e)
        What the device spends in J, upload included, on computing the optimum; where there is none, at its fastest.
    fastest : ndarray, shape (n,)
        Time in s that any decision takes at least.
    """

    log_gains: NDArray[np.float64]
    delays: NDArray[np.float64]
    energies: NDArray[np.float64]
    quality: NDArray[np.float64]
    device_energy: NDArray[np.float64]
    fastest: NDArray[np.float64]

    def weights(self, gain: float) -> tuple[int, float]:
        """Lower neighbour of a gain and the share of the upper one, by its logarithm; the ends hold beyond."""
        if len(self.log_gains) == 1:
            return 0, 0.0
        x = min(max(math.log(gain), self.log_gains[0]), self.log_gains[-1])
        i = min(int(np.searchsorted(self.log_gains, x, side="right")) - 1, len(self.log_gains) - 2)
        return i, float((x - self.log_gains[i]) / (self.log_gains[i + 1] - self.log_gains[i]))

    def at(self, gain: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Quality and energy of the device at a gain, each of shape (m, e)."""
        i, share = self.weights(gain)
        j = min(i + 1, len(self.log_gains) - 1)
        quality = (1.0 - share) * self.quality[i] + share * self.quality[j]
        return quality, (1.0 - share) * self.device_energy[i] + share * self.device_energy[j]


def build_grid(problem: Problem, gains: ArrayLike, delays: ArrayLike, energies: ArrayLike | None = None) -> QualityGrid:
    """Tabulate the optimum of P1 on a grid.

    Parameters
    ----------
    problem : Problem
        Gives everything but gain and budgets.
    gains : array_like, shape (n,)
        Increasing.
    delays : array_like, shape (m,)
        In s.
    energies : array_like, shape (e,), optional
        In J; the problem's own budget where not given.

    Returns
    -------
    QualityGrid
    """
    g, t = np.asarray(gains, np.float64), np.asarray(delays, np.float64)
    e = np.array([problem.energy_budget]) if energies is None else np.asarray(energies, np.float64)
    rows = _solve(problem, g[:, None, None], t[:, None], e)
    spent = np.empty(rows.shape)
    _fill_device_energy(problem.tables.hardware, problem.tables.cuts, g, rows, spent)
    quality = np.where(rows["reason"] == 0, rows["quality"], 0.0)
    return QualityGrid(np.log(g), t, e, quality, spent, fastest_delay(problem, g, range(problem.workload.cuts)))


@kernel
def _fill_device_energy(
    hardware: NDArray[np.void],
    cuts: NDArray[np.void],
    gains: NDArray[np.float64],
    rows: NDArray[np.void],
    out: NDArray[np.float64],
) -> None:
    for i in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            for j in range(rows.shape[2]):
                r = rows[i, k, j]
                _, _, _, e_device, e_upload, _ = evaluate(
                    hardware,
                    cuts,
                    r.cut,
                    gains[i],
                    r.retained_device,
                    r.retained_server,
                    r.power,
                    r.frequency_device,
                    r.frequency_server,
                )
                out[i, k, j] = e_device + e_upload
