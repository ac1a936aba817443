"""Training rewards in place of the environment's own, as wrappers of Stable-Baselines3's vector environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvObs, VecEnvStepReturn, VecEnvWrapper

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.sb3 import NativeVecEnv

__all__ = ["CompressPenalties", "LagrangianPenalties", "PayDelivered", "find_lagrangian", "native_env"]


class CompressPenalties(VecEnvWrapper):
    """Training rewards whose penalties grow only logarithmically: ``-scale ln(1 - reward / scale)`` below 0.

    A random decision can cost eighty times what the best one earns; a value function fitted to that sees no difference
    between good decisions. The order of rewards stays, and so does the best decision where a decision has one outcome;
    returns in ``info["episode"]`` stay those of the environment.

    Parameters
    ----------
    venv : VecEnv
    scale : float
        Penalty up to which rewards are about as they were.

    Raises
    ------
    InvalidInputError
        If the scale is not positive.
    """

    def __init__(self, venv: VecEnv, scale: float = 0.5) -> None:
        if not scale > 0.0:
            raise InvalidInputError("CompressPenalties: scale", scale, "Give a positive number.")
        super().__init__(venv)
        self._scale = scale

    def reset(self) -> VecEnvObs:
        """Start an episode in every lane."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Decide the task at hand in every lane."""
        observations, rewards, dones, infos = self.venv.step_wait()
        penalties = self._scale * np.log1p(np.maximum(-rewards, 0.0) / self._scale)
        return observations, np.where(rewards < 0.0, -penalties, rewards).astype(np.float32), dones, infos


class LagrangianPenalties(VecEnvWrapper):
    """Training rewards in which missed budgets have no fixed price, but one that follows how often they are missed.

    The reward is ``quality - w_drop drops - multiplier violated``, and after every step of the lanes the multiplier
    climbs by ``rate`` for every decision that missed a budget and sinks by ``rate limit`` for every decision, not below
    0: dual ascent on the share of violations. It settles where that share is the limit, if any price does that. There
    is one for both budgets, since a task that missed either delivers nothing.

    A replay buffer keeps rewards at the price of their day: off-policy agents need a low rate. Evaluations and returns
    in ``info["episode"]`` stay those of the environment.

    Parameters
    ----------
    venv : VecEnv
        Of LAIM-v0.
    limit : float
        Share of decisions that may miss a budget.
    rate : float
        Step of the multiplier per violation.

    Attributes
    ----------
    multiplier : float
        Price of a missed budget; 1, the most that a task delivers, at the beginning.

    Raises
    ------
    InvalidInputError
        If limit or rate is not positive.
    """

    def __init__(self, venv: VecEnv, limit: float = 0.01, rate: float = 1e-4) -> None:
        for name, value in (("limit", limit), ("rate", rate)):
            if not value > 0.0:
                raise InvalidInputError(f"LagrangianPenalties: {name}", value, "Give a positive number.")
        super().__init__(venv)
        self._limit, self._rate = limit, rate
        self._drop = float(venv.get_attr("scenario")[0].weight_drop)
        self.multiplier = 1.0

    def reset(self) -> VecEnvObs:
        """Start an episode in every lane."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Decide the task at hand in every lane."""
        observations, _, dones, infos = self.venv.step_wait()
        quality, dropped, violated = _measure(self.venv, infos, ("quality", "dropped", "violated"))
        rewards = quality - self._drop * dropped - self.multiplier * violated
        excess = float(violated.sum()) - self._limit * self.num_envs
        self.multiplier = max(0.0, self.multiplier + self._rate * excess)
        return observations, rewards.astype(np.float32), dones, infos


class PayDelivered(VecEnvWrapper):
    """Training rewards of what evaluations count: the delivered quality, nothing for a miss, less ``w_drop drops``.

    The environment's own price of a miss grows with the excess. Where the gain is known late, misses are small and
    frequent: they cost an agent next to nothing, and yet the whole task.

    Parameters
    ----------
    venv : VecEnv
        Of LAIM-v0.
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self._drop = float(venv.get_attr("scenario")[0].weight_drop)

    def reset(self) -> VecEnvObs:
        """Start an episode in every lane."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Decide the task at hand in every lane."""
        observations, _, dones, infos = self.venv.step_wait()
        delivered, dropped = _measure(self.venv, infos, ("delivered", "dropped"))
        return observations, (delivered - self._drop * dropped).astype(np.float32), dones, infos


def native_env(env: VecEnv | None) -> NativeVecEnv:
    """The lanes inside the wrappers of stable-baselines3.

    Raises
    ------
    InvalidInputError
        If there are others inside.
    """
    inner = env.unwrapped if env is not None else None
    if not isinstance(inner, NativeVecEnv):
        raise InvalidInputError("env", type(inner).__name__, "Make it with coinfer_gym.sb3.make_native.")
    return inner


def find_lagrangian(env: VecEnv | None) -> LagrangianPenalties | None:
    """The wrapper around the lanes whose multiplier is to be logged and kept, if there is one."""
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, LagrangianPenalties):
            return env
        env = env.venv
    return None


def _measure(venv: VecEnv, infos: list[dict[str, Any]], names: Sequence[str]) -> list[NDArray[np.float64]]:
    """What the last decisions were told, by name: other batches than the native one have full infos."""
    lanes = venv.unwrapped
    if isinstance(lanes, NativeVecEnv):
        return [lanes.decisions[name] for name in names]
    return [np.array([info[name] for info in infos]) for name in names]
