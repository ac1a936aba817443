"""Exact optima of the latency problem of Mu et al.: of power and clock, of the cut, and of the whole design.

Power and clock of a design follow from one price of a second (`coinfer_gym.layerwise.controls`). For the whole design a
branch and bound goes over boxes of cells of equal accuracy (`coinfer_gym.layerwise.cells`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coinfer_gym.checks import check_number, is_number
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise.cells import Case, build_case, build_scratch, design_of
from coinfer_gym.layerwise.controls import fill_rows
from coinfer_gym.layerwise.designs import POWER, SENT, check_designs, make_designs
from coinfer_gym.layerwise.problem import LayerwiseProblem, LayerwiseSolution
from coinfer_gym.layerwise.search import descend, search
from coinfer_gym.pricing import ROUNDING

_FIRST_TOLERANCE = 0.3
_NARROWING = 0.5


def solve_exact(
    problem: LayerwiseProblem,
    cut: int | None = None,
    tolerance: float = 1e-3,
    nodes: int = 2_000_000,
    starts: NDArray[np.float64] | None = None,
) -> LayerwiseSolution:
    """Fastest design over cut, retained ratios, compression, power and clock, by branch and bound.

    Every group keeps at least the channels of the problem's `retained_min`, and the predicted accuracy reaches
    `accuracy_min` without tolerance. The search is repeated with decreasing tolerances, so it has a proven bound
    whenever it is stopped.

    Parameters
    ----------
    problem : LayerwiseProblem
        With a predictor that is a sum of trees.
    cut : int, optional
        The cut to solve for; all that the problem allows by default.
    tolerance : float
        Stop at this relative distance from the optimum.
    nodes : int
        Largest number of boxes to examine.
    starts : ndarray, shape (n, G + 4), optional
        Designs to start from, for instance those of an optimizer.

    Returns
    -------
    LayerwiseSolution
        With `delay_bound`, `gap` and `nodes`. If no design meets accuracy and energy: the best of the unpruned designs
        and `starts`, in the order of `solve_given`.

    Raises
    ------
    InvalidInputError
        If the predictor has a linear form, which has no cells, or an argument is of a wrong kind or out of range.
    """
    cuts = _cuts(problem, cut)
    check_number("tolerance", tolerance, 0.0, 1.0)
    check_number("nodes", nodes, 0.0, 1e15)
    if problem.predictor.coefficients.any():
        remedy = "The exact optimum needs a sum of regression trees."
        raise InvalidInputError("predictor", problem.predictor.regressor, remedy)
    groups = len(problem.network.groups)
    unpruned = make_designs(problem.network, [[each, *[1.0] * (groups + 3)] for each in cuts])
    known = unpruned
    if starts is not None:
        try:
            known = np.concatenate([unpruned, np.atleast_2d(np.asarray(starts, np.float64))])
        except (TypeError, ValueError) as error:
            raise InvalidInputError("starts", starts, f"Give rows of {unpruned.shape[1]} numbers.") from error
    incumbent = _best_of(problem, solve_rows(problem, known))
    least = problem.network.kept([problem.retained_min] * groups)
    if (known[:, 1:SENT] < least).any():
        raise InvalidInputError("starts", starts, f"Keep at least {least.tolist()} channels of the groups.")
    within = incumbent.accuracy >= problem.accuracy_min
    within &= incumbent.energy <= problem.energy_budget * (1.0 + ROUNDING)
    cases = [case for each in cuts for codec in (False, True) if (case := build_case(problem, each, codec)) is not None]
    delay = incumbent.delay if within else math.inf
    best, delay, bound, used = _narrow(cases, delay, tolerance, nodes)
    if best is not None:
        row = solve_rows(problem, design_of(*best)[None])
        incumbent = problem.evaluate(problem.decision(row[0]))
    gap = math.nan if delay == math.inf else max(0.0, 1.0 - bound / delay)
    return replace(incumbent, delay_bound=bound, gap=gap, nodes=used)


def _narrow(
    cases: Sequence[Case], delay: float, tolerance: float, nodes: int
) -> tuple[tuple[Case, NDArray[np.int64]] | None, float, float, int]:
    """Search all cases with finer and finer tolerances for what is faster than `delay`.

    Returns case and cell of the fastest design, None if none is faster; its delay, or `delay`; the proven bound of the
    delay; and the number of boxes that were looked at.
    """
    scratches = [build_scratch(case) for case in cases]
    reached = [descend(case, scratch) for case, scratch in zip(cases, scratches, strict=True)]
    order = sorted(range(len(cases)), key=reached.__getitem__)
    best: tuple[Case, NDArray[np.int64]] | None = None
    if order and reached[order[0]] < delay:
        delay, best = reached[order[0]], (cases[order[0]], scratches[order[0]].best.copy())
    bound, used, allowed = 0.0, 0, _FIRST_TOLERANCE
    while True:
        allowed = max(tolerance, allowed * _NARROWING)
        lowest = math.inf
        for number in order:
            found, discarded, spent = search(cases[number], scratches[number], delay, allowed, nodes - used)
            used += spent
            lowest = min(lowest, discarded)
            if found < delay:
                delay, best = found, (cases[number], scratches[number].best.copy())
            if used >= nodes:  # what was left out has no bound
                return best, delay, bound, used
        bound = max(bound, min(lowest, delay))
        if allowed <= tolerance or delay == math.inf:
            return best, delay, bound, used


def solve_given(
    problem: LayerwiseProblem, retained: ArrayLike, compression: float, cut: int | None = None
) -> LayerwiseSolution:
    """Best cut, power and clock at given retained ratios and compression.

    Parameters
    ----------
    problem : LayerwiseProblem
    retained : array_like, shape (G,)
        Retained ratio of each group in (0, 1].
    compression : float
        Share of the channels that is sent, in (0, 1].
    cut : int, optional
        The cut to solve for; all that the problem allows by default.

    Returns
    -------
    LayerwiseSolution
        The fastest design that meets accuracy and energy. If there is none, the one that misses the accuracy by least;
        among equals the one that exceeds the energy budget by least, then the fastest.

    Raises
    ------
    InvalidInputError
        If a ratio is out of range or there is no such cut.
    """
    cuts = _cuts(problem, cut)
    ratios = [[number, *np.ravel(retained), compression, 1.0, 1.0] for number in cuts]
    return _best_of(problem, solve_rows(problem, make_designs(problem.network, ratios)))


def _cuts(problem: object, cut: object) -> Sequence[int]:
    """The cuts to solve for; `InvalidInputError` if the problem is another one, or has no such cut."""
    if not isinstance(problem, LayerwiseProblem):
        remedy = "This solves the problem of Layerwise-v0; for P1 of LAIM-v0 call coinfer_gym.solve_exact."
        raise InvalidInputError("problem", type(problem).__name__, remedy)
    if cut is None:
        return problem.allowed_cuts
    if not is_number(cut) or cut not in range(problem.network.cuts):
        raise InvalidInputError("cut", cut, f"Give a whole number in 0..{problem.network.cuts - 1}.")
    return [cut]  # type: ignore[list-item]  # a number, as checked


def solve_rows(problem: LayerwiseProblem, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Copies of designs, each with its best power and clock.

    Parameters
    ----------
    problem : LayerwiseProblem
    rows : ndarray, shape (n, G + 4)
        The last two columns are ignored.

    Returns
    -------
    ndarray, shape (n, G + 4)
        If no power and clock meet the energy budget, the lowest ones, which exceed it by least.

    Raises
    ------
    InvalidInputError
        As `LayerwiseProblem.evaluate`.
    """
    designs = np.array(rows, np.float64, order="C", ndmin=2)
    if designs.shape[-1] > 2:
        designs[:, POWER:] = problem.power_max, problem.frequency_device_max
    check_designs(problem.network, designs)
    fill_rows(problem.network.tables, problem.hardware, problem.gain, problem.energy_budget, designs)
    return designs


def _best_of(problem: LayerwiseProblem, rows: NDArray[np.float64]) -> LayerwiseSolution:
    outcomes = problem.evaluate(rows)
    short = np.maximum(0.0, problem.accuracy_min - outcomes.accuracy)
    excess = outcomes.energy - problem.energy_budget
    excess[excess <= ROUNDING * np.abs(outcomes.energy)] = 0.0
    best = np.lexsort((outcomes.delay, excess, short))[0]
    return problem.evaluate(problem.decision(rows[best]))
