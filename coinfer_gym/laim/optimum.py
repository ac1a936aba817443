"""The exact optimum of P1, the problem of one task (Lyu et al., eq. 44): the best decision over all cuts.

`coinfer_gym.laim.cut_search` solves one cut by a search for the best price of time. At any price, what it relaxes
bounds the quality of every cut from above, so that the bounds at the best cut's price discard most other cuts at once.
`coinfer_gym.laim.infeasible` explains problems without a solution. See docs/mathematics.md.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import ArrayLike, NDArray

from coinfer_gym._compile import kernel, parallel_kernel
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.costs import Case, Controls, case_of, controls_at, costs_at, delay_of, first_guess, settings_of
from coinfer_gym.laim.cut_search import bound_cut, is_linear, solve_cut
from coinfer_gym.laim.decision import Solution, check_cut
from coinfer_gym.laim.frontier import TOLERANCE, solve_rising
from coinfer_gym.laim.infeasible import explain
from coinfer_gym.laim.outcome import ACCURACY, Tables, choice_of, model_distortion, model_quality, spend
from coinfer_gym.laim.problem import Problem, check_problem
from coinfer_gym.records import Record, Records, record_type

SOLUTION = record_type(
    "retained_device",
    "retained_server",
    "power",
    "frequency_device",
    "frequency_server",
    "delay",
    "energy",
    "quality",
    "distortion",
    "gap",
    "delay_needed",
    "energy_needed",
    "memory_device_needed",
    "memory_server_needed",
    cut=np.int64,
    reason=np.int64,
)
"""One solution in a batch; `reason` indexes `REASONS`."""

REASONS = ("", "time", "energy", "time and energy", "memory")
"""What cannot be met, by the code in `SOLUTION`; feasible is 0."""

_ABOVE = 1e-9  # relative: a delay that is just needed is solved for without fear of rounding
_FULL = 1.0 - 1e-12


def solve_exact(problem: Problem, cut: int | None = None) -> Solution:
    """Global optimum of P1.

    Parameters
    ----------
    problem : Problem
    cut : int, optional
        The cut to solve for; all of them where not given.

    Returns
    -------
    Solution
        Among several optima (budgets that allow the unpruned model) the fastest. Where no decision is feasible,
        `feasible` is False, `reason` says why, and the decision misses what it must by least.

    Raises
    ------
    InvalidInputError
        If the workload has no such cut, or the problem is not P1.
    """
    first, last = cut_range(problem, cut)
    row = np.zeros(1, SOLUTION)
    solve_row(problem.tables, problem.gain, problem.delay_budget, problem.energy_budget, first, last, row, 0)
    return solution_from_row(row[0])


def cut_range(problem: Problem, cut: int | None) -> tuple[int, int]:
    """First cut to solve for and the one after the last; refuses what is not P1, and a cut that it does not have."""
    check_problem(problem)
    if cut is None:
        return 0, problem.workload.cuts
    chosen = check_cut(cut, problem.workload)
    return chosen, chosen + 1


def solve_exact_batch(
    problem: Problem,
    gain: ArrayLike | None = None,
    delay_budget: ArrayLike | None = None,
    energy_budget: ArrayLike | None = None,
    cut: int | None = None,
    parallel: bool = False,
) -> Records:
    """Global optimum of many problems that differ in gain and budgets.

    Parameters
    ----------
    problem : Problem
        Gives everything that is not varied.
    gain, delay_budget, energy_budget : array_like, optional
        Values to solve for, broadcast against each other; the problem's own where not given.
    cut : int, optional
        The cut to solve for; all of them where not given.
    parallel : bool
        Spread the problems over all cores: for many problems, on cores that nothing else keeps busy. A process that has
        done so must not be forked afterwards (GNU OpenMP ends the child); spawn workers instead.

    Returns
    -------
    ndarray of `SOLUTION`
        In the broadcast shape; ``reason == 0`` marks the feasible ones.

    Raises
    ------
    InvalidInputError
        If a gain is not positive and finite, a budget is NaN, the workload has no such cut, or the problem is not P1.
    """
    first, last = cut_range(problem, cut)
    given = (gain, delay_budget, energy_budget)
    own = (problem.gain, problem.delay_budget, problem.energy_budget)
    try:
        varied = [np.asarray(own[k] if value is None else value, np.float64) for k, value in enumerate(given)]
        gains, delays, energies = np.broadcast_arrays(*varied)
    except (TypeError, ValueError) as error:
        raise InvalidInputError("gain and budgets", given, "Give numbers, or arrays that broadcast.") from error
    if not (np.isfinite(varied[0]) & (varied[0] > 0.0)).all():
        raise InvalidInputError("gain", gain, "Every gain must be finite and positive.")
    for name, values in zip(("delay_budget", "energy_budget"), varied[1:], strict=True):
        if np.isnan(values).any():
            raise InvalidInputError(name, values, "No budget may be NaN.")
    rows = np.zeros(gains.size, SOLUTION)
    run: Any = _solve_many_parallel if parallel else _solve_many
    flat = (np.array(values).ravel() for values in (gains, delays, energies))  # copies: views of one value are special
    run(problem.tables, *flat, first, last, rows)
    return rows.reshape(gains.shape)


def solve_within(
    problem: Problem,
    gain: NDArray[np.float64],
    delay_budget: NDArray[np.float64],
    energy_budget: NDArray[np.float64],
    seconds: NDArray[np.float64],
    joules: NDArray[np.float64],
) -> Records:
    """Exact optima within less time and energy than the budgets; where no decision is so fast, the fastest there is.

    Parameters
    ----------
    problem : Problem
        Gives everything that is not varied.
    gain, delay_budget, energy_budget : ndarray, shape (n,)
        The tasks.
    seconds, joules : ndarray, shape (n,)
        Time in s and energy in J that each may take.

    Returns
    -------
    ndarray of `SOLUTION`, shape (n,)
        Where even the budgets cannot be met, the record that `solve_exact_batch` has for them.
    """
    check_problem(problem)
    rows = np.zeros(gain.size, SOLUTION)
    _solve_many_within(problem.tables, gain, delay_budget, energy_budget, seconds, joules, rows)
    return rows


@kernel
def solve_row_within(
    tables: Tables,
    gain: float,
    delay_budget: float,
    energy_budget: float,
    seconds: float,
    joules: float,
    rows: Records,
    i: int,
) -> None:
    """`solve_within` of one task, stored in ``rows[i]``."""
    cuts, row, delay, energy = tables.cuts.shape[0], rows[i], min(seconds, delay_budget), min(joules, energy_budget)
    solve_row(tables, gain, delay, energy, 0, cuts, rows, i)
    if row.reason != 0:
        if row.delay_needed <= delay_budget:
            solve_row(tables, gain, row.delay_needed * (1.0 + _ABOVE), energy, 0, cuts, rows, i)
        elif delay < delay_budget or energy < energy_budget:
            solve_row(tables, gain, delay_budget, energy_budget, 0, cuts, rows, i)


@kernel
def _solve_many_within(
    tables: Tables,
    gain: NDArray[np.float64],
    delay_budget: NDArray[np.float64],
    energy_budget: NDArray[np.float64],
    seconds: NDArray[np.float64],
    joules: NDArray[np.float64],
    rows: Records,
) -> None:
    for i in range(rows.shape[0]):
        solve_row_within(tables, gain[i], delay_budget[i], energy_budget[i], seconds[i], joules[i], rows, i)


def solution_from_row(row: np.void | Any) -> Solution:
    """One record of `SOLUTION` as a `Solution`."""
    values = dict(zip(SOLUTION.names or (), row.item(), strict=True))
    reason = values.pop("reason")
    return Solution(**values, feasible=reason == 0, reason=REASONS[reason])


@kernel
def _write(case: Case, s: int, rho_device: float, rho_server: float, controls: Controls, row: Record) -> None:
    """Store a decision and what it yields."""
    tables, cut = case.tables, case.tables.cuts[s]
    row.cut = s
    row.retained_device = rho_device if cut.prunable_device + cut.flops_device > 0.0 else 1.0
    row.retained_server = rho_server if cut.prunable_server + cut.flops_server > 0.0 else 1.0
    row.power, row.frequency_device, row.frequency_server = settings_of(case, s, controls)
    row.delay, row.energy = spend(tables, case.gain, choice_of(row))
    row.quality = model_quality(tables, s, row.retained_device, row.retained_server)
    row.distortion = model_distortion(tables, s, row.retained_device, row.retained_server)


@kernel
def _solve_concave(
    case: Case, first: int, last: int, guess: float
) -> tuple[bool, int, float, float, float, float, float]:
    """Optimum over the cuts ``first..last-1``: found, cut, merit, both ratios, price of time, bound of every cut."""
    controls = controls_at(guess, case)
    start = first
    best_bound = -1.0
    for s in range(first, last):
        bound = bound_cut(guess, case, s, controls)
        if bound > best_bound:
            start, best_bound = s, bound
    found, merit, theta = False, 0.0, guess
    best, rho_device, rho_server, proven = start, 0.0, 0.0, 0.0
    delay = math.inf
    if best_bound < 0.0:
        return False, best, 0.0, 0.0, 0.0, guess, 0.0
    for step in range(first, last + 1):
        s = start if step == first else step - 1
        if step > first:
            if s == start:
                continue
            # The relaxed problem bounds a cut's merit from above at every price, so also at another cut's: a cut whose
            # bound is below the merit found, or that is infeasible even when relaxed, can be skipped. Only among
            # unpruned models, which all have the highest merit, a skipped cut might be faster.
            bound = bound_cut(theta, case, s, controls)
            if bound < 0.0 or (found and bound <= merit and merit < _FULL):
                continue
        to_beat = merit if found and merit < _FULL else 0.0
        ok, value, device, server, price, limit = solve_cut(case, s, math.log(theta), to_beat)
        if not ok:
            continue
        proven = max(proven, limit)
        costs = costs_at(price, case, s)
        tied = value >= _FULL and merit >= _FULL
        if not found or (value > merit and not tied) or (tied and delay_of(costs, device, server) < delay):
            found, merit, theta, best = True, value, price, s
            rho_device, rho_server = device, server
            delay = delay_of(costs, device, server)
            controls = controls_at(theta, case)
    return found, best, merit, rho_device, rho_server, theta, proven


@kernel
def solve_row(
    tables: Tables,
    gain: float,
    delay_budget: float,
    energy_budget: float,
    first: int,
    last: int,
    rows: Records,
    i: int,
) -> None:
    """Optimum over the cuts ``first..last-1``, stored in ``rows[i]``."""
    case = case_of(tables, gain, delay_budget, energy_budget)
    h, kind, row = tables.hardware[0], tables.quality[0].kind, rows[i]
    if kind == ACCURACY:
        found, best, merit, rho_device, rho_server, theta = solve_rising(case, first, last, first_guess(h))
        proven = min(1.0, merit + TOLERANCE)
    else:
        found, best, merit, rho_device, rho_server, theta, proven = _solve_concave(case, first, last, first_guess(h))
    if not found:
        best, theta = explain(case, first, last, row)
        _write(case, best, h.retained_device_min, h.retained_server_min, controls_at(theta, case), row)
        return
    _write(case, best, rho_device, rho_server, controls_at(theta, case), row)
    if proven > merit and is_linear(kind):  # from the weighted share to the quality that has this share
        proven = model_quality(tables, best, proven, proven)
        merit = row.quality
    row.gap = max(0.0, proven - merit)
    row.delay_needed, row.energy_needed, row.reason = math.nan, math.nan, 0
    row.memory_device_needed, row.memory_server_needed = math.nan, math.nan


@kernel
def _solve_many(
    tables: Tables,
    gain: NDArray[np.float64],
    delay_budget: NDArray[np.float64],
    energy_budget: NDArray[np.float64],
    first: int,
    last: int,
    rows: Records,
) -> None:
    for i in range(rows.shape[0]):
        solve_row(tables, gain[i], delay_budget[i], energy_budget[i], first, last, rows, i)


@parallel_kernel
def _solve_many_parallel(
    tables: Tables,
    gain: NDArray[np.float64],
    delay_budget: NDArray[np.float64],
    energy_budget: NDArray[np.float64],
    first: int,
    last: int,
    rows: Records,
) -> None:
    for i in prange(rows.shape[0]):
        solve_row(tables, gain[i], delay_budget[i], energy_budget[i], first, last, rows, i)
