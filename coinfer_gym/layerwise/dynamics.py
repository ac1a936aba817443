"""The step of Layerwise-v0, compiled: serve a task by a design of the network, and move the clock to the next one."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numba import prange
from numba.np.ufunc.parallel import get_thread_id
from numpy.typing import NDArray

from coinfer_gym._compile import inlined_kernel, kernel, parallel_kernel
from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.envs import process
from coinfer_gym.envs.process import OUTCOME_NAMES, SITUATION_NAMES, LaneArrays, first_nan
from coinfer_gym.envs.reward import reward
from coinfer_gym.layerwise import spaces
from coinfer_gym.layerwise.designs import FREQUENCY, POWER
from coinfer_gym.layerwise.network import Network, NetworkTables
from coinfer_gym.layerwise.predictor import write_features
from coinfer_gym.layerwise.problem import evaluate
from coinfer_gym.layerwise.scenario import LayerwiseScenario
from coinfer_gym.layerwise.trees import LeafMasks, TreeTables, predict_lane
from coinfer_gym.records import Records, record_type

AIMS = record_type("accuracy_min", "weight_accuracy")
"""The least accuracy, and the price of a shortfall."""

SCRATCH_STRIDE = 8
"""Rows between those of two threads: cores slow each other down where they write close together in memory."""

_DECISION_NAMES = ("compression", "sent_values", "accuracy", "cost_accuracy", "power_w", "frequency_device_hz")


class Scratch(NamedTuple):
    """Arrays that a step works in, one row per thread."""

    designs: NDArray[np.float64]
    features: NDArray[np.float64]
    ranks: NDArray[np.uint64]


class Model(NamedTuple):
    """Constants of a scenario as a step reads them, and its scratch arrays.

    `scale` has a record of `coinfer_gym.layerwise.spaces.SCALE` for each cut. `hardware` and `aims` are records of
    `coinfer_gym.layerwise.problem.HARDWARE` and `AIMS`, of shape (1,).
    """

    network: NetworkTables
    scale: Records
    hardware: Records
    aims: Records
    trees: TreeTables
    masks: LeafMasks
    scratch: Scratch


def info_names(network: Network) -> tuple[str, ...]:
    """Keys of ``info``, all float64: those of LAIM-v0, with another decision and accuracy.

    The decision is the cut, the share of channels that each group keeps and that is sent (the compression), the power
    and the clock. ``sent_values`` is
    the number of values sent, ``accuracy`` the predicted accuracy and ``cost_accuracy`` its relative shortfall.
    ``quality`` is the unused share of the delay budget. ``delivered`` and ``violated`` consider delay, energy and
    accuracy.
    """
    retained = (f"retained_{group.name}" for group in network.groups)
    return (*SITUATION_NAMES, "cut", *retained, *_DECISION_NAMES, *OUTCOME_NAMES)


def info_type(network: Network) -> np.dtype[np.void]:
    """Record of the numbers of `info_names`, in which the retained ratios are one field."""
    return record_type(*SITUATION_NAMES, "cut", ("retained", len(network.groups)), *_DECISION_NAMES, *OUTCOME_NAMES)


def build_model(scenario: LayerwiseScenario) -> Model:
    """Model of a scenario."""
    network, predictor = scenario.network, scenario.predictor
    aims = np.zeros(1, AIMS)
    aims["accuracy_min"], aims["weight_accuracy"] = scenario.accuracy_min, scenario.weight_accuracy
    threads: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # as many as there can ever be
    rows, groups, features = SCRATCH_STRIDE * threads, len(network.groups), len(predictor.features)
    scratch = Scratch(
        np.zeros((rows, groups + 4)),
        np.zeros((rows, features)),
        np.zeros((rows, features), np.uint64),
    )
    hardware = scenario.problem(1.0).hardware
    return Model(network.tables, scenario.action_scale, hardware, aims, predictor.tables, predictor.leaf_masks, scratch)


@inlined_kernel
def _serve(rules: Records, model: Model, lanes: LaneArrays, i: int, w: int) -> float:
    """Run the design in row `w`, write its results to the info, and return how long the device is occupied."""
    lane, r, info, scratch = lanes.state[i], rules[0], lanes.info[i], model.scratch
    designs, features, accuracy_min = scratch.designs, scratch.features, model.aims[0].accuracy_min
    gain = process.gain_at(lanes.gains, i, lane.clock, r.block_duration)
    t_device, tau, t_server, e_device, e_upload, e_server, values = evaluate(
        model.network, model.hardware, designs, w, gain
    )
    write_features(model.network, designs, w, 0.0, features)
    info.accuracy = predict_lane(model.trees, model.masks, features, w, scratch.ranks)
    info.cost_accuracy = max(0.0, 1.0 - (info.accuracy + BUDGET_TOLERANCE) / accuracy_min)
    groups = info.retained.shape[0]
    info.cut, info.compression, info.sent_values = designs[w, 0], features[w, groups + 1], values
    info.power_w, info.frequency_device_hz = designs[w, POWER], designs[w, FREQUENCY]
    for g in range(groups):
        info.retained[g] = features[w, g]
    finished, duration, pause = process.spend(
        lane, r, (t_device, tau, t_server), (e_device, e_upload, e_server), 0.0, 0.0, info
    )
    left = max(0.0, 1.0 - (lane.wait + duration) / lane.delay_budget) if finished else 0.0
    process.score_service(lane, finished, duration, left, info)
    info.cost += info.cost_accuracy
    if info.cost_accuracy > 0.0:
        info.delivered, info.violated = 0.0, 1.0
    occupied: float = duration + pause
    return occupied


def _step_lane(rules: Records, model: Model, lanes: LaneArrays, i: int, w: int) -> None:
    """Serve the task at the head of lane `i` by its action and move to the next; row `w` of the scratch is free."""
    r, info = rules[0], lanes.info[i]
    info.clipped = process.clip(lanes.actions, i)
    process.inform(lanes.state[i], info)
    spaces.decode(model.network, model.scale, model.hardware, lanes.actions, i, model.scratch.designs, w)
    duration = _serve(rules, model, lanes, i, w)
    process.advance(lanes, i, r, duration)
    lanes.rewards[i] = reward(info, r, model.aims[0].weight_accuracy, info.cost_accuracy)


step_lane = inlined_kernel(_step_lane)
_call_step_lane = kernel(_step_lane)  # inlined in a parallel loop, numba drops its writes to arrays of a named tuple


@kernel
def step_lanes(rules: Records, model: Model, lanes: LaneArrays) -> int:
    """Step every lane that is not skipped; returns -1, or the flat index of a NaN in the actions, nothing done."""
    bad = first_nan(lanes)
    if bad < 0:
        for i in range(lanes.actions.shape[0]):
            process.fetch_ahead(lanes, i + process.AHEAD, rules[0])
            if not lanes.skipped[i]:
                step_lane(rules, model, lanes, i, 0)
    return bad


def step_lanes_parallel(rules: Records, model: Model, lanes: LaneArrays) -> int:
    """`step_lanes` over all cores."""
    return _step_in_parallel(rules, *model, lanes)


@parallel_kernel
def _step_in_parallel(
    rules: Records,
    network: NetworkTables,  # the parts of the model, since numba's parallel loops take no nested tuples
    scale: Records,
    hardware: Records,
    aims: Records,
    trees: TreeTables,
    masks: LeafMasks,
    scratch: Scratch,
    lanes: LaneArrays,
) -> int:
    bad = first_nan(lanes)
    if bad < 0:
        for i in prange(lanes.actions.shape[0]):
            if not lanes.skipped[i]:
                w = SCRATCH_STRIDE * get_thread_id()  # type: ignore[no-untyped-call]
                model = Model(network, scale, hardware, aims, trees, masks, scratch)
                _call_step_lane(rules, model, lanes, i, w)
    return bad
