"""Exact optima of the latency problem of Mu et al.: of power and clock, of the cut, and of the whole design.

In the times of device and upload both energies are convex and falling, so that one price of a second settles power and
clock (see `coinfer_gym.pricing`). Delay and energy rise with the channels that are kept and sent, and a sum of trees is
constant between the numbers that its nodes test. So the designs of a cut fall into finitely many *cells* of equal
accuracy, the best design of a cell is its least one, and branch and bound over boxes of cells finds the best of all: a
box takes at least as long as its least design, and is at most as accurate as the sum of what each tree can give in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coinfer_gym import physics
from coinfer_gym._compile import kernel
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise.delay import loads, sent_channels, write_widths
from coinfer_gym.layerwise.network import kept_channels
from coinfer_gym.layerwise.problem import LayerwiseProblem, LayerwiseSolution
from coinfer_gym.layerwise.trees import bound_box
from coinfer_gym.pricing import ROUNDING, best_clock, spectral_response, spectral_span

__all__ = ["Proof", "fastest", "solve_exact", "solve_given", "solve_rows"]

_SLACK = 1e-9  # a bound of the compression is loosened by it, far above its rounding
_MANY = 50.0  # no feature has 2^50 values
_FIRST_TOLERANCE = 0.3
_NARROWING = 0.5


@dataclass(frozen=True)
class Proof:
    """What `solve_exact` has shown.

    Attributes
    ----------
    delay_bound : float
        No design that meets accuracy and energy is faster, in s; infinite where there is none.
    gap : float
        Relative distance of the solution's delay from it; NaN where no design was found.
    nodes : int
        Boxes that were looked at.
    """

    delay_bound: float
    gap: float
    nodes: int


class _Cells(NamedTuple):
    """Cells of one cut, with a codec or without, along each of D = G + 2 dimensions.

    Dimensions are the retained ratios, the compression and the channels sent. Cell `j` of dimension `d` reaches from
    ``low[d, j]`` to ``high[d, j]``; of the ratios `kept_low` and `kept_high` are the channels.
    """

    counts: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    kept_low: NDArray[np.float64]
    kept_high: NDArray[np.float64]


class _Case(NamedTuple):
    """Problem and cut as the search reads them."""

    network: Any
    predictor: Any
    hardware: Any
    cells: _Cells
    gain: float
    snr_db: float
    energy_budget: float
    accuracy_min: float
    cut: int
    codec: bool


class _Room(NamedTuple):
    """Arrays that the search writes to."""

    widths: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    box: NDArray[np.int64]
    trial: NDArray[np.int64]
    stack: NDArray[np.int64]
    bounds: NDArray[np.float64]
    best: NDArray[np.int64]


@kernel
def _spend(
    hardware: Any, gain: float, flops: float, bits: float, power: float, frequency: float
) -> tuple[float, float, float]:
    """Delay of device and upload, and the energies of both."""
    h = hardware[0]
    delay = physics.compute_delay(1.0, flops, frequency, h.flops_per_cycle_device)
    e_device = physics.compute_energy(1.0, flops, frequency, h.flops_per_cycle_device, h.pue_device, h.kappa_device)
    e_upload = 0.0
    if bits > 0.0:
        tau = physics.upload_delay(bits, physics.transmission_rate(power, gain, h.bandwidth, h.noise_density))
        delay += tau
        e_upload = physics.upload_energy(power, tau)
    return delay, e_device, e_upload


@kernel
def _power_at(theta: float, hardware: Any, gain: float, span: tuple[float, float, float, float]) -> float:
    """Best power at a price of a second in joules."""
    h = hardware[0]
    noise = h.noise_density * h.bandwidth / gain
    price = theta / noise
    least, most = float(h.power_min), float(h.power_max)
    if price >= span[3]:
        return most
    if price <= span[2]:
        return least
    power: float = noise * math.expm1(spectral_response(price))
    return min(most, max(least, power))


@kernel
def fastest(hardware: Any, gain: float, flops: float, bits: float, energy: float) -> tuple[float, float, float]:
    """Least delay of device and upload within an energy budget for both: delay in s, power in W and clock in Hz.

    Power and clock lie between their limits. Where not even their least values meet the budget the delay is infinite,
    and these values are returned. What has no effect (the clock where there is nothing to compute) is at its largest.

    Parameters
    ----------
    hardware : ndarray of `coinfer_gym.layerwise.delay.HARDWARE`, shape (1,)
    gain : float
        Channel power gain, at least 0.
    flops : float
        FLOPs on the device.
    bits : float
        Bits to send.
    energy : float
        What device and upload may take together, in J; may be infinite or negative.
    """
    h = hardware[0]
    f_low, f_high = float(h.frequency_device_min), float(h.frequency_device_max)
    delay, e_device, e_upload = _spend(hardware, gain, flops, bits, h.power_max, f_high)
    if e_device + e_upload <= energy or delay == math.inf:
        return delay, float(h.power_max), f_high
    delay, e_device, e_upload = _spend(hardware, gain, flops, bits, h.power_min, f_low)
    if e_device + e_upload > energy * (1.0 + ROUNDING):
        return math.inf, float(h.power_min), f_low
    coefficient = h.pue_device * h.kappa_device
    power, frequency = float(h.power_max), f_high
    if bits > 0.0:
        span = spectral_span(hardware, gain)
        noise = h.noise_density * h.bandwidth / gain
        # Between these prices of a second, logarithmic, power and clock go from their least to their largest values.
        low, high = math.log(noise * span[2]), math.log(noise * span[3])
        if flops > 0.0:
            low = min(low, math.log(2.0 * coefficient * f_low**3))
            high = max(high, math.log(2.0 * coefficient * f_high**3))
        power = float(h.power_min)
        gap_low, gap_high, side = 0.0, 0.0, 0
        for step in range(200):
            x = 0.5 * (low + high)
            if gap_low < 0.0 < gap_high and step % 3:
                x = low + (high - low) * gap_low / (gap_low - gap_high)
            if not low < x < high or high - low <= 4e-15 * (1.0 + abs(x)):
                break
            theta = math.exp(x)
            trial = _power_at(theta, hardware, gain, span)
            clock = best_clock(theta, coefficient, f_low, f_high)
            _, e_device, e_upload = _spend(hardware, gain, flops, bits, trial, clock)
            gap = e_device + e_upload - energy
            if gap > 0.0:
                high, gap_high = x, gap
                gap_low = 0.5 * gap_low if side == 1 else gap_low
                side = 1
            else:
                low, gap_low, power = x, gap, trial
                gap_high = 0.5 * gap_high if side == -1 else gap_high
                side = -1
                if gap == 0.0:
                    break
    if flops > 0.0:
        # Where the power is settled the clock may spend what is left, to the last digit.
        _, _, e_upload = _spend(hardware, gain, flops, bits, power, f_low)
        full = physics.compute_energy(1.0, flops, 1.0, h.flops_per_cycle_device, h.pue_device, h.kappa_device)
        frequency = min(f_high, max(f_low, math.sqrt(max(0.0, energy - e_upload) / full)))
    return _spend(hardware, gain, flops, bits, power, frequency)[0], power, frequency


@kernel
def _server(hardware: Any, flops: float) -> tuple[float, float]:
    """Delay and energy of the server."""
    h = hardware[0]
    return (
        physics.compute_delay(1.0, flops, h.frequency_server, h.flops_per_cycle_server),
        physics.compute_energy(1.0, flops, h.frequency_server, h.flops_per_cycle_server, h.pue_server, h.kappa_server),
    )


@kernel
def _fill_rows(
    network: Any,
    hardware: Any,
    gain: float,
    energy_budget: float,
    designs: NDArray[np.float64],
    widths: NDArray[np.float64],
) -> None:
    """Write the best power and clock to every row of designs."""
    columns = designs.shape[1]
    for i in range(designs.shape[0]):
        write_widths(network[0], designs, i, widths)
        cut = int(designs[i, 0])
        sent = sent_channels(designs[i, columns - 3], widths[i, network[3][cut].group])
        on_device, on_server, _, bits = loads(network, hardware, widths, i, cut, sent)
        _, e_server = _server(hardware, on_server)
        _, power, frequency = fastest(hardware, gain, on_device, bits, energy_budget - e_server)
        designs[i, columns - 2], designs[i, columns - 1] = power, frequency


def solve_rows(problem: LayerwiseProblem, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of designs with the power and the clock that are best for the rest of each.

    Parameters
    ----------
    problem : LayerwiseProblem
    rows : ndarray, shape (n, G + 4)
        What their last two columns hold is without effect.

    Returns
    -------
    ndarray, shape (n, G + 4)
        Copies. Where no power and clock meet the energy budget they are the least ones, which exceed it by least.

    Raises
    ------
    InvalidInputError
        As `LayerwiseProblem.evaluate_rows`.
    """
    designs = np.array(rows, np.float64, order="C", ndmin=2)
    if designs.shape[1:] == (len(problem.network.groups) + 4,):
        designs[:, -2:] = problem.power_max, problem.frequency_device_max
    problem.check_rows(designs)
    widths = np.empty((len(designs), len(problem.network.groups) + 1))
    _fill_rows(problem.network.tables, problem.hardware, problem.gain, problem.energy_budget, designs, widths)
    return designs


