"""Joint design and restricted designs against the delay budget and the energy budget (Lyu et al., Figs. 4, 5; L6-L9).

Every point is solved twice: with the cut fixed where the paper has it, and with the cut free. The paper's
statements on infeasibility (L7, L9) are about a fixed cut: with a free cut, one-sided pruning can escape to a cut at
which the other side has nothing to do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from baselines.output import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from baselines.schemes import SCHEMES
from coinfer_gym import Problem, solve_exact_batch
from coinfer_gym.laim.distortion import BOUNDS
from studies import drawing
from studies.drawing import label_columns, legend_below, log_ticks, mark_scenario, panels
from studies.figure import Floats, Ints, Pictures, Study
from studies.lyu import problems
from studies.lyu.problems import FIXED_CUTS, NETWORKS, QUALITY_TITLES, TOLERANCE, base_problem

POINTS = 20
CHECKED = slice(1, None, 4)
"""Of the budgets, those at which the SCA runs, too."""

SPLITS = ("fixed", "free")
RIVALS = ("fixed_power", "fixed_frequency", "device_pruning", "server_pruning")
"""The paper's benchmarks: P1 of the same cut with some controls tied, so that none can beat the joint design."""

LOOKS: dict[str, dict[str, Any]] = {
    "joint": {"color": BLACK, "linestyle": "-", "marker": "o"},
    "fixed_power": {"color": BLUE, "linestyle": (0, (5, 2)), "marker": "s"},
    "fixed_frequency": {"color": ORANGE, "linestyle": (0, (5, 1.5, 1, 1.5)), "marker": "D"},
    "device_pruning": {"color": VERMILION, "linestyle": (0, (1.2, 1.2)), "marker": "^"},
    "server_pruning": {"color": GREEN, "linestyle": (0, (8, 2.5)), "marker": "v"},
    "on_device": {"color": PURPLE, "linestyle": "-", "marker": "P"},
    "on_server": {"color": SKY, "linestyle": "-", "marker": "X"},
}
_WIDTHS = {"joint": 2.4, "on_device": 1.1, "on_server": 1.1}
_LOWEST = {True: 1e-10, False: 1e-4}  # end of the distortion's axis, for bounds and for what real pruning reaches
_BELOW = 1e-15  # a distortion of 0 on a logarithmic axis


class Budget(NamedTuple):
    """The budget along which a figure runs, and the claims about it."""

    name: str  # delay or energy
    field: str  # its name in `Problem`
    other_field: str  # that of the other budget
    unit: str
    figure: int  # in the paper
    span: tuple[float, float]  # first and last value, relative to the scenario's budget
    ticks: tuple[float, ...]  # in the unit
    # the claims: that quality rises with the budget, and that a small budget rules a scheme out
    rise: str
    tight: str
    excluded: str  # that scheme
    rest: str  # the other one-sided scheme
    cause: str  # why, as the paper has it


DELAY = Budget(
    *("delay", "delay_budget", "energy_budget", "s", 4, (0.05, 2.5), (0.05, 0.1, 0.2, 0.5, 1.0, 2.0), "L6", "L7"),
    *("server_pruning", "device_pruning", "the full device part is too slow, whatever the energy"),
)
ENERGY = Budget(
    *("energy", "energy_budget", "delay_budget", "J", 5, (0.03, 10.0)),
    *((0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5), "L8", "L9"),
    *("device_pruning", "server_pruning", "the full server part costs too much, however long it may take"),
)
BUDGETS = (DELAY, ENERGY)


class Curve(NamedTuple):
    """One scheme along a budget; NaN, and cut -1, if it is infeasible."""

    budget: Floats  # shape (points,)
    # shape (points,): the exact optimum; the distortion is relative to keeping nothing
    quality: Floats
    distortion: Floats
    cut: Ints
    # at the budgets of `CHECKED`: what successive convex approximation finds
    sca_quality: Floats
    sca_distortion: Floats
    sca_cut: Ints
    onset: float  # the least budget at which the scheme is feasible; infinite if none is
    # budgets at which any scheme of the same panel begins to be feasible, and the exact optimum there
    corner: Floats
    corner_quality: Floats
    corner_distortion: Floats


