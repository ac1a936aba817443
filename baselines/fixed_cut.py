"""P1 (Lyu et al., eq. 44) at one cut, as the convex solvers see it: its controls, and the repair of rounding."""

# Prices of time come from coinfer_gym.laim.costs; they only choose decisions of least load, where the approximation
# starts and what is reported if P1 is infeasible. The conic certificate shares no solver with the exact optimum.

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from scipy.optimize import brentq

from baselines.objective import objective_form
from coinfer_gym.laim.costs import controls_at, settings_of, span_of
from coinfer_gym.laim.problem import Decision, Problem, Solution, check_cut, evaluate
from coinfer_gym.physics import rate_of_snr, snr_of_rate, upload_delay
from coinfer_gym.pricing import END

SLOWEST = 1e6
"""Larger multiples of the fastest full inference are cut to this as delay budgets: slower saves next to nothing."""

FAINT = 1e-2
"""SNR at full power below which the upload's energy is nearly the same at every power."""

_NAT = math.log(2.0)  # bandwidth in Hz at which the rate in bit/s is ``ln(1 + SNR)``


class Freedom(NamedTuple):
    """Which of the controls can be chosen; a control of a side without work cannot."""

    retained: bool
    clock: bool


class Structure(NamedTuple):
    """Key of a compiled problem; everything else is a parameter of it.

    Attributes
    ----------
    objective : str
        Form of the objective, see `baselines.objective.objective_form`.
    blocks : int
        Number of blocks that have parameters (0 where the objective does not look at blocks).
    holds : tuple of bool
        Whether device and server hold parameters.
    works : tuple of bool
        Whether device and server have FLOPs to run.
    free : tuple of Freedom
        For device and server, which controls have a range and not only a value.
    uploads : bool
        Whether anything is sent.
    power : bool
        Whether the transmit power can be chosen.
    faint : bool
        Whether the SNR stays below `FAINT`.
    """

    objective: str
    blocks: int
    holds: tuple[bool, bool]
    works: tuple[bool, bool]
    free: tuple[Freedom, Freedom]
    uploads: bool
    power: bool
    faint: bool


@dataclass(frozen=True)
class Side:
    """Device or server at a cut.

    Attributes
    ----------
    cycles : float
        Cycles ``a = L / c`` of the unpruned side; 0 where it has no work.
    parameters : float
        Parameters it holds.
    joules : float
        ``eta kappa`` in W/Hz^3.
    frequency_min, frequency_max : float
        Bounds of its clock in Hz.
    retained_min : float
        Smallest retained ratio.
    """

    cycles: float
    parameters: float
    joules: float
    frequency_min: float
    frequency_max: float
    retained_min: float

    @property
    def freedom(self) -> Freedom:
        """Which of the side's two controls can be chosen."""
        works = self.cycles > 0.0
        return Freedom(bool(works and self.retained_min < 1.0), bool(works and self.frequency_min < self.frequency_max))


@dataclass(frozen=True)
class Link:
    """The upload at a cut.

    Attributes
    ----------
    nats : float
        ``S ln 2 / B`` in s: delay is this over ``ln(1 + SNR)``; 0 where nothing is sent.
    snr_per_watt : float
        ``g / (N0 B)`` in 1/W.
    power_min, power_max : float
        Bounds of the transmit power in W.
    """

    nats: float
    snr_per_watt: float
    power_min: float
    power_max: float

    def delay(self, power: float) -> float:
        """Upload delay in s, infinite at power 0."""
        return upload_delay(self.nats, rate_of_snr(self.snr_per_watt * power, _NAT))

    def power(self, delay: float) -> float:
        """Power in W that uploads within `delay`, clipped into its bounds."""
        rate = min(self.nats / delay, 700.0)  # beyond it the exponential overflows
        return min(max(snr_of_rate(rate, _NAT) / self.snr_per_watt, self.power_min), self.power_max)


