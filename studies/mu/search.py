"""Global optimizers on P1 and on standard functions, on equal budgets, and the cost of Algorithm 1 (claim M8).

A curve is the best result within the budgets so far. On P1, the optimisation problem of Lyu et al. (eq. 44), it ends at
the exact optimum; until a search finds anything within the budgets, its gap is the whole quality of the optimum. The
standard functions have no constraints.

The cost is that of one run with the settings of Mu et al. (five groups, twenty scales that shrink by 1.3), in both
forms of `baselines.quantum`. Beside it stands how good the result is: a search that ends early is cheap in any
dimension.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, rosen
from tqdm import tqdm

from baselines.optimizers import OPTIMIZERS, SearchProblem
from baselines.output import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from baselines.quantum import FORMS, Box, minimize_quantum
from baselines.search import P1Search
from studies.drawing import legend_below, panels
from studies.figure import Floats, Ints, Pictures, Study
from studies.lyu.problems import SCENARIO
from studies.lyu.sca_convergence import draw_problems

QUALITIES = ("rate_distortion", "magnitude_pruning")
COUNT = 10
EVALUATIONS = 5000
REPEATS = 7
DIMENSIONS = (6, 12)
SIZES = (2, 4, 8, 16, 32, 64)
SLACK = 0.1
"""By how much a fitted exponent may exceed 1 and still count as linear."""

ABOVE = 1e-9
"""By how much rounding may put a search above the exact optimum."""

QUARTILES = (0.25, 0.5, 0.75)
TITLES = {
    "quantum_printed": ("Algorithm 1, as printed", SKY, "-"),
    "quantum_mqhoa_5": ("Algorithm 1, MQHOA, 5 groups", BLUE, "-"),
    "quantum_mqhoa": ("Algorithm 1, MQHOA, 30 groups", BLACK, "-"),
    "differential_evolution": ("differential evolution", VERMILION, "--"),
    "dual_annealing": ("dual annealing", ORANGE, "-."),
    "cma_es": ("CMA-ES", GREEN, "--"),
    "genetic_algorithm": ("genetic algorithm", PURPLE, "-."),
    "random_search": ("random search", GREY, ":"),
}
"""Name, colour and line of each optimizer."""

_PACKAGES = ("scipy", "cma", "pymoo")
_FLOOR = 1e-6
PAPER: dict[str, Any] = {"k": 5, "scales": 20, "factor": 1.3}
"""Settings of Mu et al., of which the cost is measured."""

_LINES = {"printed": "-", "mqhoa": "--"}


def sphere(z: Floats) -> Floats:
    """Sum of squares."""
    value: Floats = (z**2).sum(axis=0)
    return value


def rosenbrock(z: Floats) -> Floats:
    """A bent valley, its minimum at 1; moved to 0 like the others."""
    return np.asarray(rosen(z + 1.0))


def rastrigin(z: Floats) -> Floats:
    """A bowl with a minimum near every point of whole numbers."""
    value: Floats = (z**2 - 10.0 * np.cos(2.0 * np.pi * z) + 10.0).sum(axis=0)
    return value


def ackley(z: Floats) -> Floats:
    """A funnel with many minima on its flat rim."""
    radius, waves = np.sqrt((z**2).mean(axis=0)), np.cos(2.0 * np.pi * z).mean(axis=0)
    value: Floats = 20.0 * -np.expm1(-0.2 * radius) + np.e - np.exp(waves)
    return value


FUNCTIONS: dict[str, tuple[Callable[[Floats], Floats], float]] = {
    "sphere": (sphere, 5.12),
    "Rosenbrock": (rosenbrock, 2.048),
    "Rastrigin": (rastrigin, 5.12),
    "Ackley": (ackley, 32.768),
}
"""Standard functions, 0 at their minimum 0, and half the width of their box."""

_COLOURS = dict(zip(FUNCTIONS, (BLACK, VERMILION, BLUE, GREEN), strict=True))


class Growth(NamedTuple):
    """What runs of Algorithm 1 to their last scale cost and reach, each of shape (sizes, repeats)."""

    evaluations: Ints
    time: Floats  # of the processor, in s
    left: Floats  # the value at the end, 0 being the minimum, as a share of that of a point drawn at random


def shifted(name: str, dimension: int, seed: int) -> SearchProblem:
    """A standard function whose minimum lies somewhere in the middle half of its box."""
    function, half = FUNCTIONS[name]
    minimum = np.random.default_rng([seed, dimension]).uniform(-0.5 * half, 0.5 * half, (dimension, 1))
    return SearchProblem(lambda x: function(x - minimum), Box([(-half, half)] * dimension))


def best_so_far(result: OptimizeResult, grid: Ints, nothing: float) -> Floats:
    """Value of the best after each number of evaluations; `nothing` before the first."""
    times, levels = result.history
    last = np.searchsorted(times, grid, side="right")
    curve: Floats = np.concatenate([[nothing], levels])[last]
    return curve


Search = tuple[Callable[[], SearchProblem], float, int]
"""What makes a problem, its optimum, and the seed of the search."""


def gaps(searches: Sequence[Search], evaluations: int, grid: Ints, nothing: float, bar: Any) -> dict[str, Floats]:
    """Gap of each optimizer, shape (searches, grid)."""
    found: dict[str, Floats] = {}
    for name, optimizer in OPTIMIZERS.items():
        curves = []
        for make, optimum, seed in searches:
            curves.append(optimum + best_so_far(optimizer(make(), evaluations, seed), grid, nothing))
            bar.update()
        found[name] = np.stack(curves)
    return found


def growth(form: str, function: str, sizes: Sequence[int], repeats: int, seed: int) -> Growth:
    """What one run of Algorithm 1 to its last scale costs and reaches, by number of variables."""
    evaluations = np.zeros((len(sizes), repeats), np.int64)
    times, left = np.zeros((len(sizes), repeats)), np.zeros((len(sizes), repeats))
    for a, size in enumerate(sizes):
        for b in range(repeats):
            task = shifted(function, size, seed + b)
            pairs = np.stack([task.box.low, task.box.high], axis=1)
            begin = time.process_time()
            result = minimize_quantum(task.objective, pairs, form=form, vectorized=True, seed=seed + b, **PAPER)
            times[a, b] = time.process_time() - begin
            evaluations[a, b] = result.nfev
            at_random = task.objective(task.box.points(np.random.default_rng(seed + b).random((1000, size))))
            left[a, b] = result.fun / float(np.mean(at_random))
    return Growth(evaluations, times, left)


def exponent(sizes: Sequence[int], cost: NDArray[Any]) -> float:
    """Slope of the median cost against the number of variables, both as logarithms, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(np.median(cost, axis=1)), 1)[0])


