"""Hyperparameters from YAML in the form of RL Baselines3 Zoo, checked, and read without evaluating anything in it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from gymnasium import spaces
from sb3_contrib import TQC, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnvWrapper
from torch import nn

from agents.vec_env import CompressPenalties, LagrangianPenalties, PayDelivered
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.laim.named_wrappers import Wrappers, check_wrappers

__all__ = ["ACTIVATIONS", "ALGORITHMS", "Hyperparameters", "load_hyperparameters", "parse_hyperparameters"]

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "ppo": PPO,
    "a2c": A2C,
    "sac": SAC,
    "td3": TD3,
    "ddpg": DDPG,
    "dqn": DQN,
    "tqc": TQC,
    "recurrent_ppo": RecurrentPPO,
    "maskable_ppo": MaskablePPO,
}
"""Algorithms by the name of their file of hyperparameters; the Zoo calls ``recurrent_ppo`` ``ppo_lstm``."""

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}
"""Activation functions by name."""

PENALTIES: dict[str, Callable[..., VecEnvWrapper]] = {
    "agents.vec_env.CompressPenalties": CompressPenalties,
    "agents.vec_env.LagrangianPenalties": LagrangianPenalties,
    "agents.vec_env.PayDelivered": PayDelivered,
}
"""What ``vec_env_wrapper`` may ask for."""

_LAGRANGIAN = "agents.vec_env.LagrangianPenalties"
_LISTED = {"dqn": "DQN", "maskable_ppo": "MaskablePPO"}  # these choose from a list of actions and nothing else
_EXPLORING = ("sac", "tqc", "td3", "ddpg")
_SCHEDULED = ("learning_rate", "clip_range", "clip_range_vf")
_OF_THE_RUN = ("env", "seed", "tensorboard_log", "verbose", "device", "_init_setup_model", "stats_window_size")
_STATE_DEPENDENT_NOISE = ("use_sde", "sde_sample_freq", "use_sde_at_warmup")  # `agents.policy` draws independent noise
_OBJECTS = ("policy", "policy_kwargs", "action_noise", "replay_buffer_class", "replay_buffer_kwargs")
_OBJECTS_OF_PPO = ("rollout_buffer_class", "rollout_buffer_kwargs")
_OWN = ("n_timesteps", "n_envs", "policy", "policy_kwargs", "env_wrapper", "vec_env_wrapper", "lagrangian", "warmup")
_NOISE = ("noise_type", "noise_std")
_POLICY_OBJECTS = ("observation_space", "action_space", "lr_schedule", "use_sde", "self")
_NOT_FOR_VECTORS = (
    *("features_extractor_class", "features_extractor_kwargs", "normalize_images", "optimizer_class"),
    "lstm_kwargs",  # `agents.policy` knows the plain LSTM
)


@dataclass(frozen=True)
class Hyperparameters:
    """What a model is built from, as plain values.

    Attributes
    ----------
    n_timesteps : int
        Decisions to train for.
    n_envs : int
        Lanes.
    policy : str
        Kind of policy.
    env_wrapper : list of dict
        Wrappers around every environment, see `coinfer_gym.laim.named_wrappers`.
    vec_env_wrapper : dict
        One of `PENALTIES` around the lanes in training, by name, and its arguments; empty for none.
    warmup : int
        Decisions in which the actor stays as it began and only the critic or value network learns.
    noise_std : float or None
        Of Gaussian noise on the actions in training, in the Zoo's form ``noise_type: normal`` and ``noise_std``.
    policy_kwargs : dict
        Of the policy, with the activation function by its name.
    arguments : dict
        Of the algorithm, with schedules as written (``"lin_3e-4"``).
    """

    n_timesteps: int
    n_envs: int = 1
    policy: str = "MlpPolicy"
    env_wrapper: Wrappers = field(default_factory=list)
    vec_env_wrapper: dict[str, dict[str, float]] = field(default_factory=dict)
    warmup: int = 0
    noise_std: float | None = None
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """The mapping that `parse_hyperparameters` turns into an equal object."""
        head: dict[str, Any] = {"n_timesteps": self.n_timesteps, "n_envs": self.n_envs, "policy": self.policy}
        if self.env_wrapper:
            head["env_wrapper"] = [dict(item) for item in self.env_wrapper]
        if self.vec_env_wrapper:
            head["vec_env_wrapper"] = dict(self.vec_env_wrapper)
        if self.warmup:
            head["warmup"] = self.warmup
        if self.noise_std is not None:
            head |= {"noise_type": "normal", "noise_std": self.noise_std}
        return head | self.arguments | {"policy_kwargs": dict(self.policy_kwargs)}

    def build_arguments(self, action_space: spaces.Space[Any]) -> dict[str, Any]:
        """Keyword arguments of the algorithm's constructor over an environment of these actions."""
        arguments = {name: _schedule(value) if name in _SCHEDULED else value for name, value in self.arguments.items()}
        if isinstance(arguments.get("train_freq"), list):
            arguments["train_freq"] = tuple(arguments["train_freq"])
        policy_kwargs = dict(self.policy_kwargs)
        if "activation_fn" in policy_kwargs:
            policy_kwargs["activation_fn"] = ACTIVATIONS[policy_kwargs["activation_fn"]]
        if self.noise_std is not None:
            zeros = np.zeros(action_space.shape or ())
            arguments["action_noise"] = NormalActionNoise(zeros, zeros + self.noise_std)
        return {"policy": self.policy, "policy_kwargs": policy_kwargs, **arguments}


