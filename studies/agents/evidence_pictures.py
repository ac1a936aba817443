"""Pictures of a sweep, see `studies.agents.evidence`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rliable.metrics import aggregate_iqm  # type: ignore[import-untyped]

from baselines.output import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    GRID,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    render,
    style,
    write_bytes,
)
from studies.agents.evidence_data import UPPER, Evidence, Floats, Scores, bootstrap

__all__ = ["write_pictures"]

_THRESHOLDS = 201  # of a profile
_COLORS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)))  # the colours come again in the next of these
_REFERENCE_DASHES: tuple[Any, ...] = ((0, (1, 1.5)), (0, (4, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (8, 2)))
_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
_RADII = (6.0, 14.0, 24.0, 36.0)  # in points, of a label around what it names
_LEADER = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 1.0, "shrinkB": 3.0}
_WIDE = 5.0  # ratio of violations from which on a linear axis would crowd the small ones

Point = tuple[float, float]
Line = tuple[Point, Point]


def write_pictures(evidence: Evidence, folder: Path) -> None:
    """Write every picture as a PNG."""
    for name, draw in _PICTURES.items():
        _write_picture(folder / name, partial(draw, evidence))


def _write_picture(path: Path, draw: Callable[[Any], None]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style():
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        write_bytes(path.with_suffix(".png"), render(figure))


def _lines(evidence: Evidence) -> list[tuple[str, Any, float]]:
    """Label, dashes and line width of references and of the clairvoyant optimum."""
    labels = [*evidence.references, UPPER]
    dashes = [_REFERENCE_DASHES[i % len(_REFERENCE_DASHES)] for i in range(len(labels) - 1)]
    return [(label, dash, 1.2) for label, dash in zip(labels, [*dashes, "-"], strict=True)]


def _dress(axis: Any) -> None:
    axis.grid(color=GRID, linewidth=0.6)
    axis.spines["top"].set_visible(False)
    axis.set_axisbelow(True)


def _draw_curves(evidence: Evidence, figure: Any) -> None:
    """A panel per entry: median and interquartile band over runs, and where references and the optimum lie.

    Behind the last column the same axis again: as a share of the clairvoyant optimum, and as regret to the target. The
    figure in a panel is the regret at the end.
    """
    labels = evidence.ranked
    columns = min(3, len(labels))
    rows = math.ceil(len(labels) / columns)
    figure.set_size_inches(1.2 + 3.1 * columns, 1.4 + 2.3 * rows)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    target = evidence.levels[evidence.config.target]
    low, high = _curve_limits(evidence)
    for axis, label in zip(axes.flat, labels, strict=False):
        curves = evidence.curves[label]
        bottom, middle, top = curves.quartiles
        axis.fill_between(curves.timesteps, bottom, top, color=BLUE, alpha=0.25, linewidth=0)
        axis.plot(curves.timesteps, middle, color=BLUE, linewidth=1.6)
        for name, dash, width in _lines(evidence):
            axis.axhline(evidence.levels[name], color=GREY, linestyle=dash, linewidth=width, label=name)
        axis.set_title(label, fontsize=10)
        axis.set_ylim(low, high)
        axis.set_xlim(0.0, curves.timesteps[-1])
        axis.xaxis.set_major_locator(_ticker().MaxNLocator(4))
        axis.xaxis.set_major_formatter(_ticker().FuncFormatter(_thousands))
        _dress(axis)
        end = f"regret {_signed(target - middle[-1])}"
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
        height = 0.04 if middle[-1] > (low + high) / 2.0 else 0.55  # beside the end of the curve, not on it
        axis.text(0.97, height, end, transform=axis.transAxes, ha="right", va="bottom", fontsize=8, bbox=box)
        if axis.get_subplotspec().is_last_col():
            _add_scales(evidence, axis)
    for axis in axes.flat[len(labels) :]:
        axis.set_visible(False)
    figure.supxlabel("decisions in training", fontsize=10)
    figure.supylabel("delivered quality per task", fontsize=10)
    handles, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=9)


def _add_scales(evidence: Evidence, axis: Any) -> None:
    """What a quality is of the clairvoyant optimum and short of the target, on the right of a panel."""
    target, upper = evidence.levels[evidence.config.target], evidence.levels[UPPER]
    share = axis.secondary_yaxis("right", functions=(lambda y: 100.0 * y / upper, lambda s: s * upper / 100.0))
    share.set_ylabel("% of clairvoyant")
    regret = axis.secondary_yaxis(1.25, functions=(lambda y: target - y, lambda r: target - r))
    regret.set_ylabel(f"regret to {evidence.config.target}")
    for scale in (share, regret):
        scale.tick_params(labelsize=8)


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def _curve_limits(evidence: Evidence) -> tuple[float, float]:
    """What the second half of every curve needs, and the lines; beginnings may lie below."""
    ends = [
        np.median(curves.delivered, axis=0)[curves.delivered.shape[1] // 2 :] for curves in evidence.curves.values()
    ]
    lowest = min(*(float(end.min()) for end in ends), *evidence.levels.values())
    highest = max(*(float(end.max()) for end in ends), *evidence.levels.values())
    margin = max(0.08 * (highest - lowest), 1e-3)
    return lowest - margin, highest + margin


def _thousands(value: float, _: int) -> str:
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"


def _ticker() -> Any:
    from matplotlib import ticker

    return ticker


def _draw_iqm(evidence: Evidence, figure: Any) -> None:
    """Interquartile means with their intervals, the best on top, and those of the references."""
    labels = evidence.ranked
    figure.set_size_inches(7.2, 1.5 + 0.32 * len(labels))
    axis = figure.subplots()
    for place, label in enumerate(labels):
        value, low, high = bootstrap(evidence.agents[label].delivered, aggregate_iqm, "runs")
        axis.plot([low, high], [place, place], color=BLUE, linewidth=7, alpha=0.35, solid_capstyle="butt")
        axis.plot([value, value], [place - 0.3, place + 0.3], color=BLUE, linewidth=2)
    for (label, dash, width), scores in zip(_lines(evidence), evidence.references.values(), strict=False):
        axis.axvline(aggregate_iqm(scores.delivered), color=GREY, linestyle=dash, linewidth=width, label=label)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.set_xlabel(f"interquartile mean of delivered quality in {len(evidence.upper)} worlds, 95 % over runs")
    axis.spines["right"].set_visible(False)
    _dress(axis)
    figure.legend(loc="outside upper center", ncols=len(evidence.references), frameon=False, fontsize=9)


def _draw_profiles(evidence: Evidence, figure: Any) -> None:
    """Share of runs and worlds in which more than some share of the clairvoyant optimum was earned."""
    figure.set_size_inches(7.6, 4.4)
    axis = figure.subplots()
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
    for label, dash, width in _lines(evidence)[:-1]:
        axis.plot(thresholds, profile(shares[label]), color=GREY, linestyle=dash, linewidth=width, label=label)
    axis.set_xlim(lowest, highest)
    axis.set_ylim(0.0, 1.0)
    axis.set_xlabel("share τ of the clairvoyant optimum (upper bound) of a world")
    axis.set_ylabel("runs and worlds with more than τ")
    axis.spines["right"].set_visible(False)
    _dress(axis)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)


def _profile(shares: Floats, thresholds: Floats) -> Floats:
    """Part of the shares above each threshold."""
    flat = np.sort(shares, axis=None)
    above: Floats = 1.0 - np.searchsorted(flat, thresholds, side="right") / flat.size
    return above


def _draw_front(evidence: Evidence, figure: Any) -> None:
    """Quality against missed budgets: entries with 95 % over runs, references in grey, the front as a step line."""
    figure.set_size_inches(7.6, 4.6)
    axis = figure.subplots()
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
    axis.spines["right"].set_visible(False)
    _dress(axis)
    figure.draw_without_rendering()  # from here on the axes stay where they are, and labels can look for room
    figure.set_layout_engine("none")
    colors = {label: GREY if label in evidence.references else BLACK for label in points}
    _label_points(axis, points, colors, [*lines, *stairs])


def _bars(scores: Scores) -> list[Line]:
    """Intervals over runs of an entry's violations and quality."""
    x, left, right = bootstrap(scores.violated, np.mean, "runs")
    y, low, high = bootstrap(scores.delivered, np.mean, "runs")
    return [((left, y), (right, y)), ((x, low), (x, high))]