Key = tuple[str, str, str, str]
"""Network, quality, split and scheme of a curve."""

Onsets = dict[str, dict[str, dict[str, Any]]]
"""By network and scheme: least budgets at which a scheme is feasible."""


class Designs(NamedTuple):
    """Curves along a budget, and the least budgets from `find_onsets`."""

    budget: Budget
    curves: dict[Key, Curve]
    onsets: Onsets


def compute(
    budget: Budget, names: Sequence[str] = tuple(QUALITY_TITLES), points: int = POINTS, jobs: int = 1
) -> Designs:
    """Solve every scheme at `points` budgets, even on a logarithmic scale."""
    curves: dict[Key, Curve] = {}
    for network, quality in ((network, quality) for network in NETWORKS for quality in names):
        problem = base_problem(network, quality)
        values = getattr(problem, budget.field) * np.geomspace(*budget.span, points)
        sca = _sca_by_cut(
            budget, problem, values[CHECKED], jobs, f"{budget.name}, {network}, {QUALITY_TITLES[quality]}"
        )
        for split in SPLITS:
            cuts = {name: scheme.cut(problem) for name, scheme in SCHEMES.items()}
            if split == "fixed":
                cuts = {name: FIXED_CUTS[network] if cut is None else cut for name, cut in cuts.items()}
            onset = {name: find_onset(budget, SCHEMES[name].restrict(problem), cut) for name, cut in cuts.items()}
            corner = np.unique([value for value in onset.values() if values[0] < value < values[-1]]) * (1.0 + 1e-6)
            for name, cut in cuts.items():
                restrict = SCHEMES[name].restrict
                exact = _exact(budget, restrict(problem), values, cut)
                begin = _exact(budget, restrict(problem), corner, cut)[:2]
                found = _pick(*sca[restrict], cut)
                curves[network, quality, split, name] = Curve(values, *exact, *found, onset[name], corner, *begin)
    return Designs(budget, curves, find_onsets(budget))


def _exact(budget: Budget, problem: Problem, values: Floats, cut: int | None) -> tuple[Floats, Floats, Ints]:
    """Quality, relative distortion and cut of the exact optimum along the budget."""
    varied: dict[str, Any] = {budget.field: values}
    rows = solve_exact_batch(problem, **varied, cut=cut)
    return *problems.feasible_values(problem, rows), np.where(rows["reason"] == 0, rows["cut"], -1)


def find_onset(budget: Budget, problem: Problem, cut: int | None = None, other: float | None = None) -> float:
    """Least budget at which a problem is feasible, infinite if none is; `other` replaces the problem's other budget."""
    nothing: dict[str, Any] = {budget.field: 0.0} | ({} if other is None else {budget.other_field: other})
    return float(solve_exact_batch(problem, **nothing, cut=cut)[f"{budget.name}_needed"])


def _sca_by_cut(
    budget: Budget, problem: Problem, values: Floats, jobs: int, title: str
) -> dict[Any, tuple[Floats, Floats]]:
    """Quality and relative distortion of shape ``(points, cuts)``, by how a scheme restricts the problem."""
    restrictions = list(dict.fromkeys(scheme.restrict for scheme in SCHEMES.values()))
    changed: list[dict[str, Any]] = [{budget.field: float(value)} for value in values]
    cuts = range(problem.workload.cuts)
    posed = [replace(restrict(problem), **change) for restrict in restrictions for change in changed]
    found = problems.run_sca([(each, cut) for each in posed for cut in cuts], jobs, title)
    quality, distortion = (part.reshape(len(restrictions), len(values), -1) for part in found)
    return {restrict: (quality[k], distortion[k]) for k, restrict in enumerate(restrictions)}


def _pick(quality: Floats, distortion: Floats, cut: int | None) -> tuple[Floats, Floats, Ints]:
    """Best of the cuts, or one of them, from values of shape ``(points, cuts)``."""
    points = np.arange(len(quality))
    chosen = np.where(np.isnan(quality), -1.0, quality).argmax(axis=1) if cut is None else np.full(len(quality), cut)
    best = quality[points, chosen]
    return best, distortion[points, chosen], np.where(np.isnan(best), -1, chosen)


