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

import argparse
import contextlib
import csv
import hashlib
import importlib
import json
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

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
from agents.train import train
from baselines import compare
from baselines.compare import CompareConfig, PolicyConfig
from baselines.family import family_of
from baselines.registry import bind, make_policy
from baselines.rollout import measure
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import csv_text, parse_yaml, read_yaml, write_text
from studies.agents.sweep_config import BOUNDS, METRICS, Run, SweepConfig, list_runs, load_sweep, selection_worlds

_CHUNK = 8
_DELETE = "Delete its folder to train it anew."


@dataclass(frozen=True)
class _Outcome:
    """Outcome of a run: ``trained``, ``resumed``, ``evaluated`` or ``failed``."""

    name: str
    state: str
    error: str = ""


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError("file", str(path), f"It cannot be read: {error}.") from error
    if not rows or any(None in row or None in row.values() for row in rows):
        raise InvalidInputError("file", str(path), "It is damaged: delete it, and sweep again.")
    return rows


def _is_finished(run: Run) -> bool:
    """Whether a run is complete; an error if it is damaged or of another configuration."""
    folder = run.config.folder
    if not (folder / "config.yaml").exists():
        return False
    stored = read_yaml(folder / "config.yaml", "run")
    wanted = parse_yaml(yaml.safe_dump(run.config.resolved()))
    different = [name for name in wanted if name != "out" and stored.get(name) != wanted[name]]
    if different:
        remedy = f"The sweep now asks for {wanted[different[0]]!r}. {_DELETE} Or sweep to another --out."
        raise InvalidInputError(f"{folder}: {different[0]}", stored.get(different[0]), remedy)
    if not (folder / "results.json").exists():
        return False
    try:
        seconds = float(json.loads((folder / "results.json").read_text(encoding="utf-8"))["seconds"])
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
    digest = hashlib.sha256(agent.read_bytes()).hexdigest()
    content = [digest, run.config.wrappers, world, comparison.worlds, comparison.seed]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _is_evaluated(run: Run, key: str) -> bool:
    """Whether the folder holds the evaluation of this digest."""
    folder = run.config.folder
    noted = folder / "evaluation.json"
    return (folder / "evaluation.csv").exists() and noted.exists() and _read_json(noted).get("key") == key