def solve_given(
    problem: LayerwiseProblem, retained: ArrayLike, compression: float, cut: int | None = None
) -> LayerwiseSolution:
    """Best cut, power and clock of a network that is pruned and compressed in a given way.

    Parameters
    ----------
    problem : LayerwiseProblem
    retained : array_like, shape (G,)
        Retained ratio of each group in (0, 1].
    compression : float
        Share of the channels that is sent, in (0, 1].
    cut : int, optional
        The cut to solve for; all of them where not given.

    Returns
    -------
    LayerwiseSolution
        The fastest of the designs that meet accuracy and energy. Where there are none, the one that falls short of the
        accuracy by least; among several the one that exceeds the energy budget by least, then the fastest.

    Raises
    ------
    InvalidInputError
        If a ratio is out of range or there is no such cut.
    """
    cuts = range(problem.network.cuts) if cut is None else [cut]
    rows = [[number, *np.ravel(retained), compression, 1.0, 1.0] for number in cuts]
    return _best_of(problem, solve_rows(problem, np.array(rows, np.float64)))


def _best_of(problem: LayerwiseProblem, rows: NDArray[np.float64]) -> LayerwiseSolution:
    outcomes = problem.evaluate_rows(rows)
    short = np.maximum(0.0, problem.accuracy_min - outcomes.accuracy)
    excess = outcomes.energy - problem.energy_budget
    excess[excess <= ROUNDING * np.abs(outcomes.energy)] = 0.0
    best = np.lexsort((outcomes.delay, excess, short))[0]
    return problem.evaluate(problem.decision(rows[best]))


