"""Train many agents: ``python -m studies.agents.sweep configs/sweeps/queueing.yaml``, on all cores or on a Ray cluster.

A sweep is a grid of runs, entries times seeds, all in one environment::

    title: Bursts of tasks in a queue
    env_kwargs: {scenario: bert-multimodal}
    seeds: 10                                # runs per entry
    evaluation: {worlds: 200, seed: 0}       # world k is env.reset(seed=seed + k)
    target: stochastic DP                    # the reference that counts as 100 %
    references:                              # label: policy and its options, as in a comparison
      stochastic DP: {policy: stochastic_dp}
    common: {eval_freq: 20000}               # fields of `agents.runs.RunConfig` for all entries
    entries:                                 # label: further fields
      PPO: {algo: ppo, wrapper: [BudgetShareAction], n_timesteps: 600000}

Run `k` of an entry trains with seed ``10000 (k + 1)``: its lanes count on from there, so that runs share no world, and
none trains in a frozen one. Every run has its own folder, ``LABEL/seed_SEED`` in that of the sweep: what `agents.train`
writes, ``train.log``, and ``evaluation.csv`` with the best agent's results in each frozen world. The references play
the same worlds, and those in which training chooses the best agent; ``reference.csv`` has their results and the bounds
of the clairvoyant optimum.

The same command continues a sweep that was interrupted: finished runs are skipped, and started ones resume from their
checkpoint. A run that fails is reported at the end; the others are trained regardless. On a cluster the folder must be
on a file system that all machines share. References are played on the machine that starts the sweep.
"""

from __future__ import annotations

import agents  # noqa: F401  # isort: skip  # first: it names the extra

import argparse
import importlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import joblib
import numba
import yaml
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from agents.agent_file import AGENT_FILE
from agents.held_out import play_worlds
from agents.policy import load_agent
from agents.runs import build_env
from agents.training import train
from baselines import compare
from baselines.compare import CompareConfig, PolicyConfig
from baselines.journal import digest, digest_files
from coinfer_gym.command import command
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import csv_text, lock_folder, parse_yaml, paths_to, read_csv, read_json, read_yaml, write_text
from coinfer_gym.parallel import end_processes, end_with
from studies.agents.bounds import clairvoyant_bounds
from studies.agents.sweep_config import BOUNDS, METRICS, Run, SweepConfig, list_runs, load_sweep, selection_worlds

_DELETE = "Delete its folder to train it anew."


@dataclass(frozen=True)
class _Outcome:
    """Outcome of a run: ``trained``, ``resumed``, ``evaluated`` or ``failed``."""

    name: str
    state: str
    error: str = ""


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    rows = read_csv(path)
    if not rows or any(None in row or None in row.values() for row in rows):
        raise InvalidInputError("file", str(path), "It is damaged: delete it, and sweep again.")
    return rows


def _is_there(path: Path) -> bool:
    """Whether a file holds anything; what a full disk has left empty is made anew."""
    return path.is_file() and path.stat().st_size > 0


