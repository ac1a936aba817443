"""What a price of time buys: the clocks, power, delays and energies that suit it, whatever the cut and the ratios.

In durations instead of clocks and power P1 is convex (see docs/mathematics.md), so that its Lagrangian falls apart. Let
``theta`` be the price of a second in joules, the ratio of the multipliers of the two budgets. For a given ``theta``

- each clock minimises ``theta a/f + k a f^2`` with ``a = L/c`` cycles and ``k = eta kappa``: ``f^3 = theta / (2 k)``;
- the power minimises ``theta tau + e_tx``: with ``y = ln(1 + p g / (N0 B))`` it solves
  ``(y - 1) e^y + 1 = theta g / (N0 B)``.
"""

from __future__ import annotations

import math

from coinfer_gym._compile import kernel
from coinfer_gym.records import Record, Records

__all__ = [
    "END",
    "HUGE",
    "ROUNDING",
    "best_clock",
    "budget_residual",
    "clock_price",
    "controls_at",
    "costs_of",
    "delay_of",
    "energy_of",
    "price_at_budget",
    "spectral_response",
    "spectral_span",
]

HUGE = 1e40
"""Seconds that stand for never."""

END = 92.0
"""Logarithm of a price of time at which every clock and power stands at an end."""

ROUNDING = 1e-13
"""Relative excess of a budget that is rounding."""


@kernel
def best_clock(theta: float, coefficient: float, low: float, high: float) -> float:
    """Clock that minimises ``theta a/f + k a f^2``."""
    best: float = (theta / (2.0 * coefficient)) ** (1.0 / 3.0)
    return min(high, max(low, best))


@kernel
def clock_price(frequency: float, coefficient: float) -> float:
    """Price of time at which a clock is the best: the inverse of `best_clock` between its ends."""
    return 2.0 * coefficient * frequency**3


@kernel
def _spectral_price(y: float) -> float:
    """``(y - 1) e^y + 1``: price of time, in units of ``N0 B / g``, at which ``y = ln(1 + SNR)`` is the best."""
    if y < 1e-3:
        return y * y * (0.5 + y * (1.0 / 3.0 + y * 0.125))
    return y * math.exp(y) - math.expm1(y)


@kernel
def spectral_response(price: float) -> float:
    """Inverse of `_spectral_price`, by Halley's method from the leading terms at either end."""
    if price < 1.0:
        root = math.sqrt(2.0 * price)
        y = root / (1.0 + root / 3.0)
    else:
        y = 1.0 + math.log(price) * (1.0 - math.log(1.0 + math.log(price) / 2.0) / (1.0 + math.log(price)))
    for _ in range(30):
        slope = y * math.exp(y)
        newton = (_spectral_price(y) - price) / slope
        step = newton / (1.0 - 0.5 * newton * (1.0 + 1.0 / y))
        y -= step
        if abs(step) <= 1e-15 * y + 1e-9 * abs(newton) * abs(newton):
            break
        if abs(step) < 1e-5 * y:  # Halley triples the digits, so that the next step would be below rounding
            break
    return y


@kernel
def spectral_span(hardware: Records, gain: float) -> tuple[float, float, float, float]:
    """Ends of ``y = ln(1 + SNR)`` and the prices of time at which they are the best."""
    h = hardware[0]
    noise = h.noise_density * h.bandwidth / gain
    low, high = math.log1p(h.power_min / noise), math.log1p(h.power_max / noise)
    return low, high, _spectral_price(low), _spectral_price(high)


@kernel
def controls_at(
    theta: float, hardware: Records, gain: float, span: tuple[float, float, float, float]
) -> tuple[float, float, float]:
    """Best clocks in Hz and ``y = ln(1 + SNR)`` at a price of time; `span` is from `spectral_span`."""
    h = hardware[0]
    f_device = best_clock(theta, h.pue_device * h.kappa_device, h.frequency_device_min, h.frequency_device_max)
    f_server = best_clock(theta, h.pue_server * h.kappa_server, h.frequency_server_min, h.frequency_server_max)
    price = theta * gain / (h.noise_density * h.bandwidth)
    y_low, y_high, price_low, price_high = span
    if price >= price_high:
        y = y_high
    elif price <= price_low:
        y = y_low
    else:
        y = min(y_high, max(y_low, spectral_response(price)))
    return f_device, f_server, y


@kernel
def costs_of(
    hardware: Records, cut: Record, gain: float, controls: tuple[float, float, float]
) -> tuple[float, float, float, float, float, float]:
    """Per unit of ratio, seconds and joules of device and server, and seconds and joules of the upload."""
    h = hardware[0]
    f_device, f_server, y = controls
    time_device, energy_device, time_server, energy_server, tau, energy_upload = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if cut.flops_device > 0.0:
        cycles = cut.flops_device / h.flops_per_cycle_device
        time_device = cycles / f_device if f_device > 0.0 else HUGE
        energy_device = h.pue_device * h.kappa_device * cycles * f_device * f_device
    if cut.flops_server > 0.0:
        cycles = cut.flops_server / h.flops_per_cycle_server
        time_server = cycles / f_server if f_server > 0.0 else HUGE
        energy_server = h.pue_server * h.kappa_server * cycles * f_server * f_server
    if cut.upload_bits > 0.0:
        limit = cut.upload_bits * math.log(2.0) * h.noise_density / gain
        if y > 0.0:
            tau = cut.upload_bits * math.log(2.0) / (h.bandwidth * y)
            energy_upload = limit * math.expm1(y) / y
        else:
            tau, energy_upload = HUGE, limit
    return time_device, energy_device, time_server, energy_server, tau, energy_upload


@kernel
def delay_of(costs: tuple[float, float, float, float, float, float], rho_device: float, rho_server: float) -> float:
    """Delay in s of given ratios at the `costs` of `costs_of`."""
    return rho_device * costs[0] + rho_server * costs[2] + costs[4]


@kernel
def energy_of(costs: tuple[float, float, float, float, float, float], rho_device: float, rho_server: float) -> float:
    """Energy in J of given ratios at the `costs` of `costs_of`."""
    return rho_device * costs[1] + rho_server * costs[3] + costs[5]


@kernel
def budget_residual(
    theta: float,
    costs: tuple[float, float, float, float, float, float],
    rho_device: float,
    rho_server: float,
    delay_budget: float,
    energy_budget: float,
) -> float:
    """How far a knapsack's solution is beyond the delay budget, or short of the energy budget: the same at a tight one.

    Taken from the budget that weighs less at this price, where it isn't lost in rounding.
    """
    if theta * delay_budget <= energy_budget:
        excess = theta * (delay_of(costs, rho_device, rho_server) - delay_budget)
    else:
        excess = energy_budget - energy_of(costs, rho_device, rho_server)
    return excess / (theta * delay_budget + energy_budget)


@kernel
def price_at_budget(
    hardware: Records,
    cut: Record,
    gain: float,
    span: tuple[float, float, float, float],
    rho_device: float,
    rho_server: float,
    budget: float,
    of_time: bool,
) -> float:
    """Price of time at which given ratios just meet one budget: the delay (`of_time`) or the energy.

    The end of the range where the budget cannot be met or is met anywhere.
    """
    low, high = -END, END
    for _ in range(70):
        x = 0.5 * (low + high)
        costs = costs_of(hardware, cut, gain, controls_at(math.exp(x), hardware, gain, span))
        if of_time:
            too_slow = delay_of(costs, rho_device, rho_server) > budget
        else:
            too_slow = energy_of(costs, rho_device, rho_server) <= budget
        if too_slow:
            low = x
        else:
            high = x
    return math.exp(high) if of_time else math.exp(low)
