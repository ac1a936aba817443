"""The exact optimum of one cut of P1, the problem of Lyu et al. (eq. 44): a compiled search for the price of time.

For a price ``theta`` of a second in joules, `coinfer_gym.laim.costs` has the best clocks and power. What is left is a
knapsack of two items, ``max Q(rho)`` under ``C_d rho_d + C_s rho_s <= b``, where ``C`` is the price of time and energy
per unit of ratio and ``b`` what both budgets are worth after what every ratio takes, as the upload.

The knapsack relaxes P1, so its value bounds the quality from above at every ``theta``; where the delay of its solution
meets the budget it is the optimum. That delay falls in ``theta``: one monotone search per cut. See docs/mathematics.md.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.bracket import OPEN, Bracket, narrow, secant
from coinfer_gym.laim import distortion as dst
from coinfer_gym.laim.costs import (
    Case,
    Controls,
    Costs,
    budget_residual,
    costs_at,
    costs_of,
    delay_of,
    energy_of,
    price_at_budget,
    price_of_device,
    price_of_server,
)
from coinfer_gym.laim.outcome import Tables, model_quality
from coinfer_gym.pricing import END, ROUNDING
from coinfer_gym.records import Record

_LINEAR, _SATURATED, _INFEASIBLE = 0, 1, 2


@kernel
def is_linear(kind: int) -> bool:
    """Whether a quality rises with a weighted sum of both ratios."""
    return kind == dst.RATE_DISTORTION or kind == dst.PARALLEL_JOINT or kind == dst.RANDOM


@kernel
def _weights(kind: int, cut: Record) -> tuple[float, float]:
    """Worth of a unit of ratio on each side, for qualities that rise with a weighted sum of the ratios."""
    if kind == dst.RANDOM:
        return cut.scale_device, cut.scale_server
    return cut.prunable_device, cut.prunable_server


@kernel
def _response(
    kind: int,
    price: float,
    bits: float,
    blocks: NDArray[np.float64],
    sides: tuple[int, int],
    low: float,
    high: float,
) -> tuple[float, float]:
    """Ratio of a side at which its distortion falls by `price` per unit of ratio, and its slope in ``ln price``."""
    first, last = sides
    parameters, scale = 0.0, 0.0
    for j in range(first, last):
        parameters += blocks[j, 0]
        scale += blocks[j, 0] / blocks[j, 1]
    if parameters == 0.0 or price == 0.0:
        return (low if parameters == 0.0 and price > 0.0 else high), 0.0
    ratio, slope = 0.0, 0.0
    if kind == dst.MAGNITUDE:
        ratio = math.exp(-price / scale)
        slope = -price / scale * ratio
    elif kind == dst.MAGNITUDE_THRESHOLD:
        threshold = price / parameters
        for j in range(first, last):
            exponent = blocks[j, 1] * threshold
            share = blocks[j, 0] / parameters * math.exp(-exponent)
            ratio += share
            slope -= exponent * share
    else:
        water = price / (bits * parameters * math.log(2.0))
        for j in range(first, last):
            level = blocks[j, 1] * water
            if level < 1.0:
                share = blocks[j, 0] / (bits * parameters * math.log(2.0))
                ratio -= share * math.log(level)
                slope -= share
    if ratio >= high:
        return high, 0.0
    if ratio <= low:
        return low, 0.0
    return ratio, slope


@kernel
def _fill_concave(
    kind: int,
    cost_device: float,
    cost_server: float,
    worth: float,
    bits: float,
    blocks: NDArray[np.float64],
    s: int,
    least: tuple[float, float],
    most: tuple[float, float],
    start: float,
) -> tuple[float, float, float]:
    """Ratios that spend `worth` at least distortion, and the logarithm of the multiplier (a warm start).

    Safeguarded Newton on the multiplier's logarithm: what is spent falls in it.
    """
    below, above = -math.inf, math.inf
    z, stride = start, 1.0
    rho_device, rho_server, slope_device, slope_server = 1.0, 1.0, 0.0, 0.0
    device, server = (0, s), (s, blocks.shape[0])
    for _ in range(200):
        multiplier = math.exp(z)
        rho_device, slope_device = _response(kind, multiplier * cost_device, bits, blocks, device, least[0], most[0])
        rho_server, slope_server = _response(kind, multiplier * cost_server, bits, blocks, server, least[1], most[1])
        excess = cost_device * rho_device + cost_server * rho_server - worth
        if abs(excess) <= 1e-14 * worth:
            break
        if excess > 0.0:
            below = z
        else:
            above = z
        slope = cost_device * slope_device + cost_server * slope_server
        target = z - excess / slope if slope < 0.0 else math.nan
        if below == -math.inf or above == math.inf:
            reach = z + stride if excess > 0.0 else z - stride
            inside = not math.isnan(target) and abs(target - z) < 4.0 * stride
            z = target if inside else reach
            stride *= 2.0
        elif below < target < above:
            z = target
        else:
            z = 0.5 * (below + above)
        if above - below <= 4e-16 * abs(z):
            break
    # Where a ratio hangs on the last digits of the multiplier, the steeper side takes what is left over.
    if cost_device * slope_device < cost_server * slope_server:
        rho_device = _afford(worth - cost_server * rho_server, cost_device, least[0], most[0])
    elif slope_server < 0.0:
        rho_server = _afford(worth - cost_device * rho_device, cost_server, least[1], most[1])
    return rho_device, rho_server, z


@kernel
def _fill_linear(
    cost_device: float,
    cost_server: float,
    worth: float,
    least: tuple[float, float],
    most: tuple[float, float],
    device_first: bool,
) -> tuple[float, float]:
    """Ratios that spend `worth`, the preferred side first."""
    if device_first:
        rho_device = _afford(worth - cost_server * least[1], cost_device, least[0], most[0])
        return rho_device, _afford(worth - cost_device * rho_device, cost_server, least[1], most[1])
    rho_server = _afford(worth - cost_device * least[0], cost_server, least[1], most[1])
    return _afford(worth - cost_server * rho_server, cost_device, least[0], most[0]), rho_server


@kernel
def _afford(worth: float, cost: float, least: float, most: float) -> float:
    """Ratio that `worth` buys at `cost` each."""
    return max(least, min(most, worth / cost)) if cost > 0.0 else most


@kernel
def _prefers_device(theta: float, costs: Costs, weights: tuple[float, float]) -> float:
    """Positive where a unit of price buys more on the device, negative where more on the server."""
    return weights[0] * price_of_server(theta, costs) - weights[1] * price_of_device(theta, costs)


@kernel
def _most(prunable: float, flops: float, least: float, held: float) -> float:
    """Highest ratio worth having on a side whose memory holds `held`: work without weights is pruned at no loss."""
    return least if prunable == 0.0 and flops > 0.0 else held


@kernel
def _relax(theta: float, case: Case, s: int, costs: Costs, start: float, order: int) -> tuple[int, float, float, float]:
    """The knapsack at a price of time: state, both ratios, warm start for the next call.

    `order` forces the preferred side of a linear quality: 1 the device, -1 the server, 0 the better one.
    """
    hardware, quality, cuts, blocks = case.tables
    delay_budget, energy_budget = case.budgets
    h, cut, kind = hardware[0], cuts[s], quality[0].kind
    least = (h.retained_device_min, h.retained_server_min)
    cost_device, cost_server = price_of_device(theta, costs), price_of_server(theta, costs)
    worth = theta * (delay_budget - costs.time_fixed) + (energy_budget - costs.energy_fixed)
    needed = cost_device * least[0] + cost_server * least[1]
    beyond = needed - worth > ROUNDING * (theta * delay_budget + energy_budget)
    if beyond or cut.retained_device_max < least[0] or cut.retained_server_max < least[1]:
        return _INFEASIBLE, least[0], least[1], start
    worth = max(worth, needed)
    most = (
        _most(cut.prunable_device, cut.flops_device, least[0], cut.retained_device_max),
        _most(cut.prunable_server, cut.flops_server, least[1], cut.retained_server_max),
    )
    if cost_device * most[0] + cost_server * most[1] <= worth:
        return _SATURATED, most[0], most[1], start
    if is_linear(kind):
        preference = float(order) if order != 0 else _prefers_device(theta, costs, _weights(kind, cut))
        rho_device, rho_server = _fill_linear(cost_device, cost_server, worth, least, most, preference >= 0.0)
        return _LINEAR, rho_device, rho_server, start
    rho_device, rho_server, z = _fill_concave(
        kind, cost_device, cost_server, worth, h.parameter_bits, blocks, s, least, most, start
    )
    return _LINEAR, rho_device, rho_server, z


@kernel
def _merit(tables: Tables, s: int, rho_device: float, rho_server: float) -> float:
    """What cuts are compared by: the quality, or for linear ones the weighted share it rises with; at most 1."""
    kind = tables.quality[0].kind
    if is_linear(kind):
        w_device, w_server = _weights(kind, tables.cuts[s])
        return (w_device * rho_device + w_server * rho_server) / (w_device + w_server)
    return model_quality(tables, s, rho_device, rho_server)


@kernel
def _highest_merit(tables: Tables, s: int, rho_device: float, rho_server: float) -> float:
    """Merit of the highest ratios worth having: exactly 1 where they are not held down by a memory."""
    cut = tables.cuts[s]
    if cut.retained_device_max >= 1.0 and cut.retained_server_max >= 1.0:
        return 1.0
    return min(1.0, _merit(tables, s, rho_device, rho_server))


@kernel
def _crossing(low: float, high: float, case: Case, s: int, weights: tuple[float, float]) -> float:
    """Logarithm of the price between `low` and `high` at which both sides are worth the same (linear qualities)."""
    theta = math.exp(low)
    sign = _prefers_device(theta, costs_at(theta, case, s), weights) >= 0.0
    for _ in range(60):
        x = 0.5 * (low + high)
        theta = math.exp(x)
        if (_prefers_device(theta, costs_at(theta, case, s), weights) >= 0.0) == sign:
            low = x
        else:
            high = x
        if high - low <= 1e-15 * (1.0 + abs(x)):
            break
    return 0.5 * (low + high)


@kernel
def solve_cut(case: Case, s: int, start: float, merit_to_beat: float) -> tuple[bool, float, float, float, float, float]:
    """Optimum of one cut: found, merit, both ratios, price of time, proven bound of the merit.

    Found is False where the cut is infeasible or cannot beat `merit_to_beat`. The search runs over ``x = ln theta``
    between a low end, where the relaxed solution is too slow, and a high end, where it is in time. Any `start` will do.
    """
    tables, budgets = case.tables, case.budgets
    delay_budget, energy_budget = budgets
    kind = tables.quality[0].kind
    weights = _weights(kind, tables.cuts[s])
    linear = is_linear(kind)
    ends = OPEN
    device_low, server_low, device_high, server_high = 0.0, 0.0, 0.0, 0.0
    preference_low, preference_high = 0.0, 0.0
    # Another cut's price can lie beyond the range, where a miss would be taken for proof that this cut is infeasible.
    x, stride, z = min(END, max(-END, start)), 1.5, 0.0
    bisect = False
    for _ in range(300):
        theta = math.exp(x)
        costs = costs_at(theta, case, s)
        state, rho_device, rho_server, z = _relax(theta, case, s, costs, z, 0)
        if state == _INFEASIBLE:
            return False, 0.0, 0.0, 0.0, theta, 0.0
        gap = budget_residual(theta, costs, rho_device, rho_server, budgets)
        delay, energy = delay_of(costs, rho_device, rho_server), energy_of(costs, rho_device, rho_server)
        in_budgets = delay <= delay_budget * (1.0 + ROUNDING) and energy <= energy_budget * (1.0 + ROUNDING)
        if state == _SATURATED:
            gap = 1.0 if delay > delay_budget else -1.0
            if in_budgets:
                fast = price_at_budget(case, s, rho_device, rho_server, False)
                theta = max(theta, fast)  # of prices that differ by rounding, not one that is too slow
                merit = _highest_merit(tables, s, rho_device, rho_server)
                return True, merit, rho_device, rho_server, theta, merit
        elif linear and _merit(tables, s, rho_device, rho_server) <= merit_to_beat:
            return False, 0.0, 0.0, 0.0, theta, 0.0
        elif in_budgets:
            merit = _merit(tables, s, rho_device, rho_server)
            return True, merit, rho_device, rho_server, theta, merit
        preference = _prefers_device(theta, costs, weights) if linear else 0.0
        ends = narrow(ends, x, gap)
        if gap > 0.0:
            device_low, server_low, preference_low = rho_device, rho_server, preference
        else:
            device_high, server_high, preference_high = rho_device, rho_server, preference
        if ends.low == -math.inf or ends.high == math.inf:
            if abs(x) > END:  # every clock and power is at its end, and still one budget is missed
                return False, 0.0, 0.0, 0.0, theta, 0.0
            x += stride if gap > 0.0 else -stride
            stride *= 2.0
            continue
        if linear and (preference_low >= 0.0) != (preference_high >= 0.0):
            x = _crossing(ends.low, ends.high, case, s, weights)
            theta = math.exp(x)
            costs = costs_at(theta, case, s)
            state, first_device, first_server, z = _relax(theta, case, s, costs, z, 1)
            state, rho_device, rho_server, z = _relax(theta, case, s, costs, z, -1)
            if state == _INFEASIBLE:
                return False, 0.0, 0.0, 0.0, theta, 0.0
            gap_first = budget_residual(theta, costs, first_device, first_server, budgets)
            gap_second = budget_residual(theta, costs, rho_device, rho_server, budgets)
            if state != _SATURATED and gap_first * gap_second <= 0.0 and gap_first != gap_second:
                share = gap_second / (gap_second - gap_first)
                rho_device += share * (first_device - rho_device)
                rho_server += share * (first_server - rho_server)
                merit = _merit(tables, s, rho_device, rho_server)
                return True, merit, rho_device, rho_server, theta, merit
            if gap_first > 0.0 or gap_second > 0.0:
                ends = Bracket(x, ends.high, gap_second, ends.gap_high, 0)
                preference_low, device_low, server_low = preference_high, rho_device, rho_server
            else:
                ends = Bracket(ends.low, x, ends.gap_low, gap_second, 0)
                preference_high, device_high, server_high = preference_low, rho_device, rho_server
        width = ends.high - ends.low
        if width <= 4e-15 * (1.0 + abs(x)):
            break
        x = 0.5 * (ends.low + ends.high) if bisect else secant(ends)
        bisect = not bisect and min(x - ends.low, ends.high - x) < 1e-3 * width and width > 1e-6
    share = ends.gap_high / (ends.gap_high - ends.gap_low) if ends.gap_high != ends.gap_low else 0.0
    rho_device = device_high + share * (device_low - device_high)
    rho_server = server_high + share * (server_low - server_high)
    merit = _merit(tables, s, rho_device, rho_server)
    bound = max(merit, _merit(tables, s, device_high, server_high))
    return True, merit, rho_device, rho_server, math.exp(ends.high), bound


@kernel
def bound_cut(theta: float, case: Case, s: int, controls: Controls) -> float:
    """Upper bound of a cut's merit from the knapsack at `theta`; negative where it proves the cut infeasible."""
    costs = costs_of(case, s, controls)
    state, rho_device, rho_server, _ = _relax(theta, case, s, costs, 0.0, 0)
    if state == _INFEASIBLE:
        return -1.0
    if state == _SATURATED:
        return _highest_merit(case.tables, s, rho_device, rho_server)
    return _merit(case.tables, s, rho_device, rho_server)
