"""What a sweep has shown: ``python -m agents.evidence runs/sweeps/queueing``; tables and pictures from its folder.

Written are, to ``docs/results/agents/NAME`` by default:

- ``scores.csv``: a row per run.
- ``summary.csv`` and ``summary.json``: a row per algorithm and reference; the JSON also tells of what is below.
- ``differences.csv``: quality of an algorithm less that of a reference in the same worlds.
- ``improvement.csv``: probability that one run earns more than another in a world.
- ``efficiency.csv``: decisions and seconds until a run has some share of the target's score.
- ``learning_curves``, ``iqm`` and ``profiles``, each a PNG and an SVG.

**Intervals.** The measures are those of `rliable` (Agarwal et al., 2021). Its stratified bootstrap draws runs for each
world apart, as if every world had been trained for by itself. Here one agent plays all worlds: a run that went badly
is bad in each, and so drawn the interval shrinks with the number of worlds, however few the runs. Here whole runs are
drawn: alone for interquartile means and profiles, which are of the frozen worlds, and together with worlds for means,
differences and probabilities, which speak of other worlds, too. The stratified interval stands beside the first for
comparison with what others report. The interval of a difference over worlds alone, for the runs as they are, comes from
the paired bootstrap of `baselines.compare`.

The curves, and what is measured on them, are of the worlds in which training evaluates; the references have played
these, too. A run's seconds are taken to pass evenly over its decisions.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rliable.metrics import aggregate_iqm  # type: ignore[import-untyped]

from agents.sweep import BOUNDS, METRICS, Run, SweepConfig, list_runs, load_sweep, read_rows, selection_worlds
from baselines._bootstrap import paired_bootstrap
from baselines._output import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    GRID,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    csv_text,
    git_revision,
    render,
    style,
    versions,
    write_bytes,
    write_text,
)
from coinfer_gym.errors import InvalidInputError

__all__ = ["Evidence", "Scores", "bootstrap", "improvement", "main", "read_sweep"]

Floats = NDArray[np.float64]
Measure = Callable[[Floats], Any]
Draw = Literal["runs", "runs and worlds", "stratified"]

SHARES = (0.90, 0.95, 0.99)
"""Shares of the target's score that ``efficiency.csv`` asks for."""

