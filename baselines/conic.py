"""P1, the problem of one task (Lyu et al., eq. 44), as a conic program: the global optimum with its duality gap.

Taken in the durations ``t_d, tau, t_s`` instead of the clocks and the power, P1 at a fixed cut is convex. Each stage
has a unit of time `U` of its own: what the budgets leave it, ``min(T0, E0 / P)`` where it draws the power `P` for its
whole duration. With ``a = L / c`` cycles and the executed share `w`, affine in `rho`, the clock is ``f = a w / t``. In
these units, ``x = t / U`` and ``e = E / E0``:

- delay (eq. 44a) is linear, ``sum x U / T0 <= 1``, and so is the energy ``x P U / E0`` of that power;
- the clock's bounds are linear, ``(f_min U / a) x <= w <= (f_max U / a) x``;
- the power's bounds are bounds of the upload delay, ``S / r(P_max) <= tau <= S / r(P_min)``;
- the energy of a side's clock, ``eta kappa a^3 w^3 / t^2``, is a power cone: ``c w <= e^(1/3) x^(2/3)`` with
  ``c = (eta kappa a^3 / (E0 U^2))^(1/3)``; at a feasible point neither side of it exceeds 1;
- a side that runs further passes after the first (a language model that generates) has two such durations, each with
  the bounds of the clock that its memory allows: where the memory does not keep up, the clock is slowed in one of them;
- the energy of the amplifier, ``tau (2^(S / (B tau)) - 1) N0 B / (g eps)``, is an exponential cone,
  ``x exp(sigma / x) <= (1 + m) y`` and ``e_u = k ((1 + m) y - x)``, with ``sigma = S ln 2 / (B U)``,
  ``k = N0 B U / (g eps E0)`` and ``m = 1 / k`` the SNR that the power ``E0 / U`` would have: `y` too stays below 1;
- where even full power gives an SNR below `FAINT`, that cone's two terms all but cancel, and the energy is taken from
  its series instead, ``k sigma (1 + z / 2 + z^2 (1 + Z / 4) / 6)`` with ``z = sigma / x`` and `Z` its largest value:
  each term is convex, and what is left out is below ``Z^3 / 150`` of it.

`T0` and `E0` stand for what the budgets leave after what every decision takes. The objective is concave and
non-decreasing in the ratios (`baselines.objective`). One compiled problem serves all cuts, gains, budgets and constants
of one structure: they are its parameters.
"""

from __future__ import annotations

import abc
import math
import threading
import warnings
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from baselines.fixed_cut import FixedCut, Run, Side, Structure, best, closest, fix_cut, repair
from baselines.objective import Objective, quality_of
from coinfer_gym.laim.decision import Decision, Solution
from coinfer_gym.laim.problem import Problem, check_problem

_atoms: Any = cp.atoms  # functions that carry no types

INFEASIBLE = "infeasible by the solver's certificate"

_STEPS = (0.99, 0.9, 0.7)
"""Share of the way to the cones' boundary that the solver steps, first choice first."""

_OUT_OF_REACH = 10.0
"""Scaled requirements beyond this multiple of what a budget allows are cut down to it: as infeasible, and in range."""


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
    check_problem(problem)
    if cut is not None:
        return _solve_cut(fix_cut(problem, cut))
    solutions = [_solve_cut(fix_cut(problem, s)) for s in range(problem.workload.cuts)]
    winner = best(problem, solutions)
    if not winner.feasible:
        return winner
    bounds = [solution.quality + solution.gap for solution in solutions if not math.isnan(solution.gap)]
    return replace(winner, gap=max(bounds, default=math.nan) - winner.quality)


def _solve_cut(fixed: FixedCut) -> Solution:
    if fixed.hopeless:
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