def find_onsets(budget: Budget) -> Onsets:
    """Least budgets at which the joint design and its restrictions are feasible, by network and scheme.

    They do not depend on the quality: at the onset every ratio stands at its least. ``fixed`` and ``free`` are about
    the cut, ``alone`` is at the fixed cut without limit on the other budget, and ``by_cut`` lists all cuts.
    """
    onsets: Onsets = {}
    for network, fixed in FIXED_CUTS.items():
        problem = base_problem(network, "rate_distortion")
        onsets[network] = {}
        for name in ("joint", *RIVALS):
            find = partial(find_onset, budget, SCHEMES[name].restrict(problem))
            by_cut = [find(cut) for cut in range(problem.workload.cuts)]
            alone = find(fixed, math.inf)
            onsets[network][name] = {"fixed": by_cut[fixed], "alone": alone, "free": find(), "by_cut": by_cut}
    return onsets


def verdict(designs: Designs) -> dict[str, Any]:
    """What the curves say about the claims."""
    budget, curves, onsets = designs
    falls = {key: _largest_fall(curve) for key, curve in curves.items()}
    compared = {key[:3]: _compare(curves, key[:3]) for key in curves}
    holds = {
        f"{budget.rise}: quality never falls as the {budget.name} budget grows": all(
            fall <= TOLERANCE for fall in falls.values()
        )
    }
    found = [f"{' / '.join(key)}: quality falls by {fall:.3g}" for key, fall in falls.items() if fall > TOLERANCE]
    for split in SPLITS:
        claim = f"{budget.rise}: the joint design is at least as good as each restriction, cut {split}"
        below = {key: part for key, part in compared.items() if key[2] == split and part["least_lead"] < -TOLERANCE}
        holds[claim] = not below
        found += [f"{' / '.join(key)}: the joint design lacks {-part['least_lead']:.3g}" for key, part in below.items()]
    holds |= judge_onsets(budget, onsets)
    found += [_describe_onsets(budget, network, of) for network, of in onsets.items()] + _describe_ends(curves)
    panels = {" / ".join(key): part for key, part in compared.items()}
    return {
        "holds": holds,
        "found": found,
        "measured": {"largest_fall": max(falls.values()), "onsets": onsets, "panels": panels},
        "limits": {"quality": TOLERANCE},
        "settings": {
            "scenario": problems.SCENARIO,
            "networks": NETWORKS,
            "gain": problems.GAIN,
            "points": len(next(iter(curves.values())).budget),
            "relative_budgets": budget.span,
            "fixed_cuts": FIXED_CUTS,
        },
    }


def judge_onsets(budget: Budget, onsets: Onsets) -> dict[str, bool]:
    """Whether a tight budget rules a scheme out, and for the paper's reason."""
    pairs = [(of["joint"]["fixed"], of[budget.excluded]) for of in onsets.values()]
    title = SCHEMES[budget.excluded].title
    return {
        f"{budget.tight}: at a tight {budget.name} budget {title} is infeasible, cut fixed": all(
            joint < other["fixed"] for joint, other in pairs
        ),
        f"{budget.tight}: there, {budget.cause}": all(joint < other["alone"] for joint, other in pairs),
    }


def _largest_fall(curve: Curve) -> float:
    """By how much quality falls at most from one budget to the next larger one; infeasible counts as -1."""
    return float((-np.diff(np.nan_to_num(curve.quality, nan=-1.0))).max(initial=0.0))


def _compare(curves: Mapping[Key, Curve], panel: tuple[str, str, str]) -> dict[str, Any]:
    """Joint design against its rivals in one panel, and both solvers against each other."""
    joint = curves[*panel, "joint"].quality
    of_rivals = {name: curves[*panel, name].quality for name in RIVALS}
    quality = np.stack([np.nan_to_num(value, nan=-np.inf) for value in of_rivals.values()])
    best, pruned = quality.max(axis=0), joint < 1.0 - TOLERANCE
    lead = np.nan_to_num(joint, nan=-1.0) - np.nan_to_num(quality, neginf=-1.0)
    every = [curves[*panel, name] for name in SCHEMES]
    exact = np.concatenate([curve.quality[CHECKED] for curve in every])
    sca = np.concatenate([curve.sca_quality for curve in every])
    return {
        "least_lead": float(lead.min()),
        "gain_over_best_rival": _gain(joint, best, pruned),
        "gain_over": {name: _gain(joint, value, pruned) for name, value in of_rivals.items()},
        "points_where_joint_alone_is_feasible": int((~np.isnan(joint) & np.isinf(best)).sum()),
        "sca": problems.sca_difference(exact, sca),
    }