class Data(NamedTuple):
    """Searches and costs."""

    grid: Ints  # numbers of evaluations at which the curves are read
    p1: dict[str, dict[str, Floats]]  # shape (problems, grid): gaps on P1, by quality and optimizer
    # shape (repeats, grid): values on standard functions, by dimension and function, and by optimizer
    standard: dict[tuple[int, str], dict[str, Floats]]
    sizes: tuple[int, ...]  # numbers of variables over which the cost is fitted
    costs: dict[tuple[str, str], Growth]  # by form and function


def compute(
    names: Sequence[str] = QUALITIES,
    count: int = COUNT,
    evaluations: int = EVALUATIONS,
    repeats: int = REPEATS,
    dimensions: Sequence[int] = DIMENSIONS,
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
) -> Data:
    """Search P1 and standard functions, and measure the cost of Algorithm 1, each `repeats` times."""
    grid = np.unique(np.geomspace(min(50, evaluations), evaluations, 80).astype(np.int64))
    searches = len(OPTIMIZERS) * (len(names) * count + len(FUNCTIONS) * len(dimensions) * repeats)
    with tqdm(total=searches, unit="search", disable=None) as bar:
        p1 = {}
        for name in names:
            problems = enumerate(draw_problems(name, count, seed))
            posed: list[Search] = [
                (partial(P1Search, problem), best.quality, seed + i) for i, (problem, best) in problems
            ]
            p1[name] = gaps(posed, evaluations, grid, 0.0, bar)
        standard = {}
        for dimension, name in product(dimensions, FUNCTIONS):
            posed = [(partial(shifted, name, dimension, seed + i), 0.0, seed + i) for i in range(repeats)]
            standard[dimension, name] = gaps(posed, evaluations, grid, np.inf, bar)
    growth(FORMS[0], "sphere", sizes[:1], 1, seed)  # compiles
    costs = {key: growth(*key, sizes, repeats, seed) for key in product(FORMS, FUNCTIONS)}
    return Data(grid, p1, standard, tuple(sizes), costs)


