"""Accuracy predictor of a compressed network: a fitted regressor as plain arrays that compiled code evaluates.

Mu et al. (Sec. V-C) fit a regressor of scikit-learn to measured designs. Here it is its numbers alone, a constant plus
a linear form plus a sum of regression trees, so that a step of an environment needs neither scikit-learn nor a pickle.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.checks import check_keys, is_number
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import find_file, read_json, shipped_names

__all__ = [
    "LEAF",
    "LeafMasks",
    "RegressionPredictor",
    "TreeTables",
    "bound_box",
    "feature_names",
    "load_regression_predictor",
    "predict_lane",
    "predict_row",
    "predict_rows",
    "shipped_regression_predictors",
    "write_features",
]

LEAF = -1
"""What stands in `RegressionPredictor.tests` for a leaf."""

_KIND = "regression"
_METRIC = "accuracy"
_TEXTS = ("name", "network", "regressor", "description", "made_by")
_NUMBERS = ("unpruned", "base")
_LISTS = ("features", "coefficients", "tests", "numbers")
_KEYS = ("kind", "metric", *_TEXTS, *_NUMBERS, "scores", *_LISTS)
_BYTE = 8
_BUCKETS = 256
_FOLDER = resources.files("coinfer_gym.layerwise").joinpath("predictors")


class TreeTables(NamedTuple):
    """A predictor as compiled code reads it; the nodes of all trees stand one after the other, each tree in preorder.

    A leaf's way leads back to itself, so that a descent of fixed length needs no branch. Places are unsigned: if
    they were signed, numba would look whether they count from the end, and a prediction took several times as long.

    Attributes
    ----------
    base : float
        Constant of the sum.
    coefficients : ndarray, shape (d,)
        Of the linear form.
    roots, depths : ndarray of unsigned int, shape (T,)
        First node of each tree, and tests on its longest way.
    feature : ndarray of int, shape (M,)
        What a node tests; 0 at a leaf.
    number : ndarray, shape (M,)
        Largest value that goes to the first child; a leaf's value.
    ways : ndarray of int, shape (2 M,)
        Node ``ways[2 m]`` follows node m where the feature is not above its number, ``ways[2 m + 1]`` where it is.
    parent : ndarray of int, shape (M,)
        Node above; a root's is itself.
    after : ndarray of int, shape (M,)
        First node behind all nodes below this one.
    """

    base: float
    coefficients: NDArray[np.float64]
    roots: NDArray[np.uint32]
    depths: NDArray[np.uint32]
    feature: NDArray[np.uint32]
    number: NDArray[np.float64]
    ways: NDArray[np.uint32]
    parent: NDArray[np.uint32]
    after: NDArray[np.uint32]


class LeafMasks(NamedTuple):
    """Small trees by the leaves that are left: eight trees of up to eight leaves in a word, a byte each.

    A test that is passed (feature above its number) rules out the leaves below its first child; the first leaf that no
    test has ruled out is where the tree ends. What all tests of one feature rule out depends on how many of their
    numbers it is above, so that a row of masks for each such rank answers all trees at once (the idea of Lucchese et
    al., QuickScorer, 2015).

    Attributes
    ----------
    limits : ndarray, shape (L + d,)
        Numbers that each feature is tested against, ascending, and infinity; those of one feature after another's.
    low, scale : ndarray, shape (d,)
        Feature f with value x lies in bucket ``(x - low[f]) * scale[f]``, rounded down and clipped.
    places : ndarray of unsigned int, shape (d, B)
        Place in `limits` of the first one that a value in the bucket may be not above.
    most : int
        Limits in one bucket at most.
    masks : ndarray of unsigned int, shape ((L + d) W,)
        W words for each of `limits`: the leaves left where the feature is above those before it. None where a tree has
        more than eight leaves.
    values : ndarray, shape (64 W,)
        Of the eight leaves of each tree.
    first : ndarray of unsigned int, shape (256,)
        Place of the lowest bit of a byte.
    """

    limits: NDArray[np.float64]
    low: NDArray[np.float64]
    scale: NDArray[np.float64]
    places: NDArray[np.uint64]
    most: int
    masks: NDArray[np.uint64]
    values: NDArray[np.float64]
    first: NDArray[np.uint8]


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
        Accuracy of the network as it is, in (0, 1].
    features : tuple of str
        What it is a function of, in the order of `feature_names`.
    regressor : str
        Name of what was fitted, for example ``"GradientBoosting"``.
    scores : mapping of str to float
        Of the regressor in cross-validation.
    base : float
        Constant of the sum.
    coefficients : ndarray, shape (d,)
        Of the linear form; all 0 where there are trees only.
    tests : ndarray of int, shape (M,)
        Nodes of all trees in preorder: number of the feature that a node tests, or `LEAF`. A test is followed by what
        lies below its first child (feature not above the number), then by what lies below its second.
    numbers : ndarray, shape (M,)
        Each test's number and each leaf's value.
    description : str
        Where the numbers come from.
    made_by : str
        Command that made the file.

    Raises
    ------
    InvalidInputError
        If it is none of these.
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
            raise InvalidInputError(
                f"{origin}: tests", int(self.tests[outside][0]), f"Give features 0 to {count - 1}, {LEAF} at a leaf."
            )
        # Every test opens one more way than it closes, every leaf closes one: the last tree must end at the last node.
        ends = _ends(self.tests)
        if len(self.tests) and (not len(ends) or ends[-1] != len(self.tests)):
            raise InvalidInputError(
                f"{origin}: tests", f"{len(self.tests)} nodes", "The last tree is not complete: its leaves are missing."
            )

    @property
    def noisy(self) -> bool:
        """Whether it was fitted for a noisy channel, whose signal-to-noise ratio then is its last feature."""
        return self.features[-1] == "snr_db"

    @cached_property
    def tables(self) -> TreeTables:
        """The predictor as compiled code reads it; read-only."""
        count = len(self.tests)
        ways, parent = np.repeat(np.arange(count), 2).reshape(count, 2), np.arange(count)
        after, level = np.arange(1, count + 1), np.zeros(count, dtype=np.int64)
        for node in reversed(range(count)):
            if self.tests[node] != LEAF:
                first = node + 1
                second = after[first]
                ways[node] = first, second
                parent[[first, second]] = node
                after[node] = after[second]
        for node in range(count):
            level[node] = 0 if parent[node] == node else level[parent[node]] + 1
        roots = np.flatnonzero(level == 0)
        depths = np.maximum.reduceat(level, roots) if count else roots
        tables = TreeTables(
            float(self.base),
            self.coefficients.copy(),
            roots.astype(np.uint32),
            depths.astype(np.uint32),
            np.maximum(self.tests, 0).astype(np.uint32),
            self.numbers.copy(),
            ways.ravel().astype(np.uint32),
            parent.astype(np.uint32),
            after.astype(np.uint32),
        )
        for table in tables[1:]:
            table.flags.writeable = False
        return tables

    @cached_property
    def leaf_masks(self) -> LeafMasks:
        """The trees as `predict_lane` reads them; read-only."""
        trees, is_leaf = self.tables, self.tests == LEAF
        limits = [np.unique(self.numbers[self.tests == f]) for f in range(len(self.features))]
        rows = np.cumsum([0, *(len(numbers) + 1 for numbers in limits)])
        low, scale, places, most = _find_buckets(limits, rows)
        before = np.cumsum(is_leaf) - is_leaf  # leaves that stand before a node
        tree = np.searchsorted(trees.roots, np.arange(len(self.tests)), side="right") - 1
        place = before - before[trees.roots[tree]] if len(tree) else before
        is_small = not (place >= _BYTE).any()
        words = -(-len(trees.roots) // _BYTE)
        left = np.full((int(rows[-1]) if is_small else 0, _BYTE * words), 0xFF, np.uint8)
        values = np.zeros((_BYTE * words, _BYTE))
        if is_small:
            values[tree[is_leaf], place[is_leaf]] = self.numbers[is_leaf]
            for node in np.flatnonzero(~is_leaf).tolist():
                feature = int(self.tests[node])
                row = int(rows[feature]) + int(np.searchsorted(limits[feature], self.numbers[node])) + 1
                second = int(trees.ways[2 * node + 1])
                left[row, tree[node]] &= 0xFF & ~((1 << int(place[second])) - (1 << int(place[node])))
            for own in map(slice, rows[:-1].tolist(), rows[1:].tolist()):
                left[own] = np.bitwise_and.accumulate(left[own], axis=0)
        ended = np.concatenate([np.append(numbers, math.inf) for numbers in limits])
        first = np.array([(byte & -byte).bit_length() - 1 if byte else 0 for byte in range(256)], np.uint8)
        masks = LeafMasks(ended, low, scale, places, most, left.view("<u8").ravel(), values.ravel(), first)
        for table in masks:
            if isinstance(table, np.ndarray):
                table.flags.writeable = False
        return masks

    def predict(self, features: ArrayLike) -> NDArray[np.float64]:
        """Accuracies, shape (n,), of rows of features, shape (n, d).

        Raises
        ------
        InvalidInputError
            If the rows are not finite numbers of this many features.
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


