"""Cell-v0 for PettingZoo, each device an agent of its own (extra ``multiagent``).

from coinfer_gym.cell.multiagent import CellAEC

env = CellAEC(scenario="cell-4")
env.reset(seed=0)
for agent in env.agent_iter():
    observation, reward, terminated, truncated, info = env.last()
    env.step(None if truncated else env.action_space(agent).sample())
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Space
from numpy.typing import NDArray

from coinfer_gym.extras import install

try:
    from pettingzoo import AECEnv
except ImportError as error:
    raise ImportError(f"coinfer_gym.cell.multiagent needs PettingZoo: {install('multiagent')}") from error

from coinfer_gym.cell.env import CellEnv


class CellAEC(AECEnv):  # type: ignore[misc]  # PettingZoo has no types where it is not installed
    """A cell in which every device decides for itself: an environment of agents in turn (AEC) of PettingZoo.

    The agents are called ``device_0``, ``device_1`` and so on; the cell says who decides next. An agent gets the
    reward of its own decisions, with the penalty for tasks that others lost while they waited for shares. It sees the
    cell as it was when it last had its turn, and has the info of its last decision. All agents are truncated together,
    at the end of the episode.

    Parameters
    ----------
    **options
        As for `coinfer_gym.cell.env.CellEnv`.

    Raises
    ------
    InvalidInputError
        If the scenario cannot be used.
    """

    metadata: dict[str, Any] = {**CellEnv.metadata, "name": "coinfer_gym_cell_v0", "is_parallelizable": False}  # noqa: RUF012

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._cell = CellEnv(**options)
        self.render_mode = self._cell.render_mode
        self.possible_agents = [f"device_{k}" for k in range(self._cell.devices)]
        self.observation_spaces = dict.fromkeys(self.possible_agents, self._cell.observation_space)
        self.action_spaces = dict.fromkeys(self.possible_agents, self._cell.action_space)
        self.agents: list[str] = []  # until the reset
        self.agent_selection = self.possible_agents[0]
        self.truncations = dict.fromkeys(self.possible_agents, False)

    @property
    def unwrapped(self) -> CellEnv:
        """The cell, with its `problem` and `action`."""
        return self._cell

    def observation_space(self, agent: str) -> Space[Any]:
        """Space of every agent's observations."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Space[Any]:
        """Space of every agent's actions."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Draw a new world, as in `CellEnv`; PettingZoo asks that options nobody knows are left aside."""
        known = {key: value for key, value in (options or {}).items() if key == "world_seed"}
        observation, info = self._cell.reset(seed=seed, options=known)
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
        self._seen = {agent: np.zeros_like(observation) for agent in self.agents}
        self._select(observation)
        self.infos[self.agent_selection] = info

    def step(self, action: Any) -> None:
        """Decide the task of the agent whose turn it is; None takes an agent out after the end of the episode."""
        agent = self.agent_selection
        if self.truncations[agent]:
            self._was_dead_step(action)
            return
        observation, reward, _, ended, info = self._cell.step(action)
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self.rewards[agent] = reward
        self.infos[agent] = info
        self._accumulate_rewards()
        self._select(observation)
        if ended:
            self.truncations = dict.fromkeys(self.agents, True)

    def observe(self, agent: str) -> NDArray[np.float32]:
        """What an agent saw when it last had its turn, also the one that the end of the episode takes; zeros before."""
        return self._seen[agent].copy()

    def render(self) -> Any:
        """Picture of the last decision of the cell."""
        return self._cell.render()

    def close(self) -> None:
        """Close the window, if there is one."""
        self._cell.close()

    def _select(self, observation: NDArray[np.float32]) -> None:
        self.agent_selection = f"device_{self._cell.device}"
        self._seen[self.agent_selection] = observation
