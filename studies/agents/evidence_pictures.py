"""Pictures of a sweep: learning curves, interquartile means, profiles, and quality against missed budgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rliable.metrics import aggregate_iqm  # type: ignore[import-untyped]

from baselines.output import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, render, style
from coinfer_gym.files import write_bytes
from studies.agents.evidence_data import UPPER, Evidence, Floats, Scores, bootstrap
from studies.drawing import legend_below, panels, write_labels

_THRESHOLDS = 201  # of a profile
_COLORS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)))  # the colours come again in the next of these
_REFERENCE_DASHES: tuple[Any, ...] = ((0, (1, 1.5)), (0, (4, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (8, 2)))
_WIDE = 5.0  # ratio of violations from which on a linear axis would crowd the small ones

Point = tuple[float, float]
Line = tuple[Point, Point]


def write_pictures(evidence: Evidence, folder: Path) -> None:
    """Write every picture as a PNG file."""
    with style():
        for name, draw in _PICTURES.items():
            write_bytes(folder / f"{name}.png", render(draw(evidence)))


def _lines(evidence: Evidence) -> list[tuple[str, dict[str, Any]]]:
    """Label and look of the references and of the clairvoyant optimum."""
    labels = [*evidence.references, UPPER]
    dashes = [_REFERENCE_DASHES[i % len(_REFERENCE_DASHES)] for i in range(len(labels) - 1)]
    return [
        (label, {"color": GREY, "linestyle": dash, "linewidth": 1.2, "label": label})
        for label, dash in zip(labels, [*dashes, "-"], strict=True)
    ]


def _draw_curves(evidence: Evidence) -> Any:
    """A panel per entry: median and interquartile band over runs, and the levels of references and optimum.

    The last column has two more scales: share of the clairvoyant optimum, and regret to the target. The number in a
    panel is the regret at the end.
    """
    labels = evidence.ranked
    columns = min(3, len(labels))
    rows = math.ceil(len(labels) / columns)
    figure, axes = panels("", (1.2 + 3.1 * columns, 1.4 + 2.3 * rows), rows, columns, sharey=True)
    target = evidence.levels[evidence.config.target]
    low, high = _curve_limits(evidence)
    for axis, label in zip(axes.flat, labels, strict=False):
        curves = evidence.curves[label]
        bottom, middle, top = curves.quartiles
        axis.fill_between(curves.timesteps, bottom, top, color=BLUE, alpha=0.25, linewidth=0)
        axis.plot(curves.timesteps, middle, color=BLUE, linewidth=1.6)
        for name, look in _lines(evidence):
            axis.axhline(evidence.levels[name], **look)
        axis.set_title(label, fontsize=10)
        axis.set_ylim(low, high)
        axis.set_xlim(0.0, curves.timesteps[-1])
        axis.xaxis.set_major_locator(_ticker().MaxNLocator(4))
        axis.xaxis.set_major_formatter(_ticker().EngFormatter(sep=""))
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
        height = 0.04 if middle[-1] > (low + high) / 2.0 else 0.55  # beside the end of the curve, not on it
        place: dict[str, Any] = {"transform": axis.transAxes, "ha": "right", "va": "bottom"}
        axis.text(0.97, height, f"regret {target - middle[-1]:+.4f}", fontsize=8, bbox=box, **place)
        if axis.get_subplotspec().is_last_col():
            _add_scales(evidence, axis)
    for axis in axes.flat[len(labels) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("decisions in training", fontsize=10)  # a label of the figure would lie under the legend
    figure.supylabel("delivered quality per task", fontsize=10)
    legend_below(figure, axes[0, 0], 1 + columns)
    return figure


def _add_scales(evidence: Evidence, axis: Any) -> None:
    """Two scales right of a panel: share of the clairvoyant optimum, and regret to the target."""
    target, upper = evidence.levels[evidence.config.target], evidence.levels[UPPER]
    share = axis.secondary_yaxis("right", functions=(lambda y: 100.0 * y / upper, lambda s: s * upper / 100.0))
    share.set_ylabel("% of clairvoyant")
    regret = axis.secondary_yaxis(1.25, functions=(lambda y: target - y, lambda r: target - r))
    regret.set_ylabel(f"regret to {evidence.config.target}")
    for scale in (share, regret):
        scale.tick_params(labelsize=8)


def _curve_limits(evidence: Evidence) -> tuple[float, float]:
    """Ordinates that hold all lines and the second half of every curve; beginnings may lie below."""
    medians = [np.median(curves.delivered, axis=0) for curves in evidence.curves.values()]
    shown = np.concatenate([list(evidence.levels.values()), *(part[len(part) // 2 :] for part in medians)])
    margin = max(0.08 * float(np.ptp(shown)), 1e-3)
    return float(shown.min()) - margin, float(shown.max()) + margin


def _ticker() -> Any:
    from matplotlib import ticker

    return ticker


def _draw_iqm(evidence: Evidence) -> Any:
    """Interquartile means with their intervals, the best on top, and those of the references."""
    labels = evidence.ranked
    figure, axes = panels("", (7.2, 1.5 + 0.32 * len(labels)))
    axis = axes[0, 0]
    for place, label in enumerate(labels):
        value, low, high = bootstrap(evidence.agents[label].delivered, aggregate_iqm, "runs")
        axis.plot([low, high], [place, place], color=BLUE, linewidth=7, alpha=0.35, solid_capstyle="butt")
        axis.plot([value, value], [place - 0.3, place + 0.3], color=BLUE, linewidth=2)
    for (_, look), scores in zip(_lines(evidence), evidence.references.values(), strict=False):
        axis.axvline(aggregate_iqm(scores.delivered), **look)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.set_xlabel(f"interquartile mean of delivered quality in {len(evidence.upper)} worlds, 95 % over runs")
    legend_below(figure, axis, len(evidence.references))
    return figure


def _draw_profiles(evidence: Evidence) -> Any:
    """Part of runs and worlds in which more than some share of the clairvoyant optimum was earned."""
    figure, axes = panels("", (7.6, 4.4))
    axis = axes[0, 0]
    shares = {label: scores.delivered / evidence.upper for label, scores in evidence.players.items()}
    lowest = min(float(np.percentile(part, 2.0)) for part in shares.values())
    highest = max(float(part.max()) for part in shares.values())
    thresholds = np.linspace(lowest, highest, _THRESHOLDS)
    profile = partial(_profile, thresholds=thresholds)
    for label in evidence.ranked:
        place = list(evidence.config.entries).index(label)  # a colour stays with its entry
        value, low, high = bootstrap(shares[label], profile, "runs")
        color, dash = _COLORS[place % len(_COLORS)], _DASHES[place // len(_COLORS) % len(_DASHES)]
        axis.fill_between(thresholds, low, high, color=color, alpha=0.15, linewidth=0)
        axis.plot(thresholds, value, color=color, linestyle=dash, linewidth=1.5, label=label)
    for label, look in _lines(evidence)[:-1]:
        axis.plot(thresholds, profile(shares[label]), **look)
    axis.set_xlim(lowest, highest)
    axis.set_ylim(0.0, 1.0)
    axis.set_xlabel("share τ of the clairvoyant optimum (upper bound) of a world")
    axis.set_ylabel("runs and worlds with more than τ")
    legend_below(figure, axis, 1, loc="outside right upper")
    return figure


def _profile(shares: Floats, thresholds: Floats) -> Floats:
    """Part of the shares above each threshold, as rliable's profiles have it."""
    flat = np.sort(shares, axis=None)
    above: Floats = 1.0 - np.searchsorted(flat, thresholds, side="right") / flat.size
    return above


