"""Successive convex approximation (SCA) of one task's optimisation problem P1 (Lyu et al., eq. 44; Sec. V-B).

Ratios, clocks and power stay variables. Each round solves a convex problem around the last iterate. docs/mathematics.md
derives both methods. All variables but the ratios are relative to the iterate, so that all numbers are of order 1: the
coefficients are the shares of the budgets which the iterate spends.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from baselines.conic import CompiledForm, number, solve_compiled
from baselines.fixed_cut import FixedCut, Run, Side, Structure, best, closest, fix_cut, least_load, repair
from baselines.objective import own_scale_quality
from coinfer_gym.checks import check_whole
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.laim.decision import CONTROLS, Decision, Solution
from coinfer_gym.laim.problem import Problem, check_problem

_atoms: Any = cp.atoms  # functions that carry no types

METHODS = ("lyu", "products")
"""How a product of a ratio and a function of a clock is bounded: as Lyu et al. do, or with fewer iterations."""

NO_START = "no decision is feasible"
BROKEN = "stopped early: the convex solver found no next iterate"

STEP = 30.0
"""Clocks and power grow and shrink by no more than this factor from one iterate to the next."""

_TOLERANCE = 1e-9


def solve_sca(
    problem: Problem,
    cut: int | None = None,
    start: Decision | None = None,
    *,
    method: str = "lyu",
    starts: int = 1,
    threshold: float = 1e-4,
    max_iterations: int = 50,
) -> Solution:
    """Solution of P1 by successive convex approximation.

    Parameters
    ----------
    problem : Problem
    cut : int, optional
        One cut; where None, that of `start`, or all of them without a start.
    start : Decision, optional
        A feasible decision to start from; where None, the one of the least load on the budgets, at the least ratios.
    method : {"lyu", "products"}
        ``"lyu"`` is the method of the paper. ``"products"`` bounds the products in another way and takes fewer
        iterations to the same optimum.
    starts : int
        Number of starts per cut; those after the first are random feasible decisions. The best end counts.
    threshold : float
        Stop when an iteration raises the quality by less. Qualities that are bounds are measured on their logarithmic
        scale here, since the linear one is flat.
    max_iterations : int
        Stop after that many convex problems at the latest.

    Returns
    -------
    Solution
        The last iterate, feasible; `history` holds all of them, the start first. Where the convex solver breaks down,
        the last iterate before that, and `reason` says so. Where there is no feasible decision, the one that comes
        closest to the budgets.

    Raises
    ------
    InvalidInputError
        If the workload does not have the cut, there is no such method, `starts` is not a positive whole number, or the
        start is of another cut, out of bounds or not feasible.
    """
    check_problem(problem)
    if method not in METHODS:
        raise InvalidInputError("method", method, nearest(method, METHODS))
    check_whole("starts", starts, 1)
    if cut is None and start is None:
        cuts = range(problem.workload.cuts)
        options: dict[str, Any] = {"method": method, "starts": starts, "threshold": threshold}
        options["max_iterations"] = max_iterations
        return best(problem, [solve_sca(problem, s, **options) for s in cuts])
    if start is None:
        assert cut is not None
        fixed = fix_cut(problem, cut)
        start = least_load(fixed)
        if not problem.evaluate(start).feasible:
            return closest(fixed, NO_START)
    else:
        fixed = fix_cut(problem, start.cut if cut is None else cut)
        _check_start(fixed, start)
        clocks = (start.frequency_device, start.frequency_server)
        start = fixed.decide((start.retained_device, start.retained_server), start.power, clocks)
    generator = np.random.default_rng([0, fixed.cut])
    begins = [start, *(_random_start(fixed, generator) for _ in range(starts - 1))]
    ends = [_iterate(fixed, method, problem.evaluate(begin), threshold, max_iterations) for begin in begins]
    return best(problem, ends)


def _random_start(fixed: FixedCut, generator: np.random.Generator) -> Decision:
    """A decision uniform in the logarithms of its controls, moved towards the least load until it is feasible."""
    safe, share = least_load(fixed), 1.0
    low, high = _corners(fixed)
    drawn = low * (high / low) ** generator.random(low.size)
    anchor = np.array([getattr(safe, name) for name in CONTROLS])
    used = anchor > 0.0
    while True:
        moved = anchor.copy()
        moved[used] *= (drawn[used] / anchor[used]) ** share
        device, server, power, *clocks = (float(value) for value in moved)
        start = fixed.decide((device, server), power, clocks)
        if fixed.problem.evaluate(start).feasible:
            return start
        share = 0.5 * share if share > _TOLERANCE else 0.0


def _corners(fixed: FixedCut) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds of `CONTROLS`; the open ends at 0 are taken at `_TOLERANCE` of the upper bound."""
    device, server = fixed.sides
    low = [device.retained_min, server.retained_min, fixed.link.power_min, device.frequency_min, server.frequency_min]
    high = [device.retained_max, server.retained_max, fixed.link.power_max, device.frequency_max, server.frequency_max]
    return np.maximum(low, _TOLERANCE * np.array(high)), np.array(high)


