"""Designs in real F1 (Lyu et al., Figs. 4-6; claim L11): what the designs of P1 reach on a measured network.

`studies.lyu.designs` makes the designs and measures them; these figures read the stored measurements.

F1 is given as a share of the unpruned network's. Its error is that of the difference to that network on the same
questions. Of two designs the file has no such difference, so their losses count as independent. As hard questions are
hard for both, the true error is mostly smaller: some differences that exist are missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from baselines.output import BLACK, GREY, PURPLE, SKY
from baselines.schemes import SCHEMES
from coinfer_gym import InvalidInputError
from studies import drawing
from studies.drawing import label_columns, legend_below, log_ticks, mark_scenario, panels
from studies.figure import Floats, Ints, Pictures, Study
from studies.lyu import designs, schemes
from studies.lyu.criteria import NEAR
from studies.lyu.designs import (
    ACCURACY,
    BOUND,
    CLOSED_FORM,
    CUT_BUDGETS,
    FIXED_CUT,
    JOINT,
    LINES,
    METHODS,
    SIDES,
    base_problem,
)
from studies.lyu.problems import PROMPTS, SCENARIO
from studies.lyu.schemes import BUDGETS, RIVALS, SPLITS, Budget, find_onset

CRITERIA = {
    BOUND: "the joint bound",
    SIDES: "the bound of each side",
    ACCURACY: "predicted F1",
    CLOSED_FORM: "the closed form of pruning",
}
"""Names of the criteria by which designs are chosen."""

DESIGNED_BY = {line: CRITERIA[quality] for line, (_, quality) in LINES.items()}
"""The criterion of each line."""

TITLES = {line: f"{SCHEMES[scheme].title}, by {DESIGNED_BY[line]}" for line, (scheme, _) in LINES.items()}

SURE = 2.0
"""Standard errors by which a difference of F1 must exceed 0 to count as one."""

_TICKS = {"delay": (0.2, 0.3, 0.5, 0.8, 1.2), "energy": (0.002, 0.005, 0.01, 0.02, 0.05)}
_LOOKS = {
    **schemes.LOOKS,
    "joint_sides": {"color": GREY, "linestyle": "-", "marker": "d"},
    "joint_accuracy": {"color": PURPLE, "linestyle": "-", "marker": "P"},
    "joint_closed_form": {"color": SKY, "linestyle": (0, (5, 2)), "marker": "X"},
}
_HOLLOW: dict[str, Any] = {"markerfacecolor": "none", "markersize": 3.5, "markeredgewidth": 0.7}
_DODGE = 0.012  # between lines, relative to a budget, so that the bars of errors stand side by side


class Curve(NamedTuple):
    """One line of a panel, each of shape (points,); NaN, and cut -1, where the design is infeasible."""

    value: Floats  # budget in s or J, or the cut
    cut: Ints
    retained_device: Floats
    retained_server: Floats
    # measured F1 and the standard error of its loss, relative to the unpruned network's F1
    f1: Floats
    error: Floats
    predicted: Floats  # what the predictor says


Key = tuple[designs.Panel, str, str]
"""Panel, kind of pruning and line of a curve."""


class Data(NamedTuple):
    """Curves of one figure, and the measurements that they come from."""

    curves: dict[Key, Curve]
    measured: designs.Measurements | None


class Judged(NamedTuple):
    """The parts of a verdict, which are gathered step by step."""

    holds: dict[str, bool]
    found: list[str]
    measured: dict[str, Any]


def compute(along_budgets: bool, source: Path = designs.MEASUREMENTS) -> Data:
    """Designs along the budgets, or over the cuts, with their measured F1 from a CSV file."""
    measured = designs.read_measurements(source)
    return Data(join(designs.designs(), measured)[0 if along_budgets else 1], measured)


def join(found: Sequence[designs.Design], measured: designs.Measurements) -> tuple[dict[Key, Curve], dict[Key, Curve]]:
    """Put designs and their F1 together."""
    by_key: dict[Key, list[tuple[float, ...]]] = {}
    for each in found:
        row: tuple[float, ...] = (each.value, -1.0, *[np.nan] * 5)
        if each.solution.feasible:
            s, pair = each.solution, measured.find(each.setting)
            if pair is None:
                raise InvalidInputError("measurements", str(each.setting), f"They lack this design. {designs.REMEDY}")
            predicted = replace(each.problem, quality=ACCURACY).evaluate(s).quality
            row = (each.value, s.cut, s.retained_device, s.retained_server, *pair, predicted)
        by_key.setdefault((each.panel, each.method, each.line), []).append(row)
    parts: tuple[dict[Key, Curve], dict[Key, Curve]] = {}, {}
    for key, rows in by_key.items():
        value, cut, *others = np.array(rows).T
        parts[key[0][0] not in designs.SPANS][key] = Curve(value, cut.astype(np.int64), *others)
    return parts


def margin(first: Any, second: Any) -> Any:
    """Largest difference of F1 that may be noise, from the standard errors of both."""
    return SURE * np.hypot(first, second)


def compare(first: Curve, second: Curve) -> dict[str, Any]:
    """One line against another, point by point.

    The first is ``better``, ``equal`` within the errors, or ``worse`` in so many points, the last at the values
    ``worse_at``. A design that is feasible is better than none; ``alone`` counts these points. ``loss``,
    ``loss_margin`` and ``at`` are the largest loss of the first where both are feasible, its margin, and its value.
    """
    one, two = ~np.isnan(first.f1), ~np.isnan(second.f1)
    both = one & two
    loss, allowed, at = (second.f1 - first.f1)[both], margin(first.error, second.error)[both], first.value[both]
    worst, alone = int(loss.argmax()) if loss.size else -1, int((one & ~two).sum())
    worse_at = sorted([*first.value[two & ~one].tolist(), *at[loss > allowed].tolist()])
    return {
        "better": int((loss < -allowed).sum()) + alone,
        "equal": int((np.abs(loss) <= allowed).sum()),
        "worse": len(worse_at),
        "worse_at": worse_at,
        "alone": alone,
        "loss": float(loss[worst]) if loss.size else 0.0,
        "loss_margin": float(allowed[worst]) if loss.size else 0.0,
        "at": float(at[worst]) if loss.size else None,
    }


def largest_fall(curve: Curve) -> tuple[float, float]:
    """The fall of F1 from one budget to any larger one that exceeds its margin by most, and that margin.

    Where a design is infeasible, F1 is 0.
    """
    f1, error = np.nan_to_num(curve.f1), np.nan_to_num(curve.error)
    fall, allowed = f1[:, None] - f1[None, :], margin(error[:, None], error[None, :])
    excess = np.where(np.triu(np.ones_like(fall), 1) > 0, fall - allowed, -np.inf)
    i, j = np.unravel_index(int(excess.argmax()), excess.shape)
    return float(fall[i, j]), float(allowed[i, j])


def verdict_budgets(data: Data) -> dict[str, Any]:
    """What the lines along the budgets say about L6 to L9 in F1, and whether the bound's design is the best one."""
    curves, judged = data.curves, Judged({}, [], {})
    problem = replace(base_problem(METHODS[0]), quality=BOUND)
    for budget in BUDGETS:
        onsets = {}
        for name in ("joint", *RIVALS):
            posed = SCHEMES[name].restrict(problem)
            alone = find_onset(budget, posed, FIXED_CUT, np.inf)
            onsets[name] = {"fixed": find_onset(budget, posed, FIXED_CUT), "alone": alone}
        judged.measured[f"{budget.name}: least budgets"] = onsets
        for claim, holds in schemes.judge_onsets(budget, {SCENARIO: onsets}).items():
            judged.holds[f"L11 ({claim.replace(':', '):', 1)}".replace("cut fixed", f"cut {FIXED_CUT}")] = holds
        amounts = ", ".join(f"{SCHEMES[name].title} {_amount(of['fixed'], budget)}" for name, of in onsets.items())
        judged.found.append(f"Least {budget.name} budgets at cut {FIXED_CUT}: {amounts}.")
    for method in METHODS:
        own = {key: part for key, part in curves.items() if key[1] == method}
        for budget in BUDGETS:
            _judge_budget(budget, method, {key: part for key, part in own.items() if key[0][0] == budget.name}, judged)
        for bound, split in product(JOINT[:2], SPLITS):
            _judge_bound(bound, method, split, curves, judged)
        gaps = {
            criterion: np.concatenate(
                [(p.predicted - p.f1)[p.cut >= 0] for key, p in own.items() if DESIGNED_BY[key[2]] == criterion]
            )
            for criterion in CRITERIA.values()
        }
        judged.measured[f"{method}: predicted less measured F1, by what was designed for"] = {
            criterion: {
                "designs": gap.size,
                "mean": float(gap.mean()),
                "rms": float(np.sqrt(np.mean(gap**2))),
            }
            for criterion, gap in gaps.items()
        }
        judged.measured[f"{method}: F1 below the best of the designs at a budget"] = _below_best(method, curves)
    return judged._asdict() | _about(data)


