"""P1, the problem of one task (Lyu et al., eq. 44), as a conic program: the global optimum with its duality gap.

Taken in the durations ``t_d, tau, t_s`` instead of the clocks and the power, P1 at a fixed cut is convex. With
``a = L / c`` cycles the clock is ``f = a rho / t``, and in units of the budgets, ``x = t / T0`` and ``e = E / E0``:

- delay (eq. 44a) is linear, ``x_d + x_u + x_s <= 1``;
- the clock's bounds are linear, ``(f_min T0 / a) x <= rho <= (f_max T0 / a) x``;
- the power's bounds are bounds of the upload delay, ``S / r(P_max) <= tau <= S / r(P_min)``;
- the energy of a side, ``eta kappa a^3 rho^3 / t^2``, is a power cone: ``c rho <= e^(1/3) x^(2/3)`` with
  ``c = (eta kappa a^3 / (E0 T0^2))^(1/3)``; at a feasible point neither side of it exceeds 1;
- the energy of the upload, ``tau (2^(S / (B tau)) - 1) N0 B / g``, is an exponential cone,
  ``x exp(sigma / x) <= (1 + m) y`` and ``e_u = k ((1 + m) y - x)``, with ``sigma = S ln 2 / (B T0)``,
  ``k = N0 B T0 / (g E0)`` and ``m = 1 / k`` the SNR that the power ``E0 / T0`` would have: `y` too stays below 1;
- where even full power gives an SNR below `FAINT`, that cone's two terms all but cancel, and the energy is taken from
  its series instead, ``k sigma (1 + z / 2 + z^2 (1 + Z / 4) / 6)`` with ``z = sigma / x`` and `Z` its largest value:
  each term is convex, and what is left out is below ``Z^3 / 150`` of it.

The objective is concave and non-decreasing in the ratios (`baselines.objective`). One compiled problem serves all
cuts, gains, budgets and constants of one structure: they are its parameters.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from baselines.fixed_cut import FixedCut, Side, Structure, best, closest, fix_cut, repair
from baselines.objective import Objective, quality_of
from coinfer_gym.laim.problem import Decision, Problem, Solution

_atoms: Any = cp.atoms  # functions that carry no types

INFEASIBLE = "infeasible by the solver's certificate"

_STEPS = (0.99, 0.9, 0.7)
"""Share of the way to the cones' boundary that the solver steps, first choice first."""

_OUT_OF_REACH = 10.0
"""Scaled requirements beyond this multiple of what a budget allows are cut down to it: as infeasible, and in range."""
_SIDE = 4
_LINK = 5


def solve_conic(problem: Problem, cut: int | None = None) -> Solution:
    """Global optimum of P1 by conic programming.

    Parameters
    ----------
    problem : Problem
    cut : int, optional
        One cut; all of them where None.

    Returns
    -------
    Solution
        The best decision, with `gap` the solver's duality gap in units of quality: no decision (of this cut, or of
        any where `cut` is None) is better by more, up to the solver's rounding (about 1e-7 at worst). Where
        infeasible, the decision that comes closest to the budgets.

    Raises
    ------
    InvalidInputError
        If the workload does not have the cut.
    cvxpy.error.SolverError
        If the solver breaks down.
    """
    if cut is not None:
        return _solve_cut(fix_cut(problem, cut))
    solutions = [_solve_cut(fix_cut(problem, s)) for s in range(problem.workload.cuts)]
    winner = best(problem, solutions)
    if not winner.feasible:
        return winner
    bounds = [solution.quality + solution.gap for solution in solutions if not math.isnan(solution.gap)]
    return replace(winner, gap=max(bounds, default=math.nan) - winner.quality)


def _solve_cut(fixed: FixedCut) -> Solution:
    if fixed.delay_budget <= 0.0 or fixed.energy_budget <= 0.0:
        return closest(fixed, INFEASIBLE)
    form = compile_form(fixed.structure)
    with form.lock:
        bound = form.solve(fixed)
        if bound is None:
            return closest(fixed, INFEASIBLE)
        decision = form.decision(fixed)
    solution = repair(fixed, decision)
    bound = min(quality_of(fixed.problem, fixed.cut, bound), 1.0)
    return replace(solution, gap=max(bound - solution.quality, 0.0))


@lru_cache(maxsize=128)
def compile_form(structure: Structure) -> ConicForm:
    """The compiled problem of a structure, made once."""
    return ConicForm(structure)