class CompiledForm(abc.ABC):
    """A convex form of P1 for one structure, compiled once; its parameters are set anew for each problem and cut.

    Hold its lock from setting the parameters to reading the variables: there is one compiled problem. A subclass says
    of how many constants its sides, their runs and the link are made, and what they constrain and spend.
    """

    sizes: ClassVar[tuple[int, int, int]]

    def __init__(self, structure: Structure) -> None:
        side, run, link = self.sizes
        self.structure = structure
        self.lock = threading.Lock()
        self._ratios = (cp.Variable(nonneg=True), cp.Variable(nonneg=True))
        self._variables: list[list[cp.Expression]] = [[], []]  # of the sides' runs
        self._sending: cp.Expression = cp.Constant(1.0)  # variable of the upload
        self._delays: list[cp.Expression] = []  # shares of the budget
        self._energies: list[cp.Expression] = []
        self._constraints: list[cp.Constraint] = []
        self._side_constants = [cp.Parameter(side, nonneg=True) for _ in range(2)]
        self._run_constants = [[cp.Parameter(run, nonneg=True) for _ in range(runs)] for runs in structure.works]
        self._link_constants = cp.Parameter(link, nonneg=True)
        for index in (0, 1):
            self._build_side(index, *(self._side_constants[index][k] for k in range(side)))
        if structure.power:
            self._build_link(*(self._link_constants[k] for k in range(link)))
        self._objective = Objective(structure.objective, structure.blocks, structure.holds, self._ratios)
        budgets: Any = (sum(shares[1:], shares[0]) <= 1.0 for shares in (self._delays, self._energies))
        self.problem = cp.Problem(
            cp.Maximize(self._objective.expression), [*self._constraints, *self._objective.constraints, *budgets]
        )

    @abc.abstractmethod
    def _build_side(self, index: int, *constants: cp.Expression) -> None: ...

    @abc.abstractmethod
    def _build_link(self, *constants: cp.Expression) -> None: ...


class ConicForm(CompiledForm):
    """The conic form; the variables of runs and upload are their durations in units of their own."""

    sizes = (4, 5, 7)

    def _build_side(self, index: int, *constants: cp.Expression) -> None:
        rest, gain, floor, ceiling = constants
        free, ratio = self.structure.free[index], self._ratios[index]
        self._constraints += [floor <= ratio, ratio <= ceiling] if free.retained else [ratio == ceiling]
        if not self.structure.works[index]:
            return
        share = cp.Variable(nonneg=True)
        self._constraints.append(share == rest + gain * ratio)
        for parameter in self._run_constants[index]:
            slow, fast, cube, late, draw = (parameter[k] for k in range(self.sizes[1]))
            duration, heat = cp.Variable(nonneg=True), cp.Variable(nonneg=True)
            if free.clock:
                self._constraints += [slow * duration <= share, share <= fast * duration]
            else:
                self._constraints.append(share == fast * duration)
            self._constraints.append(cp.PowCone3D(heat, duration, cube * share, 1.0 / 3.0))
            self._variables[index].append(duration)
            self._delays.append(late * duration)
            self._energies.append(heat + draw * duration)

    def _build_link(self, *constants: cp.Expression) -> None:
        if self.structure.faint:
            self._build_faint_link(*constants)
            return
        late, draw, shortest, longest, nats, noise, log_unit = constants
        duration, spent = cp.Variable(nonneg=True), cp.Variable(nonneg=True)
        self._constraints += [
            shortest <= duration,
            duration <= longest,
            cp.ExpCone(nats - log_unit * duration, duration, spent),
        ]
        self._sending = duration
        self._delays.append(late * duration)
        self._energies.append(spent + noise * (spent - duration) + draw * duration)

    def _build_faint_link(self, *constants: cp.Expression) -> None:
        late, draw, shortest, longest, *series = constants
        duration, haste = cp.Variable(nonneg=True), cp.Variable(nonneg=True)  # x and z, to those at full power
        self._constraints += [
            shortest <= duration,
            duration <= longest,
            haste >= _atoms.inv_pos(duration),
            haste <= 1.0,
        ]
        self._sending = duration
        self._delays.append(late * duration)
        powers = (1.0, haste, _atoms.square(haste))
        self._energies.append(sum(term * power for term, power in zip(series, powers, strict=True)) + draw * duration)

    def solve(self, fixed: FixedCut) -> float | None:
        """The solver's dual bound on the objective; None where it certifies that there is no feasible point."""
        for parameter, runs, side in zip(self._side_constants, self._run_constants, fixed.sides, strict=True):
            parameter.value = np.array([1.0 - side.gain, side.gain, side.retained_min, side.retained_max])
            for constants, run in zip(runs, side.runs, strict=True):
                constants.value = _scale_run(run, side, fixed)
        if self.structure.power:
            self._link_constants.value = _scale_faint_link(fixed) if self.structure.faint else _scale_link(fixed)
        self._objective.set(fixed.problem, fixed.cut)
        gap = solve_compiled(self.problem)
        if self.problem.status in (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE):
            return None
        return float(self.problem.value) + gap

    def decision(self, fixed: FixedCut) -> Decision:
        """Decision of the last solve: clocks and power from the durations, clipped into their bounds."""
        ratios, clocks, power = [number(ratio) for ratio in self._ratios], [0.0, 0.0], 0.0
        for index, side in enumerate(fixed.sides):
            if side.runs:
                durations = zip(self._variables[index], side.runs, strict=True)
                delay = sum(number(duration) * _run_unit(run, side, fixed) for duration, run in durations)
                clocks[index] = side.clock(ratios[index], delay)
        if self.structure.power:
            delay = number(self._sending) * _link_unit(fixed)
            power = fixed.link.power(max(delay, 1e-300))
        return fixed.decide(ratios, power, clocks)


