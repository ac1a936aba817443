"""The generator behind every world: splitmix64 streams of one seed, and the deviates drawn from them, compiled.

The state of a stream is one unsigned 64-bit integer that each call takes and hands back with its deviate, so that
thousands of lanes share no memory and numpy's global generator is never touched. A stream visits
``state + GOLDEN, state + 2 GOLDEN, ...`` and scrambles each (Steele, Lea and Flood, "Fast splittable pseudorandom
number generators", 2014); by that counter any draw of a stream can be had without those before it.

Called from Python, a state comes back as an int: wrap it in ``np.uint64`` before handing it in again, for numba takes
an int as signed. Inside compiled code there is nothing to do.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel, merged_kernel

ARRIVALS, FADING, SHADOWING, BUDGETS, TRACE, CSI, DISTANCE, DEVICE = range(8)
"""The streams of a world seed; what is drawn from one never moves what is drawn from another.

`DEVICE` is the last: that stream and those after it start the worlds of further devices in a cell."""

# All constants are np.uint64: numba turns a mix of signed and unsigned 64-bit integers into floats.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_STREAM_STEP = np.uint64(0xD1342543DE82EF95)
_ONE, _LAYER_BITS = np.uint64(1), np.uint64(0xFF)
_SHIFT_27, _SHIFT_30, _SHIFT_31 = np.uint64(27), np.uint64(30), np.uint64(31)
_SHIFT_12 = np.uint64(12)

_LAYERS = 256


@merged_kernel
def _mix(word: np.uint64) -> np.uint64:
    """Scramble of splitmix64: a bijection of 64-bit integers."""
    word = (word ^ (word >> _SHIFT_30)) * _MIX_1
    word = (word ^ (word >> _SHIFT_27)) * _MIX_2
    return word ^ (word >> _SHIFT_31)


@merged_kernel
def substream(seed: np.uint64, stream: int) -> np.uint64:
    """State at which a stream of a world seed starts, one of `ARRIVALS`, `FADING`, and so on."""
    # Seeds and streams are scrambled apart: neighbouring seeds must not start in each other's streams.
    return _mix(_mix(np.uint64(seed) + _GOLDEN) + np.uint64(stream + 1) * _STREAM_STEP)


@merged_kernel
def next_raw(state: np.uint64) -> tuple[np.uint64, np.uint64]:
    """64 random bits, and the state after them."""
    state = np.uint64(state) + _GOLDEN
    return _mix(state), state


@merged_kernel
def uniform(state: np.uint64) -> tuple[float, np.uint64]:
    """Uniform deviate strictly between 0 and 1, and the state after it.

    It is an odd multiple of ``2^-53``, so that neither its logarithm nor that of its complement is infinite.
    """
    raw, state = next_raw(np.uint64(state))
    # Through a signed integer: its conversion to a float is one machine instruction, that of an unsigned one is not.
    return (np.float64(np.int64(raw >> _SHIFT_12)) + 0.5) * 2.0**-52, state


@merged_kernel
def exponential(state: np.uint64) -> tuple[float, np.uint64]:
    """Exponential deviate of mean 1, and the state after it."""
    u, state = uniform(np.uint64(state))
    return -math.log(u), state


def _density(x: float) -> float:
    """Normal density without its factor, ``exp(-x^2 / 2)``."""
    return math.exp(-0.5 * x * x)


def _layer_edges(edge: float) -> tuple[NDArray[np.float64], float]:
    """Edges of the ziggurat whose base layer ends at `edge`, and the height at which its last layer ends.

    All layers have the area of the base layer, which is the strip up to `edge` and the tail beyond it. `edges[i]` is
    the width of layer `i`; of the base layer that of a rectangle of the same area.
    """
    area = edge * _density(edge) + math.sqrt(0.5 * math.pi) * math.erfc(edge / math.sqrt(2.0))
    edges = np.zeros(_LAYERS + 1)
    edges[0], edges[1] = area / _density(edge), edge
    height = _density(edge)
    for i in range(2, _LAYERS + 1):
        height += area / edges[i - 1]
        if height >= 1.0:
            return edges, height + (_LAYERS - i)  # closed too early by so many layers
        edges[i] = math.sqrt(-2.0 * math.log(height))
    return edges, height


def _build_ziggurat() -> NDArray[np.float64]:
    """Edges of the 256 layers of equal area that cover the normal density exactly (Marsaglia and Tsang, 2000).

    Found by bisection on the edge of the base layer: the last layer must end at height 1. A larger edge means thinner
    layers, which end lower.
    """
    low, high = 3.0, 4.0
    while True:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if _layer_edges(middle)[1] >= 1.0:
            low = middle
        else:
            high = middle
    edges, _ = _layer_edges(high)
    edges[_LAYERS] = 0.0  # up to rounding it is already
    return edges


_EDGES = _build_ziggurat()
_INNER = _EDGES[1:].copy()
_SCALES = _EDGES[:-1] * 2.0**-52
_HEIGHTS = np.exp(-0.5 * _EDGES**2)
_TAIL = float(_EDGES[1])


@kernel
def _tail(state: np.uint64) -> tuple[float, np.uint64]:
    """Normal deviate beyond the base layer's edge (Marsaglia, 1964), and the state after it."""
    while True:
        a, state = exponential(state)
        b, state = exponential(state)
        a /= _TAIL
        if b + b > a * a:
            return _TAIL + a, state


@merged_kernel
def normal(state: np.uint64) -> tuple[float, np.uint64]:
    """Standard normal deviate by the ziggurat, and the state after it."""
    state = np.uint64(state)
    while True:
        raw, state = next_raw(state)
        layer = raw & _LAYER_BITS
        # Bits 0..7 choose the layer, bits 11..63 with their sign the place in it: none is used twice.
        x = (np.float64(np.int64(raw) >> 11) + 0.5) * _SCALES[layer]
        if abs(x) < _INNER[layer]:
            return x, state
        if layer == 0:
            beyond, state = _tail(state)
            return (beyond if x > 0.0 else -beyond), state
        u, state = uniform(state)
        low, high = _HEIGHTS[layer], _HEIGHTS[layer + _ONE]
        if low + u * (high - low) < math.exp(-0.5 * x * x):
            return x, state


@kernel
def normal_at(stream: np.uint64, index: int) -> float:
    """Standard normal deviate number `index` of a stream, without those before it.

    Parameters
    ----------
    stream : uint64
        State of `substream`.
    index : int
        For example the number of a coherence block; at least 0.
    """
    x, _ = normal(_mix(np.uint64(stream) + np.uint64(index + 1) * _GOLDEN))
    return x
