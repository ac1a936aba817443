"""Hyperparameters from YAML in the form of RL Baselines3 Zoo, checked, and read without evaluating anything in it."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from sb3_contrib import TQC, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnvWrapper
from torch import nn

from agents.actors import find_actor
from baselines.checks import check_positive, naming
from coinfer_gym.checks import check_flag, check_number, check_whole
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.files import read_yaml
from coinfer_gym.named_wrappers import Wrappers, check_wrappers
from coinfer_gym.sb3_rewards import LagrangianPenalties, PayDelivered

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
    f"coinfer_gym.sb3_rewards.{wrapper.__name__}": wrapper for wrapper in (LagrangianPenalties, PayDelivered)
}
"""What ``vec_env_wrapper`` may ask for."""

_LISTED = {"dqn": "DQN", "maskable_ppo": "MaskablePPO"}  # these choose from a list of actions and nothing else
_NOISY = ("sac", "tqc", "td3", "ddpg")  # these take `noise_type` and real actions only
_SCHEDULED = ("learning_rate", "clip_range", "clip_range_vf")
_REFUSED = (
    *("env", "seed", "tensorboard_log", "verbose", "device", "_init_setup_model", "stats_window_size"),  # of the run
    *("use_sde", "sde_sample_freq", "use_sde_at_warmup"),  # `agents.policy` draws independent noise
    *("policy", "policy_kwargs", "action_noise", "replay_buffer_class", "replay_buffer_kwargs"),  # objects
    *("rollout_buffer_class", "rollout_buffer_kwargs"),
)
_OWN = ("n_timesteps", "n_envs", "policy", "policy_kwargs", "env_wrapper", "vec_env_wrapper", "warmup")
_NOISE = ("noise_type", "noise_std")
_REFUSED_BY_POLICY = (
    *("observation_space", "action_space", "lr_schedule", "use_sde", "self"),
    *("features_extractor_class", "features_extractor_kwargs", "normalize_images", "optimizer_class"),
    "lstm_kwargs",  # `agents.policy` has the plain LSTM only
)
_RANGES = (  # of numbers by name; the last line is for all others
    (("learning_rate", "gamma", "gae_lambda", "tau"), 0.0, 1.0),
    (("exploration_fraction", "exploration_initial_eps", "exploration_final_eps"), 0.0, 1.0),
    (("batch_size", "buffer_size", "n_steps", "train_freq", "target_update_interval"), 1, 10**8),
    (("n_epochs", "policy_delay", "n_critics", "n_lstm_layers"), 1, 1000),
    (("n_quantiles", "lstm_hidden_size"), 1, 10_000),
    (("gradient_steps",), -1, 10**6),
    (("log_std_init", "target_entropy"), -1e3, 1e3),
    ((), 0, 10**9),
)


@dataclass(frozen=True)
class Hyperparameters:
    """What a model is built from, as plain values.

    `vec_env_wrapper` maps one of `PENALTIES` to its arguments, or is empty. In the `warmup` decisions at the beginning
    only the critic or value network learns. `policy_kwargs` has the activation function by its name, `arguments` of the
    algorithm schedules as written (``"lin_3e-4"``).
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
        own = {
            "env_wrapper": self.env_wrapper,
            "vec_env_wrapper": self.vec_env_wrapper,
            "warmup": self.warmup,
            "noise_type": self.noise_std and "normal",
            "noise_std": self.noise_std,
        }
        head = {"n_timesteps": self.n_timesteps, "n_envs": self.n_envs, "policy": self.policy}
        chosen = {name: value for name, value in own.items() if value}
        return head | chosen | self.arguments | {"policy_kwargs": self.policy_kwargs}

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
    """Hyperparameters of an environment from a YAML file keyed by environment id, and `overrides` in their place.

    The entry ``default`` is for every environment without an entry. `InvalidInputError` is raised if the file cannot be
    read, has no entry for the environment, or `parse_hyperparameters` refuses it.
    """
    content = read_yaml(Path(path), "hyperparameters")
    key = env_id if env_id in content else "default"
    if key not in content:
        raise InvalidInputError(f"{path}: environment", env_id, nearest(env_id, [str(name) for name in content]))
    entry = content[key]
    if not isinstance(entry, dict):
        raise InvalidInputError(f"{path}: {key}", entry, "Give a mapping of hyperparameter to value.")
    return parse_hyperparameters(entry | dict(overrides or {}), algo, str(path))


