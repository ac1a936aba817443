"""The exact optimum of P1 for a quality of which nothing is known but that it never falls when more is retained.

Of one cut, the pairs of ratios that the budgets allow form a convex set that holds with every pair all smaller ones
(see docs/mathematics.md). So an optimum lies on its frontier: the largest ratio ``F(x)`` of the server next to the
ratio `x` of the device, a falling concave function. The price of time at a point of the frontier gives its tangent
there, which lies above it. Along a tangent the interpolated quality is piecewise quadratic, so that two tangents bound
the quality between their points. The search takes the next point where that bound is highest, until the bound is within
`TOLERANCE` of the best value found; then it goes on to the right. What is left at the end is within `TOLERANCE` of the
optimum, over all cuts.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.bracket import OPEN, narrow, secant
from coinfer_gym.laim.costs import (
    Case,
    budget_residual,
    costs_at,
    delay_of,
    energy_of,
    price_at_budget,
    price_of_device,
    price_of_server,
)
from coinfer_gym.laim.predictor import LEVELS, cell_of, interpolate
from coinfer_gym.pricing import END, HUGE, ROUNDING

TOLERANCE = 1e-5
"""How much better than the answer the optimum can be, in units of quality."""

_SMALL = 1e-14


@kernel
def largest_ratio(of_device: bool, other: float, case: Case, s: int, start: float) -> tuple[float, float, float]:
    """Largest ratio of one side next to the `other` side's that memory and both budgets allow, and the price of time.

    Every price bounds the ratio from above; the least bound is reached where its ratios are in time. Returns the ratio,
    negative where not even the least one is allowed; the logarithm of the price; and how much of the ratio a unit of
    the other one costs.
    """
    h, cut = case.tables.hardware[0], case.tables.cuts[s]
    delay_budget, energy_budget = case.budgets
    least = h.retained_device_min if of_device else h.retained_server_min
    most = cut.retained_device_max if of_device else cut.retained_server_max
    ends = OPEN
    # Another cut's price can lie beyond the range, where a miss would be taken for proof that no ratio is allowed.
    x, stride, ratio, exchange = min(END, max(-END, start)), 1.0, 0.0, 0.0
    for _ in range(200):
        theta = math.exp(x)
        costs = costs_at(theta, case, s)
        price_device, price_server = price_of_device(theta, costs), price_of_server(theta, costs)
        price, price_other = (price_device, price_server) if of_device else (price_server, price_device)
        left = theta * (delay_budget - costs.time_fixed) + (energy_budget - costs.energy_fixed) - price_other * other
        if price * least - left > ROUNDING * (theta * delay_budget + energy_budget):
            return -1.0, x, 0.0
        left = max(left, price * least)
        whole = price * most <= left
        ratio = most if whole else left / price
        exchange = 0.0 if whole else price_other / price
        device, server = (ratio, other) if of_device else (other, ratio)
        delay, energy = delay_of(costs, device, server), energy_of(costs, device, server)
        if delay <= delay_budget * (1.0 + ROUNDING) and energy <= energy_budget * (1.0 + ROUNDING):
            return ratio, x, exchange
        if whole:
            gap = 1.0 if delay > delay_budget else -1.0
        else:
            gap = budget_residual(theta, costs, device, server, case.budgets)
        ends = narrow(ends, x, gap)
        if ends.low == -math.inf or ends.high == math.inf:
            if abs(x) > END:  # every clock and power is at its end, and still one budget is missed
                return -1.0, x, 0.0
            x += stride if gap > 0.0 else -stride
            stride *= 2.0
            continue
        if ends.high - ends.low <= 4e-15 * (1.0 + abs(x)):
            break
        x = secant(ends)
    return ratio, x, exchange


@kernel
def along_line(table: NDArray[np.float64], x: float, y: float, slope: float, last: float) -> tuple[float, float]:
    """Where the quality is largest along the falling line from ``(x, y)`` to the device's ratio `last`, and how large.

    Within a cell of the table the quality along a line is a parabola.
    """
    step = 1.0 / (LEVELS - 1)
    best_x, best = x, interpolate(table, x, y)
    while x < last - _SMALL:
        i = cell_of(x + _SMALL)
        # A line that falls leaves its cell downwards: on a grid line the cell below is meant.
        j = cell_of(max(0.0, y - _SMALL)) if slope > 0.0 else cell_of(y)
        run = min(last, (i + 1) * step) - x
        if slope > 0.0:
            run = min(run, (y - j * step) / slope)
        run = max(run, _SMALL)
        u, v = x / step - i, y / step - j
        across, up = 1.0 / step, -slope / step
        bottom = table[i, j] + u * (table[i + 1, j] - table[i, j])
        top = table[i, j + 1] + u * (table[i + 1, j + 1] - table[i, j + 1])
        rise_bottom, rise_top = table[i + 1, j] - table[i, j], table[i + 1, j + 1] - table[i, j + 1]
        # a + b t + c t^2 at (x + t, y - slope t)
        a = bottom + v * (top - bottom)
        b = across * (rise_bottom + v * (rise_top - rise_bottom)) + up * (top - bottom)
        c = across * up * (rise_top - rise_bottom)
        at_end = a + run * (b + run * c)
        peak, value = (run, at_end) if at_end > a else (0.0, a)
        if c < 0.0 and 0.0 < -b / (2.0 * c) < run:
            peak = -b / (2.0 * c)
            value = a + peak * (b + peak * c)
        if value > best:
            best_x, best = x + peak, value
        x, y = x + run, max(0.0, y - slope * run)
    return best_x, best


@kernel
def under_tangents(
    table: NDArray[np.float64],
    device: float,
    server: float,
    slope: float,
    end: float,
    end_server: float,
    end_slope: float,
) -> tuple[float, float]:
    """Where the quality is largest under the frontier's tangents at `device` and `end`, between both, and how large."""
    meet = end
    if end_slope > slope:  # not where an end has no tangent yet
        above = server - slope * (end - device) - end_server
        meet = min(end, max(device, end - above / (end_slope - slope)))
    peak, highest = along_line(table, device, server, slope, meet)
    other, value = along_line(table, meet, end_server + end_slope * (end - meet), end_slope, end)
    return (other, value) if meet < end and value > highest else (peak, highest)