def solve_exact(
    problem: LayerwiseProblem,
    tolerance: float = 1e-3,
    nodes: int = 2_000_000,
    starts: NDArray[np.float64] | None = None,
) -> tuple[LayerwiseSolution, Proof]:
    """Fastest design over cut, retained ratios, compression, power and clock, by branch and bound.

    Retained ratios are at least the problem's `retained_min`, and the predicted accuracy reaches `accuracy_min` without
    tolerance. The search is repeated with ever finer tolerances, so that whatever it is stopped at is proven.

    Parameters
    ----------
    problem : LayerwiseProblem
        With a predictor that is a sum of trees.
    tolerance : float
        Relative distance from the optimum that is good enough.
    nodes : int
        Most boxes to look at.
    starts : ndarray, shape (n, G + 4), optional
        Designs that the search may begin from, for instance those of an optimizer.

    Returns
    -------
    solution : LayerwiseSolution
        Where no design meets accuracy and energy, the one of the unpruned designs and `starts` that `solve_given`
        would prefer.
    proof : Proof

    Raises
    ------
    InvalidInputError
        If the predictor has a linear form, which has no cells, or a start is out of range.
    """
    if problem.predictor.coefficients.any():
        raise InvalidInputError(
            "predictor", problem.predictor.regressor, "The exact optimum needs a sum of regression trees."
        )
    groups = len(problem.network.groups)
    cuts = range(problem.network.cuts)
    unpruned = np.array([[cut, *[1.0] * (groups + 3)] for cut in cuts])
    known = unpruned if starts is None else np.concatenate([unpruned, np.atleast_2d(starts)])
    incumbent = _best_of(problem, solve_rows(problem, known))
    if known[:, 1 : groups + 1].min() < problem.retained_min:
        raise InvalidInputError("starts", starts, f"Retain at least {problem.retained_min} of every group.")
    within = incumbent.accuracy >= problem.accuracy_min
    within &= incumbent.energy <= problem.energy_budget * (1.0 + ROUNDING)
    delay = incumbent.delay if within else math.inf
    cases = [case for cut in cuts for codec in (False, True) if (case := _case(problem, cut, codec)) is not None]
    rooms = [_room(case) for case in cases]
    order = list(range(len(cases)))
    found: dict[int, float] = {}
    for number in order:
        reached = _descend(cases[number], rooms[number])
        if reached < math.inf:
            found[number] = reached
    order.sort(key=lambda number: found.get(number, math.inf))
    winner: int | None = None
    if order and found.get(order[0], math.inf) < delay:
        winner, delay = order[0], found[order[0]]
    best_cells = rooms[winner].best.copy() if winner is not None else None
    bound, used, allowed = 0.0, 0, _FIRST_TOLERANCE
    while True:
        allowed = max(tolerance, allowed * _NARROWING)
        lowest = math.inf
        complete = True
        for number in order:
            reached, discarded, spent = _search(cases[number], rooms[number], delay, allowed, nodes - used)
            used += spent
            lowest = min(lowest, discarded)
            if reached < delay:
                delay, winner, best_cells = reached, number, rooms[number].best.copy()
            if used >= nodes:
                complete = False
                break
        if complete:
            bound = max(bound, min(lowest, delay))
        if not complete or allowed <= tolerance or delay == math.inf:
            break
    if winner is not None and best_cells is not None:
        row = solve_rows(problem, _row(problem, cases[winner], best_cells)[None])
        incumbent = problem.evaluate(problem.decision(row[0]))
    gap = math.nan if delay == math.inf else max(0.0, 1.0 - bound / delay)
    return incumbent, Proof(bound, gap, used)


