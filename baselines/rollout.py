"""Playing episodes and measuring them: the one loop and the one set of metrics behind every comparison."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import gymnasium as gym
import numpy as np

from baselines.family import Column, Columns, family_of, scenario_of
from baselines.policy import Predictor
from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.envs.vector import last_infos

__all__ = ["MEASURED", "TAILS", "join", "measure", "metrics", "play"]

MEASURED = ("delivered", "quality", "cost_delay", "dropped", "wait_s", "delay_s", "energy_j", "violated", "reward")
"""Columns that `metrics` needs."""

TAILS = {f"delay_p{percent}_s": Column(f"p{percent} ms", "z.1f", 1e3) for percent in (50, 95, 99)}
"""Percentiles of the delay of the tasks that were served, the waiting time included."""

Environment = gym.Env[Any, Any] | gym.vector.VectorEnv[Any, Any, Any]


def play(env: Environment, policy: Predictor, seeds: Sequence[int]) -> list[Columns]:
    """Play one episode per seed, with deterministic actions.

    Parameters
    ----------
    env : gymnasium.Env or gymnasium.vector.VectorEnv
        A single environment plays the episodes one after another, a vector environment side by side: it has one lane
        per seed and the autoreset mode ``SameStep``.
    policy : Predictor
        Bound to the environment, if it needs to be.
    seeds : sequence of int
        Seed of each world, and in a single environment also of what the policy draws.

    Returns
    -------
    list of dict of ndarray, shape (decisions,)
        By seed, the decisions of the episode: every key of ``info``, the ``reward``, and ``seconds``, the time that the
        policy took for the decision (in a vector environment an equal share of the batch's time).
    """
    if isinstance(env, gym.vector.VectorEnv):
        return _play(env, policy, list(seeds))
    episodes = []
    for seed in seeds:
        reseed = getattr(policy, "seed", None)
        if callable(reseed):  # in a model of stable-baselines3 it is a number
            reseed(seed)
        episodes += _play(env, policy, seed)
    return episodes


def _play(env: Any, policy: Predictor, seed: int | list[int]) -> list[Columns]:
    """The episodes of all lanes; a single environment is one lane."""
    lanes = len(seed) if isinstance(seed, list) else 1
    running, lengths = np.ones(lanes, np.bool_), np.zeros(lanes, np.int64)
    observation, _ = env.reset(seed=seed)
    state, start = None, np.ones(lanes, np.bool_)
    steps: list[dict[str, Any]] = []
    while running.any():
        before = perf_counter()
        action, state = policy.predict(observation, state=state, episode_start=start, deterministic=True)
        seconds = np.full(lanes, (perf_counter() - before) / lanes)
        observation, reward, terminated, truncated, info = env.step(action)
        steps.append({**last_infos(info), "reward": reward, "seconds": seconds})
        start = np.zeros(lanes, np.bool_)
        lengths += running
        running &= ~np.logical_or(terminated, truncated)
    table = {name: np.array([step[name] for step in steps], np.float64).reshape(-1, lanes) for name in steps[0]}
    return [{name: column[:length, i] for name, column in table.items()} for i, length in enumerate(lengths.tolist())]


def join(episodes: Sequence[Columns]) -> Columns:
    """The decisions of several episodes as if they were one."""
    return {name: np.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}


def metrics(decisions: Columns) -> dict[str, float]:
    """What every environment measures.

    Parameters
    ----------
    decisions : mapping of str to ndarray, shape (decisions,)
        The columns `MEASURED`, of whole episodes.

    Returns
    -------
    dict of float
        Per task, lost ones included: ``delivered`` quality within the budgets, ``on_time`` share of tasks done within
        the delay budget, ``dropped`` share that was never served, ``return``. Per decision: ``delay_s`` with and
        ``service_s`` without the waiting time, ``energy_j``, ``violated`` share that missed a budget.
    """
    dropped = decisions["dropped"].sum()
    tasks = len(decisions["dropped"]) + dropped
    # A task given up by impatience or an empty battery may end before its deadline, but its quality is 0.
    on_time = (decisions["cost_delay"] <= BUDGET_TOLERANCE) & (decisions["quality"] > 0.0)
    measured = {
        "delivered": decisions["delivered"].sum() / tasks,
        "on_time": on_time.sum() / tasks,
        "dropped": dropped / tasks,
        "delay_s": (decisions["wait_s"] + decisions["delay_s"]).mean(),
        "service_s": decisions["delay_s"].mean(),
        "energy_j": decisions["energy_j"].mean(),
        "violated": (decisions["violated"] == 1.0).mean(),
        "return": decisions["reward"].sum() / tasks,
    }
    return {name: float(value) for name, value in measured.items()}


def measure(env: Environment, policy: Predictor, seed: int) -> dict[str, float]:
    """All metrics of a policy in one world.

    Parameters
    ----------
    env : gymnasium.Env
        LAIM-v0 or another environment with a `baselines.family.Family`, wrapped or not.
    policy : Predictor
        Bound to it, if it needs to be.
    seed : int
        Seed of the world, and of what the policy draws.

    Returns
    -------
    dict of float
        `metrics`; those of the environment's family, such as ``regret``; the `TAILS`; and ``decision_us``, the median
        time of a decision.
    """
    [episode] = play(env, policy, [seed])
    scenario = scenario_of(env)
    own = family_of(scenario).measure(scenario, episode)
    delays = np.percentile(episode["wait_s"] + episode["delay_s"], (50, 95, 99)).tolist()
    tails = dict(zip(TAILS, delays, strict=True))
    return metrics(episode) | own | tails | {"decision_us": 1e6 * float(np.median(episode["seconds"]))}
