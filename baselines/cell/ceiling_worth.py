"""The search for the multipliers that bound what a service of a cell is worth, and the table of these bounds."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.cell.ceiling_service import BOX, Menu, Point, Terms, bound_box, bound_centre
from coinfer_gym._compile import kernel
from coinfer_gym.laim.outcome import Tables, link_gain, most_nats, run_device, run_server
from coinfer_gym.pricing import spectral_span
from coinfer_gym.records import Record, Records

Floats = NDArray[np.float64]

_CORNERS = 32  # most of the polygon in which the best multipliers lie
_TRIES, _MOVES = 14, 6  # multipliers that are tried within a polygon, and polygons
_LEAST = 0.05  # multiplier times budget to begin with
_BOXES = 96
_DEAR = 0.2  # price of the whole server for a service, in quality, from which on hardly any task takes half of it
_SHARES = 6  # multipliers of the server's share that are tried
_SPLITS = 8  # most of boxes that promise much for the shorter time alone
_AROUND = 3.0  # times the multipliers at hand, up to which others are tried


@kernel
def _cut_off(corners: Floats, count: int, x: float, y: float, by_x: float, by_y: float) -> int:
    """Keep of a convex polygon what lies below a line through a point; returns how many corners there are then."""
    for i in range(count):
        corners[_CORNERS + i, 0], corners[_CORNERS + i, 1] = corners[i, 0], corners[i, 1]
    kept = 0
    for i in range(count):
        j = _CORNERS + i
        k = _CORNERS + (i + 1 if i + 1 < count else 0)
        here = by_x * (corners[j, 0] - x) + by_y * (corners[j, 1] - y)
        there = by_x * (corners[k, 0] - x) + by_y * (corners[k, 1] - y)
        if here <= 0.0:
            corners[kept, 0], corners[kept, 1] = corners[j, 0], corners[j, 1]
            kept += 1
        if (here <= 0.0) != (there <= 0.0):
            share = here / (here - there)
            corners[kept, 0] = corners[j, 0] + share * (corners[k, 0] - corners[j, 0])
            corners[kept, 1] = corners[j, 1] + share * (corners[k, 1] - corners[j, 1])
            kept += 1
    return kept


@kernel
def _gravity(corners: Floats, count: int) -> tuple[float, float]:
    """Centre of gravity of a convex polygon."""
    area, x, y = 0.0, 0.0, 0.0
    for i in range(1, count - 1):
        ax, ay = corners[i, 0] - corners[0, 0], corners[i, 1] - corners[0, 1]
        bx, by = corners[i + 1, 0] - corners[0, 0], corners[i + 1, 1] - corners[0, 1]
        own = abs(ax * by - ay * bx)
        area += own
        x += own * (ax + bx) / 3.0
        y += own * (ay + by) / 3.0
    if area <= 0.0:
        return corners[0, 0], corners[0, 1]
    return corners[0, 0] + x / area, corners[0, 1] + y / area


@kernel
def _search(tables: Tables, menu: Menu, terms: Terms, box: Record, end: float, corners: Floats, near: float) -> Point:
    """Multipliers of energy and of `h` that bound the middle of a box best, to about `near`.

    The bound is convex in them. Each one that is tried cuts off a part of the polygon where the best one lies.
    """
    best = bound_centre(tables, menu, terms, box, end)
    energy, hold = box.energy, box.hold
    for _ in range(_MOVES):
        most_energy, most_hold = _AROUND * energy, _AROUND * hold
        count = 4
        corners[0, 0] = corners[3, 0] = corners[0, 1] = corners[1, 1] = 0.0
        corners[1, 0] = corners[2, 0] = most_energy
        corners[2, 1] = corners[3, 1] = most_hold
        count = _cut_off(corners, count, energy, hold, best.by_energy, best.by_hold)
        lowest = -math.inf
        for _ in range(_TRIES):
            if count < 3:
                break
            box.energy, box.hold = _gravity(corners, count)
            if box.energy <= 0.0 or box.hold <= 0.0:
                break
            point = bound_centre(tables, menu, terms, box, end)
            lower = math.inf
            for i in range(count):
                lower = min(
                    lower,
                    point.value
                    + point.by_energy * (corners[i, 0] - box.energy)
                    + point.by_hold * (corners[i, 1] - box.hold),
                )
            lowest = max(lowest, lower)
            if point.value < best.value:
                best, energy, hold = point, box.energy, box.hold
            if best.value - lowest <= near:
                break
            count = _cut_off(corners, count, box.energy, box.hold, point.by_energy, point.by_hold)
        box.energy, box.hold = energy, hold
        if energy < 0.8 * most_energy and hold < 0.8 * most_hold:
            break
    return best


@kernel
def _improve(tables: Tables, menu: Menu, terms: Terms, box: Record, end: float, corners: Floats, near: float) -> float:
    """Improve all multipliers of a box; returns the bound at its middle.

    That of the server's share is 0 where the price alone keeps it well below 1. Elsewhere it is searched by values:
    where ratios jump, the share at the best multipliers says nothing.
    """
    share, factor = box.share if box.share > 0.0 else 0.03, 4.0
    box.share = 0.0
    best = _search(tables, menu, terms, box, end, corners, near)
    lowest, energy, hold, kept = best.value, box.energy, box.hold, 0.0
    if box.cut == tables.cuts.shape[0] - 1 or (best.share < 0.5 and terms.server * end > _DEAR):
        return lowest
    for _ in range(_SHARES):
        box.share = share
        value = _search(tables, menu, terms, box, end, corners, near).value
        if value < lowest:
            lowest, energy, hold, kept = value, box.energy, box.hold, share
        elif kept > 0.0:
            factor = 1.0 / math.sqrt(factor)
        else:
            share *= 0.25
            continue
        share = kept * factor
    box.energy, box.hold, box.share = energy, hold, kept
    return lowest


@kernel
def _look(
    tables: Tables,
    menu: Menu,
    terms: Terms,
    box: Record,
    ends: tuple[float, float],
    known: Floats,
    corners: Floats,
    near: float,
) -> None:
    """Bound a box, with multipliers of its own if it promises more than what is `known` at both times."""
    bound_box(tables, menu, terms, box, ends, known)
    if box.longer <= known[1] + near and box.shorter <= known[0] + near:
        return
    known[1] = max(known[1], _improve(tables, menu, terms, box, ends[1], corners, 0.3 * near))
    bound_box(tables, menu, terms, box, ends, known)


@kernel
def _worth(
    tables: Tables,
    menu: Menu,
    terms: Terms,
    ends: tuple[float, float],
    known: Floats,
    boxes: Records,
    starts: Records,
    corners: Floats,
    tolerance: float,
) -> tuple[float, float]:
    """Bounds of what a task is worth for services of at most two times.

    Between both times the bounds may be interpolated.
    """
    count, last = 0, tables.cuts.shape[0] - 1
    h = tables.hardware[0]
    for s in range(last, -1, -1):
        cut, box = tables.cuts[s], boxes[count]
        if menu.counts[s, 0] == 0:
            continue
        box.cut = s
        box.shorter = box.longer = menu.quality[s, menu.counts[s, 0] - 1, menu.counts[s, 1] - 1]
        box.energy = max(starts[s].energy, _LEAST / terms.energy)  # where a budget was slack its multiplier vanished
        box.hold, box.share = max(starts[s].hold, _LEAST / ends[1]), starts[s].share
        if s == last:
            box.low = box.high = 0.0
        else:
            unit = h.noise_density * h.bandwidth / link_gain(h, terms.gain)
            span = spectral_span(unit, 0.0, h.power_max, most_nats(h))
            box.low = cut.upload_bits * math.log(2.0) / (h.bandwidth * span.high)
            ran = 1.0 - h.sparsity_gain + h.sparsity_gain * menu.ratios[s, 0, 0]
            box.low += run_device(h, cut, ran, h.frequency_device_max)[0] + cut.unpruned_delay_device
            ran = 1.0 - h.sparsity_gain + h.sparsity_gain * menu.ratios[s, 1, 0]
            box.high = ends[1] - cut.round_trip - run_server(h, cut, ran, h.frequency_server_max)[0]
            if box.low > box.high:
                continue
        _look(tables, menu, terms, box, ends, known, corners, tolerance)
        starts[s].energy, starts[s].hold, starts[s].share = box.energy, box.hold, box.share
        count += 1
    splits = _SPLITS
    while True:
        shorter, longer, first, second = 0.0, 0.0, 0, 0
        for i in range(count):
            if boxes[i].shorter > shorter:
                shorter, first = boxes[i].shorter, i
            if boxes[i].longer > longer:
                longer, second = boxes[i].longer, i
        if longer - known[1] > tolerance:
            first = second
        elif shorter - known[0] > tolerance:
            splits -= 1  # multipliers suit the longer time: splits alone need not help the shorter one
        else:
            splits = -1
        if splits < 0 or boxes[first].high <= boxes[first].low or count == boxes.shape[0]:
            return shorter, longer
        boxes[count] = boxes[first]
        upper, lower = boxes[first], boxes[count]
        upper.low = lower.high = 0.5 * (upper.low + upper.high)
        _look(tables, menu, terms, lower, ends, known, corners, tolerance)
        _look(tables, menu, terms, upper, ends, known, corners, tolerance)
        count += 1


class Scratch(NamedTuple):
    """What `fill_worth` writes in."""

    boxes: Records
    starts: Records
    corners: Floats
    known: Floats


def build_scratch(tables: Tables) -> Scratch:
    """Room for `fill_worth`."""
    return Scratch(np.zeros(_BOXES, BOX), np.zeros(len(tables.cuts), BOX), np.zeros((2 * _CORNERS, 2)), np.zeros(2))


@kernel
def fill_worth(
    tables: Tables,
    menu: Menu,
    gains: Floats,
    energy: float,
    share_min: float,
    prices: Floats,
    times: Floats,
    tolerance: float,
    scratch: Scratch,
    out: Floats,
) -> None:
    """Fill ``out[g, p, k]`` with bounds at both ends of the service times from ``times[k]`` to ``times[k + 1]``.

    They rise with the time: a service takes at most that long.
    """
    boxes, starts, corners, known = scratch
    for g in range(gains.shape[0]):
        for s in range(starts.shape[0]):
            starts[s].energy, starts[s].hold, starts[s].share = 1.0 / energy, 1.0 / times[-1], 0.0
        for p in range(prices.shape[0]):
            terms = Terms(prices[p, 0], prices[p, 1], gains[g], energy, share_min)
            reached = 0.0
            for k in range(times.shape[0] - 1):
                known[0], known[1] = reached, reached
                ends = (times[k], times[k + 1])
                shorter, longer = _worth(tables, menu, terms, ends, known, boxes, starts, corners, tolerance)
                out[g, p, k, 0] = max(reached, shorter)
                out[g, p, k, 1] = reached = max(out[g, p, k, 0], longer)
