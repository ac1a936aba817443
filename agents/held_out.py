"""How good an agent is on worlds that it never trained in, against what needs no learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks

from baselines.layerwise.framework import ParametersGenerator, select_best
from baselines.policy import Predictor
from coinfer_gym import Problem, solve_exact_batch
from coinfer_gym.laim import spaces
from coinfer_gym.layerwise import dynamics as layerwise_dynamics
from coinfer_gym.layerwise.scenario import LayerwiseScenario
from coinfer_gym.sb3 import Columns, NativeVecEnv

__all__ = [
    "SELECTION_SEED",
    "TEST_SEED",
    "Score",
    "exact_actions",
    "is_layerwise",
    "play",
    "reference",
    "regrets",
    "unpruned_actions",
]

SELECTION_SEED = 1_000_000_000
"""Seed of the worlds on which the best agent of a run is chosen: training uses small seeds."""

TEST_SEED = 2_000_000_000
"""Seed of the worlds on which it is reported, apart from those it was chosen on."""


@dataclass(frozen=True)
class Score:
    """Means over the decisions of some episodes.

    Attributes
    ----------
    delivered : float
        Quality per task: 0 for one that missed a budget or was lost waiting.
    violated : float
        Share of decisions that missed a budget.
    delay, energy : float
        In s and J.
    dropped : float
        Tasks lost while they waited, as a share of all tasks.
    reward : float
        Per decision.
    """

    delivered: float
    violated: float
    delay: float
    energy: float
    dropped: float
    reward: float

    def as_dict(self) -> dict[str, float]:
        """The means by name."""
        return asdict(self)


def play(
    env: NativeVecEnv, act: Callable[[NDArray[np.float32]], NDArray[Any]], seed: int, limit: int = 1_000_000
) -> Score:
    """Play one episode in every lane.

    Parameters
    ----------
    env : NativeVecEnv
    act : callable
        Actions of a batch of observations.
    seed : int
        Lane `i` plays the first episode of seed ``seed + i``.
    limit : int
        Steps after which episodes are cut off.

    Returns
    -------
    Score
    """
    env.seed(seed)
    observations = env.reset()
    running = np.ones(env.num_envs, np.bool_)
    sums = dict.fromkeys(("delivered", "violated", "delay_s", "energy_j", "dropped"), 0.0)
    decisions, reward = 0, 0.0
    for _ in range(limit):
        observations, rewards, dones, _ = env.step(act(observations))  # type: ignore[assignment]
        for name in sums:
            sums[name] += float(env.decisions[name][running].sum())
        reward += float(rewards[running].sum(dtype=np.float64))
        decisions += int(running.sum())
        running &= ~dones
        if not running.any():
            break
    return _score(sums, decisions, reward)


def deterministic(policy: Predictor, env: NativeVecEnv) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    """The mode of a policy as a function of observations, for one `play` in these lanes: it carries a memory along."""
    masked = isinstance(policy, MaskablePPO) or getattr(policy, "algo", "") == "maskable_ppo"
    predict: Any = policy.predict
    memory: Any = None

    def act(observations: NDArray[np.float32]) -> NDArray[Any]:
        nonlocal memory
        masks = {"action_masks": get_action_masks(env)} if masked else {}
        actions, memory = predict(observations, state=memory, deterministic=True, **masks)
        return np.asarray(actions)

    return act


def exact_actions(env: NativeVecEnv) -> NDArray[np.float32]:
    """Actions of the exact optimum of the task at the head of every lane, as if no other were to come."""
    inner: Any = env.env.unwrapped
    return spaces.encode_rows(inner.scenario.tables, solve_exact_batch(_problem(inner), *inner.lanes.tasks()))


def unpruned_actions(env: NativeVecEnv) -> NDArray[np.float32]:
    """Actions in Layerwise-v0 of the unpruned network at its best cut for the task at the head of every lane."""
    inner: Any = env.env.unwrapped
    scenario: LayerwiseScenario = inner.scenario
    actions = []
    for gain, delay, energy in zip(*(values.tolist() for values in inner.lanes.tasks()), strict=True):
        problem = scenario.problem(gain, delay, energy)
        best = problem.decision(select_best(problem, ParametersGenerator(problem).unpruned()))
        actions.append(layerwise_dynamics.encode(problem.hardware, scenario.network.cuts, best))
    return np.array(actions)


def is_layerwise(env: NativeVecEnv) -> bool:
    """Whether the lanes are those of Layerwise-v0."""
    return isinstance(env.get_attr("scenario")[0], LayerwiseScenario)


def reference(env: NativeVecEnv) -> tuple[str, Callable[[NDArray[np.float32]], NDArray[Any]]]:
    """What an agent is compared with at once when its training ends: a name, and actions for the lanes' tasks.

    That is the exact optimum of each task in LAIM-v0, and in Layerwise-v0 the unpruned network at its best cut;
    `agents.evaluate` plays what takes longer to prepare.
    """
    if is_layerwise(env):
        return "unpruned", lambda _: unpruned_actions(env)
    return "myopic exact", lambda _: exact_actions(env)


def regrets(env: NativeVecEnv, decisions: Columns, most: int) -> NDArray[np.float64]:
    """Quality that the exact optimum of a task has over what was delivered, for up to `most` decisions.

    Parameters
    ----------
    env : NativeVecEnv
        Where the decisions were made.
    decisions : dict of ndarray
        Columns ``gain_db``, ``delay_budget_s``, ``energy_budget_j`` and ``delivered``.
    most : int
        Decisions to solve, evenly spread over those given.

    Returns
    -------
    ndarray of float64
        Below 0 only where the agent made use of the tolerance of a budget.
    """
    total = len(decisions["gain_db"])
    chosen = np.unique(np.linspace(0, total - 1, min(most, total)).astype(np.int64))
    rows = solve_exact_batch(
        _problem(env.env.unwrapped),
        _linear(decisions["gain_db"][chosen]),
        decisions["delay_budget_s"][chosen],
        decisions["energy_budget_j"][chosen],
        parallel=False,
    )
    best: NDArray[np.float64] = np.where(rows["reason"] == 0, rows["quality"], 0.0)
    return best - decisions["delivered"][chosen]


def _linear(gain_db: NDArray[np.float64]) -> NDArray[np.float64]:
    gain: NDArray[np.float64] = 10.0 ** (0.1 * gain_db)
    return gain


def _problem(env: Any) -> Problem:
    """P1 of the lanes' scenario; gain and budgets are to be varied."""
    first = env if hasattr(env, "scenario") else env.envs[0].unwrapped
    problem: Problem = first.scenario.problem(1.0)
    return problem


def _score(sums: dict[str, float], decisions: int, reward: float) -> Score:
    tasks = decisions + sums["dropped"]
    return Score(
        delivered=sums["delivered"] / tasks,
        violated=sums["violated"] / decisions,
        delay=sums["delay_s"] / decisions,
        energy=sums["energy_j"] / decisions,
        dropped=sums["dropped"] / tasks,
        reward=reward / decisions,
    )
