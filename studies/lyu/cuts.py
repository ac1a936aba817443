"""Quality against the cut for networks, prompts, qualities and budgets (Lyu et al., Fig. 6; claim L10)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from baselines.output import BLUE, GREEN, ORANGE, PURPLE, VERMILION
from coinfer_gym import Problem, solve_exact, solve_exact_batch
from studies.drawing import label_columns, legend_below, panels
from studies.figure import Floats, Pictures, Study
from studies.lyu import problems
from studies.lyu.problems import NETWORKS, PROMPTS, QUALITY_TITLES, TOLERANCE, base_problem

BUDGETS = ((1.0, 1.0), (0.5, 1.0), (1.0, 0.5), (0.3, 0.3), (1.0, 0.08))
"""Delay and energy budgets relative to the scenario's; the first pair is the scenario's own."""

ENDS = ("on_server", "inner", "on_device")
_SAMPLES = (1e-4, 1e4)  # sizes of a raw sample that the search for the break-even looks at, in embeddings
_LOOKS: tuple[dict[str, Any], ...] = (
    {"color": BLUE, "linestyle": "-", "marker": "o"},
    {"color": VERMILION, "linestyle": (0, (5, 2)), "marker": "s"},
    {"color": GREEN, "linestyle": (0, (8, 2.5)), "marker": "^"},
    {"color": ORANGE, "linestyle": (0, (5, 1.5, 1, 1.5)), "marker": "D"},
    {"color": PURPLE, "linestyle": (0, (1.2, 1.2)), "marker": "v"},
)
_RING: dict[str, Any] = {"markerfacecolor": "none", "markersize": 7.5}


class Cuts(NamedTuple):
    """Optimum of every cut for one network, prompt, quality and pair of budgets; NaN where infeasible."""

    # shape (J + 1,): the exact optimum; the distortion is relative to keeping nothing
    quality: Floats
    distortion: Floats
    # shape (J + 1,): what successive convex approximation finds
    sca_quality: Floats
    sca_distortion: Floats
    # size of the raw sample, relative to an embedding, at which the server alone is as good as the best inner cut
    break_even: float


Key = tuple[str, str, str, tuple[float, float]]
"""Network, prompt, quality, and both budgets relative to the scenario's."""


def compute(
    names: Sequence[str] = tuple(QUALITY_TITLES), budgets: Sequence[tuple[float, float]] = BUDGETS, jobs: int = 1
) -> dict[Key, Cuts]:
    """Solve every cut under pairs of delay and energy budgets relative to the scenario's."""
    posed: dict[Key, Problem] = {}
    for network, prompt, name, (delay, energy) in product(NETWORKS, PROMPTS, names, budgets):
        base = base_problem(network, name, prompt)
        tight: dict[str, Any] = {
            "delay_budget": base.delay_budget * delay,
            "energy_budget": base.energy_budget * energy,
        }
        posed[network, prompt, name, (delay, energy)] = replace(base, **tight)
    tasks = [(problem, cut) for problem in posed.values() for cut in range(problem.workload.cuts)]
    ends = np.cumsum([problem.workload.cuts for problem in posed.values()])[:-1]
    found = zip(*(np.split(part, ends) for part in problems.run_sca(tasks, jobs, "cuts")), strict=True)
    cuts: dict[Key, Cuts] = {}
    for (key, problem), (sca_quality, sca_distortion) in zip(posed.items(), found, strict=True):
        rows = [solve_exact_batch(problem, cut=cut) for cut in range(problem.workload.cuts)]
        quality, distortion = problems.feasible_values(problem, np.array(rows))
        even = _break_even(problem, float(np.nan_to_num(quality[1:-1], nan=-1.0).max()))
        cuts[key] = Cuts(quality, distortion, sca_quality, sca_distortion, even)
    return cuts


def _break_even(problem: Problem, inner: float) -> float:
    """Raw sample, in embeddings, above which the server alone is worse than `inner`; infinite if it never is."""

    def server_wins(ratio: float) -> bool:
        workload = problem.workload.with_input_bits(ratio * float(problem.workload.upload_bits[1]))
        solution = solve_exact(replace(problem, workload=workload), cut=0)
        return solution.feasible and solution.quality >= inner

    low, high = _SAMPLES
    if not server_wins(low):
        return 0.0
    if server_wins(high):
        return math.inf
    while high > low * (1.0 + 1e-6):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if server_wins(middle) else (low, middle)
    return high