def verdict(data: Data) -> dict[str, Any]:
    """What the runs say about claim M8: growth is linear if its exponent is at most ``1 + SLACK``.

    That says nothing of equally good results. So whether the result gets worse with more variables stands beside it.
    """
    _, p1, standard, sizes, costs = data
    exponents = {key: (exponent(sizes, g.evaluations), exponent(sizes, g.time)) for key, g in costs.items()}
    left = {key: np.median(g.left, axis=1) for key, g in costs.items()}
    holds = {}
    for form in FORMS:
        own = [exponents[key] for key in costs if key[0] == form]
        holds[f"M8, {form}: evaluations to finish grow at most linearly"] = all(each[0] <= 1.0 + SLACK for each in own)
        holds[f"M8, {form}: seconds to finish grow at most linearly"] = all(each[1] <= 1.0 + SLACK for each in own)
        worse = any(left[key][-1] > left[key][0] for key in costs if key[0] == form)
        holds[f"M8, {form}: the result is as good in {sizes[-1]} variables as in {sizes[0]}"] = not worse
    lowest = min(float(curve.min()) for curves in p1.values() for curve in curves.values())
    holds["no search beats the exact optimum"] = lowest >= -ABOVE
    measured = {
        "growth": {
            ", ".join(key): {
                "exponent_evaluations": exponents[key][0],
                "exponent_seconds": exponents[key][1],
                "evaluations_median": np.median(g.evaluations, axis=1).tolist(),
                "seconds_median": np.median(g.time, axis=1).tolist(),
                "share_left_median": left[key].tolist(),
            }
            for key, g in costs.items()
        },
        "final_gap_quartiles": {quality: _final(curves) for quality, curves in p1.items()},
        "final_value_quartiles": {
            f"{function}, {dimension} variables": _final(curves) for (dimension, function), curves in standard.items()
        },
        "lowest_gap": lowest,
    }
    made_with = {name: metadata.version(name) for name in _PACKAGES}
    limits = {"exponent": 1.0 + SLACK, "above_optimum": ABOVE}
    settings = {"scenario": SCENARIO, "paper": PAPER, "optimizers made with": made_with}
    return {"holds": holds, "measured": measured, "limits": limits, "settings": settings}


def _final(curves: Mapping[str, Floats]) -> dict[str, list[float]]:
    return {name: np.quantile(curve[:, -1], QUARTILES).tolist() for name, curve in curves.items()}


def table(data: Data) -> list[list[Any]]:
    """Quartiles: a row per curve and number of evaluations, and per cost and number of variables."""
    grid, p1, standard, sizes, costs = data
    rows: list[list[Any]] = [["what", "name", "variables", "of", "evaluations", "quartile_1", "median", "quartile_3"]]
    everything = [("gap to the exact optimum", quality, 6, curves) for quality, curves in p1.items()]
    everything += [("value", function, dimension, curves) for (dimension, function), curves in standard.items()]
    for what, name, variables, curves in everything:
        for optimizer, curve in curves.items():
            parts = np.quantile(curve, QUARTILES, axis=0)
            rows += [[what, name, variables, optimizer, *row] for row in zip(grid, *parts, strict=True)]
    for (form, name), g in costs.items():
        for what, values in (("evaluations", g.evaluations), ("seconds", g.time), ("share left", g.left)):
            for size, parts in zip(sizes, np.quantile(values, QUARTILES, axis=1).T, strict=True):
                rows.append([f"{what} at the end", name, size, f"quantum_{form}", "", *parts])
    return rows


