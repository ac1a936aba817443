"""CellShares-v0: Cell-v0 in which an action is shares of time, band and server; the exact optimum decides the rest."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces as gym_spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorActionWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.cell import spaces
from coinfer_gym.cell.dynamics import CellModel, tables_at
from coinfer_gym.cell.env import CellEnv, CellLanes, CellVectorEnv
from coinfer_gym.cell.scenario import CellScenario
from coinfer_gym.envs.actions import check_actions
from coinfer_gym.envs.interval import between
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.optimum import SOLUTION, solve_row_within
from coinfer_gym.laim.outcome import choice_of
from coinfer_gym.laim.spaces import write_action
from coinfer_gym.records import Records

__all__ = ["CellSharesEnv", "CellSharesVectorEnv"]


class CellSharesEnv(gym.ActionWrapper[Any, Any, Any]):
    """Cell-v0 whose action is shares of what a task may use; the exact optimum decides cut, ratios, power and clocks.

    The action is ``Box(-1, 1, (3,), float32)``: the share of the remaining time, as in
    `coinfer_gym.laim.wrappers.BudgetShareAction`, and the shares of the free band and the free server, on the scales of
    Cell-v0. With `energy` the share of the energy comes second. Every action meets both budgets if any decision with
    these shares does. All else is `coinfer_gym.cell.env.CellEnv`, which ``env.unwrapped`` returns.

    Parameters
    ----------
    energy : bool, optional
        Whether the agent also chooses the share of energy. By default it does if some kind of device has a battery.
    **options
        As for `CellEnv`.
    """

    metadata = CellEnv.metadata

    def __init__(self, /, energy: bool | None = None, **options: Any) -> None:
        self._cell = CellEnv(**options)
        super().__init__(self._cell)
        self.action_space = shares_space(self._cell.scenario, energy)

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]  # gymnasium declares an attribute too
        """The id and its arguments, without a wrapper: the id stands for both."""
        return self.env.spec

    def action(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """The exact optimum within the shares as an action of Cell-v0.

        Raises
        ------
        InvalidInputError
            If the action has another shape or a NaN.
        """
        self._cell.device  # noqa: B018  there is a task
        shares = check_actions(action, self.action_space.shape or ())
        row: NDArray[np.float32] = act_within(self._cell.lanes, shares[None], np.zeros(1, np.bool_))[0]
        return row


class CellSharesVectorEnv(VectorActionWrapper):
    """Many lanes of `CellSharesEnv`; arguments as for `coinfer_gym.cell.env.CellVectorEnv`, and `energy`."""

    def __init__(self, /, energy: bool | None = None, **options: Any) -> None:
        self._cell = CellVectorEnv(**options)
        super().__init__(self._cell)
        self.single_action_space = shares_space(self._cell.scenario, energy)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def actions(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """The exact optima within the shares as actions of Cell-v0."""
        shares = check_actions(actions, self.action_space.shape or (), self._cell.ended)
        return act_within(self._cell.lanes, shares, self._cell.ended)


def shares_space(scenario: CellScenario, energy: bool | None) -> gym_spaces.Box:
    """Action space of `CellSharesEnv`."""
    if energy is not None and not isinstance(energy, bool):
        raise InvalidInputError("energy", energy, "Give True, False or None.")
    has_battery = any(kind.battery_capacity is not None for kind in scenario.members)
    return gym_spaces.Box(-1.0, 1.0, (4 if (has_battery if energy is None else energy) else 3,), np.float32)


def act_within(lanes: CellLanes, shares: NDArray[Any], skipped: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Actions of Cell-v0 that decide the tasks at hand in all cells by their exact optima within `shares`.

    Parameters
    ----------
    lanes : CellLanes
    shares : ndarray, shape (lanes.count, 3) or (lanes.count, 4)
        Actions of CellShares-v0.
    skipped : ndarray of bool, shape (lanes.count,)
        Cells without a decision; their actions are zeros.

    Raises
    ------
    InvalidInputError
        If a share is NaN.
    """
    if np.isnan(shares).any():
        raise InvalidInputError("action", math.nan, "Give numbers in [-1, 1].")
    actions = np.zeros((lanes.count, len(spaces.ACTION_NAMES)), np.float32)
    actions[:, spaces.BAND :] = shares[:, -2:]
    parts = np.clip(shares.astype(np.float64), -1.0, 1.0)
    _write_optima(lanes.model, *lanes.tasks(), parts, skipped, np.zeros(1, SOLUTION), actions)
    return actions


@kernel
def _write_optima(
    model: CellModel,
    gain: NDArray[np.float64],
    delay_budget: NDArray[np.float64],
    energy_budget: NDArray[np.float64],
    parts: NDArray[np.float64],
    skipped: NDArray[np.bool_],
    row: Records,
    actions: NDArray[np.float32],
) -> None:
    """Fill the six components of LAIM-v0 in the rows of `actions`; `row` is room for one solution."""
    least, last = model.share_min[0], parts.shape[1] - 1
    for i in range(parts.shape[0]):
        if skipped[i]:
            continue
        cell = model.cells[i]
        band = spaces.share_of(parts[i, last - 1], max(cell.band_free, least), least)  # less after the end
        server = spaces.share_of(parts[i, last], max(cell.server_free, least), least)
        tables = tables_at(model, i, band, server)
        seconds, joules = between(parts[i, 0], 0.0, delay_budget[i]), energy_budget[i]
        if last == 3:
            joules = between(parts[i, 1], 0.0, energy_budget[i])
        solve_row_within(tables, gain[i], delay_budget[i], energy_budget[i], seconds, joules, row, 0)
        write_action(tables.hardware, tables.cuts.shape[0], choice_of(row[0]), actions, i)