def _case(problem: LayerwiseProblem, cut: int, codec: bool) -> _Case | None:
    """Cells of a cut; None where it has no codec."""
    network, predictor = problem.network, problem.predictor
    groups = len(network.groups)
    place, area, _ = network.tables.cuts[cut].item()
    inner = 0 < cut < network.cuts - 1
    if codec and not (inner and place):
        return None
    thresholds = [
        np.unique(predictor.numbers[predictor.tests == feature]) if feature < len(predictor.features) else np.empty(0)
        for feature in range(groups + 3)
    ]
    # Fewest channels that pass each number of the values, whose logarithm is compared as it is computed.
    passing = [_least_above(number, area) for number in thresholds[groups + 2] if number < _MANY] if place else []
    dimensions: list[list[tuple[float, float]]] = []
    for number, group in enumerate(network.groups):
        tests = list(thresholds[number])
        if number + 1 == place and inner and not codec:
            tests += [
                np.nextafter(_least_ratio(channels, group.channels, group.step), 0.0)
                for channels in passing
                if group.step < channels <= group.channels
            ]
        dimensions.append(_split(problem.retained_min, 1.0, tests))
    channels = network.groups[place - 1].channels if place else 1
    shares = thresholds[groups + 1]
    first = min([0.25 / channels, *shares[shares > 0.0]]) if inner else 1.0
    dimensions.append(_split(first, 1.0, shares))
    if codec:
        firsts = [1, *sorted({count for count in passing if 1 < count < channels})]
        dimensions.append(list(zip(firsts, [each - 1 for each in firsts[1:]] + [channels - 1], strict=True)))
    else:
        dimensions.append([(1.0, float(channels))])
    counts = np.array([len(cells) for cells in dimensions], np.int64)
    low, high = np.zeros((2, len(dimensions), counts.max()))
    kept_low, kept_high = np.zeros((2, groups, counts.max()))
    for d, cells in enumerate(dimensions):
        low[d, : len(cells)], high[d, : len(cells)] = np.array(cells).T
    for g, group in enumerate(network.groups):
        for j in range(counts[g]):
            kept_low[g, j] = kept_channels(low[g, j], group.channels, group.step)
            kept_high[g, j] = kept_channels(high[g, j], group.channels, group.step)
    return _Case(
        network.tables,
        predictor.tables,
        problem.hardware,
        _Cells(counts, low, high, kept_low, kept_high),
        float(problem.gain),
        0.0 if problem.snr_db is None else float(problem.snr_db),
        float(problem.energy_budget),
        float(problem.accuracy_min),
        cut,
        codec,
    )