def _is_finished(run: Run) -> bool:
    """Whether a run is complete; an error if it is damaged or of another configuration."""
    folder = run.config.folder
    if not _is_there(folder / "config.yaml"):
        return False
    stored = read_yaml(folder / "config.yaml", "run")
    wanted = parse_yaml(yaml.safe_dump(run.config.resolved()))
    different = [name for name in wanted if name != "out" and stored.get(name) != wanted[name]]
    if different:
        remedy = f"The sweep now asks for {wanted[different[0]]!r}. {_DELETE} Or sweep to another --out."
        raise InvalidInputError(f"{folder}: {different[0]}", stored.get(different[0]), remedy)
    if not (_is_there(folder / "results.json") and _is_there(folder / "evaluations.csv")):
        return False
    try:
        seconds = float(read_json(folder / "results.json", "run")["seconds"])
        trained = float(read_rows(folder / "evaluations.csv")[-1]["timesteps"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError("run", str(folder), f"Its results are damaged. {_DELETE}") from error
    minutes = run.config.max_minutes
    enough = trained >= wanted["hyperparams"]["n_timesteps"]
    return enough or (minutes is not None and seconds >= 60.0 * minutes)


def _evaluation_key(run: Run, comparison: CompareConfig, env: gym.Env[Any, Any]) -> str:
    """Digest of all that the evaluation of a run depends on."""
    agent = run.config.folder / AGENT_FILE
    if not agent.exists():
        raise InvalidInputError("run", str(run.config.folder), f"It holds no {AGENT_FILE}. {_DELETE}")
    world = compare.policy_key(comparison, PolicyConfig(policy="agents.policy:load_agent"), env)
    return digest([digest_files([str(agent)]), run.config.wrappers, world, comparison.worlds, comparison.seed])


def _is_evaluated(run: Run, key: str) -> bool:
    """Whether the folder holds the evaluation of this digest, as it was written."""
    table, noted = (run.config.folder / name for name in ("evaluation.csv", "evaluation.json"))
    try:
        return bool(read_json(noted, "file") == {"key": key, "table": digest_files([str(table)])})
    except InvalidInputError:  # missing or damaged: it is played anew
        return False


def _complete(run: Run, comparison: CompareConfig, parent: int) -> _Outcome:
    """Train or resume a run, and evaluate its best agent; errors are returned, not raised."""
    end_with(parent)
    tqdm.set_lock(threading.RLock())  # its own lock is shared by processes: the system warns of it after a kill
    log = run.config.folder / "train.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
            try:
                state = _train(run)
                _evaluate(run, comparison)
            except Exception:
                traceback.print_exc()
                raise
    except Exception as error:
        reason = str(error) if isinstance(error, (InvalidInputError, OSError)) else f"{type(error).__name__}: {error}"
        return _Outcome(run.name, "failed", f"{reason} See {log}.")
    return _Outcome(run.name, state)


def _train(run: Run) -> str:
    if _is_finished(run):
        return "evaluated"
    folder = run.config.folder
    started = _is_there(folder / "config.yaml")
    train(run.config, ("--config", str(folder / "config.yaml"), "--overwrite"), resume=started, overwrite=not started)
    if not _is_finished(run):
        raise KeyboardInterrupt  # a signal had training save and stop
    return "resumed" if started else "trained"


def _evaluate(run: Run, comparison: CompareConfig) -> None:
    """Let the best agent of a run play the frozen worlds, and write its results."""
    numba.set_num_threads(min(run.config.threads, numba.get_num_threads()))
    folder = run.config.folder
    key = _evaluation_key(run, comparison, gym.make(comparison.environment, **comparison.env))
    if _is_evaluated(run, key):
        return
    env = build_env(run.config, comparison.worlds)
    earned = [[found[name] for name in METRICS] for found in play_worlds(env, load_agent(folder), comparison.seed)]
    env.close()
    worlds = range(comparison.seed, comparison.seed + comparison.worlds)
    rows = [(world, *row) for world, row in zip(worlds, earned, strict=True)]
    _write_table(folder / "evaluation.csv", [("world", *METRICS), *rows], key=key)


def _make_references(config: SweepConfig, folder: Path, jobs: int) -> None:
    """Play the references in the frozen worlds and in those of selection, and bound what a policy could earn there."""
    rows: list[tuple[Any, ...]] = []
    for worlds in (config.frozen, selection_worlds(config)):
        comparison = config.comparison(worlds)
        played = compare.compare(comparison, folder / "references", jobs).only(METRICS)
        for label, values in zip(played.labels, played.values.tolist(), strict=True):
            rows += [(label, world, *row) for world, row in zip(worlds, values, strict=True)]
        for label, bound in zip(BOUNDS, clairvoyant_bounds(comparison, folder / "references", jobs), strict=True):
            rows += [(label, world, value, "", "") for world, value in zip(worlds, bound.tolist(), strict=True)]
    _write_table(folder / "reference.csv", [("policy", "world", *METRICS), *sorted(rows, key=lambda row: row[:2])])


def _write_table(path: Path, rows: Sequence[Sequence[Any]], **noted: str) -> None:
    """Write a table, and beside it a JSON file that tells its digest."""
    write_text(path, csv_text(rows))
    write_text(path.with_suffix(".json"), json.dumps({**noted, "table": digest_files([str(path)])}) + "\n")


class _Parallel(joblib.Parallel):  # type: ignore[misc]
    """Runs in parallel under a progress bar; Ray's backend returns no generator that could be watched instead."""

    def __init__(self, bar: tqdm[Any], jobs: int) -> None:
        super().__init__(n_jobs=jobs, batch_size=1)
        self._bar = bar

    def print_progress(self) -> None:
        self._bar.update(self.n_completed_tasks - self._bar.n)


@contextmanager
def _backend(name: str) -> Iterator[None]:
    """Have joblib use this machine's cores, or a Ray cluster."""
    if name == "loky":
        end_processes()
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            yield
        return
    try:
        importlib.import_module("ray.util.joblib").register_ray()
    except ImportError as error:
        raise InvalidInputError("backend", name, "Ray is missing here: pip install ray") from error
    with joblib.parallel_config("ray"):
        yield


def sweep(config: SweepConfig, folder: Path, jobs: int, backend: str = "loky") -> list[_Outcome]:
    """Bring all runs of a sweep to their end, `jobs` at a time (-1: one per core).

    Returns what was done, errors included; runs that were finished before are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = paths_to(config.model_dump(mode="json"), folder)
    write_text(folder / "sweep.yaml", yaml.safe_dump(stored, sort_keys=False))
    with _backend(backend):
        pass  # a missing backend is an error before the references are played
    _make_references(config, folder, jobs if jobs > 0 and backend == "loky" else os.cpu_count() or 1)
    comparison = config.comparison(config.frozen)
    left, outcomes = _unfinished(list_runs(config, folder), comparison)
    with _backend(backend), tqdm(total=len(left), desc="runs", unit="run", disable=None) as bar:
        outcomes += _Parallel(bar, jobs)(joblib.delayed(_complete)(run, comparison, os.getpid()) for run in left)
    return outcomes


def _unfinished(runs: Sequence[Run], comparison: CompareConfig) -> tuple[list[Run], list[_Outcome]]:
    """Runs that are left to do, and those that cannot continue."""
    env = gym.make(comparison.environment, **comparison.env)
    left, failed = [], []
    for run in runs:
        try:
            done = _is_finished(run) and _is_evaluated(run, _evaluation_key(run, comparison, env))
        except InvalidInputError as error:
            failed.append(_Outcome(run.name, "failed", str(error)))
            continue
        if not done:
            left.append(run)
    return left, failed


@command("studies.agents.sweep", "interrupted; the same command goes on where it stopped")
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser("python -m studies.agents.sweep", description="Train a grid of agents.")
    parser.add_argument("config", help="YAML file, such as configs/sweeps/queueing.yaml")
    parser.add_argument("--out", type=Path, help="folder of the sweep (default: runs/sweeps/NAME OF THE CONFIG)")
    parser.add_argument("--jobs", type=int, default=-1, help="runs at a time (default: one per core)")
    parser.add_argument("--backend", choices=("loky", "ray"), default="loky", help="this machine, or a Ray cluster")
    options = parser.parse_args(arguments)
    folder = options.out or Path("runs", "sweeps", Path(options.config).stem)
    if options.jobs < 1 and options.jobs != -1:
        raise InvalidInputError("jobs", options.jobs, "Give 1 or more, or -1 for one per core.")
    config = load_sweep(options.config)
    try:
        with lock_folder(folder):
            outcomes = sweep(config, folder, options.jobs, options.backend)
    except TerminatedWorkerError:
        print("studies.agents.sweep: a process was killed, perhaps for its memory; try fewer --jobs.", file=sys.stderr)
        return 1
    return _tell(outcomes, len(config.entries) * config.seeds, folder)


def _tell(outcomes: Sequence[_Outcome], total: int, folder: Path) -> int:
    """Print a summary; returns the exit status."""
    states = [outcome.state for outcome in outcomes]
    counts = [f"{states.count(state)} {state}" for state in ("trained", "resumed", "evaluated", "failed")]
    print(f"{total} runs in {folder}: {', '.join(counts)}, {total - len(outcomes)} finished before")
    for outcome in outcomes:
        if outcome.error:
            print(f"studies.agents.sweep: {outcome.name}: {outcome.error}", file=sys.stderr)
    return int("failed" in states)


if __name__ == "__main__":
    sys.exit(main())