class ConicForm:
    """Conic form of P1 for one structure; its parameters are set anew for each problem and cut.

    Attributes
    ----------
    problem : cvxpy.Problem
    lock : threading.Lock
        To be held from `solve` to `decision`, since both work on the one compiled problem.
    """

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.lock = threading.Lock()
        self._ratios: list[cp.Expression] = [cp.Constant(1.0), cp.Constant(1.0)]
        self._durations: list[cp.Expression] = [cp.Constant(0.0)] * 3
        self._energies: list[cp.Expression] = [cp.Constant(0.0)] * 3
        self._constraints: list[cp.Constraint] = []
        self._side_constants = [cp.Parameter(_SIDE, nonneg=True) for _ in range(2)]
        self._link_constants = cp.Parameter(_LINK, nonneg=True)
        for index in (0, 1):
            if structure.works[index]:
                self._build_side(index)
        if structure.uploads:
            self._build_link()
        ratios = (self._ratios[0], self._ratios[1])
        self._objective = Objective(structure.objective, structure.blocks, structure.holds, ratios)
        self.problem = cp.Problem(
            cp.Maximize(self._objective.expression),
            [
                *self._constraints,
                *self._objective.constraints,
                within_budget(self._durations),
                within_budget(self._energies),
            ],
        )

    def _build_side(self, index: int) -> None:
        slow, fast, cube, floor = (self._side_constants[index][k] for k in range(_SIDE))
        free = self.structure.free[index]
        ratio, duration, energy = (cp.Variable(nonneg=True) for _ in range(3))
        if free.retained:
            self._constraints += [floor <= ratio, ratio <= 1.0]
        else:
            self._constraints += [ratio == 1.0]
        if free.clock:
            self._constraints += [slow * duration <= ratio, ratio <= fast * duration]
        else:
            self._constraints += [ratio == fast * duration]
        self._constraints.append(cp.PowCone3D(energy, duration, cube * ratio, 1.0 / 3.0))
        self._ratios[index] = ratio
        self._durations[2 * index], self._energies[2 * index] = duration, energy

    def _build_link(self) -> None:
        if self.structure.faint:
            self._build_faint_link()
            return
        shortest, longest, nats, noise, log_unit = (self._link_constants[k] for k in range(_LINK))
        duration, spent = cp.Variable(nonneg=True), cp.Variable(nonneg=True)
        if self.structure.power:
            self._constraints += [shortest <= duration, duration <= longest]
        else:
            self._constraints += [duration == shortest]
        self._constraints.append(cp.ExpCone(nats - log_unit * duration, duration, spent))
        self._durations[1] = duration
        self._energies[1] = spent + noise * (spent - duration)

    def _build_faint_link(self) -> None:
        shortest, longest, *series = (self._link_constants[k] for k in range(_LINK))
        relative, haste = cp.Variable(nonneg=True), cp.Variable(nonneg=True)  # x and z, to those at full power
        if self.structure.power:
            self._constraints += [relative >= 1.0, relative <= longest]
        else:
            self._constraints += [relative == 1.0]
        self._constraints += [haste >= _atoms.inv_pos(relative), haste <= 1.0]
        self._durations[1] = shortest * relative
        powers = (1.0, haste, _atoms.square(haste))
        self._energies[1] = sum(term * power for term, power in zip(series, powers, strict=True))

    def solve(self, fixed: FixedCut) -> float | None:
        """Solve for a problem and cut.

        Returns
        -------
        float or None
            The solver's dual bound on the objective; None where it certifies that there is no feasible point.

        Raises
        ------
        cvxpy.error.SolverError
            If the solver breaks down.
        """
        for parameter, side in zip(self._side_constants, fixed.sides, strict=True):
            if side.cycles > 0.0:
                parameter.value = _scale_side(side, fixed)
        if self.structure.uploads:
            self._link_constants.value = _scale_faint_link(fixed) if self.structure.faint else _scale_link(fixed)
        self._objective.set(fixed.problem, fixed.cut)
        gap = solve_compiled(self.problem)
        if self.problem.status in (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE):
            return None
        return float(self.problem.value) + gap

    def decision(self, fixed: FixedCut) -> Decision:
        """Decision of the last solve: clocks and power from the durations, clipped into their bounds."""
        clocks, ratios = [0.0, 0.0], [1.0, 1.0]
        for index, side in enumerate(fixed.sides):
            if side.cycles > 0.0:
                ratios[index] = min(max(number(self._ratios[index]), side.retained_min), 1.0)
                delay = number(self._durations[2 * index]) * fixed.delay_budget
                clock = side.cycles * ratios[index] / max(delay, side.cycles * ratios[index] / side.frequency_max)
                clocks[index] = max(clock, side.frequency_min)
        power = 0.0
        if self.structure.uploads:
            power = fixed.link.power(max(number(self._durations[1]) * fixed.delay_budget, 1e-300))
        return Decision(fixed.cut, ratios[0], ratios[1], power, clocks[0], clocks[1])


