"""Joint design and restricted designs against the delay budget and the energy budget (Lyu et al., Figs. 4, 5; L6-L9).

Every point is solved twice: with the cut fixed within the network, as in the paper, and with the cut free. The paper's
statements on infeasibility (L7, L9) are about a fixed cut: with a free cut, one-sided pruning can escape to a cut at
which the other side has nothing to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.output import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from baselines.schemes import SCHEMES, Scheme
from coinfer_gym import Problem, solve_exact_batch
from coinfer_gym.laim.distortion import BOUNDS
from studies.drawing import label_columns, legend_below, log_ticks, mark_scenario, panels
from studies.figure import Floats, Pictures, Study, number_text
from studies.lyu.problems import (
    NETWORKS,
    QUALITY_TITLES,
    TOLERANCE,
    base_problem,
    feasible_values,
    group_coinciding,
    group_title,
    run_sca,
    sca_difference,
)

POINTS = 20
FIXED_CUTS = {"BERT": 6, "BART": 3}
"""The middle block of what can be cut. The paper cuts after the 4-th layer; the onsets are given for every cut."""

SPLITS = ("fixed", "free")
RIVALS = ("fixed_power", "fixed_frequency", "device_pruning", "server_pruning")
"""The paper's benchmarks: P1 of the same cut with some controls tied, so that none can beat the joint design."""

_LOOKS: dict[str, dict[str, Any]] = {
    "joint": {"color": BLACK, "linestyle": "-", "linewidth": 2.4, "marker": "o"},
    "fixed_power": {"color": BLUE, "linestyle": (0, (5, 2)), "marker": "s"},
    "fixed_frequency": {"color": ORANGE, "linestyle": (0, (5, 1.5, 1, 1.5)), "marker": "D"},
    "device_pruning": {"color": VERMILION, "linestyle": (0, (1.2, 1.2)), "marker": "^"},
    "server_pruning": {"color": GREEN, "linestyle": (0, (8, 2.5)), "marker": "v"},
    "on_device": {"color": PURPLE, "linestyle": "-", "linewidth": 1.1, "marker": "P"},
    "on_server": {"color": SKY, "linestyle": "-", "linewidth": 1.1, "marker": "X"},
}
_EVERY = 3  # of the SCA's points, one in so many is drawn, and another one for each scheme
_LOWEST = {True: 1e-10, False: 1e-4}  # end of the distortion's axis, for bounds and for what real pruning reaches
_BELOW = 1e-15  # a distortion of 0 on a logarithmic axis


@dataclass(frozen=True)
class Budget:
    """The budget along which a figure runs, and the claims about it."""

    name: str  # delay or energy
    unit: str
    span: tuple[float, float]  # first and last value, relative to the scenario's budget
    ticks: tuple[float, ...]  # in the unit
    # the claims: that quality rises with the budget, and that a small budget rules a scheme out
    rise: str
    tight: str
    excluded: str  # that scheme
    cause: str  # why, as the paper has it

    @property
    def field(self) -> str:
        """The budget's name in `Problem`."""
        return f"{self.name}_budget"

    @property
    def other_field(self) -> str:
        """Name of the other budget in `Problem`."""
        return "energy_budget" if self.name == "delay" else "delay_budget"


DELAY = Budget(
    *("delay", "s", (0.05, 2.5), (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)),
    *("L6", "L7", "server_pruning", "the full device part is too slow, whatever the energy"),
)
ENERGY = Budget(
    *("energy", "J", (0.03, 10.0), (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)),
    *("L8", "L9", "device_pruning", "the full server part costs too much, however long it may take"),
)
BUDGETS = (DELAY, ENERGY)


