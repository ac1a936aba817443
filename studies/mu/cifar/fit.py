"""From measured designs to an accuracy predictor: compares the regressors and writes the best as plain numbers.

Run ``python -m studies.mu.cifar.fit MEASUREMENTS.csv --output PREDICTOR.json``. The
JSON file of `cifar.sweep` beside the measurements names their network; ``MEASUREMENTS-regressors.csv`` gets the scores
of all regressors.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import (
    BaggingRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from coinfer_gym.checks import is_number
from coinfer_gym.command import command, command_line
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import csv_text, read_csv, read_text, write_text
from coinfer_gym.layerwise.designs import SENT, make_designs
from coinfer_gym.layerwise.network import Network, load_network
from coinfer_gym.layerwise.predictor import RegressionPredictor, feature_names
from coinfer_gym.layerwise.trees import LEAF
from coinfer_gym.models import regress, tables
from studies.mu.cifar.teacher import DistilledTrees, features_of

MAX_BYTES = 300_000
"""Size of a predictor's file from which it is not shipped."""

_PREFIX = "retained_"
Array = NDArray[np.float64]
Additive = tuple[float, Array, NDArray[np.int64], Array]
"""Base, coefficients, tests and numbers of a `RegressionPredictor`."""


class Measurements(NamedTuple):
    """Measured designs of one network."""

    network: str
    unpruned: float  # accuracy of the network as it is
    names: tuple[str, ...]  # of the features
    features: Array  # shape (n, d): as `write_features` writes them for the channels that were built
    accuracy: Array  # shape (n,)

    @property
    def noisy(self) -> bool:
        """Whether the last feature is the ratio of signal to noise."""
        return self.names[-1] == "snr_db"

    @property
    def designs(self) -> list[int]:
        """Number of the design of each row, shape (n,): equal ones would give each other away in cross-validation."""
        numbers: list[int] = np.unique(self.features, axis=0, return_inverse=True)[1].ravel().tolist()
        return numbers


