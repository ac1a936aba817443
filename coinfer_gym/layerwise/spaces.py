"""What an agent does in Layerwise-v0: its actions, and their translation from and to SI units."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import inlined_kernel, merged_kernel
from coinfer_gym.envs.interval import between, clock_of, component, component_of_clock, component_of_cut, cut_of
from coinfer_gym.layerwise.designs import COMPRESSION, FREQUENCY, POWER, round_design
from coinfer_gym.layerwise.network import Network, NetworkTables
from coinfer_gym.layerwise.problem import LayerwiseDecision
from coinfer_gym.records import Records

UNCOMPRESSED_FROM = 0.75
"""From this value of the component of the compression on there is no codec."""


def action_names(network: Network) -> tuple[str, ...]:
    """Components of an action, each in [-1, 1]."""
    return ("cut", *(f"retained_{group.name}" for group in network.groups), "compression", "power", "frequency_device")


@inlined_kernel
def ratio_of(action: float, least: float) -> float:
    """Retained ratio of a component of an action, 1 less a cube: most of the scale prunes little, as accuracy asks."""
    left = 0.5 * (1.0 - action)
    return 1.0 - (1.0 - least) * left * left * left


def component_of_ratio(ratio: float, least: float) -> float:
    """The component that `ratio_of` turns into a ratio."""
    return 1.0 if least >= 1.0 else 1.0 - 2.0 * min(1.0, (1.0 - ratio) / (1.0 - least)) ** (1.0 / 3.0)


@inlined_kernel
def compression_of(action: float) -> float:
    """Compression of a component of an action, linear from 0 at -1 to 1 at `UNCOMPRESSED_FROM`, and 1 from there on."""
    return min(1.0, (action + 1.0) / (UNCOMPRESSED_FROM + 1.0))


@merged_kernel
def decode(
    network: NetworkTables,
    hardware: Records,
    actions: NDArray[np.float64],
    i: int,
    designs: NDArray[np.float64],
    w: int,
) -> None:
    """Write the design of row `i` of actions in [-1, 1] to row `w` of `designs`.

    A single group pruned far costs more accuracy than there is to lose, so a middle action prunes every group a little.
    At least one channel is sent.
    """
    h = hardware[0]
    designs[w, 0] = cut_of(actions[i, 0], network.cuts.shape[0])
    for g in range(1, actions.shape[1] - 3):
        designs[w, g] = ratio_of(actions[i, g], h.retained_min)
    designs[w, COMPRESSION] = compression_of(actions[i, COMPRESSION])
    designs[w, POWER] = between(actions[i, POWER], h.power_min, h.power_max)
    designs[w, FREQUENCY] = clock_of(actions[i, FREQUENCY], h.frequency_device_min, h.frequency_device_max)
    round_design(network, designs, w)


def encode(hardware: Records, cuts: int, decision: LayerwiseDecision) -> NDArray[np.float32]:
    """Action that `decode` turns into `decision`, up to the rounding of float32; the power is clipped.

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
    compression = -1.0 + (UNCOMPRESSED_FROM + 1.0) * decision.compression if decision.compression < 1.0 else 1.0
    return np.array(
        [
            component_of_cut(decision.cut, cuts),
            *(component_of_ratio(retained, h.retained_min) for retained in decision.retained),
            compression,
            component(decision.power, h.power_min, h.power_max),
            component_of_clock(decision.frequency, h.frequency_device_min, h.frequency_device_max),
        ],
        np.float32,
    )
