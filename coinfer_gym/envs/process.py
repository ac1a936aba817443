"""What the decision processes of all environments share, compiled: worlds, the queue, the battery and the clock.

A *lane* is one running episode. All arrays have one row per lane; the single environment is a batch of one lane, so
that there is no second implementation to agree with. An environment's step is its own: `inform`, `spend` what a
decision takes, `score_service` what it gave, and `advance` to the next task.

Compiled functions take as `constants` the tuple of `Constants.arrays`, and as `lanes` ``(state, arrivals, gains,
queue)`` and any arrays of the environment's own after these. Both tuples are flat: numba's parallel
loops take no nested ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from coinfer_gym._compile import inlined_kernel, kernel, parallel_kernel
from coinfer_gym.budgets import excess, meets
from coinfer_gym.envs import reward as rw
from coinfer_gym.envs.observation import OBSERVATION, budget_levels, write_observation
from coinfer_gym.scenario import WorldScenario
from coinfer_gym.world import (
    CSI,
    WorldTables,
    block_at,
    blocks_of_path,
    build_world_tables,
    draw_world,
    gain_db_range,
    normal_at,
    substream,
)

TINIEST = 5e-324
"""Smallest energy budget in J: an empty battery still has a problem."""

RULES = np.dtype(
    [
        ("one_at_a_time", np.int64),
        ("tasks", np.int64),
        *(
            (name, np.float64)
            for name in (
                "block_duration",
                "csi_delay",
                "csi_noise_db",
                "intensity_time",
                "patience",
                "battery_capacity",
                "battery_initial",
                "harvest_power",
                "weight_delay",
                "weight_energy",
                "weight_drop",
                "log_power_ratio",
            )
        ),
    ]
)
"""Constants of the decision process; names and units of `WorldScenario`. A capacity of infinity is mains power."""

STATE = np.dtype(
    [
        ("world_seed", np.uint64),
        ("clock", np.float64),
        ("gain_db", np.float64),
        ("wait", np.float64),
        ("delay_budget", np.float64),
        ("energy_budget", np.float64),
        ("delay_level", np.float64),
        ("energy_level", np.float64),
        ("battery", np.float64),
        ("intensity", np.float64),
        ("intensity_clock", np.float64),
        ("arrived", np.int64),
        ("served", np.int64),
        ("first", np.int64),
        ("waiting", np.int64),
    ]
)
"""State of a lane beside its world.

`wait` is the age of the task at hand, `gain_db` the true gain at the clock; `first` and `waiting` span the queue; the
two levels are the budgets as they are observed, kept because they hold for the whole episode.
"""

SITUATION_NAMES = (
    "time_s",
    "gain_db",
    "wait_s",
    "delay_budget_s",
    "energy_budget_j",
    "queue_length",
    "battery_j",
)
"""Keys of ``info`` that tell of the task that was decided; between these and `OUTCOME_NAMES` stand the decision's."""

OUTCOME_NAMES = (
    "delay_s",
    "delay_device_s",
    "delay_upload_s",
    "delay_server_s",
    "energy_j",
    "energy_device_j",
    "energy_upload_j",
    "energy_server_j",
    "quality",
    "delivered",
    "cost_delay",
    "cost_energy",
    "violated",
    "abandoned",
    "dropped",
    "clipped",
)
"""Keys of ``info`` that tell what became of it."""


SHARED = 6
"""Arrays of `Constants.arrays` that are not of the model; the first two are `rules` and `scale`."""


@dataclass(frozen=True)
class Constants:
    """Everything of a scenario that compiled code reads.

    Attributes
    ----------
    model : tuple of ndarray
        What a decision yields is computed from: the environment's own.
    world : WorldTables
    rules : ndarray of `RULES`, shape (1,)
    scale : ndarray of `coinfer_gym.envs.observation.OBSERVATION`, shape (1,)
    path_blocks, queue_capacity : int
        Sizes of a lane's channel path and queue.
    """

    model: tuple[NDArray[Any], ...]
    world: WorldTables
    rules: NDArray[np.void]
    scale: NDArray[np.void]
    path_blocks: int
    queue_capacity: int

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The constants as compiled functions take them: `SHARED` arrays for all environments, then the model's."""
        w = self.world
        world = (w.record, w.channel_trace_time, w.channel_trace_gain, w.arrival_trace)
        return (self.rules, self.scale, *world, *self.model)


