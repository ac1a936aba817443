"""Regression trees taught by a smooth model: a few hundred measured designs are too few for trees alone.

Accuracy falls smoothly with every ratio and with the channels sent. A Gaussian process finds that from 300 designs;
trees have to be shown each step. So the process is fitted to the measurements and predicts thousands of drawn designs,
on which the trees are fitted: they keep its precision, and trees are fast and allow proofs.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from coinfer_gym.layerwise.delay import sent_channels
from coinfer_gym.layerwise.network import Network, load_network
from coinfer_gym.layerwise.predictor import feature_names, write_features
from coinfer_gym.models.cifar.compress import Design
from coinfer_gym.models.cifar.sweep import draw_design

LESSONS = 6000
"""Designs that the process predicts for the trees."""

_LESSONS_SEED = 1_000_003  # apart from the designs that are measured
_LEAST = 0.1  # accuracy of guessing
_MARGIN = 0.02  # the loss is counted from so much above the best measured accuracy
_ALL = 12.0  # more than the logarithm of any number of channels sent: no codec

Array = NDArray[np.float64]


class TaughtTrees(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Gradient boosting of depth 3, fitted to what a Gaussian process predicts of drawn designs.

    Parameters
    ----------
    network : str
        Name of the network.
    noisy : bool
        Whether the last feature is the ratio of signal to noise.
    seed : int
        Of the trees.

    Attributes
    ----------
    student_ : GradientBoostingRegressor
        The trees.
    """

    def __init__(self, network: str, noisy: bool = False, seed: int = 0) -> None:
        self.network = network
        self.noisy = noisy
        self.seed = seed

    def fit(self, X: Array, y: Array) -> Self:
        """Fit the process to measured designs, and the trees to the process."""
        network = load_network(self.network)
        highest = float(np.max(y)) + _MARGIN
        kernel = ConstantKernel(1.0) * RBF(np.full(_smooth(network, X[:1]).shape[1], 3.0)) + WhiteKernel(0.1)
        teacher = make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True))
        teacher.fit(_smooth(network, X), np.log(highest - y))
        lessons = _lessons(network, self.noisy)
        answers = np.clip(highest - np.exp(teacher.predict(_smooth(network, lessons))), _LEAST, highest)
        self.student_ = GradientBoostingRegressor(
            n_estimators=100, learning_rate=0.3, max_depth=3, subsample=0.5, random_state=self.seed
        ).fit(lessons, answers)
        return self

    def predict(self, X: Array) -> Array:
        """Accuracy of designs by their features."""
        return np.asarray(self.student_.predict(X))


def _smooth(network: Network, features: Array) -> Array:
    """The features with ratios and numbers of channels on scales on which accuracy is smooth."""
    groups = len(network.groups)
    cuts = network.tables.cuts[features[:, groups].astype(np.int64)]
    compressed = features[:, groups + 1] < 1.0
    sent = np.where(compressed, features[:, groups + 2] - np.log2(np.maximum(cuts["area"], 1.0)), _ALL)
    return np.column_stack(
        [
            features,
            np.log2(features[:, groups + 1]),
            np.log(features[:, :groups]).mean(axis=1),
            sent,
            compressed,
            compressed * cuts["vector"],
            compressed * np.log2(np.maximum(cuts["area"], 1.0)),
        ]
    )


def _lessons(network: Network, noisy: bool) -> Array:
    """Features of designs that are drawn as the measured ones were."""
    designs = [draw_design(network, number, noise=noisy, seed=_LESSONS_SEED) for number in range(LESSONS)]
    rows = np.array([[each.cut, *each.retained, each.compression, 0.0, 0.0] for each in designs])
    features = np.empty((LESSONS, len(feature_names([group.name for group in network.groups], noisy))))
    for i, each in enumerate(designs):
        write_features(rows, i, _sent_values(network, each), each.snr_db or 0.0, features)
    return features


def _sent_values(network: Network, design: Design) -> float:
    """Values that a design sends."""
    cut: Any = network.tables.cuts[design.cut]
    if not 0 < design.cut < network.cuts - 1:
        return float(cut["area"])
    kept = network.kept(design.retained)[cut["group"] - 1]
    return float(cut["area"] * sent_channels(design.compression, float(kept)))