@dataclass(frozen=True)
class FixedCut:
    """P1 at one cut, in SI units, with budgets that are finite.

    Attributes
    ----------
    problem : Problem
    cut : int
    sides : tuple of Side
        Device and server.
    link : Link
    delay_budget, energy_budget : float
        `T0` and `E0`, cut down to the largest values that can matter (see `fix_cut`).
    """

    problem: Problem
    cut: int
    sides: tuple[Side, Side]
    link: Link
    delay_budget: float
    energy_budget: float

    @property
    def structure(self) -> Structure:
        """Key of the compiled problem that solves this one."""
        device, server = self.sides
        form = objective_form(self.problem)
        blocks = sum(block.prunable > 0 for block in self.problem.workload.blocks)
        return Structure(
            objective=form,
            blocks=blocks if form in ("parallel", "threshold") else 0,
            holds=(device.parameters > 0.0, server.parameters > 0.0),
            works=(device.cycles > 0.0, server.cycles > 0.0),
            free=(device.freedom, server.freedom),
            uploads=self.link.nats > 0.0,
            power=self.link.nats > 0.0 and self.link.power_min < self.link.power_max,
            faint=self.link.nats > 0.0 and self.link.snr_per_watt * self.link.power_max < FAINT,
        )

    def decide(self, retained: tuple[float, float], price: float) -> Decision:
        """Decision with the two ratios whose clocks and power minimise energy plus `price` times delay."""
        tables, gain = self.problem.tables, self.problem.gain
        controls = controls_at(price, tables.hardware, gain, span_of(tables.hardware, gain))
        return self._at(retained, *settings_of(tables.hardware[0], tables.cuts[self.cut], gain, controls))

    def fastest(self, retained: tuple[float, float]) -> Decision:
        """Decision with the two ratios that takes the least time: everything at its largest value."""
        device, server = self.sides
        return self._at(retained, self.link.power_max, device.frequency_max, server.frequency_max)

    def _at(self, retained: tuple[float, float], power: float, clock_device: float, clock_server: float) -> Decision:
        works = [side.cycles > 0.0 for side in self.sides]
        return Decision(
            self.cut,
            retained[0] if works[0] else 1.0,
            retained[1] if works[1] else 1.0,
            power if self.link.nats > 0.0 else 0.0,
            clock_device if works[0] else 0.0,
            clock_server if works[1] else 0.0,
        )

    def spend(self, decision: Decision) -> tuple[float, ...]:
        """Delays ``t_d, tau, t_s`` in s and energies ``e_d, e_tx, e_s`` in J of a decision (eqs. 2-9)."""
        tables = self.problem.tables
        parts: tuple[float, ...] = evaluate(
            tables.hardware,
            tables.cuts,
            self.cut,
            self.problem.gain,
            decision.retained_device,
            decision.retained_server,
            decision.power,
            decision.frequency_device,
            decision.frequency_server,
        )
        return parts


def fix_cut(problem: Problem, cut: int) -> FixedCut:
    """P1 at one cut.

    The energy budget is cut down to what the full model takes at full speed, which loses nothing. The delay budget
    is cut down to `SLOWEST` times the delay of that, which keeps an unlimited budget within the solvers' numbers.

    Raises
    ------
    InvalidInputError
        If the workload does not have the cut.
    """
    s = check_cut(cut, problem.workload)
    row = problem.tables.cuts[s]
    sides = tuple(
        Side(
            cycles=float(row[f"flops_{name}"]) / getattr(problem, f"flops_per_cycle_{name}"),
            parameters=float(row[f"prunable_{name}"]),
            joules=getattr(problem, f"pue_{name}") * getattr(problem, f"kappa_{name}"),
            frequency_min=getattr(problem, f"frequency_{name}_min"),
            frequency_max=getattr(problem, f"frequency_{name}_max"),
            retained_min=getattr(problem, f"retained_{name}_min"),
        )
        for name in ("device", "server")
    )
    link = Link(
        nats=float(row["upload_bits"]) * math.log(2.0) / problem.bandwidth,
        snr_per_watt=problem.gain / (problem.noise_density * problem.bandwidth),
        power_min=problem.power_min,
        power_max=problem.power_max,
    )
    fixed = FixedCut(problem, s, (sides[0], sides[1]), link, problem.delay_budget, problem.energy_budget)
    parts = fixed.spend(fixed.fastest((1.0, 1.0)))
    return replace(
        fixed,
        delay_budget=min(problem.delay_budget, SLOWEST * sum(parts[:3])),
        energy_budget=min(problem.energy_budget, sum(parts[3:])),
    )


