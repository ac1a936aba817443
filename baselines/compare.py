"""Compare any policies on the same seeded worlds: ``python -m baselines.compare CONFIG.yaml``.

A configuration says where, how often and who::

    title: A phone and an edge server
    environment: coinfer_gym/LAIM-v0        # the default
    env: {scenario: bert-multimodal, tasks: 20}
    worlds: 200                             # world k is env.reset(seed=seed + k)
    seed: 0
    reference: exact                        # the policy that differences are taken to; optional
    policies:                               # label: policy and its options
      exact: {policy: myopic_exact}
      approximation: {policy: myopic_sca, worlds: 20}  # slow: only the first 20 worlds
      agent: {policy: "agents.policy:load_agent", path: ../../runs/bench/agent}
      mine: {policy: "my_module:MyPolicy"}  # runs with --trust my_module only

A file may hold several comparisons by name, each with a folder of its own, such as configs/compare/cell.yaml::

    worlds: 40                              # for every comparison that does not set its own
    comparisons:
      cell-4: {environment: coinfer_gym/Cell-v0, env: {scenario: cell-4}, policies: {...}}
      cell-16: {...}

A policy is a name in `baselines.registry.POLICIES`, a policy of this project written ``package.module:attribute``, or
one of a module of your own that you trust. Anything with stable-baselines3's ``predict(observation, state,
episode_start, deterministic)`` is a policy. From Python, policies are passed as they are::

    compare("configs/compare/quick.yaml", policies={"mine": MyPolicy()}).show()

Paths in a file count from its folder, here ``configs/compare``. ``${COINFER_DATA}`` in a keyword of the environment
stands for the folder of recorded data, ``../shared/data`` where that variable is not set. What is measured depends on
the environment, see `baselines.laim`, `baselines.layerwise.family` and `baselines.cell.family`.

Every world that a policy has finished is noted in ``worlds.jsonl`` of the output folder, under a digest of all that the
result depends on: scenario, policy, files that these name, and the source. The next run goes on from there, after an
interruption too; what has changed is played again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
from tqdm import tqdm

from baselines.checks import naming
from baselines.config import (
    DATA,
    TUNING_OFFSET,
    CompareConfig,
    PolicyConfig,
    expand_data,
    load_comparisons,
    load_config,
)
from baselines.family import Column, digest_scenario, family_of, scenario_of
from baselines.journal import ROOT, Journal, digest, digest_files, digest_module, digest_source
from baselines.policy import Predictor
from baselines.registry import bind, check_options, find_policy, is_trusted, make_policy
from baselines.report import Comparison
from baselines.rollout import measure
from coinfer_gym import InvalidInputError
from coinfer_gym.checks import check_whole
from coinfer_gym.command import command, command_line
from coinfer_gym.errors import nearest
from coinfer_gym.files import lock_folder
from coinfer_gym.parallel import run_parallel
from coinfer_gym.scenario import WorldScenario

__all__ = [
    "DATA",
    "ROOT",
    "CompareConfig",
    "Comparison",
    "PolicyConfig",
    "compare",
    "expand_data",
    "load_config",
    "policy_key",
]

_TUNING_WORLDS = 256
_CHUNK = 10  # worlds that a process plays at a time, at most
_Chunk = tuple[str, str, PolicyConfig, Sequence[int]]  # label and digest of a policy, the policy, and worlds for it


def compare(
    config: CompareConfig | str | Path | Mapping[str, Any],
    folder: Path | None = None,
    jobs: int = 1,
    fresh: bool = False,
    policies: Mapping[str, Predictor] | None = None,
    trust: Sequence[str] = (),
    more: Mapping[str, Column] | None = None,
) -> Comparison:
    """Play all policies in the same worlds.

    Parameters
    ----------
    config : CompareConfig, str, Path or mapping
        The configuration, its file or its content.
    folder : Path, optional
        Holds ``worlds.jsonl``: what it has already is not played again. Where None, nothing is kept.
    jobs : int
        Number of processes.
    fresh : bool
        Forget what the folder holds.
    policies : mapping of str to Predictor, optional
        Policies of your own by label. They play in this process, and what they earn is not kept.
    trust : sequence of str
        Modules of your own from which the configuration may name policies.
    more : mapping of str to Column, optional
        Metrics of `baselines.rollout.measure` beside those of the environment's family.

    Returns
    -------
    Comparison

    Raises
    ------
    InvalidInputError
        If the environment or a policy cannot be made, or a policy cannot act in the environment.
    RuntimeError
        If two policies met different worlds under one seed.
    """
    jobs = check_whole("jobs", jobs, 1, 10_000)
    config = config if isinstance(config, CompareConfig) else load_config(config, trust)
    if not isinstance(policies, Mapping | None):
        raise InvalidInputError("policies", policies, "Give a mapping from a label to a policy.")
    own = dict(policies or {})
    labels = _check_labels(config, own)
    env = gym.make(config.environment, **config.keywords)
    metrics = {**family_of(scenario_of(env)).metrics, **(more or {})}
    journal = Journal(None if folder is None else folder / "worlds.jsonl", metrics, fresh)
    for label, policy in own.items():
        with naming(f"policies: {label}"):
            _rehearse(env, policy)
    keys, tuned = _play_configured(config, env, journal, jobs, trust)
    records = {label: [journal.worlds[key, seed] for seed in config.seeds(label)] for label, key in keys.items()}
    for label, policy in own.items():
        with naming(f"policies: {label}"):
            bound = bind(policy, env)
            records[label] = [_play_world(env, bound, seed) for seed in tqdm(config.seeds(label), label, disable=None)]
    _check_worlds(records, config.seed)
    values = np.full((len(labels), config.worlds, len(metrics)), np.nan)
    for row, played in zip(values, records.values(), strict=True):
        row[: len(played)] = [[record["metrics"][name] for name in metrics] for record in played]
    scenario = scenario_of(env)
    fields = scenario.model_dump(mode="json", by_alias=True, exclude={"description", *WorldScenario.file_fields})
    about = {"scenario": fields, "scenario_digest": digest_scenario(scenario)}
    return Comparison(config.model_dump(mode="json"), labels, metrics, values, tuned, config.reference, **about)


def _check_labels(config: CompareConfig, own: Mapping[str, Any]) -> list[str]:
    """Labels of all policies; raises `InvalidInputError` if they cannot be compared."""
    labels = [*config.policies, *own]
    for label, policy in own.items():
        if label in config.policies:
            raise InvalidInputError("policies", label, "The configuration has a policy of this label: give another.")
        if isinstance(policy, type):
            raise InvalidInputError(f"policies: {label}", policy, f"Give an instance, such as {policy.__name__}().")
        if not callable(getattr(policy, "predict", None)):
            raise InvalidInputError(f"policies: {label}", policy, "A policy has predict(), as in stable-baselines3.")
    if not labels:
        raise InvalidInputError("policies", labels, "Give at least one.")
    if config.reference is not None and config.reference not in labels:
        raise InvalidInputError("config: reference", config.reference, nearest(config.reference, labels))
    return labels


def _play_configured(
    config: CompareConfig, env: gym.Env[Any, Any], journal: Journal, jobs: int, trust: Sequence[str]
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Have the policies of a configuration play what the journal lacks; returns their digests and tuned options."""
    keys = {label: policy_key(config, entry, env, trust) for label, entry in config.policies.items()}
    left = {
        label: [seed for seed in config.seeds(label) if (key, seed) not in journal.worlds]
        for label, key in keys.items()
    }
    known = sum(len(config.seeds(label)) for label in left) - sum(map(len, left.values()))
    if known:
        print(f"{known} results are in the folder already (--fresh plays them again).", file=sys.stderr)
    for label, entry in config.policies.items():  # a missing agent is told before the options of others are searched
        with naming(f"policies: {label}"):
            factory = find_policy(entry.policy, trust)
            if hasattr(factory, "tune"):
                check_options(entry.policy, factory, entry.options)
            elif left[label]:
                make_policy(entry.policy, entry.options, trust)
    tuned: dict[str, dict[str, Any]] = {}
    chunks: list[_Chunk] = []
    for label, entry in config.policies.items():
        key, seeds = keys[label], left[label]
        with naming(f"policies: {label}"):
            searched = _tune(config, entry, key, journal, bool(seeds), trust)
            if searched:
                tuned[label] = searched
            if seeds:
                player = PolicyConfig(policy=entry.policy, **(searched or entry.options))
                _rehearse(env, make_policy(player.policy, player.options, trust))
                size = min(_CHUNK, -(-len(seeds) // (4 * jobs)))
                chunks += [(label, key, player, seeds[i : i + size]) for i in range(0, len(seeds), size)]
    _play_chunks(config, chunks, jobs, journal, trust)
    return keys, tuned


def policy_key(config: CompareConfig, entry: PolicyConfig, env: gym.Env[Any, Any], trust: Sequence[str] = ()) -> str:
    """Digest of everything that the results of a policy depend on, beside the seed of the world."""
    scenario = scenario_of(env)
    module = entry.policy.split(":")[0]
    floors = ["coinfer_gym", "baselines", *(["agents"] if module.startswith("agents.") else [])]
    content = [
        config.environment,
        scenario.model_dump(mode="json"),
        digest_files(scenario.model_dump().values()),
        entry.policy,
        entry.options,
        digest_files(entry.options.values()),
        [digest_source(floor) for floor in floors],
    ]
    if is_trusted(module, trust):
        content.append(digest_module(module))
    if hasattr(find_policy(entry.policy, trust), "tune"):
        content.append(_tuning_seeds(config))
    return digest(content)


def _tuning_seeds(config: CompareConfig) -> list[int]:
    """First and last seed of the worlds that options are searched on: none of those that are compared on."""
    first = config.seed + TUNING_OFFSET
    return [first, first + _TUNING_WORLDS]


def _tune(
    config: CompareConfig, entry: PolicyConfig, key: str, journal: Journal, wanted: bool, trust: Sequence[str]
) -> dict[str, Any] | None:
    """Options that a policy asks to be searched for, from the journal or by the search; None where it asks for none."""
    factory: Any = find_policy(entry.policy, trust)
    if key not in journal.tuned and wanted and hasattr(factory, "tune"):
        options = factory.tune(entry.options, config.environment, config.keywords, range(*_tuning_seeds(config)))
        if options != entry.options:
            journal.note([{"key": key, "tuned": options}])
    return journal.tuned.get(key)


def _rehearse(env: gym.Env[Any, Any], policy: Predictor) -> None:
    """One decision in this process: mistakes show before others start, and they find the compiled code on disk."""
    policy = bind(policy, env)
    observation, _ = env.reset(seed=0)
    answer: Any = policy.predict(observation, deterministic=True)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise InvalidInputError("predict()", answer, "Return a pair: action and state, or None.")
    action = answer[0]
    if np.shape(action) != env.action_space.shape:
        remedy = (
            f"Give an action of shape {env.action_space.shape}. A model that was trained in wrappers plays as "
            "baselines.policy.Wrapped(model, ['BudgetShareAction']), with the names of its own wrappers."
        )
        raise InvalidInputError("shape of the action", np.shape(action), remedy)
    *_, info = env.step(action)
    scenario = scenario_of(env)
    family_of(scenario).measure(scenario, {name: np.array([value]) for name, value in info.items()})


def _play_chunks(
    config: CompareConfig, chunks: Sequence[_Chunk], jobs: int, journal: Journal, trust: Sequence[str]
) -> None:
    """Play on several processes, noting each chunk as it comes back."""
    calls = [(config, *chunk, trust) for chunk in chunks]
    with tqdm(total=sum(len(seeds) for *_, seeds in chunks), unit="world", disable=None) as bar:
        for records in run_parallel(_play_chunk, calls, jobs):
            journal.note(records)
            bar.update(len(records))


def _play_chunk(
    config: CompareConfig, label: str, key: str, player: PolicyConfig, seeds: Sequence[int], trust: Sequence[str]
) -> list[dict[str, Any]]:
    """Records of some worlds of a policy."""
    env = gym.make(config.environment, **config.keywords)
    with naming(f"policies: {label}"):
        policy = bind(make_policy(player.policy, player.options, trust), env)
        observation, _ = env.reset(seed=seeds[0])
        policy.predict(observation, deterministic=True)  # loading and compiling are not part of a decision's time
        return [{"key": key, "seed": seed, **_play_world(env, policy, seed)} for seed in seeds]


def _play_world(env: gym.Env[Any, Any], policy: Predictor, seed: int) -> dict[str, Any]:
    """What a policy earned in a world, and a digest of that world."""
    measured = measure(env, policy, seed)
    world = cast("Any", env.unwrapped).world()
    budgets = repr((world.delay_budget, world.energy_budget)).encode()
    content = world.arrivals.tobytes() + world.gains.tobytes() + budgets
    return {"world": hashlib.sha256(content).hexdigest()[:16], "metrics": measured}


def _check_worlds(records: Mapping[str, Sequence[Mapping[str, Any]]], seed: int) -> None:
    """Raise `RuntimeError` unless all policies met the same worlds."""
    met: dict[int, tuple[str, str]] = {}
    for label, row in records.items():
        for k, record in enumerate(row):
            first, world = met.setdefault(k, (label, record["world"]))
            if record["world"] != world:
                raise RuntimeError(f"{label!r} and {first!r} met different worlds under seed {seed + k}.")


@command("baselines.compare", "interrupted; the same command goes on where it stopped")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m baselines.compare", description="Play policies in the same worlds and print what they earn."
    )
    parser.add_argument("config", help="YAML file, such as configs/compare/quick.yaml")
    parser.add_argument("--out", type=Path, help="folder of the results (default: runs/compare/NAME OF THE CONFIG)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--fresh", action="store_true", help="play everything again, whatever the folder holds")
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="MODULE",
        help="let the configuration run policies of this module, as in 'policy: MODULE:MyPolicy'; may be repeated",
    )
    options = parser.parse_args(given)
    configs = load_comparisons(options.config, options.trust)  # before a folder is made
    for name, config in configs.items():
        folder = (options.out or Path("runs", "compare", Path(options.config).stem)) / name
        with lock_folder(folder):
            comparison = compare(config, folder, options.jobs, options.fresh, trust=options.trust)
            comparison.write(folder, command_line("baselines.compare", given))
        comparison.show()
        print(f"written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