def _draw_front(evidence: Evidence) -> Any:
    """Quality against missed budgets: entries with 95 % over runs, references in grey, the front as a step line."""
    figure, axes = panels("", (7.6, 4.6))
    axis = axes[0, 0]
    points = {label: (s.violated.mean(), s.delivered.mean()) for label, s in evidence.players.items()}
    lines = [line for scores in evidence.agents.values() for line in _bars(scores)]
    _scale_violations(axis, [x for x, _ in points.values()], max(x for line in lines for x, _ in line))
    for line in lines:
        axis.plot(*zip(*line, strict=True), color=BLUE, linewidth=1.0, alpha=0.45, zorder=2)
    for label, place in points.items():
        if label in evidence.references:
            axis.plot(*place, "D", color=GREY, markersize=6, zorder=3, clip_on=False)
        else:
            inside = BLUE if label in evidence.front else "white"
            axis.plot(*place, "o", color=BLUE, markerfacecolor=inside, markersize=7, zorder=4, clip_on=False)
    stairs = _stairs(sorted(points[label] for label in evidence.front), axis.get_xlim()[1])
    for line in stairs:
        axis.plot(*zip(*line, strict=True), color=BLACK, linewidth=0.8, zorder=1)
    axis.margins(y=0.12)
    axis.set_xlabel(f"decisions that miss a budget, in {len(evidence.upper)} worlds; 95 % over runs")
    axis.set_ylabel("delivered quality per task")
    colors = {label: GREY if label in evidence.references else BLACK for label in points}
    write_labels(axis, points, colors, [*lines, *stairs], radius=3.5)
    return figure


def _bars(scores: Scores) -> list[Line]:
    """Intervals over runs of an entry's violations and quality."""
    x, left, right = bootstrap(scores.violated, np.mean, "runs")
    y, low, high = bootstrap(scores.delivered, np.mean, "runs")
    return [((left, y), (right, y)), ((x, low), (x, high))]


def _stairs(points: Sequence[Point], edge: float) -> list[Line]:
    """Most quality for at most so many violations, from the first point to the edge."""
    lines: list[Line] = []
    for (x, y), (following, above) in zip(points, [*points[1:], (edge, points[-1][1])], strict=True):
        lines += [((x, y), (following, y)), ((following, y), (following, above))]
    return lines


def _scale_violations(axis: Any, shares: Sequence[float], most: float) -> None:
    """Logarithmic for shares of different sizes, and linear below the smallest one if there is a 0."""
    positive = [share for share in shares if share > 0.0]
    least = min(positive, default=0.0)
    left = 0.0
    if positive and max(positive) > _WIDE * least:
        if len(positive) < len(shares):
            start = 10.0 ** math.floor(math.log10(least))
            axis.set_xscale("symlog", linthresh=start, linscale=0.3)
            axis.xaxis.set_major_locator(_ticker().SymmetricalLogLocator(base=10.0, linthresh=start))
        else:
            left = 0.6 * least
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(_ticker().LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_minor_locator(_ticker().NullLocator())
    axis.set_xlim(left, 1.3 * max(most, *shares) or 0.01)
    axis.xaxis.set_major_formatter(_ticker().FuncFormatter(lambda share, _: f"{100.0 * share:g} %"))


_PICTURES: dict[str, Callable[[Evidence], Any]] = {
    "learning_curves": _draw_curves,
    "iqm": _draw_iqm,
    "profiles": _draw_profiles,
    "front": _draw_front,
}
