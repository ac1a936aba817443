"""What one task of a cell can be worth at prices of band and server, bounded from above and tabulated.

At prices `lambda` and `mu`, in quality per second of all of the band and all of the server, a service that takes `T`
seconds and holds the share `beta` for `h` of them and `phi` for all of them is worth

    Q - lambda beta h - mu phi T

Take `T` and `h` as given. What is left to choose, and the energy, then makes a convex problem: the device's stage and
the upload share the time `h`, and the server's stage has ``T - trip - h``, so that `phi` is what the server does over a
time that is fixed. Multipliers of its three budgets (`nu` of the energy, `zeta` of `h`, `xi` of ``phi <= 1``) fall
apart into a clock of each side, an upload and a choice of ratios, and bound its value whatever they are. The same
multipliers bound a whole range of `h` and of `T` from the corners of the range. See docs/mathematics.md.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.laim.outcome import (
    ACCURACY,
    Tables,
    link_gain,
    model_quality,
    most_nats,
    read_unpruned,
    run_device,
    run_server,
)
from coinfer_gym.pricing import best_clock, best_nats, spectral_span
from coinfer_gym.records import Record, record_type

Floats = NDArray[np.float64]

_RATIOS = 65  # retained ratios of a side that are looked at
_SLACK = 1e-6  # of quality: what rounding, and slopes that are differences, may leave of a proven bound
_STEPS = 60  # most shares of the band that an upload looks at; what is then missing is taken off its cost
_SIDE = 1e-6  # of a ratio, over which a slope is taken
_NEXT_TO_NOTHING = 1e-7  # price that the whole server has at least, so that its clock never stands still

BOX = record_type("low", "high", "shorter", "longer", "energy", "hold", "share", cut=np.int64)
"""A range of the time `h` in s at one cut, bounds of what it is worth at the ends of a range of the service time, and
multipliers of energy, of `h` and of the server's share."""


class Menu(NamedTuple):
    """Qualities of pruned networks on a grid of both ratios, for each cut.

    Between the nodes no quality exceeds what is interpolated between them by more than `bend`.
    """

    counts: NDArray[np.int64]  # shape (cuts, 2)
    ratios: Floats  # shape (cuts, 2, n)
    quality: Floats  # shape (cuts, n, n)
    bend: Floats  # shape (cuts,)
    concave: bool


class Terms(NamedTuple):
    """Prices in quality per second of all of the band and of the server, and what a task may spend in J."""

    band: float
    server: float
    gain: float
    energy: float
    share_min: float


def build_menu(tables: Tables) -> Menu:
    """Tabulate the qualities that the ratios of a workload's cuts give."""
    hardware, quality, cuts, _ = tables
    concave = bool(quality["kind"][0] != ACCURACY)
    least = [float(hardware[f"retained_{side}_min"][0]) for side in ("device", "server")]
    menu = Menu(
        np.ones((len(cuts), 2), np.int64),
        np.zeros((len(cuts), 2, _RATIOS)),
        np.zeros((len(cuts), _RATIOS, _RATIOS)),
        np.zeros(len(cuts)),
        concave,
    )
    for s, cut in enumerate(cuts):
        nodes = []
        for low, side in zip(least, ("device", "server"), strict=True):
            most = float(cut[f"retained_{side}_max"])
            if cut[f"prunable_{side}"] == 0.0 or most <= low:
                nodes.append(np.array([low if most >= low else -1.0]))  # no ratio at all where none fits the memory
            elif concave:
                nodes.append(np.linspace(low, most, _RATIOS))
            else:  # interpolated between its own nodes
                levels = np.linspace(0.0, 1.0, cut["predicted"].shape[0])
                nodes.append(np.concatenate([[low], levels[(levels > low) & (levels < most)], [most]]))
        menu.counts[s] = [len(each) for each in nodes]
        if min(each[0] for each in nodes) < 0.0:
            menu.counts[s] = 0
            continue
        for k, each in enumerate(nodes):
            menu.ratios[s, k, : len(each)] = each
        values = np.zeros((_RATIOS, _RATIOS))
        _fill_quality(tables, s, nodes[0], nodes[1], values)
        menu.quality[s] = values
        if concave:
            menu.bend[s] = sum(_bend(tables, s, nodes, side) for side in (0, 1)) + _SLACK
        else:
            menu.bend[s] = _SLACK
    return menu


def _bend(tables: Tables, s: int, nodes: list[Floats], side: int) -> float:
    """Most that a concave quality rises above its chords along a side: a quarter of a cell times its slopes' change."""
    along = nodes[side]
    if len(along) == 1:
        return 0.0
    values = []
    for shift in (-_SIDE, _SIDE):
        moved = [each.copy() for each in nodes]
        moved[side] = np.clip(along + shift, along[0], along[-1])
        out = np.zeros((_RATIOS, _RATIOS))
        _fill_quality(tables, s, moved[0], moved[1], out)
        out = out[: len(nodes[0]), : len(nodes[1])]
        values.append((moved[side], out if side == 0 else out.T))
    (below, low), (above, high) = values
    slopes = (high - low) / (above - below)[:, None]
    return float(0.25 * (np.diff(along)[:, None] * -np.diff(slopes, axis=0)).max())


