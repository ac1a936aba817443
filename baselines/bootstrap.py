"""Paired bootstrap: how sure the mean over some worlds is, and the difference of two policies in the same worlds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
_BLOCK = 4_000_000  # counts drawn at a time, 32 MB


class Estimate(NamedTuple):
    """A mean and its 95 % interval; arrays of one shape.

    Attributes
    ----------
    mean, low, high : ndarray
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def paired_bootstrap(
    values: NDArray[np.float64], reference: int | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Estimate, Estimate | None]:
    """Percentile intervals of means over worlds, and of the differences to one policy.

    Worlds are what is resampled, and every policy and metric gets the same ones: what a lucky draw of worlds gives to
    all policies cancels in their differences.

    Parameters
    ----------
    values : ndarray, shape (policies, worlds, metrics)
    reference : int, optional
        The policy that the others are compared with.
    resamples : int
        Number of resamples.
    seed : int
        Seed of their generator.

    Returns
    -------
    estimate : Estimate of shape (policies, metrics)
    difference : Estimate of shape (policies, metrics), or None
        Policy less reference, where there is one.
    """
    policies, worlds, metrics = values.shape
    table = values.transpose(1, 0, 2).reshape(worlds, -1)
    means = _resampled_means(table, resamples, np.random.default_rng(seed)).reshape(resamples, policies, metrics)
    point = values.mean(axis=1)
    estimate = _percentiles(point, means)
    if reference is None:
        return estimate, None
    return estimate, _percentiles(point - point[reference], means - means[:, reference : reference + 1])


def _resampled_means(table: NDArray[np.float64], resamples: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Means over resampled rows, shape (resamples, columns): how often a row is drawn is multinomial."""
    worlds = len(table)
    chances = np.full(worlds, 1.0 / worlds)
    means = np.empty((resamples, table.shape[1]))
    step = max(1, _BLOCK // worlds)
    for start in range(0, resamples, step):
        counts = generator.multinomial(worlds, chances, size=min(step, resamples - start))
        means[start : start + step] = counts @ table / worlds
    return means


def _percentiles(point: NDArray[np.float64], means: NDArray[np.float64]) -> Estimate:
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return Estimate(point, low, high)
