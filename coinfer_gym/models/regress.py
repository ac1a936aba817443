"""Predicts a metric from a configuration: six regressors, their scores in cross-validation, and tables of the best.

The regressors and the first four scores are those of Mu et al., Table IV. An environment's step does not run a
regressor: it reads a table of its predictions, which can be made monotone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import RegularGridInterpolator
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingRegressor,
    GradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.tree import DecisionTreeRegressor

from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.models.inputs import check_positive
from coinfer_gym.models.link import VALUE_BITS
from coinfer_gym.models.prune import METHODS

FOLDS = 10
"""Parts of the rows in cross-validation."""

REPEATS = 5
"""Shuffles that cross-validation is repeated over."""

_FIGURES = ("mse", "adjusted_r2", "aic", "bic", "rmse", "error_95")

METHOD_FEATURE = "random_pruning"

Array = NDArray[np.float64]

Predict = Callable[[Array, Array, Array], Array]
"""Metric of configurations, from their cuts and the ratios retained on device and server, each of shape (n,)."""


class Regressor(Protocol):
    """What all six regressors of scikit-learn can do."""

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from rows of features and their targets."""

    def predict(self, X: ArrayLike) -> Array:
        """Target of each row of features."""


# Mu et al. name no settings, so all have scikit-learn's own; the linear one draws nothing and takes no seed.
DEFAULTS: Mapping[str, Callable[[int], Regressor]] = {
    "GradientBoosting": lambda seed: GradientBoostingRegressor(random_state=seed),
    "Bagging": lambda seed: BaggingRegressor(random_state=seed),
    "AdaBoost": lambda seed: AdaBoostRegressor(random_state=seed),
    "RandomForest": lambda seed: RandomForestRegressor(random_state=seed),
    "DecisionTree": lambda seed: DecisionTreeRegressor(random_state=seed),
    "Linear": lambda seed: LinearRegression(),
}
"""Makers of the regressors, by name, each from a seed."""

REGRESSORS = tuple(DEFAULTS)
"""Names of the regressors, in the order of Table IV."""


@dataclass(frozen=True)
class Score:
    """How well a regressor predicts rows that it has not seen.

    There are `n` rows, `d` features and ``k = d + 1``. Mu et al. do not say what `k` counts. In their table BIC - AIC,
    which is ``k (ln n - 2)``, is 60 to 70 for all six regressors and 300 rows, which fits a count of features but not
    one of leaves. Their AIC is not ``n ln MSE + 2k`` of the MSE beside it, so compare only ranks and adjusted R2 with
    their table.

    Attributes
    ----------
    regressor : str
        Name.
    mse : float
        Mean squared error.
    adjusted_r2 : float
        ``1 - (1 - R2) (n - 1) / (n - d - 1)`` with ``R2 = 1 - MSE / variance of the targets``.
    aic, bic : float
        ``n ln MSE + 2k`` and ``n ln MSE + k ln n``; minus infinity where there is no error.
    rmse : float
        Root of the mean squared error, in the metric's own unit.
    error_95 : float
        Absolute error that 95 % of the rows stay within.
    """

    regressor: str
    mse: float
    adjusted_r2: float
    aic: float
    bic: float
    rmse: float
    error_95: float


