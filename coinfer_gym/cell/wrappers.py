"""Wrappers for Cell-v0: regret to the exact optimum at the shares that a task took."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from coinfer_gym.cell.env import CellEnv, share_problem
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim import wrappers as laim
from coinfer_gym.laim.optimum import solve_exact_batch
from coinfer_gym.physics import from_db

__all__ = ["Regret"]


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
        inner = getattr(env, "unwrapped", None)
        if not isinstance(inner, CellEnv):
            raise InvalidInputError("Regret: env", env, "This wrapper works with Cell-v0 only.")
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