def _stairs(points: Sequence[Point], edge: float) -> list[Line]:
    """Most quality for at most so many violations, between the first point and the edge."""
    lines: list[Line] = []
    for (x, y), (following, above) in zip(points, [*points[1:], (edge, points[-1][1])], strict=True):
        lines += [((x, y), (following, y)), ((following, y), (following, above))]
    return lines


def _scale_violations(axis: Any, shares: Sequence[float], most: float) -> None:
    """Logarithmic where shares are of different sizes, and linear below the smallest one if there is a 0."""
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


def _label_points(axis: Any, points: Mapping[str, Point], colors: Mapping[str, str], lines: Sequence[Line]) -> None:
    """Write every label near its point, where it hides least of the other points, labels and lines."""
    renderer, scale = axis.figure.canvas.get_renderer(), axis.figure.dpi / 72.0
    room = axis.get_window_extent()
    places = {label: axis.transData.transform(point) for label, point in points.items()}
    marks = {label: _box(place, place, 5.0) for label, place in places.items()}
    taken = [*marks.values()]
    ends = (axis.transData.transform(line) for line in lines)
    taken += [_box(start, end, 1.0) for start, end in ends]
    for label in sorted(places, key=lambda label: -places[label][1]):
        text = axis.annotate(label, points[label], (0, 0), textcoords="offset points", fontsize=8, color=colors[label])
        size = text.get_window_extent(renderer).size
        text.remove()
        costs = []
        for radius, (right, up) in product(_RADII, _SIDES):
            offset = scale * radius * np.array([right, up])
            corner = places[label] + offset + size * (np.array([right, up]) - 1.0) / 2.0
            box = _box(corner, corner + size)
            outside = max(box.x1 - room.x1, 0.0) + max(room.x0 - box.x0, 0.0)
            way = _box(places[label], corner)
            hidden = sum(_overlap(box, other) for other in taken)
            hidden += sum(_overlap(way, mark) for other, mark in marks.items() if other != label)
            costs.append((hidden + size[1] * outside + scale * radius, (radius * right, radius * up), box))
        _, offset, box = min(costs, key=lambda item: item[0])
        taken.append(box)
        axis.annotate(
            label,
            points[label],
            offset,
            textcoords="offset points",
            fontsize=8,
            color=colors[label],
            ha={-1: "right", 0: "center", 1: "left"}[int(np.sign(offset[0]))],
            va={-1: "top", 0: "center", 1: "bottom"}[int(np.sign(offset[1]))],
            arrowprops=_LEADER | {"relpos": tuple(0.5 - 0.5 * np.sign(offset))},
        )


def _box(corner: Any, other: Any, margin: float = 0.0) -> Any:
    from matplotlib.transforms import Bbox

    low, high = np.minimum(corner, other) - margin, np.maximum(corner, other) + margin
    return Bbox([low, high])


def _overlap(box: Any, other: Any) -> float:
    """Area that two boxes share."""
    width = min(box.x1, other.x1) - max(box.x0, other.x0)
    height = min(box.y1, other.y1) - max(box.y0, other.y0)
    return float(max(width, 0.0) * max(height, 0.0))


_PICTURES: dict[str, Callable[[Evidence, Any], None]] = {
    "learning_curves": _draw_curves,
    "iqm": _draw_iqm,
    "profiles": _draw_profiles,
    "front": _draw_front,
}
