"""A frozen suite of tasks, and the score of any policy on it: ``python -m baselines.suite POLICY [KEY=VALUE ...]``.

    python -m baselines.suite agents.policy:load_agent path=runs/mine
    python -m baselines.suite myopic_exact --tasks bursts late

Each file of ``configs/suite`` is a task: a world, and references that play in it. Agents train on the seeds `TRAIN`,
are chosen on `VALIDATION` and scored on `TEST`. What the references reach there, and a bound of what anyone can, is
stored in ``configs/suite/references.json``; ``--references`` makes that file anew. Worlds and seeds of a version never
change.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy.stats import trim_mean
from tqdm import tqdm

from baselines.arguments import key_and_value
from baselines.checks import check_model
from baselines.compare import compare
from baselines.config import TEST, TRAIN, VALIDATION, CompareConfig, PolicyConfig, load_config
from baselines.family import family_of, scenario_of
from baselines.output import git_revision, open_console
from baselines.registry import check_options, find_policy
from baselines.report import Comparison
from baselines.rollout import TAILS
from coinfer_gym import InvalidInputError
from coinfer_gym.command import command, command_line
from coinfer_gym.errors import nearest
from coinfer_gym.files import lock_folder, read_json, read_text, versions, write_text
from coinfer_gym.parallel import run_parallel

__all__ = ["TASKS", "TEST", "TRAIN", "VALIDATION", "Task", "interquartile_mean", "load_task", "score"]

VERSION = 1
"""Of worlds, seeds and scores: results of different versions are not comparable."""

FOLDER = Path(__file__).resolve().parent.parent / "configs" / "suite"
REFERENCES = FOLDER / "references.json"
TASKS = ("bursts", "bursts-hard", "steady", "late", "battery", "image", "measured", "generation")
YOURS = "policy"
"""Label of the policy that is scored."""

RESAMPLES = 2_000


class Task(CompareConfig):
    """A task of the suite: the configuration of a comparison whose worlds are fixed, and what an agent may use."""

    worlds: int = len(TEST)
    seed: int = TEST.start
    decisions: int = 1_000_000
    """Decisions that an agent may take in training."""


def load_task(name: str) -> Task:
    """A task by its name; raises `InvalidInputError` for one that is not in the suite."""
    if name not in TASKS:
        raise InvalidInputError("task", name, nearest(name, TASKS))
    task = check_model(Task, FOLDER / f"{name}.yaml", f"suite: {name}")
    load_config(task.model_dump(exclude={"decisions"}))
    return task


def play(
    name: str, policies: Mapping[str, PolicyConfig], folder: Path | None, jobs: int, trust: Sequence[str] = ()
) -> Comparison:
    """What some policies earn in a task, the tails of their delays included."""
    content = load_task(name).model_dump(exclude={"decisions", "reference", "policies"})
    config = CompareConfig(**content, policies=dict(policies))
    return compare(config, folder, jobs, trust=trust, more=TAILS)


def score(
    policy: PolicyConfig,
    tasks: Sequence[str] = TASKS,
    folder: Path | None = None,
    jobs: int = 1,
    trust: Sequence[str] = (),
) -> dict[str, Any]:
    """Score a policy on some tasks of the suite.

    Parameters
    ----------
    policy : PolicyConfig
        Its name and options, as in a configuration of `baselines.compare`.
    tasks : sequence of str
        Names, of `TASKS`.
    folder : Path, optional
        Keeps the worlds that were played, as in `baselines.compare`.
    jobs : int
        Number of processes.
    trust : sequence of str
        Modules of your own that the policy may come from.

    Returns
    -------
    dict
        By task what it earned (``metrics`` as in `baselines.compare`, ``delivered`` by world) and its ``share`` of the
        bound; and over all tasks the ``interquartile_mean`` of the shares of all worlds, with a 95 % interval.

    Raises
    ------
    InvalidInputError
        If a task or the policy is unknown, or the references belong to other worlds.
    """
    stored = read_references(tasks)
    found: dict[str, Any] = {}
    shares = []
    for name in tasks:
        comparison = play(name, {YOURS: policy}, folder, jobs, trust)
        if comparison.scenario_digest != stored[name]["scenario_digest"]:
            remedy = "The worlds of the suite have changed: python -m baselines.suite --references"
            raise InvalidInputError(f"{REFERENCES.name}: {name}", stored[name]["scenario_digest"], remedy)
        shares.append(comparison.values[0, :, 0] / np.array(stored[name]["bound"]))
        found[name] = summary(comparison)[YOURS] | {"share": float(np.mean(shares[-1]))}
    middle, low, high = interquartile_mean(shares)
    return {"version": VERSION, "tasks": found, "interquartile_mean": {"mean": middle, "low": low, "high": high}}


def summary(comparison: Comparison) -> dict[str, Any]:
    """Metrics of each policy as means over worlds with their intervals, and what it delivered in every world."""
    policies = comparison.summary("")["policies"]
    return {
        label: {"metrics": policies[label]["metrics"], "delivered": row[:, 0].round(6).tolist()}
        for label, row in zip(comparison.labels, comparison.values, strict=True)
    }


def interquartile_mean(shares: Sequence[NDArray[np.float64]]) -> tuple[float, float, float]:
    """Mean of the middle half of all shares, one array a task, and its 95 % interval.

    The worlds of each task are resampled by themselves (Agarwal et al. 2021, stratified bootstrap).
    """
    generator = np.random.default_rng(0)
    resampled = [
        trim_mean(np.concatenate([generator.choice(part, len(part)) for part in shares]), 0.25)
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(trim_mean(np.concatenate(shares), 0.25)), float(low), float(high)


def read_references(tasks: Sequence[str] = TASKS) -> dict[str, Any]:
    """What the references reach and the bounds, by task."""
    for name in tasks:
        load_task(name)
    try:
        stored: dict[str, Any] = json.loads(read_text(REFERENCES, "references"))["tasks"]
        return {name: stored[name] for name in tasks}
    except (KeyError, TypeError, ValueError) as error:
        remedy = f"The file is damaged or lacks a task, make it anew: python -m baselines.suite --references: {error!r}"
        raise InvalidInputError("references", str(REFERENCES), remedy) from error


def make_references(tasks: Sequence[str], folder: Path, jobs: int) -> dict[str, Any]:
    """Play the references of some tasks and bound what the best policy with hindsight delivers in each world."""
    made = {}
    for name in tasks:
        task = load_task(name)
        comparison = play(name, task.policies, folder, jobs)
        calls = [(task, seed) for seed in range(task.seed, task.seed + task.worlds)]
        bounds = list(tqdm(run_parallel(_bound, calls, jobs), f"{name}: bounds", len(calls), disable=None))
        made[name] = {
            "title": task.title,
            "scenario_digest": comparison.scenario_digest,
            "references": summary(comparison),
            "bound": [round(bound, 6) for _, bound in sorted(bounds)],
        }
    return made


def _bound(task: Task, seed: int) -> tuple[int, float]:
    env = gym.make(task.environment, **task.keywords)
    env.reset(seed=seed)
    return seed, family_of(scenario_of(env)).quality_bounds(env)[1]


def _check_free(path: Path, scored: Mapping[str, Any]) -> None:
    """Raise `InvalidInputError` if the file holds the score of another policy than is to be `scored`."""
    if path.is_file():
        stored = read_json(path, "score")
        held = {name: stored.get(name) for name in scored} if isinstance(stored, dict) else {}
        if held != scored:
            remedy = f"It holds another score, of {held}: give another --out."
            raise InvalidInputError("out", str(path), remedy)


def show(result: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Print a score beside the references."""
    table = Table(title="Suite, version 1", title_justify="left")
    for title in (
        "task",
        "policy",
        "delivered",
        "95 % interval",
        "of the bound",
        "on time %",
        "p50 ms",
        "p95 ms",
        "p99 ms",
    ):
        table.add_column(title, justify="left" if title in ("task", "policy") else "right")
    for name, yours in result["tasks"].items():
        bound = float(np.mean(stored[name]["bound"]))
        for label, row in (stored[name]["references"] | {YOURS: yours}).items():
            metrics = row["metrics"]
            delivered, tails = metrics["delivered"], [f"{1e3 * metrics[tail]['mean']:.0f}" for tail in TAILS]
            interval = f"{delivered['low']:.4f} to {delivered['high']:.4f}"
            share, on_time = f"{delivered['mean'] / bound:.3f}", f"{100 * metrics['on_time']['mean']:.1f}"
            table.add_row(name, label, f"{delivered['mean']:.4f}", interval, share, on_time, *tails)
        table.add_section()
    console = open_console()
    console.print(table)
    whole = result["interquartile_mean"]
    text = (
        f"Interquartile mean of the shares of the bound: {whole['mean']:.3f} [{whole['low']:.3f}, {whole['high']:.3f}]"
    )
    console.print(text, markup=False)
    console.print("The bound is what knowing the future could deliver in the same worlds, or more.", style="dim")


