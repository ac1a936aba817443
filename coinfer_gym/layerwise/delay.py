"""Delay calculator and energy calculator of Mu et al. (eqs. 1-6), compiled.

A *row* of designs is ``[cut, retained ratio of each group, compression, power in W, device's clock in Hz]``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coinfer_gym import physics
from coinfer_gym._compile import kernel
from coinfer_gym.layerwise.network import kept_channels
from coinfer_gym.records import record_type

__all__ = ["HARDWARE", "HARDWARE_NAMES", "OUTCOME_NAMES", "calculate", "calculate_rows", "loads", "sent_channels"]

HARDWARE_NAMES = (
    "flops_per_cycle_device",
    "flops_per_cycle_server",
    "frequency_device_min",
    "frequency_device_max",
    "frequency_server",
    "pue_device",
    "pue_server",
    "kappa_device",
    "kappa_server",
    "bandwidth",
    "noise_density",
    "power_min",
    "power_max",
    "input_value_bits",
    "feature_value_bits",
    "retained_min",
)
HARDWARE = record_type(*HARDWARE_NAMES)
"""Constants of device, server and link, in SI units; names and units of `coinfer_gym.layerwise.scenario`."""

OUTCOME_NAMES = (
    "delay_device",
    "delay_upload",
    "delay_server",
    "energy_device",
    "energy_upload",
    "energy_server",
    "sent_values",
)
"""What `calculate` returns: seconds, joules, and the values that are sent."""


@kernel
def sent_channels(compression: float, kept: float) -> float:
    """Channels of a feature that the encoder sends of those kept: the nearest whole number, and 1 at least."""
    return max(1.0, math.floor(compression * kept + 0.5))


@kernel
def write_widths(groups: Any, designs: NDArray[np.float64], i: int, widths: NDArray[np.float64]) -> None:
    """Write the constant 1 and the channels that each group keeps to row `i` of `widths`."""
    widths[i, 0] = 1.0
    for g in range(groups.shape[0]):
        widths[i, g + 1] = kept_channels(designs[i, g + 1], groups[g].channels, groups[g].step)


@kernel
def codec_flops(kept: float, sent: float, area: float, vector: int) -> tuple[float, float]:
    """FLOPs of an encoder and its decoder by Table I: convolutions of 1 x 1, or fully connected layers, and a ReLU.

    Mu et al. leave them out as negligible; beside a strongly pruned network they are not.
    """
    if vector:
        return (2.0 * kept - 1.0) * sent, (2.0 * sent - 1.0) * kept + kept
    return 2.0 * area * (kept + 1.0) * sent, 2.0 * area * (sent + 1.0) * kept + area * kept


@kernel
def loads(
    network: Any, hardware: Any, widths: NDArray[np.float64], i: int, c: int, sent: float
) -> tuple[float, float, float, float]:
    """FLOPs of device and server, values and bits that are sent, by cut and channels.

    Parameters
    ----------
    network : NetworkTables
    hardware : ndarray of `HARDWARE`, shape (1,)
    widths : ndarray, shape (n, G + 1)
        Row `i` is that of `write_widths`.
    i : int
    c : int
        The cut.
    sent : float
        Channels that are sent; as many as are kept where there is no codec. The first and the last cut have none.
    """
    _, pairs, prefix, cuts = network
    h = hardware[0]
    last = cuts.shape[0] - 1
    on_device, in_all = 0.0, 0.0
    for p in range(pairs.shape[0]):
        product = widths[i, pairs[p, 0]] * widths[i, pairs[p, 1]]
        on_device += prefix[c, p] * product
        in_all += prefix[last, p] * product
    on_server = in_all - on_device if c < last else 0.0
    cut = cuts[c]
    kept = widths[i, cut.group]
    values = cut.area * kept
    bits = values * h.input_value_bits
    if 0 < c < last:
        if sent < kept:
            encoder, decoder = codec_flops(kept, sent, cut.area, cut.vector)
            on_device += encoder
            on_server += decoder
            values = cut.area * sent
        bits = values * h.feature_value_bits
    return on_device, on_server, values, bits


@kernel
def calculate(
    network: Any, hardware: Any, designs: NDArray[np.float64], i: int, widths: NDArray[np.float64], gain: float
) -> tuple[float, float, float, float, float, float, float]:
    """Delays and energies of the design in row `i` (eqs. 2-6), in the order of `OUTCOME_NAMES`.

    Parameters
    ----------
    network : NetworkTables
    hardware : ndarray of `HARDWARE`, shape (1,)
    designs : ndarray, shape (n, G + 4)
    i : int
    widths : ndarray, shape (n, G + 1)
        Row `i` is overwritten.
    gain : float
        Channel power gain.
    """
    groups, _, _, cuts = network
    h = hardware[0]
    write_widths(groups, designs, i, widths)
    columns = designs.shape[1]
    c, power, frequency = int(designs[i, 0]), designs[i, columns - 2], designs[i, columns - 1]
    sent = sent_channels(designs[i, columns - 3], widths[i, cuts[c].group])
    on_device, on_server, values, bits = loads(network, hardware, widths, i, c, sent)
    t_device = physics.compute_delay(1.0, on_device, frequency, h.flops_per_cycle_device)
    t_server = physics.compute_delay(1.0, on_server, h.frequency_server, h.flops_per_cycle_server)
    e_device = physics.compute_energy(1.0, on_device, frequency, h.flops_per_cycle_device, h.pue_device, h.kappa_device)
    e_server = physics.compute_energy(
        1.0, on_server, h.frequency_server, h.flops_per_cycle_server, h.pue_server, h.kappa_server
    )
    t_upload, e_upload = 0.0, 0.0
    if bits > 0.0:
        rate = physics.transmission_rate(power, gain, h.bandwidth, h.noise_density)
        t_upload = physics.upload_delay(bits, rate)
        e_upload = physics.upload_energy(power, t_upload)
    return t_device, t_upload, t_server, e_device, e_upload, e_server, values


@kernel
def calculate_rows(
    network: Any,
    hardware: Any,
    designs: NDArray[np.float64],
    gain: float,
    widths: NDArray[np.float64],
    outcomes: NDArray[np.float64],
) -> None:
    """Write `calculate` of every row to the rows of `outcomes`, shape (n, 7)."""
    for i in range(designs.shape[0]):
        row = calculate(network, hardware, designs, i, widths, gain)
        for k in range(7):
            outcomes[i, k] = row[k]
