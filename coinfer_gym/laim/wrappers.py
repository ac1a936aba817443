"""Wrappers for LAIM-v0: discrete actions, budgets that are kept, shares of the budgets, and regret.

All of them solve P1, the optimisation problem of Lyu et al. (eq. 44). `coinfer_gym.envs.hybrid.HybridActions`, with the
cut as a whole number, works in every environment.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, SupportsFloat, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces as gym_spaces
from numpy.typing import NDArray

from coinfer_gym.checks import check_flag, is_number
from coinfer_gym.envs.actions import check_actions, check_choices
from coinfer_gym.envs.base import TaskEnv
from coinfer_gym.envs.hybrid import unwrap, unwrap_plain
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim import spaces
from coinfer_gym.laim.decision import Decision
from coinfer_gym.laim.env import LAIMEnv
from coinfer_gym.laim.optimum import solve_exact_batch, solve_within
from coinfer_gym.laim.outcome import Tables
from coinfer_gym.laim.problem import Problem
from coinfer_gym.laim.safety import DECISION, Tasks, decisions_that_meet, keep_budgets
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.physics import from_db

RETAINED_LEVELS: tuple[float | tuple[float, float], ...] = (
    *(0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0),
    *((1.0, 0.1), (1.0, 0.4), (0.05, 1.0), (0.15, 1.0), (0.3, 1.0)),  # linear qualities fill one side first
)
POWER_LEVELS = (1.0,)  # a second level gains less than the same number of further ratios
FREQUENCY_LEVELS = (0.45, 0.65, 0.9)

GAIN_MARGIN_DB = 10.0
"""Largest margin of the gain that `BudgetShareAction` offers."""

_WORKS_WITH = "This wrapper works with LAIM-v0 only."

Observation = NDArray[np.float32]
Action = NDArray[np.float32]
Environment = gym.Env[Observation, Action]


class DiscreteActions(gym.ActionWrapper[Observation, np.int64, Action], gym.utils.RecordConstructorArgs):
    """Offer a finite list of actions: every combination of a cut, retained ratios, a power and clock frequencies.

    For agents with discrete actions: DQN, QR-DQN, PPO or A2C with a categorical policy, and MaskablePPO of sb3-contrib,
    which uses `action_masks`. Wrap `KeepBudgets` with it if you can: a combination that exceeds a budget is then
    adjusted to the budgets instead of lost.

    The rows of the table, which `decision` returns, vary the clocks fastest, then power, ratios and cut:

    | part | values | meaning |
    |---|---|---|
    | cut | `cuts`, all ``0..J`` by default | blocks on the device |
    | retained ratios | `retained_levels` | a number for both sides, or a pair of device and server |
    | power | `power_levels` | share of ``power_max`` |
    | clocks | `frequency_levels` | share of ``frequency_device_max``; the server's clock follows |

    The server's clock follows from the device's, so that a second saved costs the same energy on both sides: twice the
    power ``eta kappa f^3``, less the power that is drawn at any clock. This holds in every optimum with both clocks
    inside their bounds. Every value is clipped to the bounds of the scenario. By default there are 36 rows per cut:
    468 for the 12 blocks of BERT-base, 1836 for the 50 of ResNet-152.

    Parameters
    ----------
    env : gymnasium.Env
        LAIM-v0 with its own action space.
    retained_levels : sequence of float or of pairs of float
        Retained ratios in (0, 1].
    power_levels, frequency_levels : sequence of float
        Shares in (0, 1].
    cuts : sequence of int, optional
        Cuts to choose from; all by default. Most scenarios need only a few cuts, which leaves room for more levels.

    Raises
    ------
    InvalidInputError
        If a level or a cut is out of range or missing, or the environment is not LAIM-v0.
    """

    def __init__(
        self,
        env: Environment,
        retained_levels: Sequence[float | Sequence[float]] = RETAINED_LEVELS,
        power_levels: Sequence[float] = POWER_LEVELS,
        frequency_levels: Sequence[float] = FREQUENCY_LEVELS,
        cuts: Sequence[int] | None = None,
    ) -> None:
        self._laim = unwrap_plain(env, LAIMEnv, type(self).__name__, _WORKS_WITH)
        scenario = self._laim.scenario
        self._table = tabulate_decisions(scenario, retained_levels, power_levels, frequency_levels, cuts)
        gym.utils.RecordConstructorArgs.__init__(
            self,
            retained_levels=[list(_pair(level)) for level in retained_levels],
            power_levels=list(power_levels),
            frequency_levels=list(frequency_levels),
            cuts=None if cuts is None else list(cuts),
        )
        super().__init__(env)
        self._actions = spaces.encode_rows(scenario.tables, self._table)
        self.action_space = gym_spaces.Discrete(len(self._table))

    def action(self, action: np.int64) -> Action:
        """Row `action` of the table as an action of LAIM-v0.

        Raises
        ------
        InvalidInputError
            If there is no such row.
        """
        row: Action = self._actions[int(check_choices(action, (), len(self._table)))]
        return row

    def decision(self, action: int) -> Decision:
        """Decision of row `action` of the table, in SI units."""
        return Decision(*self._table[action].item())

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions meet both budgets of the task at hand, judged by what the agent observes.

        Returns
        -------
        ndarray of bool, shape (n,)
            If no action meets both, the closest one is True.
        """
        mask: NDArray[np.bool_] = decisions_that_meet(self._laim.scenario.tables, self._laim.tasks(), self._table)[0]
        return mask


