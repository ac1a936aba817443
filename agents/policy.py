"""Acting with a trained agent: its actor in NumPy, loaded from weights alone, without stable-baselines3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from coinfer_gym.errors import InvalidInputError, nearest

__all__ = ["Agent", "agent_content", "load_agent"]

Vector = NDArray[np.float32]
Layers = list[tuple[Vector, Vector]]

_LOG_STD_LOW, _LOG_STD_HIGH = -20.0, 2.0  # as in the actor of SAC


def _relu(x: Vector) -> Vector:
    y: Vector = np.maximum(x, np.float32(0.0))
    return y


def _elu(x: Vector) -> Vector:
    negative: Any = np.expm1(np.minimum(x, np.float32(0.0)))
    return cast("Vector", np.maximum(x, negative))


def _silu(x: Vector) -> Vector:
    return cast("Vector", x / (1.0 + np.exp(-x)))


_ACTIVATIONS: dict[str, Callable[[Vector], Vector]] = {"tanh": np.tanh, "relu": _relu, "elu": _elu, "silu": _silu}
_DEFAULT_ACTIVATION = {"ppo": "tanh", "sac": "relu"}


class Agent:
    """A trained actor, a multi-layer perceptron; acts as the model of stable-baselines3 that it was trained as.

    Parameters
    ----------
    algo : {"ppo", "sac"}
        PPO clips its Gaussian to the bounds of the actions, SAC squashes it by tanh.
    hidden : list of (weight, bias)
        Hidden layers.
    mean : (weight, bias)
        Last layer.
    log_std : ndarray or (weight, bias)
        Logarithm of the noise: constant (PPO) or a layer (SAC).
    activation : str
        Between the layers.
    config : mapping
        Of the run; empty where it is not known.
    seed : int
        Of the agent's own noise.

    Attributes
    ----------
    uses : str
        Decides by the observation, as `baselines.policy.Policy` has it.
    config : dict
        Environment, its keywords, and the wrappers that the agent was trained in.
    """

    uses: ClassVar[str] = "observation"

    def __init__(
        self,
        algo: str,
        hidden: Layers,
        mean: tuple[Vector, Vector],
        log_std: Vector | tuple[Vector, Vector],
        activation: str,
        config: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.algo = algo
        self.config = dict(config or {})
        self._hidden = [_transposed(layer) for layer in hidden]
        self._mean = _transposed(mean)
        self._log_std = _transposed(log_std) if isinstance(log_std, tuple) else log_std
        self._activation = _ACTIVATIONS[activation]
        self._random = np.random.default_rng(seed)

    def seed(self, seed: int) -> None:
        """Begin the agent's noise anew."""
        self._random = np.random.default_rng(seed)

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Check that the environment is of the kind that the agent has learned in.

        Raises
        ------
        InvalidInputError
            If observations or actions have another shape.
        """
        shapes = ((self._inputs,), (self._mean[1].shape[0],))
        found = (env.observation_space.shape, env.action_space.shape)
        if found != shapes:
            raise InvalidInputError("env", found, f"The agent has learned with observations and actions {shapes}.")
        return self

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], tuple[NDArray[Any], ...] | None]:
        """Action for an observation, or one per row of a batch.

        Parameters
        ----------
        observation : ndarray, shape (n_obs,) or (n, n_obs)
        state, episode_start
            Passed through and ignored: the agent has no memory.
        deterministic : bool
            Take the mode instead of a draw.

        Returns
        -------
        action : ndarray of float32, shape (n_act,) or (n, n_act)
        state
            As given.

        Raises
        ------
        InvalidInputError
            If observations have another length than those the agent has learned with.
        """
        x = np.asarray(observation, np.float32)
        if x.ndim not in (1, 2) or x.shape[-1] != self._inputs:
            raise InvalidInputError("observation", np.shape(x), f"Give {self._inputs} numbers, or rows of them.")
        for weight, bias in self._hidden:
            x = self._activation(x @ weight + bias)
        action = x @ self._mean[0] + self._mean[1]
        if not deterministic:
            noise = self._random.standard_normal(action.shape, dtype=np.float32)
            action = action + np.exp(self._spread(x)) * noise
        return (np.tanh(action) if self.algo == "sac" else np.clip(action, -1.0, 1.0)), state

    @property
    def _inputs(self) -> int:
        first = self._hidden[0] if self._hidden else self._mean
        return int(first[0].shape[0])

    def _spread(self, features: Vector) -> Vector:
        if isinstance(self._log_std, tuple):
            values = features @ self._log_std[0] + self._log_std[1]
            clipped: Vector = np.clip(values, _LOG_STD_LOW, _LOG_STD_HIGH)
            return clipped
        return self._log_std


def load_agent(path: str | Path, seed: int = 0) -> Agent:
    """Trained agent of a run.

    Parameters
    ----------
    path : str or Path
        Folder of the run, or its ``agent.pt``. Only weights are read: no code in the file can run.
    seed : int
        Of the agent's own noise.

    Returns
    -------
    Agent

    Raises
    ------
    InvalidInputError
        If there is no agent, or the file is damaged or of another kind.
    """
    from agents.tensor_files import load_tensors  # brings torch along

    file = Path(path) / "agent.pt" if Path(path).is_dir() else Path(path)
    content = load_tensors(file, "Train the agent again, or take it from its checkpoint by --resume.")
    try:
        hidden, mean, log_std = _LAYERS[content["algo"]](content["weights"])
        return Agent(content["algo"], hidden, mean, log_std, content["activation"], content["config"], seed)
    except (KeyError, AttributeError) as error:
        raise InvalidInputError("file", str(file), f"It holds no agent: {error} is missing.") from error


def agent_content(algo: str, weights: Mapping[str, Any], activation: str | None, config: Any, steps: int) -> Any:
    """What ``agent.pt`` holds.

    Parameters
    ----------
    algo : {"ppo", "sac"}
    weights : mapping
        State of the policy's network; only the actor's part is kept.
    activation : str or None
        The algorithm's own where not given.
    config : mapping
        Of the run.
    steps : int
        Decisions that the agent was trained for.

    Returns
    -------
    dict
    """
    if algo not in _DEFAULT_ACTIVATION:
        raise InvalidInputError("algo", algo, nearest(algo, _DEFAULT_ACTIVATION))
    actor = {name: value for name, value in weights.items() if name.startswith(_ACTOR_PARTS[algo])}
    name = activation or _DEFAULT_ACTIVATION[algo]
    head = {"algo": algo, "activation": name, "timesteps": steps, "config": dict(config)}
    return {"format": 1, **head, "weights": actor}


def _layers_of_ppo(weights: Mapping[str, Any]) -> tuple[Layers, tuple[Vector, Vector], Vector]:
    hidden = _stack(weights, "mlp_extractor.policy_net.")
    return hidden, _layer(weights, "action_net"), weights["log_std"].numpy()


def _layers_of_sac(weights: Mapping[str, Any]) -> tuple[Layers, tuple[Vector, Vector], tuple[Vector, Vector]]:
    return _stack(weights, "actor.latent_pi."), _layer(weights, "actor.mu"), _layer(weights, "actor.log_std")


_LAYERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {"ppo": _layers_of_ppo, "sac": _layers_of_sac}
_ACTOR_PARTS = {"ppo": ("mlp_extractor.policy_net.", "action_net.", "log_std"), "sac": ("actor.",)}


def _stack(weights: Mapping[str, Any], prefix: str) -> Layers:
    """Layers of a sequence in its order; activations between them have no weights."""
    places = sorted(int(name.split(".")[-2]) for name in weights if name.startswith(prefix) and name.endswith("weight"))
    return [_layer(weights, f"{prefix}{place}") for place in places]


def _layer(weights: Mapping[str, Any], name: str) -> tuple[Vector, Vector]:
    return weights[f"{name}.weight"].numpy(), weights[f"{name}.bias"].numpy()


def _transposed(layer: tuple[Vector, Vector]) -> tuple[Vector, Vector]:
    """Weights in the order in which a row of inputs is multiplied by them."""
    return np.ascontiguousarray(layer[0].T), layer[1]