def _below_best(method: str, curves: Mapping[Key, Curve]) -> dict[str, Any]:
    """By what the joint design is chosen: at how many budgets it is within `NEAR` of the best F1, what it loses."""
    found: dict[str, Any] = {}
    for split in SPLITS:
        parts = {line: [curves[(budget.name, split), method, line] for budget in BUDGETS] for line in JOINT}
        f1 = {line: np.nan_to_num(np.concatenate([part.f1 for part in both])) for line, both in parts.items()}
        best = np.max(list(f1.values()), axis=0)
        differ = best - np.min(list(f1.values()), axis=0) > NEAR
        for line, reached in f1.items():
            loss = best - reached
            near = loss <= NEAR
            part = {"budgets": near.size, "near": int(near.sum()), "near_where_designs_differ": int(near[differ].sum())}
            part |= {"where_designs_differ": int(differ.sum()), "largest_loss": float(loss.max())}
            found.setdefault(DESIGNED_BY[line], {})[split] = part
    return found


def _amount(value: float, budget: Budget) -> str:
    return f"{value:.3g} {budget.unit}" if np.isfinite(value) else "never"


def _judge_budget(budget: Budget, method: str, curves: Mapping[Key, Curve], judged: Judged) -> None:
    """L6 or L8 along one budget for one kind of pruning, and what a tight budget leaves (L7, L9)."""
    rise, at_cut = f"L11 ({budget.rise}), {method} pruning", f"cut {FIXED_CUT}"
    own = {line: curves[(budget.name, "fixed"), method, line] for line in LINES}
    for line in ("joint", "joint_accuracy"):
        criterion = DESIGNED_BY[line]
        falls = {key: largest_fall(part) for key, part in curves.items() if DESIGNED_BY[key[2]] == criterion}
        fallen = {key: fall for key, fall in falls.items() if fall[0] > fall[1]}
        claim = f"{rise}: F1 never falls as the {budget.name} budget grows, designed by {criterion}"
        judged.holds[claim] = not fallen
        judged.found.extend(
            f"{rise}, cut {key[0][1]}, {TITLES[key[2]]}: F1 falls by {fall[0]:.3f} (margin {fall[1]:.3f}) as the "
            f"{budget.name} budget grows."
            for key, fall in fallen.items()
        )
        against = {name: compare(own[line], own[name]) for name in RIVALS}
        claim = f"{rise}: the joint design by {criterion} is at least as good as each restriction, {at_cut}"
        judged.holds[claim] = not any(part["worse"] for part in against.values())
        judged.found.extend(
            f"{rise}, {at_cut}: the joint design by {criterion} is worse than {SCHEMES[name].title} in "
            f"{part['worse']} points, by at most {part['loss']:.3f} (margin {part['loss_margin']:.3f}, at "
            f"{part['at']:.3g} {budget.unit})."
            for name, part in against.items()
            if part["worse"]
        )
        judged.measured[f"{rise}: the joint design by {criterion} against"] = against
    excluded = np.isnan(own[budget.excluded].f1)
    if excluded.any():
        texts = [f"{np.nan_to_num(own[line].f1)[excluded].max():.3f} by {DESIGNED_BY[line]}" for line in JOINT]
        judged.found.append(
            f"L11 ({budget.tight}), {method} pruning: at the {int(excluded.sum())} of {excluded.size} budgets where "
            f"{SCHEMES[budget.excluded].title} is infeasible, the joint design's F1 is at most {', '.join(texts)}."
        )


