"""What an agent does in Layerwise-v0: its actions, and their translation from and to SI units."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import inlined_kernel, kernel
from coinfer_gym.envs.interval import between, component, component_of_cut, cut_of, power_of
from coinfer_gym.layerwise.network import COMPRESSION, FREQUENCY, POWER, Network
from coinfer_gym.layerwise.problem import LayerwiseDecision
from coinfer_gym.records import Records

LEAST_COMPRESSION = 1.0 / 1024.0
"""Compression at the lower end of its component of an action."""

UNCOMPRESSED_FROM = 0.75
"""From this value of the component on there is no codec."""


def action_names(network: Network) -> tuple[str, ...]:
    """Components of an action, each in [-1, 1]."""
    return ("cut", *(f"retained_{group.name}" for group in network.groups), "compression", "power", "frequency_device")


@inlined_kernel
def compression_of(action: float) -> float:
    """Compression of a component of an action, linear up to 1 at `UNCOMPRESSED_FROM`, and 1 from there on."""
    return min(1.0, LEAST_COMPRESSION + (1.0 - LEAST_COMPRESSION) * (action + 1.0) / (UNCOMPRESSED_FROM + 1.0))


@kernel
def decode(
    hardware: Records,
    cuts: int,
    actions: NDArray[np.float64],
    i: int,
    log_power_ratio: float,
    designs: NDArray[np.float64],
    w: int,
) -> None:
    """Write the design of row `i` of actions in [-1, 1] to row `w` of `designs`.

    The cut is one of `cuts` equal bins; ratios and clock are linear between their bounds, the power is linear in dB,
    for which the caller keeps ``ln(P_min / P_max)``.
    """
    h = hardware[0]
    designs[w, 0] = cut_of(actions[i, 0], cuts)
    for g in range(1, actions.shape[1] - 3):
        designs[w, g] = between(actions[i, g], h.retained_min, 1.0)
    designs[w, COMPRESSION] = compression_of(actions[i, COMPRESSION])
    designs[w, POWER] = power_of(actions[i, POWER], h.power_max, log_power_ratio)
    designs[w, FREQUENCY] = between(actions[i, FREQUENCY], h.frequency_device_min, h.frequency_device_max)


def encode(hardware: Records, cuts: int, decision: LayerwiseDecision) -> NDArray[np.float32]:
    """Action that `decode` turns into `decision`, up to the rounding of float32; too small components are clipped.

    Parameters
    ----------
    hardware : ndarray of `coinfer_gym.layerwise.problem.HARDWARE`, shape (1,)
    cuts : int
        Number of cuts, ``N + 1``.
    decision : LayerwiseDecision

    Returns
    -------
    ndarray of float32, shape (G + 4,)
        In the order of `action_names`.
    """
    h = hardware[0]
    power = min(max(decision.power, h.power_min), h.power_max)
    share = max(0.0, decision.compression - LEAST_COMPRESSION) / (1.0 - LEAST_COMPRESSION)
    compression = -1.0 + (UNCOMPRESSED_FROM + 1.0) * share if decision.compression < 1.0 else 1.0
    return np.array(
        [
            component_of_cut(decision.cut, cuts),
            *(component(retained, h.retained_min, 1.0) for retained in decision.retained),
            compression,
            component(math.log(power), math.log(h.power_min), math.log(h.power_max)),
            component(decision.frequency, h.frequency_device_min, h.frequency_device_max),
        ],
        np.float32,
    )
