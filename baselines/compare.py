"""Compare any policies on the same seeded worlds: ``python -m baselines.compare CONFIG.yaml``.

A configuration says where, how often and who::

    title: BERT behind a multi-modal prompt
    environment: coinfer_gym/LAIM-v0        # the default
    env: {scenario: bert-multimodal, tasks: 20}
    worlds: 200                             # world k is env.reset(seed=seed + k)
    seed: 0
    reference: exact                        # whom differences are taken to; none where absent
    policies:                               # label: policy and its options
      exact: {policy: myopic_exact}
      agent: {policy: "agents.policy:load_agent", path: runs/bench/agent}

Policies are the names in `baselines.registry.POLICIES`, or ``package.module:attribute`` from the packages of this
project (`baselines.registry.TRUSTED`). Paths count from the folder that the command runs in; ``${COINFER_DATA}`` in a
keyword of the environment stands for the folder of recorded data, ``../shared/data`` where that variable is not set.

In Layerwise-v0 the first metric is the mean latency, and there is no regret: no solver is exact for every task there in
the time that a comparison has. What a policy loses to the best known one is its difference to a ``reference`` such as
``layerwise_menu``.

Every world that a policy has finished is noted in ``worlds.jsonl`` of the output folder, under a digest of all that the
result depends on: scenario, policy, files that these name, and the source. A run that was interrupted goes on from
there; what has changed is played anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, cast

import gymnasium as gym
import joblib
import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from baselines import output as _output
from baselines import report as _report
from baselines.bootstrap import paired_bootstrap
from baselines.checks import check_model
from baselines.policy import Predictor
from baselines.registry import find_policy, make_policy
from baselines.rules import LAIM
from coinfer_gym import InvalidInputError, solve_exact_batch
from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.errors import nearest
from coinfer_gym.layerwise.scenario import LayerwiseScenario

__all__ = [
    "DATA",
    "LAYERWISE_METRICS",
    "METRICS",
    "CompareConfig",
    "Comparison",
    "compare",
    "expand_data",
    "is_layerwise",
    "load_config",
    "metrics_of",
    "play",
]

METRICS = (
    "delivered",
    "on_time",
    "dropped",
    "delay_s",
    "service_s",
    "energy_j",
    "violated",
    "return",
    "regret",
    "decision_us",
)
"""What is measured of a policy in a world of LAIM-v0, see `play`."""

LAYERWISE_METRICS = (
    "delay_s",
    "service_s",
    "energy_j",
    "violated",
    "accuracy",
    "delivered",
    "on_time",
    "dropped",
    "return",
    "decision_us",
)
"""What is measured in a world of Layerwise-v0; the latency comes first."""

TIMES = ("decision_us",)
"""Metrics that differ from run to run."""

DATA = "COINFER_DATA"
"""Environment variable that names the folder of recorded data."""

ROOT = Path(__file__).resolve().parent.parent
_SHOWN_ONLY = ("_bootstrap.py", "_output.py", "_report.py")  # a change there leaves what was played as it was
_DATA_FOLDER = "../shared/data"
_TUNING_OFFSET = 10_000_000  # more worlds than anyone evaluates on
_TUNING_WORLDS = 256
_CHUNK = 10


class PolicyConfig(pydantic.BaseModel):
    """A policy by name; every other key is an option of it."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    policy: str

    @property
    def options(self) -> dict[str, Any]:
        """The other keys."""
        return dict(self.model_extra or {})


