"""Six regressors, and their scores in cross-validation: those of Mu et al., Table IV, and two errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingRegressor,
    GradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.tree import DecisionTreeRegressor

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.inputs import check_choice

FOLDS = 10
"""Parts of the rows in cross-validation."""

REPEATS = 5
"""Shuffles that cross-validation is repeated over."""

Array = NDArray[np.float64]


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
"""Makers of the regressors, by name in the order of Table IV, each from a seed."""


@dataclass(frozen=True)
class Score:
    """How well a regressor predicts rows that it has not seen.

    There are `n` rows, `d` features and ``k = d + 1``. Mu et al. do not say what `k` counts; the BIC - AIC of their
    table fits a count of features. Their AIC is not that of the MSE beside it, so compare only ranks and adjusted R2
    with their table.

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
    check_choice("regressor", name, makers)
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
    """Scores of all regressors in cross-validation, in the order of `makers`.

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
        Group of each row: rows that share part of their configuration would give each other away. By default each
        row is its own group.
    seed : int
        Of the shuffling and of the regressors.
    makers : mapping of str to function
        Makes each regressor from a seed.

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
        scores.append(Score(name, *np.mean([astuple(run)[1:] for run in runs], axis=0).tolist()))
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
