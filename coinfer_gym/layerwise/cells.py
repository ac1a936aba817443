"""Cells of designs of equal accuracy, and bounds of the delay and the accuracy in a box of them.

Delay and energy rise with the channels that are kept and sent, and a sum of trees is constant between the numbers that
its nodes test. So the designs of a cut fall into finitely many *cells* of equal accuracy, and the best design of a cell
is its least one. A box of cells takes at least as long as its least design, and is at most as accurate as the sum of
what each tree can give in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.layerwise.controls import fastest_load
from coinfer_gym.layerwise.network import COMPRESSION, NetworkTables, kept_channels
from coinfer_gym.layerwise.problem import LayerwiseProblem, sent_channels
from coinfer_gym.layerwise.trees import TreeTables, bound_box
from coinfer_gym.records import Records

_SLACK = 1e-9  # loosens a bound of the compression, by far more than its rounding
_MANY = 50.0  # no feature has 2^50 values


class Cells(NamedTuple):
    """Cells of one cut, with a codec or without, along each of D = G + 2 dimensions.

    The dimensions are the retained ratios, the compression and the channels that are sent.

    Attributes
    ----------
    counts : ndarray of int, shape (D,)
        Number of cells.
    low, high : ndarray, shape (D, C)
        Ends of each cell.
    kept_low, kept_high : ndarray, shape (G, C)
        Channels that are kept at the ends of the ratios.
    """

    counts: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    kept_low: NDArray[np.float64]
    kept_high: NDArray[np.float64]


class Case(NamedTuple):
    """Problem and cut as the search reads them."""

    network: NetworkTables
    predictor: TreeTables
    hardware: Records
    cells: Cells
    gain: float
    snr_db: float
    energy_budget: float
    accuracy_min: float
    cut: int
    codec: bool


class Scratch(NamedTuple):
    """Arrays that a search works in: channels that are kept, features at both ends, boxes, and the best cell."""

    widths: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    box: NDArray[np.int64]
    trial: NDArray[np.int64]
    stack: NDArray[np.int64]
    bounds: NDArray[np.float64]
    best: NDArray[np.int64]


def build_case(problem: LayerwiseProblem, cut: int, codec: bool) -> Case | None:
    """Case of a cut with a codec or without; None if a codec is impossible there."""
    network, predictor = problem.network, problem.predictor
    groups = len(network.groups)
    place, area, _ = network.tables.cuts[cut].item()
    inner = 0 < cut < network.cuts - 1
    if codec and not (inner and place):
        return None
    tested = [np.unique(predictor.numbers[predictor.tests == feature]) for feature in range(groups + 3)]
    # Fewest channels that pass each number of the values, whose logarithm is compared as it is computed.
    passing = [_least_above(number, area) for number in tested[groups + 2] if number < _MANY] if place else []
    dimensions: list[list[tuple[float, float]]] = []
    for number, group in enumerate(network.groups):
        ends = list(tested[number])
        if number + 1 == place and inner and not codec:
            ends += [
                np.nextafter(_least_ratio(channels, group.channels, group.step), 0.0)
                for channels in passing
                if group.step < channels <= group.channels
            ]
        dimensions.append(_split(problem.retained_min, 1.0, ends))
    channels = network.groups[place - 1].channels if place else 1
    shares = tested[groups + 1]
    first = min([0.25 / channels, *shares[shares > 0.0]]) if inner else 1.0
    dimensions.append(_split(first, 1.0, shares))
    if codec:
        firsts = [1, *sorted({count for count in passing if 1 < count < channels})]
        dimensions.append(list(zip(firsts, [each - 1 for each in firsts[1:]] + [channels - 1], strict=True)))
    else:
        dimensions.append([(1.0, float(channels))])
    return Case(
        network.tables,
        predictor.tables,
        problem.hardware,
        _build_cells(problem, dimensions),
        float(problem.gain),
        0.0 if problem.snr_db is None else float(problem.snr_db),
        float(problem.energy_budget),
        float(problem.accuracy_min),
        cut,
        codec,
    )


def _build_cells(problem: LayerwiseProblem, dimensions: Sequence[Sequence[tuple[float, float]]]) -> Cells:
    groups = problem.network.groups
    counts = np.array([len(cells) for cells in dimensions], np.int64)
    low, high = np.zeros((2, len(dimensions), counts.max()))
    kept_low, kept_high = np.zeros((2, len(groups), counts.max()))
    for d, cells in enumerate(dimensions):
        low[d, : len(cells)], high[d, : len(cells)] = np.array(cells).T
    for g, group in enumerate(groups):
        for j in range(counts[g]):
            kept_low[g, j] = kept_channels(low[g, j], group.channels, group.step)
            kept_high[g, j] = kept_channels(high[g, j], group.channels, group.step)
    return Cells(counts, low, high, kept_low, kept_high)


def _split(first: float, last: float, tested: Sequence[float] | NDArray[np.float64]) -> list[tuple[float, float]]:
    """Cells from `first` to `last`; each ends with a number that is tested, and the next starts just above it."""
    ends = [float(number) for number in sorted(set(tested)) if first <= number < last]
    return list(zip([first, *(np.nextafter(end, math.inf) for end in ends)], [*ends, last], strict=True))


def _least_ratio(kept: float, channels: float, step: float) -> float:
    """Least ratio at which at least so many channels are kept, if these are more than one step."""
    ratio = (math.ceil(kept / step) - 0.5) * step / channels
    while kept_channels(ratio, channels, step) >= kept and ratio > 0.0:
        ratio = float(np.nextafter(ratio, 0.0))
    while kept_channels(ratio, channels, step) < kept:
        ratio = float(np.nextafter(ratio, 1.0))
    return ratio


def _least_above(number: float, area: float) -> int:
    """Fewest channels of `area` positions such that the logarithm of their values is above a number."""
    count = max(1, int(2.0**number / area) - 1)
    while math.log2(area * count) <= number:
        count += 1
    return count


def build_scratch(case: Case) -> Scratch:
    """Arrays for searches of a case."""
    dimensions, features = len(case.cells.counts), len(case.predictor.coefficients)
    depth = int(case.cells.counts.sum()) + 2
    return Scratch(
        np.ones((1, dimensions - 1)),
        np.empty(features),
        np.empty(features),
        np.empty((2, dimensions), np.int64),
        np.empty((2, dimensions), np.int64),
        np.empty((depth, 2, dimensions), np.int64),
        np.empty(depth),
        np.empty(dimensions, np.int64),
    )


def design_of(problem: LayerwiseProblem, case: Case, cell: NDArray[np.int64]) -> NDArray[np.float64]:
    """The best design of a cell as a row, amid the ratios that keep and predict the same; power and clock are 1."""
    scratch, cells = build_scratch(case), case.cells
    scratch.box[:] = cell
    least_delay(case, scratch, scratch.box)
    row = np.ones(len(cell) + 2)
    row[0] = case.cut
    for g, group in enumerate(problem.network.groups):
        kept = float(scratch.widths[0, g + 1])
        low, high = cells.low[g, cell[g]], cells.high[g, cell[g]]
        if kept > group.step:
            low = max(low, _least_ratio(kept, group.channels, group.step))
        if kept < group.channels:
            high = min(high, np.nextafter(_least_ratio(kept + group.step, group.channels, group.step), 0.0))
        row[g + 1] = _between(low, high, kept / group.channels)
    x = len(cell) - 2
    low, high = cells.low[x, cell[x]], cells.high[x, cell[x]]
    if not case.codec:
        row[COMPRESSION] = high
        return row
    kept = float(scratch.widths[0, problem.network.tables.cuts[case.cut]["group"]])
    sent = max(cells.low[x + 1, cell[x + 1]], sent_channels(low, kept))
    if sent > 1.0:
        low = max(low, _least_ratio(sent, kept, 1.0))
    high = min(high, np.nextafter(_least_ratio(sent + 1.0, kept, 1.0), 0.0))
    row[COMPRESSION] = _between(low, high, sent / kept)
    return row


def _between(low: float, high: float, natural: float) -> float:
    """The natural value if it lies between the ends, otherwise their middle."""
    return natural if low <= natural <= high else 0.5 * (low + high)


@kernel
def least_delay(case: Case, scratch: Scratch, box: NDArray[np.int64]) -> float:
    """Delay of the least design of a box of cells, infinite if it is empty; its channels are left in the widths.

    A box, shape (2, D), has the first and the last cell along each dimension.
    """
    network, cells, widths = case.network, case.cells, scratch.widths
    groups = cells.kept_low.shape[0]
    for g in range(groups):
        widths[0, g + 1] = cells.kept_low[g, box[0, g]]
    group = network.cuts[case.cut].group
    kept = widths[0, group]
    sent = kept
    x_low, x_high = cells.low[groups, box[0, groups]], cells.high[groups, box[1, groups]]
    if case.codec:
        s_low, s_high = cells.low[groups + 1, box[0, groups + 1]], cells.high[groups + 1, box[1, groups + 1]]
        most, step = cells.kept_high[group - 1, box[1, group - 1]], network.groups[group - 1].step
        # More channels must be kept if these, compressed as little as the box allows, leave too few to send.
        while kept <= most and (sent_channels(x_high, kept) < s_low or max(s_low, sent_channels(x_low, kept)) >= kept):
            kept += step
        sent = max(s_low, sent_channels(x_low, kept))
        if kept > most or sent > s_high:
            return math.inf
        widths[0, group] = kept
    elif 0 < case.cut < network.cuts.shape[0] - 1 and sent_channels(x_high, kept) < kept:
        return math.inf
    return fastest_load(network, case.hardware, case.gain, case.energy_budget, widths, 0, case.cut, sent)[0]


@kernel
def most_accurate(case: Case, scratch: Scratch, box: NDArray[np.int64]) -> float:
    """Upper bound of the accuracy in a box of cells; exact if it is a single one."""
    cells, first, last = case.cells, scratch.low, scratch.high
    groups = cells.kept_low.shape[0]
    for g in range(groups):
        first[g], last[g] = cells.low[g, box[0, g]], cells.high[g, box[1, g]]
    first[groups], last[groups] = case.cut, case.cut
    x_low, x_high = cells.low[groups, box[0, groups]], cells.high[groups, box[1, groups]]
    record = case.network.cuts[case.cut]
    least, most = 1.0, 1.0
    if record.group > 0:
        least = cells.kept_low[record.group - 1, box[0, record.group - 1]]
        most = cells.kept_high[record.group - 1, box[1, record.group - 1]]
    if case.codec:
        s_low, s_high = cells.low[groups + 1, box[0, groups + 1]], cells.high[groups + 1, box[1, groups + 1]]
        s_low = max(s_low, sent_channels(x_low, least))
        s_high = min(s_high, sent_channels(x_high, most), most - 1.0)
        x_low = max(x_low, (s_low - 0.5) / most - _SLACK) if s_low > 1.0 else x_low
        x_high = min(x_high, (s_high + 0.5) / least + _SLACK)
        least, most = s_low, s_high
    first[groups + 1], last[groups + 1] = x_low, x_high
    first[groups + 2] = math.log2(record.area * least) if record.area > 0.0 else 0.0
    last[groups + 2] = math.log2(record.area * most) if record.area > 0.0 else 0.0
    if first.shape[0] > groups + 3:
        first[groups + 3], last[groups + 3] = case.snr_db, case.snr_db
    return bound_box(case.predictor, first, last)
