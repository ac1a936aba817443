"""Acting with a trained agent: its actor in NumPy, loaded from weights alone, without torch."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.laim.named_wrappers import wrap

__all__ = [
    "AGENT_FILE",
    "Actor",
    "Agent",
    "actor_layers",
    "actor_weights",
    "find_actor",
    "load_agent",
    "read_agent",
    "save_agent",
]

Vector = NDArray[np.float32]
Layer = tuple[Vector, Vector]
State = tuple[NDArray[Any], ...]

AGENT_FILE = "agent.safetensors"
"""Name of an agent's file in the folder of its run."""

_FORMAT = 1
_LOG_STD_LOW, _LOG_STD_HIGH = -20.0, 2.0  # as in the actors of SAC and TQC
# Arrays of no dimension: NumPy takes twice as long to make sense of a number.
_ZERO, _LOW, _HIGH = (np.array(value, np.float32) for value in (0.0, -1.0, 1.0))


@dataclass(frozen=True)
class Actor:
    """Where the actor of an algorithm stands in its policy, and how it acts.

    Attributes
    ----------
    parts : tuple of str
        What the names of its tensors begin with.
    hidden : str
        Sequence of layers.
    last : str or None
        Layer of the actions; None where it is the last of the sequence.
    activation : str
        Of the algorithm by default.
    squashed : bool
        Whether actions pass through tanh instead of being clipped.
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
_VALUES = Actor(("q_net.",), "q_net.q_net.", None, "relu", False)
_ACTORS = {
    "ppo": _ACTOR_CRITIC,
    "a2c": _ACTOR_CRITIC,
    "maskable_ppo": _ACTOR_CRITIC,
    "recurrent_ppo": _ACTOR_CRITIC,
    "sac": _STOCHASTIC,
    "tqc": _STOCHASTIC,
    "td3": _DETERMINISTIC,
    "ddpg": _DETERMINISTIC,
    "dqn": _VALUES,
}


def _relu(x: Vector, out: Vector | None = None) -> Vector:
    y: Vector = np.maximum(x, _ZERO, out=out)
    return y


def _elu(x: Vector, out: Vector | None = None) -> Vector:
    negative: Any = np.expm1(np.minimum(x, np.float32(0.0)))
    return cast("Vector", np.maximum(x, negative, out=out))


def _silu(x: Vector, out: Vector | None = None) -> Vector:
    return cast("Vector", np.multiply(x, _sigmoid(x), out=out))


def _sigmoid(x: Vector) -> Vector:
    y: Vector = np.float32(0.5) * (np.float32(1.0) + np.tanh(np.float32(0.5) * x))  # exp(-x) would overflow
    return y


_ACTIVATIONS: dict[str, Callable[..., Vector]] = {"tanh": np.tanh, "relu": _relu, "elu": _elu, "silu": _silu}


class Agent:
    """A trained actor; acts as the model of stable-baselines3 or sb3-contrib that it was trained as.

    Agents that were trained inside wrappers of actions answer in the actions of these until they are bound to the
    environment without them: from then on they choose actions of that environment, one task at a time.

    Parameters
    ----------
    algo : str
        PPO and A2C clip a Gaussian to the bounds of the actions or choose from a list, SAC and TQC squash theirs by
        tanh, TD3 and DDPG have no noise, DQN takes the action of the highest value; ``recurrent_ppo`` has an LSTM
        before the layers, ``maskable_ppo`` chooses among what the environment allows.
    weights : mapping of str to ndarray
        Tensors of the actor by their names in the policy's ``state_dict()``.
    activation : str, optional
        Between the layers; the algorithm's own where not given.
    config : mapping, optional
        Of the run.
    seed : int
        Of the agent's own noise.

    Attributes
    ----------
    algo : str
    config : dict
        Environment, its keywords, and the wrappers that the agent was trained in.

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
        seed: int = 0,
    ) -> None:
        actor = find_actor(algo)
        function = activation or actor.activation
        if function not in _ACTIVATIONS:
            raise InvalidInputError("activation", function, nearest(str(function), _ACTIVATIONS))
        own = actor_weights(algo, weights)
        self.algo = algo
        self.config = dict(config or {})
        try:
            self._memory = _read_memory(own) if algo == "recurrent_ppo" else []
            *hidden, last = actor_layers(algo, own)
            self._log_std = _layer(own, "actor.log_std") if actor is _STOCHASTIC else own.get("log_std")
        except (KeyError, IndexError) as error:
            raise InvalidInputError("weights", sorted(own), f"This is no actor of {algo}: {error}.") from error
        self._network = _Network(hidden, last, _ACTIVATIONS[function])
        self._inputs = self._memory[0].inputs if self._memory else self._network.inputs
        self._shape = (self._inputs,)
        self._squashed = actor.squashed
        self._discrete = actor is _VALUES or (actor is _ACTOR_CRITIC and self._log_std is None)
        self._random = np.random.default_rng(seed)
        self._layers: list[Any] = []
        self._masks: Callable[[], NDArray[np.bool_]] | None = None

    @property
    def uses(self) -> str:
        """What decisions are based on, see `baselines.policy.Policy`; the wrappers of a bound agent read the task."""
        return "problem and observation" if self._layers else "observation"

    def seed(self, seed: int) -> None:
        """Begin the agent's noise anew."""
        self._random = np.random.default_rng(seed)

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on, through the wrappers that the agent was trained in.

        An environment whose actions are wrapped already is taken as it is.

        Raises
        ------
        InvalidInputError
            If observations or actions are not those that the agent has learned with.
        """
        plain = env.action_space == env.unwrapped.action_space
        wrapped = wrap(env, self.config.get("wrapper")) if plain else env
        found = (wrapped.observation_space.shape, _size(wrapped.action_space))
        known = (self._shape, ((), self._network.outputs) if self._discrete else ((self._network.outputs,), 0))
        if found != known:
            here, there = (f"observations of shape {size[0]}, actions {_tell(size[1])}" for size in (found, known))
            world = self.config.get("env_kwargs", "another environment")
            raise InvalidInputError("env", here, f"The agent has learned with {there}, in {world}.")
        layers: list[Any] = []
        inner: Any = wrapped
        while inner is not env:
            layers.append(inner)
            inner = inner.env
        self._layers = layers
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
        """Action for an observation, or one per row of a batch.

        Parameters
        ----------
        observation : ndarray, shape (n_obs,) or (n, n_obs)
        state : tuple of ndarray, optional
            Memory of a recurrent agent; any other passes it through.
        episode_start : ndarray of bool, shape (n,), optional
            Where a memory is cleared.
        deterministic : bool
            Take the mode instead of a draw.
        action_masks : ndarray of bool, optional
            Actions that ``maskable_ppo`` may take; where not given, those of the bound environment.

        Returns
        -------
        action : ndarray
            Of float32 and shape (n_act,) or (n, n_act), or whole numbers of shape () or (n,).
        state : tuple of ndarray or None
            To hand over to the next call.

        Raises
        ------
        InvalidInputError
            If observations have another length than those the agent has learned with, or a batch is given to an agent
            that decides by the task at hand.
        """
        x: Vector = np.asarray(observation, np.float32)
        single = x.shape == self._shape
        if not single and (x.ndim != 2 or x.shape[1] != self._inputs):
            raise InvalidInputError("observation", np.shape(x), f"Give {self._inputs} numbers, or rows of them.")
        if self._masks is not None and action_masks is None:
            action_masks = self._masks()
        if single and deterministic and not self._memory:
            action = self._mode(self._network.row(x), action_masks)
        else:
            rows = x[None] if single else x
            features = rows
            if self._memory:
                features, state = self._remember(rows, state, episode_start)
            actions = self._choose(features, deterministic, action_masks)
            action = actions[0] if single else actions
        return (self._unwrap(action, single) if self._layers else action), state

    def _remember(
        self, rows: Vector, state: State | None, episode_start: NDArray[Any] | None
    ) -> tuple[Vector, tuple[Vector, Vector]]:
        """Output of the LSTM, and its hidden and cell states, of shape (layers, n, units)."""
        if state is None:
            hidden = np.zeros((len(self._memory), len(rows), self._memory[0].units), np.float32)
            cell = hidden.copy()
        else:
            hidden, cell = (np.array(part, np.float32) for part in state)
            if episode_start is not None:
                going = 1.0 - np.asarray(episode_start, np.float32).reshape(1, -1, 1)
                hidden, cell = hidden * going, cell * going
        features = rows
        for i, layer in enumerate(self._memory):
            features, cell[i] = layer.step(features, hidden[i], cell[i])
            hidden[i] = features
        return features, (hidden, cell)

    def _choose(self, features: Vector, deterministic: bool, masks: NDArray[np.bool_] | None) -> NDArray[Any]:
        hidden = self._network.hidden(features)
        values = self._network.last(hidden)
        if deterministic or self._log_std is None:
            if not deterministic and self._discrete and self.algo != "dqn":
                values = values + self._random.gumbel(size=values.shape).astype(np.float32)
            return self._mode(values, masks)
        noise = self._random.standard_normal(values.shape, dtype=np.float32)
        noise *= np.exp(self._spread(hidden))
        return self._mode(values + noise, None)

    def _mode(self, values: Vector, masks: NDArray[np.bool_] | None) -> NDArray[Any]:
        """Actions of what the last layer says."""
        if self._squashed:
            squashed: Vector = np.tanh(values)
            return squashed
        if not self._discrete:
            clipped: Vector = np.minimum(np.maximum(values, _LOW), _HIGH)
            return clipped
        if self.algo == "maskable_ppo" and masks is not None:
            values = np.where(masks, values, np.float32(-np.inf))
        return np.asarray(values.argmax(axis=-1))

    def _spread(self, hidden: Vector) -> Vector:
        if isinstance(self._log_std, tuple):
            values = hidden @ self._log_std[0].T + self._log_std[1]
            clipped: Vector = np.clip(values, _LOG_STD_LOW, _LOG_STD_HIGH)
            return clipped
        return cast("Vector", self._log_std)

    def _unwrap(self, action: NDArray[Any], single: bool) -> NDArray[Any]:
        """The agent's action as one of the bound environment."""
        if not single:
            if len(action) != 1:
                raise InvalidInputError(
                    "observation", f"a batch of {len(action)}", "In its wrappers the agent plays one task at a time."
                )
            action = action[0]
        for layer in self._layers:
            if hasattr(layer, "keep"):
                action = layer.keep(action)
            elif isinstance(layer, gym.ActionWrapper):
                action = layer.action(action)
        return action if single else action[None]


