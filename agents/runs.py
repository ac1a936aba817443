"""A training run: its configuration, its folder, and the environment and model that are built from these."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.agent_file import AGENT_FILE
from agents.hyperparameters import (
    PENALTIES,
    Hyperparameters,
    check_actions,
    find_algorithm,
    load_hyperparameters,
    parse_hyperparameters,
)
from agents.hyperparameters import read_mapping as _read_mapping
from baselines.family import Family, family_of, scenario_of
from baselines.output import git_revision, versions
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.laim.named_wrappers import Wrappers, check_wrappers
from coinfer_gym.sb3 import NativeVecEnv, make_native

__all__ = ["RunConfig", "build_env", "build_model", "open_folder", "read_config"]

ROOT = Path(__file__).resolve().parent.parent

_MOST = 1_000_000_000  # seeds from here on belong to held-out worlds
_OWN_FILES = ("config.yaml", "origin.yaml", "evaluations.csv", AGENT_FILE, "results.json")
_OWN_FOLDERS = ("checkpoints", "tensorboard")


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run is rebuilt from; the fields are the options of ``python -m agents.train``.

    Attributes
    ----------
    algo : str
        One of `agents.hyperparameters.ALGORITHMS`.
    env : str
        Environment id.
    env_kwargs : dict
        Keywords of the environment.
    train_kwargs : dict
        Keywords that hold in training only, such as steeper prices of missed budgets.
    wrapper : list of str or of dict, or None
        Wrappers of `coinfer_gym.laim.wrappers`, the innermost first, or mappings of one to its arguments; the
        hyperparameters' ``env_wrapper`` where not given, and an empty list for none.
    start : str
        File of an agent, or folder of its run, whose actor is the first of this one; of the same algorithm or one that
        shares its form of actor, or cloned from a policy.
    conf_file : str
        Hyperparameters by environment; ``configs/agents/<algo>.yml`` where empty.
    hyperparams : dict
        Hyperparameters to set otherwise; in the run's folder all of them.
    seed : int
    out : str
        Folder of the run; made from algorithm and seed where empty.
    n_timesteps : int or None
        Decisions to train for; the hyperparameters' where not given.
    max_minutes : float or None
        Minutes after which training stops.
    eval_freq, eval_lanes : int
        Decisions between two evaluations, and episodes of one.
    test_lanes : int
        Episodes of the final comparison.
    checkpoint_freq : int
        Decisions between two checkpoints.
    violations : float
        Share of decisions that may miss a budget in the agent that is kept: without a limit the one that delivers most
        is, a task that missed a budget delivering nothing.
    threads : int
        Of the networks and of the environment; small networks gain nothing by a second one.
    """

    algo: str = "sac"
    env: str = "coinfer_gym/LAIM-v0"
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    train_kwargs: dict[str, Any] = field(default_factory=dict)
    wrapper: list[Any] | None = None
    start: str = ""
    conf_file: str = ""
    hyperparams: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    out: str = ""
    n_timesteps: int | None = None
    max_minutes: float | None = None
    eval_freq: int = 50_000
    eval_lanes: int = 64
    test_lanes: int = 128
    checkpoint_freq: int = 100_000
    violations: float = 1.0
    threads: int = 1

    def __post_init__(self) -> None:
        find_algorithm(self.algo)
        own = [name for name, spec in gym.registry.items() if str(spec.entry_point).startswith("coinfer_gym.")]
        if self.env not in own:
            raise InvalidInputError("env", self.env, f"Give an environment of this project: {', '.join(sorted(own))}.")
        for name in ("eval_freq", "eval_lanes", "test_lanes", "checkpoint_freq", "threads"):
            _check_count(name, getattr(self, name), 1)
        _check_count("seed", self.seed, 0)
        if self.n_timesteps is not None:
            _check_count("n_timesteps", self.n_timesteps, 1)
        for name in ("env_kwargs", "train_kwargs", "hyperparams"):
            if not isinstance(getattr(self, name), dict):
                raise InvalidInputError(name, getattr(self, name), "Give a mapping.")
        check_wrappers(self.wrapper)

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        short = self.env.rsplit("/", maxsplit=1)[-1]
        return Path(self.out or f"runs/{self.algo}-{short}-{self.seed}")

    @cached_property
    def family(self) -> Family:
        """Family of the environment."""
        return family_of(scenario_of(gym.make(self.env, **self.env_kwargs)))

    @property
    def wrappers(self) -> Wrappers:
        """Wrappers of the run, wherever they were chosen."""
        return self.load_hyperparameters().env_wrapper if self.wrapper is None else check_wrappers(self.wrapper)

    def load_hyperparameters(self) -> Hyperparameters:
        """Hyperparameters of the run, from its file and what is set otherwise."""
        overrides = dict(self.hyperparams)
        if self.wrapper is not None:
            overrides["env_wrapper"] = self.wrapper
        if self.n_timesteps is not None:
            overrides["n_timesteps"] = self.n_timesteps
        if self.conf_file == "none":
            return parse_hyperparameters(overrides, self.algo, "hyperparams")
        path = self.conf_file or str(ROOT / "configs" / "agents" / f"{self.algo}.yml")
        return load_hyperparameters(path, self.algo, self.env, overrides)

    def resolved(self) -> dict[str, Any]:
        """The configuration with all hyperparameters in it, so that no other file is needed any more."""
        plain = self.load_hyperparameters().plain()
        wrapper = plain.pop("env_wrapper", [])
        complete = {"conf_file": "none", "hyperparams": plain, "wrapper": wrapper, "n_timesteps": None}
        return asdict(self) | complete | {"out": self.folder.as_posix()}


