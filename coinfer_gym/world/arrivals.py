"""Arrivals of an episode: when each task comes, at random, in bursts, at a beat, or as recorded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.records import Record
from coinfer_gym.world.random import ARRIVALS, exponential, substream, uniform

ARRIVAL_KINDS = ("one_at_a_time", "poisson", "mmpp", "periodic", "trace")
"""How tasks can arrive; compiled code knows each by its place here."""

_ONE_AT_A_TIME, _POISSON, _MMPP, _PERIODIC, _TRACE = range(5)


@kernel
def draw_arrivals(seed: np.uint64, record: Record, trace: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Fill `out` with an episode's arrival times in s, non-decreasing; all 0 where a task is always waiting.

    `record` is of `WORLD`, `trace` has recorded arrivals in s from the first.
    """
    kind = record.arrivals
    if kind == _POISSON:
        _draw_poisson(seed, record, out)
    elif kind == _MMPP:
        _draw_bursts(seed, record, out)
    elif kind == _PERIODIC:
        _draw_periodic(seed, record, out)
    elif kind == _TRACE:
        _draw_recorded(seed, record, trace, out)
    else:
        out[:] = 0.0


@kernel
def _draw_poisson(seed: np.uint64, record: Record, out: NDArray[np.float64]) -> None:
    """Poisson process: independent exponential gaps."""
    mean_gap = 1.0 / record.arrival_rate
    state = substream(seed, ARRIVALS)
    time = 0.0
    for i in range(out.size):
        gap, state = exponential(state)
        time += mean_gap * gap
        out[i] = time


@kernel
def _draw_bursts(seed: np.uint64, record: Record, out: NDArray[np.float64]) -> None:
    """Markov-modulated Poisson process of two states, calm and burst, which starts in their stationary distribution."""
    r = record
    calm_gap, burst_gap = 1.0 / r.arrival_rate, 1.0 / r.burst_rate
    calm_duration, burst_duration = r.calm_duration, r.burst_duration
    state = substream(seed, ARRIVALS)
    u, state = uniform(state)
    burst = u * (calm_duration + burst_duration) < burst_duration
    stay, state = exponential(state)
    time, until = 0.0, stay * (burst_duration if burst else calm_duration)
    for i in range(out.size):
        gap, state = exponential(state)
        arrival = time + gap * (burst_gap if burst else calm_gap)
        while arrival > until:
            # No arrival before the state changes; from there on the process begins anew, for it has no memory.
            time, burst = until, not burst
            stay, state = exponential(state)
            until = time + stay * (burst_duration if burst else calm_duration)
            gap, state = exponential(state)
            arrival = time + gap * (burst_gap if burst else calm_gap)
        time = arrival
        out[i] = time


@kernel
def _draw_periodic(seed: np.uint64, record: Record, out: NDArray[np.float64]) -> None:
    """One task per period, from a random phase on."""
    period = 1.0 / record.arrival_rate
    phase, _ = uniform(substream(seed, ARRIVALS))
    for i in range(out.size):
        out[i] = (phase + i) * period


@kernel
def _draw_recorded(seed: np.uint64, record: Record, trace: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Recorded gaps from a random row on: the first task comes one gap after the start.

    After the last row the first follows, at the mean gap of the trace.
    """
    last = trace.size - 1
    wrap = trace[last] / last
    u, _ = uniform(substream(seed, ARRIVALS))
    row = min(int(u * trace.size), last)  # the product may round up
    time = 0.0
    for i in range(out.size):
        if row == last:
            time, row = time + wrap, 0
        else:
            time, row = time + (trace[row + 1] - trace[row]), row + 1
        out[i] = time