class CompareConfig(pydantic.BaseModel):
    """What a configuration file of a comparison says; `load_config` reads and checks one."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    title: str
    environment: str = LAIM
    env: dict[str, Any] = Field(default_factory=dict)
    worlds: int = Field(ge=1, le=_TUNING_OFFSET)
    seed: int = Field(0, ge=0)
    reference: str | None = None
    policies: dict[str, PolicyConfig] = Field(min_length=1)

    @property
    def keywords(self) -> dict[str, Any]:
        """Those of the environment, with the folder of recorded data filled in."""
        return expand_data(self.env)


class Comparison(NamedTuple):
    """Outcome of a comparison.

    Attributes
    ----------
    values : ndarray, shape (policies, worlds, metrics)
        In the order of the configuration and of `metrics`.
    tuned : dict
        Options that were searched for, by the label of the policy.
    metrics : tuple of str
        `METRICS` or `LAYERWISE_METRICS`.
    """

    values: NDArray[np.float64]
    tuned: dict[str, dict[str, Any]]
    metrics: tuple[str, ...] = METRICS


def is_layerwise(env: gym.Env[Any, Any]) -> bool:
    """Whether an environment is Layerwise-v0, wrapped or not."""
    return isinstance(cast("Any", env.unwrapped).scenario, LayerwiseScenario)


def metrics_of(env: gym.Env[Any, Any]) -> tuple[str, ...]:
    """What is measured in an environment."""
    return LAYERWISE_METRICS if is_layerwise(env) else METRICS


def expand_data(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of an environment with the folder of recorded data filled in.

    Raises
    ------
    InvalidInputError
        If there is no such file in it.
    """
    found = dict(keywords)
    for key, value in keywords.items():
        if isinstance(value, str) and f"${{{DATA}}}" in value:
            found[key] = value.replace(f"${{{DATA}}}", os.environ.get(DATA, _DATA_FOLDER))
            if not os.path.exists(found[key]):
                remedy = f"There is no such file: set the environment variable {DATA} to the folder of recorded data."
                raise InvalidInputError(key, found[key], remedy)
    return found


def load_config(source: str | Path | Mapping[str, Any]) -> CompareConfig:
    """Read and check a configuration.

    Parameters
    ----------
    source : str, Path or mapping
        Path of a YAML file, or its content.

    Returns
    -------
    CompareConfig

    Raises
    ------
    InvalidInputError
        If the file cannot be read, a key is unknown, a value is out of range, there is no such policy, or recorded data
        are not there.
    """
    data = dict(source) if isinstance(source, Mapping) else _output.read_yaml(Path(source))
    config = check_model(CompareConfig, data, "config")
    if config.reference is not None and config.reference not in config.policies:
        raise InvalidInputError("config: reference", config.reference, nearest(config.reference, config.policies))
    for entry in config.policies.values():
        _check_path(entry)
        find_policy(entry.policy)
    expand_data(config.env)
    return config


def play(env: gym.Env[Any, Any], policy: Predictor, seed: int) -> dict[str, float]:
    """One episode of a policy in one world.

    Parameters
    ----------
    env : gymnasium.Env
        LAIM-v0 or Layerwise-v0, wrapped or not.
    policy : Predictor
        Bound to it, if it needs to be.
    seed : int
        Seed of the world, and of what the policy draws.

    Returns
    -------
    dict of float
        The `METRICS` or `LAYERWISE_METRICS`. Per task of the episode, lost ones included: ``delivered`` quality within
        both budgets, ``on_time`` share of tasks done within the delay budget, ``dropped`` share that was never served,
        ``return``. Per decision: ``delay_s`` with and ``service_s`` without the waiting time, ``energy_j``,
        ``violated`` share that missed a budget, ``regret``, what the exact optimum of the same task (its true gain, the
        budgets that were left of it) would have delivered beyond this; in Layerwise-v0 instead ``accuracy``, the
        predicted one, whose least value counts as a budget there. ``decision_us`` is the median time that the policy
        took for a decision.
    """
    if hasattr(policy, "seed"):
        policy.seed(seed)
    observation, _ = env.reset(seed=seed)
    infos, rewards, times = [], [], []
    state, start, ended = None, np.ones(1, np.bool_), False
    while not ended:
        before = perf_counter()
        action, state = policy.predict(observation, state=state, episode_start=start, deterministic=True)
        times.append(perf_counter() - before)
        observation, reward, terminated, truncated, info = env.step(action)
        infos.append(info)
        rewards.append(float(reward))
        start, ended = np.zeros(1, np.bool_), terminated or truncated
    columns = {name: np.array([info[name] for info in infos]) for name in infos[0]}
    measured = _measure(columns, np.array(rewards))
    if is_layerwise(env):
        measured["accuracy"] = float(columns["accuracy"].mean())
    else:
        measured["regret"] = float((exact_quality(env, columns) - columns["delivered"]).mean())
    return measured | {"decision_us": 1e6 * float(np.median(times))}