class Curve(NamedTuple):
    """One scheme along a budget; NaN, and cut -1, if it is infeasible."""

    budget: Floats  # shape (points,)
    # shape (points,): the exact optimum; the distortion is relative to keeping nothing
    quality: Floats
    distortion: Floats
    cut: NDArray[np.int64]
    # shape (points,): what successive convex approximation finds
    sca_quality: Floats
    sca_distortion: Floats
    sca_cut: NDArray[np.int64]
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
    for network in NETWORKS:
        for quality in names:
            problem = base_problem(network, quality)
            values = getattr(problem, budget.field) * np.geomspace(*budget.span, points)
            sca = _sca_by_cut(budget, problem, values, jobs, f"{budget.name}, {network}, {QUALITY_TITLES[quality]}")
            for split in SPLITS:
                cuts = {name: _cut(scheme, network, problem, split) for name, scheme in SCHEMES.items()}
                onset = {name: find_onset(budget, SCHEMES[name].restrict(problem), cut) for name, cut in cuts.items()}
                corner = np.unique([value for value in onset.values() if values[0] < value < values[-1]]) * (1.0 + 1e-6)
                for name, cut in cuts.items():
                    restrict = SCHEMES[name].restrict
                    exact = _exact(budget, restrict(problem), values, cut)
                    begin = _exact(budget, restrict(problem), corner, cut)[:2]
                    found = _pick(*sca[restrict], cut)
                    curves[network, quality, split, name] = Curve(values, *exact, *found, onset[name], corner, *begin)
    return Designs(budget, curves, find_onsets(budget))


def _cut(scheme: Scheme, network: str, problem: Problem, split: str) -> int | None:
    """The cut at which a scheme is solved; None for all."""
    own = scheme.cut(problem)
    return FIXED_CUTS[network] if own is None and split == "fixed" else own


