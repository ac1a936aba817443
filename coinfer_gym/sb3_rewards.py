"""Training rewards in place of the environment's own, as wrappers of Stable-Baselines3's vector environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvObs, VecEnvStepReturn, VecEnvWrapper

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.sb3 import NativeVecEnv


class _TrainingRewards(VecEnvWrapper):
    """Pays what `_pay` says. Evaluations and returns in ``info["episode"]`` stay those of the environment."""

    def reset(self) -> VecEnvObs:
        """Start an episode in every lane."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Decide the task at hand in every lane."""
        observations, rewards, dones, infos = self.venv.step_wait()
        return observations, self._pay(rewards, infos).astype(np.float32), dones, infos

    def _pay(self, rewards: NDArray[np.float32], infos: list[dict[str, Any]]) -> NDArray[Any]:
        raise NotImplementedError

    def _price_of_drops(self) -> float:
        return float(self.venv.get_attr("scenario")[0].weight_drop)

    def _told(self, infos: list[dict[str, Any]], names: Sequence[str]) -> list[NDArray[np.float64]]:
        """What the last decisions were told, by name: other batches than the native one have full infos."""
        lanes = self.venv.unwrapped
        if isinstance(lanes, NativeVecEnv):
            return [lanes.decisions[name] for name in names]
        return [np.array([info[name] for info in infos]) for name in names]


class LagrangianPenalties(_TrainingRewards):
    """Training rewards in which missed budgets have no fixed price, but one that follows how often they are missed.

    The reward is ``quality - w_drop drops - multiplier violated``, and after every step of the lanes the multiplier
    climbs by ``rate`` for every decision that missed a budget and sinks by ``rate limit`` for every decision, not below
    0: dual ascent on the share of violations. It settles where that share is the limit, if any price does that. There
    is one for both budgets, since a task that missed either delivers nothing.

    A replay buffer keeps rewards at the price of their day: off-policy agents need a low rate.

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
        super().__init__(venv)
        self._limit = _positive("LagrangianPenalties: limit", limit)
        self._rate = _positive("LagrangianPenalties: rate", rate)
        self._drop = self._price_of_drops()
        self.multiplier = 1.0

    def _pay(self, rewards: NDArray[np.float32], infos: list[dict[str, Any]]) -> NDArray[Any]:
        quality, dropped, violated = self._told(infos, ("quality", "dropped", "violated"))
        paid = quality - self._drop * dropped - self.multiplier * violated
        excess = float(violated.sum()) - self._limit * self.num_envs
        self.multiplier = max(0.0, self.multiplier + self._rate * excess)
        return paid


class PayDelivered(_TrainingRewards):
    """Training rewards of what evaluations count: the delivered quality, nothing for a miss, less ``w_drop drops``.

    The environment's own reward without the penalties of a missed budget and of a task given up in service.

    Parameters
    ----------
    venv : VecEnv
        Of LAIM-v0.
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self._drop = self._price_of_drops()

    def _pay(self, rewards: NDArray[np.float32], infos: list[dict[str, Any]]) -> NDArray[Any]:
        delivered, dropped = self._told(infos, ("delivered", "dropped"))
        return delivered - self._drop * dropped


def native_env(env: VecEnv | None) -> NativeVecEnv:
    """The lanes inside the wrappers of Stable-Baselines3.

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


def _positive(name: str, value: float) -> float:
    if not 0.0 < value < np.inf:
        raise InvalidInputError(name, value, "Give a positive number.")
    return value
