"""Expectations of the value of the next state over all arrivals to come, tabulated by the time of a service."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

from baselines.causal_bound.recursion import Foresight
from baselines.causal_bound.values import Values, arrive_within, generator
from baselines.stochastic.arrivals import Process

Floats = NDArray[np.float64]

BLOCKS = 8
"""Coherence blocks in which the next task to come to an empty queue is looked for."""

_POINTS = 4  # of the quadrature over an arrival within a cell; what is integrated is smooth there


def build_foresight(values: Values, budget: float, step: float, block: float, shift: float = 0.005) -> Foresight:
    """Tabulate for cells of `step` and coherence blocks of `block` seconds; `shift` makes tasks that much younger."""
    cells = math.floor(budget / step + 1e-9)
    every = max(1, round(values.ages[1] / step))
    age_step = every * step
    axis = age_step * np.arange(math.ceil((cells + 1) / every) + 1)
    head = _resample(values, axis, shift)
    _, gains, ages, _, counts = head.shape
    process = values.process
    rates = generator(process, counts)
    quiet, arrive = rates[:2, :2], np.diag([process.calm, process.burst])
    x, w = np.polynomial.legendre.leggauss(_POINTS)
    x, w = 0.5 * (x + 1.0), 0.5 * w

    def place(age: float) -> tuple[int, float]:
        a = min(int(age / age_step), ages - 2)
        return a, age / age_step - a

    def newcomer(power: Floats, rest: Floats, age: float) -> Floats:
        """Value of a head, by the phase when the next task came, its own age and the time since: (2, gains, ages)."""
        ways = (power[:2] @ rest).reshape(2, counts, 2)
        a, share = place(age)
        at = (1.0 - share) * head[:, :, :, a] + share * head[:, :, :, a + 1]
        out = np.zeros((2, gains, ages))
        for n in range(counts):
            out += np.tensordot(ways[:, n], at[..., min(n + 1, counts - 1)], 1)
        return out

    chances = np.empty((cells + 1, counts, 2, 2))
    alone, coming = np.empty((cells + 1, 2, gains, ages)), np.empty((cells + 1, 2, gains))
    alone[0], coming[0] = head[:, :, :, 0, 0], 0.0
    power, one, nothing = np.eye(2 * counts), expm(rates * step), expm(quiet * step)
    spans = [step, *(step * (1.0 - x))]  # of a whole cell, and of what is left of one after an arrival
    early = [[expm(quiet * span * s) @ arrive * span for s in x] for span in spans]
    late = [[expm(rates * span * (1.0 - s)) for s in x] for span in spans]
    none = [expm(quiet * span) for span in spans]

    def follow(span: int, k: int, power: Floats) -> Floats:
        """`alone` after `k` cells and a span."""
        out = np.tensordot(none[span], alone[k], 1)
        for s, weight, before, rest in zip(x, w, early[span], late[span], strict=True):
            age = k * step + spans[span] * (1.0 - s)
            out += weight * np.tensordot(before, newcomer(power, rest, age), 1)
        return out

    for k in range(cells + 1):
        chances[k] = power[:2].reshape(2, counts, 2).transpose(1, 0, 2)
        if k < cells:
            alone[k + 1] = follow(0, k, power)
            coming[k + 1] = nothing @ coming[k]
            for j in range(_POINTS):
                a, share = place(k * step + spans[j + 1])
                then = follow(j + 1, k, power)
                coming[k + 1] += w[j] * early[0][j] @ ((1.0 - share) * then[..., a] + share * then[..., a + 1])
        power = power @ one
    arrivals = _next_arrival(process, step, round(block / step))
    later = float(head[:, :, 0, 0, 0].mean())
    return Foresight(values.rate, np.ascontiguousarray(head), age_step, arrivals, later, chances, alone, coming)


def _next_arrival(process: Process, step: float, cells: int) -> Floats:
    """Chances that the next task comes 0, 1, ... blocks of so many cells later, see `Foresight.next`."""
    quiet, whole = generator(process, 2)[:2, :2], cells * step
    out = np.empty((cells, BLOCKS, 2, 2))
    after, within = expm(quiet * whole), arrive_within(process, whole)
    for c in range(cells):
        left = (cells - 1 - c) * step
        out[c, 0] = arrive_within(process, left)
        still = expm(quiet * left)
        for lag in range(1, BLOCKS):
            out[c, lag] = still @ within
            still = still @ after
    return out


def _resample(values: Values, axis: Floats, shift: float) -> Floats:
    """Values at other ages, each task taken for so much younger."""
    last = len(values.ages) - 2
    place = np.clip((axis - shift) / values.ages[1], 0.0, last + 1)
    a = np.minimum(place.astype(int), last)
    share = place - a
    rows = (1.0 - share)[:, None, None] * values.head[:, :, a] + share[:, None, None] * values.head[:, :, a + 1]
    out: Floats = (1.0 - share)[:, None] * rows[:, :, :, a] + share[:, None] * rows[:, :, :, a + 1]
    return out