def build_constants(scenario: WorldScenario, model: tuple[NDArray[Any], ...]) -> Constants:
    """Constants of a scenario for compiled code.

    Parameters
    ----------
    scenario : WorldScenario
    model : tuple of ndarray
        The environment's own constants.
    """
    world = build_world_tables(scenario)
    rules = np.zeros(1, RULES)
    for name in RULES.names or ():
        if name not in ("one_at_a_time", "battery_capacity", "log_power_ratio"):
            rules[name] = getattr(scenario, name)
    rules["log_power_ratio"] = math.log(scenario.power_min / scenario.power_max)
    rules["one_at_a_time"] = scenario.arrivals == "one_at_a_time"
    rules["battery_capacity"] = math.inf if scenario.battery_capacity is None else scenario.battery_capacity
    scale = np.zeros(1, OBSERVATION)
    scale["gain_db_low"], scale["gain_db_high"] = gain_db_range(scenario)
    scale["intensity_high"] = intensity_high(scenario, world)
    for name in ("delay", "energy"):
        nominal = getattr(scenario, f"{name}_budget")
        low, high = getattr(scenario, f"{name}_budget_range") or (nominal, nominal)
        scale[f"log_{name}_low"], scale[f"log_{name}_high"] = math.log(low), math.log(high)
    return Constants(model, world, rules, scale, blocks_of_path(scenario), scenario.queue_capacity)


def intensity_high(scenario: WorldScenario, world: WorldTables) -> float:
    """Arrival rate in 1/s at which its observed estimate ends: twice that of the time when most tasks come.

    Parameters
    ----------
    scenario : WorldScenario
    world : WorldTables
        Of the same scenario.
    """
    if scenario.arrivals == "trace":
        return 2.0 * float((len(world.arrival_trace) - 1) / (world.arrival_trace[-1] - world.arrival_trace[0]))
    burst_rate = scenario.burst_rate if scenario.arrivals == "mmpp" else 0.0
    return 2.0 * max(scenario.arrival_rate, burst_rate)


@inlined_kernel
def gain_at(gains: NDArray[np.float64], i: int, time: float, block_duration: float) -> float:
    """Gain of lane `i` in the coherence block at `time`."""
    gain: float = gains[i, block_at(time, block_duration, gains.shape[1])]
    return gain


@inlined_kernel
def observed_gain_db(lane: Any, gains: NDArray[np.float64], i: int, rules: Any) -> float:
    """Gain of lane `i` in dB as the agent sees it: old by the delay of the state information, with its noise."""
    gain_db: float = lane.gain_db
    if rules.csi_delay > 0.0:
        gain_db = 10.0 * math.log10(gain_at(gains, i, lane.clock - rules.csi_delay, rules.block_duration))
    if rules.csi_noise_db > 0.0:
        block = int(max(0.0, lane.clock - rules.csi_delay) / rules.block_duration)
        gain_db += rules.csi_noise_db * normal_at(substream(lane.world_seed, CSI), block)
    return gain_db


@kernel
def _charge(lane: Any, rules: Any, duration: float) -> None:
    """Harvest into the battery for `duration` seconds."""
    if rules.battery_capacity < math.inf:
        lane.battery = min(rules.battery_capacity, lane.battery + rules.harvest_power * duration)


@kernel
def _note_arrival(lane: Any, rules: Any, time: float) -> None:
    """Count an arrival into the estimate of the arrival rate, an exponentially forgetting counter."""
    lane.intensity *= math.exp((lane.intensity_clock - time) / rules.intensity_time)
    lane.intensity += 1.0 / rules.intensity_time
    lane.intensity_clock = time


