"""Reads the folder of a sweep, and computes the intervals that `studies.agents.evidence` reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rliable.metrics import aggregate_iqm  # type: ignore[import-untyped]

from baselines.journal import digest_files
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import read_json
from studies.agents.sweep import read_rows
from studies.agents.sweep_config import BOUNDS, METRICS, Run, SweepConfig, list_runs, load_sweep, selection_worlds

Floats = NDArray[np.float64]
Measure = Callable[[Floats], Any]
Draw = Literal["runs", "runs and worlds", "stratified"]

SHARES = (0.90, 0.95, 0.99)
"""Shares of the target's score that ``efficiency.csv`` asks for."""

UPPER = BOUNDS[1]
"""Label of what counts as 100 % of the clairvoyant optimum."""

RESAMPLES = 2000
_SWEEP_AGAIN = "Run the sweep again: it continues where it stopped."


@dataclass(frozen=True)
class Scores:
    """Results in the frozen worlds."""

    # shape (runs, worlds): one row for a reference
    delivered: Floats
    violated: Floats
    dropped: Floats


@dataclass(frozen=True)
class Curves:
    """Evaluations of one entry during training."""

    timesteps: Floats  # shape (evaluations,): decisions; of all runs together
    delivered: Floats  # shape (runs, evaluations): interpolated between the evaluations of a run
    # by share of the target's score, for every run; infinite for a run that never reached it
    reached: dict[float, list[tuple[float, float]]]

    @property
    def quartiles(self) -> Floats:
        """Lower quartile, median and upper one over runs, a row each."""
        rows: Floats = np.percentile(self.delivered, [25, 50, 75], axis=0)
        return rows


@dataclass(frozen=True)
class Evidence:
    """A sweep, read."""

    config: SweepConfig
    runs: dict[str, list[Run]]  # finished runs by entry
    agents: dict[str, Scores]  # of these, by entry
    references: dict[str, Scores]  # by label
    # shape (worlds,): bounds of the clairvoyant optimum
    lower: Floats
    upper: Floats
    curves: dict[str, Curves]  # by entry
    levels: dict[str, float]  # means of references and bounds in the worlds of selection
    missing: list[str]  # runs that are not finished

    @property
    def target(self) -> Scores:
        """The reference that counts as 100 %."""
        return self.references[self.config.target]

    @property
    def players(self) -> dict[str, Scores]:
        """Entries and references."""
        return self.agents | self.references

    @property
    def front(self) -> list[str]:
        """Entries on the Pareto front of quality and violations."""
        delivered, violated = ([getattr(s, name).mean() for s in self.agents.values()] for name in METRICS[:2])
        marks = front(np.array(delivered), np.array(violated))
        return [label for label, mark in zip(self.agents, marks.tolist(), strict=True) if mark]

    @property
    def ranked(self) -> list[str]:
        """Entries, the one with the best interquartile mean first."""
        return sorted(self.agents, key=lambda label: -aggregate_iqm(self.agents[label].delivered))


def read_sweep(folder: Path) -> Evidence:
    """Read the folder of a sweep."""
    if not (folder / "sweep.yaml").is_file():
        remedy = (
            "It is not the folder of a sweep. Make one with: python -m studies.agents.sweep configs/sweeps/NAME.yaml"
        )
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
        raise InvalidInputError("folder", str(folder), f"None of its runs is finished. {_SWEEP_AGAIN}")
    runs = {label: runs[label] for label in config.entries if label in runs}
    return Evidence(
        config=config,
        runs=runs,
        agents={label: _read_scores(group, config.frozen) for label, group in runs.items()},
        references={label: frozen[label] for label in config.references},
        lower=frozen[BOUNDS[0]].delivered[0],
        upper=frozen[UPPER].delivered[0],
        curves={label: _read_curves(group, levels[config.target]) for label, group in runs.items()},
        levels=levels,
        missing=missing,
    )


def _is_finished(run: Run) -> bool:
    folder = run.config.folder
    return all(
        (folder / name).exists() for name in ("results.json", "evaluations.csv", "evaluation.csv", "evaluation.json")
    )


