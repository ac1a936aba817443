"""Gap of successive convex approximation to the exact optimum, by iteration and by stopping threshold (claim L5).

One long run per problem serves for every threshold: an iteration depends on the last iterate alone, so a run with a
coarser threshold is the beginning of the long one. After the end of a run its last iterate counts.

Gaps are differences of quality on the scale on which the algorithm measures its own progress.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from baselines.fixed_cut import fix_cut
from baselines.objective import own_scale_quality
from baselines.output import BLUE, GREY, VERMILION
from baselines.sca import BROKEN, compile_surrogate, next_iterate, solve_sca
from coinfer_gym import Problem, solve_exact, solve_exact_batch
from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.laim.decision import Solution
from coinfer_gym.laim.distortion import QUALITIES
from studies.drawing import legend_below, panels
from studies.figure import Floats, Ints, Pictures, Study
from studies.lyu.problems import SCENARIO, base_problem

COUNT = 60
THRESHOLDS = tuple(10.0**-k for k in range(2, 9))
FINEST = 1e-9
"""Threshold of the runs themselves, and the accuracy of their convex solver."""

MAX_ITERATIONS = 500
QUANTILES = {"median": 0.5, "90 %": 0.9, "max": 1.0}
GLOBAL = 1e-6
"""A gap that counts as none at the end of a run: far above rounding, far below what quality is reported to."""

ROUNDING = 1e-8
"""A fall of the quality that counts as the convex solver's rounding: a few times its accuracy, and no more than the
smallest threshold. The falls shrink with the solver's tolerance: at most 2e-7, 3e-8 and 3e-9 at 1e-6, 1e-7 and 1e-9."""

DRAWN = {"rate_distortion": BLUE, "magnitude_pruning": VERMILION}
ENDS = ("threshold", "worse iterate refused", "iterations exhausted", "solver broke down")

_DECADES = {"gain": (-4.0, 1.0), "delay_budget": (-1.5, 1.0), "energy_budget": (-1.5, 1.5)}  # about the scenario's
_STYLES = {"median": "-", "90 %": "--", "max": ":"}
_FLOOR = 1e-12


class ScaGaps(NamedTuple):
    """Runs of the algorithm on some problems."""

    # shape (problems, iterations + 1): to the optimum of the same cut, the start first; the last iterate of a shorter
    # run is repeated
    gap: Floats
    iterations: Ints  # shape (problems,): length of each run
    stop: Ints  # shape (problems, thresholds): iteration at which the algorithm stops under each threshold
    stop_gap: Floats  # shape (problems, thresholds): the gap there
    # shape (problems,): largest share by which any iterate exceeds a budget or leaves the bounds of a variable; at most
    # 0 if none does. Iterates are solutions of the convex problems, scaled into the budgets.
    excess: Floats
    # shape (problems,): smallest change of the quality in a run's iterations: negative where an iterate was worse than
    # the last
    rise: Floats
    end: Ints  # shape (problems,): why each run ended, see `ENDS`
    # shape (problems,): by how much the iterate that a run refused was worse than its last one; 0 if it refused none
    refused: Floats


def draw_problems(quality: str, count: int = COUNT, seed: int = 0) -> list[tuple[Problem, Solution]]:
    """Feasible problems around the shipped scenario that no decision solves unpruned, each with its optimum."""
    base = base_problem("MPNet", quality)
    generator = np.random.default_rng(seed)
    values: dict[str, Any] = {name: np.empty(0) for name in _DECADES}
    chosen = np.empty(0, dtype=np.int64)
    while len(chosen) < count:
        for name, (low, high) in _DECADES.items():
            drawn = getattr(base, name) * 10.0 ** generator.uniform(low, high, 4 * count)
            values[name] = np.concatenate([values[name], drawn])
        rows = solve_exact_batch(base, **values, parallel=False)
        chosen = np.flatnonzero((rows["reason"] == 0) & (rows["quality"] < 1.0))
    cases: list[dict[str, Any]] = [{name: float(values[name][i]) for name in _DECADES} for i in chosen[:count]]
    problems = [replace(base, **case) for case in cases]
    return [(problem, solve_exact(problem)) for problem in problems]


