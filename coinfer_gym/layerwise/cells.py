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
from coinfer_gym.layerwise.designs import SENT, kept_before
from coinfer_gym.layerwise.network import NetworkTables
from coinfer_gym.layerwise.predictor import log2_values, seen_cut
from coinfer_gym.layerwise.problem import LayerwiseProblem
from coinfer_gym.layerwise.trees import TreeTables, bound_box
from coinfer_gym.records import Records


class Cells(NamedTuple):
    """Cells of one cut, with a codec or without, along each of D = G + 2 dimensions.

    The dimensions are the channels that each group keeps, the channels that are sent, and the share of those before the
    cut that these are. Without a codec the last two have one cell.

    Attributes
    ----------
    counts : ndarray of int, shape (D,)
        Number of cells.
    low, high : ndarray, shape (D, C)
        Least and largest number of each cell, both within it.
    """

    counts: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class Case(NamedTuple):
    """Problem and cut as the search reads them; `seen` is the cut that the predictor sees."""

    network: NetworkTables
    predictor: TreeTables
    hardware: Records
    cells: Cells
    gain: float
    snr_db: float
    energy_budget: float
    accuracy_min: float
    cut: int
    seen: int
    codec: bool


class Scratch(NamedTuple):
    """Arrays that a search works in: a design, features at both ends, boxes, and the best cell."""

    design: NDArray[np.float64]
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
    groups, tables = len(network.groups), network.tables
    before = int(tables.cuts["group"][cut])
    channels = network.groups[before - 1].channels if before else 1
    if codec and channels == 1:
        return None
    seen = seen_cut(cut, codec, predictor.noisy)
    tested = [np.unique(predictor.numbers[predictor.tests == feature]) for feature in range(groups + 3)]

    def ranks_of_values(counts: NDArray[np.float64]) -> NDArray[np.int64]:
        """How many of the numbers that values are tested against are below those of so many channels."""
        area = float(tables.cuts["area"][seen])
        return np.searchsorted(tested[groups + 2], [log2_values(area, count) for count in counts])

    dimensions = []
    for g, (group, least) in enumerate(zip(network.groups, network.kept([problem.retained_min] * groups), strict=True)):
        kept = np.arange(least, group.channels + 1, group.step, dtype=np.float64)
        ranks = [np.searchsorted(tested[g], kept / group.channels)]
        if g + 1 == before and seen == cut and not codec:
            ranks.append(ranks_of_values(kept))
        dimensions.append(_runs(kept, ranks))
    if codec:
        sent = np.arange(1.0, channels)
        ends = [number for number in tested[groups + 1] if 0.0 < number < 1.0]
        dimensions.append(_runs(sent, [ranks_of_values(sent)]))
        dimensions.append((np.array([0.0, *np.nextafter(ends, 1.0)]), np.array([*ends, 1.0])))
    else:
        dimensions += [(np.ones(1), np.full(1, float(channels))), (np.ones(1), np.ones(1))]
    return Case(
        tables,
        predictor.tables,
        problem.hardware,
        _build_cells(dimensions),
        float(problem.gain),
        0.0 if problem.snr_db is None else float(problem.snr_db),
        float(problem.energy_budget),
        float(problem.accuracy_min),
        cut,
        seen,
        codec,
    )