@command("baselines.suite", "interrupted; the same command goes on where it stopped")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser("python -m baselines.suite", description="Score a policy on the frozen suite.")
    parser.add_argument("policy", nargs="?", help="name of a policy, or package.module:attribute")
    parser.add_argument("options", nargs="*", type=key_and_value, metavar="KEY=VALUE", help="options of the policy")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, help="tasks to play (default: all)")
    parser.add_argument("--references", action="store_true", help="make the stored references of these tasks anew")
    parser.add_argument("--out", type=Path, default=Path("runs", "suite"), help="folder of the result")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="MODULE", help="module of yours that may be run"
    )
    options = parser.parse_args(given)
    if options.references == (options.policy is not None):
        raise InvalidInputError("policy", options.policy, "Name a policy, or give --references.")
    made_by = {"command": command_line("baselines.suite", given), "git": git_revision()}
    with lock_folder(options.out):
        if options.references:
            made = make_references(options.tasks, options.out, options.jobs)
            before = json.loads(REFERENCES.read_text(encoding="utf-8"))["tasks"] if REFERENCES.is_file() else {}
            known = before | made
            ordered = {name: known[name] for name in TASKS if name in known}
            content = {"version": VERSION, "tasks": ordered, **made_by, "versions": versions()}
            write_text(REFERENCES, json.dumps(content) + "\n")
            print(f"written to {REFERENCES}")
            return 0
        policy = PolicyConfig(policy=options.policy, **dict(options.options))
        check_options(policy.policy, find_policy(policy.policy, options.trust), policy.options)
        path, scored = options.out / "score.json", {"policy": policy.policy, "options": policy.options}
        _check_free(path, scored)
        result = score(policy, options.tasks, options.out, options.jobs, options.trust)
        write_text(path, json.dumps(result | scored | made_by | {"versions": versions()}, indent=1) + "\n")
    show(result, read_references(options.tasks))
    print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
