"""Iterations, times and gaps of both methods of successive convex approximation, over all cuts, in one table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from baselines.fixed_cut import best
from baselines.objective import own_scale_quality
from baselines.sca import METHODS, solve_sca
from coinfer_gym import Problem, solve_exact
from studies.figure import Floats, Study
from studies.lyu.problems import TOLERANCE
from studies.lyu.sca_convergence import draw_problems, quantiles

QUALITIES = ("rate_distortion", "magnitude_pruning")
COUNT = 20
LEFT = 2e-4
"""Largest gap over all cuts that counts as none: twice the default threshold of the rise, since more than the last rise
may be left."""


class Runs(NamedTuple):
    """Runs of one method with its defaults on some problems, at every cut that can meet the budgets."""

    iterations: Floats  # shape (cuts of all problems,)
    gap: Floats  # shape (cuts of all problems,): to the exact optimum of the same cut
    seconds: Floats  # shape (problems,): processor time of all cuts of a problem together: of the processor
    gap_of_best: Floats  # shape (problems,): of the best cut to the exact optimum over all cuts


def run(method: str, problems: Sequence[Problem]) -> Runs:
    """Run a method on problems; compiled beforehand, so that times are those of a solver in use."""
    iterations, gap, seconds, gap_of_best = [], [], [], []
    solve = partial(solve_sca, method=method)
    for problem in problems:
        cuts = range(problem.workload.cuts)
        for cut in cuts:
            solve(problem, cut, max_iterations=1)
        start = time.process_time()
        solutions = [solve(problem, cut) for cut in cuts]
        seconds.append(time.process_time() - start)
        gap_of_best.append(_gap(problem, solve_exact(problem), best(problem, solutions)))
        for cut, solution in zip(cuts, solutions, strict=True):
            if solution.feasible:
                iterations.append(len(solution.history) - 1)
                gap.append(_gap(problem, solve_exact(problem, cut), solution))
    return Runs(*(np.array(values, np.float64) for values in (iterations, gap, seconds, gap_of_best)))


def _gap(problem: Problem, optimum: Any, solution: Any) -> float:
    return own_scale_quality(problem, optimum) - own_scale_quality(problem, solution)


def compute(names: Sequence[str] = QUALITIES, count: int = COUNT, seed: int = 0) -> dict[tuple[str, str], Runs]:
    """Runs by quality and method, both methods on the same problems."""
    drawn = {name: [problem for problem, _ in draw_problems(name, count, seed)] for name in names}
    return {(name, method): run(method, problems) for name, problems in drawn.items() for method in METHODS}


def table(runs: dict[tuple[str, str], Runs]) -> list[list[Any]]:
    """A row per quality and method: quantiles over cuts, and over problems where all cuts count as one."""
    parts = {"iterations": 1.0, "gap": 1.0, "seconds": 1e3, "gap_of_best": 1.0}
    shown = {"seconds": "ms_of_all_cuts"}
    columns = [f"{shown.get(part, part)}_{name}" for part in parts for name in ("median", "90", "max")]
    rows: list[list[Any]] = [["quality", "method", "problems", "cuts", *columns]]
    for (quality, method), measured in runs.items():
        numbers = [
            f"{value * unit:.3g}"
            for part, unit in parts.items()
            for value in quantiles(getattr(measured, part)).values()
        ]
        rows.append([quality, method, len(measured.seconds), len(measured.gap), *numbers])
    return rows


def verdict(runs: dict[tuple[str, str], Runs]) -> dict[str, Any]:
    """Whether both methods find the exact optimum, and which takes fewer iterations."""
    pairs = [(runs[name, "products"], runs[name, "lyu"]) for name, method in runs if method == "lyu"]
    holds = {
        "over all cuts both find the exact optimum": all((r.gap_of_best <= LEFT).all() for r in runs.values()),
        "no run beats the optimum of its cut": all((r.gap >= -TOLERANCE).all() for r in runs.values()),
        "products take fewer iterations": all(ours.iterations.sum() < paper.iterations.sum() for ours, paper in pairs),
    }
    return {"holds": {part: bool(value) for part, value in holds.items()}}


STUDIES = (Study("sca_methods", compute, table, verdict, lambda runs: {}),)
