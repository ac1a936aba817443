"""The groups of the quantum-inspired search: how they sample, settle and move. See `baselines.quantum`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from baselines.box import Box, Floats
from coinfer_gym._compile import kernel
from coinfer_gym.errors import InvalidInputError

SPENT = 1
"""Status of a search whose evaluations are spent."""

_NORMALS = 4096


class End(Exception):
    """The search is over, for the reason of `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Groups:
    """The groups: where they stand, what is known there, and the best of all that was seen."""

    def __init__(
        self,
        box: Box,
        function: Callable[[Floats], Any],
        constraints: Callable[[Floats], Any] | None,
        generator: np.random.Generator,
        *,
        own: bool,
        k: int,
        draws: int,
        limit: int | None,
    ) -> None:
        n = len(box.low)
        self._box, self._function, self._constraints, self._generator = box, function, constraints, generator
        self._own, self._k, self._draws = own, k, draws
        self._limit = math.inf if limit is None else limit
        self._positions, self._values, self._excesses = _nowhere(k, n)
        self._samples, self._deviations = _nowhere(k, n), np.zeros(n)
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

    def begin(self) -> bool:
        """Lines 1-5: uniform solutions; whether there is one to start from."""
        self._run_best[:] = math.inf
        self._excesses[:], self._values[:] = math.inf, math.inf
        self._sample(np.arange(self._k), None, (self._positions, self._values, self._excesses))
        for i in range(self._k):
            _improve(self._excesses[i], self._values[i], self._run_best)
        return self._draws == 1 or bool(self._run_best[0] == 0.0)

    def settle(self, scale: float) -> None:
        """Lines 7-27 at one scale."""
        _deviate(self._positions, self._deviations)
        last, times = -1, 0
        while times < self._k:
            while self._sweep(scale):
                pass
            worst = _replace_worst(self._positions, self._values, self._excesses)
            value, excess = self._evaluate(self._positions[worst : worst + 1])
            self._values[worst], self._excesses[worst] = value[0], excess[0]
            _improve(excess[0], value[0], self._run_best)
            _deviate(self._positions, self._deviations)
            if self._deviations.max() <= scale:
                return
            times = times + 1 if worst == last else 1
            last = worst

    def _sweep(self, scale: float) -> bool:
        """Lines 9-23: a sample of each group; whether the groups are still to settle."""
        self._sample(np.arange(self._k), scale, self._samples)
        place = self._positions, self._values, self._excesses
        improved = _accept(*self._samples, *place, self._run_best, self._own)
        change = _deviate(self._positions, self._deviations)
        return improved if self._own else change > scale

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
            raise End(SPENT)
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
            raise End(SPENT)
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
    own: bool,
) -> bool:
    """Lines 15-18: groups move to samples that beat the best of all, or their own value; whether any did."""
    moved = False
    for i in range(units.shape[0]):
        better = _improve(excesses[i], values[i], best)
        if own:
            better = _beats(excesses[i], values[i], kept_excesses[i], kept_values[i])
        if better:
            moved = True
            for j in range(units.shape[1]):
                positions[i, j] = units[i, j]
            kept_values[i], kept_excesses[i] = values[i], excesses[i]
    return moved


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
def _deviate(positions: Floats, deviations: Floats) -> float:
    """Write the standard deviation of the positions in each variable; by how much one has changed at most."""
    k, n = positions.shape
    change = 0.0
    for j in range(n):
        mean, total = 0.0, 0.0
        for i in range(k):
            mean += positions[i, j]
        mean /= k
        for i in range(k):
            total += (positions[i, j] - mean) ** 2
        deviation = math.sqrt(total / k)
        change = max(change, abs(deviation - deviations[j]))
        deviations[j] = deviation
    return change
