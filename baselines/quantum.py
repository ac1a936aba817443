"""The quantum-inspired search of Mu et al., called like the optimizers of `scipy.optimize`, in two named forms.

Several groups hold one position each. At a given scale every group samples around its position until the groups are
stable (energy level stabilisation). Then the worst group moves to the mean of all (energy level transition). Both
repeat until the positions lie within the scale in every variable; then the scale shrinks (scale adjustment).

``form="printed"`` is Algorithm 1 as printed. ``form="mqhoa"`` is the multiscale quantum harmonic oscillator algorithm
as code that the laboratory of its authors published later has it. They differ in four points:

| | printed | mqhoa |
|---|---|---|
| a group takes its sample if it beats | the best of all groups | its own value |
| the groups are stable when | no deviation changes by more than the scale | a sweep improves no group |
| groups | 5 | 30 |
| end | after 20 scales | when the evaluations are spent |

The lines of Algorithm 1, and what its text leaves open
-------------------------------------------------------
- Lines 1-5: `k` solutions uniform in the bounds. All variables are mapped to [0, 1] (the text: a mapping factor brings
  them to the same scale). A whole number gets an equal part of it, and its position there stays continuous, so
  that groups next to each other may move through it.
- Line 6: the first scale is open in the text: here the whole range. Deviation and change are open where the loops of
  lines 7 and 8 first look at them; they are taken as large at every scale, so that none is left out.
- Lines 7, 8: there is a deviation for each variable; the largest, and the largest change, are compared with the scale.
- Lines 9, 10: a sample is normal around the position, with the scale as deviation. A variable that leaves its bounds is
  drawn again by itself, which has the same law as drawing all of them again and does not take for ever.
- Lines 11-14: as printed, a sample that misses the constraints is drawn again. The text has no end to this. Here the
  sample drawn `max_redraws` times is taken as it is: it loses against all that meet the constraints. In the form
  ``mqhoa``, whose code knows no constraints, every sample counts, and a smaller violation is better.
- Lines 15-18: as printed, only a sample that beats the best of all groups is taken.
- Lines 25, 26: the mean is evaluated as one more sample. Where it misses the constraints it counts as the worst.
- Line 27: as printed, the loop need not end: where the mean is worse than all others, as it is between two basins, and
  no sample beats the best (line 16), the same group is moved to it for ever. So a scale ends, too, when one
  group was the worst `k` times in a row.
- Line 30: ``restarts=True`` spends the rest of `max_evaluations` on new runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import OptimizeResult

from baselines.box import Box, Floats
from baselines.quantum_groups import SPENT, End, Groups
from coinfer_gym.checks import check_whole, is_number
from coinfer_gym.errors import InvalidInputError, nearest

__all__ = ["MESSAGES", "Box", "minimize_quantum"]

FORMS = ("printed", "mqhoa")
MESSAGES = (
    "All scales are done.",
    "The evaluations are spent.",
    "No solution within the constraints was found to start from: raise max_redraws, or use form='mqhoa'.",
)
"""Why a search ended, by `status`."""

_FINISHED, _NO_START = 0, 2
_GROUPS = {"printed": 5, "mqhoa": 30}
_SCALES = 20
_EVALUATIONS = 10_000  # a variable, as in the experiments with that code


def minimize_quantum(
    function: Callable[..., Any],
    bounds: Any,
    *,
    integrality: ArrayLike | None = None,
    vectorized: bool = False,
    constraints: Callable[..., Any] | None = None,
    form: str = "mqhoa",
    k: int | None = None,
    scales: int | None = None,
    factor: float = 1.3,
    max_redraws: int = 1000,
    max_evaluations: int | None = None,
    restarts: bool = False,
    seed: int | np.random.Generator = 0,
) -> OptimizeResult:
    """Minimise a function of bounded variables, some of them whole numbers, by the search of Mu et al.

    See the module's text for the two forms. A solution within the constraints is better than any outside, and one that
    misses them by less better than one that misses them by more: no weight is needed.

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
    form : {"printed", "mqhoa"}
        Algorithm 1 as printed, or as its authors' later code has it.
    k : int, optional
        Number of groups, at least 2; by default 5 as printed, 30 in the form ``mqhoa``.
    scales : int, optional
        Number of scales of a run; by default 20 as printed, and in the form ``mqhoa`` as many as the evaluations allow.
    factor : float
        By which the scale shrinks, above 1.
    max_redraws : int
        Samples that a group draws at most before it takes one that misses the constraints, as printed. Where no group
        has found a solution to start from by then, the run is over.
    max_evaluations : int, optional
        Limit of `nfev`; by default 10,000 a variable where nothing else ends the search, and none otherwise.
    restarts : bool
        Begin anew after the last scale until the evaluations are spent.
    seed : int or numpy.random.Generator

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x``, ``fun`` and ``maxcv`` (largest violation, 0 within the constraints) of the best solution; ``nfev``, the
        number of solutions looked at, those rejected included; ``nit``, the number of scales done; ``success``,
        whether the search ended as asked (by its last scale, or by its evaluations where nothing else ends it) and `x`
        meets the constraints; ``status`` and ``message``; ``history``, two arrays: `nfev` at each improvement within
        the constraints, and the value there. Where nothing within them was found, `fun` is infinite and `x` the one
        that misses them by least.

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
    if form not in FORMS:
        raise InvalidInputError("form", form, nearest(str(form), FORMS))
    printed = form == "printed"
    k = check_whole("k", _GROUPS[form] if k is None else k, 2)
    endless = scales is None and not printed
    scales = check_whole("scales", _SCALES if scales is None else scales, 1)
    max_redraws = check_whole("max_redraws", max_redraws, 1)
    if max_evaluations is not None:
        max_evaluations = check_whole("max_evaluations", max_evaluations, 1)
    if not is_number(factor) or not 1.0 < factor < math.inf:
        raise InvalidInputError("factor", factor, "Give a number above 1.")
    if restarts and (endless or max_evaluations is None):
        raise InvalidInputError("restarts", restarts, "Give max_evaluations and, in the form mqhoa, scales, too.")
    if endless and max_evaluations is None:
        max_evaluations = _EVALUATIONS * len(box.low)
    try:
        generator = np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise InvalidInputError("seed", seed, "Give a whole number of at least 0, or a numpy Generator.") from error
    groups = Groups(
        box,
        _as_columns(function, vectorized),
        None if constraints is None else _as_columns(constraints, vectorized),
        generator,
        own=not printed,
        k=k,
        draws=max_redraws if printed else 1,
        limit=max_evaluations,
    )
    done, status = 0, _FINISHED
    try:
        while True:
            found = groups.begin()
            scale, number = 1.0, 0
            while found and (endless or number < scales):
                groups.settle(scale)
                done, number = done + 1, number + 1
                scale /= factor
            if not restarts:
                status = _FINISHED if found else _NO_START
                break
    except End as end:
        status = end.status
    result = groups.result(done)
    as_asked = status == _FINISHED or (status == SPENT and (restarts or endless))
    result.update(status=status, message=MESSAGES[status], success=as_asked and result.fun < math.inf)
    return result


def _as_columns(function: Callable[..., Any], vectorized: bool) -> Callable[[Floats], Floats]:
    """The function as one of many columns."""
    if vectorized:
        return function
    return lambda points: np.array([function(point) for point in np.ascontiguousarray(points.T)], np.float64).T