class KeepBudgets(gym.Wrapper[Observation, Action, Observation, Action], gym.utils.RecordConstructorArgs):
    """Replace every action that misses a budget by the nearest one that meets both, where there is one.

    For every agent of LAIM-v0: PPO, SAC, TD3 and A2C, and agents that act through `DiscreteActions` or `HybridActions`
    around this wrapper. An action within the budgets, such as the exact optimum, is not changed. The cut changes only
    if no decision at this cut meets both budgets. If no decision at all does, the action is not changed either.
    `coinfer_gym.laim.safety` has the details.

    The budgets are those of ``env.unwrapped.problem()``, so a task may still miss them if the channel is observed late
    or with noise. ``info["kept"]`` is 1.0 if the action was replaced, otherwise 0.0. ``info["clipped"]`` always counts
    the components of the agent's own action that are outside [-1, 1].

    Parameters
    ----------
    env : gymnasium.Env
        LAIM-v0 with its own action space.

    Raises
    ------
    InvalidInputError
        If the environment is not LAIM-v0.
    """

    _inner: TaskEnv

    def __init__(self, env: Environment) -> None:
        self._inner = self._find(env)
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def _find(self, env: Environment) -> TaskEnv:
        return unwrap_plain(env, LAIMEnv, type(self).__name__, _WORKS_WITH)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a new world; ``info["kept"]`` is 0.0."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, info | {"kept": np.float64(0.0)}

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Decide the task at the head of the queue within its budgets, where that is possible."""
        given = check_actions(action, self.action_space.shape or ())
        kept = self.keep(given)
        observation, reward, terminated, truncated, info = self.env.step(kept)
        if kept is given:
            return observation, reward, terminated, truncated, info | {"kept": np.float64(0.0)}
        clipped = np.float64(np.count_nonzero(np.abs(given) > 1.0))  # the one that replaces it has none
        return observation, reward, terminated, truncated, info | {"kept": np.float64(1.0), "clipped": clipped}

    def keep(self, action: Action) -> Action:
        """Action that replaces `action`; the same object if nothing changes.

        Parameters
        ----------
        action : ndarray of the shape of an action
            One with a NaN is returned as it is; the environment refuses it.

        Returns
        -------
        ndarray of float32, of the same shape

        Raises
        ------
        InvalidInputError
            If the action has another shape, or holds something else than real numbers.
        """
        given = check_actions(action, self.action_space.shape or ())
        if np.isnan(given).any():
            return action
        kept, changed = self._nearest(given[None])
        nearest: Action = kept[0]
        return nearest if changed[0] else action

    def _nearest(self, actions: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Rows of actions that keep the budgets, and whether they are others."""
        return keep_budgets(cast(Tables, self._inner.lanes.model), self._inner.tasks(), actions)


