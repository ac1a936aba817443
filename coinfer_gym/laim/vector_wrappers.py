"""Action wrappers of the native vector environment of LAIM-v0; each lane acts like the wrapped single environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces as gym_spaces
from gymnasium.vector import VectorActionWrapper, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.envs.actions import check_actions, check_choices
from coinfer_gym.envs.hybrid import check_space, unwrap
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
from coinfer_gym.records import Records

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
        self._laim = _laim(env, type(self).__name__)
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
        tables = self._laim.scenario.tables
        masks = np.empty((self.num_envs, len(self._table)), np.bool_)
        mark_tasks(tables.hardware, tables.cuts, *self._laim.lanes.tasks(), self._table, masks)
        return masks


class BudgetShareAction(VectorActionWrapper):
    """`coinfer_gym.laim.wrappers.BudgetShareAction` in every lane."""

    def __init__(self, env: Any, energy: bool | None = None) -> None:
        self._laim = _laim(env, type(self).__name__)
        super().__init__(env)
        self._problem = self._laim.scenario.problem(1.0)
        self.single_action_space = shares_space([self._laim.scenario], energy)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def actions(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """The exact optima within the shares as actions of LAIM-v0."""
        shares = check_actions(actions, self.action_space.shape or (), self._laim.ended)
        return act_within(self._problem, np.array(self._laim.lanes.tasks()), shares)


class KeepBudgets(VectorWrapper):
    """`coinfer_gym.laim.wrappers.KeepBudgets` in every lane."""

    def __init__(self, env: Any) -> None:
        self._inner: Any = _laim(env, type(self).__name__)
        super().__init__(env)

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
        replaced = np.zeros(self.num_envs, np.bool_)
        if np.isnan(given).any():
            return given, replaced
        wanted = np.clip(given.astype(np.float64), -1.0, 1.0)
        nearest = wanted.astype(np.float32)
        self._find_nearest(wanted, nearest, replaced)
        replaced &= ~self._inner.ended
        return np.where(replaced[:, None], nearest, given), replaced

    def _find_nearest(
        self, wanted: NDArray[np.float64], nearest: NDArray[np.float32], replaced: NDArray[np.bool_]
    ) -> None:
        """Fill the rows of `nearest` whose wanted action misses a budget, and mark them."""
        tables = self._inner.scenario.tables
        gain, delay_budget, energy_budget = self._inner.lanes.tasks()
        _find_nearest(tables.hardware, tables.cuts, gain, delay_budget, energy_budget, wanted, nearest, replaced)


def _report(infos: dict[str, Any], replaced: NDArray[np.bool_], clipped: NDArray[np.float64]) -> dict[str, Any]:
    """Infos with ``kept``, and ``clipped`` of the agent's own actions: those that replace them have none."""
    own = np.where(replaced, clipped, infos["clipped"])
    return infos | {"kept": replaced.astype(np.float64), "_kept": infos["_clipped"], "clipped": own}


@kernel
def _find_nearest(
    hardware: Records,
    cuts: Records,
    gain: NDArray[np.float64],
    delay_budget: NDArray[np.float64],
    energy_budget: NDArray[np.float64],
    wanted: NDArray[np.float64],
    nearest: NDArray[np.float32],
    replaced: NDArray[np.bool_],
) -> None:
    for i in range(wanted.shape[0]):
        replaced[i] = write_nearest(hardware, cuts, gain[i], delay_budget[i], energy_budget[i], wanted, nearest, i)


@kernel
def write_nearest(
    hardware: Records,
    cuts: Records,
    gain: float,
    delay_budget: float,
    energy_budget: float,
    wanted: NDArray[np.float64],
    nearest: NDArray[np.float32],
    i: int,
) -> bool:
    """Fill row `i` of `nearest` with the decision that keeps the budgets; returns whether it is not the wanted one."""
    decision = spaces.decode(hardware, cuts.shape[0], wanted, i)
    changed, kept = keep_decision(hardware, cuts, gain, delay_budget, energy_budget, decision)
    spaces.write_action(hardware, cuts.shape[0], kept, nearest, i)
    if kept[0] == decision[0]:  # not even its place within the cut's bin moves
        nearest[i, 0] = wanted[i, 0]
    return changed


def _laim(env: Any, wrapper: str) -> LAIMVectorEnv:
    """The native environment inside all wrappers, if none of them has changed its actions."""
    inner = unwrap(env, LAIMVectorEnv, wrapper, "This wrapper works with LAIM-v0's native vector environment.")
    check_space(env, wrapper)
    return inner