def sca_gaps(quality: str, count: int = COUNT, seed: int = 0, tick: Callable[[], object] = lambda: None) -> ScaGaps:
    """Run the algorithm once on each drawn problem, at the best cut, and measure the gap of each iterate."""
    runs: list[Floats] = []
    stop = np.zeros((count, len(THRESHOLDS)), dtype=np.int64)
    excess, rise, refused = np.zeros(count), np.zeros(count), np.zeros(count)
    end = np.zeros(count, dtype=np.int64)
    for i, (problem, optimum) in enumerate(draw_problems(quality, count, seed)):
        solution = solve_sca(problem, optimum.cut, threshold=FINEST, max_iterations=MAX_ITERATIONS)
        levels = np.array([own_scale_quality(problem, iterate) for iterate in solution.history])
        runs.append(own_scale_quality(problem, optimum) - levels)
        stop[i] = [stopping_iteration(levels, threshold) for threshold in THRESHOLDS]
        excess[i] = max(_excess(problem, iterate) for iterate in solution.history)
        rise[i] = np.diff(levels).min(initial=np.inf)
        end[i] = _end(solution, levels)
        if ENDS[end[i]] == "worse iterate refused":
            fixed, last = fix_cut(problem, solution.cut), solution.history[-1]
            following = next_iterate(compile_surrogate(fixed.structure, "lyu"), fixed, last)
            refused[i] = np.inf if following is None else levels[-1] - own_scale_quality(problem, following)
        tick()
    iterations = np.array([len(run) - 1 for run in runs])
    width = int(iterations.max()) + 1
    gap = np.stack([np.pad(run, (0, width - len(run)), mode="edge") for run in runs])
    return ScaGaps(gap, iterations, stop, np.take_along_axis(gap, stop, axis=1), excess, rise, end, refused)


def stopping_iteration(levels: Floats, threshold: float) -> int:
    """First iteration that raises the quality, in `levels`, by less than the threshold, or the last."""
    small = np.flatnonzero(np.diff(levels) < threshold)
    return int(small[0]) + 1 if small.size else len(levels) - 1


def _excess(problem: Problem, iterate: Solution) -> float:
    """Largest relative violation of a budget or a bound; variables of an unused side or link do not count."""
    spent = problem.evaluate(iterate)
    shares = [spent.delay / problem.delay_budget, spent.energy / problem.energy_budget]
    for side in ("device", "server"):
        ratio, clock = getattr(iterate, f"retained_{side}"), getattr(iterate, f"frequency_{side}")
        shares += [ratio, getattr(problem, f"retained_{side}_min") / ratio]
        if clock > 0.0:
            shares += [clock / getattr(problem, f"frequency_{side}_max")]
            shares += [getattr(problem, f"frequency_{side}_min") / clock]
    if iterate.power > 0.0:
        shares += [iterate.power / problem.power_max, problem.power_min / iterate.power]
    return max(shares) - 1.0


def _end(solution: Solution, levels: Floats) -> int:
    """Which of `ENDS` it was."""
    if solution.reason == BROKEN:
        return 3
    if len(levels) > 1 and levels[-1] - levels[-2] < FINEST:
        return 0
    return 2 if len(levels) > MAX_ITERATIONS else 1


def quantiles(values: NDArray[Any]) -> dict[str, Floats]:
    """Quantiles over the problems, the first axis, by name."""
    return {name: np.quantile(values, q, axis=0) for name, q in QUANTILES.items()}


def compute(names: Sequence[str] = tuple(QUALITIES), count: int = COUNT, seed: int = 0) -> dict[str, ScaGaps]:
    """Run the algorithm on `count` problems of every quality; those in `DRAWN` are drawn."""
    with tqdm(total=count * len(names), unit="problem", disable=None) as bar:
        return {name: sca_gaps(name, count, seed, partial(bar.update, 1)) for name in names}


