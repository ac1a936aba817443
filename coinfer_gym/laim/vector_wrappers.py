"""Action wrappers of the native vector environment of LAIM-v0; each lane acts like the wrapped single environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from gymnasium import spaces as gym_spaces
from gymnasium.vector import VectorActionWrapper, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from coinfer_gym.checks import check_flag
from coinfer_gym.envs.actions import check_actions, check_choices
from coinfer_gym.envs.hybrid import unwrap_plain
from coinfer_gym.envs.vector import TaskVectorEnv
from coinfer_gym.laim import spaces
from coinfer_gym.laim.env import LAIMVectorEnv
from coinfer_gym.laim.outcome import Tables
from coinfer_gym.laim.safety import decisions_that_meet, keep_budgets
from coinfer_gym.laim.wrappers import (
    FREQUENCY_LEVELS,
    POWER_LEVELS,
    RETAINED_LEVELS,
    act_within,
    shares_space,
    tabulate_decisions,
)

__all__ = ["DiscreteActions", "BudgetShareAction", "KeepBudgets"]

_WORKS_WITH = "This wrapper works with LAIM-v0's native vector environment."


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
        self._laim = unwrap_plain(env, LAIMVectorEnv, type(self).__name__, _WORKS_WITH)
        super().__init__(env)
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
        chosen = check_choices(actions, (self.num_envs,), len(self._table), self._laim.ended)
        rows: NDArray[np.float32] = self._actions[chosen]
        return rows

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions meet both budgets of the task at hand, judged by what the agent observes.

        Returns
        -------
        ndarray of bool, shape (num_envs, n)
        """
        return decisions_that_meet(self._laim.scenario.tables, self._laim.lanes.tasks(), self._table)


class BudgetShareAction(VectorActionWrapper):
    """`coinfer_gym.laim.wrappers.BudgetShareAction` in every lane."""

    def __init__(self, env: Any, energy: bool | None = None, margin: bool = False) -> None:
        self._laim = unwrap_plain(env, LAIMVectorEnv, type(self).__name__, _WORKS_WITH)
        super().__init__(env)
        self._problem, self._margin = self._laim.scenario.problem(1.0), check_flag("margin", margin)
        self.single_action_space = shares_space([self._laim.scenario], energy, margin)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def actions(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """The exact optima within the shares as actions of LAIM-v0."""
        shares = check_actions(actions, self.action_space.shape or (), self._laim.ended)
        return act_within(self._problem, self._laim.lanes.tasks(), shares, self._margin)


class KeepBudgets(VectorWrapper):
    """`coinfer_gym.laim.wrappers.KeepBudgets` in every lane."""

    _inner: TaskVectorEnv

    def __init__(self, env: Any) -> None:
        self._inner = self._find(env)
        super().__init__(env)

    def _find(self, env: Any) -> TaskVectorEnv:
        return unwrap_plain(env, LAIMVectorEnv, type(self).__name__, _WORKS_WITH)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Draw new worlds; ``infos["kept"]`` is 0.0."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return observations, infos | {"kept": np.zeros(self.num_envs), "_kept": infos["_clipped"]}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Decide the tasks at the head of the queues within their budgets, where that is possible."""
        given = check_actions(actions, self.action_space.shape or (), self._inner.ended)
        kept, replaced = self._keep(given)
        observations, rewards, terminated, truncated, infos = self.env.step(kept)
        clipped = np.count_nonzero(np.abs(given) > 1.0, axis=1).astype(np.float64)
        final = {}
        if "final_info" in infos:
            final = {"final_info": _report(infos["final_info"], replaced, clipped)}
            replaced = replaced & ~infos["_final_info"]
        return observations, rewards, terminated, truncated, _report(infos, replaced, clipped) | final

    def _keep(self, given: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Actions that replace the given ones, and in which lanes they differ; NaN is for the environment to refuse."""
        if np.isnan(given).any():
            return given, np.zeros(self.num_envs, np.bool_)
        kept, changed = self._nearest(given)
        changed &= ~self._inner.ended
        return np.where(changed[:, None], kept, given), changed

    def _nearest(self, given: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return keep_budgets(cast(Tables, self._inner.lanes.model), self._inner.lanes.tasks(), given)


def _report(infos: dict[str, Any], replaced: NDArray[np.bool_], clipped: NDArray[np.float64]) -> dict[str, Any]:
    """Infos with ``kept``, and ``clipped`` of the agent's own actions: those that replace them have none."""
    own = np.where(replaced, clipped, infos["clipped"])
    return infos | {"kept": replaced.astype(np.float64), "_kept": infos["_clipped"], "clipped": own}
