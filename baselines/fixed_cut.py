"""P1 (Lyu et al., eq. 44) at one cut, as the convex solvers see it: its controls, and the repair of rounding."""

# The physics are restated here on purpose, so that the solvers check those of coinfer_gym. Prices of time come from
# there: they only choose decisions of least load, where the approximation starts and what is reported if P1 is
# infeasible. The conic certificate shares no solver with the exact optimum.

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from scipy.optimize import brentq

from baselines.objective import objective_form
from coinfer_gym.laim.costs import case_of, controls_at, settings_of
from coinfer_gym.laim.decision import CONTROLS, Decision, Solution, check_cut
from coinfer_gym.laim.outcome import Choice, spend
from coinfer_gym.laim.problem import Problem
from coinfer_gym.pricing import END

SLOWEST = 1e6
"""Larger multiples of the fastest full inference are cut to this as delay budgets: slower saves next to nothing."""

FAINT = 1e-2
"""SNR at full power below which the upload's energy is nearly the same at every power."""


class Freedom(NamedTuple):
    """Whether the two controls of a side can be chosen and matter."""

    retained: bool
    clock: bool


class Structure(NamedTuple):
    """Key of a compiled problem; everything else is a parameter of it."""

    objective: str  # form of the objective, see `baselines.objective.objective_form`
    blocks: int  # blocks that have prunable weights; 0 where the objective does not look at blocks
    holds: tuple[bool, bool]  # whether device and server hold prunable weights
    works: tuple[int, int]  # runs of device and server: 0 where they have no FLOPs, 2 where further passes follow
    free: tuple[Freedom, Freedom]  # of device and server
    power: bool  # whether the transmit power can be chosen
    faint: bool  # whether it can, and the SNR stays below `FAINT`


class Run(NamedTuple):
    """The first pass of a side, or all further ones: what keeps one clock."""

    cycles: float  # ``a = L / c`` of the unpruned side, positive
    fed: float  # clock that the memory keeps fed with weights
    slow: float  # slowest clock at which it can compute
    fast: float  # fastest one


@dataclass(frozen=True)
class Side:
    """Device or server at a cut, in SI units. Its executed share is ``rest + gain rho`` at the ratio `rho`."""

    runs: tuple[Run, ...]  # none where it has no work
    prunable: float
    joules: float  # ``eta kappa`` in W/Hz^3
    watts: float  # drawn as long as it computes, whatever its clock
    gain: float  # executed share that a unit of ratio adds
    frequency_min: float
    frequency_max: float  # above it the memory does not deliver the weights in time
    retained_min: float
    retained_max: float  # what the memory holds, but not below the minimum

    @property
    def freedom(self) -> Freedom:
        """Which of the side's two controls can be chosen and matter."""
        works = bool(self.runs)
        retained = works and self.gain > 0.0 and self.retained_min < self.retained_max
        return Freedom(bool(retained), bool(works and self.frequency_min < self.frequency_max))

    def share(self, ratio: float) -> float:
        """Executed share at a ratio."""
        return 1.0 - self.gain + self.gain * ratio

    def delay(self, run: Run, ratio: float, clock: float) -> float:
        """Delay in s of a run."""
        return self.share(ratio) * run.cycles / min(clock, run.fed)

    def clock(self, ratio: float, delay: float) -> float:
        """Clock at which all runs together take a delay in s; where none is so fast, the fastest that makes sense."""
        runs = sorted((run.fed, self.share(ratio) * run.cycles) for run in self.runs)
        work = sum(own for _, own in runs)
        for fed, own in runs:
            if work <= fed * delay:
                return work / delay
            work, delay = work - own, delay - own / fed  # its memory slows it down
        return self.frequency_max

    def heat(self, run: Run, ratio: float, clock: float) -> float:
        """Energy in J of a run without what it draws as long as it computes."""
        return self.joules * self.share(ratio) * run.cycles * min(clock, run.fed) ** 2


