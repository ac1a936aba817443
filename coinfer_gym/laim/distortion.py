"""Distortion of a pruned model and the quality made of it: Lyu et al., Sec. IV, and closed forms of real pruning.

All functions are compiled scalars. A *side* is a slice of the blocks, given by ``blocks`` of `block_rows` and the
half-open range ``[first, last)``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coinfer_gym._compile import kernel, merged_kernel

RATE_DISTORTION, PARALLEL_JOINT, PARALLEL, MAGNITUDE, MAGNITUDE_THRESHOLD, RANDOM = range(6)

QUALITIES = {
    "rate_distortion": RATE_DISTORTION,
    "parallel_laplacian_joint": PARALLEL_JOINT,
    "parallel_laplacian": PARALLEL,
    "magnitude_pruning": MAGNITUDE,
    "magnitude_threshold": MAGNITUDE_THRESHOLD,
    "random_pruning": RANDOM,
}
"""Name of each quality and its code in compiled functions."""

BOUNDS = ("rate_distortion", "parallel_laplacian_joint", "parallel_laplacian")
"""Qualities that are bounds: their distortion never reaches 0, so that a log scale is possible."""

_LN2 = math.log(2.0)
_ITERATIONS = 60


def block_rows(parameters: ArrayLike, rates: ArrayLike) -> NDArray[np.float64]:
    """Blocks as the functions here take them.

    Parameters
    ----------
    parameters, rates : array_like, shape (J,)
        `N_j` and the Laplacian rates `lambda_j`.

    Returns
    -------
    ndarray, shape (J, 4)
        Both, the scales ``1 / lambda_j`` and their logarithms: a logarithm takes longer than all else of a block.
    """
    rows = np.column_stack([parameters, rates, rates, rates]).astype(np.float64)
    rows[:, 2] = 1.0 / rows[:, 1]
    rows[:, 3] = [-math.log(rate) for rate in rows[:, 1].tolist()]
    return rows


def log_distortion_zero(parameters: NDArray[np.float64], rates: NDArray[np.float64], norm: str = "l1") -> float:
    """Natural logarithm of the rate-distortion bound at rate 0 (Thm IV.1).

    ``D(R) >= N/e (V_N N!)^(-1/N) 2^((h - R)/N)`` with the entropy ``h = sum_j N_j log2(2e/lambda_j)`` of independent
    Laplacian weights and `V_N` the volume of the unit ball of the norm; for l1 it is ``N/(2e) 2^((h - R)/N)``.

    Parameters
    ----------
    parameters, rates : ndarray, shape (J,)
        `N_j` and `lambda_j` of the blocks.
    norm : {"l1", "l2"}
        Norm of the distortion.

    Returns
    -------
    float
        ``ln D(0)``.
    """
    total = float(parameters.sum())
    entropy_nats = float((parameters * (math.log(2.0) + 1.0 - np.log(rates))).sum())
    if norm == "l1":
        log_ball = total * math.log(2.0)
    else:
        log_ball = total / 2 * math.log(math.pi) - math.lgamma(total / 2 + 1) + math.lgamma(total + 1)
    return math.log(total) - 1.0 - log_ball / total + entropy_nats / total


@kernel
def rate_distortion_bound(log_zero: float, rate_bits: float, parameters: float) -> float:
    """Least distortion any code of `rate_bits` bits can reach, ``D(0) 2^(-R/N)`` (eq. 41)."""
    return math.exp(log_zero - rate_bits / parameters * _LN2)


@kernel
def rate_distortion_rate(log_zero: float, distortion: float, parameters: float) -> float:
    """Least rate in bits that allows `distortion` (eq. 40), the inverse of `rate_distortion_bound`; at least 0."""
    return max(0.0, (log_zero - math.log(distortion)) * parameters / _LN2)


@kernel
def parallel_rate(water: float, blocks: NDArray[np.float64], first: int, last: int) -> float:
    """Rate in bits of a parallel Laplacian source at water level `water` per weight (Prop. IV.1, eq. 43)."""
    rate = 0.0
    for j in range(first, last):
        ratio = blocks[j, 1] * water
        if ratio < 1.0:
            rate -= blocks[j, 0] * math.log(ratio)
    return rate / _LN2


@merged_kernel
def parallel_distortion(rate_bits: float, blocks: NDArray[np.float64], first: int, last: int) -> float:
    """Distortion of a parallel Laplacian source at `rate_bits` by reverse water-filling (eqs. 60 and 61).

    ``D = sum_j N_j min(gamma, 1/lambda_j)``. The blocks under water are found by dropping, pass by pass, those whose
    scale the level exceeds; the level only rises, so that at most `J` passes are made.
    """
    log_water = -math.inf
    for _ in range(last - first + 1):
        weight, total, lowest = 0.0, 0.0, math.inf
        for j in range(first, last):
            scale = blocks[j, 3]
            if scale > log_water:
                weight += blocks[j, 0]
                total += blocks[j, 0] * scale
                lowest = min(lowest, scale)
        if weight == 0.0:
            break
        log_water = max(log_water, (total - rate_bits * _LN2) / weight)
        if log_water < lowest:
            break
    water = math.exp(log_water)
    distortion = 0.0
    for j in range(first, last):
        distortion += blocks[j, 0] * min(water, blocks[j, 2])
    return distortion


@kernel
def magnitude_distortion(retained: float, scale: float) -> float:
    """Distortion of keeping the largest share `retained` of Laplacian weights, ``A (1 - rho + rho ln rho)``.

    `scale` is ``A = N / lambda``, summed over blocks that share the ratio: the distortion of keeping nothing.
    """
    if retained <= 0.0:
        return scale
    return scale * (1.0 - retained + retained * math.log(retained))


@kernel
def random_distortion(retained: float, scale: float) -> float:
    """Distortion of keeping a random share of the weights, ``A (1 - rho)`` with ``A = sum N_j / lambda_j``."""
    return scale * (1.0 - retained)


@kernel
def threshold_distortion(retained: float, blocks: NDArray[np.float64], first: int, last: int) -> float:
    """Distortion of pruning a whole side at one magnitude threshold that keeps the share `retained`.

    At a threshold `theta` the side keeps the share ``sum N_j exp(-lambda_j theta) / sum N_j``. Its logarithm is convex
    and falls with `theta`, so that Newton from 0 climbs to the threshold of a share; with equal rates in one step.
    """
    total, scale = 0.0, 0.0
    for j in range(first, last):
        total += blocks[j, 0]
        scale += blocks[j, 0] / blocks[j, 1]
    if retained <= 0.0 or total == 0.0:
        return scale
    threshold = 0.0
    for _ in range(_ITERATIONS):
        kept, slope = 0.0, 0.0
        for j in range(first, last):
            share = blocks[j, 0] * math.exp(-blocks[j, 1] * threshold)
            kept += share
            slope += blocks[j, 1] * share
        step = math.log(kept / (retained * total)) * kept / slope
        threshold += step
        if step <= 1e-9 * threshold:  # what is missing is of the order of the step squared
            break
    distortion = 0.0
    for j in range(first, last):
        exponent = blocks[j, 1] * threshold
        distortion += blocks[j, 0] / blocks[j, 1] * (1.0 - (1.0 + exponent) * math.exp(-exponent))
    return distortion
