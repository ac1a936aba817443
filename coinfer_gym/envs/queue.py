"""The queue of every environment: which task is served next, and which tasks are lost before.

Tasks come at given times and wait in a queue of limited length. One that comes while the queue is full is lost, and so
is one whose deadline passes while it waits. An idle device takes the next task as it comes.

All functions take ``lane``, the record of `coinfer_gym.envs.process.STATE` that they change; ``arrivals``, its arrival
times in s, one more than there are tasks; ``queue``, its ring of waiting tasks' numbers; and ``rules``, the record of
`coinfer_gym.envs.process.RULES`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import inlined_kernel, kernel, merged_kernel
from coinfer_gym.records import Record


@inlined_kernel
def charge(lane: Record, rules: Record, duration: float) -> None:
    """Harvest into the battery for `duration` seconds."""
    if rules.battery_capacity < math.inf:
        lane.battery = min(rules.battery_capacity, lane.battery + rules.harvest_power * duration)


@inlined_kernel
def _note_arrival(lane: Record, rules: Record, time: float) -> None:
    """Count an arrival into the estimate of the arrival rate, an exponentially forgetting counter."""
    lane.intensity *= math.exp((lane.intensity_clock - time) / rules.intensity_time)
    lane.intensity += 1.0 / rules.intensity_time
    lane.intensity_clock = time


@inlined_kernel
def _pop(lane: Record, queue: NDArray[np.int64]) -> None:
    """Take the first task out of the queue."""
    lane.first = lane.first + 1 if lane.first + 1 < queue.shape[0] else 0
    lane.waiting -= 1


@inlined_kernel
def _expire(lane: Record, arrivals: NDArray[np.float64], queue: NDArray[np.int64], now: float) -> int:
    """Drop the waiting tasks whose deadline has passed; returns how many."""
    dropped = 0
    while lane.waiting > 0 and arrivals[queue[lane.first]] + lane.delay_budget <= now:
        _pop(lane, queue)
        dropped += 1
    return dropped


@inlined_kernel
def _admit(lane: Record, arrivals: NDArray[np.float64], queue: NDArray[np.int64], rules: Record) -> int:
    """Let the tasks that came until now into the queue; returns how many were lost, late or at a full queue."""
    dropped = 0
    while lane.arrived < rules.tasks and arrivals[lane.arrived] <= lane.clock:
        time = arrivals[lane.arrived]
        _note_arrival(lane, rules, time)
        dropped += _expire(lane, arrivals, queue, time)
        if lane.waiting == queue.shape[0]:
            dropped += 1
        else:
            place = lane.first + lane.waiting
            queue[place if place < queue.shape[0] else place - queue.shape[0]] = lane.arrived
            lane.waiting += 1
        lane.arrived += 1
    return dropped + _expire(lane, arrivals, queue, lane.clock)


@merged_kernel
def next_task(lane: Record, arrivals: NDArray[np.float64], queue: NDArray[np.int64], rules: Record) -> tuple[int, bool]:
    """Take the next task as ``lane.task``, idling until it comes: tasks lost meanwhile, and whether none is left.

    After the last task one more stands at the head. It is never served, so that the last observation is one of the
    process going on and not of its end.
    """
    if rules.one_at_a_time:
        lane.task, lane.wait = lane.served, 0.0
        return 0, lane.served >= rules.tasks
    dropped = _admit(lane, arrivals, queue, rules)
    if lane.waiting > 0:
        lane.task = queue[lane.first]
        lane.wait = lane.clock - arrivals[lane.task]
        _pop(lane, queue)
        return dropped, False
    lane.task = lane.arrived
    time = arrivals[lane.task]
    charge(lane, rules, max(0.0, time - lane.clock))
    lane.clock = max(lane.clock, time)
    _note_arrival(lane, rules, time)
    if lane.task == rules.tasks:
        lane.wait = min(lane.clock - time, lane.delay_budget)
        return dropped, True
    # The device is idle: the task does not pass through the queue, whose places are for those that come with it.
    lane.arrived += 1
    lane.wait = 0.0
    return dropped + _admit(lane, arrivals, queue, rules), False


@kernel
def postpone(
    lane: Record, arrivals: NDArray[np.float64], queue: NDArray[np.int64], rules: Record, time: float
) -> tuple[int, bool]:
    """Let the task at the head wait until `time`, as where the device may not begin; returns what `next_task` does.

    Tasks that come meanwhile join the queue. If the deadline passes before, the task is lost at that moment, and the
    next one is taken.
    """
    left = lane.delay_budget - lane.wait
    late = lane.clock + left <= time
    passed = left if late else time - lane.clock
    lane.clock = lane.clock + left if late else time
    lane.wait += passed
    charge(lane, rules, passed)
    dropped = 0 if rules.one_at_a_time else _admit(lane, arrivals, queue, rules)
    if not late:
        return dropped, False
    lane.served += 1
    lost, ended = next_task(lane, arrivals, queue, rules)
    return dropped + 1 + lost, ended
