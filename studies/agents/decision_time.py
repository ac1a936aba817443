"""Quality against decision time in the default queue: what a policy delivers, and how long it thinks about a task.

It draws the stored results of ``configs/compare/full.yaml`` and computes no more than the clairvoyant bound of the
same worlds. Times are those of the run that is stored, on the machine it ran on. The clairvoyant is no point of the
picture: it plans a whole episode at once, from what nobody knows.
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
from numpy.typing import NDArray

from baselines.bootstrap import paired_bootstrap
from baselines.compare import ROOT, CompareConfig
from baselines.output import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    GRID,
    PURPLE,
    VERMILION,
    render,
    style,
)
from coinfer_gym import InvalidInputError
from studies.agents.load import clairvoyant_bounds
from studies.figure import finish_axis, write_figure

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
"""Colour and policies by kind; what is named nowhere is of the last."""

SHARE_OF_BUDGET = 0.01
"""Of the delay budget: what a decision may take so that its time, which no budget counts, does not matter."""

_EXACT, _APPROXIMATE = "myopic_exact", KINDS["each task alone, approximate"][1]
_MARKER = 2.5  # half a marker, in points
_RINGS = (5.0, 8.0, 12.0, 17.0, 23.0, 30.0, 38.0, 48.0, 60.0, 75.0, 95.0, 120.0)  # points from a dot to its label
_ANGLES = 2.0 * math.pi / 24 * np.arange(24)


@dataclass(frozen=True)
class Point:
    """A policy in the picture.

    Attributes
    ----------
    label : str
    policy : str
        As the configuration names it.
    plain : bool
        Whether it is P1 as it stands, all cuts and all controls.
    quality : tuple of float
        Delivered quality: mean and the ends of its interval.
    time : tuple of float
        Decision time in s, likewise.
    """

    label: str
    policy: str
    plain: bool
    quality: tuple[float, float, float]
    time: tuple[float, float, float]

    @property
    def kind(self) -> str:
        """Its kind in `KINDS`."""
        return next((kind for kind, (_, policies) in KINDS.items() if self.policy in policies), "other")


@dataclass(frozen=True)
class Results:
    """What is drawn.

    Attributes
    ----------
    points : tuple of Point
        All but the clairvoyant, in the order of the configuration.
    bound : tuple of float
        Clairvoyant bound: mean over the same worlds and the ends of its interval.
    attained : float
        What the clairvoyant surely attains.
    delay_budget : float
        In s.
    worlds : int
    command : str
        What made them.
    """

    points: tuple[Point, ...]
    bound: tuple[float, float, float]
    attained: float
    delay_budget: float
    worlds: int
    command: str


def load_results(summary: Path, work: Path, jobs: int = 1) -> Results:
    """Stored results of a comparison, and the clairvoyant bound of its worlds.

    Parameters
    ----------
    summary : Path
        ``summary.json`` of `baselines.compare`.
    work : Path
        Folder that remembers the bounds.
    jobs : int
        Number of processes.

    Raises
    ------
    InvalidInputError
        If the file is missing or is no such summary.
    """
    if not summary.is_file():
        raise InvalidInputError("summary", str(summary), f"There is no such file. Run '{COMMAND}' first.")
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
            if entry.policy != "clairvoyant"
        )
    except (KeyError, TypeError, ValueError, pydantic.ValidationError) as error:
        raise InvalidInputError("summary", str(summary), f"It is no summary. Run '{COMMAND}' anew.") from error
    lower, upper = clairvoyant_bounds(config, work, jobs)
    estimate, _ = paired_bootstrap(upper[None, :, None])
    mean, low, high = (float(part[0, 0]) for part in estimate)
    env: Any = gym.make(config.environment, **config.env)
    delay_budget = float(env.unwrapped.scenario.delay_budget)
    return Results(points, (mean, low, high), float(lower.mean()), delay_budget, config.worlds, command)


def _numbers(estimate: Mapping[str, float], unit: float = 1.0) -> tuple[float, float, float]:
    return unit * float(estimate["mean"]), unit * float(estimate["low"]), unit * float(estimate["high"])


def make(
    folder: Path,
    *,
    summary: Path = SUMMARY,
    work: Path = Path("runs/figures/decision_time"),
    jobs: int | None = None,
) -> dict[str, bool]:
    """Compute and write ``decision_time.{csv,json,png}``.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    summary : Path
        ``summary.json`` of `baselines.compare`.
    work : Path
        Folder that remembers the clairvoyant bounds.
    jobs : int, optional
        Number of processes; one per core where not given.

    Returns
    -------
    dict of str to bool
        Whether each part of the claim holds.

    Raises
    ------
    InvalidInputError
        If the summary is missing; it says what makes it.
    """
    results = load_results(summary, work, jobs or os.cpu_count() or 1)
    judged = verdict(results)
    described = {"claim": "quality in the queue costs little time", **judged, "results_made_by": results.command}
    write_figure(folder, "decision_time", table(results), described, draw(results))
    holds: dict[str, bool] = judged["holds"]
    return holds


def verdict(results: Results) -> dict[str, Any]:
    """What the results say.

    Returns
    -------
    dict
        ``holds``, by part of the claim; ``exceptions``, the policies that a part fails at; ``measured``.
    """
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
    return {"holds": holds, "exceptions": exceptions, "measured": measured}


def table(results: Results) -> list[list[Any]]:
    """The picture's data: the header, a row per policy, and one of the bound.

    Returns
    -------
    list of list
        Times in s.
    """
    parts = ("", "_low", "_high")
    header = ["policy", "kind", *(f"{name}{part}" for name in ("delivered", "decision_s") for part in parts)]
    rows: list[list[Any]] = [[*header, "share_of_bound"]]
    for point in results.points:
        quality, time = ([f"{value:.6g}" for value in values] for values in (point.quality, point.time))
        rows.append([point.label, point.kind, *quality, *time, f"{point.quality[0] / results.bound[0]:.6g}"])
    rows.append(["clairvoyant bound", "", *(f"{value:.6g}" for value in results.bound), "", "", "", "1"])
    return rows


def draw(results: Results) -> dict[str, bytes]:
    """Picture of the results, every point with its label.

    Returns
    -------
    dict of str to bytes
        Files by name.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(9.0, 6.2))
        axis = figure.add_axes((0.08, 0.13, 0.9, 0.81))  # no layout may move it once the labels are placed
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
        finish_axis(axis)
        axis.set_title(f"Quality against decision time, {results.worlds} worlds, 95 % intervals", fontsize=11)
        figure.legend(loc="lower center", ncols=6, frameon=False, fontsize=8, columnspacing=1.5)
        _write_labels(figure, axis, results)
        return {"decision_time.png": render(figure)}


