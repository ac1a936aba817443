"""A wrapper for agents with mixed actions: the cut as a whole number, the other controls continuous."""

from __future__ import annotations

from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces as gym_spaces
from numpy.typing import NDArray

from coinfer_gym.envs.actions import check_actions, check_choices
from coinfer_gym.envs.base import TaskEnv
from coinfer_gym.errors import InvalidInputError

Observation = NDArray[np.float32]
Action = NDArray[np.float32]
Inner = TypeVar("Inner")


class HybridActions(gym.ActionWrapper[Observation, Any, Action], gym.utils.RecordConstructorArgs):
    """Split the action into the cut, a whole number, and the continuous controls.

    For agents with mixed actions (P-DQN, H-PPO and other parametrised-action methods, RLlib's dictionary and tuple
    action distributions). Stable-Baselines3 has no such agent: use the plain environment or `DiscreteActions` there.

    The action is ``{"cut": Discrete(J + 1), "controls": Box(-1, 1, (5,), float32)}`` or a tuple of the two, in this
    order. The controls are the components 1 to 5 of the plain action. In Layerwise-v0 the number of cuts is that of its
    network, and the controls are all components after the cut.

    Parameters
    ----------
    env : gymnasium.Env
        LAIM-v0 or Layerwise-v0 with its own action space.
    kind : {"dict", "tuple"}
        Kind of the action space.

    Raises
    ------
    InvalidInputError
        If there is no such kind, the environment is neither of the two, or a wrapper has changed its actions.
    """

    def __init__(self, env: gym.Env[Observation, Action], kind: str = "dict") -> None:
        gym.utils.RecordConstructorArgs.__init__(self, kind=kind)
        if kind not in ("dict", "tuple"):
            raise InvalidInputError("kind", kind, "Give 'dict' or 'tuple'.")
        self._kind = kind
        inner = unwrap_plain(env, TaskEnv, type(self).__name__, "Wrap an environment of coinfer_gym.")
        self._cuts = inner.scenario.cut_components
        super().__init__(env)
        self._controls = ((env.unwrapped.action_space.shape or ())[0] - 1,)
        cut = gym_spaces.Discrete(len(self._cuts))
        controls = gym_spaces.Box(-1.0, 1.0, self._controls, np.float32)
        self.action_space = (
            gym_spaces.Dict(cut=cut, controls=controls) if kind == "dict" else gym_spaces.Tuple((cut, controls))
        )

    def action(self, action: Any) -> Action:
        """Cut and controls as an action of the environment.

        Raises
        ------
        InvalidInputError
            If the cut is not one of ``0..J``, or the controls are not as many real numbers as there are.
        """
        try:
            cut, controls = (action["cut"], action["controls"]) if self._kind == "dict" else action
        except (TypeError, ValueError, LookupError) as error:
            form = "{'cut': ..., 'controls': ...}" if self._kind == "dict" else "(cut, controls)"
            raise InvalidInputError("action", action, f"Give {form}.") from error
        chosen = int(check_choices(cut, (), len(self._cuts), field="action: cut"))
        numbers = check_actions(controls, self._controls, field="action: controls")
        return np.concatenate(([self._cuts[chosen]], numbers), dtype=np.float32)


def unwrap(env: Any, kind: type[Inner], wrapper: str, remedy: str) -> Inner:
    """The environment inside all wrappers; `InvalidInputError` if it is of another kind."""
    inner = getattr(env, "unwrapped", None)
    if not isinstance(inner, kind):
        raise InvalidInputError(f"{wrapper}: env", env, remedy)
    return inner


def unwrap_plain(env: Any, kind: type[Inner], wrapper: str, remedy: str) -> Inner:
    """`unwrap`, if no wrapper has changed the action space."""
    inner = unwrap(env, kind, wrapper, remedy)
    if env.action_space != env.unwrapped.action_space:
        raise InvalidInputError(f"{wrapper}: env", env, "Apply it before a wrapper that changes the action space.")
    return inner
