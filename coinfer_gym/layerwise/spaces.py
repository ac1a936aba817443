"""What an agent does in Layerwise-v0: its actions, and their translation from and to SI units."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import inlined_kernel, merged_kernel
from coinfer_gym.envs.interval import between, clock_of, component, component_of_clock
from coinfer_gym.layerwise.designs import COMPRESSION, FREQUENCY, POWER, SENT, round_design
from coinfer_gym.layerwise.network import Network, NetworkTables
from coinfer_gym.layerwise.problem import LayerwiseDecision, LayerwiseProblem
from coinfer_gym.records import Records, record_type

ACCURATE = -0.25
"""At this value of the component of the compression the encoder sends as little as the accuracy allows."""

UNCOMPRESSED = 0.75
"""From this value on there is no encoder."""

SCALE = record_type("cut", "middle", "end", "least_share")
"""A cut on the scale of actions: its number, the middle and the upper end of its bin, and the least share of its
channels that can be sent at the least accuracy, nothing being pruned."""


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
    return 1.0 if least >= 1.0 else 1.0 - 2.0 * math.cbrt(min(1.0, (1.0 - ratio) / (1.0 - least)))


@inlined_kernel
def compression_of(action: float, least: float) -> float:
    """Compression of a component of an action: 0 at -1, `least` at `ACCURATE`, 1 from `UNCOMPRESSED` on.

    It is flat around `least`, where the best compressions are: a little less costs the accuracy, and with a linear
    scale an agent that explores keeps far away from it.
    """
    if action < ACCURATE:
        fall = (ACCURATE - action) / (ACCURATE + 1.0)
        return least * (1.0 - fall * fall * fall)
    rise = min(1.0, (action - ACCURATE) / (UNCOMPRESSED - ACCURATE))
    return least + (1.0 - least) * rise * rise * rise


def component_of_compression(compression: float, least: float) -> float:
    """The component that `compression_of` turns into a compression."""
    if compression >= 1.0:
        return 1.0
    if compression < least:
        return ACCURATE - (ACCURATE + 1.0) * math.cbrt(1.0 - compression / least)
    return ACCURATE + (UNCOMPRESSED - ACCURATE) * math.cbrt((compression - least) / (1.0 - least))


@merged_kernel
def decode(
    network: NetworkTables,
    scale: Records,
    hardware: Records,
    actions: NDArray[np.float64],
    i: int,
    designs: NDArray[np.float64],
    w: int,
) -> None:
    """Write the design of row `i` of actions in [-1, 1] to row `w` of `designs`; `scale` is of `build_scale`.

    A single group pruned far costs more accuracy than there is to lose, so a middle action prunes every group a little.
    At least one channel is sent.
    """
    h = hardware[0]
    rank = 0
    while rank < scale.shape[0] - 1 and actions[i, 0] >= scale[rank].end:
        rank += 1
    designs[w, 0] = scale[rank].cut
    for g in range(1, actions.shape[1] - 3):
        designs[w, g] = ratio_of(actions[i, g], h.retained_min)
    designs[w, COMPRESSION] = compression_of(actions[i, COMPRESSION], scale[rank].least_share)
    designs[w, POWER] = between(actions[i, POWER], h.power_min, h.power_max)
    designs[w, FREQUENCY] = clock_of(actions[i, FREQUENCY], h.frequency_device_min, h.frequency_device_max)
    round_design(network, designs, w)


def build_scale(problem: LayerwiseProblem) -> Records:
    """Cuts on the scale of actions, array of `SCALE`, shape (N + 1,).

    They are in the order of the delay of a task whose other components are 0, the fastest first, and the k-th has a bin
    as wide as 1/k. In the order of the network the good cuts, those right after a pooling, lie between bad ones, where
    no agent finds them.

    Parameters
    ----------
    problem : LayerwiseProblem
        At the mean gain.
    """
    network, count = problem.network, problem.network.cuts
    scale = np.zeros(count, SCALE)
    widths = 1.0 / np.arange(1.0, count + 1.0)
    scale["end"] = 2.0 * np.cumsum(widths) / widths.sum() - 1.0
    scale["middle"] = scale["end"] - widths / widths.sum()
    scale["cut"], scale["least_share"] = np.arange(count), [_least_share(problem, cut) for cut in range(count)]
    actions = np.zeros((count, len(network.groups) + 4))
    actions[:, 0] = scale["middle"]
    designs = np.empty_like(actions)
    for i in range(count):
        decode(network.tables, scale, problem.hardware, actions, i, designs, i)
    order = np.argsort(problem.evaluate(designs).delay, kind="stable")
    for name in ("cut", "least_share"):
        scale[name] = scale[name][order]
    return scale


def _least_share(problem: LayerwiseProblem, cut: int) -> float:
    """Least share of the channels before a cut that can be sent at the least accuracy, nothing being pruned."""
    tables = problem.network.tables
    group, channels = tables.cuts["group"][cut], tables.groups["channels"]
    count = int(channels[group - 1]) if group > 0 else 1
    designs = np.empty((count, len(channels) + 4))
    designs[:, 0], designs[:, 1:SENT], designs[:, SENT] = cut, channels, np.arange(1, count + 1)
    designs[:, POWER], designs[:, FREQUENCY] = problem.power_max, problem.frequency_device_max
    accurate = problem.evaluate(designs).accuracy >= problem.accuracy_min
    accurate[-1] = True  # without an encoder, whatever a predictor says
    return float(np.argmax(accurate) + 1) / count


def encode(hardware: Records, scale: Records, decision: LayerwiseDecision) -> NDArray[np.float32]:
    """Action that `decode` turns into `decision`, up to the rounding of float32; the power is clipped.

    Parameters
    ----------
    hardware : ndarray of `coinfer_gym.layerwise.problem.HARDWARE`, shape (1,)
    scale : ndarray of `SCALE`, shape (N + 1,)
        See `build_scale`.
    decision : LayerwiseDecision

    Returns
    -------
    ndarray of float32, shape (G + 4,)
        In the order of `action_names`.
    """
    h, (bin_of_cut,) = hardware[0], scale[scale["cut"] == decision.cut]
    return np.array(
        [
            bin_of_cut.middle,
            *(component_of_ratio(retained, h.retained_min) for retained in decision.retained),
            component_of_compression(decision.compression, bin_of_cut.least_share),
            component(decision.power, h.power_min, h.power_max),
            component_of_clock(decision.frequency, h.frequency_device_min, h.frequency_device_max),
        ],
        np.float32,
    )
