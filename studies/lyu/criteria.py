"""Which objective predicts accuracy: the paper's bounds and the closed forms of pruning (claim L11), in one table.

Each objective chooses a design at every budget of `studies.lyu.designs`, and the predictor says the design's F1: by how
much is it below the best F1 that the predictor knows of? Beside that stands the rank correlation of an objective's
distortion with F1 over the measured configurations of a grid and at random, for which no predictor is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from coinfer_gym import Decision, Problem, Solution, solve_exact_batch
from coinfer_gym.files import read_csv
from studies.figure import Floats, Study
from studies.lyu import designs
from studies.lyu.designs import ACCURACY, FIXED_CUT, METHODS, POINTS, SPANS, base_problem
from studies.lyu.problems import QUALITY_TITLES, SCENARIO
from studies.lyu.schemes import SPLITS

MEASURED = designs.MEASUREMENTS.with_name(f"{designs.NETWORK}.csv")
"""Configurations of a grid and at random: no objective has chosen them."""

NEAR = 0.04
"""Loss of F1 up to which a design counts as the best one."""

PER_SIDE, JOINT = "parallel_laplacian", "rate_distortion"


class Judged(NamedTuple):
    """One objective for one kind of pruning."""

    loss: dict[str, Floats]  # by split, shape (budgets,): predicted F1 below the best, along both budgets
    correlation: float  # Spearman's, of minus the distortion with measured F1
    configurations: int  # that were measured


Key = tuple[str, str]
"""Kind of pruning, and objective."""


def compute(names: Sequence[str] = tuple(QUALITY_TITLES)) -> dict[Key, Judged]:
    """Designs of every objective, and its correlation over the measured configurations."""
    rows = read_csv(MEASURED)
    fewest = min(int(row["samples"]) for row in rows)  # a few were repeated on all questions
    rows = [row for row in rows if int(row["samples"]) == fewest]
    found: dict[Key, Judged] = {}
    for method in METHODS:
        own = [
            row for row in rows if row["method"] == method or row["retained_device"] == row["retained_server"] == "1.0"
        ]
        f1 = [float(row["f1"]) for row in own]
        best = {split: predicted_f1(method, ACCURACY, split) for split in SPLITS}
        for name in names:
            loss = {split: best[split] - predicted_f1(method, name, split) for split in SPLITS}
            posed = replace(base_problem(method), quality=name)
            order = spearmanr([-_of(posed, row).distortion for row in own], f1).statistic
            found[method, name] = Judged(loss, float(order), len(own))
    return found


def predicted_f1(method: str, objective: str, split: str) -> Floats:
    """Predicted F1 of the exact optima by an objective, along the delay and then along the energy budget."""
    base = base_problem(method)
    posed = replace(base, quality=objective)
    f1: list[float] = []
    for budget, span in SPANS.items():
        field = f"{budget}_budget"
        varied: dict[str, Any] = {field: getattr(base, field) * np.geomspace(*span, POINTS)}
        rows = solve_exact_batch(posed, **varied, cut=FIXED_CUT if split == "fixed" else None)
        f1 += [_of(base, row).quality for row in rows]
    return np.array(f1)


def _of(problem: Problem, row: Any) -> Solution:
    """What a design or a measured configuration is worth; neither F1 nor distortion depends on power and clocks."""
    ratios = (float(row["retained_device"]), float(row["retained_server"]))
    clocks = (problem.frequency_device_max, problem.frequency_server_max)
    return problem.evaluate(Decision(int(row["cut"]), *ratios, problem.power_max, *clocks))


def verdict(found: Mapping[Key, Judged]) -> dict[str, Any]:
    """Whether minimising each bound maximises predicted F1."""
    holds, told = {}, []
    for (method, name), part in found.items():
        near = {split: int((loss <= NEAR).sum()) for split, loss in part.loss.items()}
        total = sum(loss.size for loss in part.loss.values())
        if name in (JOINT, PER_SIDE):
            claim = f"L11 (bound), {method} pruning: minimising the {QUALITY_TITLES[name]} maximises predicted F1"
            holds[f"{claim}, within {NEAR:g}, at every budget"] = sum(near.values()) == total
        fixed, free = part.loss["fixed"], part.loss["free"]
        told.append(
            f"{method} pruning, {QUALITY_TITLES[name]}: within {NEAR:g} of the best predicted F1 at {near['fixed']} of "
            f"{fixed.size} budgets with cut {FIXED_CUT} and {near['free']} of {free.size} with the cut free; mean loss "
            f"{fixed.mean():.3f} and {free.mean():.3f}, largest {fixed.max():.3f} and {free.max():.3f}. Rank "
            f"correlation with measured F1 {part.correlation:.3f} over {part.configurations} configurations."
        )
    settings = {"scenario": SCENARIO, "fixed_cut": FIXED_CUT, "relative_budgets": SPANS, "points": POINTS}
    return {"holds": holds, "found": told, "limits": {"near": NEAR}, "settings": settings}


def table(found: Mapping[Key, Judged]) -> list[dict[str, Any]]:
    """A row per kind of pruning and objective."""
    return [
        {"method": method, "objective": name, "budgets_each": part.loss["fixed"].size}
        | {f"near_{split}": int((loss <= NEAR).sum()) for split, loss in part.loss.items()}
        | {f"mean_loss_{split}": float(loss.mean()) for split, loss in part.loss.items()}
        | {f"largest_loss_{split}": float(loss.max()) for split, loss in part.loss.items()}
        | {"rank_correlation": part.correlation, "configurations": part.configurations}
        for (method, name), part in found.items()
    ]


STUDIES = (Study("criteria", compute, table, verdict, lambda found: {}),)
