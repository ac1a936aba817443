"""Accuracy predictors: a fitted regressor as plain numbers that compiled code evaluates.

Mu et al. (Sec. V-C) fit a regressor of scikit-learn to measured designs. Only its numbers are kept here, a constant, a
linear form and a sum of regression trees, so that an environment needs neither scikit-learn nor a pickle.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coinfer_gym._compile import merged_kernel
from coinfer_gym.checks import check_keys, is_number
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import find_file, read_json, shipped_names
from coinfer_gym.layerwise.designs import SENT, kept_before
from coinfer_gym.layerwise.network import NetworkTables
from coinfer_gym.layerwise.trees import (
    LEAF,
    LeafMasks,
    TreeTables,
    build_masks,
    build_tables,
    count_complete,
    predict_rows,
)

_KIND = "regression"
_METRIC = "accuracy"
_TEXTS = ("name", "network", "regressor", "description", "made_by")
_NUMBERS = ("unpruned", "base")
_LISTS = ("features", "coefficients", "tests", "numbers")
_KEYS = ("kind", "metric", *_TEXTS, *_NUMBERS, "scores", *_LISTS)
_FOLDER = resources.files("coinfer_gym.layerwise") / "predictors"


@dataclass(frozen=True, eq=False)
class RegressionPredictor:
    """Predicted accuracy of a design: a constant, a linear form and a sum of regression trees, clipped to [0, 1].

    Attributes
    ----------
    name : str
        Name of the predictor.
    network : str
        Name of the network whose designs were measured.
    unpruned : float
        Accuracy of the unpruned network, in (0, 1].
    features : tuple of str
        What the prediction depends on, in the order of `feature_names`.
    regressor : str
        What was fitted, for example ``"GradientBoosting"``.
    scores : mapping of str to float
        Scores of the regressor in cross-validation.
    base : float
        Constant of the sum.
    coefficients : ndarray, shape (d,)
        Coefficients of the linear form; all 0 if there are only trees.
    tests : ndarray of int, shape (M,)
        Nodes of all trees in preorder: the index of the feature that a node tests, or `LEAF`. After a test come the
        nodes below its first child (feature at most the number), then those below its second.
    numbers : ndarray, shape (M,)
        Each test's number and each leaf's value.
    description : str
        Where the numbers come from.
    made_by : str
        Command that made the file.

    Raises
    ------
    InvalidInputError
        If a value is out of range, the shapes do not agree, or the last tree is incomplete.
    """

    name: str
    network: str
    unpruned: float
    features: tuple[str, ...]
    regressor: str
    scores: Mapping[str, float]
    base: float
    coefficients: NDArray[np.float64]
    tests: NDArray[np.int64]
    numbers: NDArray[np.float64]
    description: str = ""
    made_by: str = ""

    def __post_init__(self) -> None:
        origin = f"predictor {self.name!r}"
        if not 0.0 < self.unpruned <= 1.0:
            raise InvalidInputError(f"{origin}: unpruned", self.unpruned, "Give the accuracy of the unpruned network.")
        count = len(self.features)
        if self.coefficients.shape != (count,):
            shape = f"shape {self.coefficients.shape}"
            raise InvalidInputError(f"{origin}: coefficients", shape, f"Give one for each of {count} features.")
        if self.tests.ndim != 1 or self.tests.shape != self.numbers.shape:
            shapes = f"shapes {self.tests.shape} and {self.numbers.shape}"
            raise InvalidInputError(f"{origin}: tests, numbers", shapes, "Give one number for each node.")
        if not (np.isfinite([self.base, *self.coefficients]).all() and np.isfinite(self.numbers).all()):
            raise InvalidInputError(f"{origin}: numbers", math.nan, "All numbers must be finite.")
        outside = (self.tests < LEAF) | (self.tests >= count)
        if outside.any():
            remedy = f"Give features 0 to {count - 1}, {LEAF} at a leaf."
            raise InvalidInputError(f"{origin}: tests", int(self.tests[outside][0]), remedy)
        if count_complete(self.tests) != len(self.tests):
            remedy = "The last tree is not complete: its leaves are missing."
            raise InvalidInputError(f"{origin}: tests", f"{len(self.tests)} nodes", remedy)

    @property
    def noisy(self) -> bool:
        """Whether it was fitted for a noisy channel: its last feature is then the signal-to-noise ratio."""
        return self.features[-1] == "snr_db"

    @cached_property
    def tables(self) -> TreeTables:
        """The predictor as compiled code reads it; read-only."""
        return build_tables(self.base, self.coefficients, self.tests, self.numbers)

    @cached_property
    def leaf_masks(self) -> LeafMasks:
        """The trees as `coinfer_gym.layerwise.trees.predict_lane` reads them; read-only."""
        return build_masks(self.tables, self.tests)

    def predict(self, features: ArrayLike) -> NDArray[np.float64]:
        """Accuracies, shape (n,), of rows of features, shape (n, d).

        Raises
        ------
        InvalidInputError
            If a row does not have d finite numbers.
        """
        rows = np.ascontiguousarray(features, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.features):
            raise InvalidInputError("features", f"shape {rows.shape}", f"Give rows of {', '.join(self.features)}.")
        if not np.isfinite(rows).all():
            raise InvalidInputError("features", math.nan, "All features must be finite.")
        accuracies = np.empty(len(rows))
        predict_rows(self.tables, rows, accuracies)
        return accuracies

    def to_dict(self) -> dict[str, Any]:
        """Plain form, as the JSON files hold it."""
        plain: dict[str, Any] = {"kind": _KIND, "metric": _METRIC}
        plain |= {key: getattr(self, key) for key in (*_TEXTS, *_NUMBERS)}
        plain["scores"], plain["features"] = dict(self.scores), list(self.features)
        return plain | {key: getattr(self, key).tolist() for key in ("coefficients", "tests", "numbers")}

    def to_json(self) -> str:
        """Text of the JSON file; every number reads back as the same float64."""
        return json.dumps(self.to_dict(), separators=(",", ":")) + "\n"


def load_regression_predictor(source: str | Path, groups: Sequence[str] | None = None) -> RegressionPredictor:
    """Predictor by the name of a shipped one or by the path of a JSON file.

    Parameters
    ----------
    source : str or Path
        For example ``"alexnet-l1"`` or ``"my/predictor.json"``.
    groups : sequence of str, optional
        Names of the network's groups, if the predictor must be of a network with these.

    Raises
    ------
    InvalidInputError
        If there is no such predictor or file, its content is not a valid predictor of this kind, or it is of a network
        with other groups.
    """
    content = read_json(find_file(source, "predictor", _FOLDER, ".json"), "predictor")
    origin = f"predictor {str(source)!r}"
    predictor = _from_dict(content, origin)
    if groups is not None and predictor.features != feature_names(groups, predictor.noisy):
        wanted = ", ".join(feature_names(groups, predictor.noisy))
        raise InvalidInputError(f"{origin}: features", list(predictor.features), f"Those of the network are {wanted}.")
    return predictor


def shipped_regression_predictors() -> list[str]:
    """Names of the predictors in the package, sorted."""
    return shipped_names(_FOLDER, ".json")


def _from_dict(content: Any, origin: str) -> RegressionPredictor:
    if isinstance(content, dict) and content.get("kind") != _KIND:
        raise InvalidInputError(f"{origin}: kind", content.get("kind"), f"Give a predictor of the kind {_KIND!r}.")
    check_keys(content, _KEYS, _KEYS, origin)
    if content["metric"] != _METRIC:
        raise InvalidInputError(f"{origin}: metric", content["metric"], f"Give a predictor of {_METRIC!r}.")
    for key in _TEXTS:
        if not isinstance(content[key], str):
            raise InvalidInputError(f"{origin}: {key}", content[key], "Give text.")
    for key in _NUMBERS:
        if not is_number(content[key]):
            raise InvalidInputError(f"{origin}: {key}", content[key], "Give a number.")
    for key in _LISTS:
        if not isinstance(content[key], list):
            raise InvalidInputError(f"{origin}: {key}", content[key], "Give a list.")
    scores, names, tests = content["scores"], content["features"], content["tests"]
    if not (isinstance(scores, dict) and all(is_number(value) for value in scores.values())):
        raise InvalidInputError(f"{origin}: scores", scores, "Give numbers by name.")
    if not (names and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)):
        raise InvalidInputError(f"{origin}: features", names, "Give at least one name, and none twice.")
    for key in ("coefficients", "numbers"):
        if not all(map(is_number, content[key])):
            raise InvalidInputError(f"{origin}: {key}", "something else", "Give a list of numbers.")
    if not all(isinstance(test, int) and not isinstance(test, bool) and abs(test) < 2**31 for test in tests):
        raise InvalidInputError(f"{origin}: tests", "something else", "Give a list of whole numbers.")
    plain = {key: content[key] for key in (*_TEXTS, *_NUMBERS)}
    arrays = {key: np.array(content[key], np.float64) for key in ("coefficients", "numbers")}
    plain |= {"scores": scores, "features": tuple(names), "tests": np.array(tests, np.int64), **arrays}
    return RegressionPredictor(**plain)


def feature_names(groups: Sequence[str], noisy: bool) -> tuple[str, ...]:
    """Names of the features of a design, in the order of `write_features`.

    Parameters
    ----------
    groups : sequence of str
        Names of the network's groups.
    noisy : bool
        Whether the signal-to-noise ratio of the channel is a feature.
    """
    names = (*(f"retained_{group}" for group in groups), "cut", "compression", "log2_values")
    return (*names, "snr_db") if noisy else names


@merged_kernel
def write_features(
    network: NetworkTables, designs: NDArray[np.float64], i: int, snr_db: float, features: NDArray[np.float64]
) -> None:
    """Write the features of the design in row `i` to row `i` of `features`, in the order of `feature_names`.

    They are shares of channels that are kept, the cut, the share of the channels before it that is sent, and the
    logarithm of the number of values sent. Without a codec and without noise a network is the same wherever it is cut,
    so that the last three are those of cut 0, where the image is sent.

    Parameters
    ----------
    network : NetworkTables
    designs : ndarray, shape (n, G + 4)
        See `coinfer_gym.layerwise.designs.SENT`.
    i : int
    snr_db : float
        Signal-to-noise ratio of the link, dB; without effect if `features` has no column for it.
    features : ndarray, shape (n, d)
    """
    count = network.groups.shape[0]
    for g in range(count):
        features[i, g] = designs[i, g + 1] / network.groups[g].channels
    cut = int(designs[i, 0])
    kept, sent = kept_before(designs, i, network.cuts[cut].group), designs[i, SENT]
    noisy = features.shape[1] > count + 3
    seen = seen_cut(cut, sent < kept, noisy)
    if seen != cut:
        kept, sent = 1.0, 1.0
    features[i, count] = seen
    features[i, count + 1] = sent / kept
    features[i, count + 2] = log2_values(network.cuts[seen].area, sent)
    if noisy:
        features[i, count + 3] = snr_db


@merged_kernel
def seen_cut(cut: int, codec: bool, noisy: bool) -> int:
    """The cut that is a feature: 0 where it makes no difference."""
    return cut if codec or noisy else 0


@merged_kernel
def log2_values(area: float, sent: float) -> float:
    """Logarithm of the number of values that are sent; that of none counts as 0."""
    return math.log2(area * sent) if area > 0.0 else 0.0