def _split(first: float, last: float, tests: Sequence[float] | NDArray[np.float64]) -> list[tuple[float, float]]:
    """Cells from `first` to `last` between the numbers that are tested; each ends with one, the next starts above."""
    ends = [float(number) for number in sorted(set(tests)) if first <= number < last]
    return list(zip([first, *(np.nextafter(end, math.inf) for end in ends)], [*ends, last], strict=True))


def _least_ratio(kept: float, channels: float, step: float) -> float:
    """Least ratio at which at least so many channels are kept, of more than one step."""
    ratio = (math.ceil(kept / step) - 0.5) * step / channels
    while kept_channels(ratio, channels, step) >= kept and ratio > 0.0:
        ratio = float(np.nextafter(ratio, 0.0))
    while kept_channels(ratio, channels, step) < kept:
        ratio = float(np.nextafter(ratio, 1.0))
    return ratio


def _least_above(number: float, area: float) -> int:
    """Fewest channels of `area` positions the logarithm of whose values is above a number."""
    count = max(1, int(2.0**number / area) - 1)
    while math.log2(area * count) <= number:
        count += 1
    return count


def _room(case: _Case) -> _Room:
    dimensions = len(case.cells.counts)
    depth = int(case.cells.counts.sum()) + 2
    features = int(case.predictor.coefficients.shape[0])
    return _Room(
        np.ones((1, dimensions - 1)),
        np.empty(features),
        np.empty(features),
        np.empty((2, dimensions), np.int64),
        np.empty((2, dimensions), np.int64),
        np.empty((depth, 2, dimensions), np.int64),
        np.empty(depth),
        np.empty(dimensions, np.int64),
    )


def _row(problem: LayerwiseProblem, case: _Case, best: NDArray[np.int64]) -> NDArray[np.float64]:
    """The best design of a cell, in the middle of the ratios that keep and predict the same."""
    room = _room(case)
    room.box[:] = best
    _least_delay(case, room, room.box)
    row = np.ones(len(best) + 2)
    row[0] = case.cut
    for g, group in enumerate(problem.network.groups):
        kept = float(room.widths[0, g + 1])
        low = max(
            case.cells.low[g, best[g]], _least_ratio(kept, group.channels, group.step) if kept > group.step else 0
        )
        high = case.cells.high[g, best[g]]
        if kept < group.channels:
            high = min(high, np.nextafter(_least_ratio(kept + group.step, group.channels, group.step), 0.0))
        row[g + 1] = _between(low, high, kept / group.channels)
    x = len(best) - 2
    low, high = case.cells.low[x, best[x]], case.cells.high[x, best[x]]
    if case.codec:
        kept = float(room.widths[0, problem.network.tables.cuts[case.cut]["group"]])
        sent = max(case.cells.low[x + 1, best[x + 1]], sent_channels(low, kept))
        if sent > 1.0:
            low = max(low, _least_ratio(sent, kept, 1.0))
        high = min(high, np.nextafter(_least_ratio(sent + 1.0, kept, 1.0), 0.0))
        row[x + 1] = _between(low, high, sent / kept)
    else:
        row[x + 1] = high
    return row


def _between(low: float, high: float, natural: float) -> float:
    return natural if low <= natural <= high else 0.5 * (low + high)


