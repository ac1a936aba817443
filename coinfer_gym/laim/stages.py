"""Delay and energy of the three stages of a task: device, link and server, as the step and the exact optimum see them.

The terms that Lyu et al. leave out (static power, the memory's bandwidth, circuits of the radio) are here, once.
"""

from __future__ import annotations

import math

from coinfer_gym import physics
from coinfer_gym._compile import kernel
from coinfer_gym.budgets import meets
from coinfer_gym.records import Record

__all__ = ["fits", "link_gain", "most_nats", "run_device", "run_server", "send"]


@kernel
def run_device(h: Record, cut: Record, share: float, frequency: float) -> tuple[float, float]:
    """Delay in s and energy in J of the device that runs a `share` of its FLOPs (eqs. 4 and 5, and static power).

    A clock that computes faster than the memory delivers the weights is slowed to the memory's pace.
    """
    clock, c = min(frequency, cut.frequency_device_fed), h.flops_per_cycle_device
    delay = physics.compute_delay(share, cut.flops_device, clock, c)
    dynamic = physics.compute_energy(share, cut.flops_device, clock, c, h.pue_device, h.kappa_device)
    return delay, dynamic + physics.energy_at(h.pue_device * h.static_power_device, delay)


@kernel
def run_server(h: Record, cut: Record, share: float, frequency: float) -> tuple[float, float]:
    """The same of the server (eqs. 8 and 9)."""
    clock, c = min(frequency, cut.frequency_server_fed), h.flops_per_cycle_server
    delay = physics.compute_delay(share, cut.flops_server, clock, c)
    dynamic = physics.compute_energy(share, cut.flops_server, clock, c, h.pue_server, h.kappa_server)
    return delay, dynamic + physics.energy_at(h.pue_server * h.static_power_server, delay)


@kernel
def send(h: Record, cut: Record, power: float, rate: float) -> tuple[float, float]:
    """Delay in s and energy in J of the upload at a power in W and a rate in bit/s (eqs. 6 and 7, and the circuits)."""
    delay = physics.upload_delay(cut.upload_bits, min(rate, h.rate_max))
    return delay, physics.energy_at(power / h.amplifier_efficiency + h.circuit_power, delay)


@kernel
def link_gain(h: Record, gain: float) -> float:
    """Gain that an ideal code would need for the same rate: the channel's over the SNR gap."""
    effective: float = gain / h.snr_gap
    return effective


@kernel
def most_nats(h: Record) -> float:
    """``ln(1 + SNR)`` at the highest rate of the link."""
    most: float = h.rate_max * math.log(2.0) / h.bandwidth
    return most


@kernel
def fits(cut: Record, retained_device: float, retained_server: float) -> bool:
    """Whether both memories hold what is retained."""
    return meets(retained_device, cut.retained_device_max) and meets(retained_server, cut.retained_server_max)
