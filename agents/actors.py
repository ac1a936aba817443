"""Actors of the algorithms of stable-baselines3 and sb3-contrib: their tensors, and their layers in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.errors import InvalidInputError, nearest

__all__ = ["ACTIVATIONS", "Actor", "Layer", "LstmLayer", "actor_layers", "actor_weights", "apply_layers", "find_actor"]

Vector = NDArray[np.float32]
Layer = tuple[Vector, Vector]
"""Weight of shape (outputs, inputs), and bias."""

_ZERO, _HALF, _ONE = (np.array(value, np.float32) for value in (0.0, 0.5, 1.0))  # NumPy is slower with plain numbers


class Actor(NamedTuple):
    """Where the actor of an algorithm is in its policy, and what it does with the output of its last layer.

    Attributes
    ----------
    parts : tuple of str
        How the names of its tensors begin in ``policy.state_dict()``.
    hidden : str
        How the names of its layers begin.
    last : str or None
        Layer of the actions; None if it is one of the layers above.
    activation : str
        Default of the algorithm.
    squashed : bool
        Whether actions pass through tanh.
    """

    parts: tuple[str, ...]
    hidden: str
    last: str | None
    activation: str
    squashed: bool


_ACTOR_CRITIC = Actor(
    ("mlp_extractor.policy_net.", "action_net.", "log_std", "lstm_actor."),
    "mlp_extractor.policy_net.",
    "action_net",
    "tanh",
    False,
)
_STOCHASTIC = Actor(("actor.",), "actor.latent_pi.", "actor.mu", "relu", True)
_DETERMINISTIC = Actor(("actor.",), "actor.mu.", None, "relu", True)
_ACTORS = {
    "ppo": _ACTOR_CRITIC,
    "a2c": _ACTOR_CRITIC,
    "maskable_ppo": _ACTOR_CRITIC,
    "recurrent_ppo": _ACTOR_CRITIC,
    "sac": _STOCHASTIC,
    "tqc": _STOCHASTIC,
    "td3": _DETERMINISTIC,
    "ddpg": _DETERMINISTIC,
    "dqn": Actor(("q_net.",), "q_net.q_net.", None, "relu", False),
}


def find_actor(algo: str) -> Actor:
    """Actor of an algorithm.

    Raises
    ------
    InvalidInputError
        If there is no such algorithm.
    """
    if algo not in _ACTORS:
        raise InvalidInputError("algo", algo, nearest(str(algo), _ACTORS))
    return _ACTORS[algo]


def actor_weights(algo: str, weights: Mapping[str, Any]) -> dict[str, Vector]:
    """The actor's part of a policy's ``state_dict()``, as arrays."""
    parts = find_actor(algo).parts
    return {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items() if name.startswith(parts)}


def actor_layers(algo: str, weights: Mapping[str, Vector]) -> list[Layer]:
    """Layers from the observation, or from the LSTM, to the action.

    Raises
    ------
    KeyError
        If a tensor is missing.
    """
    actor = find_actor(algo)
    own = [name for name in weights if name.startswith(actor.hidden) and name.endswith(".weight")]
    names = [f"{actor.hidden}{place}" for place in sorted(int(name.split(".")[-2]) for name in own)]
    if actor.last is not None:
        names.append(actor.last)
    return [(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names]


def _relu(x: Vector, out: Vector) -> None:
    np.maximum(x, _ZERO, out=out)


def _elu(x: Vector, out: Vector) -> None:
    np.maximum(x, np.expm1(np.minimum(x, _ZERO)), out=out)


def _silu(x: Vector, out: Vector) -> None:
    np.multiply(x, _sigmoid(x), out=out)


def _sigmoid(x: Vector) -> Vector:
    y: Vector = _HALF * (_ONE + np.tanh(_HALF * x))  # exp(-x) would overflow
    return y


ACTIVATIONS: dict[str, Callable[..., Any]] = {"tanh": np.tanh, "relu": _relu, "elu": _elu, "silu": _silu}
"""Activation functions by name; each writes to its second argument."""


def apply_layers(layers: Sequence[Layer], activation: Callable[..., Any], x: Vector) -> Vector:
    """Output of layers that are each followed by an activation, for one input or for rows of them.

    Parameters
    ----------
    layers : sequence of (ndarray, ndarray)
        Weights of shape (inputs, outputs), that is transposed, and biases.
    activation : callable
    x : ndarray of float32, shape (n_in,) or (n, n_in)
    """
    for weight, bias in layers:
        x = np.dot(x, weight)
        x += bias
        activation(x, x)
    return x


class LstmLayer(NamedTuple):
    """A layer of an LSTM; its gates are in the order of torch: input, forget, cell, output."""

    from_input: Vector
    from_hidden: Vector
    bias: Vector

    @classmethod
    def read(cls, weights: Mapping[str, Vector]) -> list[LstmLayer]:
        """All layers of the actor of RecurrentPPO.

        Raises
        ------
        KeyError
            If a tensor is missing.
        """
        count = max(1, sum(name.startswith("lstm_actor.weight_ih_l") for name in weights))
        return [
            cls(
                np.ascontiguousarray(weights[f"lstm_actor.weight_ih_l{i}"].T),
                np.ascontiguousarray(weights[f"lstm_actor.weight_hh_l{i}"].T),
                weights[f"lstm_actor.bias_ih_l{i}"] + weights[f"lstm_actor.bias_hh_l{i}"],
            )
            for i in range(count)
        ]

    def step(self, x: Vector, hidden: Vector, cell: Vector) -> tuple[Vector, Vector]:
        """Hidden and cell state after rows of inputs."""
        gates = x @ self.from_input + hidden @ self.from_hidden + self.bias
        admit, keep, new, show = np.split(gates, 4, axis=1)
        after = _sigmoid(keep) * cell + _sigmoid(admit) * np.tanh(new)
        return _sigmoid(show) * np.tanh(after), after