def load_hyperparameters(
    path: str | Path, algo: str, env_id: str, overrides: Mapping[str, Any] | None = None
) -> Hyperparameters:
    """Hyperparameters of an environment from a YAML file keyed by environment id.

    Parameters
    ----------
    path : str or Path
        The entry ``default`` stands in for an environment without one of its own.
    algo : str
        One of `ALGORITHMS`.
    env_id : str
    overrides : mapping, optional
        Values to set otherwise.

    Returns
    -------
    Hyperparameters

    Raises
    ------
    InvalidInputError
        If the file cannot be read, has no entry for the environment, or a key or value in it cannot be used.
    """
    content = read_mapping(path)
    key = env_id if env_id in content else "default"
    if key not in content:
        raise InvalidInputError(f"{path}: environment", env_id, nearest(env_id, [str(name) for name in content]))
    entry = content[key]
    if not isinstance(entry, dict):
        raise InvalidInputError(f"{path}: {key}", entry, "Give a mapping of hyperparameter to value.")
    return parse_hyperparameters(entry | dict(overrides or {}), algo, str(path))


def parse_hyperparameters(entry: Mapping[str, Any], algo: str, origin: str) -> Hyperparameters:
    """Checked hyperparameters of one entry.

    Parameters
    ----------
    entry : mapping
        As in the files of RL Baselines3 Zoo. ``policy_kwargs`` is a mapping or the Zoo's string ``"dict(...)"``, which
        is parsed, not evaluated. Beyond the Zoo there are ``warmup``, and ``lagrangian``, a short form of the
        ``vec_env_wrapper`` of that name that replaces any other.
    algo : str
        One of `ALGORITHMS`.
    origin : str
        Name of the file for errors.

    Returns
    -------
    Hyperparameters

    Raises
    ------
    InvalidInputError
        If a key is unknown, or a value cannot be used; it names the file and the nearest known key.
    """
    known = _argument_names(algo)
    rest = {str(name): value for name, value in entry.items()}
    steps = _number(rest.pop("n_timesteps", None), "n_timesteps", origin)
    lanes = _number(rest.pop("n_envs", 1), "n_envs", origin)
    policy = rest.pop("policy", find_policy(algo))
    if policy != find_policy(algo):
        remedy = f"Observations are vectors: use {find_policy(algo)!r}."
        raise InvalidInputError(f"{origin}: policy", policy, remedy)
    if rest.pop("normalize", False):
        raise InvalidInputError(f"{origin}: normalize", True, "Observations lie in [-1, 1] already: leave it out.")
    try:
        wrappers = check_wrappers(rest.pop("env_wrapper", None))
    except InvalidInputError as error:
        raise InvalidInputError(f"{origin}: env_wrapper: {error.field}", error.value, error.remedy) from error
    penalties = rest.pop("vec_env_wrapper", None)
    if "lagrangian" in rest:
        penalties = {_LAGRANGIAN: rest.pop("lagrangian")}
    noise = _noise(rest, algo, origin)
    warmup = _warmup(rest.pop("warmup", 0), algo, origin)
    policy_kwargs = _policy_kwargs(rest.pop("policy_kwargs", {}), algo, origin)
    for name in rest:
        if name not in known:
            hint = nearest(name, [*known, *_OWN, *(_NOISE if algo in _EXPLORING else ())])
            raise InvalidInputError(f"{origin}: hyperparameter of {algo.upper()}", name, hint)
    arguments = {name: _argument(name, value, origin) for name, value in rest.items()}
    chosen = _penalties(penalties, origin)
    return Hyperparameters(steps, lanes, policy, wrappers, chosen, warmup, noise, policy_kwargs, arguments)


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Content of a YAML file that holds a mapping.

    Raises
    ------
    InvalidInputError
        If there is no such file, or it holds something else.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError("file", str(path), f"It cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError("file", str(path), f"It is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise InvalidInputError("file", str(path), "It must hold a mapping.")
    return content


def find_algorithm(algo: str) -> type[BaseAlgorithm]:
    """Algorithm of a name.

    Raises
    ------
    InvalidInputError
        If there is none.
    """
    if algo not in ALGORITHMS:
        raise InvalidInputError("algo", algo, nearest(algo, ALGORITHMS))
    return ALGORITHMS[algo]


def find_policy(algo: str) -> str:
    """Kind of policy that an algorithm has for observations that are vectors."""
    return "MlpLstmPolicy" if find_algorithm(algo) is RecurrentPPO else "MlpPolicy"


def check_actions(algo: str, action_space: spaces.Space[Any]) -> None:
    """Raise `InvalidInputError` unless an algorithm can choose such actions."""
    listed = isinstance(action_space, spaces.Discrete)
    if algo in _LISTED and not listed:
        remedy = f"{_LISTED[algo]} chooses from a list: add coinfer_gym.laim.wrappers.DiscreteActions to the wrappers."
        raise InvalidInputError("wrapper", action_space, remedy)
    if algo in _EXPLORING and listed:
        remedy = f"{algo.upper()} chooses real numbers: leave DiscreteActions out of the wrappers."
        raise InvalidInputError("wrapper", action_space, remedy)


def _argument_names(algo: str) -> list[str]:
    """Plain hyperparameters of an algorithm: what its constructor takes, but for objects and what a run decides."""
    names = inspect.signature(find_algorithm(algo)).parameters
    return [name for name in names if name not in (*_OF_THE_RUN, *_STATE_DEPENDENT_NOISE, *_OBJECTS, *_OBJECTS_OF_PPO)]


def _policy_argument_names(algo: str) -> list[str]:
    policies: dict[str, type[BasePolicy]] = find_algorithm(algo).policy_aliases
    names = inspect.signature(policies[find_policy(algo)].__init__).parameters
    return [name for name in names if name not in (*_POLICY_OBJECTS, *_NOT_FOR_VECTORS)]


def _penalties(given: Any, origin: str) -> dict[str, dict[str, float]]:
    """One of `PENALTIES` by its name, or as a mapping of the name to its arguments, all of them positive numbers."""
    if not given:
        return {}
    content = {given: {}} if isinstance(given, str) else given
    if not isinstance(content, Mapping) or len(content) != 1 or not set(content) <= set(PENALTIES):
        remedy = f"Give one of {', '.join(PENALTIES)}, alone or as a mapping to its arguments."
        raise InvalidInputError(f"{origin}: vec_env_wrapper", given, remedy)
    name, options = next(iter(content.items()))
    known = list(inspect.signature(PENALTIES[name]).parameters)[1:]
    numbers = {key: _as_number(value) for key, value in (options or {}).items()} if _is_mapping(options) else None
    if numbers is None or not set(numbers) <= set(known) or any(not (value or 0.0) > 0.0 for value in numbers.values()):
        raise InvalidInputError(f"{origin}: {name}", options, f"Give {', '.join(known)}: positive numbers.")
    return {name: {key: float(value or 0.0) for key, value in numbers.items()}}


def _is_mapping(options: Any) -> bool:
    return options is None or isinstance(options, Mapping)


def _noise(rest: dict[str, Any], algo: str, origin: str) -> float | None:
    """Take ``noise_type`` and ``noise_std`` out of the hyperparameters of an algorithm that explores by noise."""
    if algo not in _EXPLORING or rest.get("noise_type") is None:
        return None
    kind, std = rest.pop("noise_type"), _as_number(rest.pop("noise_std", None))
    if kind != "normal":
        raise InvalidInputError(f"{origin}: noise_type", kind, "Give 'normal'.")
    if std is None or not std > 0.0:
        raise InvalidInputError(f"{origin}: noise_std", std, "Give a positive number.")
    return std


def _warmup(given: Any, algo: str, origin: str) -> int:
    number = _as_number(given)
    if number is None or number < 0 or number != int(number):
        raise InvalidInputError(f"{origin}: warmup", given, "Give a whole number of decisions.")
    if number and algo == "dqn":
        raise InvalidInputError(f"{origin}: warmup", given, "DQN has no actor beside its values: leave it out.")
    return int(number)


def _policy_kwargs(given: Any, algo: str, origin: str) -> dict[str, Any]:
    content = _parse_dict(given, origin) if isinstance(given, str) else given
    if not isinstance(content, Mapping):
        raise InvalidInputError(f"{origin}: policy_kwargs", given, "Give a mapping, or the string 'dict(...)'.")
    known = _policy_argument_names(algo)
    for name in content:
        if name not in known:
            raise InvalidInputError(f"{origin}: policy_kwargs of {algo.upper()}", name, nearest(str(name), known))
    activation = content.get("activation_fn")
    if activation is not None and activation not in ACTIVATIONS:
        raise InvalidInputError(f"{origin}: activation_fn", activation, nearest(str(activation), ACTIVATIONS))
    return dict(content)


def _parse_dict(text: str, origin: str) -> dict[str, Any]:
    """Content of ``"dict(net_arch=[64, 64], activation_fn=nn.ReLU)"``; only literals and activations are understood."""
    try:
        return dict(_plain(ast.parse(text.strip(), mode="eval").body))
    except (SyntaxError, ValueError, TypeError) as error:
        remedy = "Understood are dict(...) with literals and activations such as nn.ReLU; or give a mapping."
        raise InvalidInputError(f"{origin}: policy_kwargs", text, remedy) from error


def _plain(node: ast.expr) -> Any:
    """Value of an expression built of ``dict(...)``, displays, literals and ``nn.<activation>``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        return {_keyword(item): _plain(item.value) for item in node.keywords}
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_plain, node.values), strict=True))
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_plain(item) for item in node.elts]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nn":
        return node.attr.lower()
    return ast.literal_eval(node)


def _keyword(item: ast.keyword) -> str:
    if item.arg is None:
        raise ValueError("** is not understood")
    return item.arg


def _argument(name: str, value: Any, origin: str) -> Any:
    """Plain value of an argument; YAML 1.1 reads ``3e-4`` as a string."""
    number = _as_number(value)
    if name in _SCHEDULED and number is None and value is not None:
        _start(value, f"{origin}: {name}")
        return value
    if isinstance(value, str) and number is not None:
        return number
    if not isinstance(value, (str, int, float, list, dict, type(None))):
        raise InvalidInputError(f"{origin}: {name}", value, "Give a plain value.")
    return value


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _schedule(value: Any) -> Any:
    """A number as it is, ``lin_<start>`` as a line down to 0 at the end of training."""
    return LinearSchedule(_start(value, "schedule"), 0.0, 1.0) if isinstance(value, str) else value


def _start(value: Any, name: str) -> float:
    head, _, tail = str(value).partition("_")
    start = _as_number(tail)
    if not isinstance(value, str) or head != "lin" or start is None:
        raise InvalidInputError(name, value, "Give a number, or 'lin_<start>' for a line from there to 0.")
    return start


def _number(value: Any, name: str, origin: str) -> int:
    number = _as_number(value)
    if number is None or number < 1 or number != int(number):
        raise InvalidInputError(f"{origin}: {name}", value, "Give a whole number of at least 1.")
    return int(number)