@kernel
def _fill_quality(tables: Tables, s: int, device: Floats, server: Floats, out: Floats) -> None:
    for i in range(device.shape[0]):
        for j in range(server.shape[0]):
            out[i, j] = model_quality(tables, s, device[i], server[j])


@kernel
def _choose_ratios(menu: Menu, s: int, cost_device: float, cost_server: float) -> tuple[float, float, float]:
    """Largest quality less what both ratios cost, and both ratios there.

    Along a row a concave quality is followed uphill, from where the row before had its top.
    """
    rows, columns = menu.counts[s]
    quality, device, server = menu.quality[s], menu.ratios[s, 0], menu.ratios[s, 1]
    best, first, second, k = -math.inf, 0, 0, 0
    for i in range(rows):
        row = quality[i]
        if menu.concave:
            value = row[k] - cost_server * server[k]
            climbed = False
            while k + 1 < columns:
                following = row[k + 1] - cost_server * server[k + 1]
                if following < value:
                    break
                value, k, climbed = following, k + 1, True
            while not climbed and k > 0:
                following = row[k - 1] - cost_server * server[k - 1]
                if following <= value:
                    break
                value, k = following, k - 1
        else:
            value, k = -math.inf, 0
            for j in range(columns):
                own = row[j] - cost_server * server[j]
                if own > value:
                    value, k = own, j
        value -= cost_device * device[i]
        if value > best:
            best, first, second = value, i, k
    return best, device[first], server[second]


class _Upload(NamedTuple):
    """Least cost of an upload, and its seconds and joules of the amplifier."""

    cost: float
    time: float
    energy: float


@kernel
def _send(h: Record, bits: float, gain: float, price: float, second: float, joule: float, least: float) -> _Upload:
    """Cheapest upload where all of the band costs `price`, a second and a joule of the amplifier what they say.

    The cost is convex in the share of the band; its slope is followed to where it vanishes.
    """
    nats, unit = bits * math.log(2.0) / h.bandwidth, h.noise_density * h.bandwidth / link_gain(h, gain)
    most, drawn = most_nats(h), joule * unit / h.amplifier_efficiency
    low, high, at_low, at_high = math.log(least), 0.0, 0.0, 0.0
    x, missing = high, math.inf
    cost, tau, amplifier = 0.0, 0.0, 0.0
    for _ in range(_STEPS):
        beta = math.exp(x)
        span = spectral_span(beta * unit, 0.0, h.power_max, most / beta)
        y = best_nats(second / (drawn * beta), span)
        radiated = beta * math.expm1(y)
        tau, amplifier = nats / (beta * y), drawn * radiated
        cost = price * beta + (second + amplifier) * tau
        if y < span.high:
            slope = price * beta - second * tau
        elif most / beta <= y:
            slope = price * beta + drawn * beta * tau * (math.expm1(y) - y * math.exp(y))
        else:
            ratio = h.power_max / (beta * unit)
            slope = price * beta - (second + amplifier) * tau * (1.0 - ratio / ((1.0 + ratio) * y))
        if x == 0.0:
            at_high = slope
            if slope <= 0.0:  # more than all of the band would be better
                return _Upload(cost, tau, amplifier * tau / joule)
            x = low
            continue
        if x == low and at_low == 0.0:
            at_low = slope
            if slope >= 0.0:
                return _Upload(cost, tau, amplifier * tau / joule)
        elif slope > 0.0:
            high, at_high, at_low = x, slope, at_low * (0.5 if at_high == slope else 1.0)
        else:
            low, at_low = x, slope
        # The cost is convex in the share: beyond this point it cannot fall by more than its slope.
        missing = abs(slope) * (math.exp(high - x) - 1.0 if slope < 0.0 else 1.0 - math.exp(low - x))
        if missing <= 1e-6:
            break
        x = low - at_low * (high - low) / (at_high - at_low)
        width = high - low
        x = min(high - 0.1 * width, max(low + 0.1 * width, x))
    return _Upload(cost - missing, tau, amplifier * tau / joule)


class Point(NamedTuple):
    """A bound, its slopes in the multipliers of energy and of `h`, and the share of the server that is taken."""

    value: float
    by_energy: float
    by_hold: float
    share: float


@kernel
def _run_device(h: Record, cut: Record, second: float, joule: float) -> tuple[float, float]:
    """Seconds and joules of the device's whole work at the clock that suits these prices."""
    drawn = h.pue_device * h.static_power_device
    clock = best_clock(
        second / joule + drawn, h.pue_device * h.kappa_device, h.frequency_device_min, h.frequency_device_max
    )
    return run_device(h, cut, 1.0, clock)


