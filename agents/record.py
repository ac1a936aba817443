"""Record what policies decide as Minari data sets, to learn from offline: ``python -m agents.record CONFIG.yaml``.

A configuration has the form of `baselines.compare`: an environment and policies, one data set for each. Episode `k` is
``env.reset(seed=seed + k)``, the same world for every policy. Whole episodes are recorded, until there are as many
decisions as wanted or no world is left.

The data set of the policy ``queue budget`` in ``configs/offline/queueing.yaml`` is called
``coinfer_gym/queueing/queue_budget-v0``, and lies where Minari keeps its data sets: in the folder that
``MINARI_DATASETS_PATH`` names, else in ``~/.minari/datasets``. One that is there already is left as it is. The infos
`INFOS` are recorded too, so that learning can be constrained; they belong to the observation that came with them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer
from tqdm import tqdm

from baselines.checks import naming
from baselines.config import CompareConfig, PolicyConfig, load_config
from baselines.policy import Predictor
from baselines.registry import bind, make_policy
from coinfer_gym.checks import check_whole
from coinfer_gym.command import command
from coinfer_gym.errors import InvalidInputError

__all__ = ["INFOS", "main", "record"]

INFOS = ("cost", "cost_delay", "cost_energy", "delivered", "dropped", "violated")
"""What of ``info`` a data set keeps."""

_SOURCE = "https://github.com/coinfer-gym/coinfer-gym/blob/main/agents/record.py"


def record(config: CompareConfig, name: str, decisions: int = 100_000) -> list[str]:
    """Record every policy of a configuration; returns the ids of the data sets.

    Parameters
    ----------
    config : CompareConfig
        Of `baselines.config.load_config`.
    name : str
        Namespace of the data sets within ``coinfer_gym``: letters, digits and underscores.
    decisions : int
        Least number of decisions of each data set, if the worlds suffice.

    Raises
    ------
    InvalidInputError
        If a name cannot be part of an id, or a policy cannot act in the environment.
    """
    check_whole("decisions", decisions, 1)
    ids = {label: f"coinfer_gym/{name}/{label.replace(' ', '_')}-v0" for label in config.policies}
    for part in (name, *(label.replace(" ", "_") for label in config.policies)):
        if not re.fullmatch(r"\w+", part):
            raise InvalidInputError("name", part, "Name file and policies by letters, digits and underscores.")
    for label, dataset in ids.items():
        if list(ids.values()).count(dataset) > 1:
            raise InvalidInputError("name", label, f"Two policies would be {dataset}: rename one.")
    for label, policy in config.policies.items():
        if ids[label] not in minari.list_local_datasets():
            with naming(f"policies: {label}"):
                _record(config, policy, ids[label], decisions)
    return list(ids.values())


def _record(config: CompareConfig, policy: PolicyConfig, dataset: str, decisions: int) -> None:
    """Make one data set."""
    env = gym.make(config.environment, **config.keywords)
    actor = bind(make_policy(policy.policy, policy.options), env)
    episodes: list[EpisodeBuffer] = []
    with tqdm(total=decisions, desc=dataset, unit="decisions", disable=None) as bar:
        for seed in range(config.seed, config.seed + config.worlds):
            episodes.append(_play(env, actor, len(episodes), seed))
            bar.update(len(episodes[-1]))
            if sum(map(len, episodes)) >= decisions:
                break
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about an address to write to, and a second environment
        minari.create_dataset_from_buffers(
            dataset,
            episodes,
            env=env,
            algorithm_name=json.dumps(policy.model_dump()),
            author="coinfer_gym",
            code_permalink=_SOURCE,
            description=f"{config.title}. Episode k is the world of seed {config.seed} + k.",
        )


def _play(env: gym.Env[Any, Any], policy: Predictor, number: int, seed: int) -> EpisodeBuffer:
    """One episode, with deterministic actions; a policy that draws is seeded alike."""
    if hasattr(policy, "seed"):
        policy.seed(seed)
    observation, info = env.reset(seed=seed)
    observations, infos, steps = [observation], [info], []
    state, start, ended = None, np.ones(1, np.bool_), False
    while not ended:
        action, state = policy.predict(observation, state=state, episode_start=start, deterministic=True)
        action = np.clip(np.asarray(action, np.float32), -1.0, 1.0)
        observation, reward, terminated, truncated, info = env.step(action)
        observations.append(observation)
        infos.append(info)
        steps.append((action, reward, terminated, truncated))
        start, ended = np.zeros(1, np.bool_), terminated or truncated
    actions, rewards, terminations, truncations = map(np.array, zip(*steps, strict=True))
    told = {name: np.array([info[name] for info in infos]) for name in INFOS}
    return EpisodeBuffer(
        number, seed, None, np.array(observations), actions, list(rewards), list(terminations), list(truncations), told
    )


@command("agents.record", "interrupted; the same command goes on with the data sets that are not there yet")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m agents.record", description="Record policies as Minari data sets.")
    parser.add_argument("config", help="YAML file, such as configs/offline/queueing.yaml")
    parser.add_argument("--decisions", type=int, default=100_000, help="decisions per data set (default: 100000)")
    options = parser.parse_args(arguments)
    for dataset in record(load_config(options.config), Path(options.config).stem, options.decisions):
        found = minari.load_dataset(dataset)
        told = [episode.infos for episode in found.iterate_episodes()]
        delivered, lost = (sum(infos[name][1:].sum() for infos in told) for name in ("delivered", "dropped"))
        quality = delivered / (found.total_steps + lost)
        print(
            f"{dataset}: {found.total_steps} decisions, {found.total_episodes} episodes, quality {quality:.4f} a task"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
