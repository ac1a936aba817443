"""How far each search of the latency problem of Mu et al. ends above the proven optimum, in Tables II and III.

No search starts from a design that another one has chosen, and all have the same number of evaluations. What is
proposed here is shown once more with as many as its scheme has.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from baselines.layerwise.edges import search_edges
from baselines.layerwise.framework import Framework, Optimizer
from baselines.layerwise.rivals import EVALUATIONS as OWN_EVALUATIONS
from baselines.optimizers import OPTIMIZERS
from baselines.output import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from coinfer_gym.layerwise.optimum import solve_exact
from coinfer_gym.layerwise.problem import LayerwiseProblem
from studies.drawing import legend_below, panels
from studies.figure import Pictures, Study
from studies.mu.schemes import ALL, DEVICES, LINK_TITLES, LINKS, NETWORKS, OWN, if_accurate, predictors_used, problem_at

SCENARIOS = tuple(product(NETWORKS, DEVICES, LINKS))
EVALUATIONS = 20_000
"""Designs that every search looks at at most."""

PRINTED, MQHOA = "Algorithm 1, as printed", "Algorithm 1, MQHOA"
MQHOA_5 = f"{MQHOA} with 5 groups"
EDGES = "Proposed, same evaluations"
SEARCHES: dict[str, Optimizer] = {
    PRINTED: OPTIMIZERS["quantum_printed"],
    MQHOA: OPTIMIZERS["quantum_mqhoa"],
    MQHOA_5: OPTIMIZERS["quantum_mqhoa_5"],
    EDGES: search_edges,
    "differential evolution": OPTIMIZERS["differential_evolution"],
    "dual annealing": OPTIMIZERS["dual_annealing"],
    "CMA-ES": OPTIMIZERS["cma_es"],
    "genetic algorithm": OPTIMIZERS["genetic_algorithm"],
    "random search": OPTIMIZERS["random_search"],
}
"""Searches that are compared at equal evaluations."""

TOLERANCE, SECONDS = 0.02, 3.0
"""How far above the optimum the proposed search may end, and how much processor time it may take."""

_LOOKS = {
    PRINTED: (SKY, "o"),
    MQHOA: (BLACK, "s"),
    MQHOA_5: (GREY, "s"),
    EDGES: (ORANGE, "d"),
    "differential evolution": (BLUE, "v"),
    "dual annealing": (GREEN, "<"),
    "CMA-ES": (GREEN, "^"),
    "genetic algorithm": (PURPLE, "P"),
    "random search": (GREY, "x"),
    OWN: (VERMILION, "D"),
}
_LEAST_GAP = 1e-4

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
    best: float  # delay of the design that branch and bound found, in s
    bound: float  # no accurate design is faster
    seconds: float  # of the processor, for the proof

    def gap(self, name: str) -> float:
        """How far a search ended above the proven bound, as a share of it; infinite where it found nothing."""
        delay = self.searches[name].delay
        return math.inf if math.isnan(delay) else delay / self.bound - 1.0


Data = dict[Key, Compared]
"""By scenario."""


def compute(
    scenarios: Sequence[Key] = SCENARIOS,
    searches: Sequence[str] = tuple(SEARCHES),
    evaluations: int = EVALUATIONS,
    own_evaluations: int = OWN_EVALUATIONS,
    seed: int = 0,
) -> Data:
    """Search all scenarios with each optimizer, and prove their optima."""
    posed = {key: problem_at(*key[:2], LINKS[key[2]], key[2], ALL) for key in scenarios}
    asked = [(name, SEARCHES[name], evaluations) for name in searches] + [(OWN, search_edges, own_evaluations)]
    with tqdm(total=len(posed) * len(asked), desc="optimizers", unit="search", disable=None) as bar:
        return {key: _compare(problem, asked, seed, bar.update) for key, problem in posed.items()}


def _compare(
    problem: LayerwiseProblem, asked: Sequence[tuple[str, Optimizer, int]], seed: int, tick: Callable[[], object]
) -> Compared:
    searches = {}
    for name, optimizer, evaluations in asked:
        searches[name] = _search(problem, optimizer, evaluations, seed)
        tick()
    began = time.process_time()
    solution = solve_exact(problem)
    return Compared(searches, solution.delay, solution.delay_bound, time.process_time() - began)


def _search(problem: LayerwiseProblem, optimizer: Optimizer, evaluations: int, seed: int) -> Search:
    began = time.process_time()
    found = if_accurate(lambda: Framework(optimizer=optimizer, evaluations=evaluations).optimize(problem, seed))
    delay, used = (math.nan, evaluations) if found is None else (found.solution.delay, found.evaluations)
    return Search(delay, used, time.process_time() - began)


def verdict(data: Data) -> dict[str, Any]:
    """How far the searches end above the optimum, and whether the proposed one is near it in time."""
    names = list(next(iter(data.values())).searches)
    gaps = {name: {"-".join(key): part.gap(name) for key, part in data.items()} for name in names}
    seconds = {name: [part.searches[name].seconds for part in data.values()] for name in names}
    worst = {name: max(gaps[name].values()) for name in names}
    holds = {f"{name}: within {TOLERANCE:.0%} in every scenario": worst[name] <= TOLERANCE for name in names}
    holds[f"{OWN}: within {SECONDS:g} s of processor time in every scenario"] = max(seconds[OWN]) <= SECONDS
    holds["no search is faster than the proven bound"] = all(
        gap >= -1e-9 for each in gaps.values() for gap in each.values()
    )
    found = [
        f"{name}: {np.median(list(gaps[name].values())):.1%} above the proven bound (median), "
        f"{worst[name]:.1%} at most, {np.median(seconds[name]):.2f} s of processor time (median)."
        for name in names
    ]
    scenarios = {
        "-".join(key): {
            "best": part.best,
            "bound": part.bound,
            "seconds": part.seconds,
            "searches": {name: each._asdict() for name, each in part.searches.items()},
        }
        for key, part in data.items()
    }
    problems = {network: problem_at(network, device, LINKS[link], link) for network, device, link in data}
    return {
        "holds": holds,
        "found": found,
        "measured": {"gaps": gaps, "scenarios": scenarios},
        "limits": {"gap": TOLERANCE, "seconds": SECONDS},
        "settings": {"predictors": predictors_used(problems)},
    }


def table(data: Data) -> list[list[Any]]:
    """All searches, and the proofs, the header first."""
    rows: list[list[Any]] = [["scenario", "search", "delay", "gap", "evaluations", "seconds"]]
    for key, part in data.items():
        name = "-".join(key)
        for search, (delay, evaluations, seconds) in part.searches.items():
            rows.append([name, search, delay, part.gap(search), evaluations, seconds])
        rows.append([name, "branch and bound", part.best, part.best / part.bound - 1.0, "", part.seconds])
    return rows


def draw(data: Data) -> Pictures:
    """The gap of every search, a panel per network; what ends within a ten-thousandth lies on the lower edge."""
    networks = sorted({key[0] for key in data})
    title = "How far searches end above the proven optimum (nothing accurate found: upper edge)"
    figure, axes = panels(title, (12.4, 3.4 * len(networks) + 0.8), len(networks), 1)
    names = list(next(iter(data.values())).searches)
    finite = [part.gap(name) for part in data.values() for name in names if part.gap(name) < math.inf]
    top = 3.0 * max(*finite, _LEAST_GAP)
    for axis, network in zip(axes[:, 0], networks, strict=True):
        parts = {key: part for key, part in data.items() if key[0] == network}
        for place, part in enumerate(parts.values()):
            for number, name in enumerate(names):
                colour, marker = _LOOKS[name]
                shift = 0.8 * ((number + 0.5) / len(names) - 0.5)
                gap = min(top, max(part.gap(name), _LEAST_GAP))
                axis.plot(place + shift, gap, color=colour, marker=marker, markersize=6, clip_on=False)
        axis.axhline(TOLERANCE, color=BLACK, linewidth=0.9, linestyle="--", zorder=1)
        axis.set_yscale("log")
        axis.set_ylim(_LEAST_GAP, top)
        axis.set_title(NETWORKS[network], fontsize=10)
        axis.set_ylabel("delay / proven optimum - 1", fontsize=9)
        axis.set_xticks(range(len(parts)), [f"{DEVICES[key[1]]}\n{LINK_TITLES[key[2]]}" for key in parts], fontsize=7)
    marks = {name: dict(zip(("color", "marker"), _LOOKS[name], strict=True)) for name in names}
    looks: dict[str, Any] = {name: {"linestyle": "", "markersize": 6, **look} for name, look in marks.items()}
    looks[f"{TOLERANCE:.0%}"] = {"color": BLACK, "linewidth": 0.9, "linestyle": "--"}
    legend_below(figure, looks, 5, fontsize=8.5)
    return {"": figure}


STUDIES = (Study("layerwise_optimizer", compute, table, verdict, draw),)