def features(rows: Sequence[Mapping[str, Any]], blocks: int) -> tuple[Array, tuple[str, ...]]:
    """Features of measured configurations.

    Parameters
    ----------
    rows : sequence of mappings
        With the keys ``cut``, ``retained_device``, ``retained_server``, ``method`` and ``precision``; numbers may be
        text, as from a CSV file.
    blocks : int
        Number of the network's blocks, the last cut.

    Returns
    -------
    X : ndarray, shape (n, d)
        One column a feature: the cut's share of the blocks; ratio retained on the device (1 at cut 0) and on the
        server (1 at the last cut); their mean over all blocks; the smaller of both; bits of an activation value, 32
        where none is sent (cut 0, last cut); and whether pruning was random, only where both methods occur.
    names : tuple of str
        Of the columns.

    Raises
    ------
    InvalidInputError
        If there are no rows, or one lacks a column or holds something else in it.
    """
    check_positive("blocks", blocks)
    if not rows:
        raise InvalidInputError("rows", [], "Give at least one measured configuration.")
    cut = _numbers(rows, "cut")
    for row, value in enumerate(cut):
        if not (value.is_integer() and 0 <= value <= blocks):
            raise InvalidInputError(
                f"rows[{row}]: cut", float(value), f"Give a whole number from 0 to {blocks}, the number of blocks."
            )
    device, server = _ratios(rows, "retained_device"), _ratios(rows, "retained_server")
    methods = _words(rows, "method", METHODS)
    bits = np.array([VALUE_BITS[precision] for precision in _words(rows, "precision", VALUE_BITS)], dtype=float)
    columns = _columns(cut, device, server, bits, np.array([method == "random" for method in methods]), blocks)
    if len(set(methods)) == 1:
        del columns[METHOD_FEATURE]
    return np.column_stack(list(columns.values())), tuple(columns)


