"""Accuracy predictors: what is left of a network's accuracy after cutting and pruning it, as measurements say.

A predictor is a table over cuts and retained ratios, read off a regressor that was fitted to measured networks
(`coinfer_gym.models.measure`), and interpolated between its entries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.checks import check_keys, is_number
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import find_file, read_json, shipped_names

LEVELS = 21
"""Entries of a table along each retained ratio: 0, 0.05, ... 1."""

_FOLDER = resources.files("coinfer_gym.laim") / "predictors"
_KEYS = ("name", "metric", "unpruned", "quality", "errors", "description")
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class AccuracyPredictor:
    """Predicted quality of a network at every cut and pair of retained ratios.

    Attributes
    ----------
    name : str
        Name of the predictor.
    metric : str
        What was measured, for example ``"f1"``.
    unpruned : float
        The metric of the network as it is.
    quality : ndarray, shape (J + 1, LEVELS, LEVELS)
        The metric as a share of `unpruned`, in [0, 1], at each cut and each ratio of the device and of the server. It
        falls with neither ratio, and is 1 where both are 1.
    errors : mapping of str to float
        How far the table is from the regressor, and the regressor from what was measured, in units of quality.
    description : str
        Where the numbers come from.

    Raises
    ------
    InvalidInputError
        If the table is none of these.
    """

    name: str
    metric: str
    unpruned: float
    quality: NDArray[np.float64]
    errors: Mapping[str, float] = field(default_factory=dict)
    description: str = ""

    def __post_init__(self) -> None:
        origin = f"predictor {self.name!r}"
        if not (is_number(self.unpruned) and 0.0 < self.unpruned < math.inf):
            raise InvalidInputError(f"{origin}: unpruned", self.unpruned, "Give the metric of the unpruned network.")
        table, shape = self.quality, f"(cuts, {LEVELS}, {LEVELS})"
        if table.ndim != 3 or table.shape[0] < 2 or table.shape[1:] != (LEVELS, LEVELS):
            raise InvalidInputError(f"{origin}: quality", f"shape {table.shape}", f"Give numbers in the shape {shape}.")
        outside = ~((table >= 0.0) & (table <= 1.0))
        if outside.any():
            raise InvalidInputError(f"{origin}: quality", float(table[outside][0]), "A quality lies in [0, 1].")
        if not (table[:, -1, -1] == 1.0).all():
            raise InvalidInputError(
                f"{origin}: quality", float(table[:, -1, -1].min()), "It must be 1 where both ratios are 1."
            )
        falls = [float(np.diff(table, axis=axis).min()) for axis in (1, 2)]
        if min(falls) < -_ROUNDING:
            raise InvalidInputError(
                f"{origin}: quality",
                f"a fall by {-min(falls):.3g}",
                "It must not fall where more is retained, or no optimum could be proven: see "
                "coinfer_gym.models.tables.make_monotone.",
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain form, as the JSON files hold it."""
        return {
            "name": self.name,
            "description": self.description,
            "metric": self.metric,
            "unpruned": self.unpruned,
            "errors": dict(self.errors),
            "quality": self.quality.tolist(),
        }


def load_predictor(source: str | Path) -> AccuracyPredictor:
    """AccuracyPredictor by the name of a shipped one or by the path of a JSON file.

    Parameters
    ----------
    source : str or Path
        For example ``"minilm-squad-magnitude"`` or ``"my/predictor.json"``.

    Returns
    -------
    AccuracyPredictor

    Raises
    ------
    InvalidInputError
        If there is no such predictor or file, or its content is not a valid predictor.
    """
    data = read_json(find_file(source, "predictor", _FOLDER, ".json"), "predictor")
    origin = f"predictor {str(source)!r}"
    check_keys(data, _KEYS, ("name", "metric", "unpruned", "quality"), origin)
    for key in ("name", "metric", "description"):
        if not isinstance(data.get(key, ""), str):
            raise InvalidInputError(f"{origin}: {key}", data[key], "Give text.")
    errors = data.get("errors", {})
    if not (isinstance(errors, dict) and all(is_number(value) for value in errors.values())):
        raise InvalidInputError(f"{origin}: errors", errors, "Give numbers by name.")
    try:
        table = np.array(data["quality"], dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInputError(f"{origin}: quality", "no table", "Give lists of numbers of equal length.") from error
    return AccuracyPredictor(data["name"], data["metric"], data["unpruned"], table, errors, data.get("description", ""))


def shipped_predictors() -> list[str]:
    """Names of the predictors in the package, sorted."""
    return shipped_names(_FOLDER, ".json")


@kernel
def cell_of(ratio: float) -> int:
    """Number of the table's interval that holds a ratio."""
    return min(LEVELS - 2, int(ratio * (LEVELS - 1)))


@kernel
def interpolate(table: NDArray[np.float64], retained_device: float, retained_server: float) -> float:
    """Bilinear interpolation in the table of one cut, of shape (LEVELS, LEVELS)."""
    i, j = cell_of(retained_device), cell_of(retained_server)
    u, v = retained_device * (LEVELS - 1) - i, retained_server * (LEVELS - 1) - j
    value: float = (1.0 - u) * ((1.0 - v) * table[i, j] + v * table[i, j + 1]) + u * (
        (1.0 - v) * table[i + 1, j] + v * table[i + 1, j + 1]
    )
    return value
