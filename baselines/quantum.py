"""The quantum-inspired search of Mu et al. (Algorithm 1), called like the optimizers of `scipy.optimize`.

Several groups hold one position each. At a given scale every group samples around its position until the spread of the
positions settles (energy level stabilisation). Then the worst group moves to the mean of all (energy level transition).
Both repeat until the positions lie within the scale; then the scale shrinks (scale adjustment).

The lines of Algorithm 1, and what its text leaves open
-------------------------------------------------------
- Lines 1-5: `k` solutions uniform in the bounds. All variables are mapped to [0, 1] (the text: a mapping factor brings
  them to the same scale). A whole number gets an equal part of it, and its position there stays continuous, so
  that groups next to each other may move through it.
- Line 6: `scales` scales, the first of them open in the text: here the whole range. Deviation and change are
  open where the loops of lines 7 and 8 first look at them; they are taken as large at every scale, so that none is
  left out.
- Lines 7, 8: the deviation of the positions is one number, the root mean square of that over the variables.
- Lines 9, 10: a sample is normal around the position, with the scale as deviation. A variable that leaves its bounds is
  drawn again by itself, which has the same law as drawing all of them again and does not take for ever.
- Lines 11-14: a sample that misses the constraints is drawn again, and only those that meet them are handed to the
  objective. The text has no end to this. Here the sample drawn `max_redraws` times is taken as it is: it loses
  against all that meet the constraints.
- Lines 15-18: as printed, a sample takes its group's place if it beats the *best of all groups*.
- Lines 21-23: the deviation's change.
- Lines 25, 26: the mean is evaluated as one more sample. Where it misses the constraints it counts as the worst.
- Line 27: as printed, the loop need not end: where the mean is worse than all others, as it is between two basins, the
  same group is moved to it for ever. A scale therefore ends, too, when one group was the worst `k` times in a row.
- Line 30: a run without constraints takes a few hundred evaluations; ``restarts=True`` spends the rest of
  `max_evaluations` on new runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, OptimizeResult

from baselines.checks import check_count
from coinfer_gym._compile import kernel
from coinfer_gym.checks import is_number
from coinfer_gym.errors import InvalidInputError, nearest

__all__ = ["MESSAGES", "Box", "minimize_quantum"]

Floats = NDArray[np.float64]

FEASIBILITY = ("rejection", "penalty")
MESSAGES = (
    "All scales are done.",
    "The evaluations are spent.",
    "No solution within the constraints was found to start from: raise max_redraws, or use feasibility='penalty'.",
)
"""Why a search ended, by `status`."""

_FINISHED, _SPENT, _NO_START = range(3)
_NORMALS = 4096


class Box:
    """Bounds of mixed variables, and their map from the unit cube.

    Parameters
    ----------
    bounds : sequence of (min, max) pairs or scipy.optimize.Bounds
    integrality : array_like of bool, optional
        Which variables are whole numbers.

    Attributes
    ----------
    low, high : ndarray, shape (n,)
        Whole where the variable is.
    whole : ndarray of bool, shape (n,)

    Raises
    ------
    InvalidInputError
        If a bound is not finite, a pair is empty, or `integrality` does not match.
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
            raise InvalidInputError("integrality", integrality, "Give one truth value per variable.") from error
        self.low = np.where(self.whole, np.ceil(pairs[:, 0]), pairs[:, 0])
        self.high = np.where(self.whole, np.floor(pairs[:, 1]), pairs[:, 1])
        if (self.low > self.high).any():
            raise InvalidInputError("bounds", bounds, "Between min and max there must be a value, whole if need be.")

    def points(self, units: Floats) -> Floats:
        """Points in the bounds, shape (n, S), from those of the unit cube, shape (S, n)."""
        points = np.empty(units.shape[::-1])
        _place(units, self.low, self.high, self.whole, points)
        return points

    def units(self, points: Floats) -> Floats:
        """A place in the unit cube, shape (S, n), for each point, shape (S, n)."""
        half = 0.5 * self.whole
        span = self.high - self.low + 2.0 * half
        units: Floats = np.divide(points - self.low + half, span, out=np.full(points.shape, 0.5), where=span > 0.0)
        return units