def design_groups(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Number of the group of each measured configuration: those that share cut, device's ratio, method and seed.

    Configurations of a random design share the device's half on purpose, and cross-validation must not separate them.
    Those of a grid (seed 0) share ratios with all others, so that each is its own group.
    """
    numbers: dict[tuple[Any, ...], int] = {}
    groups = []
    for number, row in enumerate(rows):
        drawn = int(row["seed"]) != 0
        key = (row["cut"], float(row["retained_device"]), row["method"], row["seed"]) if drawn else (number,)
        groups.append(numbers.setdefault(key, len(numbers)))
    return groups


def target(rows: Sequence[Mapping[str, Any]], metric: str) -> Array:
    """Measured metric, one column of the rows.

    Raises
    ------
    InvalidInputError
        If a row lacks it, or has no finite number there.
    """
    return _numbers(rows, metric)


def on_configurations(
    regressor: Regressor, names: Sequence[str], blocks: int, *, method: str, precision: str
) -> Predict:
    """Prediction as a function of cut and retained ratios, for one kind of pruning and one precision.

    The regressor was fitted on the features called `names`. The kind of pruning has no effect where only one was
    measured.
    """

    def predict(cut: Array, device: Array, server: Array) -> Array:
        bits, random = np.full(len(cut), float(VALUE_BITS[precision])), np.full(len(cut), method == "random")
        columns = _columns(cut, device, server, bits, random, blocks)
        return regressor.predict(np.column_stack([columns[name] for name in names]))

    return predict


def fit(
    name: str,
    X: Array,
    y: Array,
    names: Sequence[str],
    *,
    seed: int = 0,
    makers: Mapping[str, Callable[[int], Regressor]] = DEFAULTS,
) -> Regressor:
    """Regressor of this name fitted on all rows; the other arguments are those of `compare_regressors`.

    Raises
    ------
    InvalidInputError
        If the name is unknown or the data cannot be used.
    """
    _check_word("regressor", name, makers)
    _check_data(X, y, names)
    regressor = makers[name](seed)
    regressor.fit(X, y)
    return regressor


def compare_regressors(
    X: Array,
    y: Array,
    names: Sequence[str],
    *,
    groups: Sequence[int] | None = None,
    seed: int = 0,
    makers: Mapping[str, Callable[[int], Regressor]] = DEFAULTS,
) -> list[Score]:
    """Scores of all regressors in cross-validation.

    The groups are shuffled and dealt into `FOLDS` parts, the same for all regressors. Each part is predicted by a
    regressor fitted on the others, and the predictions are scored together. This is repeated `REPEATS` times with
    other shuffles, and the scores are averaged.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Features.
    y : ndarray, shape (n,)
        Targets.
    names : sequence of str
        Of the features.
    groups : sequence of int, optional
        Group of each row. Rows that share part of their configuration belong to one group, as one would give the
        others away. By default each row is its own group.
    seed : int
        Of the shuffling and of the regressors.
    makers : mapping of str to function
        Makes each regressor from a seed.

    Returns
    -------
    list of Score
        In the order of `makers`.

    Raises
    ------
    InvalidInputError
        If the data cannot be used.
    """
    _check_data(X, y, names)
    parts = np.arange(len(y)) if groups is None else np.asarray(groups)
    if len(np.unique(parts)) < FOLDS:
        raise InvalidInputError("groups", len(np.unique(parts)), f"Cross-validation needs at least {FOLDS} groups.")
    scores = []
    for name, regressor in makers.items():
        runs = []
        for repeat in range(REPEATS):
            folds = GroupKFold(FOLDS, shuffle=True, random_state=seed + repeat)
            predicted = cross_val_predict(regressor(seed), X, y, cv=folds, groups=parts)
            runs.append(judge(name, y, predicted, X.shape[1]))
        figures = np.mean([[getattr(run, field) for field in _FIGURES] for run in runs], axis=0)
        scores.append(Score(name, **dict(zip(_FIGURES, map(float, figures), strict=True))))
    return scores


def judge(regressor: str, y: Array, predicted: Array, n_features: int) -> Score:
    """Scores of predictions of targets `y` that vary, by a regressor on so many features."""
    n, k = len(y), n_features + 1
    residual = y - predicted
    mse = float(np.mean(residual**2))
    r2 = 1.0 - mse / float(np.var(y))
    log_likelihood_term = n * math.log(mse) if mse > 0.0 else -math.inf
    return Score(
        regressor,
        mse,
        adjusted_r2=1.0 - (1.0 - r2) * (n - 1) / (n - n_features - 1),
        aic=log_likelihood_term + 2 * k,
        bic=log_likelihood_term + k * math.log(n),
        rmse=math.sqrt(mse),
        error_95=float(np.quantile(np.abs(residual), 0.95)),
    )


def tabulate(predict: Predict, cuts: Sequence[int], grid: Array) -> Array:
    """Predictions at every cut on a grid of retained ratios.

    Parameters
    ----------
    predict : Predict
        Called once. A side without blocks has nothing to prune: its ratio is passed as 1.
    cuts : sequence of int
        Ascending; at cut 0 the device has no blocks, at the last one given the server.
    grid : ndarray, shape (K,)
        Ratios, ascending.

    Returns
    -------
    ndarray, shape (cuts, K, K)
        Second axis the ratio on the device, third on the server.
    """
    shape = len(cuts), len(grid), len(grid)
    number, on_device, on_server = np.indices(shape).reshape(3, -1)
    return _at(predict, cuts, number, grid[on_device], grid[on_server]).reshape(shape)


def make_monotone(table: Array) -> tuple[Array, float]:
    """Nearest table, in the largest absolute difference, that never falls when a ratio rises.

    It is the mean of the running maximum from below, `U`, and the running minimum from above, `L`. Proof that no
    monotone table is nearer: ``L <= table <= U``, so no entry moves by more than ``(U - L) / 2``. Where ``U - L`` is
    largest it equals ``table[a] - table[b]`` with ``a <= b`` on both axes, and a monotone `m` has ``m[a] <= m[b]``, so
    that it misses one of the two by at least half of the difference.

    Parameters
    ----------
    table : ndarray, shape (..., K, K)
        The last two axes are the ratios, both ascending.

    Returns
    -------
    table : ndarray, shape (..., K, K)
        Monotone along both axes; the same values where the given table is.
    largest_change : float
        Largest absolute difference from the given table.
    """
    upper = np.maximum.accumulate(np.maximum.accumulate(table, -1), -2)
    from_above = np.flip(table, (-2, -1))
    lower = np.flip(np.minimum.accumulate(np.minimum.accumulate(from_above, -1), -2), (-2, -1))
    monotone = (upper + lower) / 2
    return monotone, float(np.abs(monotone - table).max())


def table_error(
    predict: Predict, table: Array, cuts: Sequence[int], grid: Array, points: int, *, seed: int = 0
) -> tuple[float, float]:
    """Largest and mean absolute difference between a table, interpolated bilinearly, and the prediction.

    Parameters
    ----------
    predict, cuts, grid
        As for `tabulate`.
    table : ndarray, shape (cuts, K, K)
        What `tabulate` or `make_monotone` returned.
    points : int
        Random configurations to compare at: a cut of those given, and two ratios between the ends of the grid.
    seed : int
        Of the configurations.

    Returns
    -------
    largest, mean : float
    """
    rng = np.random.default_rng(seed)
    number = rng.integers(len(cuts), size=points)
    device, server = rng.uniform(grid[0], grid[-1], (2, points))
    interpolated = np.empty(points)
    for cut_number, of_cut in enumerate(table):
        here = number == cut_number
        interpolated[here] = RegularGridInterpolator((grid, grid), of_cut)((device[here], server[here]))
    difference = np.abs(interpolated - _at(predict, cuts, number, device, server))
    return float(difference.max()), float(difference.mean())


def _at(predict: Predict, cuts: Sequence[int], number: NDArray[np.intp], device: Array, server: Array) -> Array:
    """Prediction at the cuts of these numbers, the ratio of a side without blocks set to 1."""
    cut = np.asarray(cuts, dtype=float)[number]
    return predict(cut, np.where(cut == 0, 1.0, device), np.where(cut == cuts[-1], 1.0, server))


def _columns(
    cut: Array, device: Array, server: Array, bits: Array, random: NDArray[np.bool_], blocks: int
) -> dict[str, Array]:
    device, server = np.where(cut == 0, 1.0, device), np.where(cut == blocks, 1.0, server)
    return {
        "cut_share": cut / blocks,
        "retained_device": device,
        "retained_server": server,
        "retained_total": (cut * device + (blocks - cut) * server) / blocks,
        "retained_least": np.minimum(device, server),
        "activation_bits": np.where((cut == 0) | (cut == blocks), 32.0, bits),
        METHOD_FEATURE: random.astype(float),
    }


def _cell(rows: Sequence[Mapping[str, Any]], row: int, column: str) -> Any:
    if column not in rows[row]:
        raise InvalidInputError(f"rows[{row}]: columns", sorted(map(str, rows[row])), f"Add the column {column!r}.")
    return rows[row][column]


def _numbers(rows: Sequence[Mapping[str, Any]], column: str) -> Array:
    values = np.empty(len(rows))
    for row in range(len(rows)):
        found = _cell(rows, row, column)
        try:
            values[row] = float(found)
        except (TypeError, ValueError):
            values[row] = math.nan
        if not math.isfinite(values[row]):
            raise InvalidInputError(
                f"rows[{row}]: {column}", found, "Give a finite number, or leave out the row if nothing was measured."
            )
    return values


def _ratios(rows: Sequence[Mapping[str, Any]], column: str) -> Array:
    values = _numbers(rows, column)
    for row, value in enumerate(values):
        if not 0.0 <= value <= 1.0:
            raise InvalidInputError(f"rows[{row}]: {column}", float(value), "Give a ratio from 0 to 1.")
    return values


def _words(rows: Sequence[Mapping[str, Any]], column: str, known: Sequence[str] | Mapping[str, int]) -> list[str]:
    words = [_cell(rows, row, column) for row in range(len(rows))]
    for row, word in enumerate(words):
        _check_word(f"rows[{row}]: {column}", word, known)
    return words


def _check_word(field: str, word: object, known: Sequence[str] | Mapping[str, Any]) -> None:
    if word not in known:
        raise InvalidInputError(field, word, nearest(str(word), known))


def _check_data(X: Array, y: Array, names: Sequence[str]) -> None:
    if X.ndim != 2 or X.shape[1] != len(names) or y.shape != X.shape[:1]:
        raise InvalidInputError(
            "X, y", f"shapes {X.shape} and {y.shape}", f"Give n rows of {len(names)} features and n targets."
        )
    for column, values in [*zip(names, X.T, strict=True), ("y", y)]:
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            raise InvalidInputError(
                f"{column}: row {row}", float(values[row]), "Give a finite number, or drop the row."
            )
    least = max(FOLDS, X.shape[1] + 2)
    if len(y) < least:
        raise InvalidInputError("rows", len(y), f"{FOLDS} folds of {X.shape[1]} features need at least {least} rows.")
    if np.ptp(y) == 0.0:
        raise InvalidInputError("y", float(y[0]), "All targets are the same: measure configurations that differ.")