@inlined_kernel
def _expire(lane: Any, queue: NDArray[np.float64], i: int, now: float) -> int:
    """Drop the waiting tasks whose deadline has passed; returns how many."""
    dropped = 0
    while lane.waiting > 0 and queue[i, lane.first] + lane.delay_budget <= now:
        lane.first = lane.first + 1 if lane.first + 1 < queue.shape[1] else 0
        lane.waiting -= 1
        dropped += 1
    return dropped


@inlined_kernel
def _admit(lane: Any, arrivals: NDArray[np.float64], queue: NDArray[np.float64], i: int, rules: Any) -> int:
    """Let the tasks that arrived until now into the queue; returns how many were lost, late or before a full queue."""
    dropped = 0
    while lane.arrived < rules.tasks and arrivals[i, lane.arrived] <= lane.clock:
        time = arrivals[i, lane.arrived]
        lane.arrived += 1
        _note_arrival(lane, rules, time)
        dropped += _expire(lane, queue, i, time)
        if lane.waiting == queue.shape[1]:
            dropped += 1
        else:
            place = lane.first + lane.waiting
            queue[i, place if place < queue.shape[1] else place - queue.shape[1]] = time
            lane.waiting += 1
    return dropped + _expire(lane, queue, i, lane.clock)


@inlined_kernel
def _next_task(
    lane: Any, arrivals: NDArray[np.float64], queue: NDArray[np.float64], i: int, rules: Any
) -> tuple[int, bool]:
    """Take the next task to the head, idling until it arrives: tasks lost meanwhile, and whether none is left.

    After the last task one more stands at the head, arrived but never decided, so that the last observation is one of
    the process going on and not of its end.
    """
    if rules.one_at_a_time:
        lane.wait = 0.0
        return 0, lane.served >= rules.tasks
    dropped = 0
    while True:
        dropped += _admit(lane, arrivals, queue, i, rules)
        if lane.waiting > 0:
            lane.wait = lane.clock - queue[i, lane.first]
            lane.first = lane.first + 1 if lane.first + 1 < queue.shape[1] else 0
            lane.waiting -= 1
            return dropped, False
        time = arrivals[i, lane.arrived]
        _charge(lane, rules, max(0.0, time - lane.clock))
        lane.clock = max(lane.clock, time)
        if lane.arrived == rules.tasks:
            _note_arrival(lane, rules, time)
            lane.wait = min(lane.clock - time, lane.delay_budget)
            return dropped, True
        # The device is idle: the task does not pass through the queue, whose places are for those that come with it.
        lane.arrived += 1
        _note_arrival(lane, rules, time)
        lane.wait = 0.0
        return dropped + _admit(lane, arrivals, queue, i, rules), False


@inlined_kernel
def _observe(
    lane: Any, gains: NDArray[np.float64], i: int, capacity: int, rules: Any, scale: Any, out: NDArray[np.float32]
) -> None:
    """Write the observation of the task at hand."""
    lane.gain_db = 10.0 * math.log10(gain_at(gains, i, lane.clock, rules.block_duration))
    intensity = 0.0
    if not rules.one_at_a_time:
        intensity = lane.intensity * math.exp((lane.intensity_clock - lane.clock) / rules.intensity_time)
    write_observation(
        scale,
        observed_gain_db(lane, gains, i, rules),
        lane.waiting / capacity,
        lane.wait / lane.delay_budget,
        intensity,
        lane.delay_level,
        lane.energy_level,
        lane.battery / rules.battery_capacity if rules.battery_capacity < math.inf else 1.0,
        out,
        i,
    )


@inlined_kernel
def inform(lane: Any, info: Any) -> None:
    """Write what is known of the task at hand before it is decided."""
    info.time_s = lane.clock
    info.gain_db = lane.gain_db
    info.wait_s = lane.wait
    info.delay_budget_s = lane.delay_budget - lane.wait
    info.energy_budget_j = lane.energy_budget
    info.queue_length = lane.waiting
    info.battery_j = lane.battery if lane.battery < math.inf else 0.0