def minimize_quantum(
    function: Callable[..., Any],
    bounds: Any,
    *,
    integrality: ArrayLike | None = None,
    vectorized: bool = False,
    constraints: Callable[..., Any] | None = None,
    feasibility: str = "rejection",
    k: int = 5,
    scales: int = 20,
    factor: float = 1.3,
    max_redraws: int = 1000,
    max_evaluations: int | None = None,
    restarts: bool = False,
    start: ArrayLike | None = None,
    seed: int | np.random.Generator = 0,
) -> OptimizeResult:
    """Minimise a function of bounded variables, some of them whole numbers, by Algorithm 1 of Mu et al.

    See the module's text for the lines of the algorithm. A solution within the constraints is better than any
    outside, and one that misses them by less better than one that misses them by more: no weight is needed.

    Parameters
    ----------
    function : callable
        ``function(x) -> float`` with `x` of shape (n,); vectorised ``function(x) -> array of shape (S,)`` with `x` of
        shape (n, S). It is called within the constraints only. NaN counts as infinite.
    bounds : sequence of (min, max) pairs or scipy.optimize.Bounds
        Finite.
    integrality : array_like of bool, optional
        Which variables are whole numbers.
    vectorized : bool
        Whether `function` and `constraints` take many columns at once, as in `scipy.optimize.differential_evolution`.
    constraints : callable, optional
        Violations of a solution, positive where it misses a constraint: one number or several, shape (m,);
        vectorised (S,) or (m, S).
    feasibility : {"rejection", "penalty"}
        Draw again what misses the constraints, as printed; or let groups stand there and prefer smaller violations.
    k : int
        Number of groups, at least 2.
    scales : int
        Number of scales.
    factor : float
        By which the scale shrinks, above 1.
    max_redraws : int
        Samples that a group draws at most before it takes one that misses the constraints. Where no group has found a
        solution to start from by then, the run is over.
    max_evaluations : int, optional
        Limit of `nfev`.
    restarts : bool
        Begin anew after the last scale until the evaluations are spent; needs `max_evaluations`.
    start : array_like, shape (n,) or (m, n), optional
        Solutions in the place of the first uniform ones of the first run.
    seed : int or numpy.random.Generator

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x``, ``fun`` and ``maxcv`` (largest violation, 0 within the constraints) of the best solution; ``nfev``, the
        number of solutions looked at, those rejected included; ``nit``, the number of scales done; ``success``,
        whether the search ended as asked (by its last scale, or by its evaluations with `restarts`) and `x` meets the
        constraints; ``status`` and ``message``; ``history``, two arrays: `nfev` at each improvement within the
        constraints, and the value there. Where nothing within them was found, `fun` is infinite and `x` the one that
        misses them by least.

    Raises
    ------
    InvalidInputError
        If an argument is out of its range, or a function returns another shape than its input asks for.
    """
    box = Box(bounds, integrality)
    functions: dict[str, Any] = {"function": function, "constraints": constraints}
    for name, given in functions.items():
        if not callable(given) and (name == "function" or given is not None):
            raise InvalidInputError(name, given, "Give a function.")
    k, scales = check_count("k", k, 2), check_count("scales", scales, 1)
    max_redraws = check_count("max_redraws", max_redraws, 1)
    if max_evaluations is not None:
        max_evaluations = check_count("max_evaluations", max_evaluations, 1)
    if not is_number(factor) or not 1.0 < factor < math.inf:
        raise InvalidInputError("factor", factor, "Give a number above 1.")
    if feasibility not in FEASIBILITY:
        raise InvalidInputError("feasibility", feasibility, nearest(str(feasibility), FEASIBILITY))
    if restarts and max_evaluations is None:
        raise InvalidInputError("restarts", restarts, "Give max_evaluations, too.")
    try:
        generator = np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise InvalidInputError("seed", seed, "Give a whole number of at least 0, or a numpy Generator.") from error
    groups = _Groups(
        box,
        _as_columns(function, vectorized),
        None if constraints is None else _as_columns(constraints, vectorized),
        generator,
        k=k,
        draws=max_redraws if feasibility == "rejection" else 1,
        limit=max_evaluations,
    )
    places = _check_start(start, box, k)
    done, status = 0, _FINISHED
    try:
        while True:
            found = groups.begin(places)
            scale = 1.0
            for _ in range(scales if found else 0):
                groups.settle(scale)
                done += 1
                scale /= factor
            if not restarts:
                status = _FINISHED if found else _NO_START
                break
            places = places[:0]
    except _End as end:
        status = end.status
    result = groups.result(done)
    as_asked = status == _FINISHED or (restarts and status == _SPENT)
    result.update(status=status, message=MESSAGES[status], success=as_asked and result.fun < math.inf)
    return result


