"""What a price of time buys in P1: the controls that suit it, and what a cut then takes.

Let ``theta`` be the price of a second in joules, the ratio of the multipliers of the two budgets. What a stage draws
for as long as it lasts adds to its own price of a second, since energy that is linear in a duration is one:

- the device ``theta + eta_d P_d``;
- the server ``theta + eta_s P_s + P_wait``;
- the upload ``theta + P_c + P_wait``.

At these prices `coinfer_gym.pricing` has the best clocks and power, whatever the cut and the ratios. Delay and energy
of a cut are then affine in its two ratios.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from coinfer_gym import physics
from coinfer_gym._compile import kernel
from coinfer_gym.laim.outcome import Tables, link_gain, most_nats, read_unpruned, run_device, run_server, send
from coinfer_gym.pricing import END, HUGE, Span, best_clock, best_nats, clock_price, spectral_span
from coinfer_gym.records import Record

NO_LIMIT = 1e18
"""A budget of that many seconds or joules is none, and its worth is still finite at any price."""


class Case(NamedTuple):
    """P1 as the searches read it: its constants, the gain, ends of ``y = ln(1 + SNR)``, and budgets in s and J."""

    tables: Tables
    gain: float
    span: Span
    budgets: tuple[float, float]


class Controls(NamedTuple):
    """Both clocks in Hz, and ``y = ln(1 + SNR)`` of the link."""

    frequency_device: float
    frequency_server: float
    nats: float


class Costs(NamedTuple):
    """Seconds and joules of a cut: per unit of ratio of each side, and whatever the ratios."""

    time_device: float
    energy_device: float
    time_server: float
    energy_server: float
    time_fixed: float
    energy_fixed: float


@kernel
def _drawn_by_device(h: Record) -> float:
    """Power in W of a second of the device's stage."""
    drawn: float = h.pue_device * h.static_power_device
    return drawn


@kernel
def _drawn_by_server(h: Record) -> float:
    """Power in W of a second of the server's stage."""
    drawn: float = h.pue_server * h.static_power_server + h.waiting_power_device
    return drawn


@kernel
def _drawn_by_link(h: Record) -> float:
    """Power in W of a second of the upload, beside the amplifier's."""
    drawn: float = h.circuit_power + h.waiting_power_device
    return drawn


@kernel
def _unit(h: Record, gain: float) -> float:
    """Power in W that the amplifier draws at an SNR of 1."""
    unit: float = h.noise_density * h.bandwidth / (link_gain(h, gain) * h.amplifier_efficiency)
    return unit


@kernel
def case_of(tables: Tables, gain: float, delay_budget: float, energy_budget: float) -> Case:
    """P1 of one task."""
    h = tables.hardware[0]
    noise = h.noise_density * h.bandwidth / link_gain(h, gain)
    span = spectral_span(noise, h.power_min, h.power_max, most_nats(h))
    return Case(tables, gain, span, (min(delay_budget, NO_LIMIT), min(energy_budget, NO_LIMIT)))


@kernel
def first_guess(h: Record) -> float:
    """A price of time to begin a search with: that of a fast clock of the device."""
    return clock_price(0.7 * h.frequency_device_max, h.pue_device * h.kappa_device)


@kernel
def controls_at(theta: float, case: Case) -> Controls:
    """Best controls at a price of time."""
    h = case.tables.hardware[0]
    price_device, price_server = theta + _drawn_by_device(h), theta + _drawn_by_server(h)
    return Controls(
        best_clock(price_device, h.pue_device * h.kappa_device, h.frequency_device_min, h.frequency_device_max),
        best_clock(price_server, h.pue_server * h.kappa_server, h.frequency_server_min, h.frequency_server_max),
        best_nats((theta + _drawn_by_link(h)) / _unit(h, case.gain), case.span),
    )


@kernel
def settings_of(case: Case, s: int, controls: Controls) -> tuple[float, float, float]:
    """Power in W and both clocks in Hz that a decision has for some controls; 0 where a cut has no use for them.

    A clock that the memory slows down is given as it runs, but not below its least value.
    """
    h, cut, power = case.tables.hardware[0], case.tables.cuts[s], 0.0
    if cut.upload_bits > 0.0:
        power = physics.power_at(controls.nats, link_gain(h, case.gain), h.bandwidth, h.noise_density)
        power = min(h.power_max, max(h.power_min, power))
    fed_device = max(cut.frequency_device_fed, cut.step_frequency_device_fed)
    fed_server = max(cut.frequency_server_fed, cut.step_frequency_server_fed)
    device = min(controls.frequency_device, max(fed_device, h.frequency_device_min))
    server = min(controls.frequency_server, max(fed_server, h.frequency_server_min))
    return power, device if cut.flops_device > 0.0 else 0.0, server if cut.flops_server > 0.0 else 0.0


