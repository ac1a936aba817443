"""Wrappers for Cell-v0: shares of time, band and server as actions; budgets kept, and regret, at the shares taken."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces as gym_spaces
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.cell import spaces
from coinfer_gym.cell.dynamics import CellModel, tables_at
from coinfer_gym.cell.env import CellEnv, CellLanes, share_problem
from coinfer_gym.cell.scenario import CellScenario
from coinfer_gym.envs.actions import check_actions
from coinfer_gym.envs.hybrid import unwrap, unwrap_plain
from coinfer_gym.envs.interval import between
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim import wrappers as laim
from coinfer_gym.laim.optimum import SOLUTION, solve_exact_batch, solve_row_within
from coinfer_gym.laim.outcome import Tables, choice_of
from coinfer_gym.laim.safety import keep_row
from coinfer_gym.laim.spaces import write_action
from coinfer_gym.physics import from_db
from coinfer_gym.records import Records

WORKS_WITH = "This wrapper works with Cell-v0 only."


class CellShareAction(gym.ActionWrapper[Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Let the agent choose how much a task may use; the exact optimum within that chooses the rest.

    The action is ``Box(-1, 1, (3,), float32)``: the share of the remaining time, as in
    `coinfer_gym.laim.wrappers.BudgetShareAction`, and the shares of the free band and the free server, on the scales of
    Cell-v0. With `energy` the share of the energy comes second. Every action meets both budgets if any decision with
    these shares of band and server does.

    Parameters
    ----------
    env : gymnasium.Env
        Cell-v0 with its own action space.
    energy : bool, optional
        Whether the agent also chooses the share of energy. By default it does if some kind of device has a battery.

    Raises
    ------
    InvalidInputError
        If the environment is not Cell-v0, or a wrapper has given its actions another meaning.
    """

    def __init__(self, env: gym.Env[Any, Any], energy: bool | None = None) -> None:
        self._cell: CellEnv = unwrap_plain(env, CellEnv, type(self).__name__, WORKS_WITH)
        space = shares_space(self._cell.scenario, energy)
        gym.utils.RecordConstructorArgs.__init__(self, energy=energy)
        super().__init__(env)
        self.action_space = space

    def action(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """The exact optimum within the shares as an action of Cell-v0.

        Raises
        ------
        InvalidInputError
            If the action has another shape or a NaN.
        """
        self._cell.tasks()  # there is one
        shares = check_actions(action, self.action_space.shape or ())
        row: NDArray[np.float32] = act_within(self._cell.lanes, shares[None], np.zeros(1, np.bool_))[0]
        return row


class KeepCellBudgets(laim.KeepBudgets):
    """`coinfer_gym.laim.wrappers.KeepBudgets` of a cell: the budgets are kept at the shares that the action takes.

    The shares of band and server are never changed, so a task may still miss its budgets if no decision meets them with
    these shares.

    Parameters
    ----------
    env : gymnasium.Env
        Cell-v0 with its own action space.

    Raises
    ------
    InvalidInputError
        If the environment is not Cell-v0, or a wrapper has given its actions another meaning.
    """

    _inner: CellEnv

    def _find(self, env: gym.Env[Any, Any]) -> CellEnv:
        return unwrap_plain(env, CellEnv, type(self).__name__, WORKS_WITH)

    def _nearest(self, actions: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        self._inner.tasks()  # there is one
        return keep_within(self._inner.lanes, actions, np.zeros(1, np.bool_))


class Regret(laim.Regret):
    """`coinfer_gym.laim.wrappers.Regret` of a cell: the optimum is that at the shares of band and server that it held.

    So it measures how well a task used what it took, and not whether it took the right share. The optimum of a task
    that stayed on the device, and held nothing, is that on the device.

    Parameters
    ----------
    env : gymnasium.Env
        Cell-v0, wrapped or not.

    Raises
    ------
    InvalidInputError
        If the environment is not Cell-v0.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        inner = unwrap(env, CellEnv, "Regret", WORKS_WITH)
        self._whole = [kind.problem(1.0) for kind in inner.scenario.members]
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)

    def _optimal_quality(self, info: dict[str, Any]) -> np.float64:
        problem, cut = self._whole[int(info["device"]) % len(self._whole)], None
        if info["band"] > 0.0:
            problem = share_problem(problem, info["band"], info["server"])
        else:
            cut = problem.workload.cuts - 1
        task = from_db(info["gain_db"]), info["delay_budget_s"], info["energy_budget_j"]
        solution = solve_exact_batch(problem, *task, cut=cut)
        return np.float64(solution["quality"] if solution["reason"] == 0 else 0.0)


def shares_space(scenario: CellScenario, energy: bool | None) -> gym_spaces.Box:
    """Action space of `CellShareAction`: that of `coinfer_gym.laim.wrappers.BudgetShareAction`, and two shares."""
    space: gym_spaces.Box = laim.shares_space(scenario.members, energy, more=2)
    return space


def act_within(lanes: CellLanes, shares: NDArray[Any], skipped: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Actions of Cell-v0 that decide the tasks at hand in all cells by their exact optima within `shares`.

    Parameters
    ----------
    lanes : CellLanes
    shares : ndarray, shape (lanes.count, 3) or (lanes.count, 4)
        Actions of `CellShareAction`.
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
    last = parts.shape[1] - 1
    for i in range(parts.shape[0]):
        if skipped[i]:
            continue
        tables = _tables_taken(model, i, parts[i, last - 1], parts[i, last])
        seconds, joules = between(parts[i, 0], 0.0, delay_budget[i]), energy_budget[i]
        if last == 3:
            joules = between(parts[i, 1], 0.0, energy_budget[i])
        solve_row_within(tables, gain[i], delay_budget[i], energy_budget[i], seconds, joules, row, 0)
        write_action(tables, choice_of(row[0]), actions, i)


def keep_within(
    lanes: CellLanes, actions: NDArray[Any], skipped: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """`coinfer_gym.laim.safety.keep_budgets` of all cells, each task at the shares that its action takes."""
    wanted = np.clip(actions.astype(np.float64), -1.0, 1.0)
    kept, changed = wanted.astype(np.float32), np.zeros(lanes.count, np.bool_)
    _keep_rows(lanes.model, *lanes.tasks(), wanted, skipped, kept, changed)
    return kept, changed


@kernel
def _keep_rows(
    model: CellModel,
    gain: NDArray[np.float64],
    delay_budget: NDArray[np.float64],
    energy_budget: NDArray[np.float64],
    wanted: NDArray[np.float64],
    skipped: NDArray[np.bool_],
    kept: NDArray[np.float32],
    changed: NDArray[np.bool_],
) -> None:
    for i in range(wanted.shape[0]):
        if skipped[i]:
            continue
        tables = _tables_taken(model, i, wanted[i, spaces.BAND], wanted[i, spaces.SERVER])
        changed[i] = keep_row(tables, gain[i], delay_budget[i], energy_budget[i], wanted, kept, i)


@kernel
def _tables_taken(model: CellModel, i: int, band: float, server: float) -> Tables:
    """Constants of P1 of the task at hand in cell `i` at the shares that these two components take."""
    cell, least = model.cells[i], model.share_min[0]
    band_free, server_free = max(cell.band_free, least), max(cell.server_free, least)  # less after the end
    return tables_at(model, i, spaces.share_of(band, band_free, least), spaces.share_of(server, server_free, least))