def _scale_side(side: Side, fixed: FixedCut) -> NDArray[np.float64]:
    """Constants of a side in units of the budgets: slowest and fastest clock, root of the energy, least ratio."""
    delay, energy = fixed.delay_budget, fixed.energy_budget
    unit = delay / side.cycles
    fast = max(side.frequency_max * unit, side.retained_min / _OUT_OF_REACH)
    cube = side.cycles * float(np.cbrt(side.joules / (energy * delay * delay)))
    return np.array(
        [
            min(side.frequency_min * unit, fast),
            fast,
            min(cube, _OUT_OF_REACH / side.retained_min),
            side.retained_min,
        ]
    )


def _scale_link(fixed: FixedCut) -> NDArray[np.float64]:
    """Constants of the upload in units of the budgets: its shortest and longest delay, `sigma`, `k`, ``ln(1 + m)``."""
    link, delay = fixed.link, fixed.delay_budget
    shortest = min(link.delay(link.power_max) / delay, _OUT_OF_REACH)
    longest = min(link.delay(link.power_min) / delay, 2.0 * _OUT_OF_REACH)
    nats = link.nats / delay
    noise = min(delay / (link.snr_per_watt * fixed.energy_budget), _OUT_OF_REACH / nats)
    return np.array([shortest, longest, nats, noise, np.log1p(1.0 / noise)])


def _scale_faint_link(fixed: FixedCut) -> NDArray[np.float64]:
    """Constants of a faint upload: its shortest delay, its longest one relative to that, terms of its energy."""
    link, delay = fixed.link, fixed.delay_budget
    at_full = link.delay(link.power_max)
    shortest = min(at_full / delay, _OUT_OF_REACH)
    longest = min(link.delay(link.power_min) / at_full, max(2.0, 2.0 / shortest))
    exponent = link.nats / at_full
    limit = min(link.nats / (link.snr_per_watt * fixed.energy_budget), _OUT_OF_REACH)
    series = limit * np.array([1.0, exponent / 2.0, exponent**2 * (1.0 + exponent / 4.0) / 6.0])
    return np.array([shortest, longest, *series])


def within_budget(shares: Sequence[cp.Expression]) -> cp.Constraint:
    """That shares of a budget do not exceed it."""
    total: cp.Expression = shares[0]
    for share in shares[1:]:
        total = total + share
    constraint: cp.Constraint = total <= 1.0
    return constraint


def number(expression: cp.Expression) -> float:
    """Value of a scalar expression after a solve."""
    value = expression.value
    assert value is not None
    return float(value)


def solve_compiled(problem: cp.Problem, tolerance: float = 1e-10) -> float:
    """Solve a compiled problem, with shorter steps where the solver does not reach the tolerance.

    Parameters
    ----------
    problem : cvxpy.Problem
        With its parameters set.
    tolerance : float
        Of gap and residuals.

    Returns
    -------
    float
        How far the optimum can lie from the solver's primal objective: the distance of its dual objective, and what
        the residual of its dual point can make of that.

    Raises
    ------
    cvxpy.error.SolverError
        If no attempt comes near the tolerance.
    """
    nearly = None
    for step in _STEPS:
        options = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), tolerance) | {"max_step_fraction": step}
        data, chain, inverse = problem.get_problem_data(cp.CLARABEL, enforce_dpp=True, solver_opts=options)
        raw = chain.solve_via_data(problem, data, solver_opts=options)
        status = str(raw.status)
        if status in ("Solved", "PrimalInfeasible"):
            break
        if nearly is None and status in ("AlmostSolved", "AlmostPrimalInfeasible"):
            nearly = raw
    else:
        raw = nearly or raw
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the status tells it, and the answer is repaired
        problem.unpack_results(raw, chain, inverse)
    return abs(float(raw.obj_val - raw.obj_val_dual)) + float(raw.r_dual * np.abs(raw.x).sum())