@dataclass(frozen=True)
class Link:
    """The upload at a cut, in SI units."""

    nats: float  # ``S ln 2 / B`` in s: delay is this over ``ln(1 + SNR)``; 0 where nothing is sent
    snr_per_watt: float
    efficiency: float  # of the amplifier
    watts: float  # drawn as long as it sends, beside the amplifier
    shortest: float  # delay in s at the highest rate
    power_min: float
    power_max: float  # at the highest rate; more would only cost

    @property
    def free(self) -> bool:
        """Whether the power can be chosen."""
        return self.nats > 0.0 and self.power_min < self.power_max

    def delay(self, power: float) -> float:
        """Upload delay in s, infinite at power 0."""
        return max(self.nats / math.log1p(self.snr_per_watt * power), self.shortest) if power > 0.0 else math.inf

    def amplifier(self, power: float) -> float:
        """Energy in J that the amplifier draws."""
        return power / self.efficiency * self.delay(power)

    def power(self, delay: float) -> float:
        """Power in W that uploads within `delay`, clipped into its bounds."""
        exponent = min(self.nats / delay, 700.0)  # beyond it the exponential overflows
        return min(max(math.expm1(exponent) / self.snr_per_watt, self.power_min), self.power_max)


@dataclass(frozen=True)
class FixedCut:
    """P1 at one cut, in SI units, with budgets that are finite."""

    problem: Problem
    cut: int
    sides: tuple[Side, Side]  # device and server
    link: Link
    delay_budget: float  # `T0`, cut down to the largest value that can matter (see `fix_cut`)
    energy_budget: float  # `E0`, likewise
    delay_fixed: float  # what every decision takes: round trips, cached keys and values, an upload of fixed power
    energy_fixed: float

    @property
    def delay_room(self) -> float:
        """What the budget leaves to what can be chosen."""
        return self.delay_budget - self.delay_fixed

    @property
    def energy_room(self) -> float:
        """What the budget leaves to what can be chosen."""
        return self.energy_budget - self.energy_fixed

    @property
    def hopeless(self) -> bool:
        """Whether nothing can be feasible, for reasons that are no matter of optimisation."""
        row = self.problem.tables.cuts[self.cut]
        crowded = any(row[f"retained_{name}_max"] < 0.0 for name in ("device", "server"))
        return bool(crowded or self.delay_room <= 0.0 or self.energy_room <= 0.0)

    @property
    def structure(self) -> Structure:
        """Key of the compiled problem that solves this one."""
        device, server = self.sides
        form = objective_form(self.problem)
        blocks = sum(block.prunable > 0 for block in self.problem.workload.blocks)
        return Structure(
            objective=form,
            blocks=blocks if form in ("parallel", "threshold") else 0,
            holds=(device.prunable > 0.0, server.prunable > 0.0),
            works=(len(device.runs), len(server.runs)),
            free=(device.freedom, server.freedom),
            power=self.link.free,
            faint=self.link.free and self.link.snr_per_watt * self.link.power_max < FAINT,
        )

    def decide(self, retained: Sequence[float], power: float, clocks: Sequence[float]) -> Decision:
        """Decision with these controls, clipped into their bounds; what cannot be chosen is at its best."""
        ratios, used = [], []
        for ratio, clock, side in zip(retained, clocks, self.sides, strict=True):
            best_ratio = ratio if side.freedom.retained else side.retained_max
            ratios.append(min(max(best_ratio, side.retained_min), side.retained_max))
            used.append(min(max(clock, side.frequency_min), side.frequency_max) if side.runs else 0.0)
        sent = min(max(power, self.link.power_min), self.link.power_max) if self.link.nats > 0.0 else 0.0
        return Decision(self.cut, ratios[0], ratios[1], sent, used[0], used[1])

    def at_price(self, price: float) -> Decision:
        """Decision with the least ratios whose clocks and power minimise energy plus `price` times delay."""
        p = self.problem
        case = case_of(p.tables, p.gain, p.delay_budget, p.energy_budget)
        power, *clocks = settings_of(case, self.cut, controls_at(price, case))
        return self.decide([side.retained_min for side in self.sides], power, clocks)

    def fastest(self, retained: Sequence[float]) -> Decision:
        """Decision with the two ratios that takes the least time: everything at its largest value."""
        return self.decide(retained, self.link.power_max, [side.frequency_max for side in self.sides])

    def spend(self, decision: Decision) -> tuple[float, float]:
        """Delay in s and energy in J of a decision, by the formulas of the environment; ratios may be 0 here."""
        choice = Choice(self.cut, *(float(getattr(decision, name)) for name in CONTROLS))
        return spend(self.problem.tables, self.problem.gain, choice)


