"""What the decision processes of all environments share, compiled: worlds, the battery, the clock and what is spent.

A *lane* is one running episode. All arrays have one row per lane; the single environment is a batch of one lane, so
that there is no second implementation to agree with. An environment's step is its own: `inform`, `spend` what a
decision takes, `score_service` what it gave, `advance` to the next task, and pay the reward.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from coinfer_gym._compile import inlined_kernel, kernel, parallel_kernel
from coinfer_gym.budgets import excess, meets
from coinfer_gym.envs.fetch import fetch
from coinfer_gym.envs.observation import budget_levels, write_observation
from coinfer_gym.envs.queue import charge, next_task
from coinfer_gym.physics import from_db
from coinfer_gym.records import Record, Records, record_type
from coinfer_gym.scenario import WorldScenario
from coinfer_gym.world import (
    CSI,
    WorldTables,
    block_at,
    draw_world,
    gain_db_range,
    normal_at,
    substream,
)

TINIEST = 5e-324
"""Smallest energy budget in J: an empty battery still has a problem."""

AHEAD = 4
"""Lanes between the one that is stepped and the one whose memory is fetched: enough for the slowest memory."""

RULES = record_type(
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
    "gain_db_low",
    "gain_db_high",
    "intensity_high",
    "log_delay_low",
    "log_delay_high",
    "log_energy_low",
    "log_energy_high",
    one_at_a_time=np.int64,
    tasks=np.int64,
)
"""Constants of the decision process; names and units of `WorldScenario`. A capacity of infinity is mains power,
and the ends from `gain_db_low` on are those of the observation."""

STATE = record_type(
    "clock",
    "gain_db",
    "wait",
    "delay_budget",
    "energy_budget",
    "delay_level",
    "energy_level",
    "battery",
    "intensity",
    "intensity_clock",
    world_seed=np.uint64,
    task=np.int64,
    arrived=np.int64,
    served=np.int64,
    first=np.int64,
    waiting=np.int64,
)
"""State of a lane beside its world.