def _read_json(path: Path) -> dict[str, Any]:
    """Content of a file of this sweep; nothing if it is damaged, so that it is made anew."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _complete(run: Run, comparison: CompareConfig) -> _Outcome:
    """Train or resume a run, and evaluate its best agent; errors are returned, not raised."""
    folder = run.config.folder
    folder.mkdir(parents=True, exist_ok=True)
    with (
        (folder / "train.log").open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            state = _train(run)
            _evaluate(run, comparison)
        except Exception as error:
            traceback.print_exc()
            reason = str(error) if isinstance(error, InvalidInputError) else f"{type(error).__name__}: {error}"
            return _Outcome(run.name, "failed", f"{reason} See {folder / 'train.log'}.")
    return _Outcome(run.name, state)


def _train(run: Run) -> str:
    if _is_finished(run):
        return "evaluated"
    folder = run.config.folder
    started = (folder / "config.yaml").exists()
    train(run.config, ("--config", str(folder / "config.yaml"), "--overwrite"), resume=started)
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
    write_text(folder / "evaluation.csv", csv_text([("world", *METRICS), *rows]))
    write_text(folder / "evaluation.json", json.dumps({"key": key}) + "\n")


def _make_references(config: SweepConfig, folder: Path, jobs: int) -> None:
    """Play the references in the frozen worlds and in those of selection, unless ``reference.csv`` has them."""
    env = gym.make(config.env, **config.env_kwargs)
    comparison = config.comparison()
    keys = {label: compare.policy_key(comparison, entry, env) for label, entry in config.references.items()}
    bounds = compare.policy_key(comparison, PolicyConfig(policy="clairvoyant"), env)
    keys |= dict.fromkeys(BOUNDS, bounds)
    file, noted = folder / "reference.csv", folder / "reference.json"
    old = _read_json(noted)
    kept = read_rows(file) if file.exists() and old else []
    rows = [tuple(row.values()) for row in kept if keys.get(row["policy"]) == old.get(row["policy"], "")]
    seen = {(row[0], int(row[1])) for row in rows}
    worlds = [*config.frozen, *selection_worlds(config)]
    parts: list[tuple[PolicyConfig | None, str, list[int]]] = []
    for label, entry in config.references.items():
        parts.append((entry, label, [world for world in worlds if (label, world) not in seen]))
    left = [world for world in worlds if any((label, world) not in seen for label in BOUNDS)]
    parts += [(None, "", left[i : i + _CHUNK]) for i in range(0, len(left), _CHUNK)]
    parts = [part for part in parts if part[2]]
    if not parts:
        return
    write_text(file, _reference_text(rows))
    write_text(noted, json.dumps(keys, indent=2) + "\n")
    tasks = (joblib.delayed(_play_reference)(config.env, config.env_kwargs, *part) for part in parts)
    with tqdm(total=sum(len(part[2]) for part in parts), desc="references", unit="world", disable=None) as bar:
        for found in joblib.Parallel(n_jobs=min(jobs, len(parts)), return_as="generator_unordered")(tasks):
            rows += found
            write_text(file, _reference_text(rows))
            bar.update(len({row[1] for row in found}))


def _reference_text(rows: Sequence[tuple[Any, ...]]) -> str:
    ordered = sorted(rows, key=lambda row: (row[0], int(row[1])))
    return csv_text([("policy", "world", *METRICS), *ordered])


def _play_reference(
    env_id: str, env_kwargs: Mapping[str, Any], entry: PolicyConfig | None, label: str, worlds: Sequence[int]
) -> list[tuple[Any, ...]]:
    """Rows of ``reference.csv`` for some worlds: of a policy, or of the bounds if there is no policy."""
    env = gym.make(env_id, **env_kwargs)
    core = cast("Any", env.unwrapped)
    rows: list[tuple[Any, ...]] = []
    if entry is None:
        for world in worlds:
            env.reset(seed=world)
            values = family_of(core.scenario).quality_bounds(core.scenario, core.world())
            rows += [(name, world, value, "", "") for name, value in zip(BOUNDS, values, strict=True)]
        return rows
    policy = bind(make_policy(entry.policy, entry.options), env)
    for world in worlds:
        measured = measure(env, policy, world)
        rows.append((label, world, *(measured[name] for name in METRICS)))
    return rows


class _Parallel(joblib.Parallel):  # type: ignore[misc]
    """Runs in parallel under a progress bar; Ray's backend returns no generator that could be watched instead."""

    def __init__(self, bar: tqdm[Any], jobs: int) -> None:
        super().__init__(n_jobs=jobs, batch_size=1)
        self._bar = bar

    def print_progress(self) -> None:
        self._bar.update(self.n_completed_tasks - self._bar.n)


@contextlib.contextmanager
def _backend(name: str) -> Iterator[None]:
    """Have joblib use this machine's cores, or a Ray cluster."""
    if name == "loky":
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
    write_text(folder / "sweep.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    with _backend(backend):
        pass  # a missing backend is an error before the references are played
    _make_references(config, folder, jobs if backend == "loky" else -1)
    comparison = config.comparison()
    left, outcomes = _unfinished(list_runs(config, folder), comparison)
    with _backend(backend), tqdm(total=len(left), desc="runs", unit="run", disable=None) as bar:
        outcomes += _Parallel(bar, jobs)(joblib.delayed(_complete)(run, comparison) for run in left)
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser("python -m studies.agents.sweep", description="A grid of training runs.")
    parser.add_argument("config", help="YAML file, such as configs/sweeps/queueing.yaml")
    parser.add_argument("--out", type=Path, help="folder of the sweep (default: runs/sweeps/NAME OF THE CONFIG)")
    parser.add_argument("--jobs", type=int, default=-1, help="runs at a time (default: one per core)")
    parser.add_argument("--backend", choices=("loky", "ray"), default="loky", help="this machine, or a Ray cluster")
    options = parser.parse_args(arguments)
    folder = options.out or Path("runs", "sweeps", Path(options.config).stem)
    try:
        if options.jobs < 1 and options.jobs != -1:
            raise InvalidInputError("jobs", options.jobs, "Give 1 or more, or -1 for one per core.")
        config = load_sweep(options.config)
        outcomes = sweep(config, folder, options.jobs, options.backend)
    except InvalidInputError as error:
        print(f"studies.agents.sweep: {error}", file=sys.stderr)
        return 2
    except TerminatedWorkerError:
        print("studies.agents.sweep: a process was killed, perhaps for its memory; try fewer --jobs.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; the same command continues in {folder}", file=sys.stderr)
        return 130
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
