"""The interface of every policy, which is that of an agent of stable-baselines3, and the base class of solvers."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from coinfer_gym import InvalidInputError, Problem
from coinfer_gym.named_wrappers import check_wrappers, unwrap_action, wrap

__all__ = ["Observation", "Policy", "Predictor", "ProblemPolicy", "State", "Wrapped", "batch_shape"]

Observation = NDArray[Any] | dict[str, NDArray[Any]]
State = tuple[NDArray[Any], ...]


def batch_shape(observation: Observation) -> tuple[int, ...]:
    """``()`` for one observation, ``(n,)`` for a batch of `n`."""
    array = next(iter(observation.values())) if isinstance(observation, dict) else observation
    return np.shape(array)[:-1]


def unbound(policy: object) -> InvalidInputError:
    """Error of a policy that is used before `bind`."""
    return InvalidInputError("policy", type(policy).__name__, "Call bind(env) first.")


@runtime_checkable
class Predictor(Protocol):
    """Anything that chooses actions: an agent of stable-baselines3, or a policy of this package."""

    def predict(
        self,
        observation: Observation,
        state: State | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Action for an observation, or one action per row of a batch of observations.

        Parameters
        ----------
        observation : ndarray, shape (n_obs,) or (n, n_obs)
        state : tuple of ndarray, optional
            Memory of a recurrent agent.
        episode_start : ndarray of bool, shape (n,), optional
            Where an episode begins, so that a memory is cleared.
        deterministic : bool
            Take the mode of a stochastic agent.

        Returns
        -------
        action : ndarray, shape (n_act,) or (n, n_act)
        state : tuple of ndarray or None
            To hand over to the next call.
        """
        ...


class Policy(abc.ABC):
    """A policy without memory between tasks.

    One that decides by the observation alone takes batches of them. One that asks the environment for the task at hand
    must be bound to it (`bind`), and plays one environment at a time.
    """

    def predict(
        self,
        observation: Observation,
        state: State | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """The action of `act`, see `Predictor.predict`; the state passes through."""
        return self.act(observation), state

    @abc.abstractmethod
    def act(self, observation: Observation) -> NDArray[Any]:
        """Action for an observation, or one per row of a batch."""

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on.

        Parameters
        ----------
        env : gymnasium.Env
            Wrapped or not.

        Returns
        -------
        Policy
            Itself.

        Raises
        ------
        InvalidInputError
            If the policy cannot act there.
        """
        return self

    def seed(self, seed: int) -> None:  # noqa: B027  most policies draw nothing
        """Seed the random numbers; the same seed gives the same actions."""


class ProblemPolicy(Policy):
    """A policy that solves the optimisation problem of the task at hand; a subclass says how.

    Parameters
    ----------
    env : gymnasium.Env, optional
        The environment to act in; `bind` does the same later.

    Attributes
    ----------
    solves : type
        Kind of problem.
    home : str
        Environment that offers it.
    """

    solves: ClassVar[type] = Problem
    home: ClassVar[str] = "LAIM-v0"

    def __init__(self, env: gym.Env[Any, Any] | None = None) -> None:
        self._bound: Any = None
        if env is not None:
            self.bind(env)

    @property
    def _env(self) -> Any:
        if self._bound is None:
            raise unbound(self)
        return self._bound

    @abc.abstractmethod
    def solve(self, problem: Any) -> Any:
        """Decision for a task.

        Parameters
        ----------
        problem : Problem or LayerwiseProblem
            Of the kind that the policy `solves`.

        Returns
        -------
        Decision or LayerwiseDecision
        """

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on.

        Raises
        ------
        InvalidInputError
            If the environment offers no ``problem()`` or one of another kind, or a wrapper has given its actions
            another meaning.
        """
        core = env.unwrapped
        self.check(core)
        if not (hasattr(core, "problem") and hasattr(core, "action")):
            raise InvalidInputError("env", core, "This policy needs an environment with problem() and action().")
        if env.action_space != core.action_space:
            remedy = "A wrapper changes the action space: bind the environment inside it, or an id without 'Shares'."
            raise InvalidInputError("env", str(env), remedy)
        self._bound = core
        return self

    def check(self, env: Any) -> None:
        """Raise `InvalidInputError` if the problem of an environment is of another kind than this policy solves."""
        scenario = getattr(env, "scenario", None)
        if scenario is not None and not isinstance(scenario.problem(1.0), self.solves):
            remedy = f"{type(self).__name__} solves a {self.solves.__name__}: play it in {self.home}."
            raise InvalidInputError("env", str(env), remedy)

    def act(self, observation: Observation) -> NDArray[Any]:
        """Action for the task at hand in the bound environment.

        Only the shape of the observation matters: a batch of one gets a batch of one back.

        Raises
        ------
        InvalidInputError
            If the policy is not bound, or the batch holds more than one observation.
        """
        batch = batch_shape(observation)
        if batch not in ((), (1,)):
            raise InvalidInputError("observation", f"a batch {batch}", "This policy plays one environment at a time.")
        action = np.asarray(self.decide())
        return action.reshape(*batch, *action.shape)

    def decide(self) -> NDArray[Any]:
        """Action for the task at hand in the bound environment."""
        action: NDArray[Any] = self._env.action(self.solve(self._env.problem()))
        return action


class Wrapped:
    """A model that was trained in wrappers, as a policy of the environment without them.

    Parameters
    ----------
    model : Predictor
        Such as a model of stable-baselines3. Its ``predict`` gives actions of the wrapped environment.
    wrappers : str, mapping, or sequence of these
        The wrappers, innermost first, as for `coinfer_gym.named_wrappers.check_wrappers`; for example
        ``["BudgetShareAction"]``.

    Raises
    ------
    InvalidInputError
        If a wrapper or one of its arguments is unknown.

    Examples
    --------
    >>> compare(config, policies={"mine": Wrapped(model, ["BudgetShareAction"])})
    """

    def __init__(self, model: Predictor, wrappers: Any) -> None:
        self._model = model
        self._wrappers = check_wrappers(wrappers)
        self._env: Any = None
        self._wrapped: Any = None

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment, which lacks the wrappers, from now on.

        Raises
        ------
        InvalidInputError
            If the wrappers do not fit the environment.
        """
        self._env, self._wrapped = env, wrap(env, self._wrappers)
        return self

    def predict(
        self,
        observation: Observation,
        state: State | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """The model's action for one observation as an action of the bound environment, see `Predictor.predict`.

        Raises
        ------
        InvalidInputError
            If the policy is not bound, or a batch of observations is given.
        """
        if self._env is None:
            raise unbound(self)
        if batch_shape(observation) != ():
            raise InvalidInputError("observation", "a batch", "In its wrappers the model plays one task at a time.")
        action, state = self._model.predict(observation, state, episode_start, deterministic)
        return unwrap_action(self._wrapped, self._env, action), state
