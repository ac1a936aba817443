"""The exact power and clock of a design: the fastest ones that an energy budget allows.

In the times of device and upload both energies are convex and falling, so one price of a second settles power and clock
(see `coinfer_gym.pricing`); the search is for the price at which the budget is just spent.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from coinfer_gym import physics
from coinfer_gym._compile import kernel
from coinfer_gym.bracket import Bracket, narrow, secant
from coinfer_gym.layerwise.designs import FREQUENCY, POWER
from coinfer_gym.layerwise.network import NetworkTables
from coinfer_gym.layerwise.problem import cost_device, cost_server, cost_upload, load_of
from coinfer_gym.pricing import ROUNDING, best_clock, best_nats, clock_price, spectral_span
from coinfer_gym.records import Record, Records


@kernel
def _spend(h: Record, gain: float, flops: float, bits: float, power: float, frequency: float) -> tuple[float, float]:
    """Delay and energy of device and upload together."""
    delay, energy = cost_device(h, flops, frequency)
    tau, energy_upload = cost_upload(h, gain, bits, power)
    return delay + tau, energy + energy_upload


@kernel
def _power_within(hardware: Records, gain: float, flops: float, bits: float, energy: float) -> float:
    """Best power within an energy budget that the least power and clock meet and the largest do not.

    Searches the logarithm of the price of a second, by turns of the Illinois method and bisection.
    """
    h = hardware[0]
    coefficient, f_low, f_high = h.pue_device * h.kappa_device, h.frequency_device_min, h.frequency_device_max
    least, most = float(h.power_min), float(h.power_max)
    noise = h.noise_density * h.bandwidth / gain
    span = spectral_span(noise, least, most, math.inf)
    # Between these prices power and clock go from their least to their largest values.
    low, high = math.log(noise * span.price_low), math.log(noise * span.price_high)
    if flops > 0.0:
        low = min(low, math.log(clock_price(f_low, coefficient)))
        high = max(high, math.log(clock_price(f_high, coefficient)))
    power, bracket = least, Bracket(low, high, 0.0, 0.0, 0)
    for step in range(200):
        x = 0.5 * (bracket.low + bracket.high)
        if bracket.gap_high < 0.0 < bracket.gap_low and step % 3:
            x = secant(bracket)
        if not bracket.low < x < bracket.high or bracket.high - bracket.low <= 4e-15 * (1.0 + abs(x)):
            break
        theta = math.exp(x)
        trial = min(
            most, max(least, physics.power_at(best_nats(theta / noise, span), gain, h.bandwidth, h.noise_density))
        )
        clock = best_clock(theta, coefficient, f_low, f_high)
        left = energy - _spend(h, gain, flops, bits, trial, clock)[1]
        if left >= 0.0:
            power = trial
        if left == 0.0:
            break
        bracket = narrow(bracket, x, left)
    return power


@kernel
def fastest(hardware: Records, gain: float, flops: float, bits: float, energy: float) -> tuple[float, float, float]:
    """Least delay of device and upload within an energy budget for both: delay in s, power in W and clock in Hz.

    Power and clock lie between their limits. If even their least values exceed the budget, the delay is infinite and
    these values are returned. A value without effect (the clock if there is nothing to compute) is the largest.

    Parameters
    ----------
    hardware : ndarray of `coinfer_gym.layerwise.problem.HARDWARE`, shape (1,)
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
    delay, spent = _spend(h, gain, flops, bits, h.power_max, f_high)
    if spent <= energy or delay == math.inf:
        return delay, float(h.power_max), f_high
    if _spend(h, gain, flops, bits, h.power_min, f_low)[1] > energy * (1.0 + ROUNDING):
        return math.inf, float(h.power_min), f_low
    power, frequency = float(h.power_max), f_high
    if bits > 0.0:
        power = _power_within(hardware, gain, flops, bits, energy)
    if flops > 0.0:
        # At this power the clock may spend what is left, to the last digit.
        left = energy - cost_upload(h, gain, bits, power)[1]
        full = physics.compute_energy(1.0, flops, 1.0, h.flops_per_cycle_device, h.pue_device, h.kappa_device)
        frequency = min(f_high, max(f_low, math.sqrt(max(0.0, left) / full)))
    return _spend(h, gain, flops, bits, power, frequency)[0], power, frequency


@kernel
def fastest_load(
    network: NetworkTables, hardware: Records, gain: float, energy_budget: float, designs: NDArray[np.float64], i: int
) -> tuple[float, float, float]:
    """Least delay of the design in row `i` within its energy budget, and the power and clock for it."""
    load = load_of(network, hardware, designs, i)
    delay_server, energy_server = cost_server(hardware[0], load.flops_server)
    delay, power, frequency = fastest(hardware, gain, load.flops_device, load.bits, energy_budget - energy_server)
    return delay_server + delay, power, frequency


@kernel
def fill_rows(
    network: NetworkTables, hardware: Records, gain: float, energy_budget: float, designs: NDArray[np.float64]
) -> None:
    """Write the best power and clock to every row of designs."""
    for i in range(designs.shape[0]):
        _, power, frequency = fastest_load(network, hardware, gain, energy_budget, designs, i)
        designs[i, POWER], designs[i, FREQUENCY] = power, frequency