def _dots(axis: Any, points: Sequence[Point], colour: str, label: str) -> None:
    """Policies of one kind with the intervals of their quality."""
    mean, low, high = np.array([point.quality for point in points]).T
    error = np.maximum([mean - low, high - mean], 0.0)
    times = [point.time[0] for point in points]
    look = {"markersize": 2.0 * _MARKER, "capsize": 2, "elinewidth": 0.8, "zorder": 3, "label": label}
    axis.errorbar(times, mean, yerr=error, fmt="o", color=colour, **look)


def _write_labels(figure: Any, axis: Any, results: Results) -> None:
    """Name every point, with a thin line to it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    unit = 72.0 / figure.dpi  # of a pixel, in points: the files have resolutions of their own
    texts = [
        axis.annotate(
            point.label,
            (point.time[0], point.quality[0]),
            (0.0, 0.0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            color=KINDS[point.kind][0],
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0.0, "shrinkB": _MARKER},
        )
        for point in results.points
    ]
    sizes = unit * np.array([text.get_window_extent(renderer).size for text in texts]) + 2.0
    corners = np.array([[(point.time[0], value) for value in point.quality] for point in results.points])
    places = unit * axis.transData.transform(corners.reshape(-1, 2)).reshape(corners.shape)
    dots, feet, tops = places.transpose(1, 0, 2)
    frame = unit * np.array(axis.get_window_extent(renderer).extents)
    line = unit * axis.transData.transform((1.0, results.bound[0]))[1]
    intervals = np.hstack([np.minimum(dots - _MARKER, feet), np.maximum(dots + _MARKER, tops)])
    obstacles = np.vstack([intervals, [frame[0], line - 1.0, frame[2], line + 1.0]])
    offsets = place_labels(dots, sizes, obstacles, frame)
    for text, offset in zip(texts, offsets, strict=True):
        text.set_position(offset)


def place_labels(
    dots: NDArray[np.float64],
    sizes: NDArray[np.float64],
    obstacles: NDArray[np.float64],
    frame: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Places near some dots where labels cover neither each other nor anything else, found one after the other.

    Parameters
    ----------
    dots : ndarray, shape (n, 2)
    sizes : ndarray, shape (n, 2)
        Widths and heights of the labels.
    obstacles : ndarray, shape (m, 4)
        Boxes to keep free: left, bottom, right, top.
    frame : ndarray, shape (4,)
        Box to stay within.

    Returns
    -------
    ndarray, shape (n, 2)
        From each dot to the middle of its label; the nearest free one of the places that are tried, or, where none is
        free, the nearest within the frame.
    """
    offsets = np.zeros(dots.shape)
    directions = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
    for i, (dot, size) in enumerate(zip(dots, sizes, strict=True)):
        tried = np.concatenate([directions * (ring + 0.5 * size) for ring in _RINGS])
        boxes = np.hstack([dot + tried - 0.5 * size, dot + tried + 0.5 * size])
        inside = (boxes[:, :2] >= frame[:2]).all(axis=1) & (boxes[:, 2:] <= frame[2:]).all(axis=1)
        meets = (boxes[:, None, :2] < obstacles[:, 2:]) & (boxes[:, None, 2:] > obstacles[:, :2])
        free = inside & ~np.any(np.all(meets, axis=2), axis=1)
        chosen = int(np.argmax(free if free.any() else inside))
        offsets[i] = tried[chosen]
        obstacles = np.vstack([obstacles, boxes[chosen]])
    return offsets
