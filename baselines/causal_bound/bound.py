"""The bound in one world, the penalties of an episode that was played, and both in many worlds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.causal_bound.foresight import BLOCKS, build_foresight
from baselines.causal_bound.history import build_history
from baselines.causal_bound.recursion import Foresight, History, charge_decisions, solve_penalised
from baselines.causal_bound.values import Values, solve_values
from baselines.clairvoyant.plan import Episode, build_episode, may_overflow, raise_worth, tabulate
from baselines.clairvoyant.recursion import Times, Worth
from baselines.family import Columns
from coinfer_gym import InvalidInputError
from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.checks import check_number
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.parallel import run_parallel
from coinfer_gym.world import World

__all__ = ["causal_bound", "causal_bounds", "penalties"]

Floats = NDArray[np.float64]

_STEPS = 400
_SCALE = 0.6
_CHUNK = 10


def causal_bound(scenario: Scenario, world: World, scale: float = _SCALE, steps: int = _STEPS) -> float:
    """Most that any plan earns in a world when it pays for what it knows of the future.

    Parameters
    ----------
    scenario : Scenario
        Of LAIM-v0, with Poisson or bursty arrivals, fixed budgets, a fading or constant channel, and no battery.
    world : World
        One of the scenario's.
    scale : float
        Factor of the penalties, from 0 to 1. Every factor gives a bound; with 0 it is the clairvoyant's.
    steps : int
        Grid steps per delay budget, about.

    Returns
    -------
    float
        Mean quality per task. A single world says nothing; the mean over worlds bounds the mean of every policy.

    Raises
    ------
    InvalidInputError
        If the scenario is none of these, the factor is out of range, or there are too few steps.
    """
    episode, history, foresight = _prepare(scenario, world, scale, steps)
    budget = world.energy_budget * (1.0 + BUDGET_TOLERANCE)
    worth = raise_worth(episode, tabulate(episode, scenario.problem(1.0, energy_budget=budget)))
    skippable = may_overflow(episode)
    return plan(history, foresight, episode.times, worth, skippable, len(episode.right)) / scenario.tasks


def penalties(scenario: Scenario, world: World, decisions: Columns, scale: float = 1.0, steps: int = _STEPS) -> Floats:
    """What each decision of an episode that was played is charged; its mean over worlds is 0 for a causal policy.

    Parameters
    ----------
    scenario, world, scale, steps
        As for `causal_bound`.
    decisions : mapping of str to ndarray, shape (n,)
        The columns ``time_s``, ``wait_s`` and ``delay_s`` of ``info``.

    Returns
    -------
    ndarray, shape (n,)
        In quality.
    """
    episode, history, foresight = _prepare(scenario, world, scale, steps)
    start = np.asarray(decisions["time_s"], np.float64)
    came = start - decisions["wait_s"]
    after = np.clip(np.searchsorted(world.arrivals, came), 1, len(world.arrivals) - 1)
    tasks = after - (came - world.arrivals[after - 1] < world.arrivals[after] - came)
    fresh, mixed, charged = (
        fresh_values(history, foresight),
        np.zeros((2, *foresight.head.shape[2:])),
        np.zeros(len(start)),
    )
    ends = start + decisions["delay_s"]
    charge_decisions(history, foresight, episode.times, tasks, start, ends, fresh, mixed, charged)
    return charged


def causal_bounds(environment: str, keywords: Mapping[str, Any], seeds: Sequence[int], jobs: int = 1) -> Floats:
    """`causal_bound` in the worlds that an environment meets under some seeds, shape (seeds,)."""
    chunks = [seeds[k : k + _CHUNK] for k in range(0, len(seeds), _CHUNK)]
    found: dict[int, float] = {}
    for part in run_parallel(_bound_chunk, [(environment, dict(keywords), chunk) for chunk in chunks], jobs):
        found |= part
    return np.array([found[seed] for seed in seeds])


def _bound_chunk(environment: str, keywords: dict[str, Any], seeds: Sequence[int]) -> dict[int, float]:
    env = gym.make(environment, **keywords)
    inner, found = cast("Any", env.unwrapped), {}
    for seed in seeds:
        env.reset(seed=seed)
        found[seed] = causal_bound(inner.scenario, inner.world())
    return found


def _prepare(scenario: Scenario, world: World, scale: float, steps: int) -> tuple[Episode, History, Foresight]:
    _check(scenario)
    scale = check_number("scale", scale, 0.0, 1.0)
    episode = build_episode(scenario, world, steps)
    values, foresight = _foresee(scenario.model_dump_json(by_alias=True), episode.times.step)
    lags = math.ceil((len(foresight.chances) - 1) * episode.times.step / world.block_duration) + BLOCKS
    return episode, build_history(episode, values.log_gains, lags), scaled(foresight, scale)


@lru_cache(maxsize=4)
def _foresee(scenario_json: str, step: float) -> tuple[Values, Foresight]:
    scenario = Scenario.model_validate_json(scenario_json)
    values = solve_values(scenario)
    return values, build_foresight(values, scenario.delay_budget, step, scenario.block_duration)


def _check(scenario: Scenario) -> None:
    if scenario.arrivals not in ("poisson", "mmpp"):
        raise InvalidInputError("arrivals", scenario.arrivals, "The bound supports 'poisson' and 'mmpp'.")
    if scenario.channel not in ("fading", "constant"):
        raise InvalidInputError("channel", scenario.channel, "The bound supports 'fading' and 'constant'.")
    if scenario.delay_budget_range or scenario.energy_budget_range:
        raise InvalidInputError("delay_budget_range", scenario.delay_budget_range, "The budgets must be fixed.")
    if scenario.battery_capacity is not None:
        raise InvalidInputError("battery_capacity", scenario.battery_capacity, "The bound does not support a battery.")


def scaled(foresight: Foresight, scale: float) -> Foresight:
    """All values times a factor."""
    parts = {name: scale * getattr(foresight, name) for name in ("rate", "head", "later", "alone", "coming")}
    return foresight._replace(**parts)


def plan(
    history: History, foresight: Foresight, times: Times, worth: Worth, skippable: NDArray[np.bool_], cells: int
) -> float:
    """`solve_penalised` with its scratch."""
    first = (history.arrivals / times.step).astype(np.int64)
    latest = first.copy()
    latest[1:] = np.maximum(first[1:], ((history.arrivals[:-1] + times.patience) / times.step).astype(np.int64))
    window = math.ceil(times.patience / times.step) + 3
    scratch = np.zeros((cells, 2)), np.zeros(window), np.zeros(window)
    fresh = fresh_values(history, foresight)
    mixed = np.zeros((history.weights.shape[1], 2, *foresight.head.shape[2:]))
    return float(solve_penalised(history, foresight, times, worth, skippable, latest, *scratch, fresh, mixed))


def fresh_values(history: History, foresight: Foresight) -> Floats:
    """Expected value of a task that comes to an empty queue, see `value_of`."""
    return np.ascontiguousarray(history.weights @ foresight.head[:, :, 0, 0, 0].T)