def verdict(cuts: Mapping[Key, Cuts]) -> dict[str, Any]:
    """What the cuts say about claim L10."""
    measured = {key: {**_measure(part.quality), "break_even": part.break_even} for key, part in cuts.items()}
    multimodal, text = ({key: part for key, part in measured.items() if key[1] == prompt} for prompt in PROMPTS)
    own = {key: part for key, part in multimodal.items() if key[3] == (1.0, 1.0)}
    wins = [part for part in multimodal.values() if part["inner_wins"]]
    found = [f"{_name(key)}: {_describe(part)}" for key, part in multimodal.items() if not part["inner_wins"]]
    found += [
        f"Multimodal prompts, all budgets: an inner cut beats both ends in {len(wins)} of {len(multimodal)} cases.",
        f"The best inner cut is then among {sorted({part['best_inner_cut'] for part in wins})}; every inner cut of a "
        "network uploads the same bits.",
    ]
    for network in dict.fromkeys(key[0] for key in own):
        sizes = [part["break_even"] for key, part in own.items() if key[0] == network]
        found.append(
            f"{network}, the scenario's budgets: an inner cut beats the server from a raw sample of "
            f"{min(sizes):.2f} to {max(sizes):.2f} embeddings on."
        )
    server, inner, device = (sum(part["best"] == name for part in text.values()) for name in ENDS)
    found.append(
        f"Text-only prompts, all budgets: best on the server in {server}, at an inner cut in "
        f"{inner}, on the device in {device} of {len(text)} cases."
    )
    found += [f"{_name(key)}: {_describe(part)}" for key, part in text.items() if part["best"] != "on_server"]
    for network in dict.fromkeys(key[0] for key in cuts):
        load = base_problem(network, "rate_distortion").workload
        prunable = [block.prunable for block in load.blocks]
        shares = prunable[0] / sum(prunable), load.flops_device[1] / load.flops
        found.append(
            f"{network}: block 1 holds {shares[0]:.1%} of the prunable weights at {shares[1]:.1%} of the operations."
        )
    compared = {}
    for prompt in PROMPTS:
        parts = [part for key, part in cuts.items() if key[1] == prompt]
        both = (np.concatenate([getattr(part, name) for part in parts]) for name in ("quality", "sca_quality"))
        compared[prompt] = problems.sca_difference(*both)
    claim = "L10: an inner cut beats both ends, raw sample larger than an embedding, the scenario's budgets"
    return {
        "holds": {claim: bool(own) and all(part["inner_wins"] for part in own.values())},
        "found": found,
        "measured": {"sca": compared, "cases": {_name(key): part for key, part in measured.items()}},
        "limits": {"quality": TOLERANCE},
        "settings": {
            "scenario": problems.SCENARIO,
            "prompts": {network: problems.prompt_bits(network) for network in NETWORKS},
            "gain": problems.GAIN,
            "relative_budgets": list(dict.fromkeys(key[3] for key in cuts)),
        },
    }


def _measure(quality: Floats) -> dict[str, Any]:
    """Ends and best inner cut of one case; an infeasible cut has no quality."""
    ranked = np.nan_to_num(quality, nan=-1.0).tolist()
    best = int(np.argmax(ranked[1:-1])) + 1
    values = dict(zip(ENDS, (ranked[0], ranked[best], ranked[-1]), strict=True))
    lead = values["inner"] - max(ranked[0], ranked[-1])
    return {
        "best_inner_cut": best,
        **{name: value if value >= 0.0 else None for name, value in values.items()},
        "inner_leads_by": lead,
        "inner_wins": lead > TOLERANCE,
        "best": "inner" if lead > TOLERANCE else "on_server" if ranked[0] >= ranked[-1] else "on_device",
    }


def _describe(part: Mapping[str, Any]) -> str:
    """The numbers of one case, in words."""
    server, inner, device = ("infeasible" if part[name] is None else f"{part[name]:.4f}" for name in ENDS)
    return f"on the server {server}, cut {part['best_inner_cut']} {inner}, on the device {device}"


def _name(key: Key) -> str:
    network, prompt, quality, (delay, energy) = key
    return f"{network}, {prompt}, {QUALITY_TITLES[quality]}, {delay:g} T0, {energy:g} E0"


def table(cuts: Mapping[Key, Cuts]) -> list[list[Any]]:
    """All cuts, the header first."""
    values = ["quality", "relative_distortion", "sca_quality", "sca_relative_distortion"]
    budgets = ["relative_delay_budget", "relative_energy_budget"]
    rows: list[list[Any]] = [["network", "prompt", "quality_name", *budgets, "cut", *values]]
    for (*key, pair), part in cuts.items():
        rows += [[*key, *pair, cut, *of_cut] for cut, of_cut in enumerate(zip(*part[:4], strict=True))]
    return rows


def draw(cuts: Mapping[Key, Cuts]) -> Pictures:
    """A row of panels per network and prompt, a column per quality; qualities that coincide share one."""
    pairs = list(dict.fromkeys(key[3] for key in cuts))
    groups = problems.group_coinciding(cuts, list(dict.fromkeys(key[2] for key in cuts)), 2, "quality")
    rows = list(product(NETWORKS, PROMPTS))
    title = "Every cut's optimum under delay and energy budgets relative to the scenario's (after Lyu et al., Fig. 6)"
    size = (1.0 + 3.5 * len(groups), 1.4 + 2.3 * len(rows))
    figure, axes = panels(title, size, len(rows), len(groups), {"hspace": 0.03}, sharey=True)
    for (network, prompt), of_row in zip(rows, axes, strict=True):
        for axis, name in zip(of_row, groups, strict=True):
            for pair, look in zip(pairs, _LOOKS, strict=False):
                part = cuts[network, prompt, name, pair]
                x = np.arange(len(part.quality))
                axis.plot(x, part.quality, linewidth=1.5, markersize=3.5, **look)
                axis.plot(x, part.sca_quality, "o", color=look["color"], markeredgewidth=0.7, **_RING)
            axis.set_xticks(x)
            axis.set_ylim(0.0, 1.04)
        of_row[0].set_ylabel(f"{network}, {prompt} prompt\nquality (1)", fontsize=9)
    label_columns(axes, groups.values(), "cut, blocks on the device")
    looks = {
        f"{delay:g} $T_0$, {energy:g} $E_0$": {"linewidth": 1.5, "markersize": 3.5, **look}
        for (delay, energy), look in zip(pairs, _LOOKS, strict=False)
    }
    looks["ring: SCA"] = {"marker": "o", "linestyle": "", "color": "black", **_RING}
    legend_below(figure, looks, 6)
    return {"": figure}


STUDIES = (Study("cuts", compute, table, verdict, draw),)