@kernel
def _evaluate(
    tables: Tables,
    menu: Menu,
    terms: Terms,
    box: Record,
    device: tuple[float, float],
    upload: _Upload,
    hold: float,
    end: float,
    time: float,
) -> Point:
    """Bound for a service of `end` seconds whose upload ends after `hold`.

    What the server costs is convex in the time that it has; it is taken from the tangent at `time`.
    """
    h, cut, s = tables.hardware[0], tables.cuts[box.cut], box.cut
    gamma, joule, second = h.sparsity_gain, box.energy, box.hold
    reading_device, reading_server = read_unpruned(h, cut)
    spare = terms.energy - reading_device - reading_server
    energy = spare - upload.energy
    left = hold - cut.unpruned_delay_device - upload.time
    cost_device = second * device[0] + joule * device[1]
    if s == tables.cuts.shape[0] - 1:
        earned, ratio, _ = _choose_ratios(menu, s, gamma * cost_device, 0.0)
        ran = 1.0 - gamma + gamma * ratio
        energy, left = energy - ran * device[1], left - ran * device[0]
        earned += joule * spare
        earned += second * (hold - cut.unpruned_delay_device) - (1.0 - gamma) * cost_device + menu.bend[s]
        return Point(earned, energy, left, 0.0)
    price = terms.server * end + box.share + _NEXT_TO_NOTHING
    rate = price / time
    clock = best_clock(
        rate / joule + h.pue_server * h.static_power_server,
        h.pue_server * h.kappa_server,
        h.frequency_server_min,
        h.frequency_server_max,
    )
    alone, drawn = run_server(h, cut, 1.0, clock)
    cost_server = rate * alone + joule * drawn - rate / time * alone * (end - cut.round_trip - hold - time)
    earned, ratio_device, ratio = _choose_ratios(menu, s, gamma * cost_device, gamma * cost_server)
    earned += joule * (spare - h.waiting_power_device * (end - hold))
    earned += second * (hold - cut.unpruned_delay_device) + box.share + _NEXT_TO_NOTHING - upload.cost + menu.bend[s]
    earned -= (1.0 - gamma) * (cost_device + cost_server)
    ran, served = 1.0 - gamma + gamma * ratio_device, 1.0 - gamma + gamma * ratio
    waited = h.waiting_power_device * (end - hold + upload.time) + h.circuit_power * upload.time
    energy -= ran * device[1] + served * drawn + waited
    return Point(earned, energy, left - ran * device[0], served * alone / time)


@kernel
def _upload(h: Record, cut: Record, terms: Terms, box: Record, hold: float) -> _Upload:
    if cut.upload_bits == 0.0:
        return _Upload(0.0, 0.0, 0.0)
    second = box.hold + box.energy * (h.circuit_power + h.waiting_power_device)
    return _send(h, cut.upload_bits, terms.gain, terms.band * hold, second, box.energy, terms.share_min)


@kernel
def bound_centre(tables: Tables, menu: Menu, terms: Terms, box: Record, end: float) -> Point:
    """Bound at the middle of a box for one service time, at the multipliers of the box."""
    h, cut = tables.hardware[0], tables.cuts[box.cut]
    device = _run_device(h, cut, box.hold, box.energy)
    if box.cut == tables.cuts.shape[0] - 1:
        return _evaluate(tables, menu, terms, box, device, _Upload(0.0, 0.0, 0.0), end, end, 1.0)
    hold = 0.5 * (box.low + box.high)
    time = end - cut.round_trip - hold
    return _evaluate(tables, menu, terms, box, device, _upload(h, cut, terms, box, hold), hold, end, time)


@kernel
def bound_box(tables: Tables, menu: Menu, terms: Terms, box: Record, ends: tuple[float, float], known: Floats) -> None:
    """Bound what a box is worth for services of both times by its multipliers, if that is better than what it has."""
    h, cut = tables.hardware[0], tables.cuts[box.cut]
    device = _run_device(h, cut, box.hold, box.energy)
    shorter, longer = -math.inf, -math.inf
    if box.cut == tables.cuts.shape[0] - 1:
        nothing = _Upload(0.0, 0.0, 0.0)
        shorter = _evaluate(tables, menu, terms, box, device, nothing, ends[0], ends[0], 1.0).value
        longer = _evaluate(tables, menu, terms, box, device, nothing, ends[1], ends[1], 1.0).value
    else:
        time = ends[1] - cut.round_trip - 0.5 * (box.low + box.high)
        for side in range(2):
            hold = box.low if side == 0 else box.high
            upload = _upload(h, cut, terms, box, hold)
            value = _evaluate(tables, menu, terms, box, device, upload, hold, ends[0], time).value
            shorter = shorter if value <= shorter or math.isnan(shorter) else value
            value = _evaluate(tables, menu, terms, box, device, upload, hold, ends[1], time).value
            longer = longer if value <= longer or math.isnan(longer) else value
    shorter = 0.0 if shorter <= 0.0 else shorter  # whoever earns less leaves the task
    longer = 0.0 if longer <= 0.0 else longer
    # Of two pairs one counts: the lower ends of both are not a bound of what lies between.
    # The better one exceeds less what other boxes are worth anyway.
    before = max(box.shorter, known[0]) + max(box.longer, known[1])
    after = (known[0] if shorter <= known[0] else shorter) + (known[1] if longer <= known[1] else longer)
    if after < before or (after == before and longer < box.longer):  # not where one is no number
        box.shorter, box.longer = shorter, longer
