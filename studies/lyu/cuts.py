"""Quality against the cut for networks, prompts, qualities and budgets (Lyu et al., Fig. 6; claim L10)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from baselines.output import BLUE, GREEN, ORANGE, PURPLE, VERMILION
from coinfer_gym import Problem, solve_exact, solve_exact_batch
from studies.drawing import label_columns, legend_below, panels
from studies.figure import Floats, Pictures, Study, number_text
from studies.lyu.problems import (
    NETWORKS,
    PROMPTS,
    QUALITY_TITLES,
    TOLERANCE,
    base_problem,
    feasible_values,
    group_coinciding,
    group_title,
    run_sca,
    sca_difference,
)

BUDGETS = ((1.0, 1.0), (0.5, 1.0), (1.0, 0.5), (0.3, 0.3), (1.0, 0.08))
"""Delay and energy budgets relative to the scenario's; the first pair is the scenario's own."""

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
    keys: list[Key] = [
        (network, prompt, name, pair)
        for network in NETWORKS
        for prompt in PROMPTS
        for name in names
        for pair in budgets
    ]
    problems = [_tighten(base_problem(network, name, prompt), pair) for network, prompt, name, pair in keys]
    tasks = [(problem, cut) for problem in problems for cut in range(problem.workload.cuts)]
    quality, distortion = run_sca(tasks, jobs, "cuts")
    ends = np.cumsum([problem.workload.cuts for problem in problems])[:-1]
    found = zip(np.split(quality, ends), np.split(distortion, ends), strict=True)
    cuts: dict[Key, Cuts] = {}
    for key, problem, sca in zip(keys, problems, found, strict=True):
        exact = _exact(problem)
        cuts[key] = Cuts(*exact, *sca, _break_even(problem, float(np.nan_to_num(exact[0][1:-1], nan=-1.0).max())))
    return cuts


def _tighten(problem: Problem, pair: tuple[float, float]) -> Problem:
    """The problem with other budgets."""
    delay, energy = problem.delay_budget * pair[0], problem.energy_budget * pair[1]
    return replace(problem, delay_budget=delay, energy_budget=energy)


def _exact(problem: Problem) -> tuple[Floats, Floats]:
    """Quality and relative distortion of every cut's optimum."""
    rows = [solve_exact_batch(problem, cut=cut) for cut in range(problem.workload.cuts)]
    return feasible_values(problem, np.array(rows))


def _break_even(problem: Problem, inner: float) -> float:
    """Raw sample, in embeddings, above which the server alone is worse than `inner`; infinite if it never is."""

    def server_wins(ratio: float) -> bool:
        workload = problem.workload.with_input_bits(ratio * embedding)
        solution = solve_exact(replace(problem, workload=workload), cut=0)
        return solution.feasible and solution.quality >= inner

    embedding = float(problem.workload.upload_bits[1])
    low, high = _SAMPLES
    if not server_wins(low) or server_wins(high):
        return 0.0 if not server_wins(low) else math.inf
    while high > low * (1.0 + 1e-6):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if server_wins(middle) else (low, middle)
    return high


def verdict(cuts: Mapping[Key, Cuts]) -> dict[str, Any]:
    """What the cuts say about claim L10."""
    measured = {key: {**_measure(part.quality), "break_even": part.break_even} for key, part in cuts.items()}
    multimodal = {key: part for key, part in measured.items() if key[1] == "multimodal"}
    own = {key: part for key, part in multimodal.items() if key[3] == (1.0, 1.0)}
    claim = "L10: an inner cut beats both ends, raw sample larger than an embedding, the scenario's budgets"
    failed = {key: part for key, part in multimodal.items() if not part["inner_wins"]}
    found = [f"{_name(key)}: {_describe(part)}" for key, part in failed.items()]
    wins = sum(part["inner_wins"] for part in multimodal.values())
    found.append(f"Multimodal prompts, all budgets: an inner cut beats both ends in {wins} of {len(multimodal)} cases.")
    best = sorted({part["best_inner_cut"] for part in multimodal.values() if part["inner_wins"]})
    found.append(f"The best inner cut is then among {best}; every inner cut of a network uploads the same bits.")
    for network in dict.fromkeys(key[0] for key in own):
        sizes = [part["break_even"] for key, part in own.items() if key[0] == network]
        found.append(
            f"{network}, the scenario's budgets: an inner cut beats the server from a raw sample of "
            f"{min(sizes):.2f} to {max(sizes):.2f} embeddings on."
        )
    text = {key: part for key, part in measured.items() if key[1] == "text"}
    ends = {name: sum(part["best"] == name for part in text.values()) for name in ("on_server", "inner", "on_device")}
    found.append(
        f"Text-only prompts, all budgets: best on the server in {ends['on_server']}, at an inner cut in "
        f"{ends['inner']}, on the device in {ends['on_device']} of {len(text)} cases."
    )
    found += [f"{_name(key)}: {_describe(part)}" for key, part in text.items() if part["best"] != "on_server"]
    found += [_describe_first_block(network) for network in dict.fromkeys(key[0] for key in cuts)]
    compared = {
        prompt: sca_difference(
            *(
                np.concatenate([getattr(part, field) for key, part in cuts.items() if key[1] == prompt])
                for field in ("quality", "sca_quality")
            )
        )
        for prompt in PROMPTS
    }
    return {
        "holds": {claim: bool(own) and all(part["inner_wins"] for part in own.values())},
        "found": found,
        "measured": {"sca": compared, "cases": {_name(key): part for key, part in measured.items()}},
    }