def verdict(gaps: Mapping[str, ScaGaps]) -> dict[str, Any]:
    """What the runs say about claim L5.

    The algorithm ends before an iterate that is infeasible or worse, so the one that it refused counts, too.
    """
    measured = {
        name: {
            "runs": len(g.end),
            "iterates": int((g.iterations + 1).sum()),
            "largest_excess": float(g.excess.max()),
            "smallest_rise": float(g.rise.min()),
            "most_iterations": int(g.iterations.max()),
            "largest_refused_fall": float(g.refused.max()),
            "ends": {reason: int((g.end == k).sum()) for k, reason in enumerate(ENDS)},
            "largest_final_gap": float(g.gap[:, -1].max()),
            "smallest_gap": float(g.gap.min()),
        }
        for name, g in gaps.items()
    }
    everything = list(gaps.values())
    holds = {
        "every iterate is feasible": all((g.excess <= BUDGET_TOLERANCE).all() for g in everything),
        "the objective never rises": all(((g.rise >= 0.0) & (g.refused <= ROUNDING)).all() for g in everything),
        "it stops at the threshold": all((g.end <= 1).all() for g in everything),
        "the gap tends to 0": all((np.abs(g.gap[:, -1]) <= GLOBAL).all() for g in everything),
        "no iterate beats the optimum": all((g.gap >= -FINEST).all() for g in everything),
    }
    count = len(everything[0].end)
    return {
        "holds": {part: bool(value) for part, value in holds.items()},
        "measured": measured,
        "limits": {"excess": BUDGET_TOLERANCE, "refused_fall": ROUNDING, "final_gap": GLOBAL, "above_optimum": FINEST},
        "settings": {"scenario": SCENARIO, "problems": count, "threshold": FINEST, "decades": _DECADES},
    }


def table(gaps: Mapping[str, ScaGaps]) -> list[list[Any]]:
    """Quantiles: a row per quality and iteration, and per quality and threshold, with the iterations until it stops."""
    columns = [f"{what}_{name}" for what in ("gap", "iterations") for name in ("median", "90", "max")]
    rows: list[list[Any]] = [["quality", "by", "value", *columns]]
    for quality, g in gaps.items():
        by_iteration = zip(*quantiles(g.gap).values(), strict=True)
        rows += [[quality, "iteration", k, *parts, "", "", ""] for k, parts in enumerate(by_iteration)]
        parts = [*quantiles(g.stop_gap).values(), *quantiles(g.stop).values()]
        rows += [[quality, "threshold", *row] for row in zip(THRESHOLDS, *parts, strict=True)]
    return rows


def draw(gaps: Mapping[str, ScaGaps]) -> Pictures:
    """The gaps of the qualities in `DRAWN`, by iteration and by threshold."""
    title = f"Successive convex approximation, {SCENARIO}, best cut"
    figure, axes = panels(title, (9.0, 4.4), 1, 2, {"wspace": 0.06}, sharey=True)
    left, right = axes[0]
    for name, colour in DRAWN.items():
        if name in gaps:
            _curves(left, np.arange(gaps[name].gap.shape[1]), gaps[name].gap, name, colour, "")
            _curves(right, np.array(THRESHOLDS), gaps[name].stop_gap, name, colour, "o")
    right.plot(THRESHOLDS, THRESHOLDS, color=GREY, linewidth=0.8, zorder=1, label="gap = threshold")
    left.set_yscale("log")
    left.set_xscale("symlog", linthresh=1.0, linscale=0.3)
    ticks = [0, *(k for k in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500) if k < left.get_xlim()[1])]
    left.set_xticks(ticks, [str(k) for k in ticks])
    left.set_xticks([], minor=True)
    left.set_xlim(left=0.0)
    right.set_xscale("log")
    right.invert_xaxis()
    left.set_xlabel("iterations")
    right.set_xlabel("stopping threshold, rise of the quality per iteration (1)")
    left.set_ylabel("gap to the exact optimum in quality (1)")
    legend_below(figure, right, 3)
    return {"": figure}


def _curves(axis: Any, x: NDArray[Any], values: Floats, name: str, colour: str, marker: str) -> None:
    """Quantiles of one quality; values below rounding are drawn on the floor."""
    for part, y in quantiles(values).items():
        label = f"{name.replace('_', ' ')}, {part}"
        style = {"color": colour, "linestyle": _STYLES[part], "marker": marker, "markersize": 4, "zorder": 3}
        axis.plot(x, np.maximum(y, _FLOOR), label=label, **style)


STUDIES = (Study("sca_convergence", compute, table, verdict, draw),)
