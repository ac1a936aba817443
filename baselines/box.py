"""Bounds of variables, some of them whole numbers, and their map from the unit cube."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds

from coinfer_gym._compile import kernel
from coinfer_gym.errors import InvalidInputError

__all__ = ["Box"]

Floats = NDArray[np.float64]


class Box:
    """Bounds of mixed variables, and their map from the unit cube.

    `bounds` is a sequence of pairs or `scipy.optimize.Bounds`, `integrality` says which variables are whole numbers;
    `low` and `high`, shape (n,), are whole where `whole` is true.
    """

    def __init__(self, bounds: Any, integrality: ArrayLike | None = None) -> None:
        try:
            if isinstance(bounds, Bounds):
                low, high = np.broadcast_arrays(np.asarray(bounds.lb, np.float64), np.asarray(bounds.ub, np.float64))
                pairs = np.stack([np.atleast_1d(low), np.atleast_1d(high)], axis=1)
            else:
                pairs = np.array(bounds, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInputError("bounds", bounds, "Give one pair (min, max) per variable.") from error
        if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0:
            raise InvalidInputError("bounds", bounds, "Give one pair (min, max) per variable.")
        if not np.isfinite(pairs).all():
            raise InvalidInputError("bounds", bounds, "Every bound must be finite.")
        try:
            self.whole = np.broadcast_to(np.asarray(False if integrality is None else integrality, bool), len(pairs))
        except (TypeError, ValueError) as error:
            raise InvalidInputError("integrality", integrality, "Give true or false for each variable.") from error
        self.low = np.where(self.whole, np.ceil(pairs[:, 0]), pairs[:, 0])
        self.high = np.where(self.whole, np.floor(pairs[:, 1]), pairs[:, 1])
        if (self.low > self.high).any():
            raise InvalidInputError(
                "bounds", bounds, "Give min <= max, with a whole number between them where one is asked for."
            )

    def points(self, units: Floats) -> Floats:
        """Points in the bounds, shape (n, S), from those of the unit cube, shape (S, n)."""
        points = np.empty(units.shape[::-1])
        _place(units, self.low, self.high, self.whole, points)
        return points


@kernel
def _place(units: Floats, low: Floats, high: Floats, whole: NDArray[np.bool_], points: Floats) -> None:
    """Points of places in the unit cube; every whole number has an equal part of it."""
    for i in range(units.shape[0]):
        for j in range(units.shape[1]):
            if whole[j]:
                point = low[j] + math.floor(units[i, j] * (high[j] - low[j] + 1.0))
            else:
                point = low[j] + units[i, j] * (high[j] - low[j])
            points[j, i] = max(low[j], min(high[j], point))
