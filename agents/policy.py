"""Act with a trained agent: its actor in NumPy, without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from agents.actors import ACTIVATIONS, LstmLayer, Vector, actor_layers, actor_weights, apply_layers, find_actor
from agents.agent_file import read_agent
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.named_wrappers import unwrap_action, wrap

__all__ = ["Agent", "State", "load_agent"]

State = tuple[NDArray[Any], ...]
"""Hidden and cell states of an LSTM."""

_LOG_STD_LOW, _LOG_STD_HIGH = -20.0, 2.0  # as in the actors of SAC and TQC
_LOW, _HIGH = np.array(-1.0, np.float32), np.array(1.0, np.float32)  # NumPy is slower with plain numbers


def load_agent(path: str | Path) -> Agent:
    """Load a trained agent, from the folder of a run or its ``agent.safetensors``, which holds weights and no code.

    Raises
    ------
    InvalidInputError
        If there is no agent, or the file is damaged or of another kind.
    """
    weights, about = read_agent(path)
    return Agent(about["algo"], weights, about["activation"], about["config"])


class Agent:
    """A trained actor that acts as its model in stable-baselines3 or sb3-contrib does.

    PPO and A2C clip a Gaussian to the bounds of the actions or choose from a list, SAC and TQC squash theirs by tanh,
    TD3 and DDPG have no noise, DQN takes the action of the highest value. RecurrentPPO has an LSTM before the other
    layers, MaskablePPO chooses among the actions that the environment allows.

    An agent that was trained in wrappers gives the actions of these wrappers. After `bind` to an environment without
    them, it gives actions of that environment, one task at a time.

    Parameters
    ----------
    algo : str
        Such as ``"ppo"`` or ``"recurrent_ppo"``.
    weights : mapping of str to ndarray
        Tensors of the actor by their names in ``policy.state_dict()``.
    activation : str, optional
        Between the layers; by default that of the algorithm.
    config : mapping, optional
        Where the agent was trained: ``env``, ``env_kwargs`` and ``wrapper``.

    Attributes
    ----------
    algo : str
    config : dict

    Raises
    ------
    InvalidInputError
        If the algorithm or the activation is unknown, or a tensor is missing.
    """

    def __init__(
        self,
        algo: str,
        weights: Mapping[str, Any],
        activation: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        actor = find_actor(algo)
        function = activation or actor.activation
        if function not in ACTIVATIONS:
            raise InvalidInputError("activation", function, nearest(str(function), ACTIVATIONS))
        own = actor_weights(algo, weights)
        self.algo = algo
        self.config = dict(config or {})
        try:
            self._lstm = LstmLayer.read(own) if algo == "recurrent_ppo" else []
            layers = [(np.ascontiguousarray(weight.T), bias) for weight, bias in actor_layers(algo, own)]
            *self._hidden, self._last = layers
            self._log_std = own.get("log_std")
            self._log_std_layer = None
            if algo in ("sac", "tqc"):
                self._log_std_layer = own["actor.log_std.weight"].T, own["actor.log_std.bias"]
            widths = {"log_std": self._log_std, "actor.log_std": self._log_std_layer and self._log_std_layer[1]}
            for name, noise in widths.items():
                if noise is not None and noise.shape != self._last[1].shape:
                    raise ValueError(f"{name} has shape {noise.shape}, actions {self._last[1].shape}")
            if self._lstm and len(self._lstm[-1].from_hidden) != len(layers[0][0]):
                raise ValueError(
                    f"the LSTM gives {len(self._lstm[-1].from_hidden)}, the next takes {len(layers[0][0])}"
                )
        except (IndexError, KeyError, ValueError) as error:
            raise InvalidInputError("weights", sorted(own), f"This is no actor of {algo}: {error}.") from error
        self._activation = ACTIVATIONS[function]
        first = self._lstm[0].from_input if self._lstm else layers[0][0]
        self._inputs, self._outputs = first.shape[0], len(self._last[1])
        self._squashed = actor.squashed
        self._discrete = not actor.squashed and self._log_std is None
        self.seed(0)
        self._env: Any = None
        self._wrapped: Any = None
        self._masks: Callable[[], NDArray[np.bool_]] | None = None

    @property
    def _in_wrappers(self) -> bool:
        return self._wrapped is not self._env

    @property
    def trained_for(self) -> tuple[str, dict[str, Any]]:
        """Id and keywords of the environment that the agent was trained in.

        `InvalidInputError` is raised if the agent's file does not say, or names none of this package: another id would
        import its module.
        """
        env, keywords = (self.config.get(name) for name in ("env", "env_kwargs"))
        if not isinstance(env, str) or not isinstance(keywords, dict):
            remedy = "It must tell env and env_kwargs: which environment the agent was trained for is not known."
            raise InvalidInputError("agent: config", self.config, remedy)
        known = [name for name in gym.registry if name.startswith("coinfer_gym/")]
        if env not in known:
            raise InvalidInputError("agent: env", env, f"Only {', '.join(sorted(known))} can be played.")
        return env, dict(keywords)

    def seed(self, seed: int) -> None:
        """Seed the agent's noise."""
        self._random = np.random.default_rng(seed)

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on, through the wrappers that the agent was trained in.

        An environment whose actions are wrapped already is taken as it is. `InvalidInputError` is raised if the agent
        was trained with other observations or actions.
        """
        plain = env.action_space == env.unwrapped.action_space
        wrapped = wrap(env, self.config.get("wrapper")) if plain else env
        actions = f"{self._outputs} listed" if self._discrete else f"of shape {(self._outputs,)}"
        here = f"observations of shape {wrapped.observation_space.shape}, actions {_describe(wrapped.action_space)}"
        there = f"observations of shape {(self._inputs,)}, actions {actions}"
        if here != there:
            world = f"{self.config.get('env', 'another environment')} {self.config.get('env_kwargs', '')}"
            raise InvalidInputError("env", here, f"The agent was trained with {there}, in {world.strip()}.")
        self._env, self._wrapped = env, wrapped
        self._masks = wrapped.get_wrapper_attr("action_masks") if self.algo == "maskable_ppo" else None
        return self

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: State | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[Any], State | None]:
        """Choose an action for an observation, or for each row of a batch.

        Parameters
        ----------
        observation : ndarray, shape (n_obs,) or (n, n_obs)
        state : tuple of ndarray, optional
            Of the LSTM, as the last call returned it.
        episode_start : ndarray of bool, shape (n,), optional
            Rows whose LSTM state is cleared.
        deterministic : bool
            Take the mode instead of a draw.
        action_masks : ndarray of bool, optional
            Actions that MaskablePPO may take; by default those of the bound environment.

        Returns
        -------
        action : ndarray
            float32 of shape (n_act,) or (n, n_act), or integers of shape () or (n,).
        state : tuple of ndarray or None
            For the next call.

        Raises
        ------
        InvalidInputError
            If observations have another length than in training, or are a batch for a bound agent with wrappers.
        """
        x: Vector = np.asarray(observation, np.float32)
        single = x.ndim == 1
        if x.ndim not in (1, 2) or x.shape[-1] != self._inputs:
            raise InvalidInputError("observation", np.shape(x), f"Give {self._inputs} numbers, or rows of them.")
        if self._in_wrappers and not single and len(x) != 1:
            raise InvalidInputError(
                "observation", f"a batch of {len(x)}", "In its wrappers the agent plays one task at a time."
            )
        if self._masks is not None and action_masks is None:
            action_masks = self._masks()
        if self._lstm:
            rows, state = self._remember(x[None] if single else x, state, episode_start)
            x = rows[0] if single else rows
        action = self._choose(x, deterministic, action_masks)
        if self._in_wrappers:
            inner = unwrap_action(self._wrapped, self._env, action if single else action[0])
            action = inner if single else inner[None]
        return action, state

    def _remember(
        self, rows: Vector, state: State | None, episode_start: NDArray[Any] | None
    ) -> tuple[Vector, tuple[Vector, Vector]]:
        """Output of the LSTM, and its hidden and cell states, of shape (layers, n, units)."""
        if state is None:
            hidden = np.zeros((len(self._lstm), len(rows), len(self._lstm[0].from_hidden)), np.float32)
            cell = hidden.copy()
        else:
            hidden, cell = (np.array(part, np.float32) for part in state)
            if episode_start is not None:
                going = 1.0 - np.asarray(episode_start, np.float32).reshape(1, -1, 1)
                hidden, cell = hidden * going, cell * going
        for i, layer in enumerate(self._lstm):
            hidden[i], cell[i] = layer.step(rows, hidden[i], cell[i])
            rows = hidden[i]
        return rows, (hidden, cell)

    def _choose(self, x: Vector, deterministic: bool, masks: NDArray[np.bool_] | None) -> NDArray[Any]:
        """Action of the layers and of the noise."""
        hidden = apply_layers(self._hidden, self._activation, x)
        values: Vector = np.dot(hidden, self._last[0])
        values += self._last[1]
        if not deterministic:
            values = values + self._noise(hidden, values.shape)
        if self._squashed:
            return np.asarray(np.tanh(values))
        if not self._discrete:
            return np.asarray(np.minimum(np.maximum(values, _LOW), _HIGH))
        if self.algo == "maskable_ppo" and masks is not None:
            values = np.where(np.reshape(masks, values.shape), values, np.float32(-np.inf))
        return np.asarray(values.argmax(axis=-1))

    def _noise(self, hidden: Vector, shape: tuple[int, ...]) -> Vector | float:
        """Noise before the bounds are applied; the Gumbel distribution makes the maximum a draw of the softmax."""
        if self.algo in ("td3", "ddpg", "dqn"):
            return 0.0
        if self._discrete:
            return self._random.gumbel(size=shape).astype(np.float32)
        log_std: Any = self._log_std
        if self._log_std_layer is not None:
            weight, bias = self._log_std_layer
            log_std = np.clip(hidden @ weight + bias, _LOG_STD_LOW, _LOG_STD_HIGH)
        noise: Vector = self._random.standard_normal(shape, dtype=np.float32) * np.exp(log_std)
        return noise


def _describe(space: gym.Space[Any]) -> str:
    """A space of actions in words."""
    return f"{space.n} listed" if isinstance(space, gym.spaces.Discrete) else f"of shape {space.shape}"