@kernel
def _least_delay(case: Any, room: Any, box: NDArray[np.int64]) -> float:
    """Delay of the least design of a box of cells, infinite where it is empty; its channels are left in the widths."""
    network, _, hardware, cells, gain, _, energy_budget, _, cut, codec = case
    _, low, high, kept_low, kept_high = cells
    widths = room[0]
    groups = kept_low.shape[0]
    for g in range(groups):
        widths[0, g + 1] = kept_low[g, box[0, g]]
    group = network[3][cut].group
    kept = widths[0, group]
    sent = kept
    x_low, x_high = low[groups, box[0, groups]], high[groups, box[1, groups]]
    if codec:
        s_low, s_high = low[groups + 1, box[0, groups + 1]], high[groups + 1, box[1, groups + 1]]
        most, step = kept_high[group - 1, box[1, group - 1]], network[0][group - 1].step
        # More channels must be kept where so few, compressed as little as the box allows, leave too few to send.
        while kept <= most and (sent_channels(x_high, kept) < s_low or max(s_low, sent_channels(x_low, kept)) >= kept):
            kept += step
        sent = max(s_low, sent_channels(x_low, kept))
        if kept > most or sent > s_high:
            return math.inf
        widths[0, group] = kept
    elif 0 < cut < network[3].shape[0] - 1 and sent_channels(x_high, kept) < kept:
        return math.inf
    on_device, on_server, _, bits = loads(network, hardware, widths, 0, cut, sent)
    t_server, e_server = _server(hardware, on_server)
    return t_server + fastest(hardware, gain, on_device, bits, energy_budget - e_server)[0]


@kernel
def _most_accurate(case: Any, room: Any, box: NDArray[np.int64]) -> float:
    """Upper bound of the accuracy in a box of cells; exact where it is a single one."""
    network, predictor, _, cells, _, snr_db, _, _, cut, codec = case
    _, low, high, kept_low, kept_high = cells
    first, last = room[1], room[2]
    groups = kept_low.shape[0]
    for g in range(groups):
        first[g], last[g] = low[g, box[0, g]], high[g, box[1, g]]
    first[groups], last[groups] = cut, cut
    x_low, x_high = low[groups, box[0, groups]], high[groups, box[1, groups]]
    record = network[3][cut]
    least, most = 1.0, 1.0
    if record.group > 0:
        least = kept_low[record.group - 1, box[0, record.group - 1]]
        most = kept_high[record.group - 1, box[1, record.group - 1]]
    if codec:
        s_low, s_high = low[groups + 1, box[0, groups + 1]], high[groups + 1, box[1, groups + 1]]
        s_low = max(s_low, sent_channels(x_low, least))
        s_high = min(s_high, sent_channels(x_high, most), most - 1.0)
        x_low = max(x_low, (s_low - 0.5) / most - _SLACK) if s_low > 1.0 else x_low
        x_high = min(x_high, (s_high + 0.5) / least + _SLACK)
        least, most = s_low, s_high
    first[groups + 1], last[groups + 1] = x_low, x_high
    first[groups + 2] = math.log2(record.area * least) if record.area > 0.0 else 0.0
    last[groups + 2] = math.log2(record.area * most) if record.area > 0.0 else 0.0
    if first.shape[0] > groups + 3:
        first[groups + 3], last[groups + 3] = snr_db, snr_db
    return bound_box(predictor, first, last)


@kernel
def _whole(case: Any, box: NDArray[np.int64]) -> None:
    counts = case[3][0]
    for d in range(counts.shape[0]):
        box[0, d], box[1, d] = 0, counts[d] - 1


@kernel
def _descend(case: Any, room: Any) -> float:
    """Delay of a good cell, which is left in the room: from the largest one downwards, by what saves most time.

    Of several steps along one dimension the one is taken that saves most per accuracy lost.
    """
    accuracy_min = case[7]
    trial, best = room[4], room[7]
    dimensions = best.shape[0]
    _whole(case, trial)
    for d in range(dimensions):
        best[d] = trial[1, d]
        trial[0, d] = trial[1, d]
    delay, accuracy = _least_delay(case, room, trial), _most_accurate(case, room, trial)
    if delay == math.inf or accuracy < accuracy_min:
        return math.inf
    while True:
        worth, along, to, faster, left = 0.0, -1, 0, delay, accuracy
        for d in range(dimensions):
            stride = 1
            while best[d] - stride >= 0:
                trial[0, d] = trial[1, d] = best[d] - stride
                time = _least_delay(case, room, trial)
                if time < delay:
                    value = _most_accurate(case, room, trial)
                    gain = (delay - time) / max(accuracy - value, 1e-7)
                    if value >= accuracy_min and gain > worth:
                        worth, along, to, faster, left = gain, d, best[d] - stride, time, value
                stride *= 2
            trial[0, d] = trial[1, d] = best[d]
        if along < 0:
            return delay
        best[along] = to
        trial[0, along] = trial[1, along] = to
        delay, accuracy = faster, left