RESAMPLES = 2000
_THRESHOLDS = 201  # of a profile
_LOWER, _UPPER = BOUNDS
_COLORS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)))  # the colours come again in the next of these
_REFERENCE_DASHES: tuple[Any, ...] = ((0, (1, 1.5)), (0, (4, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (8, 2)))
_SWEEP_AGAIN = "Run the sweep again, it goes on where it stopped."


@dataclass(frozen=True)
class Scores:
    """Who earned what in the frozen worlds.

    Attributes
    ----------
    delivered, violated, dropped : ndarray, shape (runs, worlds)
        One row for a reference.
    """

    delivered: Floats
    violated: Floats
    dropped: Floats


@dataclass(frozen=True)
class Curves:
    """Evaluations of one entry during training.

    Attributes
    ----------
    timesteps : ndarray, shape (evaluations,)
        Decisions; of all runs together.
    delivered : ndarray, shape (runs, evaluations)
        Between the evaluations of a run on a straight line.
    reached : dict of float to list of (decisions, seconds)
        By the share of the target's score, for every run; infinite where it never got there.
    """

    timesteps: Floats
    delivered: Floats
    reached: dict[float, list[tuple[float, float]]]


@dataclass(frozen=True)
class Evidence:
    """A sweep, read.

    Attributes
    ----------
    config : SweepConfig
    runs : dict of list of Run
        Finished runs by entry.
    agents : dict of Scores
        Of these, by entry.
    references : dict of Scores
        By label.
    lower, upper : ndarray, shape (worlds,)
        Bounds of the clairvoyant optimum.
    curves : dict of Curves
        By entry.
    levels : dict of float
        Means of references and bounds in the worlds of selection.
    missing : list of str
        Runs that are not finished.
    """

    config: SweepConfig
    runs: dict[str, list[Run]]
    agents: dict[str, Scores]
    references: dict[str, Scores]
    lower: Floats
    upper: Floats
    curves: dict[str, Curves]
    levels: dict[str, float]
    missing: list[str]

    @property
    def target(self) -> Scores:
        """The reference that counts as 100 %."""
        return self.references[self.config.target]

    @property
    def players(self) -> dict[str, Scores]:
        """Entries and references."""
        return self.agents | self.references

    @property
    def ranked(self) -> list[str]:
        """Entries, the one with the best interquartile mean first."""
        return sorted(self.agents, key=lambda label: -aggregate_iqm(self.agents[label].delivered))


def read_sweep(folder: Path) -> Evidence:
    """Read the folder of a sweep.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Evidence

    Raises
    ------
    InvalidInputError
        If it is no folder of a sweep, no run is finished, or a file is damaged.
    """
    if not (folder / "sweep.yaml").is_file():
        remedy = "It is no folder of a sweep. Make one by: python -m agents.sweep configs/sweeps/NAME.yaml"
        raise InvalidInputError("folder", str(folder), remedy)
    config = load_sweep(folder / "sweep.yaml")
    reference = _read_reference(folder / "reference.csv")
    selection = selection_worlds(config)
    frozen = {label: _pick(reference, label, config.frozen, folder) for label in (*config.references, *BOUNDS)}
    levels = {
        label: float(_pick(reference, label, selection, folder).delivered.mean())
        for label in (*config.references, *BOUNDS)
    }
    runs: dict[str, list[Run]] = {}
    missing = []
    for run in list_runs(config, folder):
        if _is_finished(run):
            runs.setdefault(run.label, []).append(run)
        else:
            missing.append(run.name)
    if not runs:
        raise InvalidInputError("folder", str(folder), f"No run of it is finished. {_SWEEP_AGAIN}")
    runs = {label: runs[label] for label in config.entries if label in runs}
    return Evidence(
        config=config,
        runs=runs,
        agents={label: _read_scores(group, config.frozen) for label, group in runs.items()},
        references={label: frozen[label] for label in config.references},
        lower=frozen[_LOWER].delivered[0],
        upper=frozen[_UPPER].delivered[0],
        curves={label: _read_curves(group, levels[config.target]) for label, group in runs.items()},
        levels=levels,
        missing=missing,
    )


def _is_finished(run: Run) -> bool:
    folder = run.config.folder
    return all((folder / name).exists() for name in ("results.json", "evaluations.csv", "evaluation.csv"))


def _read_reference(path: Path) -> dict[str, dict[int, list[float]]]:
    """Metrics by policy and world."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in read_rows(path):
        found.setdefault(_text(row, "policy", path), {})[int(_number(row, "world", path))] = [
            _number(row, name, path) for name in METRICS
        ]
    return found


def _pick(found: Mapping[str, Mapping[int, list[float]]], label: str, worlds: range, folder: Path) -> Scores:
    rows = found.get(label, {})
    if any(world not in rows for world in worlds):
        remedy = f"{label!r} has not played all worlds. {_SWEEP_AGAIN}"
        raise InvalidInputError("file", str(folder / "reference.csv"), remedy)
    return Scores(*np.array([rows[world] for world in worlds]).T[:, None, :])


def _read_scores(runs: Sequence[Run], worlds: range) -> Scores:
    tables = []
    for run in runs:
        path = run.config.folder / "evaluation.csv"
        rows = read_rows(path)
        if [int(_number(row, "world", path)) for row in rows] != list(worlds):
            raise InvalidInputError("file", str(path), f"It is of other worlds. {_SWEEP_AGAIN}")
        tables.append([[_number(row, name, path) for name in METRICS] for row in rows])
    return Scores(*np.array(tables).transpose(2, 0, 1))


def _read_curves(runs: Sequence[Run], target: float) -> Curves:
    """Evaluations of some runs, and when each had the shares of the target's score."""
    curves = []
    reached: dict[float, list[tuple[float, float]]] = {share: [] for share in SHARES}
    for run in runs:
        path = run.config.folder / "evaluations.csv"
        rows = read_rows(path)
        steps, delivered = (np.array([_number(row, name, path) for row in rows]) for name in ("timesteps", "delivered"))
        curves.append((steps, delivered))
        seconds = _read_seconds(run.config.folder / "results.json")
        for share in SHARES:
            good = np.flatnonzero(delivered >= share * target)
            decisions = float(steps[good[0]]) if good.size else math.inf
            reached[share].append((decisions, decisions * seconds / max(steps[-1], 1.0)))
    grid = np.unique(np.concatenate([steps for steps, _ in curves]))
    grid = grid[grid <= min(steps[-1] for steps, _ in curves)]
    return Curves(grid, np.array([np.interp(grid, *curve) for curve in curves]), reached)


def _read_seconds(path: Path) -> float:
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidInputError("file", str(path), "It is damaged: delete it, and sweep again.") from error


def _text(row: Mapping[str, str], name: str, path: Path) -> str:
    if name not in row:
        raise InvalidInputError("file", str(path), f"It has no column {name!r}: delete it, and sweep again.")
    return row[name]


def _number(row: Mapping[str, str], name: str, path: Path) -> float:
    """Number of a cell; NaN where it is empty."""
    text = _text(row, name, path)
    try:
        return float(text) if text else math.nan
    except ValueError as error:
        raise InvalidInputError(
            f"{path}: {name}", text, "It is no number: delete the file, and sweep again."
        ) from error


def bootstrap(scores: Floats, measure: Measure, draw: Draw, seed: int = 0) -> tuple[Any, Any, Any]:
    """A measure of scores and its 95 % percentile interval.

    Parameters
    ----------
    scores : ndarray, shape (runs, worlds)
    measure : callable
        Of such an array; a number or an array.
    draw : {"runs", "runs and worlds", "stratified"}
        What is drawn anew: whole runs, these and worlds, or runs for every world apart, as `rliable` does.
    seed : int
        Of the generator.

    Returns
    -------
    value, low, high
    """
    generator = np.random.default_rng(seed)
    runs, worlds = scores.shape
    columns: NDArray[Any] = np.arange(worlds)
    values = []
    for _ in range(RESAMPLES):
        rows = generator.integers(runs, size=(runs, worlds if draw == "stratified" else 1))
        if draw == "runs and worlds":
            columns = generator.integers(worlds, size=(worlds,))
        values.append(measure(scores[rows, columns]))
    low, high = np.percentile(values, [2.5, 97.5], axis=0)
    return measure(scores), low, high


def improvement(scores: Floats, other: Floats, seed: int = 0) -> tuple[float, float, float]:
    """Probability that a run earns more than one of another algorithm in the same world, and its 95 % interval.

    Parameters
    ----------
    scores, other : ndarray, shape (runs, worlds)
        Equal scores count half.
    seed : int
        Of the generator.

    Returns
    -------
    value, low, high
    """
    ahead = scores[:, None] - other[None]
    wins = np.where(ahead > 0.0, 1.0, np.where(ahead < 0.0, 0.0, 0.5))
    generator = np.random.default_rng(seed)
    weights = [generator.multinomial(count, np.full(count, 1.0 / count), RESAMPLES) / count for count in wins.shape]
    drawn = np.einsum("ri,rj,rij->r", weights[0], weights[1], np.tensordot(weights[2], wins, (1, 2)))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(wins.mean()), float(low), float(high)


def _difference(evidence: Evidence, label: str, reference: str) -> dict[str, float]:
    """Quality of an entry less that of a reference in the same worlds."""
    agent, other = evidence.agents[label].delivered, evidence.references[reference].delivered
    _, over_worlds = paired_bootstrap(np.stack([other[0], agent.mean(axis=0)])[:, :, None], reference=0)
    assert over_worlds is not None
    value, low, high = bootstrap(agent - other, np.mean, "runs and worlds")
    return {
        "difference": float(value),
        "low_worlds": float(over_worlds.low[1, 0]),
        "high_worlds": float(over_worlds.high[1, 0]),
        "low": float(low),
        "high": float(high),
    }


def _summarise(evidence: Evidence, label: str) -> dict[str, Any]:
    """Row of ``summary.csv``."""
    scores = evidence.players[label]
    mean, mean_low, mean_high = bootstrap(scores.delivered, np.mean, "runs and worlds")
    iqm, low, high = bootstrap(scores.delivered, aggregate_iqm, "runs")
    _, stratified_low, stratified_high = bootstrap(scores.delivered, aggregate_iqm, "stratified")
    return {
        "algorithm": label,
        "runs": len(scores.delivered) if label in evidence.agents else 0,
        "iqm": iqm,
        "iqm_low": low,
        "iqm_high": high,
        "iqm_low_stratified": stratified_low,
        "iqm_high_stratified": stratified_high,
        "mean": mean,
        "mean_low": mean_low,
        "mean_high": mean_high,
        "share_of_target": mean / evidence.target.delivered.mean(),
        "share_of_clairvoyant": mean / evidence.upper.mean(),
        "violated": scores.violated.mean(),
        "dropped": scores.dropped.mean(),
    }


def _score_rows(evidence: Evidence) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = [
        ("algorithm", "seed", "delivered", "share_of_target", "share_of_clairvoyant", "violated", "dropped")
    ]
    for label, scores in evidence.agents.items():
        for k, run in enumerate(evidence.runs[label]):
            mean = scores.delivered[k].mean()
            shares = (mean / evidence.target.delivered.mean(), mean / evidence.upper.mean())
            rows.append((label, run.config.seed, mean, *shares, scores.violated[k].mean(), scores.dropped[k].mean()))
    return rows


def _efficiency_rows(evidence: Evidence) -> list[tuple[Any, ...]]:
    """Medians over all runs; empty where most of them never got there."""
    rows: list[tuple[Any, ...]] = [("algorithm", "share_of_target", "runs", "reached", "decisions", "seconds")]
    for label, curves in evidence.curves.items():
        for share, times in curves.reached.items():
            decisions, seconds = np.median(np.array(times), axis=0)
            reached = sum(math.isfinite(time) for time, _ in times)
            middle = (decisions, seconds) if math.isfinite(decisions) else ("", "")
            rows.append((label, share, len(times), reached, *middle))
    return rows


def _improvement_rows(evidence: Evidence) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = [("algorithm", "other", "probability", "low", "high")]
    for label, scores in evidence.agents.items():
        for other, theirs in evidence.players.items():
            if other != label:
                rows.append((label, other, *improvement(scores.delivered, theirs.delivered)))
    return rows


def write_evidence(evidence: Evidence, folder: Path, command: str) -> None:
    """Write all tables and pictures.

    Parameters
    ----------
    evidence : Evidence
    folder : Path
    command : str
        The command that made them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = [_summarise(evidence, label) for label in evidence.players]
    differences = [
        {"algorithm": label, "reference": reference} | _difference(evidence, label, reference)
        for label in evidence.agents
        for reference in evidence.references
    ]
    tables = {
        "scores": _score_rows(evidence),
        "summary": _table_rows(summary),
        "differences": _table_rows(differences),
        "improvement": _improvement_rows(evidence),
        "efficiency": _efficiency_rows(evidence),
    }
    for name, rows in tables.items():
        write_text(folder / f"{name}.csv", csv_text([[_cell(value) for value in row] for row in rows]))
    content = {
        "title": evidence.config.title,
        "command": command,
        "git_revision": git_revision(),
        "versions": versions(),
        "sweep": evidence.config.model_dump(mode="json"),
        "missing": evidence.missing,
        "clairvoyant": {"lower": evidence.lower.mean(), "upper": evidence.upper.mean()},
        "summary": summary,
        "differences": differences,
        "improvement": _records(tables["improvement"]),
        "efficiency": _records(tables["efficiency"]),
    }
    write_text(folder / "summary.json", json.dumps(content, indent=2, default=float) + "\n")
    for name, draw in (("learning_curves", _draw_curves), ("iqm", _draw_iqm), ("profiles", _draw_profiles)):
        _write_picture(folder / name, partial(draw, evidence))
    _show(evidence, summary, differences)


def _table_rows(records: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(records[0]), *(tuple(record.values()) for record in records)]


def _records(rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _write_picture(path: Path, draw: Callable[[Any], None]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style():
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        for kind in ("png", "svg"):
            write_bytes(path.with_suffix(f".{kind}"), render(figure, kind))


def _lines(evidence: Evidence) -> list[tuple[str, Any, float]]:
    """Label, dashes and line width of references and of the clairvoyant optimum."""
    labels = [*evidence.references, _UPPER]
    dashes = [_REFERENCE_DASHES[i % len(_REFERENCE_DASHES)] for i in range(len(labels) - 1)]
    return [(label, dash, 1.2) for label, dash in zip(labels, [*dashes, "-"], strict=True)]


def _dress(axis: Any) -> None:
    axis.grid(color=GRID, linewidth=0.6)
    axis.spines["top"].set_visible(False)
    axis.set_axisbelow(True)


def _draw_curves(evidence: Evidence, figure: Any) -> None:
    """A panel per entry: median and interquartile band over runs, and where references and the optimum lie."""
    labels = evidence.ranked
    columns = min(3, len(labels))
    rows = math.ceil(len(labels) / columns)
    figure.set_size_inches(1.2 + 3.1 * columns, 1.4 + 2.3 * rows)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    upper = evidence.levels[_UPPER]
    low, high = _curve_limits(evidence)
    for axis, label in zip(axes.flat, labels, strict=False):
        curves = evidence.curves[label]
        bottom, middle, top = np.percentile(curves.delivered, [25, 50, 75], axis=0)
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
        share = axis.secondary_yaxis("right", functions=(lambda y: 100.0 * y / upper, lambda s: s * upper / 100.0))
        share.tick_params(labelsize=8)
        if axis.get_subplotspec().is_last_col() or label == labels[-1]:
            share.set_ylabel("% of clairvoyant")
        else:
            share.set_yticklabels([])
    for axis in axes.flat[len(labels) :]:
        axis.set_visible(False)
    figure.supxlabel("decisions in training", fontsize=10)
    figure.supylabel("delivered quality per task", fontsize=10)
    handles, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=9)


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


def _show(evidence: Evidence, summary: Sequence[Mapping[str, Any]], differences: Iterable[Mapping[str, Any]]) -> None:
    """Print scores, and differences to the references."""
    scores = Table(title=evidence.config.title)
    scores.add_column("")
    for name in ("runs", "IQM", "95 %", "mean", "% of target", "% of clairvoyant", "violated %"):
        scores.add_column(name, justify="right")
    for row in sorted(summary, key=lambda row: (row["algorithm"] in evidence.references, -row["iqm"])):
        shares = (f"{100.0 * row[name]:.2f}" for name in ("share_of_target", "share_of_clairvoyant", "violated"))
        interval = f"{row['iqm_low']:.4f} .. {row['iqm_high']:.4f}"
        runs = str(row["runs"] or "")
        scores.add_row(row["algorithm"], runs, f"{row['iqm']:.4f}", interval, f"{row['mean']:.4f}", *shares)
    against = Table(title="mean less that of a reference")
    against.add_column("")
    for reference in evidence.references:
        against.add_column(reference, justify="right")
    found = {(row["algorithm"], row["reference"]): row for row in differences}
    for label in evidence.ranked:
        rows = [found[label, reference] for reference in evidence.references]
        cells = (f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]" for row in rows)
        against.add_row(label, *cells)
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file has no edge to wrap at
    about = f"Target: {evidence.config.target}. 95 % intervals: of IQM over runs, of differences over runs and worlds."
    console.print(scores, against, about, sep="\n", highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser("python -m agents.evidence", description="Tables and pictures of a sweep.")
    parser.add_argument("sweep", type=Path, help="folder of a sweep, such as runs/sweeps/queueing")
    parser.add_argument("--out", type=Path, help="folder of the results (default: docs/results/agents/NAME)")
    options = parser.parse_args(given)
    folder = options.out or Path("docs", "results", "agents", options.sweep.resolve().name)
    try:
        evidence = read_sweep(options.sweep)
    except InvalidInputError as error:
        print(f"agents.evidence: {error}", file=sys.stderr)
        return 2
    write_evidence(evidence, folder, shlex.join(["python", "-m", "agents.evidence", *given]))
    if evidence.missing:
        print(f"agents.evidence: {len(evidence.missing)} runs are not finished and left out: ", file=sys.stderr, end="")
        print("; ".join(evidence.missing), file=sys.stderr)
    print(f"written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
