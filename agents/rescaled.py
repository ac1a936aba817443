"""A trained agent in a world with another scale of observations than that of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from agents.policy import Agent, State, load_agent
from coinfer_gym.envs.observation import OBSERVATION_NAMES
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim import dynamics
from coinfer_gym.layerwise import dynamics as layerwise_dynamics
from coinfer_gym.layerwise.scenario import LayerwiseScenario

__all__ = ["RescaledAgent", "trained_for"]


class RescaledAgent:
    """An agent that sees any world on the scale of the one it was trained in.

    An environment normalises its observations by what varies in it: the same gain, arrival rate or budget is another
    number in another world, and a budget that does not vary is no number at all. An agent that is deployed keeps the
    scale that it has learned with; what lies beyond it is clipped.

    Parameters
    ----------
    path : str or Path
        File of the agent, or the folder of its run.
    """

    def __init__(self, path: str | Path) -> None:
        self._agent = load_agent(path)
        self._slope, self._offset = np.ones(len(OBSERVATION_NAMES)), np.zeros(len(OBSERVATION_NAMES))

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on.

        Raises
        ------
        InvalidInputError
            If the agent's file does not tell where it was trained, or the agent cannot act here.
        """
        name, keywords = trained_for(self._agent)
        self._agent.bind(env)
        (low, high), (known_low, known_high) = _ends(env), _ends(gym.make(name, **keywords))
        width = known_high - known_low
        varied = width > 0.0  # of any other component the agent has seen but one value, 0
        divisor = np.where(varied, width, 1.0)
        self._slope = np.where(varied, (high - low) / divisor, 0.0)
        self._offset = np.where(varied, (low + high - known_low - known_high) / divisor, 0.0)
        return self

    def seed(self, seed: int) -> None:
        """Begin the agent's noise anew."""
        self._agent.seed(seed)

    def predict(
        self,
        observation: NDArray[Any],
        state: State | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Action for an observation, or one per row of a batch, see `agents.policy.Agent.predict`."""
        return self._agent.predict(self.see(observation), state, episode_start, deterministic)

    def see(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """An observation of the bound environment, or rows of them, on the scale of the training."""
        seen: NDArray[np.float32] = np.clip(observation * self._slope + self._offset, -1.0, 1.0).astype(np.float32)
        return seen


def trained_for(agent: Agent) -> tuple[str, dict[str, Any]]:
    """Environment that an agent was trained for, and its keywords.

    Raises
    ------
    InvalidInputError
        If its file does not tell.
    """
    try:
        return str(agent.config["env"]), dict(agent.config["env_kwargs"])
    except KeyError as error:
        remedy = f"It has no {error}: which environment the agent was trained for is not known."
        raise InvalidInputError("agent: config", agent.config, remedy) from error


def _ends(env: gym.Env[Any, Any]) -> NDArray[np.float64]:
    """What -1 and 1 stand for in each component of an observation, shape (2, n_obs); the shares of a whole are kept."""
    scenario = env.get_wrapper_attr("scenario")
    build: Any = layerwise_dynamics if isinstance(scenario, LayerwiseScenario) else dynamics
    scale = build.build_constants(scenario).scale[0]
    ends = {
        "gain": (scale["gain_db_low"], scale["gain_db_high"]),
        "queue": (0.0, scenario.queue_capacity),
        "intensity": (0.0, scale["intensity_high"]),
        "delay_budget": (scale["log_delay_low"], scale["log_delay_high"]),
        "energy_budget": (scale["log_energy_low"], scale["log_energy_high"]),
    }
    return np.array([ends.get(name, (-1.0, 1.0)) for name in OBSERVATION_NAMES], np.float64).T