class _Network:
    """Layers with an activation between them, for batches, and for one row without making an array.

    Parameters
    ----------
    hidden : list of (weight, bias)
    last : (weight, bias)
    activation : callable
        With an argument for its output.
    """

    def __init__(self, hidden: Sequence[Layer], last: Layer, activation: Callable[..., Vector]) -> None:
        layers = [*hidden, last]
        self._hidden = [(np.ascontiguousarray(weight.T), bias) for weight, bias in hidden]
        self._last = (np.ascontiguousarray(last[0].T), last[1])
        self._activation = activation
        self.inputs, self.outputs = layers[0][0].shape[1], last[0].shape[0]
        # One row: a bias is one more column of the weights and meets a constant 1 behind the inputs.
        self._slots = [np.ones(weight.shape[1] + 1, np.float32) for weight, _ in layers]
        self._matrices = [np.ascontiguousarray(np.column_stack(layer)) for layer in layers]
        ends = [slot[:-1] for slot in self._slots[1:]]
        self._input = self._slots[0][:-1]
        self._steps = list(zip(self._matrices[:-1], self._slots[:-1], ends, strict=True))

    def row(self, x: Vector) -> Vector:
        """Output for one row of inputs."""
        self._input[:] = x
        for matrix, slot, out in self._steps:
            np.dot(matrix, slot, out)
            self._activation(out, out=out)
        y: Vector = np.dot(self._matrices[-1], self._slots[-1])
        return y

    def hidden(self, x: Vector) -> Vector:
        """What the last layer gets for a batch."""
        for weight, bias in self._hidden:
            x = self._activation(x @ weight + bias)
        return x

    def last(self, features: Vector) -> Vector:
        """The last layer of a batch."""
        y: Vector = features @ self._last[0] + self._last[1]
        return y