`task` is the number of the task at hand and `wait` its age, `gain_db` the true gain at the clock; `first` and `waiting`
span the queue; the two levels are the budgets as they are observed, kept because they hold for the whole episode.
"""


class LaneArrays(NamedTuple):
    """Lanes as compiled code takes them: one row each, and where a lane is a cell of devices the first four a row each.

    Attributes
    ----------
    state : ndarray of `STATE`, shape (count,)
    arrivals : ndarray of float64, shape (count, tasks + 1)
        Arrival times in s of each lane's world.
    gains : ndarray of float64, shape (count, blocks)
        Channel gain of each coherence block.
    queue : ndarray of int64, shape (count, queue_capacity)
        Ring of the numbers of the waiting tasks.
    observation : ndarray of float32, shape (count, m)
    info : ndarray of records, shape (count,)
        What stands in ``info``.
    actions : ndarray of float64, shape (count, n)
        What the next step decides.
    skipped : ndarray of bool, shape (count,)
        Lanes that the next step leaves alone.
    rewards : ndarray of float64, shape (count,)
        Of the last step.
    ends : ndarray of bool, shape (count,)
        Whether the lane's world has no task left.
    """

    state: Records
    arrivals: NDArray[np.float64]
    gains: NDArray[np.float64]
    queue: NDArray[np.int64]
    observation: NDArray[np.float32]
    info: Records
    actions: NDArray[np.float64]
    skipped: NDArray[np.bool_]
    rewards: NDArray[np.float64]
    ends: NDArray[np.bool_]


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
    "cost",
    "cost_delay",
    "cost_energy",
    "violated",
    "abandoned",
    "dropped",
    "clipped",
)
"""Keys of ``info`` that tell what became of it."""


def build_rules(scenario: WorldScenario, world: WorldTables) -> Records:
    """Constants of the decision process in a scenario, one record of `RULES`.

    Parameters
    ----------
    scenario : WorldScenario
    world : WorldTables
        Of the same scenario.
    """
    rules = np.zeros(1, RULES)
    for name in ("tasks", "block_duration", "csi_delay", "csi_noise_db", "intensity_time", "patience"):
        rules[name] = getattr(scenario, name)
    for name in ("battery_initial", "harvest_power", "weight_delay", "weight_energy", "weight_drop"):
        rules[name] = getattr(scenario, name)
    rules["one_at_a_time"] = scenario.arrivals == "one_at_a_time"
    rules["battery_capacity"] = math.inf if scenario.battery_capacity is None else scenario.battery_capacity
    rules["gain_db_low"], rules["gain_db_high"] = gain_db_range(world)
    rules["intensity_high"] = intensity_high(scenario, world)
    for name in ("delay", "energy"):
        nominal = getattr(scenario, f"{name}_budget")
        low, high = getattr(scenario, f"{name}_budget_range") or (nominal, nominal)
        rules[f"log_{name}_low"], rules[f"log_{name}_high"] = math.log(low), math.log(high)
    return rules


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
def observed_gain_db(lane: Record, gains: NDArray[np.float64], i: int, rules: Record) -> float:
    """Gain of lane `i` in dB as the agent sees it: as old and as noisy as the channel state information (CSI) is."""
    gain_db: float = lane.gain_db
    if rules.csi_delay > 0.0:
        gain_db = 10.0 * math.log10(gain_at(gains, i, lane.clock - rules.csi_delay, rules.block_duration))
    if rules.csi_noise_db > 0.0:
        passed = max(0.0, lane.clock - rules.csi_delay) / rules.block_duration
        block = int(min(passed, 2.0**62))  # a larger one need not fit an integer
        gain_db += rules.csi_noise_db * normal_at(substream(lane.world_seed, CSI), block)
    return gain_db


@inlined_kernel
def observe(lanes: LaneArrays, row: int, rules: Record, i: int) -> None:
    """Write what is seen of the task at hand of the device in `row` to row `i` of the observations."""
    lane = lanes.state[row]
    lane.gain_db = 10.0 * math.log10(gain_at(lanes.gains, row, lane.clock, rules.block_duration))
    intensity = 0.0
    if not rules.one_at_a_time:
        intensity = lane.intensity * math.exp((lane.intensity_clock - lane.clock) / rules.intensity_time)
    write_observation(
        rules,
        observed_gain_db(lane, lanes.gains, row, rules),
        lane.waiting / lanes.queue.shape[1],
        lane.wait / lane.delay_budget,
        intensity,
        lane.delay_level,
        lane.energy_level,
        lane.battery / rules.battery_capacity if rules.battery_capacity < math.inf else 1.0,
        lanes.observation,
        i,
    )


@inlined_kernel
def inform(lane: Record, info: Record) -> None:
    """Write what is known of the task at hand before it is decided."""
    info.time_s = lane.clock
    info.gain_db = lane.gain_db
    info.wait_s = lane.wait
    info.delay_budget_s = lane.delay_budget - lane.wait
    info.energy_budget_j = lane.energy_budget
    info.queue_length = lane.waiting
    info.battery_j = lane.battery if lane.battery < math.inf else 0.0


@kernel
def draw_lane(rules: Records, world: WorldTables, lanes: LaneArrays, i: int, seed: np.uint64) -> int:
    """Draw the world of `seed` into row `i` and bring its first task to the head; returns how many were lost."""
    lane, r, arrivals = lanes.state[i], rules[0], lanes.arrivals[i]
    lane.world_seed = seed
    lane.delay_budget, lane.energy_budget = draw_world(seed, world, arrivals, lanes.gains[i])
    lane.delay_level, lane.energy_level = budget_levels(r, lane.delay_budget, lane.energy_budget)
    lane.clock, lane.wait, lane.intensity, lane.intensity_clock = 0.0, 0.0, 0.0, 0.0
    lane.arrived, lane.served, lane.first, lane.waiting = 0, 0, 0, 0
    lane.battery = r.battery_initial * r.battery_capacity if r.battery_capacity < math.inf else math.inf
    dropped, _ = next_task(lane, arrivals, lanes.queue[i], r)
    return dropped


@kernel
def reset_lane(rules: Records, world: WorldTables, lanes: LaneArrays, i: int, seed: np.uint64) -> None:
    """`draw_lane`, and write what is seen and known of the first task; ``info[i]`` comes zeroed."""
    info = lanes.info[i]
    info.dropped = draw_lane(rules, world, lanes, i, seed)
    observe(lanes, i, rules[0], i)
    inform(lanes.state[i], info)


@kernel
def reset_lanes(
    rules: Records, world: WorldTables, lanes: LaneArrays, chosen: NDArray[np.int64], seeds: NDArray[np.uint64]
) -> None:
    """Reset the lanes of the index array `chosen`, the k-th with ``seeds[k]``."""
    for k in range(chosen.shape[0]):
        reset_lane(rules, world, lanes, chosen[k], seeds[k])


@parallel_kernel
def reset_lanes_parallel(
    rules: Records, world: WorldTables, lanes: LaneArrays, chosen: NDArray[np.int64], seeds: NDArray[np.uint64]
) -> None:
    """`reset_lanes` over all cores."""
    for k in prange(chosen.shape[0]):
        reset_lane(rules, world, lanes, chosen[k], seeds[k])


_from_db = kernel(from_db)


@kernel
def task_view(lanes: LaneArrays, row: int, r: Record) -> tuple[float, float, float]:
    """What an agent knows of the task at hand in a row of the state: the observed gain, and what both budgets leave."""
    lane = lanes.state[row]
    energy = min(lane.energy_budget, max(lane.battery, TINIEST))
    return _from_db(observed_gain_db(lane, lanes.gains, row, r)), lane.delay_budget - lane.wait, energy


@kernel
def write_task_view(
    rules: Records,
    lanes: LaneArrays,
    gain: NDArray[np.float64],
    delay: NDArray[np.float64],
    energy: NDArray[np.float64],
) -> None:
    """Write the view of the task at hand in every lane."""
    for i in range(lanes.state.shape[0]):
        gain[i], delay[i], energy[i] = task_view(lanes, i, rules[0])


@inlined_kernel
def first_nan(lanes: LaneArrays) -> int:
    """Flat index of the first NaN in the actions of lanes that are not skipped, or -1."""
    actions, count = lanes.actions, 0
    for i in range(actions.shape[0]):  # without a branch: it is run at every step and hardly ever finds one
        for k in range(actions.shape[1]):
            count += math.isnan(actions[i, k])
    if count > 0:
        for i in range(actions.shape[0]):
            for k in range(actions.shape[1]):
                if math.isnan(actions[i, k]) and not lanes.skipped[i]:
                    flat: int = i * actions.shape[1] + k
                    return flat
    return -1


@inlined_kernel
def fetch_ahead(lanes: LaneArrays, row: int, rules: Record) -> None:
    """Fetch what the device in a later `row`, if there is one, reads at places that only its state tells."""
    if row < lanes.state.shape[0]:
        lane = lanes.state[row]
        fetch(lanes.gains, row, block_at(lane.clock, rules.block_duration, lanes.gains.shape[1]))
        fetch(lanes.arrivals, row, lane.arrived)


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
    lane: Record,
    rules: Record,
    delays: tuple[float, float, float],
    energies: tuple[float, float, float],
    trip: float,
    waiting: float,
    info: Record,
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
        Of device, upload and server in s and J, were the service to finish, without what waiting takes; device and
        upload drain the battery.
    trip : float
        Delay in s between upload and server.
    waiting : float
        Power in W that drains the battery from the upload to the end. Trip and waiting are written to `info` as part
        of the upload.
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
    if not meets(lane.wait + t_device + tau + trip + t_server, rules.patience * lane.delay_budget):
        finished = False
        left = limit
        part = min(t_device, left)
        e_device *= part / t_device if t_device > 0.0 else 1.0
        t_device, left = part, left - part
        part = min(tau, left)
        e_upload *= part / tau if tau > 0.0 else 1.0
        tau, left = part, left - part
        part = min(trip, left)
        trip, left = part, left - part
        e_server *= left / t_server if t_server > left else 1.0
        t_server = min(t_server, left)
    e_waiting = waiting * (tau + trip + t_server)
    if not meets(e_device + e_upload + e_waiting, lane.battery):
        finished = False
        left = lane.battery
        part = left / e_device if e_device > left else 1.0
        t_device, e_device = part * t_device, part * e_device
        left = max(0.0, left - e_device)
        sending = e_upload + waiting * tau
        part = left / sending if sending > left else 1.0
        tau, e_upload = part * tau, part * e_upload
        left = (left - sending) / waiting if part == 1.0 and waiting > 0.0 else 0.0  # seconds that waiting can go on
        trip = min(trip, left)
        left -= trip
        e_server *= left / t_server if t_server > left else 1.0
        t_server = min(t_server, left)
        pause = max(0.0, lane.delay_budget - lane.wait - t_device - tau - trip - t_server)
        e_waiting = waiting * (tau + trip + t_server)
    tau, e_upload = tau + trip, e_upload + e_waiting
    lane.battery = max(0.0, lane.battery - e_device - e_upload)
    info.delay_device_s, info.delay_upload_s, info.delay_server_s = t_device, tau, t_server
    info.energy_device_j, info.energy_upload_j, info.energy_server_j = e_device, e_upload, e_server
    duration = t_device + tau + t_server
    info.delay_s, info.energy_j = duration, e_device + e_upload + e_server
    return finished, duration, pause


@inlined_kernel
def score_service(lane: Record, finished: bool, duration: float, quality: float, info: Record) -> None:
    """Write what a service of `duration` seconds was worth, after `spend`; an abandoned task has quality 0."""
    age = lane.wait + duration
    in_budgets = finished and meets(age, lane.delay_budget) and meets(info.energy_j, lane.energy_budget)
    info.quality = quality
    info.abandoned = 0.0 if finished else 1.0
    info.delivered = quality if in_budgets else 0.0
    info.violated = 0.0 if in_budgets else 1.0
    info.cost_delay = excess(age, lane.delay_budget)
    info.cost_energy = excess(info.energy_j, lane.energy_budget)
    info.cost = info.cost_delay + info.cost_energy


@inlined_kernel
def move_on(lanes: LaneArrays, row: int, rules: Record, duration: float) -> tuple[int, bool]:
    """Let `duration` seconds pass over a service and take the next task of `row`; returns what `next_task` does."""
    lane = lanes.state[row]
    lane.clock += duration
    lane.served += 1
    charge(lane, rules, duration)
    return next_task(lane, lanes.arrivals[row], lanes.queue[row], rules)


@inlined_kernel
def advance(lanes: LaneArrays, i: int, rules: Record, duration: float) -> None:
    """Let `duration` seconds pass over a service and move lane `i` to its next task, or to its end."""
    dropped, lanes.ends[i] = move_on(lanes, i, rules, duration)
    lanes.info[i].dropped = dropped
    observe(lanes, i, rules, i)