def _unit(fixed: FixedCut, watts: float, shortest: float) -> float:
    """Unit of time of a stage in s: what the budgets leave it, or a share of what it takes at the least."""
    longest = fixed.energy_room / watts if watts > 0.0 else math.inf
    return max(min(fixed.delay_room, longest), shortest / _OUT_OF_REACH)


def _shares(fixed: FixedCut, watts: float, unit: float) -> list[float]:
    """Delay and drawn energy of a unit of time, relative to the budgets."""
    return [min(unit / fixed.delay_room, 1.0), min(watts * unit / fixed.energy_room, 1.0)]


def _run_unit(run: Run, side: Side, fixed: FixedCut) -> float:
    return _unit(fixed, side.watts, side.share(side.retained_min) * run.cycles / run.fast)


def _link_unit(fixed: FixedCut) -> float:
    shortest = fixed.link.delay(fixed.link.power_max)
    return shortest if fixed.structure.faint else _unit(fixed, fixed.link.watts, shortest)


def _scale_run(run: Run, side: Side, fixed: FixedCut) -> NDArray[np.float64]:
    """Constants of a run: clocks and root of the energy in its units, shares of a unit."""
    unit = _run_unit(run, side, fixed)
    pace, least = unit / run.cycles, side.share(side.retained_min)
    cube = run.cycles * float(np.cbrt(side.joules / (fixed.energy_room * unit * unit)))
    scaled = [run.slow * pace, run.fast * pace, min(cube, _OUT_OF_REACH / least)]
    return np.array([*scaled, *_shares(fixed, side.watts, unit)])


def _scale_link(fixed: FixedCut) -> NDArray[np.float64]:
    """Constants of the upload: shares of a unit, shortest and longest delay, `sigma`, `k`, ``ln(1 + m)``."""
    link, unit = fixed.link, _link_unit(fixed)
    longest = min(link.delay(link.power_min) / unit, 2.0 * _OUT_OF_REACH)
    nats = link.nats / unit
    noise = min(unit / (link.snr_per_watt * link.efficiency * fixed.energy_room), _OUT_OF_REACH / nats)
    ends = [link.delay(link.power_max) / unit, longest]
    return np.array([*_shares(fixed, link.watts, unit), *ends, nats, noise, np.log1p(1.0 / noise)])


def _scale_faint_link(fixed: FixedCut) -> NDArray[np.float64]:
    """Constants of a faint upload, in units of its shortest delay: shares, that delay and the longest, its energy."""
    link, unit = fixed.link, _link_unit(fixed)
    late, draw = unit / fixed.delay_room, link.watts * unit / fixed.energy_room
    longest = min(link.delay(link.power_min) / unit, max(2.0, 2.0 / late))
    exponent = link.nats / unit
    limit = link.nats / (link.snr_per_watt * link.efficiency * fixed.energy_room)
    series = np.array([1.0, exponent / 2.0, exponent**2 * (1.0 + exponent / 4.0) / 6.0])
    ends = [min(late, _OUT_OF_REACH), min(draw, _OUT_OF_REACH), 1.0, longest]
    return np.array([*ends, *min(limit, _OUT_OF_REACH) * series])


def number(expression: cp.Expression) -> float:
    """Value of a scalar expression after a solve."""
    value = expression.value
    assert value is not None
    return float(value)


def solve_compiled(problem: cp.Problem, tolerance: float = 1e-10) -> float:
    """Solve a compiled problem to a tolerance of gap and residuals, with shorter steps where that fails.

    Returns how far the optimum can lie from the solver's primal objective: the distance of its dual objective, and what
    the residual of its dual point can make of that. Raises `SolverError` if no attempt comes near the tolerance.
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
