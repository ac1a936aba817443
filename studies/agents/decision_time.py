"""Quality against decision time in the default queue.

The figure draws the stored results of ``configs/compare/full.yaml`` and computes only the clairvoyant bound of the same
worlds. Times are those of the stored run, on its machine. The clairvoyant itself is left out: it plans a whole episode
at once, from the future. So is the exact optimum of a single cut, whose many points would say the same.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pydantic

from baselines.bootstrap import paired_bootstrap
from baselines.compare import ROOT, CompareConfig
from baselines.output import BLACK, BLUE, GREEN, GREY, GRID, PURPLE, VERMILION
from coinfer_gym import InvalidInputError
from coinfer_gym.files import lock_folder
from studies.agents.bounds import clairvoyant_bounds
from studies.drawing import legend_below, panels, write_labels
from studies.figure import Pictures, Study, require

SUMMARY = ROOT / "docs/results/full/summary.json"
COMMAND = "python -m baselines.compare configs/compare/full.yaml --out docs/results/full"
"""What makes `SUMMARY`."""

KINDS = {
    "no look at the task": (GREY, ("random", "constant")),
    "each task alone, exact": (BLUE, ("myopic_exact",)),
    "each task alone, approximate": (VERMILION, ("myopic_sca", "quantum")),
    "foresight": (GREEN, ("slowdown", "queue_budget", "lyapunov", "predictive_control", "stochastic_dp")),
    "other": (PURPLE, ()),
}
"""Colour and policies by kind; all other policies are of the last kind."""

SHARE_OF_BUDGET = 0.01
"""Of the delay budget: a decision may take so long before its time, which no budget counts, matters."""

_EXACT, _APPROXIMATE = "myopic_exact", KINDS["each task alone, approximate"][1]
_MARKER = 2.5  # half a marker, in points


@dataclass(frozen=True)
class Point:
    """A policy in the picture."""

    label: str
    policy: str  # as the configuration names it
    plain: bool  # whether it is P1 as it stands, all cuts and all controls
    quality: tuple[float, float, float]  # delivered quality: mean and the ends of its interval
    time: tuple[float, float, float]  # decision time in s, likewise

    @property
    def kind(self) -> str:
        """Its kind in `KINDS`."""
        return next((kind for kind, (_, policies) in KINDS.items() if self.policy in policies), "other")


@dataclass(frozen=True)
class Results:
    """What is drawn."""

    points: tuple[Point, ...]  # all that are drawn, in the order of the configuration
    bound: tuple[float, float, float]  # clairvoyant bound: mean over the same worlds and the ends of its interval
    attained: float  # what the clairvoyant surely attains
    delay_budget: float  # in s
    worlds: int
    command: str  # what made them


def compute(
    summary: Path = SUMMARY, jobs: int | None = None, work: Path = Path("runs/figures/decision_time")
) -> Results:
    """Stored results of a comparison, and the clairvoyant bound of its worlds."""
    require([summary], COMMAND)
    try:
        stored = json.loads(summary.read_text(encoding="utf-8"))
        command = str(stored["command"])
        config = CompareConfig.model_validate(stored["config"])
        points = tuple(
            Point(
                label,
                entry.policy,
                not entry.options,
                _numbers(stored["policies"][label]["metrics"]["delivered"]),
                _numbers(stored["policies"][label]["metrics"]["decision_us"], 1e-6),
            )
            for label, entry in config.policies.items()
            if entry.policy != "clairvoyant" and not (entry.policy == _EXACT and "cut" in entry.options)
        )
    except (KeyError, TypeError, ValueError, pydantic.ValidationError) as error:
        raise InvalidInputError("summary", str(summary), f"It is no summary. Run '{COMMAND}' anew.") from error
    with lock_folder(work):
        lower, upper = clairvoyant_bounds(config, work, jobs or os.cpu_count() or 1)
    estimate, _ = paired_bootstrap(upper[None, :, None])
    mean, low, high = (float(part[0, 0]) for part in estimate)
    env: Any = gym.make(config.environment, **config.env)
    delay_budget = float(env.unwrapped.scenario.delay_budget)
    return Results(points, (mean, low, high), float(lower.mean()), delay_budget, config.worlds, command)


def _numbers(estimate: Mapping[str, float], unit: float = 1.0) -> tuple[float, float, float]:
    return unit * float(estimate["mean"]), unit * float(estimate["low"]), unit * float(estimate["high"])


def verdict(results: Results) -> dict[str, Any]:
    """What the results say."""
    points = results.points
    best = max(points, key=lambda point: point.quality[0])
    exact_time = min((p.time[0] for p in points if p.policy == _EXACT and p.plain), default=math.inf)
    limit = SHARE_OF_BUDGET * results.delay_budget
    exceptions = {
        "no policy delivers more than the clairvoyant bound": [
            p.label for p in points if p.quality[0] > results.bound[0]
        ],
        "stochastic DP delivers the most": [p.label for p in (best,) if p.policy != "stochastic_dp"],
        "the most is delivered at decisions within a hundredth of the delay budget": [
            p.label for p in (best,) if p.time[0] > limit
        ],
        "every approximation decides more slowly than the exact optimum": [
            p.label for p in points if p.policy in _APPROXIMATE and p.time[0] <= exact_time
        ],
    }
    measured = {
        "bound": results.bound[0],
        "attained_by_clairvoyant": results.attained,
        "best": best.label,
        "best_share_of_bound": best.quality[0] / results.bound[0],
        "share_of_bound": {p.label: p.quality[0] / results.bound[0] for p in points},
        "slowest_decision_s": max(p.time[0] for p in points),
        "delay_budget_s": results.delay_budget,
        "worlds": results.worlds,
    }
    holds = {part: not found for part, found in exceptions.items()}
    about = {"claim": "quality in the queue costs little time", "results_made_by": results.command}
    return {"holds": holds, "exceptions": exceptions, "measured": measured, **about}


def table(results: Results) -> list[list[Any]]:
    """The picture's data: the header, a row per policy, and one of the bound."""
    parts = ("", "_low", "_high")
    header = ["policy", "kind", *(f"{name}{part}" for name in ("delivered", "decision_s") for part in parts)]
    rows: list[list[Any]] = [[*header, "share_of_bound"]]
    for point in results.points:
        quality, time = ([f"{value:.6g}" for value in values] for values in (point.quality, point.time))
        rows.append([point.label, point.kind, *quality, *time, f"{point.quality[0] / results.bound[0]:.6g}"])
    rows.append(["clairvoyant bound", "", *(f"{value:.6g}" for value in results.bound), "", "", "", "1"])
    return rows