def parse_hyperparameters(entry: Mapping[str, Any], algo: str, origin: str) -> Hyperparameters:
    """Check the hyperparameters of one entry, as in the files of RL Baselines3 Zoo, and ``warmup``.

    ``policy_kwargs`` is a mapping or the Zoo's string ``"dict(...)"``, which is parsed and not evaluated. Errors begin
    with `origin`, the name of the file; they tell unknown keys and values of a wrong kind or out of range.
    """
    find_actor(algo)
    rest = {str(name): value for name, value in entry.items()}
    policy = rest.pop("policy", find_policy(algo))
    if policy != find_policy(algo):
        remedy = f"Observations are vectors: use {find_policy(algo)!r}."
        raise InvalidInputError(f"{origin}: policy", policy, remedy)
    if rest.pop("normalize", False):
        raise InvalidInputError(f"{origin}: normalize", True, "Observations are in [-1, 1] already: leave it out.")
    with naming(f"{origin}: env_wrapper"):
        wrappers = check_wrappers(rest.pop("env_wrapper", None))
    warmup = check_whole(f"{origin}: warmup", rest.pop("warmup", 0), 0, 10**12)
    if warmup and algo == "dqn":
        raise InvalidInputError(f"{origin}: warmup", warmup, "DQN has no actor beside its values: leave it out.")
    return Hyperparameters(
        n_timesteps=check_whole(f"{origin}: n_timesteps", rest.pop("n_timesteps", None), 1, 10**12),
        n_envs=check_whole(f"{origin}: n_envs", rest.pop("n_envs", 1), 1, 100_000),
        policy=policy,
        env_wrapper=wrappers,
        vec_env_wrapper=_penalties(rest.pop("vec_env_wrapper", None), origin),
        warmup=warmup,
        noise_std=_noise(rest, algo, origin),
        policy_kwargs=_policy_kwargs(rest.pop("policy_kwargs", {}), algo, origin),
        arguments=_arguments(rest, algo, origin),
    )


def find_policy(algo: str) -> str:
    """Kind of policy that an algorithm has for observations that are vectors."""
    return "MlpLstmPolicy" if algo == "recurrent_ppo" else "MlpPolicy"


def check_actions(algo: str, action_space: spaces.Space[Any]) -> None:
    """Raise `InvalidInputError` unless an algorithm can choose such actions."""
    listed = isinstance(action_space, spaces.Discrete)
    if algo in _LISTED and not listed:
        remedy = f"{_LISTED[algo]} chooses from a list: add coinfer_gym.laim.wrappers.DiscreteActions to the wrappers."
        raise InvalidInputError("wrapper", action_space, remedy)
    if algo in _NOISY and listed:
        remedy = f"{algo.upper()} chooses real numbers: leave DiscreteActions out of the wrappers."
        raise InvalidInputError("wrapper", action_space, remedy)


def _penalties(given: Any, origin: str) -> dict[str, dict[str, float]]:
    """One of `PENALTIES` by its name, or as a mapping from the name to its arguments, which are positive numbers."""
    if not given:
        return {}
    content = {given: None} if isinstance(given, str) else given
    name, options = next(iter(content.items())) if isinstance(content, Mapping) and len(content) == 1 else ("", None)
    name = str(name).replace("agents.vec_env.", "coinfer_gym.sb3_rewards.")  # before version 0.2
    if name not in PENALTIES:
        remedy = f"Give one of {', '.join(PENALTIES)}, alone or as a mapping to its arguments."
        raise InvalidInputError(f"{origin}: vec_env_wrapper", given, remedy)
    known = list(inspect.signature(PENALTIES[name]).parameters)[1:]
    if not isinstance(options or {}, Mapping) or not set(options or {}) <= set(known):
        raise InvalidInputError(f"{origin}: {name}", options, f"Give a mapping of {', '.join(known)} to numbers.")
    return {name: {key: check_positive(f"{origin}: {name}: {key}", value) for key, value in (options or {}).items()}}


def _noise(rest: dict[str, Any], algo: str, origin: str) -> float | None:
    """Take ``noise_type`` and ``noise_std`` out of the hyperparameters of an algorithm that explores by noise."""
    if algo not in _NOISY or rest.get("noise_type") is None:
        return None
    kind = rest.pop("noise_type")
    if kind != "normal":
        raise InvalidInputError(f"{origin}: noise_type", kind, "Give 'normal'.")
    return check_positive(f"{origin}: noise_std", rest.pop("noise_std", None))