def load_regression_predictor(source: str | Path, groups: Sequence[str] | None = None) -> RegressionPredictor:
    """Predictor by the name of a shipped one or by the path of a JSON file.

    Parameters
    ----------
    source : str or Path
        For example ``"alexnet"`` or ``"my/predictor.json"``.
    groups : sequence of str, optional
        Names of the groups of the network that it is for.

    Raises
    ------
    InvalidInputError
        If there is no such predictor or file, its content is not a valid predictor of this kind, or its features are
        not those of a network with these groups.
    """
    name = str(source)
    content = read_json(find_file(source, "predictor", _FOLDER, ".json"), "predictor")
    origin = f"predictor {name!r}"
    predictor = _from_dict(content, origin)
    if groups is not None and predictor.features not in (feature_names(groups, False), feature_names(groups, True)):
        wanted = ", ".join(feature_names(groups, predictor.noisy))
        raise InvalidInputError(f"{origin}: features", list(predictor.features), f"Those of the network are {wanted}.")
    return predictor


def shipped_regression_predictors() -> list[str]:
    """Names of the predictors of this kind in the package, sorted."""
    return shipped_names(_FOLDER, ".json")


def _find_buckets(
    limits: Sequence[NDArray[np.float64]], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint64], int]:
    """`low`, `scale`, `places` and `most` of `LeafMasks`, by features' limits and the place of each one's first.

    A larger value never lies in a lower bucket, so that a value is above all limits in buckets before its own.
    """
    low, scale = np.zeros(len(limits)), np.ones(len(limits))
    places, most = np.zeros((len(limits), _BUCKETS), np.uint64), 0
    for feature, numbers in enumerate(limits):
        if len(numbers) > 1:
            low[feature], scale[feature] = numbers[0], _BUCKETS / (numbers[-1] - numbers[0])
        buckets = np.clip((numbers - low[feature]) * scale[feature], 0.0, _BUCKETS - 1.0).astype(np.int64)
        held = np.bincount(buckets, minlength=_BUCKETS)
        places[feature] = rows[feature] + np.cumsum(held) - held
        most = max(most, int(held.max()))
    return low, scale, places, most


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
    arrays: dict[str, Any] = {
        "coefficients": np.array(content["coefficients"], dtype=np.float64),
        "tests": np.array(tests, dtype=np.int64),
        "numbers": np.array(content["numbers"], dtype=np.float64),
    }
    plain = {key: content[key] for key in (*_TEXTS, *_NUMBERS)}
    return RegressionPredictor(**plain, scores=scores, features=tuple(names), **arrays)


