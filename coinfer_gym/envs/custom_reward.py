"""A reward of your own, computed from the named parts in ``info``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from coinfer_gym.envs.vector import last_infos
from coinfer_gym.errors import InvalidInputError, nearest


class CustomReward(gym.Wrapper[Any, Any, Any, Any]):
    """Replace the reward by a function of ``info``.

    For example, the delivered quality minus a price for energy and for lost tasks:

    >>> def reward(info):
    ...     return info["delivered"] - 2.0 * info["energy_j"] - 0.5 * info["dropped"]
    >>> env = CustomReward(gym.make("coinfer_gym/LAIM-v0"), reward)

    `coinfer_gym.laim.dynamics.INFO_NAMES` lists the keys. Gymnasium's ``TransformReward`` sees the old reward only.

    Parameters
    ----------
    env : gymnasium.Env
        LAIM-v0 or Layerwise-v0, wrapped or not.
    function : callable
        Takes the info of a step and returns the reward. Written with operators and NumPy functions, it also works in
        `CustomVectorReward`.
    """

    def __init__(self, env: gym.Env[Any, Any], function: Callable[[dict[str, Any]], Any]) -> None:
        _check_function(function)
        super().__init__(env)
        self._function = function

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment and compute the reward."""
        observation, _, terminated, truncated, info = self.env.step(action)
        return observation, float(_pay(self._function, info, ())), terminated, truncated, info


class CustomVectorReward(VectorWrapper):
    """Replace the rewards of all lanes by a function of ``infos``.

    In mode ``SameStep`` the function sees the last info of a lane whose episode has just ended. In mode ``NextStep`` a
    lane that is reset takes no decision, and its reward is 0.

    Parameters
    ----------
    env : gymnasium.vector.VectorEnv
        The native vector environment of either task, wrapped or not.
    function : callable
        Takes a dictionary of arrays of shape (num_envs,) and returns such an array.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], function: Callable[[dict[str, Any]], Any]) -> None:
        _check_function(function)
        super().__init__(env)
        self._function = function
        self._ended = np.zeros(self.num_envs, np.bool_)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the lanes, or those of the option ``reset_mask``."""
        self._ended = self._ended & ~np.asarray((options or {}).get("reset_mask", True))
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, NDArray[np.float64], Any, Any, dict[str, Any]]:
        """Step all lanes and compute their rewards."""
        observations, _, terminated, truncated, infos = self.env.step(actions)
        rewards = np.where(self._ended, 0.0, _pay(self._function, last_infos(infos), (self.num_envs,)))
        if self.env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP:
            self._ended = terminated | truncated
        return observations, rewards, terminated, truncated, infos


def _pay(function: Callable[[Any], Any], info: dict[str, Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        paid = function(info)
    except KeyError as error:
        key = error.args[0]
        if not isinstance(key, str) or key in info:
            raise  # not a key of the info
        raise InvalidInputError("reward of your function: info", key, nearest(key, info)) from error
    try:
        return np.broadcast_to(np.add(paid, 0.0), shape)  # None is no number to add, but an array makes it NaN
    except (TypeError, ValueError) as error:
        raise InvalidInputError("reward of your function", paid, "Return a number, or one for each lane.") from error


def _check_function(function: object) -> None:
    if not callable(function):
        raise InvalidInputError("function", function, "Give a function of the info that returns the reward.")