def least_load(fixed: FixedCut) -> Decision:
    """Decision that comes closest to both budgets: it minimises ``max(T / T0, E / E0)``.

    It takes the least ratios. Its clocks and power are the best ones for some price of time, in W: as the price rises
    delay falls and energy rises, and the larger relative load is least where both are equal. P1 is feasible at this cut
    if and only if this decision is. If a budget is not positive, it is the fastest decision.
    """
    ratios = (fixed.sides[0].retained_min, fixed.sides[1].retained_min)
    if fixed.delay_budget <= 0.0 or fixed.energy_budget <= 0.0:
        return fixed.fastest(ratios)

    def imbalance(log_price: float) -> float:
        parts = fixed.spend(fixed.decide(ratios, math.exp(log_price)))
        return math.log(sum(parts[:3]) / fixed.delay_budget) - math.log(sum(parts[3:]) / fixed.energy_budget)

    if imbalance(END) >= 0.0:
        return fixed.decide(ratios, math.exp(END))
    if imbalance(-END) <= 0.0:
        return fixed.decide(ratios, math.exp(-END))
    root: float = brentq(imbalance, -END, END, xtol=1e-12, rtol=1e-14)
    return fixed.decide(ratios, math.exp(root))


def repair(fixed: FixedCut, decision: Decision, *, stretch: bool = True) -> Solution:
    """The decision with its ratios scaled so that the tighter budget is met exactly, within the ratios' bounds.

    At given clocks and power, delay and energy are linear in the ratios, so one factor corrects a solver's slack or
    excess; without `stretch` only the excess. A ratio that reaches its lower bound stays there, and the other one is
    scaled alone.
    """
    ratios = [decision.retained_device, decision.retained_server]
    movable = [index for index, side in enumerate(fixed.sides) if side.freedom.retained]
    while movable:
        parts = fixed.spend(replace(decision, retained_device=ratios[0], retained_server=ratios[1]))
        factor = _scale_to_budgets(fixed, parts, movable)
        if not stretch:
            factor = min(factor, 1.0)
        for index in movable:
            ratios[index] = min(max(factor * ratios[index], fixed.sides[index].retained_min), 1.0)
        stuck = [index for index in movable if ratios[index] == fixed.sides[index].retained_min]
        if factor >= 1.0 or not stuck:
            break
        movable = [index for index in movable if index not in stuck]
    return fixed.problem.evaluate(replace(decision, retained_device=ratios[0], retained_server=ratios[1]))


def _scale_to_budgets(fixed: FixedCut, parts: tuple[float, ...], movable: Iterable[int]) -> float:
    """Factor on the movable sides' ratios at which the tighter budget is met exactly."""
    factor = math.inf
    for budget, shares in ((fixed.delay_budget, parts[:3]), (fixed.energy_budget, parts[3:])):
        moved = sum(shares[2 * index] for index in movable)
        if moved > 0.0:
            factor = min(factor, max((budget - (sum(shares) - moved)) / moved, 0.0))
    return factor


def closest(fixed: FixedCut, reason: str) -> Solution:
    """Solution of least load, with the reason why no decision meets the budgets."""
    solution = fixed.problem.evaluate(least_load(fixed))
    return solution if solution.feasible else replace(solution, reason=reason)


def load(problem: Problem, solution: Solution) -> float:
    """Largest used share of the two budgets; infinite if a budget is not positive."""
    if problem.delay_budget <= 0.0 or problem.energy_budget <= 0.0:
        return math.inf
    return max(solution.delay / problem.delay_budget, solution.energy / problem.energy_budget)


def best(problem: Problem, solutions: Iterable[Solution]) -> Solution:
    """The feasible solution of highest quality, or the one of least load if none is feasible."""
    candidates = list(solutions)
    feasible = [solution for solution in candidates if solution.feasible]
    if feasible:
        return max(feasible, key=lambda solution: solution.quality)
    return min(candidates, key=lambda solution: load(problem, solution))
