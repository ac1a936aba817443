"""Tables and pictures of a sweep: ``python -m studies.agents.evidence runs/sweeps/queueing``.

The folder of results gets

- ``scores.csv``: a row per run.
- ``summary.csv``: a row per algorithm and reference. An algorithm is on the ``front`` if no other one has both more
  quality and fewer violations.
- ``differences.csv``: lead of an algorithm over a reference in the same worlds, in quality.
- ``improvement.csv``: probability that one run earns more than another in a world.
- ``efficiency.csv``: decisions and seconds until a run reaches some share of the target's score.
- ``curves.csv``: quartiles over runs of every evaluation in training; ``regret`` is the target minus the median.
- ``summary.json``: the sweep's configuration, and what made these files.
- ``learning_curves.png``, ``iqm.png``, ``profiles.png`` and ``front.png``.

**Intervals.** The measures are those of rliable (Agarwal et al., 2021). Its stratified bootstrap draws the runs of each
world apart, as if an agent had been trained for every world. Here one agent plays all worlds. A bad run is bad in
each of them, so its stratified interval would shrink with the number of worlds, however few the runs. So whole runs are
drawn here: alone for interquartile means and profiles, which are about the frozen worlds, and together with worlds for
means, differences and probabilities, which are about other worlds, too. The stratified interval is listed beside them,
since others report it. The interval of a difference over worlds alone, for the runs as they are, comes from the paired
bootstrap of `baselines.bootstrap`.

The curves are about the worlds in which training evaluates; the references have played these, too. A run's seconds are
taken to pass evenly over its decisions.
"""

from __future__ import annotations

import agents  # noqa: F401  # isort: skip  # first: it names the extra

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from rich.table import Table
from rliable.metrics import aggregate_iqm  # type: ignore[import-untyped]

from baselines.bootstrap import paired_bootstrap
from baselines.compare import ROOT
from baselines.family import digest_scenario, scenario_of
from baselines.output import git_revision, open_console
from coinfer_gym.command import command, command_line
from coinfer_gym.files import csv_text, lock_folder, versions, write_text
from studies.agents.evidence_data import UPPER, Evidence, bootstrap, improvement, read_sweep
from studies.agents.evidence_pictures import write_pictures

PUBLISHED = ROOT / "docs" / "results" / "agents"
"""Folder of the published results."""


def _difference(evidence: Evidence, label: str, reference: str) -> dict[str, float]:
    """Lead of an entry over a reference in the same worlds, in quality."""
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
    _, low_runs, high_runs = bootstrap(scores.delivered, np.mean, "runs")
    violated, violated_low, violated_high = bootstrap(scores.violated, np.mean, "runs")
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
        "mean_low_runs": low_runs,
        "mean_high_runs": high_runs,
        "share_of_target": mean / evidence.target.delivered.mean(),
        "share_of_clairvoyant": mean / evidence.upper.mean(),
        "violated": violated,
        "violated_low": violated_low,
        "violated_high": violated_high,
        "dropped": scores.dropped.mean(),
        "front": label in evidence.front if label in evidence.agents else None,
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
    """Medians over all runs; empty if most of them never reached the share."""
    rows: list[tuple[Any, ...]] = [("algorithm", "share_of_target", "runs", "reached", "decisions", "seconds")]
    for label, curves in evidence.curves.items():
        for share, times in curves.reached.items():
            decisions, seconds = np.median(np.array(times), axis=0)
            reached = sum(math.isfinite(time) for time, _ in times)
            middle = (decisions, seconds) if math.isfinite(decisions) else ("", "")
            rows.append((label, share, len(times), reached, *middle))
    return rows


def _curve_rows(evidence: Evidence) -> list[tuple[Any, ...]]:
    """Quartiles over runs; regret of the median to the target, and its share of the clairvoyant optimum."""
    rows: list[tuple[Any, ...]] = [("algorithm", "timesteps", "q25", "median", "q75", "regret", "share_of_clairvoyant")]
    target, upper = evidence.levels[evidence.config.target], evidence.levels[UPPER]
    for label, curves in evidence.curves.items():
        for steps, low, middle, high in zip(curves.timesteps, *curves.quartiles, strict=True):
            rows.append((label, int(steps), low, middle, high, target - middle, middle / upper))
    return rows


def _improvement_rows(evidence: Evidence) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = [("algorithm", "other", "probability", "low", "high")]
    for label, scores in evidence.agents.items():
        for other, theirs in evidence.players.items():
            if other != label:
                rows.append((label, other, *improvement(scores.delivered, theirs.delivered)))
    return rows


def write_evidence(evidence: Evidence, folder: Path, command: str) -> None:
    """Write all tables and pictures."""
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
        "curves": _curve_rows(evidence),
    }
    for name, rows in tables.items():
        write_text(folder / f"{name}.csv", csv_text([[_cell(value) for value in row] for row in rows]))
    content = {
        "title": evidence.config.title,
        "command": command,
        "git_revision": git_revision(),
        "versions": versions(),
        "sweep": evidence.config.model_dump(mode="json"),
        "scenario_digest": digest_scenario(
            scenario_of(gym.make(evidence.config.env, **evidence.config.env_kwargs)), True
        ),
        "missing": evidence.missing,
        "clairvoyant": {"lower": evidence.lower.mean(), "upper": evidence.upper.mean()},
    }
    write_text(folder / "summary.json", json.dumps(content, indent=2, default=float) + "\n")
    write_pictures(evidence, folder)
    _show(evidence, summary, differences)


def _table_rows(records: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(records[0]), *(tuple(record.values()) for record in records)]


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()  # as in JSON
    return f"{value:.6g}" if isinstance(value, float) else value


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
    against = Table(title="mean, relative to a reference")
    against.add_column("")
    for reference in evidence.references:
        against.add_column(reference, justify="right")
    found = {(row["algorithm"], row["reference"]): row for row in differences}
    for label in evidence.ranked:
        rows = [found[label, reference] for reference in evidence.references]
        cells = (f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]" for row in rows)
        against.add_row(label, *cells)
    about = f"Target: {evidence.config.target}. 95 % intervals: of IQM over runs, of differences over runs and worlds."
    open_console().print(scores, against, about, sep="\n", highlight=False)


@command("studies.agents.evidence")
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        "python -m studies.agents.evidence", description="Make tables and pictures of a sweep."
    )
    parser.add_argument("sweep", type=Path, help="folder of a sweep, such as runs/sweeps/queueing")
    parser.add_argument("--out", type=Path, help="folder of the results (default: runs/evidence/NAME)")
    parser.add_argument("--publish", action="store_true", help="write to docs/results/agents/NAME, which is tracked")
    options = parser.parse_args(given)
    results = PUBLISHED if options.publish else Path("runs", "evidence")
    folder = options.out or results / options.sweep.resolve().name
    evidence = read_sweep(options.sweep)
    with lock_folder(folder):
        write_evidence(evidence, folder, command_line("studies.agents.evidence", given))
    if evidence.missing:
        left_out = f"{len(evidence.missing)} runs are not finished and left out: {'; '.join(evidence.missing)}"
        print(f"studies.agents.evidence: {left_out}", file=sys.stderr)
    print(f"written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