def _check_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < _MOST:
        raise InvalidInputError(name, value, f"Give a whole number from {least} to {_MOST - 1}.")


def read_config(content: Mapping[str, Any], origin: str) -> RunConfig:
    """Configuration from its plain form.

    Parameters
    ----------
    content : mapping
    origin : str
        Name of the file for errors.

    Returns
    -------
    RunConfig

    Raises
    ------
    InvalidInputError
        If a key is unknown or a value cannot be used; it names the nearest known key.
    """
    known = [entry.name for entry in fields(RunConfig)]
    for name in content:
        if name not in known:
            raise InvalidInputError(f"{origin}: key", name, nearest(str(name), known))
    return RunConfig(**{str(name): value for name, value in content.items()})


def read_config_file(path: str | Path) -> RunConfig:
    """Configuration from a YAML file."""
    return read_config(_read_mapping(path), str(path))


def open_folder(config: RunConfig, command: Sequence[str], overwrite: bool) -> Path:
    """Make the folder of a new run and write down what it is.

    Parameters
    ----------
    config : RunConfig
    command : sequence of str
        Arguments that the run was started with.
    overwrite : bool
        Delete what another run has left there.

    Returns
    -------
    Path

    Raises
    ------
    InvalidInputError
        If another run is there and must not be overwritten.
    """
    content = yaml.safe_dump(config.resolved(), sort_keys=False)  # first, as it may fail
    folder = config.folder
    if (folder / "config.yaml").exists():
        if not overwrite:
            remedy = "A run is there: give another --out, --resume it, or --overwrite it."
            raise InvalidInputError("out", str(folder), remedy)
        _clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "origin.yaml").write_text(yaml.safe_dump(_origin(command), sort_keys=False), encoding="utf-8")
    (folder / "config.yaml").write_text(content, encoding="utf-8")
    return folder


def build_env(config: RunConfig, lanes: int, training: bool = False, bare: bool = False) -> NativeVecEnv:
    """Lanes of the run's environment.

    Parameters
    ----------
    config : RunConfig
    lanes : int
    training : bool
        With the keywords that hold in training only.
    bare : bool
        Without the run's wrappers.

    Returns
    -------
    NativeVecEnv
    """
    keywords = config.env_kwargs | (config.train_kwargs if training else {})
    return make_native(config.env, lanes, () if bare else config.wrappers, **keywords)


def build_model(config: RunConfig, hyperparameters: Hyperparameters) -> BaseAlgorithm:
    """A new model over its training environment.

    Parameters
    ----------
    config : RunConfig
    hyperparameters : Hyperparameters

    Returns
    -------
    BaseAlgorithm

    Raises
    ------
    InvalidInputError
        If the algorithm cannot choose the environment's actions, or stable-baselines3 refuses a value.
    """
    env: VecEnv = build_env(config, hyperparameters.n_envs, training=True)
    check_actions(config.algo, env.action_space)
    for name, options in hyperparameters.vec_env_wrapper.items():
        env = PENALTIES[name](env, **options)
    arguments = hyperparameters.build_arguments(env.action_space)
    try:
        model: BaseAlgorithm = find_algorithm(config.algo)(env=env, seed=config.seed, device="cpu", **arguments)
    except (TypeError, ValueError, AssertionError) as error:
        remedy = f"stable-baselines3 refuses it: {error}"
        raise InvalidInputError("hyperparameters", hyperparameters.arguments, remedy) from error
    return model


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write the final comparison of a run."""
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _clear(folder: Path) -> None:
    """Delete what a run writes, and nothing else."""
    for name in _OWN_FILES:
        (folder / name).unlink(missing_ok=True)
    for name in _OWN_FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)


def _origin(command: Sequence[str]) -> dict[str, Any]:
    """What the result of a run may depend on beside its configuration."""
    return {
        "command": ["python", "-m", "agents.train", *command],
        "git_revision": git_revision(),
        "machine": platform.machine(),
        "versions": versions(),
    }