def _ends(tests: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position behind the last node of every complete tree."""
    still_open = np.cumsum(np.where(tests == LEAF, -1, 1))
    # The n-th tree ends where the ways left open first fall to -n.
    fallen = np.minimum.accumulate(np.concatenate(([0], still_open)))
    return np.flatnonzero(np.diff(fallen)) + 1


@kernel
def write_features(
    designs: NDArray[np.float64], i: int, values: float, snr_db: float, features: NDArray[np.float64]
) -> None:
    """Write the features of the design in row `i` to row `i` of `features`, in the order of `feature_names`.

    Parameters
    ----------
    designs : ndarray, shape (n, G + 4)
        Rows ``[cut, retained ratio of each group, compression, power in W, device's clock in Hz]``.
    i : int
    values : float
        Values that are sent over the link. Behind the last cut there are none, and their logarithm counts as 0.
    snr_db : float
        Signal-to-noise ratio of the link, dB; without effect where `features` has no column for it.
    features : ndarray, shape (n, d)
    """
    groups = designs.shape[1] - 4
    for g in range(groups):
        features[i, g] = designs[i, g + 1]
    cut = designs[i, 0]
    features[i, groups] = cut
    # The image and nothing at all go without a codec, whatever the design says.
    features[i, groups + 1] = designs[i, groups + 1] if cut > 0.0 and values > 0.0 else 1.0
    features[i, groups + 2] = math.log2(values) if values > 0.0 else 0.0
    if features.shape[1] > groups + 3:
        features[i, groups + 3] = snr_db


@kernel
def predict_row(trees: TreeTables, features: NDArray[np.float64], i: int) -> float:
    """Accuracy in [0, 1] predicted from row `i` of the features, shape (n, d)."""
    base, coefficients, roots, depths, feature, number, ways, _, _ = trees
    total = base
    for k in range(coefficients.shape[0]):
        total += coefficients[k] * features[i, k]
    for t in range(roots.shape[0]):
        node = np.uint64(roots[t])
        for _ in range(depths[t]):
            is_above = features[i, feature[node]] > number[node]
            node = np.uint64(ways[np.uint64(2) * node + np.uint64(is_above)])
        total += number[node]
    return min(1.0, max(0.0, total))


@kernel
def predict_lane(
    trees: TreeTables, masks: LeafMasks, features: NDArray[np.float64], i: int, rows: NDArray[np.uint64]
) -> float:
    """`predict_row` to the last bit, several times as fast where no tree has more than eight leaves.

    Parameters
    ----------
    trees : TreeTables
    masks : LeafMasks
        Of the same predictor.
    features : ndarray, shape (n, d)
    i : int
    rows : ndarray of unsigned int, shape (n, d)
        Row `i` is overwritten.
    """
    limits, low, scale, places, most, left, values, first = masks
    if left.shape[0] == 0:
        return predict_row(trees, features, i)
    total, coefficients, highest = trees[0], trees[1], places.shape[1] - 1.0
    width = np.uint64(values.shape[0] // (_BYTE * _BYTE))
    for f in range(coefficients.shape[0]):
        value = features[i, f]
        total += coefficients[f] * value
        place = places[f, np.uint64(min(highest, max(0.0, (value - low[f]) * scale[f])))]
        for _ in range(most):  # without a branch: after the last limit stands infinity
            place += np.uint64(value > limits[place])
        rows[i, f] = place * width
    leaf = np.uint64(0)
    for w in range(width):
        word = ~np.uint64(0)
        for f in range(coefficients.shape[0]):
            word &= left[rows[i, f] + np.uint64(w)]
        for _ in range(_BYTE):
            total += values[leaf + np.uint64(first[word & np.uint64(255)])]
            leaf += np.uint64(_BYTE)
            word >>= np.uint64(8)
    return min(1.0, max(0.0, total))


@kernel
def predict_rows(trees: TreeTables, features: NDArray[np.float64], accuracies: NDArray[np.float64]) -> None:
    """Write `predict_row` of every row of the features, shape (n, d), to `accuracies`, shape (n,)."""
    for i in range(features.shape[0]):
        accuracies[i] = predict_row(trees, features, i)


@kernel
def bound_box(trees: TreeTables, low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """Upper bound of the accuracy where every feature lies between `low` and `high`, both of shape (d,).

    Sum of the largest values that the linear form and each tree can take in the box: exact for one tree, else above
    the largest prediction, since trees may take their largest values at different points.
    """
    base, coefficients, roots, _, feature, number, ways, parent, after = trees
    total = base
    for k in range(coefficients.shape[0]):
        total += max(coefficients[k] * low[k], coefficients[k] * high[k])
    one = np.uint64(1)
    for t in range(roots.shape[0]):
        root = np.uint64(roots[t])
        end = np.uint64(after[root])
        largest = -math.inf
        node = root
        while node < end:
            above = np.uint64(parent[node])
            tested, limit = feature[above], number[above]
            is_outside = low[tested] > limit if node == above + one else high[tested] <= limit
            if is_outside and node != root:
                node = np.uint64(after[node])
                continue
            if np.uint64(ways[node + node]) == node:
                largest = max(largest, number[node])
            node += one
        total += largest
    return min(1.0, max(0.0, total))
