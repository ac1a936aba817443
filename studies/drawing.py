"""What the pictures share: panels, axes, legends and labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.output import GREY, GRID

Floats = NDArray[np.float64]

SCENARIO: dict[str, dict[str, Any]] = {
    "the scenario's budget": {"color": GREY, "linewidth": 0.9, "linestyle": (0, (1, 2))}
}
"""Look of the line of `mark_scenario`, for a legend."""

ON_DEVICE = "#882255"
"""Colour of the device in maps: apart from viridis and orange under every common colour blindness."""

INFEASIBLE = {"facecolor": "white", "edgecolor": GREY, "hatch": "////"}
"""Look of the area of a map in which nothing is feasible."""

_RINGS = (5.0, 8.0, 12.0, 17.0, 23.0, 30.0, 38.0, 48.0, 60.0, 75.0, 95.0, 120.0)  # points from a dot to its label
_ANGLES = 2.0 * math.pi / 24 * np.arange(24)


def panels(
    title: str, size: tuple[float, float], rows: int = 1, columns: int = 1, spaces: Any = None, **options: Any
) -> tuple[Any, Any]:
    """A figure with panels of the same grid and frame, shape (rows, columns), and a title unless it is empty.

    `spaces` are those of the constrained layout, such as ``{"hspace": 0.05}``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    figure.set_layout_engine("constrained", **(spaces or {}))
    if title:
        figure.suptitle(title, fontsize=11)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for axis in axes.flat:
        axis.grid(color=GRID, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, axes


def label_columns(axes: Any, titles: Iterable[str], abscissa: str) -> None:
    """Titles above the columns of panels, and the quantity of their abscissa below."""
    for top, bottom, title in zip(axes[0], axes[-1], titles, strict=True):
        top.set_title(title, fontsize=9)
        bottom.set_xlabel(abscissa, fontsize=9)


def legend_below(figure: Any, entries: Any, columns: int, **options: Any) -> None:
    """A legend below all panels: of an axis, of several, each label once, or of looks by label.

    A look with a ``facecolor`` is that of an area, any other one that of a line.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if isinstance(entries, Mapping):
        shown: dict[str, Any] = {
            label: Patch(**look) if "facecolor" in look else Line2D([], [], **look) for label, look in entries.items()
        }
    else:
        found = [axis.get_legend_handles_labels() for axis in np.ravel(entries)]
        shown = {label: handle for pair in found for handle, label in zip(*pair, strict=True)}
    frame = {"loc": "outside lower center", "frameon": False, "fontsize": 9}
    figure.legend(list(shown.values()), list(shown), ncols=columns, **(frame | options))


def log_ticks(axis: Any, values: Sequence[float]) -> None:
    """Logarithmic abscissa with these values written in full."""
    axis.set_xscale("log")
    axis.set_xticks(values, [f"{value:g}" for value in values])
    axis.set_xticks([], minor=True)


def mark_scenario(axis: Any, value: float) -> None:
    """Vertical line at the scenario's value."""
    axis.axvline(value, zorder=1, **SCENARIO["the scenario's budget"])


def write_labels(
    axis: Any,
    points: Mapping[str, tuple[float, float]],
    colours: Mapping[str, str],
    obstacles: Any,
    radius: float = 2.5,
) -> None:
    """Name every point next to it, with a thin line to it; later drawing does not move the axes.

    `obstacles`, shape (n, 2, 2), are opposite corners, in data coordinates, of boxes to keep free; lines are boxes
    without width.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(axis.figure)
    axis.figure.draw_without_rendering()
    axis.figure.set_layout_engine("none")
    renderer, unit = canvas.get_renderer(), 72.0 / axis.figure.dpi  # of a pixel, in points
    arrow = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0.0, "shrinkB": radius}
    look: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 8}
    texts = [
        axis.annotate(label, place, (0.0, 0.0), color=colours[label], arrowprops=arrow, **look)
        for label, place in points.items()
    ]
    sizes = unit * np.array([text.get_window_extent(renderer).size for text in texts]) + 2.0
    dots = unit * axis.transData.transform(list(points.values()))
    corners = unit * axis.transData.transform(np.reshape(obstacles, (-1, 2))).reshape(-1, 2, 2)
    boxes = np.hstack([corners.min(axis=1) - 1.0, corners.max(axis=1) + 1.0])
    boxes = np.vstack([boxes, np.hstack([dots - radius, dots + radius])])
    frame = unit * np.array(axis.get_window_extent(renderer).extents)
    for text, offset in zip(texts, place_labels(dots, sizes, boxes, frame), strict=True):
        text.set_position(offset)


def place_labels(dots: Floats, sizes: Floats, obstacles: Floats, frame: Floats) -> Floats:
    """Offsets from dots to the middles of labels that cover neither each other nor anything else, one after the other.

    `dots` and `sizes` (widths and heights of the labels) have the shape (n, 2). `obstacles`, shape (m, 4), are boxes to
    keep free: left, bottom, right, top; `frame` is the box to stay within. A label is at the nearest free place, or at
    the nearest within the frame if none of those tried is free.
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
