"""The step of Layerwise-v0, compiled: serve a task by a cut, retained ratios and a compression, and move on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange
from numba.np.ufunc.parallel import get_thread_id
from numpy.typing import NDArray

from coinfer_gym._compile import inlined_kernel, kernel, parallel_kernel
from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.envs import process
from coinfer_gym.envs.interval import between, component, component_of_cut, cut_of, power_of
from coinfer_gym.envs.process import OUTCOME_NAMES, SHARED, SITUATION_NAMES, first_nan
from coinfer_gym.layerwise.delay import calculate
from coinfer_gym.layerwise.network import Network
from coinfer_gym.layerwise.predictor import LeafMasks, TreeTables, predict_lane, write_features
from coinfer_gym.layerwise.problem import LayerwiseDecision
from coinfer_gym.layerwise.scenario import LayerwiseScenario

LEAST_COMPRESSION = 1.0 / 1024.0
"""Compression at the lower end of its component of an action."""
UNCOMPRESSED_FROM = 0.75
"""Component of an action from which on there is no codec."""

AIMS = np.dtype([("accuracy_min", np.float64), ("weight_accuracy", np.float64)])
"""What is asked of the accuracy, and what a shortfall costs."""

WORK_STRIDE = 8
"""Rows between those in which two threads work: what is next to each other in memory, they would fight over."""

_NETWORK = slice(SHARED, SHARED + 4)
_HARDWARE, _AIMS = SHARED + 4, SHARED + 5
_TREES = slice(SHARED + 6, SHARED + 6 + len(TreeTables._fields))
_MASKS = slice(_TREES.stop, _TREES.stop + len(LeafMasks._fields))
_RETAINED = len(SITUATION_NAMES) + 1  # column of the first retained ratio in the infos


def action_names(network: Network) -> tuple[str, ...]:
    """Components of an action, each in [-1, 1]."""
    return ("cut", *(f"retained_{group.name}" for group in network.groups), "compression", "power", "frequency_device")


def info_names(network: Network) -> tuple[str, ...]:
    """Keys of ``info``, all floats.

    As in LAIM-v0, but that the decision is a cut, a retained ratio for each group and a compression, that ``accuracy``
    is what is predicted of it and ``cost_accuracy`` its relative shortfall, that ``quality`` is the share of the delay
    budget which the task has left, and that ``delivered`` and ``violated`` speak of all three limits.
    """
    retained = (f"retained_{group.name}" for group in network.groups)
    decision = ("cut", *retained, "compression", "sent_values", "accuracy", "cost_accuracy")
    return (*SITUATION_NAMES, *decision, "power_w", "frequency_device_hz", *OUTCOME_NAMES)


def build_constants(scenario: LayerwiseScenario) -> process.Constants:
    """Constants of a scenario for compiled code; its model is network, hardware, aims, and trees in both forms."""
    problem = scenario.problem(1.0)
    aims = np.zeros(1, AIMS)
    aims["accuracy_min"], aims["weight_accuracy"] = scenario.accuracy_min, scenario.weight_accuracy
    trees = (*scenario.predictor.tables, *scenario.predictor.leaf_masks)
    model: tuple[Any, ...] = (*scenario.network.tables, problem.hardware, aims, *trees)
    return process.build_constants(scenario, model)


def encode(hardware: NDArray[np.void], cuts: int, decision: LayerwiseDecision) -> NDArray[np.float32]:
    """Action that makes a decision, up to the rounding of float32; idle and too small components are clipped.

    Parameters
    ----------
    hardware : ndarray of `coinfer_gym.layerwise.delay.HARDWARE`, shape (1,)
    cuts : int
        Number of cuts.
    decision : LayerwiseDecision

    Returns
    -------
    ndarray of float32, shape (G + 4,)
        In the order of `action_names`.
    """
    h = hardware[0]
    power = min(max(decision.power, h["power_min"]), h["power_max"])
    share = math.log(max(decision.compression, LEAST_COMPRESSION) / LEAST_COMPRESSION) / -math.log(LEAST_COMPRESSION)
    compression = -1.0 + (UNCOMPRESSED_FROM + 1.0) * share if decision.compression < 1.0 else 1.0
    return np.array(
        [
            component_of_cut(decision.cut, cuts),
            *(component(retained, h["retained_min"], 1.0) for retained in decision.retained),
            compression,
            component(math.log(power), math.log(h["power_min"]), math.log(h["power_max"])),
            component(decision.frequency, h["frequency_device_min"], h["frequency_device_max"]),
        ],
        np.float32,
    )


@inlined_kernel
def compression_of(action: float) -> float:
    """Compression of a component of an action, logarithmic below `UNCOMPRESSED_FROM`, and 1 from there on."""
    if action >= UNCOMPRESSED_FROM:
        return 1.0
    exponent: float = 1.0 - (action + 1.0) / (UNCOMPRESSED_FROM + 1.0)
    return math.exp(exponent * math.log(LEAST_COMPRESSION))


@kernel
def decode(
    hardware: Any,
    cuts: int,
    actions: NDArray[Any],
    i: int,
    log_power_ratio: float,
    designs: NDArray[np.float64],
    w: int,
) -> None:
    """Write the design of row `i` of actions in [-1, 1] to row `w` of `designs`, see `coinfer_gym.layerwise.delay`.

    The cut is one of equal bins; ratios and clock are linear between their bounds, the power is linear in dB.
    """
    h = hardware[0]
    last = actions.shape[1] - 1
    designs[w, 0] = cut_of(actions[i, 0], cuts)
    for g in range(1, last - 2):
        designs[w, g] = between(actions[i, g], h.retained_min, 1.0)
    designs[w, last - 2] = compression_of(actions[i, last - 2])
    designs[w, last - 1] = power_of(actions[i, last - 1], h.power_max, log_power_ratio)
    designs[w, last] = between(actions[i, last], h.frequency_device_min, h.frequency_device_max)


@inlined_kernel
def step_lane(
    constants: Any, lanes: Any, i: int, w: int, actions: Any, observation: Any, rewards: Any, ends: Any, info: Any
) -> None:
    """Decide the task at the head of lane `i` by an action and move to the next task; row `w` of the work is free."""
    network, hardware, aims = constants[_NETWORK], constants[_HARDWARE], constants[_AIMS][0]
    scale, state, gains = constants[1], lanes[0], lanes[2]
    designs, widths, features, rows, columns = lanes[4:]
    lane, r, row = state[i], constants[0][0], info[i]
    row.clipped = process.clip(actions, i)
    process.inform(lane, row)
    decode(hardware, network[3].shape[0], actions, i, r.log_power_ratio, designs, w)
    gain = process.gain_at(gains, i, lane.clock, r.block_duration)
    t_device, tau, t_server, e_device, e_upload, e_server, values = calculate(
        network, hardware, designs, w, widths, gain
    )
    write_features(designs, w, values, 0.0, features)
    row.accuracy = predict_lane(constants[_TREES], constants[_MASKS], features, w, rows)
    row.cost_accuracy = max(0.0, 1.0 - (row.accuracy + BUDGET_TOLERANCE) / aims.accuracy_min)
    last = designs.shape[1] - 1
    row.cut, row.compression, row.sent_values = designs[w, 0], designs[w, last - 2], values
    row.power_w, row.frequency_device_hz = designs[w, last - 1], designs[w, last]
    for g in range(1, last - 2):
        columns[i, _RETAINED + g - 1] = designs[w, g]
    delays, energies = (t_device, tau, t_server), (e_device, e_upload, e_server)
    finished, duration, pause = process.spend(lane, r, delays, energies, row)
    left = max(0.0, 1.0 - (lane.wait + duration) / lane.delay_budget) if finished else 0.0
    process.score_service(lane, finished, duration, left, row)
    if row.cost_accuracy > 0.0:
        row.delivered, row.violated = 0.0, 1.0
    process.advance(lane, lanes, i, duration + pause, r, scale, observation, rewards, ends, row)
    rewards[i] -= aims.weight_accuracy * row.cost_accuracy


@kernel
def step_lanes(
    constants: Any, lanes: Any, skipped: Any, actions: Any, observation: Any, rewards: Any, ends: Any, info: Any
) -> int:
    """Step every lane that is not `skipped`; returns -1, or the flat index of a NaN in `actions`, nothing done."""
    bad = first_nan(actions, skipped)
    if bad >= 0:
        return bad
    for i in range(actions.shape[0]):
        if not skipped[i]:
            step_lane(constants, lanes, i, 0, actions, observation, rewards, ends, info)
    return -1


@parallel_kernel
def step_lanes_parallel(
    constants: Any, lanes: Any, skipped: Any, actions: Any, observation: Any, rewards: Any, ends: Any, info: Any
) -> int:
    """`step_lanes` over all cores."""
    bad = first_nan(actions, skipped)
    if bad >= 0:
        return bad
    for i in prange(actions.shape[0]):
        if not skipped[i]:
            w = WORK_STRIDE * get_thread_id()  # type: ignore[no-untyped-call]
            step_lane(constants, lanes, i, w, actions, observation, rewards, ends, info)
    return -1