@kernel
def _search(case: Any, room: Any, delay: float, tolerance: float, nodes: int) -> tuple[float, float, int]:
    """Least delay that was found (its cell is left in the room), least bound of what was discarded, boxes looked at.

    Depth first. Along every dimension the box is halved on trial: a half that cannot hold an answer is cut off at
    once, and of the other dimensions that one is branched on both of whose halves are bounded best.
    """
    accuracy_min = case[7]
    box, trial, stack, bounds, best = room[3], room[4], room[5], room[6], room[7]
    dimensions = best.shape[0]
    lowest, used, count = math.inf, 0, 1
    _whole(case, stack[0])
    bounds[0] = 0.0
    while count > 0 and used < nodes:
        count -= 1
        used += 1
        for d in range(dimensions):
            box[0, d], box[1, d] = stack[count, 0, d], stack[count, 1, d]
        bound = _least_delay(case, room, box)
        accuracy = _most_accurate(case, room, box)
        along, middle = -1, 0
        d, unchanged, score = 0, 0, -1.0
        while unchanged < dimensions:
            limit = delay * (1.0 - tolerance)
            if accuracy < accuracy_min or bound == math.inf:
                along = -2
                break
            if bound >= limit:
                lowest = min(lowest, bound)
                along = -2
                break
            if box[0, d] == box[1, d]:
                unchanged += 1
                d = (d + 1) % dimensions
                continue
            for e in range(dimensions):
                trial[0, e], trial[1, e] = box[0, e], box[1, e]
            half = (box[0, d] + box[1, d]) // 2
            trial[1, d] = half
            fast = _least_delay(case, room, trial)
            near = _most_accurate(case, room, trial) if fast < math.inf else 0.0
            if near < accuracy_min or fast >= limit:
                if near >= accuracy_min and fast < math.inf:
                    lowest = min(lowest, fast)
                box[0, d] = half + 1
                bound, accuracy = _least_delay(case, room, box), _most_accurate(case, room, box)
                unchanged, score, along = 0, -1.0, -1
                continue
            trial[0, d], trial[1, d] = half + 1, box[1, d]
            slow = _least_delay(case, room, trial)
            far = _most_accurate(case, room, trial) if slow < math.inf else 0.0
            if slow >= limit or far < accuracy_min:
                if far >= accuracy_min and slow < math.inf:
                    lowest = min(lowest, slow)
                box[1, d] = half
                bound, accuracy = fast, near
                unchanged, score, along = 0, -1.0, -1
                continue
            up = max(1e-3, (slow - bound) / (min(limit, 10.0 * bound) - bound))
            down = max(1e-3, (accuracy - near) / (accuracy - accuracy_min + 1e-9))
            if up * down > score:
                score, along, middle = up * down, d, half
            unchanged += 1
            d = (d + 1) % dimensions
        if along == -2:
            continue
        # The least cell of the box, if accurate enough, is the best of it.
        for e in range(dimensions):
            trial[0, e] = trial[1, e] = box[0, e]
        here = _least_delay(case, room, trial)
        if here <= bound and _most_accurate(case, room, trial) >= accuracy_min:
            delay = here
            for e in range(dimensions):
                best[e] = box[0, e]
            continue
        if along == -1:
            continue
        for side in range(2):
            for e in range(dimensions):
                stack[count, 0, e], stack[count, 1, e] = box[0, e], box[1, e]
            if side == 0:
                stack[count, 0, along] = middle + 1
            else:
                stack[count, 1, along] = middle
            bounds[count] = bound
            count += 1
    for k in range(count):
        lowest = min(lowest, bounds[k])
    return delay, lowest, used
