"""Where a service leads to: the next task's age, queue and belief, as means over sampled futures of the arrivals."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from baselines.stochastic.arrivals import Process, note_arrival, update_belief
from coinfer_gym._compile import kernel
from coinfer_gym.envs.process import RULES, STATE
from coinfer_gym.envs.queue import next_task
from coinfer_gym.records import Records
from coinfer_gym.world.random import exponential, substream, uniform

Floats = NDArray[np.float64]

LAGS = 7
"""Coherence blocks that a transition tells apart; beyond, the last one stands for all."""

_MOST = 4096  # tasks that wait, and that come during a service


class Axes(NamedTuple):
    """States and choices of the process, and the limits that rule it."""

    waits: Floats  # ages in s
    beliefs: Floats  # probabilities of a burst
    queue: int  # numbers of waiting tasks, from 0; 1 where the queue is not looked at
    fractions: Floats  # service times as shares of what is left of the delay budget
    process: Process
    delay_budget: float  # in s
    fastest: float  # least service time in s
    block: float  # coherence block in s
    capacity: int  # places of the queue


class Scratch(NamedTuple):
    """The queue that futures are played in, as `coinfer_gym.envs.queue` takes it."""

    lanes: Records
    rules: Records
    arrivals: Floats
    queue: NDArray[np.int64]


def build_scratch(capacity: int) -> Scratch:
    """An empty queue with so many places."""
    rules = np.zeros(1, RULES)
    rules["battery_capacity"] = rules["intensity_time"] = math.inf
    return Scratch(np.zeros(1, STATE), rules, np.zeros(2 * _MOST), np.zeros(min(capacity, _MOST), np.int64))


def sample_transitions(axes: Axes, samples: int) -> tuple[Any, Floats, Floats]:
    """Where services lead to: a sparse matrix, and the mean number of lost tasks and of seconds.

    Rows are (wait, queue, belief, fraction); columns (coherence blocks passed, wait, queue, belief).
    """
    waits, states = len(axes.waits), len(axes.waits) * axes.queue * len(axes.beliefs)
    rows = axes.queue * len(axes.beliefs) * len(axes.fractions)
    lost, elapsed = np.zeros((2, waits, rows))
    columns, weights = np.zeros((rows, samples, 8), np.int32), np.zeros((rows, samples, 8))
    pointers = np.arange(rows + 1) * columns[0].size
    parts, scratch = [], build_scratch(axes.capacity)
    for w in range(waits):  # one by one, since most entries will add up
        _fill_transitions(w, axes, scratch, columns, weights, lost[w], elapsed[w])
        entries = (weights.ravel(), columns.ravel(), pointers)
        part = scipy.sparse.csr_matrix(entries, shape=(rows, LAGS * states), copy=True)
        part.sum_duplicates()
        part.data /= samples
        parts.append(part)
    return scipy.sparse.vstack(parts, format="csr"), lost.ravel(), elapsed.ravel()


@kernel
def _fill_transitions(
    w: int,
    axes: Axes,
    scratch: Scratch,
    columns: NDArray[np.int32],
    weights: Floats,
    lost: Floats,
    elapsed: Floats,
) -> None:
    samples, wait = columns.shape[1], axes.waits[w]
    row = 0
    for n in range(axes.queue):
        for b in range(axes.beliefs.shape[0]):
            for f in range(axes.fractions.shape[0]):
                seconds = max(axes.fastest, axes.fractions[f] * (axes.delay_budget - wait))
                behind = n if axes.queue > 1 else -1
                for s in range(samples):
                    # the same futures for all service times of a state, so that they compare, and others elsewhere
                    future = np.uint64(((w * axes.queue + n) * axes.beliefs.shape[0] + b) * samples + s)
                    stream = substream(future, 0)
                    start = (wait, behind, axes.beliefs[b], seconds, (s + 0.5) / samples)
                    time, age, left, belief, drops = _meet_future(start, axes, stream, scratch)
                    place = (time / axes.block, age, min(left, axes.queue - 1), belief)
                    _spread(place, axes, columns[row, s], weights[row, s])
                    lost[row] += drops / samples
                    elapsed[row] += time / samples
                row += 1


@kernel
def _meet_future(
    start: tuple[float, int, float, float, float], axes: Axes, stream: np.uint64, scratch: Scratch
) -> tuple[float, float, int, float, int]:
    """One future of a service: seconds to the next head, its age, how many wait, the belief, tasks lost.

    `start` is the head's age, how many wait (negative: not looked at), the belief, the service time, and the place of
    this future among all, of which the share of the belief begins in a burst.
    """
    wait, waiting, belief, seconds, quantile = start
    process, arrivals = axes.process, scratch.arrivals
    burst = quantile < belief
    if waiting < 0:  # the queue is not looked at: as many as may have come since the head did
        waiting, gap = 0, 0.0
        while waiting < axes.capacity:
            u, stream = exponential(stream)
            gap += u / (process.burst if burst else process.calm)
            if gap > wait:
                break
            waiting += 1
    for k in range(waiting):
        u, stream = uniform(stream)
        place, value = k, -u * wait
        while place > 0 and arrivals[place - 1] > value:
            arrivals[place] = arrivals[place - 1]
            place -= 1
        arrivals[place] = value
        scratch.queue[k] = k
    time, last = 0.0, waiting
    while True:  # up to the first arrival after the service
        gap, stream = exponential(stream)
        stay, stream = exponential(stream)
        arrival = time + gap / (process.burst if burst else process.calm)
        leave = process.leave_burst if burst else process.leave_calm
        if leave > 0.0 and time + stay / leave < arrival:
            time, burst = time + stay / leave, not burst
            continue
        time = arrivals[last] = arrival
        if time > seconds or last + 1 == arrivals.shape[0]:
            break
        last += 1
    lane, rules = scratch.lanes[0], scratch.rules[0]
    lane.clock, lane.delay_budget = seconds, axes.delay_budget
    lane.first, lane.waiting, lane.arrived = 0, waiting, waiting
    rules.tasks = last
    lost, idle = next_task(lane, arrivals, scratch.queue, rules)
    belief = update_belief(belief, process, last - waiting, seconds)
    if idle:
        belief = note_arrival(update_belief(belief, process, 0, lane.clock - seconds), process)
    return lane.clock, lane.wait, lane.waiting, belief, lost


@kernel
def _spread(place: tuple[float, float, int, float], axes: Axes, columns: NDArray[np.int32], weights: Floats) -> None:
    """Share a future out among the neighbouring states; where in a coherence block it begins is uniform."""
    blocks, age, behind, belief = place
    waits, beliefs = axes.waits, axes.beliefs
    lag = int(blocks)
    lag_share = blocks - lag
    w = min(int(age / waits[1]), waits.shape[0] - 2)
    w_share = min(1.0, age / waits[1] - w)
    b, b_share = 0, 0.0
    if beliefs.shape[0] > 1:
        while b < beliefs.shape[0] - 2 and beliefs[b + 1] <= belief:
            b += 1
        b_share = (belief - beliefs[b]) / (beliefs[b + 1] - beliefs[b])
    states = waits.shape[0] * axes.queue * beliefs.shape[0]
    for k in range(8):
        i, in_lag = (lag + 1, lag_share) if k & 1 else (lag, 1.0 - lag_share)
        j, in_w = (w + 1, w_share) if k & 2 else (w, 1.0 - w_share)
        m, in_b = (min(b + 1, beliefs.shape[0] - 1), b_share) if k & 4 else (b, 1.0 - b_share)
        columns[k] = min(i, LAGS - 1) * states + (j * axes.queue + behind) * beliefs.shape[0] + m
        weights[k] = in_lag * in_w * in_b
