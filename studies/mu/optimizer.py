"""How close Algorithm 1 of Mu et al. comes to the optimum, and its cost by number of variables (claim M8).

On shipped scenarios its delay is compared with the bound that branch and bound proves, and with other optimizers at ten
times its evaluations. Its cost is measured on chains of convolutions, each of which has its own retained ratio.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from baselines.layerwise.designs import DELAY_CALCULATOR, DesignSearch, ParametersGenerator
from baselines.layerwise.framework import Framework, Optimizer, run_algorithm_1, search_each_cut
from baselines.layerwise.rivals import EVALUATIONS as EACH_CUT_EVALUATIONS
from baselines.optimizers import OPTIMIZERS
from baselines.output import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from coinfer_gym import InvalidInputError
from coinfer_gym.layerwise.network import Block, Group, Layer, Network
from coinfer_gym.layerwise.optimum import solve_exact
from coinfer_gym.layerwise.problem import LayerwiseProblem
from studies.drawing import legend_below, panels
from studies.figure import Floats, Ints, Pictures, Study
from studies.mu.schemes import DEVICES, LINK_TITLES, LINKS, NETWORKS, linear_predictor, predictors_used, problem_at
from studies.mu.search import SLACK, exponent

SCENARIOS = tuple(
    (network, device, link)
    for network in NETWORKS
    for device, link in (("rpi3b", "3g"), ("rpi3b", "4g"), ("rpi4b", "4g"), ("tk1", "4g"))
)
EVALUATIONS = 20_000
"""Designs that Algorithm 1 looks at at most, as printed."""

TIMES_MORE = 10
RIVALS = {
    "CMA-ES": "cma_es",
    "differential evolution": "differential_evolution",
    "genetic algorithm": "genetic_algorithm",
    "random search": "random_search",
}
PRINTED, EACH_CUT = "Algorithm 1, as printed", "Algorithm 1 at each cut"
NODES = 300_000
"""Boxes that branch and bound looks at at most, in each scenario."""

TOLERANCE = 0.01
"""Relative difference of delays within which a search is as good as another, and branch and bound stops."""

SIZES = (2, 4, 8, 16, 32, 64)
REPEATS = 3
_CHAIN = {"channels": 16, "side": 8, "loss": 0.04}
_UNLIMITED = 10**6
_LOOKS = {
    PRINTED: (SKY, "o"),
    EACH_CUT: (VERMILION, "D"),
    "CMA-ES": (GREEN, "^"),
    "differential evolution": (BLUE, "v"),
    "genetic algorithm": (PURPLE, "P"),
    "random search": (GREY, "x"),
}

Key = tuple[str, str, str]
"""Network, device, link."""


class Search(NamedTuple):
    """One search of one problem."""

    delay: float  # in s; NaN if nothing accurate was found
    evaluations: int
    seconds: float  # of the processor


class Compared(NamedTuple):
    """One scenario."""

    searches: dict[str, Search]  # by name
    best: float  # least delay that is known, that of branch and bound included, in s
    bound: float  # no accurate design is faster; NaN without a proof, as for a predictor with a linear form
    nodes: int  # boxes looked at
    seconds: float  # of the processor, for the proof


class Growth(NamedTuple):
    """What Algorithm 1 costs to its last scale."""

    variables: Ints  # shape (sizes,)
    evaluations: Ints  # shape (sizes, repeats)
    seconds: Floats  # shape (sizes, repeats): of the processor


class Data(NamedTuple):
    """Searches by scenario, and the growth of the cost."""

    compared: dict[Key, Compared]
    grown: Growth


def compute(
    scenarios: Sequence[Key] = SCENARIOS,
    evaluations: int = EVALUATIONS,
    each_cut_evaluations: int = EACH_CUT_EVALUATIONS,
    nodes: int = NODES,
    sizes: Sequence[int] = SIZES,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Data:
    """Search the scenarios, each form of Algorithm 1 within its own budget, and measure the cost on chains."""
    compared = {}
    for key in tqdm(scenarios, desc="optimizers", unit="scenario", disable=None):
        compared[key] = compare(_problem(key), evaluations, each_cut_evaluations, nodes, seed)
    return Data(compared, growth(_problem(("alexnet", "rpi3b", "4g")), sizes, repeats, seed))


def _problem(key: Key) -> LayerwiseProblem:
    return problem_at(*key[:2], LINKS[key[2]], key[2])


def compare(
    problem: LayerwiseProblem, evaluations: int, each_cut_evaluations: int, nodes: int, seed: int = 0
) -> Compared:
    """All searches of one problem, and what branch and bound proves from the best of them."""
    rows: list[Floats] = []
    searches = {PRINTED: _search(problem, run_algorithm_1, evaluations, seed, rows)}
    searches[EACH_CUT] = _search(problem, search_each_cut, each_cut_evaluations, seed, rows)
    more = TIMES_MORE * (searches[PRINTED].evaluations or evaluations)
    for title, name in RIVALS.items():
        searches[title] = _search(problem, OPTIMIZERS[name], more, seed, rows)
    best = min((each.delay for each in searches.values() if not math.isnan(each.delay)), default=math.nan)
    if problem.predictor.coefficients.any():
        return Compared(searches, best, math.nan, 0, 0.0)
    began = time.process_time()
    solution = solve_exact(problem, tolerance=TOLERANCE, nodes=nodes, starts=np.array(rows) if rows else None)
    if not math.isnan(solution.gap):
        best = min(solution.delay, best) if rows else solution.delay
    return Compared(searches, best, solution.delay_bound, solution.nodes, time.process_time() - began)


def _search(problem: LayerwiseProblem, optimizer: Optimizer, evaluations: int, seed: int, rows: list[Floats]) -> Search:
    """One search; its design is added to the rows."""
    began = time.process_time()
    try:
        found = Framework(optimizer=optimizer, evaluations=evaluations).optimize(problem, seed)
    except InvalidInputError as error:
        if error.field != "accuracy_min":
            raise
        return Search(math.nan, 0, time.process_time() - began)
    rows.append(problem.row(found.solution))
    return Search(found.solution.delay, found.evaluations, time.process_time() - began)


def chain(length: int) -> Network:
    """Convolutions one after the other, each with its own retained ratio."""
    channels, side = int(_CHAIN["channels"]), int(_CHAIN["side"])
    groups = tuple(Group(f"conv{number}", channels) for number in range(1, length + 1))
    blocks = []
    before: str | int = 3
    for group in groups:
        blocks.append(Block(group.name, (Layer("conv", before, group.name, side, side, 3),), group.name, side**2))
        before = group.name
    return Network(f"chain of {length}", groups, tuple(blocks), 3 * (4 * side) ** 2)


def chain_problem(base: LayerwiseProblem, length: int) -> LayerwiseProblem:
    """The problem of a chain, each of whose ratios costs accuracy linearly: half of all pruning is allowed."""
    network = chain(length)
    loss = _CHAIN["loss"]
    predictor = linear_predictor(network, 1.0 - loss, np.full(length, loss / length))
    return replace(base, network=network, predictor=predictor, accuracy_min=1.0 - 0.5 * loss)


def growth(base: LayerwiseProblem, sizes: Sequence[int], repeats: int, seed: int = 0) -> Growth:
    """Cost of Algorithm 1 as printed, to its last scale, by number of variables."""
    variables = np.zeros(len(sizes), np.int64)
    evaluations, seconds = np.zeros((len(sizes), repeats), np.int64), np.zeros((len(sizes), repeats))
    for a, size in enumerate(sizes):
        problem = chain_problem(base, size)
        generator = ParametersGenerator(problem)
        variables[a] = len(generator.box.low)
        search = DesignSearch(problem, generator, DELAY_CALCULATOR)
        for b in range(-1 if a == 0 else 0, repeats):  # the first run compiles
            began = time.process_time()
            result = run_algorithm_1(search, _UNLIMITED, seed + max(0, b))
            seconds[a, max(0, b)] = time.process_time() - began
            evaluations[a, max(0, b)] = result.nfev
    return Growth(variables, evaluations, seconds)


def verdict(data: Data) -> dict[str, Any]:
    """What the searches say about claim M8, and how far Algorithm 1 is from the best."""
    compared, grown = data
    exponents = {
        "evaluations": exponent(grown.variables.tolist(), grown.evaluations),
        "seconds": exponent(grown.variables.tolist(), np.maximum(grown.seconds, 1e-6)),
    }
    holds = {f"M8: {name} to finish grow at most linearly": value <= 1.0 + SLACK for name, value in exponents.items()}
    found = [
        f"M8: over {grown.variables[0]} to {grown.variables[-1]} variables evaluations grow with exponent "
        f"{exponents['evaluations']:.2f}, processor time with {exponents['seconds']:.2f}."
    ]
    above = {
        name: {key: part.searches[name].delay / part.best - 1.0 for key, part in compared.items()}
        for name in (PRINTED, EACH_CUT, *RIVALS)
    }
    for name in (PRINTED, EACH_CUT):
        worst = max(above[name].values(), default=0.0)
        holds[f"{name}: within {TOLERANCE:.0%} of the best known in every scenario"] = worst <= TOLERANCE
        seconds = [part.searches[name].seconds for part in compared.values()]
        found.append(
            f"{name}: at most {worst:.1%} above the best known, {np.median(seconds):.2f} s of processor time (median)."
        )
    beaten = [name for name in RIVALS if any(above[name][key] < above[EACH_CUT][key] - TOLERANCE for key in compared)]
    holds[
        f"{EACH_CUT}: no rival with {TIMES_MORE}x the printed algorithm's evaluations leads by over {TOLERANCE:.0%}"
    ] = not beaten
    found += [f"{name}: {range_of(above[name].values())} above the best known." for name in RIVALS]
    gaps = {key: 1.0 - part.bound / part.best for key, part in compared.items() if not math.isnan(part.bound)}
    holds["no search is faster than the proven bound"] = all(
        not each.delay < part.bound * (1.0 - 1e-9) for part in compared.values() for each in part.searches.values()
    )
    found.append(
        f"Branch and bound proves the best known to be within {range_of(gaps.values())} of the optimum "
        f"({len(gaps)} of {len(compared)} scenarios have a proof)."
    )
    scenarios = {
        "-".join(key): {
            "best": part.best,
            "bound": part.bound,
            "gap": 1.0 - part.bound / part.best,
            "nodes": part.nodes,
            "seconds": part.seconds,
            "searches": {name: each._asdict() for name, each in part.searches.items()},
        }
        for key, part in compared.items()
    }
    used = predictors_used({key[0]: _problem(key) for key in data.compared})
    return {
        "holds": holds,
        "found": found,
        "measured": {"exponents": exponents, "scenarios": scenarios},
        "limits": {"delay": TOLERANCE, "exponent": 1.0 + SLACK},
        "settings": {"times_more": TIMES_MORE, "chain": _CHAIN, "predictors": used},
    }


def range_of(values: Any) -> str:
    """Smallest and largest of some shares as text."""
    numbers = [value for value in values if not math.isnan(value)]
    return f"{min(numbers):.1%} to {max(numbers):.1%}" if numbers else "nothing known"


def table(data: Data) -> list[list[Any]]:
    """All searches, then the cost by number of variables, the header first."""
    rows: list[list[Any]] = [["what", "scenario", "variables", "optimizer", "delay", "evaluations", "seconds"]]
    compared, grown = data
    for key, part in compared.items():
        name = "-".join(key)
        rows += [["search", name, "", optimizer, *each] for optimizer, each in part.searches.items()]
        rows.append(["best known", name, "", "", part.best, "", ""])
        rows.append(["bound", name, "", "branch and bound", part.bound, part.nodes, part.seconds])
    for variables, *costs in zip(*grown, strict=True):
        rows += [["cost", "chain", variables, PRINTED, "", *cost] for cost in zip(*costs, strict=True)]
    return rows


def draw(data: Data) -> Pictures:
    """Every search relative to the best known, with the proven bound; and the cost by number of variables."""
    from matplotlib.lines import Line2D

    title = "Algorithm 1, other optimizers and the exact optimum"
    figure, axes = panels(title, (12.4, 5.2), 1, 2, width_ratios=(1.9, 1.0))
    left, right = axes[0]
    _draw_searches(left, data.compared)
    _draw_growth(right, data.grown)
    handles = []
    for name, (colour, marker) in _LOOKS.items():
        label = f"{name}, {TIMES_MORE}x evaluations" if name in RIVALS else name
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="", markersize=6, label=label))
    handles.append(Line2D([], [], color=BLACK, linewidth=1.6, label="proven bound"))
    legend_below(figure, handles, 4, fontsize=8.5)
    return {"": figure}


def _draw_searches(axis: Any, compared: Mapping[Key, Compared]) -> None:
    for place, part in enumerate(compared.values()):
        for shift, (name, (colour, marker)) in enumerate(_LOOKS.items()):
            above = part.searches[name].delay / part.best
            axis.plot(place + 0.11 * (shift - 2.5), above, color=colour, marker=marker, markersize=6, linestyle="")
        if not math.isnan(part.bound):
            bound = [max(part.bound / part.best, 1e-3)] * 2
            axis.plot([place - 0.4, place + 0.4], bound, color=BLACK, linewidth=1.6)
    titles = [f"{NETWORKS[key[0]]}\n{DEVICES[key[1]]}\n{LINK_TITLES[key[2]]}" for key in compared]
    axis.axhline(1.0, color=GREY, linewidth=0.8, zorder=1)
    axis.set_yscale("log")
    axis.set_ylabel("delay / best known", fontsize=9)
    axis.set_xticks(range(len(titles)), titles, fontsize=6.5)


def _draw_growth(axis: Any, grown: Growth) -> None:
    for values, colour, marker, name in (
        (grown.evaluations, BLUE, "o", "evaluations"),
        (1e3 * grown.seconds, ORANGE, "s", "processor time (ms)"),
    ):
        axis.plot(grown.variables, np.median(values, axis=1), color=colour, marker=marker, label=name)
    linear = float(np.median(grown.evaluations[0])) * grown.variables / grown.variables[0]
    axis.plot(grown.variables, linear, ":", color=GREY, label="linear growth")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(grown.variables, [str(value) for value in grown.variables])
    axis.set_xlabel("decision variables", fontsize=9)
    axis.set_title("Algorithm 1 on a chain, to its last scale", fontsize=9.5)
    axis.legend(frameon=False, fontsize=8.5)


STUDIES = (Study("layerwise_optimizer", compute, table, verdict, draw),)