def _gain(joint: Floats, rival: Floats, counted: Any) -> dict[str, Any]:
    """Gain over a rival where the joint design is pruned and the rival feasible; how often it is not."""
    gain = (joint - rival)[counted & np.isfinite(rival)]
    return {
        "max": float(gain.max(initial=0.0)),
        "mean": float(gain.mean()) if gain.size else None,
        "points": int(gain.size),
        "rival_infeasible": int((counted & ~np.isfinite(rival)).sum()),
    }


def _describe_onsets(budget: Budget, network: str, onsets: Mapping[str, Mapping[str, Any]]) -> str:
    """When each design becomes feasible, in words."""

    def amount(value: float) -> str:
        return "infeasible" if math.isinf(value) else f"{value:.3g} {budget.unit}"

    this, other = SCHEMES[budget.excluded].title, SCHEMES[budget.rest].title
    of = onsets[budget.excluded]
    escapes = of["free"] <= onsets["joint"]["free"] * (1.0 + TOLERANCE)
    free = "wherever the joint design is" if escapes else f"from {amount(of['free'])}"
    lists = {
        split: ", ".join(f"{SCHEMES[name].title} {amount(values[split])}" for name, values in onsets.items())
        for split in SPLITS
    }
    return (
        f"{network}, least {budget.name} budgets at cut {FIXED_CUTS[network]}: {lists['fixed']}. With the other budget "
        f"without limit, {this} would need {amount(of['alone'])}, {other} "
        f"{amount(onsets[budget.rest]['alone'])}. With the cut free: {lists['free']}; {this} is then feasible {free}."
    )


def _describe_ends(curves: Mapping[Key, Curve]) -> list[str]:
    """Where inference on one end alone beats the joint design at the fixed cut: it is no restriction of that cut."""
    found = []
    for (network, quality, split, name), curve in curves.items():
        if split == "fixed" and SCHEMES[name].end:
            own, joint = (
                np.nan_to_num(part.quality, nan=-1.0) for part in (curve, curves[network, quality, split, "joint"])
            )
            ahead = np.maximum(own, 0.0) - np.maximum(joint, 0.0)
            better = own - joint > TOLERANCE
            if better.any():
                found.append(
                    f"{network}, {QUALITY_TITLES[quality]}: inference {SCHEMES[name].title} beats the joint design of "
                    f"cut {FIXED_CUTS[network]} at {int(better.sum())} of {better.size} budgets, from "
                    f"{curve.budget[better][0]:.3g} to {curve.budget[better][-1]:.3g}, by up to {ahead.max():.3f}."
                )
    return found


def table(designs: Designs) -> list[dict[str, Any]]:
    """All points of the grid; where curves begin is in the verdict."""
    columns = ("cut", "quality", "distortion")
    rows = []
    for key, curve in designs.curves.items():
        checked = dict(zip(range(len(curve.budget))[CHECKED], range(len(curve.sca_cut)), strict=True))
        for k, budget in enumerate(curve.budget):
            row = dict(zip(("network", "quality_name", "split", "scheme"), key, strict=True)) | {"budget": budget}
            row |= {name: getattr(curve, name)[k] for name in columns}
            row |= {
                f"sca_{name}": getattr(curve, f"sca_{name}")[checked[k]] if k in checked else "" for name in columns
            }
            rows.append(
                {
                    name.replace("dist", "relative_dist"): "" if name.endswith("cut") and value == -1 else value
                    for name, value in row.items()
                }
            )
    return rows


def draw(designs: Designs) -> Pictures:
    """Quality, and distortion relative to keeping nothing."""
    return {"": _figure(designs, "quality"), "_distortion": _figure(designs, "distortion")}