def _policy_kwargs(given: Any, algo: str, origin: str) -> dict[str, Any]:
    content = _parse_dict(given, origin) if isinstance(given, str) else given
    if not isinstance(content, Mapping):
        raise InvalidInputError(f"{origin}: policy_kwargs", given, "Give a mapping, or the string 'dict(...)'.")
    policies: dict[str, type[BasePolicy]] = ALGORITHMS[algo].policy_aliases
    parameters = inspect.signature(policies[find_policy(algo)].__init__).parameters
    known = [name for name in parameters if name not in _REFUSED_BY_POLICY]
    for name, value in content.items():
        if name not in known:
            raise InvalidInputError(f"{origin}: policy_kwargs of {algo.upper()}", name, nearest(str(name), known))
        _check_value(f"{origin}: {name}", name, value, parameters[name])
    return dict(content)


def _parse_dict(text: str, origin: str) -> dict[str, Any]:
    """Content of ``"dict(net_arch=[64, 64], activation_fn=nn.ReLU)"``; only literals and activations are accepted."""
    try:
        return dict(_literal(ast.parse(text.strip(), mode="eval").body))
    except (SyntaxError, ValueError, TypeError) as error:
        remedy = "Write dict(...) with literals and activations such as nn.ReLU; or give a mapping."
        raise InvalidInputError(f"{origin}: policy_kwargs", text, remedy) from error


def _literal(node: ast.expr) -> Any:
    """Value of an expression of ``dict(...)``, lists, dictionaries, literals and ``nn.<activation>``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        if any(item.arg is None for item in node.keywords):
            raise ValueError("** is not accepted")
        return {str(item.arg): _literal(item.value) for item in node.keywords}
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_literal, node.values), strict=True))
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nn":
        return node.attr.lower()
    return ast.literal_eval(node)


def _arguments(rest: Mapping[str, Any], algo: str, origin: str) -> dict[str, Any]:
    """Arguments of the algorithm's constructor, except objects and what the run decides."""
    parameters = inspect.signature(ALGORITHMS[algo]).parameters
    known = [name for name in parameters if name not in _REFUSED]
    for name, value in rest.items():
        if name not in known:
            hint = nearest(name, [*known, *_OWN, *(_NOISE if algo in _NOISY else ())])
            raise InvalidInputError(f"{origin}: hyperparameter of {algo.upper()}", name, hint)
        _check_value(f"{origin}: {name}", name, value, parameters[name])
    return dict(rest)


def _check_value(where: str, name: str, value: Any, parameter: inspect.Parameter) -> None:
    """Raise `InvalidInputError` unless a value is of the kind that stable-baselines3 annotates, and in its range."""
    kinds = str(parameter.annotation)
    if value is None and ("None" in kinds or name == "activation_fn"):
        return
    if name == "activation_fn":
        if value not in tuple(ACTIVATIONS):
            raise InvalidInputError(where, value, nearest(str(value), ACTIVATIONS))
    elif name == "net_arch":
        _check_layers(where, value, "dict" in kinds)
    elif "dict" in kinds:
        if not isinstance(value, Mapping):
            raise InvalidInputError(where, value, "Give a mapping.")
    elif "bool" in kinds:
        check_flag(where, value)
    elif isinstance(value, str) and "str" in kinds:
        if value != "auto" and not (value.startswith("auto_") and _is_float(value[5:])):
            raise InvalidInputError(where, value, "Give a number, 'auto' or 'auto_<start>'.")
    elif isinstance(value, str) and name in _SCHEDULED:
        if not value.startswith("lin_") or not _is_float(value[4:]):
            raise InvalidInputError(where, value, "Give a number, or 'lin_<start>' for a line from there to 0.")
        _check_value(where, name, float(value[4:]), parameter)
    elif isinstance(value, (list, tuple)) and "tuple" in kinds:
        if len(value) != 2 or value[1] not in ("step", "episode"):
            raise InvalidInputError(where, value, "Give a number, or a pair such as [1, step].")
        _check_value(where, name, value[0], parameter)
    else:
        low, high = next((low, high) for names, low, high in _RANGES if name in names or not names)
        if "float" in kinds:
            check_number(where, value, low, high)
        else:
            check_whole(where, value, int(low), int(high))


def _check_layers(where: str, value: Any, nested: bool) -> None:
    """Raise `InvalidInputError` unless the value is a list of widths, or if `nested` a mapping of such lists."""
    for layers in value.values() if nested and isinstance(value, Mapping) else [value]:
        if not isinstance(layers, (list, tuple)):
            raise InvalidInputError(where, value, "Give a list of widths such as [64, 64], or {pi: [64], vf: [64]}.")
        for width in layers:
            check_whole(where, width, 1, 100_000)


def _is_float(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _schedule(value: Any) -> Any:
    """A number as it is, ``lin_<start>`` as a line that reaches 0 at the end of training."""
    return LinearSchedule(float(value[4:]), 0.0, 1.0) if isinstance(value, str) else value