@kernel
def _bound(x: float, case: Case, s: int) -> float:
    """Upper bound of a cut's quality at a price of time; negative where it proves the cut infeasible."""
    h, cut, budgets = case.tables.hardware[0], case.tables.cuts[s], case.budgets
    theta, table = math.exp(x), cut.predicted
    costs = costs_at(theta, case, s)
    price_device, price_server = price_of_device(theta, costs), price_of_server(theta, costs)
    worth = theta * (budgets[0] - costs.time_fixed) + (budgets[1] - costs.energy_fixed)
    least_device, least_server = h.retained_device_min, h.retained_server_min
    most_device, most_server = cut.retained_device_max, cut.retained_server_max
    needed = price_device * least_device + price_server * least_server
    beyond = needed - worth > ROUNDING * (theta * budgets[0] + budgets[1])
    if beyond or most_device < least_device or most_server < least_server:
        return -1.0
    worth = max(worth, needed)
    if price_device * most_device + price_server * most_server <= worth:
        return interpolate(table, most_device, most_server)
    if price_server == 0.0:
        return interpolate(table, min(most_device, worth / price_device), most_server)
    if price_device == 0.0:
        return interpolate(table, most_device, min(most_server, worth / price_server))
    first, server = (worth - price_server * most_server) / price_device, most_server
    if first < least_device:
        first = least_device  # a difference of large numbers over a small one: it can be anything
        server = min(most_server, max(least_server, (worth - price_device * first) / price_server))
    first = min(first, most_device)
    last = min(most_device, (worth - price_server * least_server) / price_device)
    return along_line(table, first, server, price_device / price_server, last)[1]


