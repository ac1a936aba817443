"""A trained agent in a world whose observations have another scale than those of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from agents.policy import State, load_agent

__all__ = ["RescaledAgent"]


class RescaledAgent:
    """An agent that sees every world on the scale of the one that it was trained in.

    An environment normalises its observations by the ranges of its own scenario: the same gain, arrival rate or budget
    is another number in another world, and a budget that does not vary is always 0. This agent converts observations
    to the ranges of its training and clips what lies beyond them.

    Parameters
    ----------
    path : str or Path
        File of the agent, or the folder of its run.
    """

    def __init__(self, path: str | Path) -> None:
        self._agent = load_agent(path)
        self._slope, self._offset = np.ones(1), np.zeros(1)

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on, see `agents.policy.Agent.bind`."""
        name, keywords = self._agent.trained_for
        self._agent.bind(env)
        (low, high), (own_low, own_high) = _ranges(env), _ranges(gym.make(name, **keywords))
        width = own_high - own_low
        varied = width > 0.0  # a component that did not vary in training was always 0
        divisor = np.where(varied, width, 1.0)
        self._slope = np.where(varied, (high - low) / divisor, 0.0)
        self._offset = np.where(varied, (low + high - own_low - own_high) / divisor, 0.0)
        return self

    def seed(self, seed: int) -> None:
        """Seed the agent's noise."""
        self._agent.seed(seed)

    def predict(
        self,
        observation: NDArray[Any],
        state: State | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Choose an action for an observation, or for each row of a batch, see `agents.policy.Agent.predict`."""
        scaled = np.clip(observation * self._slope + self._offset, -1.0, 1.0).astype(np.float32)
        return self._agent.predict(scaled, state, episode_start, deterministic)


def _ranges(env: gym.Env[Any, Any]) -> NDArray[np.float64]:
    """What -1 and 1 stand for in each component of an observation, shape (2, n_obs); -1 and 1 for relative ones."""
    task_env: Any = env.unwrapped
    scale = task_env.lanes.rules[0]
    ranges = {
        "gain": (scale["gain_db_low"], scale["gain_db_high"]),
        "queue": (0.0, task_env.scenario.queue_capacity),
        "intensity": (0.0, scale["intensity_high"]),
        "delay_budget": (scale["log_delay_low"], scale["log_delay_high"]),
        "energy_budget": (scale["log_energy_low"], scale["log_energy_high"]),
    }
    return np.array([ranges.get(name, (-1.0, 1.0)) for name in task_env.lanes.observation_names], np.float64).T
