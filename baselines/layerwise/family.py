"""What Layerwise-v0 brings to a comparison: latency and predicted accuracy, its policies, its references.

There is no regret: no solver finds the exact optimum of every task in the time that a comparison has. How far a policy
is from the best known one is its difference to a ``reference`` such as ``layerwise_menu``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from baselines.family import COLUMNS, DECISION, Column, Columns, Family, columns
from baselines.layerwise.designs import ParametersGenerator, select_best
from baselines.layerwise.policies import (
    LayerwiseExact,
    LayerwiseMenu,
    LayerwiseReoptimize,
    LayerwiseRival,
    LayerwiseStatic,
)
from coinfer_gym.layerwise import spaces
from coinfer_gym.layerwise.env import LayerwiseVectorEnv
from coinfer_gym.layerwise.scenario import LayerwiseScenario

__all__ = ["FAMILY", "unpruned_actions"]


def unpruned_actions(env: LayerwiseVectorEnv) -> NDArray[np.float32]:
    """Actions of the unpruned network at its best cut for the task at hand in every lane."""
    scenario, actions = env.scenario, []
    for gain, delay, energy in zip(*(values.tolist() for values in env.lanes.tasks()), strict=True):
        problem = scenario.problem(gain, delay, energy)
        best = problem.decision(select_best(problem, ParametersGenerator(problem).unpruned()))
        actions.append(spaces.encode(problem.hardware, scenario.action_scale, best))
    return np.array(actions)


def _measure(scenario: LayerwiseScenario, decisions: Columns) -> dict[str, float]:
    return {"accuracy": float(decisions["accuracy"].mean())}


FAMILY = Family(
    metrics=columns(
        COLUMNS,
        *("delay_s", "service_s", "energy_j", "violated", "accuracy", "delivered", "on_time", "dropped", "return"),
        "decision_us",
        delay_s=Column("mean latency (ms)", "z.3f", 1e3),
        accuracy=Column("accuracy %", "z.2f", 100.0),
    ),
    policies={
        "layerwise_static": LayerwiseStatic,
        "layerwise_rival": LayerwiseRival,
        "layerwise_reoptimize": LayerwiseReoptimize,
        "layerwise_menu": LayerwiseMenu,
        "layerwise_exact": LayerwiseExact,
    },
    references={
        "layerwise static": {"policy": "layerwise_static"},
        "layerwise menu": {"policy": "layerwise_menu"},
    },
    measure=_measure,
    reference="unpruned",
    act=unpruned_actions,
    bounds=None,
    keeps_budgets=False,
    decision=columns(
        DECISION,
        *("time_s", "gain_db", "queue_length", "delay_budget_s", "cut", "sent_values", "accuracy", "power_w"),
        *("delay_s", "energy_j", "quality"),
        delay_s=Column("delay ms", "9.3f", 1e3),
    ),
)