def _check_start(fixed: FixedCut, start: Decision) -> None:
    if start.cut != fixed.cut:
        raise InvalidInputError("start", start.cut, f"The cut to solve is {fixed.cut}.")
    if not fixed.problem.evaluate(start).feasible:
        raise InvalidInputError("start", start, "It must meet both budgets and fit both memories.")
    device, server = (bool(side.runs) for side in fixed.sides)
    used = (device, server, fixed.link.nats > 0.0, device, server)
    for name, low, high, matters in zip(CONTROLS, *fixed.problem.bounds(), used, strict=True):
        value = getattr(start, name)
        if matters and not (low <= value <= high and value > 0.0):
            raise InvalidInputError(f"start: {name}", value, f"Give a positive number from {low} to {high}.")


def _iterate(fixed: FixedCut, method: str, start: Solution, threshold: float, max_iterations: int) -> Solution:
    """Convex problem by convex problem, until the quality rises by less than the threshold."""
    if not any(side.freedom.retained for side in fixed.sides):
        return replace(start, history=(start,))
    surrogate = compile_surrogate(fixed.structure, method)
    history = [start]
    level = own_scale_quality(fixed.problem, start)
    for _ in range(max_iterations):
        following = next_iterate(surrogate, fixed, history[-1])
        if following is None:
            return replace(history[-1], history=tuple(history), reason=BROKEN)
        rise = own_scale_quality(fixed.problem, following) - level
        if rise < 0.0:  # rounding of the solver: the last iterate was the better one
            break
        history.append(following)
        level += rise
        if rise < threshold:
            break
    return replace(history[-1], history=tuple(history))


def next_iterate(surrogate: Surrogate, fixed: FixedCut, iterate: Solution) -> Solution | None:
    """The next iterate; None where the solver finds none."""
    with surrogate.lock:
        try:
            decision = surrogate.solve(fixed, iterate)
        except cp.error.SolverError:
            return None
    if decision is None:
        return None
    following = repair(fixed, decision, stretch=surrogate.method == "products")
    return following if following.feasible else None


@lru_cache(maxsize=128)
def compile_surrogate(structure: Structure, method: str) -> Surrogate:
    """The compiled surrogate problem of a structure, made once."""
    return Surrogate(structure, method)


class Surrogate(CompiledForm):
    """The convex problem P3; the variables of runs and upload are clocks and power, relative to the iterate's."""

    sizes = (5, 5, 8)

    def __init__(self, structure: Structure, method: str) -> None:
        self.method = method
        super().__init__(structure)

    def _build_side(self, index: int, *constants: cp.Expression) -> None:
        share_now, rest, gain, floor, ceiling = constants
        free, ratio = self.structure.free[index], self._ratios[index]
        share: cp.Expression = cp.Constant(1.0)  # executed share and clocks, all relative to the iterate's
        if free.retained:
            share = cp.Variable(nonneg=True)
            self._constraints += [rest + gain * ratio == share_now * share, floor <= ratio, ratio <= ceiling]
        else:
            self._constraints.append(ratio == ceiling)
        bound = bound_as_paper if self.method == "lyu" else bound_as_products
        for parameter in self._run_constants[index]:
            delay, heat, drawn, slow, fast = (parameter[k] for k in range(self.sizes[1]))
            clock: cp.Expression = cp.Constant(1.0)
            if free.clock:
                clock = cp.Variable(nonneg=True)
                self._constraints += [slow <= clock, clock <= fast]
            self._variables[index].append(clock)
            time, work, constraints = bound(share, clock)
            self._constraints += constraints
            self._delays.append(delay * time)
            self._energies.append(heat * work + drawn * time)

    def _build_link(self, *constants: cp.Expression) -> None:
        delay, energy, slope, drawn, low, high, nats, grown = constants
        power, rate = cp.Variable(nonneg=True), cp.Variable(nonneg=True)
        self._constraints += [
            low <= power,
            power <= high,
            nats * rate - nats <= _atoms.log(1.0 - grown + grown * power),
        ]
        self._sending = power
        self._delays.append(delay * _atoms.inv_pos(rate))
        self._energies.append(energy - slope + slope * power + drawn * _atoms.inv_pos(rate))

    def solve(self, fixed: FixedCut, iterate: Solution) -> Decision | None:
        """Decision that solves the problem at an iterate; None where there is none. It may raise `SolverError`."""
        ratios = (iterate.retained_device, iterate.retained_server)
        clocks = (iterate.frequency_device, iterate.frequency_server)
        for index, (side, ratio, clock) in enumerate(zip(fixed.sides, ratios, clocks, strict=True)):
            bounds = [1.0 - side.gain, side.gain, side.retained_min, side.retained_max]
            self._side_constants[index].value = np.array([side.share(ratio), *bounds])
            for constants, run in zip(self._run_constants[index], side.runs, strict=True):
                constants.value = _expand_run(fixed, side, run, ratio, clock)
        if self.structure.power:
            self._link_constants.value = _expand_link(fixed, iterate.power)
        self._objective.set(fixed.problem, fixed.cut)
        solve_compiled(self.problem, _TOLERANCE)
        if self.problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
            return None
        retained, scaled = [number(ratio) for ratio in self._ratios], [0.0, 0.0]
        for index, (side, clock) in enumerate(zip(fixed.sides, clocks, strict=True)):
            if side.runs:
                owns = [
                    min(clock, run.fed) * number(own)
                    for run, own in zip(side.runs, self._variables[index], strict=True)
                ]
                delay = sum(side.delay(run, retained[index], own) for run, own in zip(side.runs, owns, strict=True))
                scaled[index] = side.clock(retained[index], delay)
        return fixed.decide(retained, iterate.power * number(self._sending), scaled)