class BudgetShareAction(gym.ActionWrapper[Observation, Action, Action], gym.utils.RecordConstructorArgs):
    """Let the agent choose how much of its budgets a task may use; the exact optimum within these chooses the rest.

    For agents with continuous actions. Once the time and energy of a task are fixed, `coinfer_gym.solve_exact` finds
    its best decision. What an agent has to learn is how much of the budgets to leave to the tasks that wait.

    The action is ``Box(-1, 1, (1,), float32)``: the share of the remaining time, which is T0 minus the time already
    spent waiting; -1 stands for 0, 1 for all of it. With `energy` a second component is the share of the energy budget.
    If no decision is fast enough, the fastest one within the energy is taken.

    If the channel is observed late or with noise, the decision may still miss a budget. The shares then act as safety
    margins, and without `energy` any overestimate of the gain may exceed the energy budget. With `margin` a last
    component says how far below the observed gain to plan: 1 takes it as it is, -1 takes `GAIN_MARGIN_DB` less. The
    best design for an uncertain gain is the exact optimum at such a lower gain (`coinfer_gym.solve_robust`).

    Parameters
    ----------
    env : gymnasium.Env
        LAIM-v0 with its own action space.
    energy : bool, optional
        Whether the agent also chooses the share of energy. By default it does if the scenario has a battery.
    margin : bool
        Whether the agent also chooses the margin of the gain.

    Raises
    ------
    InvalidInputError
        If the environment is not LAIM-v0.
    """

    def __init__(self, env: Environment, energy: bool | None = None, margin: bool = False) -> None:
        self._laim = unwrap_plain(env, LAIMEnv, type(self).__name__, _WORKS_WITH)
        space = shares_space([self._laim.scenario], energy, check_flag("margin", margin))
        gym.utils.RecordConstructorArgs.__init__(self, energy=energy, margin=margin)
        super().__init__(env)
        self._problem, self._margin = self._laim.scenario.problem(1.0), margin
        self.action_space = space

    def action(self, action: Action) -> Action:
        """The exact optimum within the shares as an action of LAIM-v0.

        Raises
        ------
        InvalidInputError
            If the action has another shape or a NaN.
        """
        tasks, shares = self._laim.tasks(), check_actions(action, self.action_space.shape or ())
        row: Action = act_within(self._problem, tasks, shares[None], self._margin)[0]
        return row


def shares_space(kinds: Sequence[Scenario], energy: bool | None, more: int = 0) -> Any:
    """Action space of `BudgetShareAction`: time, energy where some kind of device has a battery, and `more` shares."""
    if energy is not None and not isinstance(energy, bool):
        raise InvalidInputError("energy", energy, "Give True, False or None.")
    with_energy = any(kind.battery_capacity is not None for kind in kinds) if energy is None else energy
    return gym_spaces.Box(-1.0, 1.0, (1 + with_energy + more,), np.float32)


def act_within(
    problem: Problem, tasks: Tasks, shares: NDArray[np.float64], margin: bool = False
) -> NDArray[np.float32]:
    """Exact optima within shares of the budgets, as actions of LAIM-v0.

    Parameters
    ----------
    problem : Problem
        Supplies everything except gain and budgets.
    tasks : tuple of ndarray
        As of `coinfer_gym.envs.lanes.Lanes.tasks`.
    shares : ndarray, shape (n, 1), (n, 2) or (n, 3)
        Shares of time and, optionally, of energy: -1 for nothing, 1 for all.
    margin : bool
        Whether a last column says how far below the gain to plan: 1 for not at all, -1 for `GAIN_MARGIN_DB`.

    Returns
    -------
    ndarray of float32, shape (n, 6)

    Raises
    ------
    InvalidInputError
        If a share is NaN.
    """
    if np.isnan(shares).any():
        raise InvalidInputError("action", math.nan, "Give numbers in [-1, 1].")
    part = 0.5 * (np.clip(shares, -1.0, 1.0) + 1.0)
    gain, delay_budget, energy_budget = tasks
    if margin:
        gain = gain * from_db(GAIN_MARGIN_DB * (part[:, -1] - 1.0))
    energy = energy_budget * part[:, 1] if part.shape[1] - margin > 1 else energy_budget
    rows = solve_within(problem, gain, delay_budget, energy_budget, delay_budget * part[:, 0], energy)
    return spaces.encode_rows(problem.tables, rows)


