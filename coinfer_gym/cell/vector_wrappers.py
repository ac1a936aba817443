"""Action wrappers of the native vector environment of Cell-v0; each lane acts like the wrapped single environment."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorActionWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from coinfer_gym.cell.env import CellVectorEnv
from coinfer_gym.cell.wrappers import WORKS_WITH, act_within, keep_within, shares_space
from coinfer_gym.envs.actions import check_actions
from coinfer_gym.envs.hybrid import unwrap_plain
from coinfer_gym.laim import vector_wrappers as laim


class CellShareAction(VectorActionWrapper):
    """`coinfer_gym.cell.wrappers.CellShareAction` in every lane."""

    def __init__(self, env: Any, energy: bool | None = None) -> None:
        self._cell: CellVectorEnv = unwrap_plain(env, CellVectorEnv, type(self).__name__, WORKS_WITH)
        super().__init__(env)
        self.single_action_space = shares_space(self._cell.scenario, energy)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def actions(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """The exact optima within the shares as actions of Cell-v0."""
        shares = check_actions(actions, self.action_space.shape or (), self._cell.ended)
        return act_within(self._cell.lanes, shares, self._cell.ended)


class KeepCellBudgets(laim.KeepBudgets):
    """`coinfer_gym.cell.wrappers.KeepCellBudgets` in every lane."""

    _inner: CellVectorEnv

    def _find(self, env: Any) -> CellVectorEnv:
        return unwrap_plain(env, CellVectorEnv, type(self).__name__, WORKS_WITH)

    def _nearest(self, given: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return keep_within(self._inner.lanes, given, self._inner.ended)