def exact_quality(env: gym.Env[Any, Any], columns: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Quality that the exact optimum of each decided task would have delivered, 0 where none meets the budgets.

    Parameters
    ----------
    env : gymnasium.Env
        Of LAIM-v0.
    columns : mapping of str to ndarray, shape (decisions,)
        The infos of an episode, by name.

    Returns
    -------
    ndarray, shape (decisions,)
    """
    scenario = cast("Any", env.unwrapped).scenario
    gains = 10.0 ** (columns["gain_db"] / 10.0)
    rows = solve_exact_batch(
        scenario.problem(gain=float(gains[0])),
        gains,
        columns["delay_budget_s"],
        columns["energy_budget_j"],
        parallel=False,  # the worlds are spread over the cores already
    )
    return np.where(rows["reason"] == 0, rows["quality"], 0.0)


def _measure(columns: Mapping[str, NDArray[np.float64]], rewards: NDArray[np.float64]) -> dict[str, float]:
    """Metrics that all environments have, of an episode, without the times."""
    dropped = columns["dropped"].sum()
    tasks = len(rewards) + dropped
    # A task given up by impatience or an empty battery may end before its deadline, but its quality is 0.
    on_time = (columns["cost_delay"] <= BUDGET_TOLERANCE) & (columns["quality"] > 0.0)
    measured = {
        "delivered": columns["delivered"].sum() / tasks,
        "on_time": on_time.sum() / tasks,
        "dropped": dropped / tasks,
        "delay_s": (columns["wait_s"] + columns["delay_s"]).mean(),
        "service_s": columns["delay_s"].mean(),
        "energy_j": columns["energy_j"].mean(),
        "violated": (columns["violated"] == 1.0).mean(),
        "return": rewards.sum() / tasks,
    }
    return {name: float(value) for name, value in measured.items()}


def compare(config: CompareConfig, folder: Path, jobs: int = 1, fresh: bool = False) -> Comparison:
    """Play all policies of a configuration in all its worlds, except what the folder holds already.

    Parameters
    ----------
    config : CompareConfig
    folder : Path
        Holds ``worlds.jsonl``.
    jobs : int
        Number of processes.
    fresh : bool
        Forget what the folder holds.

    Returns
    -------
    Comparison

    Raises
    ------
    InvalidInputError
        If the environment or a policy cannot be made, or one cannot act in the other.
    RuntimeError
        If two policies met different worlds under one seed.
    """
    env = gym.make(config.environment, **config.keywords)
    metrics = metrics_of(env)
    keys = {label: policy_key(config, entry, env) for label, entry in config.policies.items()}
    journal = Journal(folder / "worlds.jsonl", fresh, metrics)
    seeds = range(config.seed, config.seed + config.worlds)
    missing = {label: [seed for seed in seeds if (keys[label], seed) not in journal.worlds] for label in keys}
    tuned = {label: _tune(config, config.policies[label], keys[label], journal, bool(missing[label])) for label in keys}
    resolved = {label: tuned[label] or entry.options for label, entry in config.policies.items()}
    chunks: list[_Chunk] = []
    for label, left in missing.items():
        if left:
            policy = config.policies[label].policy
            _rehearse(env, policy, resolved[label])
            size = min(_CHUNK, -(-len(left) // (4 * jobs)))
            chunks += [
                _Chunk(keys[label], policy, resolved[label], config.environment, config.keywords, left[i : i + size])
                for i in range(0, len(left), size)
            ]
    _play_chunks(chunks, jobs, journal)
    records = [[journal.worlds[keys[label], seed] for seed in seeds] for label in keys]
    _check_worlds(records, list(keys), seeds)
    values = np.array([[[record["metrics"][name] for name in metrics] for record in row] for row in records])
    return Comparison(values, {label: options for label, options in tuned.items() if options}, metrics)


@dataclass(frozen=True)
class _Chunk:
    """Some worlds for one policy: what one process plays at a time."""

    key: str
    policy: str
    options: dict[str, Any]
    environment: str
    env: dict[str, Any]
    seeds: Sequence[int]


class Journal:
    """The finished worlds, one JSON object per line; lines that are not whole are ignored.

    Parameters
    ----------
    path : Path
    fresh : bool
        Begin with an empty file.
    metrics : tuple of str
        What a world must tell of.

    Attributes
    ----------
    worlds : dict
        Records by digest of the policy and seed of the world.
    tuned : dict
        Options that were searched for, by digest of the policy.
    """

    def __init__(self, path: Path, fresh: bool = False, metrics: tuple[str, ...] = METRICS) -> None:
        self._metrics = metrics
        self.worlds: dict[tuple[str, int], dict[str, Any]] = {}
        self.tuned: dict[str, dict[str, Any]] = {}
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [] if fresh or not path.exists() else path.read_text(encoding="utf-8").splitlines()
        whole = [line for line in lines if self._take(line)]
        # An interrupted run may have left half a line, to which the next one would be glued.
        _output.write_text(path, "".join(f"{line}\n" for line in whole))

    def note(self, records: Iterable[dict[str, Any]]) -> None:
        """Append records, and have them on disk before the next ones are played."""
        with self._path.open("a", encoding="utf-8") as file:
            for record in records:
                line = json.dumps(record)
                file.write(f"{line}\n")
                self._take(line)

    def _take(self, line: str) -> bool:
        """Read a line; whether it is whole."""
        try:
            record = json.loads(line)
            if "tuned" in record:
                self.tuned[record["key"]] = record["tuned"]
            else:
                record["metrics"] = {name: float(record["metrics"][name]) for name in self._metrics}
                self.worlds[record["key"], record["seed"]] = {"world": record["world"], "metrics": record["metrics"]}
        except (KeyError, TypeError, ValueError):
            return False
        return True


def policy_key(config: CompareConfig, entry: PolicyConfig, env: gym.Env[Any, Any]) -> str:
    """Digest of everything that the results of a policy depend on, beside the seed of the world."""
    scenario = cast("Any", env.unwrapped).scenario
    floors = ["coinfer_gym", "baselines", *(["agents"] if entry.policy.startswith("agents.") else [])]
    content = [
        config.environment,
        scenario.model_dump(mode="json"),
        _file_digests(scenario.model_dump().values()),
        entry.policy,
        entry.options,
        _file_digests(entry.options.values()),
        [_source_digest(floor) for floor in floors],
    ]
    if hasattr(find_policy(entry.policy), "tune"):
        content.append(_tuning_seeds(config))
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _file_digests(values: Iterable[Any]) -> list[str]:
    """Digests of the files and folders among some values."""
    paths = [Path(value) for value in values if isinstance(value, str) and value and os.path.exists(value)]
    return [_digest(path, [path] if path.is_file() else path.rglob("*")) for path in paths]


@cache
def _source_digest(floor: str) -> str:
    """Digest of a floor's code and data; agents are digested by their files, their cards tell of results."""
    files = (path for path in (ROOT / floor).rglob("*") if path.suffix in (".py", ".yaml", ".json"))
    skipped = {"figures", "trained"}
    return _digest(ROOT, (path for path in files if path.name not in _SHOWN_ONLY and not skipped & set(path.parts)))


def _digest(base: Path, paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in paths if path.is_file()):
        digest.update(path.relative_to(base).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _tuning_seeds(config: CompareConfig) -> list[int]:
    """Seeds of the worlds that options are searched on: none of those that are compared on."""
    first = config.seed + _TUNING_OFFSET
    return [first, first + _TUNING_WORLDS]


def _tune(
    config: CompareConfig, entry: PolicyConfig, key: str, journal: Journal, wanted: bool
) -> dict[str, Any] | None:
    """Options that a policy asks to be searched for, from the journal or by the search; None where it asks for none."""
    factory: Any = find_policy(entry.policy)
    if key not in journal.tuned and wanted and hasattr(factory, "tune"):
        options = factory.tune(entry.options, config.environment, config.keywords, range(*_tuning_seeds(config)))
        if options != entry.options:
            journal.note([{"key": key, "tuned": options}])
    return journal.tuned.get(key)


def _rehearse(env: gym.Env[Any, Any], policy_name: str, options: Mapping[str, Any]) -> None:
    """One decision in this process: mistakes show before others start, and they find the compiled code on disk."""
    policy = _make_bound(env, policy_name, options)
    observation, _ = env.reset(seed=0)
    *_, info = env.step(policy.predict(observation, deterministic=True)[0])
    if not is_layerwise(env):
        exact_quality(env, {name: np.array([value]) for name, value in info.items()})


def _make_bound(env: gym.Env[Any, Any], name: str, options: Mapping[str, Any]) -> Predictor:
    policy: Any = make_policy(name, options)
    return cast("Predictor", policy.bind(env) if hasattr(policy, "bind") else policy)


def _play_chunks(chunks: Sequence[_Chunk], jobs: int, journal: Journal) -> None:
    """Play on several processes, noting each chunk as it comes back."""
    tasks = (joblib.delayed(_play_chunk)(chunk) for chunk in chunks)
    results = joblib.Parallel(n_jobs=min(jobs, max(1, len(chunks))), return_as="generator_unordered")(tasks)
    with tqdm(total=sum(len(chunk.seeds) for chunk in chunks), unit="world", disable=None) as bar:
        for records in cast("Iterator[list[dict[str, Any]]]", results):
            journal.note(records)
            bar.update(len(records))


def _play_chunk(chunk: _Chunk) -> list[dict[str, Any]]:
    """Records of a chunk's worlds."""
    env = gym.make(chunk.environment, **chunk.env)
    policy = _make_bound(env, chunk.policy, chunk.options)
    observation, _ = env.reset(seed=chunk.seeds[0])
    policy.predict(observation, deterministic=True)  # loading and compiling are not part of a decision's time
    records = []
    for seed in chunk.seeds:
        metrics = play(env, policy, seed)
        records.append({"key": chunk.key, "seed": seed, "world": _fingerprint(env), "metrics": metrics})
    return records


def _fingerprint(env: gym.Env[Any, Any]) -> str:
    """Digest of the world of the running episode."""
    world = cast("Any", env.unwrapped).world()
    content = [
        world.arrivals.tobytes(),
        world.gains.tobytes(),
        repr((world.delay_budget, world.energy_budget)).encode(),
    ]
    return hashlib.sha256(b"".join(content)).hexdigest()[:16]


def _check_worlds(records: Sequence[Sequence[Mapping[str, Any]]], labels: Sequence[str], seeds: Sequence[int]) -> None:
    """Raise `RuntimeError` unless all policies met the same worlds."""
    for label, row in zip(labels, records, strict=True):
        for seed, record, first in zip(seeds, row, records[0], strict=True):
            if record["world"] != first["world"]:
                raise RuntimeError(f"{label!r} and {labels[0]!r} met different worlds under seed {seed}.")


def _check_path(entry: PolicyConfig) -> None:
    """Raise `InvalidInputError` if a policy is to be loaded from where nothing is."""
    path = entry.options.get("path")
    if isinstance(path, str) and not os.path.exists(path):
        raise InvalidInputError(
            f"policy {entry.policy!r}: path",
            path,
            "No agent is there. Train it first: 'make bench' trains the one in runs/bench/agent, "
            "'python -m agents.train --help' tells how to train any other.",
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m baselines.compare", description="Policies on the same worlds.")
    parser.add_argument("config", help="YAML file, such as configs/compare/quick.yaml")
    parser.add_argument("--out", type=Path, help="folder of the results (default: runs/compare/NAME OF THE CONFIG)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--fresh", action="store_true", help="play everything anew")
    options = parser.parse_args(arguments)
    folder = options.out or Path("runs", "compare", Path(options.config).stem)
    try:
        if options.jobs < 1:
            raise InvalidInputError("jobs", options.jobs, "Give 1 or more.")
        config = load_config(options.config)
        comparison = compare(config, folder, options.jobs, options.fresh)
    except InvalidInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on from {folder / 'worlds.jsonl'}", file=sys.stderr)
        return 130
    labels = list(config.policies)
    reference = None if config.reference is None else labels.index(config.reference)
    estimate, difference = paired_bootstrap(comparison.values, reference)
    command = shlex.join(["python", "-m", "baselines.compare", *(sys.argv[1:] if arguments is None else arguments)])
    report = _report.Report(
        config=config.model_dump(mode="json"),
        tuned=comparison.tuned,
        command=command,
        metrics=comparison.metrics,
        values=comparison.values,
        estimate=estimate,
        difference=difference,
    )
    report.write(folder)
    report.show()
    print(f"written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