class Regret(gym.Wrapper[Observation, Any, Observation, Any], gym.utils.RecordConstructorArgs):
    """Report after every step how far the delivered quality is below the exact optimum of the same task.

    It changes only ``info``, so it works with every agent, inside or outside the other wrappers.
    ``info["optimal_quality"]`` is the best quality that any decision could have delivered for the task, given the true
    gain and the budgets that remained after waiting; 0 if none could deliver. A battery is ignored.
    ``info["regret"]`` is ``info["optimal_quality"] - info["delivered"]``. Both are 0.0 at reset.

    A budget counts as met within `coinfer_gym.budgets.BUDGET_TOLERANCE`, so a decision may be better than the optimum
    by about that much. Its regret is then 0.

    Parameters
    ----------
    env : gymnasium.Env
        LAIM-v0, wrapped or not.

    Raises
    ------
    InvalidInputError
        If the environment is not LAIM-v0.
    """

    def __init__(self, env: gym.Env[Observation, Any]) -> None:
        # The tables of P1 are built once and reused for every task.
        self._problem = unwrap(env, LAIMEnv, type(self).__name__, _WORKS_WITH).scenario.problem(1.0)
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a new world; no regret yet."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, info | {"optimal_quality": np.float64(0.0), "regret": np.float64(0.0)}

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment and solve the decided task exactly."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        best = self._optimal_quality(info)
        regret = np.float64(max(0.0, best - info["delivered"]))
        return observation, reward, terminated, truncated, info | {"optimal_quality": best, "regret": regret}

    def _optimal_quality(self, info: dict[str, Any]) -> np.float64:
        gain = from_db(info["gain_db"])
        solution = solve_exact_batch(self._problem, gain, info["delay_budget_s"], info["energy_budget_j"])
        return np.float64(solution["quality"] if solution["reason"] == 0 else 0.0)


def _pair(level: float | Sequence[float]) -> tuple[float, float]:
    """Ratios of device and server of one retained level."""
    values: Any = [level] if is_number(level) else level
    if not _is_list(values) or len(values) not in (1, 2) or not all(is_number(value) for value in values):
        raise InvalidInputError("retained_levels", level, "Give one number for both sides, or a pair (device, server).")
    return float(values[0]), float(values[-1])


def _is_list(given: object) -> bool:
    if isinstance(given, np.ndarray):
        return given.ndim > 0
    return isinstance(given, Sequence) and not isinstance(given, (str, bytes))


def _check_levels(name: str, levels: Sequence[float]) -> None:
    if not _is_list(levels) or not len(levels) or not all(is_number(level) and 0.0 < level <= 1.0 for level in levels):
        raise InvalidInputError(name, levels, "Give at least one number, each in (0, 1].")


def tabulate_decisions(
    scenario: Scenario,
    retained_levels: Sequence[float | Sequence[float]] = RETAINED_LEVELS,
    power_levels: Sequence[float] = POWER_LEVELS,
    frequency_levels: Sequence[float] = FREQUENCY_LEVELS,
    cuts: Sequence[int] | None = None,
) -> NDArray[np.void]:
    """Decisions of `DiscreteActions` as records of `coinfer_gym.laim.safety.DECISION`; its parameters and errors."""
    if not _is_list(retained_levels):
        raise InvalidInputError("retained_levels", retained_levels, "Give a list of numbers or of pairs.")
    ratios = [_pair(level) for level in retained_levels]
    every_cut = range(scenario.cuts)
    chosen = every_cut if cuts is None else cuts
    _check_levels("retained_levels", [ratio for pair in ratios for ratio in pair])
    _check_levels("power_levels", power_levels)
    _check_levels("frequency_levels", frequency_levels)
    if not _is_list(chosen) or not len(chosen) or not all(is_number(cut) and cut in every_cut for cut in chosen):
        raise InvalidInputError("cuts", cuts, f"Give some of the cuts 0 to {every_cut[-1]}.")
    kappa_device = scenario.pue_device * scenario.kappa_device
    kappa_server = scenario.pue_server * scenario.kappa_server
    # Power that is saved by finishing earlier, whatever the clock: while the server computes, the device waits.
    idle_device = scenario.pue_device * scenario.static_power_device
    idle_server = scenario.pue_server * scenario.static_power_server + scenario.waiting_power_device
    table = np.zeros((len(chosen), len(ratios), len(power_levels), len(frequency_levels)), DECISION)
    for index, (cut, pair, power, clock) in zip(
        np.ndindex(table.shape), itertools.product(chosen, ratios, power_levels, frequency_levels), strict=True
    ):
        frequency = clock * scenario.frequency_device_max
        price = 2.0 * kappa_device * frequency**3 - idle_device  # of a second
        frequency_server = (max(price + idle_server, 0.0) / (2.0 * kappa_server)) ** (1.0 / 3.0)
        table[index] = (
            cut,
            max(pair[0], scenario.retained_device_min),
            max(pair[1], scenario.retained_server_min),
            max(power * scenario.power_max, scenario.power_min),
            max(frequency, scenario.frequency_device_min),
            min(max(frequency_server, scenario.frequency_server_min), scenario.frequency_server_max),
        )
    return table.ravel()
