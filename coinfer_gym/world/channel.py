"""Channel of an episode: power gains on a grid of coherence blocks, fading, constant or recorded."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel, merged_kernel
from coinfer_gym.records import Record
from coinfer_gym.world.random import FADING, SHADOWING, TRACE, normal, substream, uniform

CHANNELS = ("fading", "constant", "trace")
"""How a gain can move; compiled code knows each by its place here."""

_FADING, _CONSTANT, _TRACE = range(3)

_LEAST_GAIN = 1e-30
"""Least power gain, -300 dB: a deep fade must not reach 0, whose logarithm is infinite."""


def bessel_j0(x: float) -> float:
    """Bessel function `J0` of ``x >= 0``, the autocorrelation of scattered waves: ``(1/pi) int_0^pi cos(x sin t) dt``.

    The integrand is periodic and smooth, so the trapezoid rule with `n` points is exact up to ``2 J_2n(x)``, which for
    2n well above `x` is below rounding. Beyond 1000 the two leading terms of Hankel's expansion are exact to 1e-8.
    """
    if x > 1000.0:
        phase = x - 0.25 * math.pi
        return math.sqrt(2.0 / (math.pi * x)) * (math.cos(phase) + math.sin(phase) / (8.0 * x))
    points = 32 + math.ceil(x)
    return float(np.mean(np.cos(x * np.sin(np.arange(points) * (math.pi / points)))))


@merged_kernel
def block_at(time: float, block_duration: float, blocks: int) -> int:
    """Coherence block of a time in s: the path repeats after its end, and its first block also holds before time 0."""
    if time <= 0.0:
        return 0
    passed = time / block_duration
    if passed < blocks:
        return int(passed)
    return int(passed % blocks) if passed < math.inf else 0  # as floats: their number may exceed any integer


@kernel
def draw_gains(
    seed: np.uint64,
    record: Record,
    trace_time: NDArray[np.float64],
    trace_gain: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Fill `out` with an episode's power gains: ``out[k]`` holds from ``k dt`` to ``(k + 1) dt``.

    `record` is of `WORLD`; `trace_time` and `trace_gain` are the recorded channel in s from its first sample.
    """
    kind = record.channel
    if kind == _FADING:
        _draw_fading(seed, record, out)
    elif kind == _TRACE:
        _draw_recorded(seed, record, trace_time, trace_gain, out)
    else:
        out[:] = record.path_gain


@kernel
def _draw_fading(seed: np.uint64, record: Record, out: NDArray[np.float64]) -> None:
    """Path loss times log-normal shadowing times Rician fading.

    The scattered part and the shadowing each are a stationary Gauss-Markov process, ``z_k = c z_(k-1) +
    sqrt(1 - c^2) w_k``, in streams of their own: a world with more shadowing keeps its fades.
    """
    r = record
    path_gain, line_of_sight, scattered = r.path_gain, r.line_of_sight, r.scattered
    fading_keep, fading_new = r.fading_correlation, r.fading_innovation
    shadowing = r.shadowing
    state = substream(seed, FADING)
    real, state = normal(state)
    imaginary, state = normal(state)
    for k in range(out.size):
        if k > 0:
            w, state = normal(state)
            real = fading_keep * real + fading_new * w
            w, state = normal(state)
            imaginary = fading_keep * imaginary + fading_new * w
        in_phase, quadrature = line_of_sight + scattered * real, scattered * imaginary
        out[k] = max(path_gain * (in_phase * in_phase + quadrature * quadrature), _LEAST_GAIN)
    if shadowing > 0.0:
        _shadow(seed, record, out)


@kernel
def _shadow(seed: np.uint64, record: Record, out: NDArray[np.float64]) -> None:
    """Multiply gains by log-normal shadowing."""
    r = record
    shadowing, keep, new = r.shadowing, r.shadowing_correlation, r.shadowing_innovation
    state = substream(seed, SHADOWING)
    level, state = normal(state)
    for k in range(out.size):
        if k > 0:
            w, state = normal(state)
            level = keep * level + new * w
        out[k] = max(out[k] * math.exp(shadowing * level), _LEAST_GAIN)


@kernel
def _draw_recorded(
    seed: np.uint64,
    record: Record,
    trace_time: NDArray[np.float64],
    trace_gain: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Gains of the recorded channel from a random instant on: a sample holds until the next, the end meets the start.

    A block takes the gain at its start; samples that are closer together than blocks are skipped, not averaged.
    """
    r = record
    block_duration, period = r.block_duration, r.channel_trace_period
    offset, _ = uniform(substream(seed, TRACE))
    offset *= period
    sample, before = 0, 0.0
    for k in range(out.size):
        time = offset + k * block_duration
        if time >= period:
            time -= period * math.floor(time / period)
        if time < before:
            sample = 0
        while sample + 1 < trace_time.size and trace_time[sample + 1] <= time:
            sample += 1
        before = time
        out[k] = max(trace_gain[sample], _LEAST_GAIN)
