"""What the budget that a figure holds fixed decides: who fails first, and how far the joint design leads (L6-L9).

The paper's Fig. 4 runs along the delay under one energy budget, its Fig. 5 along the energy under one delay budget; the
values are missing from its text. Here the other budget runs too, at the paper's cut.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from baselines.schemes import SCHEMES
from coinfer_gym import Problem, solve_exact_batch
from studies import drawing
from studies.drawing import legend_below, log_ticks, mark_scenario, panels
from studies.figure import Floats, Pictures, Study
from studies.lyu import problems
from studies.lyu.problems import FIXED_CUTS, NETWORKS, base_problem
from studies.lyu.schemes import BUDGETS, LOOKS, RIVALS, Budget, find_onset

QUALITY = "magnitude_pruning"
SPAN = (0.2, 30.0)
"""Ends of the other budget, relative to the scenario's."""

APART = 0.01
"""Least budgets nearer to each other than that, relative to the smaller, count as a tie."""

_TICKS = {"delay": (0.2, 0.5, 1, 2, 5, 10, 20), "energy": (0.01, 0.03, 0.1, 0.3, 1)}


class Part(NamedTuple):
    """The whole of one side, unpruned."""

    seconds: float  # at its highest clock
    joules: float  # at its lowest clock
    # energy times time squared, in J s^2, at every clock: ``eta kappa a^3`` with ``a`` cycles
    product: float


class Panel(NamedTuple):
    """One network along one budget, for values of the other."""

    other: Floats  # shape (points,): the other budget; the scenario's is among the values
    onset: dict[str, Floats]  # by scheme, shape (points,): least budget at which it is feasible; infinite if none is
    alone: dict[str, float]  # by scheme: the same without limit on the other budget
    lead: dict[str, Floats]  # by rival, shape (points,): by how much the joint design's quality is ahead at most
    sides: dict[str, Part]  # ``device`` and ``server``


Key = tuple[str, str]
"""Network, and the budget along which the paper's figure runs."""


def compute(points: int = 41, along: int = 240) -> dict[Key, Panel]:
    """Solve the schemes at `points` values of the other budget, and at `along` of the figure's own for the lead."""
    pairs = [(network, budget) for network in NETWORKS for budget in BUDGETS]
    return {(network, budget.name): _panel(network, budget, points, along) for network, budget in pairs}


def _panel(network: str, budget: Budget, points: int, along: int) -> Panel:
    problem, cut = base_problem(network, QUALITY), FIXED_CUTS[network]
    scenario = getattr(problem, budget.other_field)
    other = np.unique(np.append(scenario * np.geomspace(*SPAN, points), scenario))
    own = getattr(problem, budget.field) * np.geomspace(*budget.span, along)
    schemes = {name: SCHEMES[name].restrict(problem) for name in ("joint", *RIVALS)}
    onset, quality = {}, {}
    for name, posed in schemes.items():
        onset[name] = np.array([find_onset(budget, posed, cut, float(value)) for value in other])
        varied: dict[str, Any] = {budget.field: own, budget.other_field: other[:, None]}
        rows = solve_exact_batch(posed, **varied, cut=cut)
        quality[name] = np.where(rows["reason"] == 0, rows["quality"], np.nan)
    lead = {name: np.nan_to_num(quality["joint"] - quality[name]).max(axis=1) for name in RIVALS}
    alone = {name: find_onset(budget, posed, cut, math.inf) for name, posed in schemes.items()}
    return Panel(other, onset, alone, lead, {side: _part(problem, side, cut) for side in ("device", "server")})


def _part(problem: Problem, side: str, cut: int) -> Part:
    cycles = getattr(problem.workload, f"flops_{side}")[cut] / getattr(problem, f"flops_per_cycle_{side}")
    power = getattr(problem, f"pue_{side}") * getattr(problem, f"kappa_{side}")
    lowest, highest = (getattr(problem, f"frequency_{side}_{end}") for end in ("min", "max"))
    return Part(cycles / highest, power * cycles * lowest**2, power * cycles**3)


def first_to_fail(panel: Panel, budget: Budget) -> Floats:
    """Least budget of the scheme that the paper finds infeasible, over that of the other one-sided scheme."""
    return panel.onset[budget.excluded] / panel.onset[budget.rest]


