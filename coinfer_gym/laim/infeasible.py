"""Why no decision is feasible in P1: budgets and memories that would do, and the decision that misses them by least."""

from __future__ import annotations

import math

from coinfer_gym._compile import kernel
from coinfer_gym.laim.costs import Case, costs_at, delay_of, energy_of, price_at_budget
from coinfer_gym.pricing import HUGE
from coinfer_gym.records import Record, Records

NO_TIME, NO_ENERGY, NO_TIME_AND_ENERGY, NO_MEMORY = 1, 2, 3, 4


@kernel
def explain(case: Case, first: int, last: int, row: Record) -> tuple[int, float]:
    """Store why no cut is feasible and what would do; return the cut and price that miss the budgets by least."""
    h, cuts = case.tables.hardware[0], case.tables.cuts
    delay_budget, energy_budget = case.budgets
    low_device, low_server = h.retained_device_min, h.retained_server_min
    delay_needed, energy_needed = math.inf, math.inf
    fastest, most_frugal = math.inf, math.inf
    cut_frugal, cut_fast, cut_fastest = first, first, -1
    theta_frugal, theta_fast = 0.0, 0.0
    for s in range(first, last):
        cut = cuts[s]
        if cut.retained_device_max < low_device or cut.retained_server_max < low_server:
            continue
        delay = delay_of(costs_at(HUGE, case, s), low_device, low_server)
        if delay < fastest or cut_fastest < 0:
            fastest, cut_fastest = delay, s
        if delay <= delay_budget:
            theta = price_at_budget(case, s, low_device, low_server, True)
            energy = energy_of(costs_at(theta, case, s), low_device, low_server)
            if energy < energy_needed:
                energy_needed, cut_fast, theta_fast = energy, s, theta
        energy = energy_of(costs_at(0.0, case, s), low_device, low_server)
        most_frugal = min(most_frugal, energy)
        if energy < energy_budget:
            theta = price_at_budget(case, s, low_device, low_server, False)
            delay = delay_of(costs_at(theta, case, s), low_device, low_server)
            if delay < delay_needed:
                delay_needed, cut_frugal, theta_frugal = delay, s, theta
    row.gap = math.nan
    row.delay_needed, row.energy_needed = delay_needed, energy_needed
    row.memory_device_needed, row.memory_server_needed = math.nan, math.nan
    if cut_fastest < 0:
        return _lack_memory(h, cuts, first, last, row), HUGE
    no_time, no_energy = fastest > delay_budget, most_frugal >= energy_budget
    row.reason = NO_TIME_AND_ENERGY if no_time == no_energy else (NO_TIME if no_time else NO_ENERGY)
    s, theta = cut_fastest, HUGE
    if delay_needed < math.inf or energy_needed < math.inf:
        cheaper = energy_needed < math.inf and energy_needed * delay_budget < delay_needed * energy_budget
        exceeds_energy = delay_needed == math.inf or cheaper
        s, theta = (cut_fast, theta_fast) if exceeds_energy else (cut_frugal, theta_frugal)
    return s, theta


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