def fix_cut(problem: Problem, cut: int) -> FixedCut:
    """P1 at one cut.

    The energy budget is cut down to what the largest model takes at full speed, which loses nothing. The delay budget
    is cut down to `SLOWEST` times the delay of that, which keeps an unlimited budget within the solvers' numbers.

    Raises
    ------
    InvalidInputError
        If the workload does not have the cut.
    """
    s = check_cut(cut, problem.workload)
    row = problem.tables.cuts[s]
    device, server, link = _side(problem, row, "device"), _side(problem, row, "server"), _link(problem, row)
    delay_fixed = float(row["round_trip"])
    energy_fixed = problem.waiting_power_device * delay_fixed
    for name, side in (("device", device), ("server", server)):
        reading = float(row[f"unpruned_delay_{name}"])
        delay_fixed, energy_fixed = delay_fixed + reading, energy_fixed + side.watts * reading
    if link.nats > 0.0 and not link.free:
        sending = link.delay(link.power_min)
        delay_fixed += sending
        energy_fixed += link.amplifier(link.power_min) + link.watts * sending
    fixed = FixedCut(
        *(problem, s, (device, server), link),
        *(problem.delay_budget, problem.energy_budget, delay_fixed, energy_fixed),
    )
    delay, energy = fixed.spend(fixed.fastest((device.retained_max, server.retained_max)))
    return replace(
        fixed,
        delay_budget=min(problem.delay_budget, delay_fixed + SLOWEST * (delay - delay_fixed)),
        energy_budget=min(problem.energy_budget, energy),
    )


def _side(problem: Problem, row: Any, name: str) -> Side:
    low, high = getattr(problem, f"frequency_{name}_min"), getattr(problem, f"frequency_{name}_max")
    pue, least = getattr(problem, f"pue_{name}"), getattr(problem, f"retained_{name}_min")
    steps, runs = float(row[f"step_flops_{name}"]), []
    for prefix, flops in (("", float(row[f"flops_{name}"]) - steps), ("step_", steps)):
        fed = float(row[f"{prefix}frequency_{name}_fed"])
        if flops > 0.0:
            cycles = flops / getattr(problem, f"flops_per_cycle_{name}")
            runs.append(Run(cycles, fed, min(low, fed), min(high, fed)))
    return Side(
        runs=tuple(runs),
        prunable=float(row[f"prunable_{name}"]),
        joules=pue * getattr(problem, f"kappa_{name}"),
        watts=pue * getattr(problem, f"static_power_{name}")
        + (problem.waiting_power_device if name == "server" else 0.0),
        gain=problem.sparsity_gain,
        frequency_min=low,
        frequency_max=max([low, *(run.fast for run in runs)]),
        retained_min=least,
        retained_max=max(float(row[f"retained_{name}_max"]), least),
    )


def _link(problem: Problem, row: Any) -> Link:
    snr_per_watt = problem.gain / (problem.snr_gap * problem.noise_density * problem.bandwidth)
    most = min(problem.rate_max / problem.bandwidth * math.log(2.0), 700.0)
    return Link(
        nats=float(row["upload_bits"]) * math.log(2.0) / problem.bandwidth,
        snr_per_watt=snr_per_watt,
        efficiency=problem.amplifier_efficiency,
        watts=problem.circuit_power + problem.waiting_power_device,
        shortest=float(row["upload_bits"]) / problem.rate_max,
        power_min=problem.power_min,
        power_max=max(min(problem.power_max, math.expm1(most) / snr_per_watt), problem.power_min),
    )


