"""What a comparison leaves behind: a table in the terminal, CSV and JSON files, and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from baselines.bootstrap import Estimate
from baselines.output import (
    BLUE,
    GREY,
    GRID,
    VERMILION,
    csv_text,
    git_revision,
    render,
    style,
    versions,
    write_bytes,
    write_text,
)


class Column(NamedTuple):
    """How a metric is shown."""

    title: str
    form: str
    factor: float = 1.0


COLUMNS = {
    "delivered": Column("delivered quality", "z.4f"),
    "on_time": Column("on time %", "z.1f", 100.0),
    "dropped": Column("dropped %", "z.2f", 100.0),
    "delay_s": Column("delay ms", "z.1f", 1e3),
    "service_s": Column("service ms", "z.1f", 1e3),
    "energy_j": Column("energy mJ", "z.2f", 1e3),
    "violated": Column("violated %", "z.1f", 100.0),
    "return": Column("return", "z.4f"),
    "regret": Column("regret", "z.4f"),
    "accuracy": Column("accuracy %", "z.2f", 100.0),
    "decision_us": Column("decision us", ",.0f"),
}


HEADLINES = {"delivered": Column("delivered quality", "z.4f"), "delay_s": Column("mean latency (ms)", "z.3f", 1e3)}
"""How a metric is shown that is the first, and so what the comparison is about."""

_LOGARITHMIC = ("delay_s", "decision_us")


@dataclass(frozen=True)
class Report:
    """A comparison, ready to be written.

    Attributes
    ----------
    config : dict
        The configuration in its plain form.
    tuned : dict
        Options that were searched for, by label.
    command : str
        The command that made it.
    metrics : sequence of str
        Names of the metrics; the first is a key of `HEADLINES`.
    values : ndarray, shape (policies, worlds, metrics)
    estimate : Estimate of shape (policies, metrics)
    difference : Estimate of shape (policies, metrics), or None
        To the reference of the configuration.
    """

    config: dict[str, Any]
    tuned: dict[str, dict[str, Any]]
    command: str
    metrics: Sequence[str]
    values: NDArray[np.float64]
    estimate: Estimate
    difference: Estimate | None

    @property
    def labels(self) -> list[str]:
        """The policies."""
        return list(self.config["policies"])

    @property
    def headline(self) -> Column:
        """How the first metric is shown."""
        return HEADLINES[self.metrics[0]]

    def show(self) -> None:
        """Print the table."""
        console = Console()
        if not console.is_terminal:
            console = Console(width=200)  # a file has no edge to wrap at
        console.print(self._table())
        console.print("[dim]95 % intervals: paired bootstrap over worlds; ± is the longer side of one[/dim]")

    def write(self, folder: Path) -> None:
        """Write ``summary.csv``, ``worlds.csv``, ``summary.json`` and ``comparison.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "summary.csv", self._summary_csv())
        write_text(folder / "worlds.csv", self._worlds_csv())
        write_text(folder / "summary.json", json.dumps(self._summary(), indent=2) + "\n")
        for name, content in draw(self).items():
            write_bytes(folder / name, content)

    def _table(self) -> Table:
        worlds, reference = self.config["worlds"], self.config["reference"]
        table = Table(title=f"{self.config['title']}: mean over {worlds} worlds", title_justify="left")
        table.add_column("policy", no_wrap=True)
        table.add_column(self.headline.title, justify="right", no_wrap=True)
        if self.difference is not None:
            table.add_column(f"less {reference!r}", justify="right", no_wrap=True)
        for name in self.metrics[1:]:
            table.add_column(COLUMNS[name].title, justify="right")
        for i, label in enumerate(self.labels):
            cells = [_interval(self.estimate, i, self.headline)]
            if self.difference is not None:
                cells.append("" if label == reference else _interval(self.difference, i, self.headline, "+"))
            cells += [_margin(self.estimate, i, k, COLUMNS[name]) for k, name in enumerate(self.metrics) if k > 0]
            table.add_row(label, *cells)
        return table

    def _summary_csv(self) -> str:
        header = ["policy", "metric", "mean", "low", "high"]
        parts = [*self.estimate]
        if self.difference is not None:
            header += ["difference", "difference_low", "difference_high"]
            parts += [*self.difference]
        rows = [
            [label, name, *(repr(float(part[i, k])) for part in parts)]
            for i, label in enumerate(self.labels)
            for k, name in enumerate(self.metrics)
        ]
        return csv_text([header, *rows])

    def _worlds_csv(self) -> str:
        first = self.config["seed"]
        rows = [
            [label, first + world, *(repr(float(value)) for value in self.values[i, world])]
            for i, label in enumerate(self.labels)
            for world in range(self.config["worlds"])
        ]
        return csv_text([["policy", "seed", *self.metrics], *rows])

    def _summary(self) -> dict[str, Any]:
        policies = {label: {"metrics": self._numbers(self.estimate, i)} for i, label in enumerate(self.labels)}
        for i, label in enumerate(self.labels):
            if self.difference is not None:
                policies[label]["difference"] = self._numbers(self.difference, i)
            if label in self.tuned:
                policies[label]["tuned"] = self.tuned[label]
        return {
            "title": self.config["title"],
            "policies": policies,
            "config": self.config,
            "command": self.command,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "git": git_revision(),
            "versions": versions(),
        }

    def _numbers(self, estimate: Estimate, i: int) -> dict[str, Any]:
        return {
            name: {part: float(value[i, k]) for part, value in estimate._asdict().items()}
            for k, name in enumerate(self.metrics)
        }


def _interval(estimate: Estimate, i: int, column: Column, sign: str = "") -> str:
    """First metric of policy `i`, its interval below."""
    mean, low, high = (format(column.factor * part[i, 0], f"{sign}{column.form}") for part in estimate)
    return f"{mean}\n[dim]\\[{low}, {high}][/dim]"


def _margin(estimate: Estimate, i: int, k: int, column: Column) -> str:
    """Metric `k` of policy `i`, below it how far its interval reaches at most to a side."""
    mean, low, high = (column.factor * part[i, k] for part in estimate)
    return f"{mean:{column.form}}\n[dim]±{max(mean - low, high - mean):{column.form}}[/dim]"


def draw(report: Report) -> dict[str, bytes]:
    """Picture of a comparison: per policy its first metric, what it violates and drops, and how long it thinks.

    Parameters
    ----------
    report : Report

    Returns
    -------
    dict of str to bytes
        Files by name.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(11.0, 1.9 + 0.42 * len(report.labels)))
        figure.set_layout_engine("constrained", wspace=0.06)
        axes = figure.subplots(1, 4, sharey=True, width_ratios=[3.2, 1.5, 1.5, 2.0])
        for axis, name in zip(axes, (report.metrics[0], "violated", "dropped", "decision_us"), strict=True):
            _dots(axis, report, name)
        axes[0].set_yticks(range(len(report.labels)), report.labels)
        axes[0].set_ylim(len(report.labels) - 0.5, -0.5)  # the first policy on top
        figure.suptitle(f"{report.config['title']}  ({report.config['worlds']} worlds, 95 % intervals)", fontsize=11)
        return {"comparison.png": render(figure)}


def _dots(axis: Any, report: Report, name: str) -> None:
    """One metric of every policy, with its interval."""
    k = list(report.metrics).index(name)
    column = report.headline if k == 0 else COLUMNS[name]
    mean, low, high = (column.factor * part[:, k] for part in report.estimate)
    rows = np.arange(len(mean))
    is_reference = np.array([label == report.config["reference"] for label in report.labels])
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