@kernel
def costs_of(case: Case, s: int, controls: Controls) -> Costs:
    """What a cut takes at given controls."""
    h, cut = case.tables.hardware[0], case.tables.cuts[s]
    gamma = h.sparsity_gain
    time_device, energy_device = run_device(h, cut, 1.0, controls.frequency_device)
    time_server, energy_server = run_server(h, cut, 1.0, controls.frequency_server)
    time_device, time_server = min(time_device, HUGE), min(time_server, HUGE)
    energy_server += physics.energy_at(h.waiting_power_device, time_server)
    tau, energy_upload = 0.0, 0.0
    if cut.upload_bits > 0.0:
        if controls.nats > 0.0:
            power = physics.power_at(controls.nats, link_gain(h, case.gain), h.bandwidth, h.noise_density)
            tau, energy_upload = send(h, cut, power, h.bandwidth * controls.nats / math.log(2.0))
        else:  # the limit of ever slower uploads, whose energy has a limit too
            tau, energy_upload = HUGE, cut.upload_bits * math.log(2.0) * _unit(h, case.gain) / h.bandwidth
    tau += cut.round_trip
    energy_upload += physics.energy_at(h.waiting_power_device, tau)
    reading_device, reading_server = read_unpruned(h, cut)
    reading_server += physics.energy_at(h.waiting_power_device, cut.unpruned_delay_server)
    return Costs(
        gamma * time_device,
        gamma * energy_device,
        gamma * time_server,
        gamma * energy_server,
        tau + cut.unpruned_delay_device + cut.unpruned_delay_server + (1.0 - gamma) * (time_device + time_server),
        energy_upload + reading_device + reading_server + (1.0 - gamma) * (energy_device + energy_server),
    )


@kernel
def costs_at(theta: float, case: Case, s: int) -> Costs:
    """What a cut takes at the best controls for a price of time."""
    return costs_of(case, s, controls_at(theta, case))


@kernel
def delay_of(costs: Costs, rho_device: float, rho_server: float) -> float:
    """Delay in s of given ratios."""
    return rho_device * costs.time_device + rho_server * costs.time_server + costs.time_fixed


@kernel
def energy_of(costs: Costs, rho_device: float, rho_server: float) -> float:
    """Energy in J of given ratios."""
    return rho_device * costs.energy_device + rho_server * costs.energy_server + costs.energy_fixed


@kernel
def price_of_device(theta: float, costs: Costs) -> float:
    """What a unit of the device's ratio takes of both budgets, in J."""
    return theta * costs.time_device + costs.energy_device


@kernel
def price_of_server(theta: float, costs: Costs) -> float:
    """What a unit of the server's ratio takes of both budgets, in J."""
    return theta * costs.time_server + costs.energy_server


@kernel
def budget_residual(
    theta: float, costs: Costs, rho_device: float, rho_server: float, budgets: tuple[float, float]
) -> float:
    """How far a knapsack's solution is beyond the delay budget, or short of the energy budget: the same at a tight one.

    Taken from the budget that weighs less at this price, where it isn't lost in rounding.
    """
    delay_budget, energy_budget = budgets
    if theta * delay_budget <= energy_budget:
        excess = theta * (delay_of(costs, rho_device, rho_server) - delay_budget)
    else:
        excess = energy_budget - energy_of(costs, rho_device, rho_server)
    return excess / (theta * delay_budget + energy_budget)


@kernel
def price_at_budget(case: Case, s: int, rho_device: float, rho_server: float, of_time: bool) -> float:
    """Price of time at which given ratios just meet one budget: the delay (`of_time`) or the energy.

    The end of the range where the budget cannot be met or is met anywhere.
    """
    low, high = -END, END
    for _ in range(70):
        x = 0.5 * (low + high)
        costs = costs_at(math.exp(x), case, s)
        if of_time:
            too_slow = delay_of(costs, rho_device, rho_server) > case.budgets[0]
        else:
            too_slow = energy_of(costs, rho_device, rho_server) <= case.budgets[1]
        if too_slow:
            low = x
        else:
            high = x
    return math.exp(high) if of_time else math.exp(low)


@kernel
def price_ends(case: Case) -> tuple[float, float]:
    """Logarithms of the prices of time beyond which no clock and no power moves any more."""
    h, span = case.tables.hardware[0], case.span
    device, server, unit = h.pue_device * h.kappa_device, h.pue_server * h.kappa_server, _unit(h, case.gain)
    drawn_device, drawn_server, drawn_link = _drawn_by_device(h), _drawn_by_server(h), _drawn_by_link(h)
    low = min(
        clock_price(h.frequency_device_min, device) - drawn_device,
        clock_price(h.frequency_server_min, server) - drawn_server,
        span.price_low * unit - drawn_link,
    )
    high = max(
        clock_price(h.frequency_device_max, device) - drawn_device,
        clock_price(h.frequency_server_max, server) - drawn_server,
        span.price_high * unit - drawn_link,
    )
    margin = 1e-6  # a clock at its bound must stand there in spite of rounding
    x_low = math.log(low) - margin if low > 0.0 else -END
    x_high = math.log(high) + margin if high > 0.0 else -END
    return max(x_low, -END), max(-END, min(x_high, END))