def _exact(
    budget: Budget, problem: Problem, values: Floats, cut: int | None
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Quality, relative distortion and cut of the exact optimum along the budget."""
    varied: dict[str, Any] = {budget.field: values}
    rows = solve_exact_batch(problem, **varied, cut=cut)
    return *feasible_values(problem, rows), np.where(rows["reason"] == 0, rows["cut"], -1)


def find_onset(budget: Budget, problem: Problem, cut: int | None = None, other: float | None = None) -> float:
    """Least budget at which a problem is feasible, infinite if none is; `other` replaces the problem's other budget."""
    nothing: dict[str, Any] = {budget.field: 0.0}
    if other is not None:
        nothing[budget.other_field] = other
    return float(solve_exact_batch(problem, **nothing, cut=cut)[f"{budget.name}_needed"])


def _sca_by_cut(
    budget: Budget, problem: Problem, values: Floats, jobs: int, title: str
) -> dict[Callable[[Problem], Problem], tuple[Floats, Floats]]:
    """Quality and relative distortion of shape ``(points, cuts)``, by how a scheme restricts the problem."""
    restrictions = list(dict.fromkeys(scheme.restrict for scheme in SCHEMES.values()))
    cuts = range(problem.workload.cuts)
    changed: list[dict[str, Any]] = [{budget.field: float(value)} for value in values]
    tasks = [
        (replace(restrict(problem), **change), cut) for restrict in restrictions for change in changed for cut in cuts
    ]
    quality, distortion = (part.reshape(len(restrictions), len(values), -1) for part in run_sca(tasks, jobs, title))
    return {restrict: (quality[k], distortion[k]) for k, restrict in enumerate(restrictions)}


def _pick(quality: Floats, distortion: Floats, cut: int | None) -> tuple[Floats, Floats, NDArray[np.int64]]:
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
            onsets[network][name] = {
                "fixed": find(fixed),
                "alone": find(fixed, math.inf),
                "free": find(),
                "by_cut": [find(cut) for cut in range(problem.workload.cuts)],
            }
    return onsets


def verdict(designs: Designs) -> dict[str, Any]:
    """What the curves say about the claims."""
    budget, curves, onsets = designs
    falls = {key: _largest_fall(curve) for key, curve in curves.items()}
    panels = {key[:3]: _compare(curves, key[:3]) for key in curves}
    excluded = {network: (of["joint"], of[budget.excluded]) for network, of in onsets.items()}
    restriction = SCHEMES[budget.excluded].title
    never_falls = f"{budget.rise}: quality never falls as the {budget.name} budget grows"
    infeasible = f"{budget.tight}: at a tight {budget.name} budget {restriction} is infeasible, cut fixed"
    cause = f"{budget.tight}: there, {budget.cause}"
    holds = {never_falls: all(fall <= TOLERANCE for fall in falls.values())}
    found = [f"{' / '.join(key)}: quality falls by {fall:.3g}" for key, fall in falls.items() if fall > TOLERANCE]
    for split in SPLITS:
        claim = f"{budget.rise}: the joint design is at least as good as each restriction, cut {split}"
        below = {key: part for key, part in panels.items() if key[2] == split and part["least_lead"] < -TOLERANCE}
        holds[claim] = not below
        found += [f"{' / '.join(key)}: the joint design lacks {-part['least_lead']:.3g}" for key, part in below.items()]
    holds[infeasible] = all(joint["fixed"] < other["fixed"] for joint, other in excluded.values())
    holds[cause] = all(joint["fixed"] < other["alone"] for joint, other in excluded.values())
    found += [_describe_onsets(budget, network, of) for network, of in onsets.items()]
    found += _describe_ends(curves)
    return {
        "holds": holds,
        "found": found,
        "measured": {
            "largest_fall": max(falls.values()),
            "onsets": onsets,
            "panels": {" / ".join(key): part for key, part in panels.items()},
        },
    }


def _largest_fall(curve: Curve) -> float:
    """By how much quality falls at most from one budget to the next larger one; infeasible counts as -1."""
    quality = np.nan_to_num(curve.quality, nan=-1.0)
    return float((quality[:-1] - quality[1:]).max(initial=0.0))


def _compare(curves: Mapping[Key, Curve], panel: tuple[str, str, str]) -> dict[str, Any]:
    """Joint design against its rivals in one panel, and both solvers against each other.

    Gains are differences of quality where the joint design is not yet unpruned and the rival is feasible.
    """
    joint = curves[*panel, "joint"].quality
    of_rivals = {name: curves[*panel, name].quality for name in RIVALS}
    quality = np.stack([np.nan_to_num(value, nan=-np.inf) for value in of_rivals.values()])
    best = quality.max(axis=0)
    lead = np.nan_to_num(joint, nan=-1.0) - np.nan_to_num(quality, neginf=-1.0)
    pruned = joint < 1.0 - TOLERANCE
    return {
        "least_lead": float(lead.min()),
        "gain_over_best_rival": _gain(joint, best, pruned),
        "gain_over": {name: _gain(joint, value, pruned) for name, value in of_rivals.items()},
        "points_where_joint_alone_is_feasible": int((~np.isnan(joint) & np.isinf(best)).sum()),
        "sca": _compare_sca([curves[*panel, name] for name in SCHEMES]),
    }


def _gain(joint: Floats, rival: Floats, counted: NDArray[np.bool_]) -> dict[str, Any]:
    """Largest and mean gain over a rival, and the number of points at which the rival is infeasible."""
    feasible = counted & np.isfinite(rival)
    gain = (joint - rival)[feasible]
    return {
        "max": float(gain.max(initial=0.0)),
        "mean": float(gain.mean()) if gain.size else None,
        "points": int(gain.size),
        "rival_infeasible": int((counted & ~np.isfinite(rival)).sum()),
    }


def _compare_sca(curves: Sequence[Curve]) -> dict[str, Any]:
    """Exact optimum against successive convex approximation over all schemes of a panel."""
    exact = np.concatenate([curve.quality for curve in curves])
    return sca_difference(exact, np.concatenate([curve.sca_quality for curve in curves]))


def _describe_onsets(budget: Budget, network: str, onsets: Mapping[str, Mapping[str, Any]]) -> str:
    """When each design becomes feasible, in words."""
    one_sided = [name for name in ("device_pruning", "server_pruning") if name != budget.excluded]
    this, (other,) = SCHEMES[budget.excluded].title, (SCHEMES[name].title for name in one_sided)
    of, of_other, joint = onsets[budget.excluded], onsets[one_sided[0]], onsets["joint"]
    order = "longer" if of_other["fixed"] > of["fixed"] else "less long"
    escapes = of["free"] <= joint["free"] * (1.0 + TOLERANCE)
    free = "wherever the joint design is" if escapes else f"from {_amount(of['free'], budget.unit)}"
    lists = {
        split: ", ".join(
            f"{SCHEMES[name].title} {_amount(values[split], budget.unit)}" for name, values in onsets.items()
        )
        for split in SPLITS
    }
    return (
        f"{network}, least {budget.name} budgets at cut {FIXED_CUTS[network]}: {lists['fixed']}. With the other budget "
        f"without limit, {this} would need {_amount(of['alone'], budget.unit)}; {other} is infeasible {order} than "
        f"{this}. With the cut free: {lists['free']}; {this} is then feasible {free}."
    )


def _amount(value: float, unit: str) -> str:
    return "infeasible" if math.isinf(value) else f"{value:.3g} {unit}"


def _describe_ends(curves: Mapping[Key, Curve]) -> list[str]:
    """Where inference on one end alone beats the joint design at the fixed cut: it is no restriction of that cut."""
    found = []
    for network, quality, split, name in curves:
        if split != "fixed" or not SCHEMES[name].end:
            continue
        joint = curves[network, quality, split, "joint"].quality
        lead = np.nan_to_num(curves[network, quality, split, name].quality, nan=-1.0) - np.nan_to_num(joint, nan=-1.0)
        better = lead > TOLERANCE
        if better.any():
            found.append(
                f"{network}, {QUALITY_TITLES[quality]}: inference {SCHEMES[name].title} beats the joint design of cut "
                f"{FIXED_CUTS[network]} at {int(better.sum())} of {better.size} budgets."
            )
    return found


def table(designs: Designs) -> list[list[Any]]:
    """All points of the grid, the header first; where curves begin is in the verdict."""
    values = ["cut", "quality", "relative_distortion"]
    header = ["network", "quality_name", "split", "scheme", "budget", *values, *(f"sca_{name}" for name in values)]
    rows: list[list[Any]] = [header]
    for key, curve in designs.curves.items():
        exact = (curve.cut, curve.quality, curve.distortion)
        found = (curve.sca_cut, curve.sca_quality, curve.sca_distortion)
        for k, budget in enumerate(curve.budget):
            row: list[Any] = [*key, number_text(budget)]
            for cut, quality, distortion in (exact, found):
                row += [cut[k] if cut[k] >= 0 else "", number_text(quality[k]), number_text(distortion[k])]
            rows.append(row)
    return rows


def draw(designs: Designs) -> Pictures:
    """Quality, and distortion relative to keeping nothing."""
    return {suffix: _figure(designs, field) for field, suffix in (("quality", ""), ("distortion", "_distortion"))}


def _figure(designs: Designs, field: str) -> Any:
    """A row of panels per network and split, a column per quality; qualities that coincide share one."""
    from matplotlib.lines import Line2D

    budget, curves, _ = designs
    names = list(dict.fromkeys(key[1] for key in curves))
    of_quality = {
        name: np.concatenate([getattr(curve, field) for key, curve in curves.items() if key[1] == name])
        for name in names
    }
    groups = group_coinciding(of_quality)
    rows = [(network, split) for network in NETWORKS for split in SPLITS]
    number = {"delay": 4, "energy": 5}[budget.name]
    what = "" if field == "quality" else ", distortion relative to keeping nothing"
    title = f"Designs against the {budget.name} budget{what} (after Lyu et al., Fig. {number})"
    size = (1.0 + 3.5 * len(groups), 1.4 + 2.3 * len(rows))
    figure, axes = panels(title, size, len(rows), len(groups), {"hspace": 0.03}, sharex="row")
    unit = "quality (1)" if field == "quality" else "relative distortion (1)"
    for (network, split), of_row in zip(rows, axes, strict=True):
        for axis, name in zip(of_row, groups, strict=True):
            _panel(budget, axis, {scheme: curves[network, name, split, scheme] for scheme in SCHEMES}, field)
            mark = mark_scenario(axis, getattr(base_problem(network, name), budget.field))
            if field == "distortion":
                axis.set_yscale("log")
                axis.set_ylim(_LOWEST[name in BOUNDS], 2.0)
            else:
                axis.set_ylim(0.0, 1.04)
        where = f"{network}, cut {FIXED_CUTS[network] if split == 'fixed' else 'free'}"
        of_row[0].set_ylabel(f"{where}\n{unit}", fontsize=8.5)
    label_columns(axes, map(group_title, groups.values()), f"{budget.name} budget ({budget.unit})")
    handles = [Line2D([], [], label=SCHEMES[name].title, **_line(name)) for name in SCHEMES]
    hollow: dict[str, Any] = {"linestyle": "", "markerfacecolor": "white", "color": BLACK, "markersize": 4}
    handles.append(Line2D([], [], label="open markers: SCA", marker="o", **hollow))
    handles.append(Line2D([], [], label="stem: begins to be feasible", marker=".", color=BLACK, linewidth=0.8))
    legend_below(figure, [*handles, mark], 4)
    return figure


def _line(name: str) -> dict[str, Any]:
    """Look of a scheme's line, without its marker."""
    return {"linewidth": 1.5, **{key: value for key, value in _LOOKS[name].items() if key != "marker"}}


def _panel(budget: Budget, axis: Any, curves: Mapping[str, Curve], field: str) -> None:
    """Lines of the exact optimum, a stem where each begins to be feasible, and markers of the SCA."""
    never = []
    for index, (name, curve) in enumerate(curves.items()):
        line, order = _line(name), 2 if name == "joint" else 3
        colour = line["color"]
        if curve.onset > curve.budget[-1]:
            never.append(SCHEMES[name].title)
            continue
        x = np.append(curve.budget, curve.corner)
        y = np.maximum(np.append(getattr(curve, field), getattr(curve, f"corner_{field}")), _BELOW)[np.argsort(x)]
        x = np.sort(x)
        if curve.onset > x[0]:
            first = int((~np.isnan(y)).argmax())
            axis.plot([x[first]] * 2, [_BELOW, y[first]], color=colour, linewidth=0.8)
            axis.plot(x[first], y[first], color=colour, marker=".", markersize=5, zorder=order)
        axis.plot(x, y, zorder=order, **line)
        drawn = slice(index % _EVERY, None, _EVERY)
        found = np.maximum(getattr(curve, f"sca_{field}"), _BELOW)
        look = {"markerfacecolor": "white", "markeredgewidth": 0.9, "markersize": 3.8, "marker": _LOOKS[name]["marker"]}
        axis.plot(curve.budget[drawn], found[drawn], color=colour, linestyle="", zorder=4, **look)
    if never:
        place = (0.02, "left") if field == "quality" else (0.98, "right")
        text = f"infeasible: {', '.join(never)}"
        axis.text(place[0], 0.97, text, transform=axis.transAxes, ha=place[1], va="top", fontsize=7.5)
    log_ticks(axis, budget.ticks)
    any_curve = next(iter(curves.values()))
    axis.set_xlim(any_curve.budget[0], any_curve.budget[-1])


def about(designs: Designs) -> dict[str, Any]:
    """Limits of the verdict and settings."""
    settings = {
        "scenarios": NETWORKS,
        "gain": "mean of the scenario, no fading; nothing is random",
        "points": len(next(iter(designs.curves.values())).budget),
        "relative_budgets": designs.budget.span,
        "fixed_cuts": FIXED_CUTS,
    }
    return {"limits": {"quality": TOLERANCE}, "settings": settings}


STUDIES = tuple(
    Study(f"schemes_{budget.name}", partial(compute, budget), table, verdict, draw, about) for budget in BUDGETS
)