Bounds = tuple[cp.Expression, cp.Expression, list[cp.Constraint]]


def bound_as_paper(ratio: cp.Expression, clock: cp.Expression) -> Bounds:
    """Bounds of ``ratio / clock`` and ``ratio clock^2`` by the tangent of ``phi = 1 / ratio``, and no constraints."""
    phi = 2.0 - ratio  # eqs. 48 and 49: as large as they allow, since both bounds fall with it
    return _atoms.inv_prod(_atoms.hstack([phi, clock])), _atoms.quad_over_lin(clock, phi), []


def bound_as_products(ratio: cp.Expression, clock: cp.Expression) -> Bounds:
    """The same by products with ``u >= 1 / clock`` and ``v >= clock^2``, whose constraints come last."""
    pace, draw = _atoms.inv_pos(clock), _atoms.square(clock)
    if clock.is_constant() or ratio.is_constant():
        return ratio * pace, ratio * draw, []
    u, v = cp.Variable(nonneg=True), cp.Variable(nonneg=True)
    time, work = (0.5 * _atoms.square(ratio + factor) - ratio - factor + 1.0 for factor in (u, v))
    return time, work, [u >= pace, v >= draw]


def _expand_run(fixed: FixedCut, side: Side, run: Run, ratio: float, clock: float) -> NDArray[np.float64]:
    """Constants of a run around a ratio and a clock: shares of the budgets, bounds of its clock."""
    delay, heat, own = side.delay(run, ratio, clock), side.heat(run, ratio, clock), min(clock, run.fed)
    spent = [delay / fixed.delay_room, heat / fixed.energy_room, side.watts * delay / fixed.energy_room]
    return np.array([*spent, *_limit_step(run.slow / own, run.fast / own)])


def _expand_link(fixed: FixedCut, power: float) -> NDArray[np.float64]:
    """Constants of the upload around a power: shares of the budgets, slope of the amplifier's energy, bounds, rate.

    The rate relative to the iterate's is ``1 + ln(1 - c + c q) / ln(1 + snr)`` at `q` times the power, with
    ``c = snr / (1 + snr)``; the amplifier's relative slope is ``1 - c / ln(1 + snr)``.
    """
    link, snr = fixed.link, fixed.link.snr_per_watt * power
    nats, grown = math.log1p(snr), snr / (1.0 + snr)
    delay, energy = link.delay(power), link.amplifier(power) / fixed.energy_room
    slope, drawn = energy * max(1.0 - grown / nats, 0.0), link.watts * delay / fixed.energy_room
    low, high = _limit_step(link.power_min / power, link.power_max / power)
    return np.array([delay / fixed.delay_room, energy, slope, drawn, low, high, nats, grown])


def _limit_step(low: float, high: float) -> tuple[float, float]:
    """Bounds of a relative variable, closer where they would let it leave the solver's numbers in one step."""
    return max(low, 1.0 / STEP), min(high, STEP)
