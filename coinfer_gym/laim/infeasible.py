"""Why no decision is feasible in P1: budgets and memories that would do, and the decision that misses them by least."""

from __future__ import annotations

import math

from coinfer_gym._compile import kernel
from coinfer_gym.laim.costs import (
    Case,
    Controls,
    controls_at,
    costs_of,
    delay_of,
    energy_of,
    first_guess,
    price_at_budget,
)
from coinfer_gym.pricing import HUGE
from coinfer_gym.records import Record, Records

NO_TIME, NO_ENERGY, NO_TIME_AND_ENERGY, NO_MEMORY = 1, 2, 3, 4


@kernel
def explain(case: Case, first: int, last: int, row: Record) -> tuple[int, float]:
    """Store why no cut is feasible and what would do; return the cut and price that miss the budgets by least."""
    h, cuts = case.tables.hardware[0], case.tables.cuts
    delay_budget, energy_budget = case.budgets
    fastest, most_frugal, cut_fastest = math.inf, math.inf, -1
    at_full_speed, at_rest = controls_at(HUGE, case), controls_at(0.0, case)
    for s in range(first, last):
        if not _fits(case, s):
            continue
        delay, _ = _least(case, s, at_full_speed)
        _, energy = _least(case, s, at_rest)
        most_frugal = min(most_frugal, energy)
        if delay < fastest or cut_fastest < 0:
            fastest, cut_fastest = delay, s
    row.gap = math.nan
    row.memory_device_needed, row.memory_server_needed = math.nan, math.nan
    if cut_fastest < 0:
        return _lack_memory(h, cuts, first, last, row), HUGE
    no_time, no_energy = fastest > delay_budget, most_frugal >= energy_budget
    row.reason = NO_TIME_AND_ENERGY if no_time == no_energy else (NO_TIME if no_time else NO_ENERGY)
    energy_needed, cut_fast, theta_fast = _need(case, first, last, at_full_speed, True)
    delay_needed, cut_frugal, theta_frugal = _need(case, first, last, at_rest, False)
    row.delay_needed, row.energy_needed = delay_needed, energy_needed
    s, theta = cut_fastest, HUGE
    if delay_needed < math.inf or energy_needed < math.inf:
        cheaper = energy_needed < math.inf and energy_needed * delay_budget < delay_needed * energy_budget
        exceeds_energy = delay_needed == math.inf or cheaper
        s, theta = (cut_fast, theta_fast) if exceeds_energy else (cut_frugal, theta_frugal)
    return s, theta


@kernel
def _need(case: Case, first: int, last: int, extreme: Controls, in_time: bool) -> tuple[float, int, float]:
    """Least energy of what is `in_time`, or least delay of what keeps to the energy budget; its cut and price of time.

    Infinite where not even the `extreme` controls keep to that one budget. At any price a cut's least costs bound what
    it needs from below, so that those at the best cut's price discard most others at once.
    """
    h = case.tables.hardware[0]
    needed, best, theta = math.inf, first, first_guess(h)
    controls, start, lowest = controls_at(theta, case), first, math.inf
    for s in range(first, last):
        bound = _bound(case, s, theta, controls, in_time)
        if bound < lowest:
            start, lowest = s, bound
    for step in range(first - 1, last):
        s = start if step < first else step
        if step == start or _bound(case, s, theta, controls, in_time) >= needed:
            continue
        if not _keeps(case, s, extreme, in_time):
            continue
        price = price_at_budget(case, s, h.retained_device_min, h.retained_server_min, in_time)
        of_price = controls_at(price, case)
        delay, energy = _least(case, s, of_price)
        own = energy if in_time else delay
        if own < needed:
            needed, best, theta, controls = own, s, price, of_price
    return needed, best, theta


@kernel
def _bound(case: Case, s: int, theta: float, controls: Controls, in_time: bool) -> float:
    """Least energy, or delay, that a cut can need, by what it takes of both budgets at a price of time."""
    delay_budget, energy_budget = case.budgets
    delay, energy = _least(case, s, controls)
    if in_time:
        return energy + theta * (delay - delay_budget)
    return delay + (energy - energy_budget) / theta


@kernel
def _keeps(case: Case, s: int, extreme: Controls, in_time: bool) -> bool:
    """Whether the memories hold a cut at the least ratios, and some controls keep to one budget there."""
    delay_budget, energy_budget = case.budgets
    delay, energy = _least(case, s, extreme)
    return _fits(case, s) and (delay <= delay_budget if in_time else energy < energy_budget)


@kernel
def _fits(case: Case, s: int) -> bool:
    """Whether the memories hold a cut at the least ratios."""
    h, cut = case.tables.hardware[0], case.tables.cuts[s]
    fits: bool = cut.retained_device_max >= h.retained_device_min and cut.retained_server_max >= h.retained_server_min
    return fits


@kernel
def _least(case: Case, s: int, controls: Controls) -> tuple[float, float]:
    """Delay and energy of a cut at the least ratios."""
    h, costs = case.tables.hardware[0], costs_of(case, s, controls)
    ratios = h.retained_device_min, h.retained_server_min
    return delay_of(costs, *ratios), energy_of(costs, *ratios)


@kernel
def _lack_memory(h: Record, cuts: Records, first: int, last: int, row: Record) -> int:
    """Store what the memories must hold at the cut whose larger relative lack is least; return that cut."""
    best, least = first, math.inf
    for s in range(first, last):
        cut = cuts[s]
        lack = max(cut.bytes_device / h.memory_capacity_device, cut.bytes_server / h.memory_capacity_server)
        if lack < least:
            best, least = s, lack
    row.reason, row.delay_needed, row.energy_needed = NO_MEMORY, math.nan, math.nan
    row.memory_device_needed, row.memory_server_needed = cuts[best].bytes_device, cuts[best].bytes_server
    return best