def least_load(fixed: FixedCut) -> Decision:
    """Decision that comes closest to both budgets: it minimises ``max(T / T0, E / E0)``.

    It takes the least ratios. Its clocks and power are the best ones for some price of time, in W: as the price rises
    delay falls and energy rises, and the larger relative load is least where both are equal. P1 is feasible at this cut
    if and only if this decision is. If a budget is not positive, it is the fastest decision.
    """
    if fixed.delay_budget <= 0.0 or fixed.energy_budget <= 0.0:
        return fixed.fastest([side.retained_min for side in fixed.sides])

    def imbalance(log_price: float) -> float:
        delay, energy = fixed.spend(fixed.at_price(math.exp(log_price)))
        return math.log(delay / fixed.delay_budget) - math.log(energy / fixed.energy_budget)

    if imbalance(END) >= 0.0:
        return fixed.at_price(math.exp(END))
    if imbalance(-END) <= 0.0:
        return fixed.at_price(math.exp(-END))
    root: float = brentq(imbalance, -END, END, xtol=1e-12, rtol=1e-14)
    return fixed.at_price(math.exp(root))


def repair(fixed: FixedCut, decision: Decision, *, stretch: bool = True) -> Solution:
    """The decision with its ratios scaled so that the tighter budget is met exactly, within the ratios' bounds.

    At given clocks and power, delay and energy are affine in the ratios, so one factor corrects a solver's slack or
    excess; without `stretch` only the excess. A ratio that reaches its lower bound stays there, and the other one is
    scaled alone.
    """
    ratios = [decision.retained_device, decision.retained_server]
    movable = [index for index, side in enumerate(fixed.sides) if side.freedom.retained]
    while movable:
        factor = _scale_to_budgets(fixed, decision, ratios, movable)
        if not stretch:
            factor = min(factor, 1.0)
        for index in movable:
            side = fixed.sides[index]
            ratios[index] = min(max(factor * ratios[index], side.retained_min), side.retained_max)
        stuck = [index for index in movable if ratios[index] == fixed.sides[index].retained_min]
        if factor >= 1.0 or not stuck:
            break
        movable = [index for index in movable if index not in stuck]
    return fixed.problem.evaluate(replace(decision, retained_device=ratios[0], retained_server=ratios[1]))


def _scale_to_budgets(fixed: FixedCut, decision: Decision, ratios: Sequence[float], movable: Sequence[int]) -> float:
    """Factor on the movable sides' ratios at which the tighter budget is met exactly."""
    without = [0.0 if index in movable else ratio for index, ratio in enumerate(ratios)]
    now, rest = (
        fixed.spend(replace(decision, retained_device=device, retained_server=server))
        for device, server in (ratios, without)
    )
    budgets = (fixed.delay_budget, fixed.energy_budget)
    factors = [max((b - r) / (n - r), 0.0) for b, n, r in zip(budgets, now, rest, strict=True) if n > r]
    return min(factors, default=math.inf)


def closest(fixed: FixedCut, reason: str) -> Solution:
    """Solution of least load, with the reason why no decision meets the budgets."""
    solution = fixed.problem.evaluate(least_load(fixed))
    return solution if solution.feasible else replace(solution, reason=reason)


def load(problem: Problem, solution: Solution) -> float:
    """Largest used share of budgets and memories; infinite if a budget is not positive or a memory holds nothing."""
    row = problem.tables.cuts[solution.cut]
    used = [
        (solution.delay, problem.delay_budget),
        (solution.energy, problem.energy_budget),
        (solution.retained_device, row["retained_device_max"]),
        (solution.retained_server, row["retained_server_max"]),
    ]
    return max(float(spent / limit) if limit > 0.0 else math.inf for spent, limit in used)


def best(problem: Problem, solutions: Iterable[Solution]) -> Solution:
    """The feasible solution of highest quality, or the one of least load if none is feasible."""
    candidates = list(solutions)
    feasible = [solution for solution in candidates if solution.feasible]
    if feasible:
        return max(feasible, key=lambda solution: solution.quality)
    return min(candidates, key=lambda solution: load(problem, solution))
