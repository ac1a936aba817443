"""Regression trees distilled from a smooth model, since a few hundred measured designs are too few for trees alone.

Accuracy falls smoothly with every ratio and with the channels sent. A Gaussian process learns that from 300 designs;
trees need far more. So the process is fitted to the measurements and predicts thousands of drawn designs, and the trees
are fitted to its predictions. They keep its precision, are fast, and allow proofs.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from coinfer_gym.layerwise.designs import make_designs
from coinfer_gym.layerwise.network import Network, load_network
from coinfer_gym.layerwise.predictor import write_features
from studies.mu.cifar.sweep import HIGHEST_SNR, LEAST_RETAINED, UNCOMPRESSED, UNPRUNED

LESSONS = 12_000
"""Designs that the process predicts for the trees."""

TREES = 100

_LESSONS_SEED = 1_000_003  # apart from the designs that are measured
_LEAST = 0.1  # accuracy of guessing
_MARGIN = 0.02  # the loss is counted from so much above the best measured accuracy

Array = NDArray[np.float64]


class DistilledTrees(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Boosted trees of depth 3, fitted to the predictions of a Gaussian process and monotone in what is kept and sent.

    An optimizer finds every error of a predictor: without the constraint it would end where few designs were measured
    and the trees are too optimistic by chance. `unpruned` is the accuracy of the network as it is, `noisy` whether the
    last feature is the ratio of signal to noise, and `seed` that of the lessons. The trees are ``student_``.
    """

    def __init__(self, network: str, unpruned: float | None = None, noisy: bool = False, seed: int = 0) -> None:
        self.network = network
        self.unpruned = unpruned
        self.noisy = noisy
        self.seed = seed

    def fit(self, X: Array, y: Array) -> Self:
        """Fit the process to measured designs, and the trees to the process."""
        network, lessons = _lessons(self.network, self.noisy, self.seed, LESSONS)
        if self.unpruned is not None and not self.noisy:
            known = features_of(network, _unpruned(network))
            X, y = np.concatenate([X, known]), np.concatenate([y, np.full(len(known), self.unpruned)])
        highest = float(np.max(y)) + _MARGIN
        smooth = _smooth(network, X)
        # Of losses the square roots: those of lightly pruned designs differ by little, and matter most.
        kernel = ConstantKernel(1.0) * Matern(np.full(smooth.shape[1], 3.0), nu=1.5) + WhiteKernel(0.1)
        teacher = make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True))
        with warnings.catch_warnings():
            # A feature without effect has a length at the end of its range.
            warnings.simplefilter("ignore", ConvergenceWarning)
            teacher.fit(smooth, np.sqrt(highest - y))
        losses = np.maximum(teacher.predict(_smooth(network, lessons)), 0.0) ** 2
        # More kept means a smaller share of it sent for as many values: the compression alone has no direction.
        rising = [1] * len(network.groups) + [0, 0] + [1] * (lessons.shape[1] - len(network.groups) - 2)
        self.student_ = HistGradientBoostingRegressor(
            max_iter=TREES, max_depth=3, learning_rate=0.25, early_stopping=False, monotonic_cst=rising
        ).fit(lessons, np.maximum(highest - losses, _LEAST))
        return self

    def predict(self, X: Array) -> Array:
        """Accuracy of designs by their features."""
        return np.asarray(self.student_.predict(X))


def _smooth(network: Network, features: Array) -> Array:
    """What accuracy is a smooth function of: logarithms of shares that are kept, and of channels that are not sent."""
    groups, tables = len(network.groups), network.tables
    cuts = tables.cuts[features[:, groups].astype(np.int64)]
    kept = np.rint(features[:, :groups] * tables.groups["channels"])
    codec = features[:, groups + 1] < 1.0
    area = np.log2(np.maximum(cuts["area"], 1.0))
    sent = features[:, groups + 2] - area
    unpruned = np.append(1.0, tables.groups["channels"])[cuts["group"]]
    behind = np.column_stack([np.ones(len(kept)), kept])[np.arange(len(kept)), cuts["group"]]
    of_codec = [
        np.ones(len(kept)),
        features[:, groups],
        np.log2(unpruned) - sent,
        np.maximum(np.log2(behind) - sent, 0.0),
        sent,
        cuts["vector"],
        area,
    ]
    return np.column_stack(
        [
            np.log(features[:, :groups]),
            codec[:, None] * np.column_stack(of_codec),
            features[:, groups + 3 :],
        ]
    )


@cache
def _lessons(name: str, noisy: bool, seed: int, count: int) -> tuple[Network, Array]:
    """A network, and features of drawn designs: like the measured ones, but strongly pruned ones as often as others."""
    network = load_network(name)
    generator, groups = np.random.default_rng([_LESSONS_SEED, seed]), len(network.groups)
    severity = generator.random((count, 1))
    retained = 1.0 - severity * generator.uniform(0.0, 1.0 - LEAST_RETAINED, (count, groups))
    retained[generator.random((count, groups)) < UNPRUNED] = 1.0
    cut = generator.integers(1, network.cuts - 1, count) if noisy else generator.integers(network.cuts, size=count)
    channels = np.append(1.0, network.tables.groups["channels"])[network.tables.cuts["group"][cut]]
    compression = channels ** -(severity[:, 0] * generator.random(count))
    compression[generator.random(count) < UNCOMPRESSED] = 1.0
    ratios = np.column_stack([cut, retained, compression, np.zeros((count, 2))])
    noise = generator.uniform(0.0, HIGHEST_SNR, count) if noisy else None
    return network, features_of(network, ratios if noisy else np.concatenate([ratios, _unpruned(network)]), noise)


def _unpruned(network: Network) -> Array:
    """Ratios of the unpruned network at every cut."""
    return np.column_stack(
        [np.arange(network.cuts), np.ones((network.cuts, len(network.groups) + 1)), np.zeros((network.cuts, 2))]
    )


def features_of(network: Network, ratios: Array, snr_db: Array | None = None) -> Array:
    """What a predictor reads of the designs of some ratios, on a noisy channel where its ratio is given."""
    designs = make_designs(network, ratios)
    features = np.empty((len(designs), len(network.groups) + 3 + (snr_db is not None)))
    for i in range(len(designs)):
        write_features(network.tables, designs, i, 0.0 if snr_db is None else snr_db[i], features)
    return features
