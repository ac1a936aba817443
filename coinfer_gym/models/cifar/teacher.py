"""Regression trees taught by a smooth model: a few hundred measured designs are too few for trees alone.

Accuracy falls smoothly with every ratio and with the channels sent. A Gaussian process finds that from 300 designs;
trees have to be shown each step. So the process is fitted to the measurements and predicts thousands of drawn designs,
on which the trees are fitted: they keep its precision, and trees are fast and allow proofs.
"""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
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
        smooth = _smooth(network, X)
        # Of losses the square roots: those of lightly pruned designs differ by little, and matter most.
        kernel = ConstantKernel(1.0) * Matern(np.full(smooth.shape[1], 3.0), nu=1.5) + WhiteKernel(0.1)
        teacher = make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True))
        with warnings.catch_warnings():
            # A feature without effect has a length at the end of its range.
            warnings.simplefilter("ignore", ConvergenceWarning)
            teacher.fit(smooth, np.sqrt(highest - y))
        lessons = _lessons(network, self.noisy)
        losses = np.maximum(teacher.predict(_smooth(network, lessons)), 0.0) ** 2
        self.student_ = GradientBoostingRegressor(
            n_estimators=100, learning_rate=0.3, max_depth=3, subsample=0.5, random_state=self.seed
        ).fit(lessons, np.maximum(highest - losses, _LEAST))
        return self

    def predict(self, X: Array) -> Array:
        """Accuracy of designs by their features."""
        return np.asarray(self.student_.predict(X))


def _smooth(network: Network, features: Array) -> Array:
    """What accuracy is a smooth function of: logarithms of ratios truly kept, and of channels that are not sent."""
    groups, tables = len(network.groups), network.tables
    cuts = tables.cuts[features[:, groups].astype(np.int64)]
    kept = np.array([network.kept(retained) for retained in features[:, :groups]], np.float64)
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
            np.log(kept / tables.groups["channels"]),
            codec[:, None] * np.column_stack(of_codec),
            features[:, groups + 3 :],
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
