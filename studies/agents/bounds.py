"""Bounds of the clairvoyant optimum in the worlds of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from baselines.compare import CompareConfig, PolicyConfig, policy_key
from baselines.family import family_of, scenario_of
from baselines.journal import Journal
from coinfer_gym.parallel import run_parallel

_PARTS = ("lower", "upper")
_CHUNK = 5  # worlds that a process bounds at a time


def clairvoyant_bounds(config: CompareConfig, folder: Path | None, jobs: int = 1) -> NDArray[np.float64]:
    """What the clairvoyant attains in the worlds of a comparison, and what no policy exceeds, shape (2, worlds).

    The folder keeps them in ``bounds.jsonl``, as `baselines.compare` keeps what was played.
    """
    env = gym.make(config.environment, **config.keywords)
    key = policy_key(config, PolicyConfig(policy="clairvoyant"), env)
    journal = Journal(None if folder is None else folder / "bounds.jsonl", _PARTS)
    seeds = range(config.seed, config.seed + config.worlds)
    left = [seed for seed in seeds if (key, seed) not in journal.worlds]
    chunks = [left[:1], *(left[i : i + _CHUNK] for i in range(1, len(left), _CHUNK))] if left else []
    with tqdm(total=len(left), desc="bounds", unit="world", disable=None) as bar:
        for part in (chunks[:1], chunks[1:]):  # the other processes find the compiled code on disk
            for records in run_parallel(_bound, [(config, key, chunk) for chunk in part], jobs if part else 1):
                journal.note(records)
                bar.update(len(records))
    kept = [journal.worlds[key, seed]["metrics"] for seed in seeds]
    return np.array([[metrics[name] for metrics in kept] for name in _PARTS])


def _bound(config: CompareConfig, key: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    env = gym.make(config.environment, **config.keywords)
    family, records = family_of(scenario_of(env)), []
    for seed in seeds:
        env.reset(seed=seed)
        metrics = dict(zip(_PARTS, map(float, family.quality_bounds(env)), strict=True))
        records.append({"key": key, "seed": seed, "world": "", "metrics": metrics})
    return records