def _read_reference(path: Path) -> dict[str, dict[int, list[float]]]:
    """Metrics by policy and world."""
    found: dict[str, dict[int, list[float]]] = {}
    rows = _read_table(path, ("policy", "world", *METRICS))
    for row, (world, *metrics) in zip(rows, _numbers(rows, ("world", *METRICS), path).tolist(), strict=True):
        found.setdefault(row["policy"], {})[int(world)] = metrics
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
        path, names = run.config.folder / "evaluation.csv", ("world", *METRICS)
        numbers = _numbers(_read_table(path, names), names, path)
        if numbers[:, 0].tolist() != list(worlds):
            raise InvalidInputError("file", str(path), f"It is about other worlds. {_SWEEP_AGAIN}")
        tables.append(numbers[:, 1:])
    return Scores(*np.array(tables).transpose(2, 0, 1))


def _read_curves(runs: Sequence[Run], target: float) -> Curves:
    """Evaluations of some runs, and when each reached the shares of the target's score."""
    curves = []
    reached: dict[float, list[tuple[float, float]]] = {share: [] for share in SHARES}
    for run in runs:
        path, names = run.config.folder / "evaluations.csv", ("timesteps", "delivered")
        steps, delivered = _numbers(_read_table(path, names, noted=False), names, path).T
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
        return float(read_json(path, "file")["seconds"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError("file", str(path), "It is damaged: delete it and sweep again.") from error


def _read_table(path: Path, names: Sequence[str], noted: bool = True) -> list[dict[str, str]]:
    """Rows of a table with these columns. If the sweep has `noted` its digest, it must be as it was written."""
    rows = read_rows(path)
    if noted:
        about = read_json(path.with_suffix(".json"), "file")
        if not isinstance(about, dict) or about.get("table") != digest_files([str(path)]):
            raise InvalidInputError("file", str(path), f"It was changed after it was written. {_SWEEP_AGAIN}")
    for name in names:
        if name not in rows[0]:
            raise InvalidInputError("file", str(path), f"It has no column {name!r}: delete it and sweep again.")
    return rows


def _numbers(rows: Sequence[Mapping[str, str]], names: Sequence[str], path: Path) -> Floats:
    """Columns of rows, numbers of at least 0, shape (rows, names); NaN where a cell is empty."""
    values = np.empty((len(rows), len(names)))
    for i, j in np.ndindex(values.shape):
        text = rows[i][names[j]]
        try:
            values[i, j] = float(text or "nan")
        except ValueError:
            values[i, j] = -1.0
        if text and not 0.0 <= values[i, j] < math.inf:
            remedy = "It must be a number of at least 0: delete the file and sweep again."
            raise InvalidInputError(f"{path}: {names[j]}", text, remedy)
    return values


def bootstrap(scores: Floats, measure: Measure, draw: Draw, seed: int = 0) -> tuple[Any, Any, Any]:
    """A measure of scores of shape (runs, worlds), and the ends of its 95 % percentile interval.

    Drawn anew are whole runs, runs and worlds, or, for "stratified", the runs of every world apart, as rliable does.
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

    The scores have the shape (runs, worlds); equal scores count half. The value is rliable's
    ``probability_of_improvement``; the interval is over whole runs and worlds.
    """
    ahead = np.sign(scores[:, None] - other[None])
    wins = 0.5 + 0.5 * ahead
    generator = np.random.default_rng(seed)
    weights = [generator.multinomial(count, np.full(count, 1.0 / count), RESAMPLES) / count for count in wins.shape]
    drawn = np.einsum("ri,rj,rij->r", weights[0], weights[1], np.tensordot(weights[2], wins, (1, 2)))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(wins.mean()), float(low), float(high)


def front(quality: Floats, violated: Floats) -> NDArray[np.bool_]:
    """Pareto front of more quality and fewer violations; equal points do not beat each other."""
    no_worse = (quality[:, None] >= quality) & (violated[:, None] <= violated)
    better = (quality[:, None] > quality) | (violated[:, None] < violated)
    marks: NDArray[np.bool_] = ~np.any(no_worse & better, axis=0)
    return marks
