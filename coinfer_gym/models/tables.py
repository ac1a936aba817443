"""Tables of a metric over cut and retained ratios: what an environment reads at each step, for it runs no regressor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.inputs import check_choice, check_positive
from coinfer_gym.models.link import VALUE_BITS
from coinfer_gym.models.prune import METHODS
from coinfer_gym.models.regress import Array, Regressor

Predict = Callable[[NDArray[Any], Array, Array], Array]
"""Metric of configurations, from their cuts and the ratios retained on device and server, each of shape (n,)."""

_METHOD = "random_pruning"


def features(rows: Sequence[Mapping[str, Any]], blocks: int) -> tuple[Array, tuple[str, ...]]:
    """Features of measured configurations, and their names.

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

    Raises
    ------
    InvalidInputError
        If there are no rows, or one lacks a column or holds something else in it.
    """
    check_positive("blocks", blocks)
    if not rows:
        raise InvalidInputError("rows", [], "Give at least one measured configuration.")
    cut, device, server = (column(rows, name) for name in ("cut", "retained_device", "retained_server"))
    for number in range(len(rows)):
        if not (cut[number].is_integer() and 0 <= cut[number] <= blocks):
            remedy = f"Give a whole number from 0 to {blocks}, the number of blocks."
            raise InvalidInputError(f"rows[{number}]: cut", float(cut[number]), remedy)
        for name, values in (("retained_device", device), ("retained_server", server)):
            if not 0.0 <= values[number] <= 1.0:
                raise InvalidInputError(f"rows[{number}]: {name}", float(values[number]), "Give a ratio from 0 to 1.")
        for name, known in (("method", METHODS), ("precision", tuple(VALUE_BITS))):
            check_choice(f"rows[{number}]: {name}", _cell(rows, number, name), known)
    bits = np.array([float(VALUE_BITS[row["precision"]]) for row in rows])
    columns = _columns(cut, device, server, bits, np.array([row["method"] == "random" for row in rows]), blocks)
    if len({row["method"] for row in rows}) == 1:
        del columns[_METHOD]
    return np.column_stack(list(columns.values())), tuple(columns)


def column(rows: Sequence[Mapping[str, Any]], name: str) -> Array:
    """Finite numbers of one column of measured rows; InvalidInputError if a row lacks it or holds something else."""
    values = np.empty(len(rows))
    for number in range(len(rows)):
        found = _cell(rows, number, name)
        try:
            values[number] = float(found)
        except (TypeError, ValueError):
            values[number] = math.nan
        if not math.isfinite(values[number]):
            remedy = "Give a finite number, or leave out the row if nothing was measured."
            raise InvalidInputError(f"rows[{number}]: {name}", found, remedy)
    return values


def _cell(rows: Sequence[Mapping[str, Any]], number: int, name: str) -> Any:
    if name not in rows[number]:
        raise InvalidInputError(f"rows[{number}]: columns", sorted(map(str, rows[number])), f"Add the column {name!r}.")
    return rows[number][name]


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


def on_configurations(
    regressor: Regressor, names: Sequence[str], blocks: int, *, method: str, precision: str
) -> Predict:
    """Prediction as a function of cut and retained ratios, for one kind of pruning and one precision.

    The regressor was fitted on the features called `names`. The kind of pruning has no effect where only one was
    measured.
    """

    def predict(cut: NDArray[Any], device: Array, server: Array) -> Array:
        bits, random = np.full(len(cut), float(VALUE_BITS[precision])), np.full(len(cut), method == "random")
        columns = _columns(cut, device, server, bits, random, blocks)
        return regressor.predict(np.column_stack([columns[name] for name in names]))

    return predict


def _columns(
    cut: NDArray[Any], device: Array, server: Array, bits: Array, random: NDArray[np.bool_], blocks: int
) -> dict[str, Array]:
    device, server = np.where(cut == 0, 1.0, device), np.where(cut == blocks, 1.0, server)
    return {
        "cut_share": cut / blocks,
        "retained_device": device,
        "retained_server": server,
        "retained_total": (cut * device + (blocks - cut) * server) / blocks,
        "retained_least": np.minimum(device, server),
        "activation_bits": np.where((cut == 0) | (cut == blocks), 32.0, bits),
        _METHOD: random.astype(float),
    }


def tabulate(predict: Predict, cuts: int, grid: Array) -> Array:
    """Predictions at every cut on a grid of retained ratios.

    Parameters
    ----------
    predict : Predict
        Called once.
    cuts : int
        Number of cuts.
    grid : ndarray, shape (K,)
        Ratios, ascending.

    Returns
    -------
    ndarray, shape (cuts, K, K)
        Second axis the ratio on the device, third on the server.
    """
    shape = cuts, len(grid), len(grid)
    cut, on_device, on_server = np.indices(shape).reshape(3, -1)
    return predict(cut, grid[on_device], grid[on_server]).reshape(shape)


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


def table_error(predict: Predict, table: Array, grid: Array, points: int, *, seed: int = 0) -> tuple[float, float]:
    """Largest and mean absolute difference between a table, interpolated bilinearly, and the prediction.

    Parameters
    ----------
    predict, grid
        As for `tabulate`.
    table : ndarray, shape (cuts, K, K)
        What `tabulate` or `make_monotone` returned.
    points : int
        Random configurations to compare at: a cut, and two ratios between the ends of the grid.
    seed : int
        Of the configurations.

    Returns
    -------
    largest, mean : float
    """
    rng = np.random.default_rng(seed)
    cut = rng.integers(len(table), size=points)
    device, server = rng.uniform(grid[0], grid[-1], (2, points))
    interpolated = RegularGridInterpolator((np.arange(len(table)), grid, grid), table)((cut, device, server))
    difference = np.abs(interpolated - predict(cut, device, server))
    return float(difference.max()), float(difference.mean())