@kernel
def reset_lane(constants: Any, lanes: Any, i: int, seed: Any, observation: Any, info: Any) -> None:
    """Draw the world of `seed` into lane `i` and bring its first task to the head; ``info[i]`` comes zeroed."""
    rules, scale, record, channel_time, channel_gain, arrival_trace = constants[:SHARED]
    state, arrivals, gains, queue = lanes[:4]
    lane, r = state[i], rules[0]
    lane.world_seed = seed
    budgets = draw_world(seed, record, channel_time, channel_gain, arrival_trace, arrivals[i], gains[i])
    lane.delay_budget, lane.energy_budget = budgets
    lane.delay_level, lane.energy_level = budget_levels(scale, lane.delay_budget, lane.energy_budget)
    lane.clock, lane.wait, lane.intensity, lane.intensity_clock = 0.0, 0.0, 0.0, 0.0
    lane.arrived, lane.served, lane.first, lane.waiting = 0, 0, 0, 0
    lane.battery = r.battery_initial * r.battery_capacity if r.battery_capacity < math.inf else math.inf
    dropped, _ = _next_task(lane, arrivals, queue, i, r)
    _observe(lane, gains, i, queue.shape[1], r, scale, observation)
    inform(lane, info[i])
    info[i].dropped = dropped


@kernel
def reset_lanes(constants: Any, lanes: Any, chosen: Any, seeds: Any, observation: Any, info: Any) -> None:
    """Reset the lanes of the index array `chosen`, the k-th with ``seeds[k]``."""
    for k in range(chosen.shape[0]):
        reset_lane(constants, lanes, chosen[k], seeds[k], observation, info)


@parallel_kernel
def reset_lanes_parallel(constants: Any, lanes: Any, chosen: Any, seeds: Any, observation: Any, info: Any) -> None:
    """`reset_lanes` over all cores."""
    for k in prange(chosen.shape[0]):
        reset_lane(constants, lanes, chosen[k], seeds[k], observation, info)


@kernel
def write_task_view(lanes: Any, rules: Any, gain: Any, delay: Any, energy: Any) -> None:
    """Fill in what an agent can know of P1 of the task at hand in every lane: the gain, and both budgets left."""
    state, gains = lanes[0], lanes[2]
    for i in range(state.shape[0]):
        lane = state[i]
        gain[i] = 10.0 ** (observed_gain_db(lane, gains, i, rules[0]) / 10.0)
        delay[i] = lane.delay_budget - lane.wait
        energy[i] = min(lane.energy_budget, max(lane.battery, TINIEST))


@inlined_kernel
def first_nan(actions: NDArray[np.float64], skipped: NDArray[np.bool_]) -> int:
    """Flat index of the first NaN in a lane that is not skipped, or -1."""
    count = 0
    for i in range(actions.shape[0]):  # without a branch: it is run at every step and hardly ever finds one
        for k in range(actions.shape[1]):
            count += math.isnan(actions[i, k])
    if count > 0:
        for i in range(actions.shape[0]):
            for k in range(actions.shape[1]):
                if math.isnan(actions[i, k]) and not skipped[i]:
                    flat: int = i * actions.shape[1] + k
                    return flat
    return -1


@inlined_kernel
def clip(actions: NDArray[np.float64], i: int) -> int:
    """Clip the action of lane `i` to [-1, 1]; returns how many components lay outside."""
    clipped = 0
    for k in range(actions.shape[1]):
        if not -1.0 <= actions[i, k] <= 1.0:
            actions[i, k] = min(1.0, max(-1.0, actions[i, k]))
            clipped += 1
    return clipped