def _judge_bound(bound: str, method: str, split: str, curves: Mapping[Key, Curve], judged: Judged) -> None:
    """Whether the design by a bound is as accurate as those by predicted F1 and a closed form, over both budgets."""
    where, name = f"cut {FIXED_CUT}" if split == "fixed" else "cut free", DESIGNED_BY[bound]
    against: dict[str, Any] = {}
    for budget, line in product(BUDGETS, JOINT[2:]):
        part = compare(*(curves[(budget.name, split), method, each] for each in (bound, line)))
        against[f"{budget.name}: {DESIGNED_BY[line]}"] = part
        places = ", ".join(f"{value:.3g}" for value in part["worse_at"])
        judged.found.append(
            f"{method} pruning, {where}, along the {budget.name}: the design by {name} is better than that by "
            f"{DESIGNED_BY[line]} in {part['better']}, equal in {part['equal']}, worse in {part['worse']} "
            f"points{f' (at {places} {budget.unit})' if places else ''}; largest loss {part['loss']:.3f} (margin "
            f"{part['loss_margin']:.3f})."
        )
    claim = f"L11 (bound), {method} pruning: minimising {name} maximises F1, {where}"
    judged.holds[claim] = not any(part["worse"] for part in against.values())
    judged.measured[f"{claim}; its design against"] = against


