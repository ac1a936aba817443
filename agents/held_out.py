"""How good an agent is on worlds that it never trained in, beside what needs no learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from numpy.typing import NDArray

from baselines import rollout
from baselines.config import TEST, VALIDATION
from baselines.family import Columns, family_of, scenario_of
from baselines.policy import Observation, Policy, Predictor

if TYPE_CHECKING:
    from coinfer_gym.sb3 import NativeVecEnv

__all__ = ["SELECTION_SEED", "TEST_SEED", "LanePolicy", "play", "play_worlds", "reference"]

SELECTION_SEED = VALIDATION.start
"""Seed of the worlds on which the best agent of a run is chosen: training uses small seeds."""

TEST_SEED = TEST.start
"""Seed of the worlds on which it is reported, apart from those it was chosen on."""


class LanePolicy(Policy):
    """A policy that looks at the lanes of a vector environment instead of the observations."""

    def __init__(self, act: Callable[[Any], NDArray[Any]], env: gym.vector.VectorEnv[Any, Any, Any]) -> None:
        self._act, self._env = act, env.unwrapped

    def act(self, observation: Observation) -> NDArray[Any]:
        """Actions for all lanes."""
        return self._act(self._env)


class _Masked(Policy):
    """A policy of ``maskable_ppo`` that asks the lanes which actions they allow."""

    def __init__(self, policy: Any, env: NativeVecEnv) -> None:
        self._policy, self._env = policy, env

    def act(self, observation: Observation) -> NDArray[Any]:
        """Actions for all lanes."""
        from sb3_contrib.common.maskable.utils import get_action_masks

        masks = get_action_masks(self._env)
        actions: NDArray[Any] = self._policy.predict(observation, deterministic=True, action_masks=masks)[0]
        return actions


def play(env: NativeVecEnv, policy: Predictor, seed: int) -> dict[str, float]:
    """Play one episode in every lane, with deterministic actions; lane `i` plays the world of ``reset(seed=seed + i)``.

    Returns `baselines.rollout.metrics` of all decisions together.
    """
    return rollout.metrics(rollout.join(_play_lanes(env, policy, seed)))


def play_worlds(env: NativeVecEnv, policy: Predictor, seed: int) -> list[dict[str, float]]:
    """The same, with the metrics of every world on its own."""
    return [rollout.metrics(episode) for episode in _play_lanes(env, policy, seed)]


def _play_lanes(env: NativeVecEnv, policy: Predictor, seed: int) -> list[Columns]:
    masked = type(policy).__name__ == "MaskablePPO" or getattr(policy, "algo", "") == "maskable_ppo"
    player: Predictor = _Masked(policy, env) if masked else policy
    return rollout.play(env.env, player, range(seed, seed + env.num_envs))


def reference(env: NativeVecEnv) -> tuple[str, Predictor]:
    """What an agent is compared with right after its training: its label, and the policy in these lanes.

    `agents.evaluate` plays what takes longer to prepare.
    """
    family = family_of(scenario_of(env.env))
    return family.reference, LanePolicy(family.act, env.env)