@inlined_kernel
def spend(
    lane: Any, rules: Any, delays: tuple[float, float, float], energies: tuple[float, float, float], info: Any
) -> tuple[bool, float, float]:
    """Take from time and battery what a service needs, and write it to `info`.

    The service ends early when the task's age reaches the patience, or when the battery runs out; the task is then
    abandoned (quality 0) and is charged what it had spent until then. What is harvested during a service can be spent
    after it. A device whose battery ran out serves nothing until the task's deadline.

    Parameters
    ----------
    lane : record of `STATE`
    rules : record of `RULES`
    delays, energies : tuple of float
        Of device, upload and server in s and J, were the service to finish; device and upload drain the battery.
    info : record
        What was spent until the end is written here.

    Returns
    -------
    finished : bool
    duration : float
        Time in s that the service took.
    pause : float
        Time in s after the service in which nothing is served.
    """
    t_device, tau, t_server = delays
    e_device, e_upload, e_server = energies
    finished, pause = True, 0.0
    limit = rules.patience * lane.delay_budget - lane.wait
    if not meets(lane.wait + t_device + tau + t_server, rules.patience * lane.delay_budget):
        finished = False
        left = limit
        part = min(t_device, left)
        e_device *= part / t_device if t_device > 0.0 else 1.0
        t_device, left = part, left - part
        part = min(tau, left)
        e_upload *= part / tau if tau > 0.0 else 1.0
        tau, left = part, left - part
        e_server *= left / t_server if t_server > left else 1.0
        t_server = min(t_server, left)
    if not meets(e_device + e_upload, lane.battery):
        finished = False
        left = lane.battery
        part = left / e_device if e_device > left else 1.0
        t_device, e_device = part * t_device, part * e_device
        left = max(0.0, left - e_device)
        part = left / e_upload if e_upload > left else 1.0
        tau, e_upload = part * tau, part * e_upload
        t_server, e_server = 0.0, 0.0
        pause = max(0.0, lane.delay_budget - lane.wait - t_device - tau)
    lane.battery = max(0.0, lane.battery - e_device - e_upload)
    info.delay_device_s, info.delay_upload_s, info.delay_server_s = t_device, tau, t_server
    info.energy_device_j, info.energy_upload_j, info.energy_server_j = e_device, e_upload, e_server
    duration = t_device + tau + t_server
    info.delay_s, info.energy_j = duration, e_device + e_upload + e_server
    return finished, duration, pause


@inlined_kernel
def score_service(lane: Any, finished: bool, duration: float, quality: float, info: Any) -> None:
    """Write what a service of `duration` seconds was worth, after `spend`; an abandoned task has quality 0."""
    age = lane.wait + duration
    in_budgets = finished and meets(age, lane.delay_budget) and meets(info.energy_j, lane.energy_budget)
    info.quality = quality
    info.abandoned = 0.0 if finished else 1.0
    info.delivered = quality if in_budgets else 0.0
    info.violated = 0.0 if in_budgets else 1.0
    info.cost_delay = excess(age, lane.delay_budget)
    info.cost_energy = excess(info.energy_j, lane.energy_budget)


@inlined_kernel
def advance(
    lane: Any,
    lanes: Any,
    i: int,
    duration: float,
    rules: Any,
    scale: Any,
    observation: Any,
    rewards: Any,
    ends: Any,
    info: Any,
) -> None:
    """Let `duration` seconds pass over a service that was judged, move to the next task and pay the reward.

    `lane`, `rules` and `info` are records, those of lane `i`.
    """
    _, arrivals, gains, queue = lanes[:4]
    lane.clock += duration
    lane.served += 1
    _charge(lane, rules, duration)
    dropped, ended = _next_task(lane, arrivals, queue, i, rules)
    info.dropped = dropped
    rewards[i] = rw.reward(
        info.quality,
        info.cost_delay,
        info.cost_energy,
        dropped + info.abandoned,
        rules.weight_delay,
        rules.weight_energy,
        rules.weight_drop,
    )
    ends[i] = ended
    _observe(lane, gains, i, queue.shape[1], rules, scale, observation)