def verdict_cuts(data: Data) -> dict[str, Any]:
    """What the cuts say about L10 in F1."""
    measured = {key: judge_cuts(part) for key, part in data.curves.items()}
    holds = {
        f"L11 (L10), {method} pruning: an inner cut beats both ends in F1, raw sample larger than an embedding, the "
        f"scenario's budgets, designed by {DESIGNED_BY[line]}": part["best"] == "inner"
        for (panel, method, line), part in measured.items()
        if panel == designs.cut_panel("multimodal", CUT_BUDGETS[0])
    }
    by_name = {
        f"{panel[0]}, {panel[1]}, {method} pruning, by {DESIGNED_BY[line]}": part
        for (panel, method, line), part in measured.items()
    }
    found = [f"{name}: {_describe(part)}" for name, part in by_name.items()]
    return {"holds": holds, "found": found, "measured": by_name, **_about(data)}


def judge_cuts(curve: Curve) -> dict[str, Any]:
    """Ends and best inner cut of one comparison; an infeasible cut answers nothing.

    The best inner cut is the best as measured, which favours it slightly.
    """
    f1, error = np.nan_to_num(curve.f1), np.nan_to_num(curve.error)
    inner = int(f1[1:-1].argmax()) + 1
    end, name = (0, "on_server") if f1[0] >= f1[-1] else (-1, "on_device")
    lead, allowed = float(f1[inner] - f1[end]), float(margin(error[inner], error[end]))
    return {
        "on_server": float(curve.f1[0]),
        "best_inner_cut": inner,
        "inner": float(curve.f1[inner]),
        "on_device": float(curve.f1[-1]),
        "inner_leads_by": lead,
        "margin": allowed,
        "best": "inner" if lead > allowed else name if lead < -allowed else f"inner or {name}",
    }


def _describe(part: Mapping[str, Any]) -> str:
    """The numbers of one comparison, in words."""
    values = (part[name] for name in ("on_server", "inner", "on_device"))
    server, inner, device = ("infeasible" if np.isnan(value) else f"{value:.3f}" for value in values)
    return (
        f"on the server {server}, cut {part['best_inner_cut']} {inner}, on the device {device}; margin "
        f"{part['margin']:.3f}; best: {part['best'].replace('_', ' ')}."
    )


def _about(data: Data) -> dict[str, Any]:
    """Limits and settings of both verdicts."""
    source = data.measured
    measured = source and {
        "questions": source.samples,
        "f1_of_the_unpruned_network": source.unpruned,
        "its_standard_error": source.unpruned_error,
    }
    settings = {
        "scenario": SCENARIO,
        "gain": "mean of the scenario, no fading",
        **(measured or {}),
        "errors": "of the loss against the unpruned network on the same questions; two designs count as independent",
        "fixed_cut": FIXED_CUT,
        "relative_budgets": designs.SPANS,
        "relative_budgets_of_cuts": list(CUT_BUDGETS),
    }
    return {"limits": {"standard_errors": SURE}, "settings": settings}


def table(data: Data) -> list[list[Any]]:
    """All points, the header first."""
    rows: list[list[Any]] = [["along", "panel", "method", "scheme", "designed_by", *Curve._fields]]
    for (panel, method, line), curve in data.curves.items():
        for value, cut, *numbers in zip(*curve, strict=True):
            rows.append([*panel, method, *LINES[line], value, cut if cut >= 0 else "", *numbers])
    return rows