def read_measurements(path: Path) -> Measurements:
    """Measured designs of a CSV file and of the JSON file beside it."""
    beside = path.with_suffix(".json")
    for file in (path, beside):
        if not file.is_file():
            raise InvalidInputError("measurements", str(file), "There is no such file.")
    try:
        made_by = json.loads(read_text(beside, "measurements"))
        network, unpruned = load_network(made_by["network"]), made_by["accuracy"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InvalidInputError("measurements", str(beside), f"The file is damaged: {error!r}") from error
    if not is_number(unpruned) or not 0.0 < unpruned <= 1.0:
        raise InvalidInputError(f"{beside.name}: accuracy", unpruned, "Give the accuracy of the unpruned network.")
    rows = read_csv(path)
    if not rows:
        raise InvalidInputError("measurements", str(path), "Give at least one measured design.")
    groups = [group.name for group in network.groups]
    noisy = [bool(row.get("snr_db")) for row in rows]
    if any(noisy) and not all(noisy):
        raise InvalidInputError(
            f"rows[{noisy.index(False)}]: snr_db", "", "Give it for all designs or for none: fit those apart."
        )
    columns = {
        column: tables.column(rows, column)
        for column in ("cut", *(_PREFIX + group for group in groups), "compression", "sent_values", "accuracy")
    }
    snr_db = tables.column(rows, "snr_db") if all(noisy) else np.zeros(len(rows))
    for column, least in (("cut", 0.0), ("sent_values", 0.0), ("accuracy", 0.0)):
        below = np.flatnonzero(columns[column] < least)
        if len(below):
            raise InvalidInputError(f"rows[{below[0]}]: {column}", rows[below[0]][column], "It is at least 0.")
    sent, accuracy = columns.pop("sent_values"), columns.pop("accuracy")
    if accuracy.max() > 1.0:
        raise InvalidInputError("accuracy", float(accuracy.max()), "Give shares, not per cent.")
    for column, values in columns.items():
        if column != "cut" and not ((values > 0.0) & (values <= 1.0)).all():
            row = int(np.argmin((values > 0.0) & (values <= 1.0)))
            raise InvalidInputError(f"rows[{row}]: {column}", rows[row][column], "Give a share in (0, 1].")
    # Power and clock, the last two columns, are none of the features.
    ratios = np.column_stack([*columns.values(), np.ones((len(rows), 2))])
    _check_sent(network, ratios, sent)
    noise = snr_db if all(noisy) else None
    names = feature_names(groups, all(noisy))
    return Measurements(network.name, float(unpruned), names, features_of(network, ratios, noise), accuracy)


def _check_sent(network: Network, ratios: Array, sent: Array) -> None:
    """Raise `InvalidInputError` unless the networks that were measured sent as much as the designs of their ratios."""
    designs = make_designs(network, ratios)
    expected = network.tables.cuts["area"][designs[:, 0].astype(np.int64)] * designs[:, SENT]
    wrong = np.flatnonzero(sent != expected)
    if len(wrong):
        row = wrong[0]
        remedy = f"The design of these ratios sends {expected[row]:g} values: measure with the same network."
        raise InvalidInputError(f"rows[{row}]: sent_values", sent[row], remedy)


# Hundreds of small fits: threads would wait for each other longer than they work.
@threadpool_limits.wrap(limits=1)  # type: ignore[untyped-decorator]
def make_predictor(
    measured: Measurements, name: str, seed: int = 0, made_by: str = ""
) -> tuple[RegressionPredictor, list[dict[str, Any]]]:
    """Predictor of the regressor that is best in cross-validation and can be shipped, and all scores.

    The scores of Mu et al. (Table IV) cannot be in-sample: they rank a decision tree last, which makes no such error.
    """
    X, y, names = measured.features, measured.accuracy, measured.names
    taught = (measured.network, measured.unpruned, measured.noisy)
    makers: dict[str, Callable[[int], regress.Regressor]] = {
        **regress.DEFAULTS,
        "DistilledTrees": partial(DistilledTrees, *taught),
    }
    crossed = regress.compare_regressors(X, y, names, groups=measured.designs, seed=seed, makers=makers)
    fitted = {each: regress.fit(each, X, y, names, seed=seed, makers=makers) for each in makers}
    in_sample = [regress.judge(each, y, regressor.predict(X), len(names)) for each, regressor in fitted.items()]
    passed_over = []
    for score in sorted(crossed, key=lambda score: score.adjusted_r2, reverse=True):
        try:
            numbers = additive(fitted[score.regressor])
        except InvalidInputError:
            passed_over.append(score.regressor)
            continue
        predictor = RegressionPredictor(
            name,
            measured.network,
            measured.unpruned,
            names,
            score.regressor,
            {key: value for key, value in asdict(score).items() if key != "regressor"},
            *numbers,
            description=_describe(score.regressor, measured, passed_over),
            made_by=made_by,
        )
        if len(predictor.to_json()) <= MAX_BYTES:
            break
        passed_over.append(score.regressor)
    scored = (("cross_validation", crossed), ("in_sample", in_sample))
    return predictor, [{"scored": how, **asdict(score)} for how, scores in scored for score in scores]


def _describe(regressor: str, measured: Measurements, passed_over: Sequence[str]) -> str:
    noise = ", on a noisy channel" if measured.noisy else ""
    text = (
        f"{regressor} regressor on the kept channels of {len(measured.accuracy)} designs of {measured.network}{noise}."
    )
    if passed_over:
        text += f" {' and '.join(passed_over)} scored better, but cannot be shipped."
    return text


def additive(regressor: Any) -> Additive:
    """Constant, linear form and sum of trees that a fitted regressor is."""
    trees: list[tuple[Any, float, Any]]  # tree, weight, features that its own numbers stand for
    base = 0.0
    if isinstance(regressor, LinearRegression):
        return float(regressor.intercept_), np.array(regressor.coef_), np.empty(0, np.int64), np.empty(0)
    if isinstance(regressor, DistilledTrees):
        return _additive_histogram(regressor.student_)
    whole = np.arange(regressor.n_features_in_)
    if isinstance(regressor, GradientBoostingRegressor):
        base = float(regressor.init_.constant_.item())
        trees = [(tree, regressor.learning_rate, whole) for tree in regressor.estimators_[:, 0]]
    elif isinstance(regressor, RandomForestRegressor):
        trees = [(tree, 1.0 / len(regressor.estimators_), whole) for tree in regressor.estimators_]
    elif isinstance(regressor, BaggingRegressor):
        pairs = zip(regressor.estimators_, regressor.estimators_features_, strict=True)
        trees = [(tree, 1.0 / len(regressor.estimators_), columns) for tree, columns in pairs]
    elif isinstance(regressor, DecisionTreeRegressor):
        trees = [(regressor, 1.0, whole)]
    else:
        raise InvalidInputError(
            "regressor", type(regressor).__name__, "It is not a sum of trees and cannot be shipped: choose another."
        )
    tests, numbers = zip(*(_preorder(tree.tree_, weight, columns) for tree, weight, columns in trees), strict=True)
    return base, np.zeros(len(whole)), np.concatenate(tests), np.concatenate(numbers)


def _additive_histogram(regressor: HistGradientBoostingRegressor) -> Additive:
    """The same of boosted trees on binned features, which scikit-learn keeps in another form."""
    tests: list[int] = []
    numbers: list[float] = []
    for (tree,) in regressor._predictors:
        waiting = [0]
        while waiting:
            node = tree.nodes[waiting.pop()]
            tests.append(LEAF if node["is_leaf"] else int(node["feature_idx"]))
            numbers.append(float(node["value"] if node["is_leaf"] else node["num_threshold"]))
            if not node["is_leaf"]:
                waiting += [int(node["right"]), int(node["left"])]
    base = float(regressor._baseline_prediction.item())
    return base, np.zeros(regressor.n_features_in_), np.array(tests, np.int64), np.array(numbers)


def _preorder(tree: Any, weight: float, columns: Any) -> tuple[NDArray[np.int64], Array]:
    order, waiting = [], [0]
    while waiting:
        node = waiting.pop()
        order.append(node)
        if tree.children_left[node] != tree.children_right[node]:
            waiting += [tree.children_right[node], tree.children_left[node]]
    is_leaf = tree.children_left[order] == tree.children_right[order]
    tests = np.where(is_leaf, LEAF, columns[np.maximum(tree.feature[order], 0)])
    limits = _before_rounding(tree.threshold[order])
    return tests, np.where(is_leaf, weight * tree.value[order, 0, 0], limits)


def _before_rounding(thresholds: Array) -> Array:
    """Largest float64 whose float32 is not above each threshold.

    scikit-learn rounds features to float32 before it compares them; with these numbers nothing need be rounded.
    """
    below = thresholds.astype(np.float32)
    below = np.where(below > thresholds, np.nextafter(below, np.float32(-np.inf)), below)
    above = np.nextafter(below, np.float32(np.inf))
    middle = (below.astype(np.float64) + above.astype(np.float64)) / 2.0
    # Halfway between two neighbours float32 takes the even one.
    return np.where(middle.astype(np.float32) == below, middle, np.nextafter(middle, -np.inf))


@command("studies.mu.cifar.fit")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser("python -m studies.mu.cifar.fit", description="Fit an accuracy predictor.")
    parser.add_argument(
        "measurements", type=Path, help="CSV file that studies.mu.cifar.sweep wrote, with its JSON file beside it"
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the predictor; its stem is the name")
    parser.add_argument("--seed", type=int, default=0, help="seed of cross-validation and regressors (default: 0)")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    if options.output.suffix != ".json":
        raise InvalidInputError("output", str(options.output), "Give a name that ends in .json.")
    if options.seed < 0:
        raise InvalidInputError("seed", options.seed, "Give a whole number of at least 0.")
    command = command_line("studies.mu.cifar.fit", given)
    measured = read_measurements(options.measurements)
    predictor, scores = make_predictor(measured, options.output.stem, options.seed, command)
    table = options.measurements.with_name(f"{options.measurements.stem}-regressors.csv")
    write_text(table, csv_text(scores))
    write_text(options.output, predictor.to_json())
    for row in scores:
        print(
            f"{row['scored']:<16} {row['regressor']:<17} MSE {row['mse']:.2e}  adjusted R2 {row['adjusted_r2']:.3f}  "
            f"AIC {row['aic']:.0f}  BIC {row['bic']:.0f}"
        )
    print(f"{predictor.description}\nwrote {options.output} and {table}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
