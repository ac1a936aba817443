"""What LAIM-v0 brings to a comparison: regret to the exact optimum, its policies, its references."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.clairvoyant import ClairvoyantPolicy, clairvoyant_optimum
from baselines.family import COLUMNS, DECISION, Column, Columns, Family, columns
from baselines.farsighted import Lyapunov, QueueBudget, Slowdown
from baselines.predictive_control import PredictiveControl
from baselines.rules import MyopicExact, MyopicSCA, RobustExact
from baselines.search import MyopicQuantum
from baselines.stochastic import StochasticDP
from coinfer_gym import solve_exact_batch
from coinfer_gym.laim.env import LAIMVectorEnv
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.laim.spaces import encode_rows
from coinfer_gym.physics import from_db

__all__ = ["FAMILY", "exact_actions", "regrets"]


def regrets(scenario: Scenario, decisions: Columns) -> NDArray[np.float64]:
    """Quality that the exact optimum of each decided task would have delivered beyond what was delivered.

    Parameters
    ----------
    scenario : Scenario
    decisions : mapping of str to ndarray, shape (n,)
        The columns ``gain_db``, ``delay_budget_s``, ``energy_budget_j`` (what was left of the budgets) and
        ``delivered``.

    Returns
    -------
    ndarray, shape (n,)
        Below 0 only where a decision made use of the tolerance of a budget.
    """
    gains = from_db(decisions["gain_db"])
    rows = solve_exact_batch(
        scenario.problem(float(gains[0])),
        gains,
        decisions["delay_budget_s"],
        decisions["energy_budget_j"],
        parallel=False,  # worlds are spread over the cores already
    )
    best: NDArray[np.float64] = np.where(rows["reason"] == 0, rows["quality"], 0.0)
    return best - decisions["delivered"]


def exact_actions(env: LAIMVectorEnv) -> NDArray[np.float32]:
    """Actions of the exact optimum of the task at hand in every lane, as if no other task were to come."""
    scenario = env.scenario
    return encode_rows(scenario.tables, solve_exact_batch(scenario.problem(1.0), *env.lanes.tasks()))


def _measure(scenario: Scenario, decisions: Columns) -> dict[str, float]:
    return {"regret": float(regrets(scenario, decisions).mean())}


def _bounds(env: gym.Env[Any, Any]) -> tuple[float, float]:
    inner: Any = env.unwrapped
    result = clairvoyant_optimum(inner.scenario, inner.world())
    return result.lower, result.upper


FAMILY = Family(
    metrics=columns(
        COLUMNS,
        *("delivered", "on_time", "dropped", "delay_s", "service_s", "energy_j", "violated", "return"),
        *("regret", "decision_us"),
        regret=Column("regret", "z.4f"),
    ),
    policies={
        "myopic_exact": MyopicExact,
        "myopic_sca": MyopicSCA,
        "robust_exact": RobustExact,
        "quantum": MyopicQuantum,
        "slowdown": Slowdown,
        "queue_budget": QueueBudget,
        "lyapunov": Lyapunov,
        "predictive_control": PredictiveControl,
        "stochastic_dp": StochasticDP,
        "clairvoyant": ClairvoyantPolicy,
    },
    references={"myopic exact": {"policy": "myopic_exact"}, "stochastic DP": {"policy": "stochastic_dp"}},
    measure=_measure,
    reference="myopic exact",
    act=exact_actions,
    bounds=_bounds,
    keeps_budgets=True,
    decision=columns(
        DECISION,
        *("time_s", "gain_db", "queue_length", "delay_budget_s", "cut", "retained_device", "retained_server"),
        *("power_w", "delay_s", "energy_j", "quality"),
    ),
)