def _check_start(start: ArrayLike | None, box: Box, k: int) -> Floats:
    """Places of the given solutions in the unit cube, shape (m, n)."""
    if start is None:
        return np.empty((0, len(box.low)))
    remedy = f"Give at most {k} rows of {len(box.low)} numbers within the bounds, whole where they must be."
    try:
        rows = np.atleast_2d(np.asarray(start, np.float64))
    except (TypeError, ValueError) as error:
        raise InvalidInputError("start", start, remedy) from error
    fits = rows.ndim == 2 and len(rows) <= k and rows.shape[1] == len(box.low)
    if not fits or not ((rows >= box.low) & (rows <= box.high)).all() or (rows % 1.0 != 0.0)[:, box.whole].any():
        raise InvalidInputError("start", start, remedy)
    return box.units(rows)


def _as_columns(function: Callable[..., Any], vectorized: bool) -> Callable[[Floats], Floats]:
    """The function as one of many columns."""
    if vectorized:
        return function
    return lambda points: np.array([function(point) for point in np.ascontiguousarray(points.T)], np.float64).T


class _End(Exception):
    """The search is over, for the reason of `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(MESSAGES[status])
        self.status = status


class _Groups:
    """The groups: where they stand, what is known there, and the best of all that was seen."""

    def __init__(
        self,
        box: Box,
        function: Callable[[Floats], Any],
        constraints: Callable[[Floats], Any] | None,
        generator: np.random.Generator,
        *,
        k: int,
        draws: int,
        limit: int | None,
    ) -> None:
        n = len(box.low)
        self._box, self._function, self._constraints, self._generator = box, function, constraints, generator
        self._k, self._draws = k, draws
        self._limit = math.inf if limit is None else limit
        self._positions, self._values, self._excesses = _nowhere(k, n)
        self._samples = _nowhere(k, n)
        self._run_best = np.empty(2)  # violation and value of the best of this run
        self._normals = np.empty(max(_NORMALS, 64 * k * n))
        self._used = len(self._normals)
        self._best = np.full(2, math.inf)
        self._x = np.full(n, math.nan)
        self._evaluations = 0
        self._times: list[int] = []
        self._levels: list[float] = []

    def result(self, done: int) -> OptimizeResult:
        """The best so far."""
        result = OptimizeResult()
        result.update(
            x=self._x.copy(),
            fun=float(self._best[1]),
            maxcv=float(self._best[0]),
            nfev=self._evaluations,
            nit=done,
            history=(np.array(self._times, np.int64), np.array(self._levels)),
        )
        return result

    def begin(self, places: Floats) -> bool:
        """Lines 1-5: uniform solutions, the first of them at the given places; whether there is one to start from."""
        self._run_best[:] = math.inf
        self._excesses[:], self._values[:] = math.inf, math.inf
        if len(places):
            values, excesses = self._evaluate(places)
            given = np.arange(len(places))
            _keep(given, places, values, excesses, self._positions, self._values, self._excesses)
        self._sample(np.arange(len(places), self._k), None, (self._positions, self._values, self._excesses))
        for i in range(self._k):
            _improve(self._excesses[i], self._values[i], self._run_best)
        return self._draws == 1 or bool(self._run_best[0] == 0.0)

    def settle(self, scale: float) -> None:
        """Lines 7-27 at one scale."""
        groups = np.arange(self._k)
        deviation = _deviation(self._positions)
        last, times = -1, 0
        while times < self._k:
            change = math.inf
            while change > scale:
                self._sample(groups, scale, self._samples)
                _accept(*self._samples, self._positions, self._values, self._excesses, self._run_best)
                before, deviation = deviation, _deviation(self._positions)
                change = abs(before - deviation)
            worst = _replace_worst(self._positions, self._values, self._excesses)
            value, excess = self._evaluate(self._positions[worst : worst + 1])
            self._values[worst], self._excesses[worst] = value[0], excess[0]
            _improve(excess[0], value[0], self._run_best)
            deviation = _deviation(self._positions)
            if deviation <= scale:
                return
            times = times + 1 if worst == last else 1
            last = worst

    def _sample(self, groups: NDArray[np.int64], scale: float | None, out: tuple[Floats, Floats, Floats]) -> None:
        """Lines 10-15: a sample of each group, around its position or uniform, drawn until it meets the constraints."""
        pending = groups.copy()
        for _ in range(self._draws):
            units = self._draw(pending, scale)
            values, excesses = self._evaluate(units)
            pending = pending[: _keep(pending, units, values, excesses, *out)]
            if not len(pending):
                return

    def _draw(self, groups: NDArray[np.int64], scale: float | None) -> Floats:
        shape = (len(groups), self._positions.shape[1])
        if scale is None:
            return self._generator.random(shape)
        units = np.empty(shape)
        while True:
            used = _sample_around(self._positions, groups, scale, self._normals, self._used, units)
            if used >= 0:
                self._used = used
                return units
            self._generator.standard_normal(out=self._normals)
            self._used = 0

    def _evaluate(self, units: Floats) -> tuple[Floats, Floats]:
        """Value and largest violation of each row; a value is infinite where the constraints are missed."""
        count = int(min(len(units), self._limit - self._evaluations))
        if count == 0:
            raise _End(_SPENT)
        points = self._box.points(units[:count])
        values, excesses = np.full(count, math.inf), np.zeros(count)
        if self._constraints is not None:
            found = np.asarray(self._constraints(points), np.float64)
            if found.ndim == 2:
                found = found.max(axis=0)
            _check_shape("constraints", found, count)
            _clip(found, excesses)
        within = count if self._constraints is None else int(np.count_nonzero(excesses == 0.0))
        if within:
            inside = slice(None) if within == count else excesses == 0.0
            found = np.asarray(self._function(points[:, inside]), np.float64)
            _check_shape("function", found, within)
            values[inside] = np.fmin(found, math.inf)  # NaN as infinite
        self._evaluations += count
        self._remember(points, values, excesses)
        if count < len(units):
            raise _End(_SPENT)
        return values, excesses

    def _remember(self, points: Floats, values: Floats, excesses: Floats) -> None:
        """Keep the best of all."""
        column = _best_column(values, excesses, self._best)
        if column >= 0:
            self._x = points[:, column].copy()
            if self._best[1] < math.inf:
                self._times.append(self._evaluations)
                self._levels.append(float(self._best[1]))


def _nowhere(k: int, n: int) -> tuple[Floats, Floats, Floats]:
    """Positions in the unit cube, values and violations of groups that nothing is known of."""
    return np.zeros((k, n)), np.full(k, math.inf), np.full(k, math.inf)


def _check_shape(name: str, found: Floats, count: int) -> None:
    if found.shape != (count,):
        raise InvalidInputError(name, f"an array of shape {found.shape}", f"For {count} solutions return ({count},).")


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


@kernel
def _sample_around(
    positions: Floats, groups: NDArray[np.int64], scale: float, normals: Floats, used: int, units: Floats
) -> int:
    """Normal samples in the unit cube, from random numbers in stock; how many of them are used up, -1 if too few."""
    for c in range(groups.shape[0]):
        for j in range(units.shape[1]):
            while True:
                if used == normals.shape[0]:
                    return -1
                unit = positions[groups[c], j] + scale * normals[used]
                used += 1
                if 0.0 <= unit <= 1.0:
                    break
            units[c, j] = unit
    return used


@kernel
def _clip(found: Floats, excesses: Floats) -> None:
    """Violations, 0 within the constraints, infinite where they are unknown."""
    for i in range(found.shape[0]):
        excesses[i] = math.inf if math.isnan(found[i]) else max(0.0, found[i])


@kernel
def _keep(
    pending: NDArray[np.int64],
    units: Floats,
    values: Floats,
    excesses: Floats,
    positions: Floats,
    kept_values: Floats,
    kept_excesses: Floats,
) -> int:
    """Store what groups have drawn; those that missed the constraints move to the front: how many they are."""
    count = 0
    for c in range(units.shape[0]):
        i = pending[c]
        for j in range(units.shape[1]):
            positions[i, j] = units[c, j]
        kept_values[i], kept_excesses[i] = values[c], excesses[c]
        if excesses[c] > 0.0:
            pending[count] = i
            count += 1
    return count


@kernel
def _beats(excess: float, value: float, than_excess: float, than_value: float) -> bool:
    return excess < than_excess or (excess == than_excess and value < than_value)


@kernel
def _improve(excess: float, value: float, best: Floats) -> bool:
    """Take over what beats the best."""
    better = _beats(excess, value, best[0], best[1])
    if better:
        best[0], best[1] = excess, value
    return better


@kernel
def _best_column(values: Floats, excesses: Floats, best: Floats) -> int:
    """Where the best is beaten, -1 where it is not; takes it over."""
    column = -1
    for c in range(values.shape[0]):
        if _improve(excesses[c], values[c], best):
            column = c
    return column


@kernel
def _accept(
    units: Floats,
    values: Floats,
    excesses: Floats,
    positions: Floats,
    kept_values: Floats,
    kept_excesses: Floats,
    best: Floats,
) -> None:
    """Lines 15-18: each group moves to its sample where that beats the best of all groups."""
    for i in range(units.shape[0]):
        if _improve(excesses[i], values[i], best):
            for j in range(units.shape[1]):
                positions[i, j] = units[i, j]
            kept_values[i], kept_excesses[i] = values[i], excesses[i]


@kernel
def _replace_worst(positions: Floats, values: Floats, excesses: Floats) -> int:
    """Line 25: move the worst group to the mean of all; which it is."""
    worst = 0
    for i in range(1, positions.shape[0]):
        if _beats(excesses[worst], values[worst], excesses[i], values[i]):
            worst = i
    for j in range(positions.shape[1]):
        total = 0.0
        for i in range(positions.shape[0]):
            total += positions[i, j]
        positions[worst, j] = total / positions.shape[0]
    return worst


@kernel
def _deviation(positions: Floats) -> float:
    """Standard deviation of the positions, the root mean square over the variables."""
    k, n = positions.shape
    total = 0.0
    for j in range(n):
        mean = 0.0
        for i in range(k):
            mean += positions[i, j]
        mean /= k
        for i in range(k):
            total += (positions[i, j] - mean) ** 2
    return math.sqrt(total / (k * n))