@dataclass(frozen=True)
class _Memory:
    """A layer of an LSTM; gates in the order of torch: input, forget, cell, output."""

    from_input: Vector
    from_hidden: Vector
    bias: Vector

    @property
    def inputs(self) -> int:
        return int(self.from_input.shape[0])

    @property
    def units(self) -> int:
        return int(self.from_hidden.shape[0])

    def step(self, x: Vector, hidden: Vector, cell: Vector) -> tuple[Vector, Vector]:
        """Hidden and cell state after a batch of inputs."""
        gates = x @ self.from_input + hidden @ self.from_hidden + self.bias
        let, keep, new, show = np.split(gates, 4, axis=1)
        after = _sigmoid(keep) * cell + _sigmoid(let) * np.tanh(new)
        return _sigmoid(show) * np.tanh(after), after


def load_agent(path: str | Path, seed: int = 0) -> Agent:
    """Trained agent of a run.

    Parameters
    ----------
    path : str or Path
        Folder of the run, or its ``agent.safetensors``. Only weights are read: no code in the file can run.
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
    weights, about = read_agent(path)
    return Agent(about["algo"], weights, about["activation"], about["config"], seed)


def save_agent(
    path: Path,
    algo: str,
    weights: Mapping[str, Any],
    config: Mapping[str, Any],
    activation: str | None = None,
    timesteps: int = 0,
) -> None:
    """Write an agent's file, all of it or nothing.

    Parameters
    ----------
    path : Path
    algo : str
    weights : mapping of str to ndarray or Tensor
        State of the policy's network; only the actor's part is kept.
    config : mapping
        Of the run, plain values: ``env``, ``env_kwargs`` and ``wrapper`` are what others read of it.
    activation : str, optional
        The algorithm's own where not given.
    timesteps : int
        Decisions that the agent was trained for.
    """
    from safetensors.numpy import save

    from baselines.output import write_bytes

    actor = actor_weights(algo, weights)
    about = {
        "format": _FORMAT,
        "algo": algo,
        "activation": activation or _ACTORS[algo].activation,
        "timesteps": timesteps,
        "crc32": _checksum(actor),
        "config": dict(config),
    }
    write_bytes(path, save(actor, {"agent": json.dumps(about)}))


def read_agent(path: str | Path) -> tuple[dict[str, Vector], dict[str, Any]]:
    """Content of an agent's file.

    Parameters
    ----------
    path : str or Path
        The file, or the folder of its run.

    Returns
    -------
    weights : dict of ndarray
        Tensors of the actor by their names in the policy's ``state_dict()``.
    about : dict
        ``algo``, ``activation``, ``timesteps`` and ``config``.

    Raises
    ------
    InvalidInputError
        If there is none, or it is damaged or of another kind.
    """
    from safetensors import safe_open

    file = Path(path) / AGENT_FILE if Path(path).is_dir() else Path(path)
    remedy = "Train the agent again, or take it from its checkpoint by --resume."
    try:
        with safe_open(file, framework="numpy") as content:
            about = json.loads((content.metadata() or {})["agent"])
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118  it is no mapping
        whole = about["crc32"] == _checksum(weights) and {"algo", "activation", "config"} <= set(about)
        version = about["format"]
    except FileNotFoundError as error:
        raise InvalidInputError("file", str(file), f"There is no such file. {remedy}") from error
    except Exception as error:  # whatever a damaged file makes the readers say
        raise InvalidInputError("file", str(file), f"It is damaged or of another kind. {remedy}") from error
    if version != _FORMAT:
        raise InvalidInputError("file", str(file), f"It is not of format {_FORMAT}. {remedy}")
    if not whole:
        raise InvalidInputError("file", str(file), f"It is damaged. {remedy}")
    return weights, about


def actor_weights(algo: str, weights: Mapping[str, Any]) -> dict[str, Vector]:
    """The actor's part of a policy's ``state_dict()``, as arrays.

    Raises
    ------
    InvalidInputError
        If the algorithm is unknown.
    """
    parts = find_actor(algo).parts
    return {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items() if name.startswith(parts)}


def default_activation(algo: str) -> str:
    """Activation that the policies of an algorithm have where no other is asked for."""
    return find_actor(algo).activation


def is_actor(algo: str, name: str) -> bool:
    """Whether a tensor of a policy belongs to its actor."""
    return name.startswith(find_actor(algo).parts)


def find_actor(algo: str) -> Actor:
    """Form of the actor of an algorithm.

    Raises
    ------
    InvalidInputError
        If there is no such algorithm.
    """
    if algo not in _ACTORS:
        raise InvalidInputError("algo", algo, nearest(str(algo), _ACTORS))
    return _ACTORS[algo]


def _read_memory(weights: Mapping[str, Vector]) -> list[_Memory]:
    count = sum(name.startswith("lstm_actor.weight_ih_l") for name in weights)
    return [
        _Memory(
            np.ascontiguousarray(weights[f"lstm_actor.weight_ih_l{i}"].T),
            np.ascontiguousarray(weights[f"lstm_actor.weight_hh_l{i}"].T),
            weights[f"lstm_actor.bias_ih_l{i}"] + weights[f"lstm_actor.bias_hh_l{i}"],
        )
        for i in range(max(count, 1))
    ]


def actor_layers(algo: str, weights: Mapping[str, Vector]) -> list[Layer]:
    """Weights and biases from the observation, or the memory, to the action.

    Parameters
    ----------
    algo : str
    weights : mapping of str to ndarray
        See `actor_weights`.

    Raises
    ------
    KeyError
        If a tensor is missing.
    """
    actor = find_actor(algo)
    layers = _stack(weights, actor.hidden)
    return layers if actor.last is None else [*layers, _layer(weights, actor.last)]


def _stack(weights: Mapping[str, Vector], prefix: str) -> list[Layer]:
    """Layers of a sequence in its order; activations between them have no weights."""
    places = sorted(int(name.split(".")[-2]) for name in weights if name.startswith(prefix) and name.endswith("weight"))
    return [_layer(weights, f"{prefix}{place}") for place in places]


def _layer(weights: Mapping[str, Vector], name: str) -> Layer:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _tell(size: tuple[tuple[int, ...] | None, int]) -> str:
    """A space of actions as `_size` gives it, in words."""
    shape, listed = size
    return f"listed up to {listed}" if listed else f"of shape {shape}"


def _size(space: Any) -> tuple[tuple[int, ...] | None, int]:
    """Shape of a space of actions, and how many it lists where it does."""
    return space.shape, int(getattr(space, "n", 0))


def _checksum(weights: Mapping[str, Vector]) -> int:
    """Of all tensors; the file format itself has none."""
    value = 0
    for name in sorted(weights):
        value = zlib.crc32(weights[name].tobytes(), zlib.crc32(name.encode(), value))
    return value
