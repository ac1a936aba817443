"""The step of Layerwise-v0, compiled: serve a task by a cut, retained ratios and a compression, and move on."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange
from numba.np.ufunc.parallel import get_thread_id
from numpy.typing import NDArray

from coinfer_gym._compile import inlined_kernel, kernel, parallel_kernel
from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.envs import process
from coinfer_gym.envs.interval import between, component, component_of_cut, cut_of, power_of
from coinfer_gym.envs.process import OUTCOME_NAMES, SITUATION_NAMES, LaneArrays, first_nan
from coinfer_gym.envs.reward import reward
from coinfer_gym.layerwise.delay import calculate
from coinfer_gym.layerwise.network import Network, NetworkTables
from coinfer_gym.layerwise.predictor import write_features

LEAST_COMPRESSION = 1.0 / 1024.0
"""Compression at the lower end of its component of an action."""
UNCOMPRESSED_FROM = 0.75
"""Component of an action from which on there is no codec."""

AIMS = record_type("accuracy_min", "weight_accuracy")
"""What is asked of the accuracy, and what a shortfall costs."""

WORK_STRIDE = 8
"""Rows between those in which two threads work: what is next to each other in memory, they would fight over."""

_RETAINED = len(SITUATION_NAMES) + 1  # column of the first retained ratio in the infos


class Room(NamedTuple):
    """Arrays that a step works in, a row for each thread."""

    designs: NDArray[np.float64]
    widths: NDArray[np.float64]
    features: NDArray[np.float64]
    ranks: NDArray[np.uint64]


class Model(NamedTuple):
    """What a decision yields is computed from; `hardware` and `aims` are records, the trees stand in both forms."""

    network: NetworkTables
    hardware: Records
    aims: Records
    trees: TreeTables
    masks: LeafMasks
    room: Room


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


def build_model(scenario: LayerwiseScenario) -> Model:
    """What compiled steps read of a scenario, and where they work."""
    network, predictor = scenario.network, scenario.predictor
    aims = np.zeros(1, AIMS)
    aims["accuracy_min"], aims["weight_accuracy"] = scenario.accuracy_min, scenario.weight_accuracy
    threads: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # as many as there can ever be
    rows, groups, features = WORK_STRIDE * threads, len(network.groups), len(predictor.features)
    room = Room(
        np.zeros((rows, groups + 4)),
        np.zeros((rows, groups + 1)),
        np.zeros((rows, features)),
        np.zeros((rows, features), np.uint64),
    )
    return Model(network.tables, scenario.problem(1.0).hardware, aims, predictor.tables, predictor.leaf_masks, room)


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


@kernel  # not inlined: numba drops writes to arrays of a named tuple inside a parallel loop
def step_lane(
    rules: Records,
    model: Model,
    lanes: LaneArrays,
    i: int,
    w: int,
    actions: NDArray[np.float64],
    rewards: NDArray[np.float64],
    ends: NDArray[np.bool_],
) -> None:
    """Decide the task at the head of lane `i` by an action, pay for it and move on; row `w` of the room is free."""
    network, hardware, aims, room = model.network, model.hardware, model.aims[0], model.room
    designs, features = room.designs, room.features
    lane, r, info = lanes.state[i], rules[0], lanes.info[i]
    info.clipped = process.clip(actions, i)
    process.inform(lane, info)
    decode(hardware, network.cuts.shape[0], actions, i, r.log_power_ratio, designs, w)
    gain = process.gain_at(lanes.gains, i, lane.clock, r.block_duration)
    t_device, tau, t_server, e_device, e_upload, e_server, values = calculate(
        network, hardware, designs, w, room.widths, gain
    )
    write_features(designs, w, values, 0.0, features)
    info.accuracy = predict_lane(model.trees, model.masks, features, w, room.ranks)
    info.cost_accuracy = max(0.0, 1.0 - (info.accuracy + BUDGET_TOLERANCE) / aims.accuracy_min)
    last = designs.shape[1] - 1
    info.cut, info.compression, info.sent_values = designs[w, 0], designs[w, last - 2], values
    info.power_w, info.frequency_device_hz = designs[w, last - 1], designs[w, last]
    for g in range(1, last - 2):
        lanes.infos[i, _RETAINED + g - 1] = designs[w, g]
    delays, energies = (t_device, tau, t_server), (e_device, e_upload, e_server)
    finished, duration, pause = process.spend(lane, r, delays, energies, info)
    left = max(0.0, 1.0 - (lane.wait + duration) / lane.delay_budget) if finished else 0.0
    process.score_service(lane, finished, duration, left, info)
    if info.cost_accuracy > 0.0:
        info.delivered, info.violated = 0.0, 1.0
    ends[i] = process.advance(lanes, i, r, duration + pause)
    rewards[i] = reward(info, r, aims.weight_accuracy, info.cost_accuracy)


@kernel
def step_lanes(
    rules: Records,
    model: Model,
    lanes: LaneArrays,
    skipped: NDArray[np.bool_],
    actions: NDArray[np.float64],
    rewards: NDArray[np.float64],
    ends: NDArray[np.bool_],
) -> int:
    """Step every lane that is not `skipped`; returns -1, or the flat index of a NaN in `actions`, nothing done."""
    bad = first_nan(actions, skipped)
    if bad >= 0:
        return bad
    for i in range(actions.shape[0]):
        if not skipped[i]:
            step_lane(rules, model, lanes, i, 0, actions, rewards, ends)
    return -1


def step_lanes_parallel(rules: Records, model: Model, *others: Any) -> int:
    """`step_lanes` over all cores."""
    return _step_in_parallel(rules, *model, *others)


@parallel_kernel
def _step_in_parallel(
    rules: Records,
    network: NetworkTables,  # the parts of the model, since numba's parallel loops take no nested tuples
    hardware: Records,
    aims: Records,
    trees: TreeTables,
    masks: LeafMasks,
    room: Room,
    lanes: LaneArrays,
    skipped: NDArray[np.bool_],
    actions: NDArray[np.float64],
    rewards: NDArray[np.float64],
    ends: NDArray[np.bool_],
) -> int:
    bad = first_nan(actions, skipped)
    if bad >= 0:
        return bad
    for i in prange(actions.shape[0]):
        if not skipped[i]:
            w = WORK_STRIDE * get_thread_id()  # type: ignore[no-untyped-call]
            model = Model(network, hardware, aims, trees, masks, room)
            step_lane(rules, model, lanes, i, w, actions, rewards, ends)
    return -1
