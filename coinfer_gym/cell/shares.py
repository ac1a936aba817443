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

from coinfer_gym.cell import spaces
from coinfer_gym.cell.env import CellEnv, CellLanes, CellVectorEnv, share_problem
from coinfer_gym.cell.scenario import CellScenario
from coinfer_gym.envs.actions import check_actions
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.wrappers import act_within

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
        self._optima = _Optima(self._cell.scenario, self._cell.lanes)
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
        row: NDArray[np.float32] = self._optima.actions(shares[None], np.zeros(1, np.bool_))[0]
        return row


class CellSharesVectorEnv(VectorActionWrapper):
    """Many lanes of `CellSharesEnv`; arguments as for `coinfer_gym.cell.env.CellVectorEnv`, and `energy`."""

    def __init__(self, /, energy: bool | None = None, **options: Any) -> None:
        self._cell = CellVectorEnv(**options)
        super().__init__(self._cell)
        self._optima = _Optima(self._cell.scenario, self._cell.lanes)
        self.single_action_space = shares_space(self._cell.scenario, energy)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def actions(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """The exact optima within the shares as actions of Cell-v0."""
        shares = check_actions(actions, self.action_space.shape or (), self._cell.ended)
        return self._optima.actions(shares, self._cell.ended)


def shares_space(scenario: CellScenario, energy: bool | None) -> gym_spaces.Box:
    """Action space of `CellSharesEnv`."""
    if energy is not None and not isinstance(energy, bool):
        raise InvalidInputError("energy", energy, "Give True, False or None.")
    has_battery = any(kind.battery_capacity is not None for kind in scenario.members)
    return gym_spaces.Box(-1.0, 1.0, (4 if (has_battery if energy is None else energy) else 3,), np.float32)


class _Optima:
    """Exact optima of the tasks at hand in all cells."""

    def __init__(self, scenario: CellScenario, lanes: CellLanes) -> None:
        self._lanes, self._least = lanes, scenario.share_min
        self._whole = [kind.problem(1.0) for kind in scenario.members]

    def actions(self, shares: NDArray[Any], skipped: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Actions of Cell-v0 within the shares, a row per cell; zeros where a cell is skipped."""
        if np.isnan(shares).any():
            raise InvalidInputError("action", math.nan, "Give numbers in [-1, 1].")
        tasks = np.array(self._lanes.tasks())
        actions = np.zeros((len(shares), len(spaces.ACTION_NAMES)), np.float32)
        taken = np.clip(shares[:, -2:].astype(np.float64), -1.0, 1.0)
        for i in np.flatnonzero(~skipped).tolist():
            cell = self._lanes.model.cells[i]
            free = (max(self._least, float(cell[name])) for name in ("band_free", "server_free"))  # less after the end
            band, server = (
                spaces.share_of(part, whole, self._least) for part, whole in zip(taken[i], free, strict=True)
            )
            problem = share_problem(self._whole[cell["deciding"] % len(self._whole)], band, server)
            actions[i, : spaces.BAND] = act_within(problem, tasks[:, i : i + 1], shares[i : i + 1, :-2])[0]
            actions[i, spaces.BAND :] = shares[i, -2:]
        return actions