def verdict(found: Mapping[Key, Panel]) -> dict[str, Any]:
    """Whether the scheme that the paper names fails first, and why."""
    holds, told, measured = {}, [], {}
    for (network, name), panel in found.items():
        budget, rest = (next(each for each in BUDGETS if (each.name == name) == own) for own in (True, False))
        first, second = SCHEMES[budget.excluded].title, SCHEMES[budget.rest].title
        scenario = getattr(base_problem(network, QUALITY), budget.other_field)
        here = int(np.searchsorted(panel.other, scenario))
        ratios = {
            f"the {rest.name} without limit": panel.alone[budget.excluded] / panel.alone[budget.rest],
            f"the scenario's {rest.name} budget": float(first_to_fail(panel, budget)[here]),
        }
        for case, ratio in ratios.items():
            holds[f"{budget.tight}: {network}, {case}: {first} fails before {second}"] = ratio > 1.0 + APART
        texts = ", ".join(f"{ratio:.3f} with {case}" for case, ratio in ratios.items())
        device, server = panel.sides["device"], panel.sides["server"]
        told.append(
            f"{network}, cut {FIXED_CUTS[network]}: the least {name} budget of {first} relative to that of {second} is "
            f"{texts}. Unpruned, the device's part takes {device.seconds:.3f} s and {device.joules:.4f} J or more, the "
            f"server's {server.seconds:.3f} s and {server.joules:.4f} J. Between these limits of the clocks, energy "
            f"times time squared decides: {device.product:.4f} and {server.product:.4f} J s^2."
        )
        lead = panel.lead["fixed_power"]
        told.append(
            f"{network}, cut {FIXED_CUTS[network]}, along the {name}: the joint design leads fixed power by up to "
            f"{lead[here]:.4f} with the scenario's {scenario:.3g} {rest.unit}, and by up to "
            f"{lead.max():.4f} at {panel.other[lead.argmax()]:.3g} {rest.unit}."
        )
        measured[f"{network} / {name}"] = {
            "alone": panel.alone,
            "ratios": ratios,
            "sides": {side: part._asdict() for side, part in panel.sides.items()},
        }
    settings = {"scenario": problems.SCENARIO, "networks": NETWORKS, "fixed_cuts": FIXED_CUTS, "quality": QUALITY}
    return {"holds": holds, "found": told, "measured": measured, "limits": {"apart": APART}, "settings": settings}


def table(found: Mapping[Key, Panel]) -> list[dict[str, Any]]:
    """A row per panel and value of the other budget."""
    return [
        {"network": network, "along": name, "other_budget": float(value)}
        | {f"least_{scheme}": float(values[k]) for scheme, values in panel.onset.items()}
        | {f"lead_over_{rival}": float(values[k]) for rival, values in panel.lead.items()}
        for (network, name), panel in found.items()
        for k, value in enumerate(panel.other)
    ]


def draw(found: Mapping[Key, Panel]) -> Pictures:
    """A column per network and budget: least budgets above, leads below."""
    title = "Where schemes begin to be feasible and how far the joint design leads, against the other budget"
    figure, axes = panels(title, (1.0 + 3.5 * len(found), 6.6), 2, len(found), {"hspace": 0.03}, sharex="col")
    for ((network, name), panel), (above, below) in zip(found.items(), axes.T, strict=True):
        budget = next(each for each in BUDGETS if each.name == name)
        for scheme, values in panel.onset.items():
            look = LOOKS[scheme] | {"marker": "", "linewidth": 2.4 if scheme == "joint" else 1.5}
            above.plot(panel.other, np.where(np.isfinite(values), values, np.nan), **look)
            if scheme in RIVALS:
                below.plot(panel.other, panel.lead[scheme], **look)
        above.set_yscale("log")
        above.set_ylabel(f"least {name} budget ({budget.unit})", fontsize=8.5)
        rest = next(each for each in BUDGETS if each is not budget)
        for axis in (above, below):
            mark_scenario(axis, getattr(base_problem(network, QUALITY), budget.other_field))
            log_ticks(axis, _TICKS[rest.name])
            axis.set_xlim(panel.other[0], panel.other[-1])
        below.set_xlabel(f"{rest.name} budget ({rest.unit})", fontsize=9)
        below.set_ylim(bottom=0.0)
    axes[1, 0].set_ylabel("largest lead of the joint\ndesign in quality (1)", fontsize=8.5)
    for (network, name), axis in zip(found, axes[0], strict=True):
        axis.set_title(f"{network}, cut {FIXED_CUTS[network]}, along the {name}", fontsize=9.5)
    looks = {SCHEMES[name].title: LOOKS[name] | {"marker": ""} for name in ("joint", *RIVALS)}
    legend_below(figure, {**looks, **drawing.SCENARIO}, 6)
    return {"": figure}


STUDIES = (Study("other_budget", compute, table, verdict, draw),)