def draw(data: Data) -> Pictures:
    """P1 and the growth of the cost above, the standard functions below, a row per dimension."""
    grid, p1, standard, sizes, costs = data
    dimensions = sorted({dimension for dimension, _ in standard})
    title = f"Medians and quartiles; the floor is at {_FLOOR:g}. Above right: one run, k = 5, 20 scales."
    size = (13.0, 3.1 * (1 + len(dimensions)) + 0.8)
    figure, axes = panels(title, size, 1 + len(dimensions), 4, {"hspace": 0.05, "wspace": 0.04})
    for axis, (quality, curves) in zip(axes[0, :2], p1.items(), strict=False):
        _curves(axis, grid, curves)
        axis.set_title(f"P1, {quality.replace('_', ' ')}", fontsize=10)
        axis.set_ylabel("gap to the optimum in quality (1)")
    for axis in axes[0, len(p1) : 2]:
        axis.set_axis_off()
    _growth(axes[0, 2], sizes, costs, "evaluations")
    axes[0, 2].set_title("Algorithm 1: cost to finish", fontsize=10)
    axes[0, 2].set_ylabel("evaluations (1)")
    _growth(axes[0, 3], sizes, costs, "left")
    axes[0, 3].set_title("Algorithm 1: what is left at the end", fontsize=10)
    axes[0, 3].set_ylabel("share of a random point's value (1)")
    for row, dimension in zip(axes[1:], dimensions, strict=True):
        for axis, name in zip(row, FUNCTIONS, strict=True):
            _curves(axis, grid, standard[dimension, name])
            axis.set_title(f"{name}, {dimension} variables", fontsize=10)
        row[0].set_ylabel("value above the minimum (1)")
    legend_below(figure, axes[0, 0], 5, columnspacing=1.4)
    return {"": figure}


def _curves(axis: Any, grid: Ints, curves: Mapping[str, Floats]) -> None:
    """Medians with their quartiles; values below rounding are drawn on the floor."""
    for name, curve in curves.items():
        title, colour, line = TITLES[name]
        low, median, high = np.maximum(np.quantile(curve, QUARTILES, axis=0), _FLOOR)
        width = 2.2 if name.startswith("quantum") else 1.4
        axis.plot(grid, median, line, color=colour, linewidth=width, label=title, zorder=3)
        axis.fill_between(grid, low, high, color=colour, alpha=0.1, linewidth=0.0, zorder=2)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(grid[0], grid[-1])
    axis.set_xlabel("evaluations (1)")


def _growth(axis: Any, sizes: Sequence[int], costs: Mapping[tuple[str, str], Growth], part: str) -> None:
    """Medians by number of variables; for the evaluations with exponents, and a line of exponent 1."""
    for (form, name), g in costs.items():
        values = getattr(g, part)
        label = f"{name}, {form}"
        if part == "evaluations":
            label += f": exponent {exponent(sizes, values):.2f}"
        look = {"color": _COLOURS[name], "linestyle": _LINES[form], "linewidth": 1.4, "marker": "o", "markersize": 3.5}
        axis.plot(sizes, np.median(values, axis=1), label=label, **look)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    if part == "evaluations":
        start = min(float(np.median(g.evaluations[0])) for g in costs.values())
        line = start * np.array(sizes, np.float64) / sizes[0]
        axis.plot(sizes, line, color=GREY, linewidth=0.9, linestyle=":", label="linear", zorder=1)
        axis.set_ylim(top=float(line[-1]) ** 2 / start)  # room for the legend
        axis.legend(loc="upper left", frameon=False, fontsize=7)
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set_xlabel("decision variables (1)")


STUDIES = (Study("search", compute, table, verdict, draw),)
