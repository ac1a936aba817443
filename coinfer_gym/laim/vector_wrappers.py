"""Action wrappers of the native vector environment of LAIM-v0; each lane acts like the wrapped single environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces as gym_spaces
from gymnasium.vector import VectorActionWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim import spaces
from coinfer_gym.laim.env import LAIMVectorEnv
from coinfer_gym.laim.safety import keep_decision, mark_tasks
from coinfer_gym.laim.wrappers import (
    FREQUENCY_LEVELS,
    POWER_LEVELS,
    RETAINED_LEVELS,
    act_within,
    shares_space,
    tabulate_decisions,
)

__all__ = ["DiscreteActions", "BudgetShareAction", "KeepBudgets"]


class DiscreteActions(VectorActionWrapper):
    """`coinfer_gym.laim.wrappers.DiscreteActions` in every lane; parameters and errors are the same."""

    def __init__(
        self,
        env: Any,
        retained_levels: Sequence[float | Sequence[float]] = RETAINED_LEVELS,
        power_levels: Sequence[float] = POWER_LEVELS,
        frequency_levels: Sequence[float] = FREQUENCY_LEVELS,
        cuts: Sequence[int] | None = None,
    ) -> None:
        super().__init__(env)
        self._laim = _laim(env, type(self).__name__)
        scenario = self._laim.scenario
        self._table = tabulate_decisions(scenario, retained_levels, power_levels, frequency_levels, cuts)
        self._actions = spaces.encode_rows(scenario.tables, self._table)
        self.single_action_space = gym_spaces.Discrete(len(self._table))
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def actions(self, actions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows of the table as actions of LAIM-v0.

        Raises
        ------
        InvalidInputError
            If there is no such row.
        """
        chosen = np.asarray(actions)
        if chosen.dtype.kind not in "iu" or not ((chosen >= 0) & (chosen < len(self._table))).all():
            raise InvalidInputError("action", actions, f"Give whole numbers from 0 to {len(self._table) - 1}.")
        rows: NDArray[np.float32] = self._actions[chosen]
        return rows

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions meet both budgets of the task at hand, judged by what the agent observes.

        Returns
        -------
        ndarray of bool, shape (num_envs, n)
        """
        tables = self._laim.scenario.tables
        masks = np.empty((self.num_envs, len(self._table)), np.bool_)
        mark_tasks(tables.hardware, tables.cuts, *self._laim.lanes.tasks(), self._table, masks)
        return masks


class BudgetShareAction(VectorActionWrapper):
    """`coinfer_gym.laim.wrappers.BudgetShareAction` in every lane."""

    def __init__(self, env: Any, energy: bool | None = None) -> None:
        super().__init__(env)
        self._laim = _laim(env, type(self).__name__)
        self._problem = self._laim.scenario.problem(1.0)
        self.single_action_space = shares_space(self._laim.scenario, energy)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def actions(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """The exact optima within the shares as actions of LAIM-v0."""
        return act_within(self._problem, np.array(self._laim.lanes.tasks()), np.asarray(actions, np.float64))


class KeepBudgets(VectorActionWrapper):
    """`coinfer_gym.laim.wrappers.KeepBudgets` in every lane; ``infos`` do not report which actions were replaced."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self._laim = _laim(env, type(self).__name__)

    def actions(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions that replace the given ones."""
        given = np.asarray(actions, np.float32)
        if given.shape != self.action_space.shape or np.isnan(given).any():
            return given  # for the environment to refuse
        kept = np.clip(given, -1.0, 1.0)
        lanes = self._laim.lanes
        ratio = float(lanes.rules["log_power_ratio"][0])
        tables = self._laim.scenario.tables
        _keep(tables.hardware, tables.cuts, ratio, *lanes.tasks(), kept.astype(np.float64), kept)
        return kept


@kernel
def _keep(
    hardware: NDArray[np.void],
    cuts: NDArray[np.void],
    log_power_ratio: float,
    gain: NDArray[np.float64],
    delay_budget: NDArray[np.float64],
    energy_budget: NDArray[np.float64],
    wanted: NDArray[np.float64],
    kept: NDArray[np.float32],
) -> None:
    """Replace the rows of `kept` that miss a budget."""
    for i in range(wanted.shape[0]):
        decision = spaces.decode(hardware, cuts.shape[0], wanted, i, log_power_ratio)
        changed, nearest = keep_decision(hardware, cuts, gain[i], delay_budget[i], energy_budget[i], decision)
        if not changed:
            continue
        place = kept[i, 0]
        spaces.write_action(hardware, cuts.shape[0], nearest, kept, i)
        if nearest[0] == decision[0]:
            kept[i, 0] = place


def _laim(env: Any, wrapper: str) -> LAIMVectorEnv:
    """The native environment inside all wrappers, if none of them has changed its actions."""
    if not isinstance(env.unwrapped, LAIMVectorEnv):
        raise InvalidInputError(f"{wrapper}: env", env, "This wrapper works with LAIM-v0's native vector environment.")
    if env.single_action_space != env.unwrapped.single_action_space:
        raise InvalidInputError(f"{wrapper}: env", env, "Apply it before a wrapper that changes the action space.")
    return env.unwrapped
