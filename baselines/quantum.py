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
from numpy.typing import ArrayLike
from scipy.optimize import OptimizeResult

from baselines.box import Box, Floats
from baselines.checks import check_count
from baselines.quantum_groups import SPENT, End, Groups
from coinfer_gym.checks import is_number
from coinfer_gym.errors import InvalidInputError, nearest

__all__ = ["MESSAGES", "Box", "minimize_quantum"]

FEASIBILITY = ("rejection", "penalty")
MESSAGES = (
    "All scales are done.",
    "The evaluations are spent.",
    "No solution within the constraints was found to start from: raise max_redraws, or use feasibility='penalty'.",
)
"""Why a search ended, by `status`."""

_FINISHED, _NO_START = 0, 2


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
    groups = Groups(
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
    except End as end:
        status = end.status
    result = groups.result(done)
    as_asked = status == _FINISHED or (restarts and status == SPENT)
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
