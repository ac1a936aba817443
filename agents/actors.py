"""Actors of the algorithms of stable-baselines3 and sb3-contrib: their tensors, and their layers in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.errors import InvalidInputError, nearest

__all__ = ["ACTIVATIONS", "ACTORS", "Actor", "LstmLayer", "actor_layers", "actor_weights", "apply_layers", "find_actor"]

Vector = NDArray[np.float32]
Layer = tuple[Vector, Vector]
"""Weight of shape (outputs, inputs), and bias."""

_ZERO, _HALF, _ONE = (np.array(value, np.float32) for value in (0.0, 0.5, 1.0))  # NumPy is slower with plain numbers


class Actor(NamedTuple):
    """Where the actor of an algorithm is in its policy, and what it does with the output of its last layer."""

    parts: tuple[str, ...]  # how the names of its tensors begin in ``policy.state_dict()``
    hidden: str  # how the names of its layers begin
    last: str | None  # layer of the actions; None if it is one of the layers above
    activation: str  # default of the algorithm
    squashed: bool  # whether actions pass through tanh


_ACTOR_CRITIC = Actor(
    ("mlp_extractor.policy_net.", "action_net.", "log_std", "lstm_actor."),
    "mlp_extractor.policy_net.",
    "action_net",
    "tanh",
    False,
)
_STOCHASTIC = Actor(("actor.",), "actor.latent_pi.", "actor.mu", "relu", True)
_DETERMINISTIC = Actor(("actor.",), "actor.mu.", None, "relu", True)
ACTORS = {
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
    """Actor of an algorithm; `InvalidInputError` if there is no such algorithm."""
    if algo not in ACTORS:
        raise InvalidInputError("algo", algo, nearest(str(algo), ACTORS))
    return ACTORS[algo]


def actor_weights(algo: str, weights: Mapping[str, Any]) -> dict[str, Vector]:
    """The actor's part of a policy's ``state_dict()``, as arrays."""
    parts = find_actor(algo).parts
    return {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items() if name.startswith(parts)}


def actor_layers(algo: str, weights: Mapping[str, Vector]) -> list[Layer]:
    """Layers from the observation, or from the LSTM, to the action; KeyError or ValueError if they are not whole."""
    actor = find_actor(algo)
    own = [name for name in weights if name.startswith(actor.hidden) and name.endswith(".weight")]
    names = [f"{actor.hidden}{place}" for place in sorted(int(name.split(".")[-2]) for name in own)]
    if actor.last is not None:
        names.append(actor.last)
    layers = [(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names]
    for name, (weight, bias) in zip(names, layers, strict=True):
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise ValueError(f"{name} has a weight of shape {weight.shape} and a bias of shape {bias.shape}")
    for name, ((before, _), (after, _)) in zip(names[1:], pairwise(layers), strict=True):
        if after.shape[1] != before.shape[0]:
            raise ValueError(f"{name} takes {after.shape[1]} values, the layer before gives {before.shape[0]}")
    return layers


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
    """Output of layers, each followed by an activation, for an input or rows of them; weights are transposed."""
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
        """All layers of the actor of RecurrentPPO; KeyError or ValueError if they are not whole."""
        count = max(1, sum(name.startswith("lstm_actor.weight_ih_l") for name in weights))
        layers = [
            cls(
                np.ascontiguousarray(weights[f"lstm_actor.weight_ih_l{i}"].T),
                np.ascontiguousarray(weights[f"lstm_actor.weight_hh_l{i}"].T),
                weights[f"lstm_actor.bias_ih_l{i}"] + weights[f"lstm_actor.bias_hh_l{i}"],
            )
            for i in range(count)
        ]
        units = layers[0].from_hidden.shape[0]
        shapes = [(units, 4 * units), (4 * units,)]
        for i, layer in enumerate(layers):
            inputs = units if i else layer.from_input.shape[0]
            if [part.shape for part in layer] != [(inputs, 4 * units), *shapes]:
                raise ValueError(f"layer {i} of the LSTM has shapes {[part.shape for part in layer]}")
        return layers

    def step(self, x: Vector, hidden: Vector, cell: Vector) -> tuple[Vector, Vector]:
        """Hidden and cell state after rows of inputs."""
        gates = x @ self.from_input + hidden @ self.from_hidden + self.bias
        admit, keep, new, show = np.split(gates, 4, axis=1)
        after = _sigmoid(keep) * cell + _sigmoid(admit) * np.tanh(new)
        return _sigmoid(show) * np.tanh(after), after
