"""What Cell-v0 brings to a comparison: how its tasks age, how often they wait for shares, its rules, its references."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.cell.ceiling import WorthTables, cell_ceiling
from baselines.cell.joint import JointMyopic, JointQuantum
from baselines.cell.one_device import OneDeviceDP
from baselines.cell.rules import ConstantPrices, EqualShares, ShareOfFree, SharesByQueue
from baselines.family import COLUMNS, DECISION, Column, Columns, Family, columns, scenario_of
from coinfer_gym.cell import spaces
from coinfer_gym.cell.env import CellVectorEnv
from coinfer_gym.cell.scenario import CellScenario
from coinfer_gym.cell.wrappers import act_within

__all__ = ["FAMILY", "half_actions"]

HALF = 0.5


def half_actions(env: CellVectorEnv) -> NDArray[np.float32]:
    """Actions of the exact optimum of the task at hand in every cell, at half of what is free."""
    part = spaces.component_of_share(HALF, 1.0)
    return act_within(env.lanes, np.full((env.num_envs, 3), (1.0, part, part)), env.ended)


def _measure(scenario: CellScenario, decisions: Columns) -> dict[str, float]:
    return {"blocked": float((decisions["blocked_s"] > 0.0).mean())}


def _bounds(env: gym.Env[Any, Any]) -> tuple[float, float]:
    """The ceiling; nothing is known to be attainable."""
    scenario = scenario_of(env)
    if any(kind.arrivals == "one_at_a_time" for kind in scenario.members):
        return 0.0, 1.0
    return 0.0, cell_ceiling(env, _tables(scenario.model_dump_json(by_alias=True))).bound


@lru_cache(maxsize=1)
def _tables(scenario_json: str) -> WorthTables:
    return WorthTables(CellScenario.model_validate_json(scenario_json))


FAMILY = Family(
    metrics=columns(
        COLUMNS,
        *("delivered", "on_time", "dropped", "delay_s", "delay_p95_s", "service_s", "energy_j", "violated", "blocked"),
        *("return", "decision_us"),
        delay_p95_s=Column("p95 age ms", "z.1f", 1e3),
        blocked=Column("waited for shares %", "z.1f", 100.0),
    ),
    policies={
        "cell_free": ShareOfFree,
        "cell_equal": EqualShares,
        "cell_queue": SharesByQueue,
        "cell_prices": ConstantPrices,
        "cell_dp": OneDeviceDP,
        "cell_joint": JointMyopic,
        "cell_quantum": JointQuantum,
    },
    references={
        "half of what is free": {"policy": "cell_free", "part": HALF},
        # as tuned in cell-4; a world with tuned rules of its own has those
        "shares by queue": {"policy": "cell_queue", "reserve": 0.6, "share": 0.06, "least": 0.1},
        "constant prices": {"policy": "cell_prices", "band": 0.05, "server": 0.1, "share": 0.1, "least": 0.07},
        "one-device dynamic programming": {"policy": "cell_dp", "band": 0.3, "server": 0.8},
    },
    measure=_measure,
    reference="half of what is free",
    act=half_actions,
    bounds=_bounds,
    keeps_budgets=False,
    decision=columns(
        DECISION,
        *("time_s", "device", "gain_db", "queue_length", "delay_budget_s", "band", "server", "cut"),
        *("delay_s", "energy_j", "quality"),
    ),
)