def _runs(
    numbers: NDArray[np.float64], ranks: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First and last of the numbers in each run of equal ranks."""
    changes = np.flatnonzero(np.diff(ranks, axis=1).any(axis=0)) + 1
    return numbers[np.append(0, changes)], numbers[np.append(changes, len(numbers)) - 1]


def _build_cells(dimensions: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Cells:
    counts = np.array([len(low) for low, _ in dimensions], np.int64)
    low, high = np.zeros((2, len(dimensions), counts.max()))
    for d, ends in enumerate(dimensions):
        low[d, : counts[d]], high[d, : counts[d]] = ends
    return Cells(counts, low, high)


def build_scratch(case: Case) -> Scratch:
    """Arrays for searches of a case."""
    dimensions, features = len(case.cells.counts), len(case.predictor.coefficients)
    depth = int(case.cells.counts.sum()) + 2
    scratch = Scratch(
        np.ones((1, dimensions + 2)),
        np.empty(features),
        np.empty(features),
        np.empty((2, dimensions), np.int64),
        np.empty((2, dimensions), np.int64),
        np.empty((depth, 2, dimensions), np.int64),
        np.empty(depth),
        np.empty(dimensions, np.int64),
    )
    scratch.design[0, 0] = case.cut
    return scratch


def design_of(case: Case, cell: NDArray[np.int64]) -> NDArray[np.float64]:
    """The best design of a cell as a row; power and clock are 1."""
    scratch = build_scratch(case)
    scratch.box[:] = cell
    least_delay(case, scratch, scratch.box)
    row: NDArray[np.float64] = scratch.design[0]
    return row


@kernel
def _least_sent(share: float, kept: float) -> float:
    """Fewest channels that are at least a share of those kept, as their quotient is computed."""
    sent = float(math.ceil(share * kept))
    while sent / kept < share:
        sent += 1.0
    while sent > 1.0 and (sent - 1.0) / kept >= share:
        sent -= 1.0
    return sent


@kernel
def _most_sent(share: float, kept: float) -> float:
    """Most channels that are at most a share of those kept, as their quotient is computed."""
    sent = float(math.floor(share * kept))
    while sent / kept > share:
        sent -= 1.0
    while (sent + 1.0) / kept <= share:
        sent += 1.0
    return sent


@kernel
def least_delay(case: Case, scratch: Scratch, box: NDArray[np.int64]) -> float:
    """Delay of the least design of a box of cells, infinite if it is empty; the design is left in the scratch.

    A box, shape (2, D), has the first and the last cell along each dimension.
    """
    network, cells, design = case.network, case.cells, scratch.design
    groups = network.groups.shape[0]
    for g in range(groups):
        design[0, g + 1] = cells.low[g, box[0, g]]
    group = network.cuts[case.cut].group
    kept = kept_before(design, 0, group)
    design[0, SENT] = kept
    if case.codec:
        s_low, s_high = cells.low[groups, box[0, groups]], cells.high[groups, box[1, groups]]
        x_low, x_high = cells.low[groups + 1, box[0, groups + 1]], cells.high[groups + 1, box[1, groups + 1]]
        most, step = cells.high[group - 1, box[1, group - 1]], network.groups[group - 1].step
        sent = max(s_low, _least_sent(x_low, kept))
        # More channels must be kept if of these none is sent, or more than the box allows for their share.
        while kept <= most and sent <= s_high and sent > min(kept - 1.0, _most_sent(x_high, kept)):
            kept += step
            sent = max(s_low, _least_sent(x_low, kept))
        if kept > most or sent > s_high:
            return math.inf
        design[0, group], design[0, SENT] = kept, sent
    return fastest_load(network, case.hardware, case.gain, case.energy_budget, design, 0)[0]


@kernel
def most_accurate(case: Case, scratch: Scratch, box: NDArray[np.int64]) -> float:
    """Upper bound of the accuracy in a box of cells; exact if it is a single one."""
    network, cells, first, last = case.network, case.cells, scratch.low, scratch.high
    groups = network.groups.shape[0]
    for g in range(groups):
        channels = network.groups[g].channels
        first[g], last[g] = cells.low[g, box[0, g]] / channels, cells.high[g, box[1, g]] / channels
    seen = network.cuts[case.seen]
    least, most = 1.0, 1.0  # channels that are kept before the cut which is seen
    if seen.group > 0:
        g = seen.group - 1
        least, most = cells.low[g, box[0, g]], cells.high[g, box[1, g]]
    first[groups + 1], last[groups + 1] = 1.0, 1.0
    if case.codec:
        x_low, x_high = cells.low[groups + 1, box[0, groups + 1]], cells.high[groups + 1, box[1, groups + 1]]
        s_low = max(cells.low[groups, box[0, groups]], _least_sent(x_low, least))
        s_high = min(cells.high[groups, box[1, groups]], _most_sent(x_high, most), most - 1.0)
        first[groups + 1], last[groups + 1] = max(x_low, s_low / most), min(x_high, s_high / least)
        least, most = s_low, s_high
    first[groups], last[groups] = case.seen, case.seen
    first[groups + 2], last[groups + 2] = log2_values(seen.area, least), log2_values(seen.area, most)
    if first.shape[0] > groups + 3:
        first[groups + 3], last[groups + 3] = case.snr_db, case.snr_db
    return bound_box(case.predictor, first, last)