@kernel
def _solve_cut(case: Case, s: int, start: float, to_beat: float) -> tuple[bool, float, float, float, float]:
    """Optimum of one cut: whether it beats `to_beat`, quality, both ratios, logarithm of the price of time."""
    h, cut = case.tables.hardware[0], case.tables.cuts[s]
    table = cut.predicted
    last, _, _ = largest_ratio(True, h.retained_server_min, case, s, start)
    if last < 0.0:
        return False, 0.0, 0.0, 0.0, start
    most = float(cut.retained_server_max)
    device, price, exchange = largest_ratio(True, most, case, s, start)
    if device >= 0.0:  # up to there the server's ratio is its highest
        server, slope = most, 1.0 / exchange if exchange > 0.0 else 0.0
        if cut.flops_server == 0.0 or h.sparsity_gain == 0.0:
            last = device
    else:
        device = h.retained_device_min
        server, price, slope = largest_ratio(False, device, case, s, start)
    quality, best_device, best_server, best_price = to_beat, 0.0, 0.0, start
    found = False
    # Up to `device` nothing more can be found, and `end` is the last point looked at.
    end, end_server, end_price, end_slope = device, server, price, slope
    while end_server >= 0.0:
        value = interpolate(table, end, end_server)
        if value > quality:
            found, quality = True, value
            best_device, best_server, best_price = end, end_server, end_price
        peak, bound = under_tangents(table, device, server, slope, end, end_server, end_slope)
        if bound <= quality + TOLERANCE:
            device, server, slope = end, end_server, end_slope
            peak, bound = under_tangents(table, device, server, slope, last, most, 0.0)
            if bound <= quality + TOLERANCE:
                break
        end = peak
        end_server, end_price, end_slope = largest_ratio(False, end, case, s, end_price)
    return found, quality, best_device, best_server, best_price


@kernel
def solve_rising(case: Case, first: int, last: int, guess: float) -> tuple[bool, int, float, float, float, float]:
    """Optimum over the cuts ``first..last-1``: found, cut, quality, both ratios, price of time; `guess` is a price."""
    price, start, highest = math.log(guess), first, -1.0
    for s in range(first, last):
        bound = _bound(price, case, s)
        if bound > highest:
            start, highest = s, bound
    found, best, quality, device, server, delay = False, start, 0.0, 0.0, 0.0, math.inf
    if highest < 0.0:
        return False, best, 0.0, 0.0, 0.0, guess
    for step in range(first, last + 1):
        s = start if step == first else step - 1
        if step > first and s == start:
            continue
        cut = case.tables.cuts[s]
        # The tangent bounds a cut's quality from above at every price, so also at another cut's. A cut can be skipped
        # if its bound is within the tolerance of the quality found, or if it is infeasible even when relaxed.
        bound = _bound(price, case, s)
        if bound < 0.0 or (found and bound <= quality + TOLERANCE and quality < 1.0):
            continue
        most_device, most_server = cut.retained_device_max, cut.retained_server_max
        whole, own_price, _ = largest_ratio(True, most_server, case, s, price)
        if whole >= most_device:  # of the unpruned networks the fastest
            value = interpolate(cut.predicted, most_device, most_server)
            fast = price_at_budget(case, s, most_device, most_server, False)
            theta = max(math.exp(own_price), fast)  # of prices that differ by rounding, not one that is too slow
            own_delay = delay_of(costs_at(theta, case, s), most_device, most_server)
            if not found or value > quality or (value >= 1.0 and own_delay < delay):
                found, best, quality, device, server = True, s, value, most_device, most_server
                price, delay = math.log(theta), own_delay
            continue
        if quality >= 1.0:
            continue
        to_beat = quality if found else -HUGE
        ok, value, own_device, own_server, own_price = _solve_cut(case, s, price, to_beat)
        if ok:
            found, best, quality, device, server, price = True, s, value, own_device, own_server, own_price
    return found, best, quality, device, server, math.exp(price)
