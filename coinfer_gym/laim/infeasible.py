"""Why no decision meets both budgets of P1: the budgets that would do, and the decision that misses them by least."""

from __future__ import annotations

import math

from coinfer_gym._compile import kernel
from coinfer_gym.laim.problem import Tables
from coinfer_gym.pricing import HUGE, controls_at, costs_of, delay_of, energy_of, price_at_budget
from coinfer_gym.records import Records

__all__ = ["explain"]


@kernel
def explain(
    tables: Tables,
    gain: float,
    delay_budget: float,
    energy_budget: float,
    first: int,
    last: int,
    span: tuple[float, float, float, float],
    rows: Records,
    i: int,
) -> tuple[int, float]:
    """Store why no cut is feasible and the budgets that would do; return the cut and price that miss them by least."""
    hardware, _, cuts, _ = tables
    h = hardware[0]
    low_device, low_server = h.retained_device_min, h.retained_server_min
    delay_needed, energy_needed = math.inf, math.inf
    fastest, most_frugal = math.inf, math.inf
    cut_frugal, cut_fast, cut_fastest = first, first, first
    theta_frugal, theta_fast = 0.0, 0.0
    for s in range(first, last):
        cut = cuts[s]
        costs = costs_of(hardware, cut, gain, controls_at(HUGE, hardware, gain, span))
        delay = delay_of(costs, low_device, low_server)
        if delay < fastest:
            fastest, cut_fastest = delay, s
        if delay <= delay_budget:
            theta = price_at_budget(hardware, cut, gain, span, low_device, low_server, delay_budget, True)
            costs = costs_of(hardware, cut, gain, controls_at(theta, hardware, gain, span))
            energy = energy_of(costs, low_device, low_server)
            if energy < energy_needed:
                energy_needed, cut_fast, theta_fast = energy, s, theta
        costs = costs_of(hardware, cut, gain, controls_at(0.0, hardware, gain, span))
        energy = energy_of(costs, low_device, low_server)
        most_frugal = min(most_frugal, energy)
        if energy < energy_budget:
            theta = price_at_budget(hardware, cut, gain, span, low_device, low_server, energy_budget, False)
            costs = costs_of(hardware, cut, gain, controls_at(theta, hardware, gain, span))
            delay = delay_of(costs, low_device, low_server)
            if delay < delay_needed:
                delay_needed, cut_frugal, theta_frugal = delay, s, theta
    row = rows[i]
    row.delay_needed, row.energy_needed = delay_needed, energy_needed
    no_time, no_energy = fastest > delay_budget, most_frugal >= energy_budget
    row.reason = 3 if no_time == no_energy else (1 if no_time else 2)
    row.gap = math.nan
    s, theta = cut_fastest, HUGE
    if delay_needed < math.inf or energy_needed < math.inf:
        cheaper = energy_needed < math.inf and energy_needed * delay_budget < delay_needed * energy_budget
        exceeds_energy = delay_needed == math.inf or cheaper
        s, theta = (cut_fast, theta_fast) if exceeds_energy else (cut_frugal, theta_frugal)
    return s, theta