def draw_budgets(data: Data) -> Pictures:
    """A row per kind of pruning, a column per budget and cut, fixed or free."""
    columns = list(product(BUDGETS, SPLITS))
    title = "Designs in F1 on SQuAD along the budgets (after Lyu et al., Figs. 4 and 5)"
    shape = (len(METHODS), len(columns))
    figure, axes = panels(title, (15.0, 7.6), *shape, {"hspace": 0.03}, sharey=True, sharex="col")
    for method, row in zip(METHODS, axes, strict=True):
        for axis, (budget, split) in zip(row, columns, strict=True):
            panel = (budget.name, split)
            parts = {key[2]: part for key, part in data.curves.items() if key[:2] == (panel, method)}
            for place, (line, part) in enumerate(parts.items()):
                shift = 1.0 + _DODGE * (place - (len(parts) - 1) / 2.0)
                _plot(axis, part.value * shift, part, line, predicted=line in JOINT)
            schemes.note_infeasible(axis, [LINES[line][0] for line, p in parts.items() if np.isnan(p.f1).all()])
            log_ticks(axis, _TICKS[budget.name])
            mark_scenario(axis, getattr(base_problem(method), budget.field))
    for top, bottom, (budget, split) in zip(axes[0], axes[-1], columns, strict=True):
        top.set_title(f"cut {FIXED_CUT}" if split == "fixed" else "cut free", fontsize=9)
        bottom.set_xlabel(f"{budget.name} budget ({budget.unit})", fontsize=9)
    _finish(figure, axes, LINES, drawing.SCENARIO)
    return {"": figure}


def draw_cuts(data: Data) -> Pictures:
    """A row per kind of pruning, a column per raw sample and pair of budgets."""
    columns = [designs.cut_panel(prompt, pair) for pair in CUT_BUDGETS for prompt in PROMPTS]
    lines = list(dict.fromkeys(key[2] for key in data.curves))
    title = "Every cut's design in F1 on SQuAD, budgets relative to the scenario's (after Lyu et al., Fig. 6)"
    shape = (len(METHODS), len(columns))
    figure, axes = panels(title, (15.0, 6.8), *shape, {"hspace": 0.03}, sharey=True, sharex=True)
    for method, row in zip(METHODS, axes, strict=True):
        for axis, panel in zip(row, columns, strict=True):
            for place, line in enumerate(lines):
                part = data.curves[panel, method, line]
                _plot(axis, part.value + 0.08 * (place - 0.5), part, line, predicted=True)
            axis.set_xticks(part.value)
    titles = [f"{prompt} prompt, {pair.replace('T0', '$T_0$').replace('E0', '$E_0$')}" for prompt, pair in columns]
    label_columns(axes, titles, "cut, blocks on the device")
    _finish(figure, axes, lines, {})
    return {"": figure}


def _finish(figure: Any, axes: Any, lines: Iterable[str], marks: Mapping[str, Any]) -> None:
    """Axes and legend that both pictures share."""
    for method, row in zip(METHODS, axes, strict=True):
        row[0].set_ylabel(f"{method} pruning\nF1 / F1 unpruned (1)", fontsize=9)
        for axis in row:
            axis.set_ylim(-0.03, 1.18)
    looks = {TITLES[line]: _LOOKS[line] | {"markersize": 4.5} for line in lines}
    looks |= {
        "dotted: predicted": {"color": BLACK, "linewidth": 0.6, "linestyle": ":", "marker": "o", **_HOLLOW},
        "bar: one standard error of the loss, same questions": {
            "color": BLACK,
            "linestyle": "",
            "marker": "|",
            "markersize": 9,
        },
    }
    legend_below(figure, {**looks, **marks}, 4)


def _plot(axis: Any, x: Floats, curve: Curve, line: str, *, predicted: bool) -> None:
    """One line with its errors, and its prediction."""
    look = _LOOKS[line]
    axis.errorbar(x, curve.f1, curve.error, linewidth=1.4, elinewidth=0.8, markersize=4.5, **look)
    if predicted:
        axis.plot(x, curve.predicted, "o:", color=look["color"], linewidth=0.6, **_HOLLOW)


STUDIES = (
    Study("accuracy_budgets", partial(compute, True), table, verdict_budgets, draw_budgets),
    Study("accuracy_cuts", partial(compute, False), table, verdict_cuts, draw_cuts),
)