def draw(results: Results) -> Pictures:
    """Quality against decision time, every point with its label."""
    title = f"Quality against decision time, {results.worlds} worlds, 95 % intervals"
    figure, axes = panels(title, (9.0, 6.2))
    axis = axes[0, 0]
    axis.axhspan(*results.bound[1:], color=GRID, alpha=0.5, linewidth=0)
    axis.axhline(results.bound[0], color=BLACK, linestyle="--", linewidth=1.2, label="clairvoyant bound")
    for kind, (colour, _) in KINDS.items():
        chosen = [point for point in results.points if point.kind == kind]
        if chosen:
            _dots(axis, chosen, colour, kind)
    times = [point.time[0] for point in results.points]
    axis.set_xscale("log")
    axis.set_xlim(min(times) / 4.0, max(times) * 4.0)
    axis.set_ylim(-0.06 * results.bound[2], 1.08 * results.bound[2])
    axis.set_xlabel("decision time, median of an episode (s)")
    axis.set_ylabel("delivered quality per task (1)")
    legend_below(figure, axis, 6, fontsize=8, columnspacing=1.5)
    bound = [(axis.get_xlim()[0], results.bound[0]), (axis.get_xlim()[1], results.bound[0])]
    intervals = [[(point.time[0], value) for value in point.quality[1:]] for point in results.points]
    places = {point.label: (point.time[0], point.quality[0]) for point in results.points}
    colours = {point.label: KINDS[point.kind][0] for point in results.points}
    write_labels(axis, places, colours, [*intervals, bound], _MARKER)
    return {"": figure}


def _dots(axis: Any, points: Sequence[Point], colour: str, label: str) -> None:
    """Policies of one kind with the intervals of their quality."""
    mean, low, high = np.array([point.quality for point in points]).T
    error = np.maximum([mean - low, high - mean], 0.0)
    times = [point.time[0] for point in points]
    look = {"markersize": 2.0 * _MARKER, "capsize": 2, "elinewidth": 0.8, "zorder": 3, "label": label}
    axis.errorbar(times, mean, yerr=error, fmt="o", color=colour, **look)


STUDIES = (Study("decision_time", compute, table, verdict, draw),)
