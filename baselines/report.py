"""What a comparison leaves behind: a table in the terminal, CSV and JSON files, and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from baselines.bootstrap import Estimate, paired_bootstrap
from baselines.family import Column
from baselines.output import BLUE, GREY, GRID, VERMILION, git_revision, open_console, render, style
from coinfer_gym.files import csv_text, versions, write_bytes, write_text

__all__ = ["Comparison"]

NOTE = "95 % intervals: paired bootstrap over worlds; ± is the longer side of one"

_LOGARITHMIC = ("delay_s", "decision_us")


@dataclass(frozen=True)
class Comparison:
    """What some policies earned in the same worlds.

    Attributes
    ----------
    config : dict
        The configuration in its plain form.
    labels : list of str
        The policies.
    metrics : mapping of str to Column
        The metrics, and how they are shown; the comparison is about the first one.
    values : ndarray, shape (policies, worlds, metrics)
        NaN behind the last world of a policy that played fewer of them.
    tuned : mapping of str to dict
        Options that were searched for, by label.
    reference : str, optional
        The policy that differences are taken to.
    notes : tuple of str
        What to say below the table.
    scenario : mapping of str to scalar
        Fields of the scenario that was played, recorded traces aside.
    scenario_digest : str
        Their digest with the network's, see `baselines.family.digest_scenario`.
    """

    config: dict[str, Any]
    labels: list[str]
    metrics: Mapping[str, Column]
    values: NDArray[np.float64]
    tuned: Mapping[str, dict[str, Any]]
    reference: str | None = None
    notes: tuple[str, ...] = ()
    scenario: Mapping[str, Any] = field(default_factory=dict)
    scenario_digest: str = ""

    @cached_property
    def intervals(self) -> tuple[Estimate, Estimate | None]:
        """Estimates of shape (policies, metrics): of the means over worlds, and of the differences to the reference."""
        return paired_bootstrap(self.values, None if self.reference is None else self.labels.index(self.reference))

    @property
    def worlds(self) -> list[int]:
        """Number of worlds that each policy has played."""
        counts: list[int] = np.count_nonzero(~np.isnan(self.values[:, :, 0]), axis=1).tolist()
        return counts

    def only(self, metrics: Sequence[str]) -> Comparison:
        """The same with some of the metrics."""
        columns = [list(self.metrics).index(name) for name in metrics]
        shown = {name: self.metrics[name] for name in metrics}
        return replace(self, metrics=shown, values=self.values[:, :, columns])

    def rows(self) -> list[list[tuple[str, str]]]:
        """The table, titles first, then a row per policy: each cell is a text and the interval that belongs to it."""
        first, *others = self.metrics.values()
        estimate, difference = self.intervals
        unequal = len(set(self.worlds)) > 1
        titles = ["policy", *(["worlds"] if unequal else []), first.title]
        titles += [f"relative to {self.reference!r}"] if difference is not None else []
        rows = [[(title, "") for title in (*titles, *(column.title for column in others))]]
        for i, label in enumerate(self.labels):
            row = [(label, ""), *([(str(self.worlds[i]), "")] if unequal else []), _interval(estimate, i, first)]
            if difference is not None:
                row.append(("", "") if label == self.reference else _interval(difference, i, first, "+"))
            rows.append(row + [_margin(estimate, i, k, column) for k, column in enumerate(others, start=1)])
        return rows

    def show(self) -> None:
        """Print the table."""
        worlds = max(self.worlds)
        table = Table(title=f"{self.config['title']}: mean over {worlds} worlds", title_justify="left")
        titles, *rows = self.rows()
        for k, (title, _) in enumerate(titles):
            whole = k == 0 or title.startswith("relative to") or title == self.metrics[next(iter(self.metrics))].title
            table.add_column(title, justify="right" if k else "left", no_wrap=whole)
        for row in rows:
            cells = ((text, interval.replace("[", "\\[")) for text, interval in row)
            table.add_row(*(f"{text}\n[dim]{interval}[/dim]" if interval else text for text, interval in cells))
        console = open_console()
        console.print(table)
        for note in (NOTE, *self.notes):
            console.print(note, style="dim", markup=False)

    def write(self, folder: Path, command: str) -> None:
        """Write ``summary.csv``, ``worlds.csv``, ``summary.json`` and ``comparison.png``."""
        write_text(folder / "summary.csv", self._summary_csv())
        write_text(folder / "worlds.csv", self._worlds_csv())
        write_text(folder / "summary.json", json.dumps(self.summary(command), indent=2) + "\n")
        write_bytes(folder / "comparison.png", draw(self))

    def summary(self, command: str) -> dict[str, Any]:
        """Everything but the single worlds, as plain values."""
        estimate, difference = self.intervals
        policies: dict[str, dict[str, Any]] = {}
        for i, label in enumerate(self.labels):
            policies[label] = {"worlds": self.worlds[i], "metrics": self._numbers(estimate, i)}
            if difference is not None:
                policies[label]["difference"] = self._numbers(difference, i)
            if label in self.tuned:
                policies[label]["tuned"] = self.tuned[label]
        return {
            "title": self.config["title"],
            "policies": policies,
            "config": self.config,
            "scenario": self.scenario,
            "scenario_digest": self.scenario_digest,
            "notes": list(self.notes),
            "command": command,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "git": git_revision(),
            "versions": versions(),
        }

    def _numbers(self, estimate: Estimate, i: int) -> dict[str, Any]:
        return {name: estimate.at(i, k) for k, name in enumerate(self.metrics)}

    def _summary_csv(self) -> str:
        estimate, difference = self.intervals
        parts = dict(zip(("mean", "low", "high"), estimate, strict=True))
        if difference is not None:
            parts |= zip(("difference", "difference_low", "difference_high"), difference, strict=True)
        rows = [
            [label, name, *(repr(float(part[i, k])) for part in parts.values())]
            for i, label in enumerate(self.labels)
            for k, name in enumerate(self.metrics)
        ]
        return csv_text([["policy", "metric", *parts], *rows])

    def _worlds_csv(self) -> str:
        rows = [
            [label, self.config["seed"] + world, *map(repr, self.values[i, world].tolist())]
            for i, label in enumerate(self.labels)
            for world in range(self.worlds[i])
        ]
        return csv_text([["policy", "seed", *self.metrics], *rows])


def _interval(estimate: Estimate, i: int, column: Column, sign: str = "") -> tuple[str, str]:
    """First metric of policy `i`, and its interval."""
    mean, low, high = (format(column.factor * part[i, 0], f"{sign}{column.form}") for part in estimate)
    return mean, f"[{low}, {high}]"


def _margin(estimate: Estimate, i: int, k: int, column: Column) -> tuple[str, str]:
    """Metric `k` of policy `i`, and how far its interval reaches at most to a side."""
    mean, low, high = (column.factor * part[i, k] for part in estimate)
    return f"{mean:{column.form}}", f"±{max(mean - low, high - mean):{column.form}}"


def draw(comparison: Comparison) -> bytes:
    """Picture of a comparison as PNG: per policy its first metric, what it violates and drops, and its thinking time.

    Returns
    -------
    bytes
    """
    from matplotlib.figure import Figure

    labels, first = comparison.labels, next(iter(comparison.metrics))
    with style():
        figure = Figure(figsize=(11.0, 1.9 + 0.42 * len(labels)))
        figure.set_layout_engine("constrained", wspace=0.06)
        axes = figure.subplots(1, 4, sharey=True, width_ratios=[3.2, 1.5, 1.5, 2.0])
        for axis, name in zip(axes, (first, "violated", "dropped", "decision_us"), strict=True):
            _dots(axis, comparison, name)
        axes[0].set_yticks(range(len(labels)), labels)
        axes[0].set_ylim(len(labels) - 0.5, -0.5)  # the first policy on top
        worlds = max(comparison.worlds)
        figure.suptitle(f"{comparison.config['title']}  ({worlds} worlds, 95 % intervals)", fontsize=11)
        return render(figure)


def _dots(axis: Any, comparison: Comparison, name: str) -> None:
    """One metric of every policy, with its interval."""
    k = list(comparison.metrics).index(name)
    column = comparison.metrics[name]
    mean, low, high = (column.factor * part[:, k] for part in comparison.intervals[0])
    rows = np.arange(len(mean))
    is_reference = np.array([label == comparison.reference for label in comparison.labels])
    for chosen, colour, marker in ((~is_reference, BLUE, "o"), (is_reference, VERMILION, "D")):
        error = np.maximum([mean - low, high - mean], 0.0)[:, chosen]
        axis.errorbar(
            mean[chosen], rows[chosen], xerr=error, fmt=marker, color=colour, markersize=6, capsize=3, zorder=3
        )
    if name in _LOGARITHMIC:
        axis.set_xscale("log")
        axis.set_xlim(10.0 ** np.floor(np.log10(low.min())), 10.0 ** np.ceil(np.log10(high.max())))
        axis.xaxis.set_minor_formatter("")
    else:
        axis.set_xlim(*_limits(low, high))
    if k == 0 and is_reference.any():
        axis.axvline(mean[is_reference][0], color=VERMILION, linewidth=0.8, linestyle=":", zorder=1)
    axis.set_xlabel(column.title.replace(" us", " time, µs"))
    axis.grid(axis="x", color=GRID, linewidth=0.6)
    axis.tick_params(axis="y", length=0, colors=GREY, labelcolor="black")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _limits(low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[float, float]:
    """Range of an axis that shows 0."""
    bottom, top = min(0.0, float(low.min())), max(0.0, float(high.max()))
    width = top - bottom or 1.0
    return bottom - 0.05 * width, bottom + 1.05 * width
