"""Bootstrap intervals: how sure the mean over some worlds is, and the difference of two policies in the same worlds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
_BLOCK = 4_000_000  # counts drawn at a time, 32 MB


class Estimate(NamedTuple):
    """A mean and its 95 % interval; arrays of one shape."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def at(self, *place: int) -> dict[str, float]:
        """Mean and ends at one place, by their names."""
        return {name: float(part[place]) for name, part in self._asdict().items()}


def paired_bootstrap(values: NDArray[np.float64], reference: int | None = None) -> tuple[Estimate, Estimate | None]:
    """Percentile intervals of means over worlds, and of the differences to the policy `reference`, where one is given.

    Worlds are resampled, the same ones for every policy and metric: what a lucky draw of worlds gives to all policies
    cancels in their differences. `values` has the shape (policies, worlds, metrics), with NaN behind the last world of
    a policy that did not play all; a difference is over the worlds that both have played.
    """
    return _estimate(values), None if reference is None else _estimate(values - values[reference])


def _estimate(values: NDArray[np.float64]) -> Estimate:
    """Means and intervals, those of policies that played equally many worlds by the same resamples."""
    worlds = np.count_nonzero(~np.isnan(values[:, :, 0]), axis=1)
    mean, low, high = np.empty((3, len(values), values.shape[2]))
    for count in np.unique(worlds).tolist():
        chosen = np.flatnonzero(worlds == count)
        played = values[chosen, :count]
        table = played.transpose(1, 0, 2).reshape(count, -1)
        means = _resampled_means(table)
        mean[chosen] = played.mean(axis=1)
        low[chosen], high[chosen] = np.percentile(means, [2.5, 97.5], axis=0).reshape(2, len(chosen), -1)
    return Estimate(mean, low, high)


def _resampled_means(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over resampled rows, shape (resamples, columns): how often a row is drawn is multinomial."""
    worlds, generator = len(table), np.random.default_rng(0)
    chances = np.full(worlds, 1.0 / worlds)
    means = np.empty((RESAMPLES, table.shape[1]))
    step = max(1, _BLOCK // worlds)
    for start in range(0, RESAMPLES, step):
        counts = generator.multinomial(worlds, chances, size=min(step, RESAMPLES - start))
        means[start : start + step] = counts @ table / worlds
    return means


def shares(values: NDArray[np.float64], bounds: NDArray[np.float64]) -> Estimate:
    """Mean of each row of `values` as a share of the mean of `bounds`, both over the same worlds; shape (rows,)."""
    means = _resampled_means(np.column_stack([values.T, bounds]))
    ratios = means[:, :-1] / means[:, -1:]
    return Estimate(values.mean(axis=1) / bounds.mean(), *np.percentile(ratios, [2.5, 97.5], axis=0))