def _figure(designs: Designs, field: str) -> Any:
    """A row of panels per network and split, a column per quality; qualities that coincide share one."""
    budget, curves, _ = designs
    groups = problems.group_coinciding(curves, list(dict.fromkeys(key[1] for key in curves)), 1, field)
    rows = [(network, split) for network in NETWORKS for split in SPLITS]
    what = "" if field == "quality" else ", distortion relative to keeping nothing"
    title = f"Designs against the {budget.name} budget{what} (after Lyu et al., Fig. {budget.figure})"
    size = (1.0 + 3.5 * len(groups), 1.4 + 2.3 * len(rows))
    figure, axes = panels(title, size, len(rows), len(groups), {"hspace": 0.03}, sharex="row")
    for (network, split), of_row in zip(rows, axes, strict=True):
        for axis, name in zip(of_row, groups, strict=True):
            _panel(budget, axis, {scheme: curves[network, name, split, scheme] for scheme in SCHEMES}, field)
            mark_scenario(axis, getattr(base_problem(network, name), budget.field))
            if field == "distortion":
                axis.set_yscale("log")
            axis.set_ylim((_LOWEST[name in BOUNDS], 2.0) if field == "distortion" else (0.0, 1.04))
        where = f"{network}, cut {FIXED_CUTS[network] if split == 'fixed' else 'free'}"
        unit = "quality (1)" if field == "quality" else "relative distortion (1)"
        of_row[0].set_ylabel(f"{where}\n{unit}", fontsize=8.5)
    label_columns(axes, groups.values(), f"{budget.name} budget ({budget.unit})")
    hollow = {"marker": "o", "linestyle": "", "markerfacecolor": "white", "color": BLACK, "markersize": 4}
    stem = {"marker": ".", "color": BLACK, "linewidth": 0.8}
    looks = {scheme.title: _line(name) for name, scheme in SCHEMES.items()}
    looks |= {"open markers: SCA": hollow, "stem: begins to be feasible": stem, **drawing.SCENARIO}
    legend_below(figure, looks, 4)
    return figure


def _line(name: str) -> dict[str, Any]:
    """Look of a scheme's line, without its marker."""
    return LOOKS[name] | {"linewidth": _WIDTHS.get(name, 1.5), "marker": ""}


def _panel(budget: Budget, axis: Any, curves: Mapping[str, Curve], field: str) -> None:
    """Lines of the exact optimum, a stem where each begins to be feasible, and markers of the SCA."""
    for name, curve in curves.items():
        line, order = _line(name), 2 if name == "joint" else 3
        colour = line["color"]
        if curve.onset > curve.budget[-1]:
            continue
        x = np.append(curve.budget, curve.corner)
        y = np.maximum(np.append(getattr(curve, field), getattr(curve, f"corner_{field}")), _BELOW)[np.argsort(x)]
        x = np.sort(x)
        if curve.onset > x[0]:
            first = int((~np.isnan(y)).argmax())
            axis.plot([x[first]] * 2, [_BELOW, y[first]], color=colour, linewidth=0.8)
            axis.plot(x[first], y[first], color=colour, marker=".", markersize=5, zorder=order)
        axis.plot(x, y, zorder=order, **line)
        found = np.maximum(getattr(curve, f"sca_{field}"), _BELOW)
        look = {"markerfacecolor": "white", "markeredgewidth": 0.9, "markersize": 3.8, "marker": LOOKS[name]["marker"]}
        axis.plot(curve.budget[CHECKED], found, color=colour, linestyle="", zorder=4, **look)
    note_infeasible(
        axis, [name for name, curve in curves.items() if curve.onset > curve.budget[-1]], field == "quality"
    )
    log_ticks(axis, budget.ticks)
    axis.set_xlim(curve.budget[0], curve.budget[-1])


def note_infeasible(axis: Any, names: Sequence[str], left: bool = True) -> None:
    """Name the schemes that are feasible nowhere in a panel, in an upper corner."""
    if names:
        text = f"infeasible: {', '.join(SCHEMES[name].title for name in names)}"
        place, side = (0.02, "left") if left else (0.98, "right")
        axis.text(place, 0.97, text, transform=axis.transAxes, ha=side, va="top", fontsize=7.5)


STUDIES = tuple(Study(f"schemes_{budget.name}", partial(compute, budget), table, verdict, draw) for budget in BUDGETS)