def _measure(quality: Floats) -> dict[str, Any]:
    """Ends and best inner cut of one case; an infeasible cut has no quality."""
    inner = np.nan_to_num(quality[1:-1], nan=-1.0)
    ends = {"on_server": float(quality[0]), "inner": float(inner.max()), "on_device": float(quality[-1])}
    ranked = {name: -1.0 if np.isnan(value) else value for name, value in ends.items()}
    lead = ranked["inner"] - max(ranked["on_server"], ranked["on_device"])
    return {
        "best_inner_cut": int(inner.argmax()) + 1,
        **{name: value if value >= 0.0 else None for name, value in ranked.items()},
        "inner_leads_by": lead,
        "inner_wins": bool(lead > TOLERANCE),
        "best": "inner" if lead > TOLERANCE else max(("on_server", "on_device"), key=lambda name: ranked[name]),
    }


def _describe(part: Mapping[str, Any]) -> str:
    """The numbers of one case, in words."""
    values = (part[name] for name in ("on_server", "inner", "on_device"))
    server, inner, device = ("infeasible" if value is None else f"{value:.4f}" for value in values)
    return f"on the server {server}, cut {part['best_inner_cut']} {inner}, on the device {device}"


def _describe_first_block(network: str) -> str:
    """What sets the first block apart: the embedding adds parameters that cost no operations."""
    workload = base_problem(network, "rate_distortion").workload
    parameters = workload.parameters_device[1] / workload.parameters
    flops = workload.flops_device[1] / workload.flops
    return f"{network}: block 1 holds {parameters:.1%} of the parameters at {flops:.1%} of the operations."


def _name(key: Key) -> str:
    network, prompt, quality, (delay, energy) = key
    return f"{network}, {prompt}, {QUALITY_TITLES[quality]}, {delay:g} T0, {energy:g} E0"


def table(cuts: Mapping[Key, Cuts]) -> list[list[Any]]:
    """All cuts, the header first."""
    values = ["quality", "relative_distortion", "sca_quality", "sca_relative_distortion"]
    rows: list[list[Any]] = [
        ["network", "prompt", "quality_name", "relative_delay_budget", "relative_energy_budget", "cut", *values]
    ]
    for (network, prompt, quality, pair), part in cuts.items():
        rows += [
            [network, prompt, quality, *pair, cut, *(number_text(value) for value in of_cut)]
            for cut, of_cut in enumerate(zip(*part[:4], strict=True))
        ]
    return rows


def draw(cuts: Mapping[Key, Cuts]) -> Pictures:
    """A row of panels per network and prompt, a column per quality; qualities that coincide share one."""
    from matplotlib.lines import Line2D

    names, pairs = list(dict.fromkeys(key[2] for key in cuts)), list(dict.fromkeys(key[3] for key in cuts))
    of_quality = {
        name: np.concatenate([part.quality for key, part in cuts.items() if key[2] == name]) for name in names
    }
    groups = group_coinciding(of_quality)
    rows = [(network, prompt) for network in NETWORKS for prompt in PROMPTS]
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
    label_columns(axes, map(group_title, groups.values()), "cut, blocks on the device")
    handles = [
        Line2D([], [], linewidth=1.5, markersize=3.5, label=f"{delay:g} $T_0$, {energy:g} $E_0$", **look)
        for (delay, energy), look in zip(pairs, _LOOKS, strict=False)
    ]
    handles.append(Line2D([], [], marker="o", linestyle="", color="black", label="ring: SCA", **_RING))
    legend_below(figure, handles, 6)
    return {"": figure}


def about(cuts: Mapping[Key, Cuts]) -> dict[str, Any]:
    """Limits of the verdict and settings."""
    settings = {
        "scenarios": NETWORKS,
        "prompts": {prompt: base_problem("BERT", "rate_distortion", prompt).workload.input_bits for prompt in PROMPTS},
        "gain": "mean of the scenario, no fading; nothing is random",
        "relative_budgets": list(dict.fromkeys(key[3] for key in cuts)),
    }
    return {"limits": {"quality": TOLERANCE}, "settings": settings}


STUDIES = (Study("cuts", compute, table, verdict, draw, about),)
