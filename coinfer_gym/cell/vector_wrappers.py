"""Action wrappers of the native vector environment of Cell-v0; each lane acts like the wrapped single environment."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorActionWrapper, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.cell import spaces
from coinfer_gym.cell.dynamics import CellModel, tables_at
from coinfer_gym.cell.env import CellVectorEnv
from coinfer_gym.cell.wrappers import act_within, check_cell, shares_space
from coinfer_gym.envs.actions import check_actions
from coinfer_gym.laim import vector_wrappers as laim

__all__ = ["CellShareAction", "KeepCellBudgets"]


class CellShareAction(VectorActionWrapper):
    """`coinfer_gym.cell.wrappers.CellShareAction` in every lane."""

    def __init__(self, env: Any, energy: bool | None = None) -> None:
        self._cell: CellVectorEnv = check_cell(env, CellVectorEnv, type(self).__name__)
        super().__init__(env)
        self.single_action_space = shares_space(self._cell.scenario, energy)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def actions(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """The exact optima within the shares as actions of Cell-v0."""
        shares = check_actions(actions, self.action_space.shape or (), self._cell.ended)
        return act_within(self._cell.lanes, shares, self._cell.ended)


class KeepCellBudgets(laim.KeepBudgets):
    """`coinfer_gym.cell.wrappers.KeepCellBudgets` in every lane."""

    def __init__(self, env: Any) -> None:
        self._inner = check_cell(env, CellVectorEnv, type(self).__name__)
        VectorWrapper.__init__(self, env)

    def _find_nearest(
        self, wanted: NDArray[np.float64], nearest: NDArray[np.float32], replaced: NDArray[np.bool_]
    ) -> None:
        model, ended = self._inner.lanes.model, self._inner.ended
        gain, delay_budget, energy_budget = self._inner.lanes.tasks()
        _find_nearest(model, gain, delay_budget, energy_budget, wanted, nearest, replaced, ended)


@kernel
def _find_nearest(
    model: CellModel,
    gain: NDArray[np.float64],
    delay_budget: NDArray[np.float64],
    energy_budget: NDArray[np.float64],
    wanted: NDArray[np.float64],
    nearest: NDArray[np.float32],
    replaced: NDArray[np.bool_],
    ended: NDArray[np.bool_],
) -> None:
    """Fill the rows of `nearest` whose wanted action misses a budget at its own shares, and mark them."""
    for i in range(wanted.shape[0]):
        if ended[i]:
            continue
        cell, least = model.cells[i], model.share_min[0]
        band = spaces.share_of(wanted[i, spaces.BAND], cell.band_free, least)
        server = spaces.share_of(wanted[i, spaces.SERVER], cell.server_free, least)
        tables = tables_at(model, i, band, server)
        replaced[i] = laim.write_nearest(
            tables.hardware, tables.cuts, gain[i], delay_budget[i], energy_budget[i], wanted, nearest, i
        )
