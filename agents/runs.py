"""A training run: its configuration, its folder, and the environment and model that are built from these."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import gymnasium as gym
import yaml
from pydantic import ConfigDict, Field

from agents.actors import find_actor
from agents.agent_file import AGENT_FILE
from agents.held_out import SELECTION_SEED
from baselines.checks import NUMBER, Checked, check_model
from baselines.family import Family, family_of, scenario_of
from baselines.output import git_revision
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import paths_to, versions, write_text
from coinfer_gym.named_wrappers import Wrappers, check_wrappers

if TYPE_CHECKING:  # torch and stable-baselines3 take seconds to import: a wrong name is told before
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

    from agents.hyperparameters import Hyperparameters
    from coinfer_gym.sb3 import NativeVecEnv

__all__ = ["RunConfig", "build_env", "build_model", "check_folder", "open_folder", "read_config", "read_config_file"]

ROOT = Path(__file__).resolve().parent.parent

_OWN_FILES = ("config.yaml", "origin.yaml", "evaluations.csv", AGENT_FILE, "results.json")
_OWN_FOLDERS = ("checkpoints", "tensorboard")


_Decisions = Annotated[int, NUMBER, Field(ge=1, le=10**12)]
_Lanes = Annotated[int, NUMBER, Field(ge=1, le=100_000)]


class RunConfig(Checked):
    """Everything that a run is rebuilt from; the fields are the options of ``python -m agents.train``."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    algo: str = "sac"
    """Algorithm: ppo, a2c, maskable_ppo, recurrent_ppo, sac, tqc, td3, ddpg or dqn."""
    env: str = "coinfer_gym/LAIM-v0"
    """Id of the environment."""
    env_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Keywords of the environment."""
    train_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Further keywords in training only, such as higher weights of missed budgets."""
    wrapper: list[str | dict[str, dict[str, Any] | None]] | None = None
    """Wrappers, innermost first, see `coinfer_gym.named_wrappers`; on the command line each as NAME or 'NAME:
    {argument: value}'. An empty list takes no wrapper. Default: ``env_wrapper`` of the hyperparameters."""
    start: str = ""
    """File of an agent, or folder of its run, whose actor the training starts from. It must have the form of this run's
    actor."""
    conf_file: str = ""
    """YAML file of hyperparameters by environment, or ``none`` (default: configs/agents/<algo>.yml)."""
    hyperparams: dict[str, Any] = Field(default_factory=dict)
    """Hyperparameters that replace those of the file."""
    seed: Annotated[int, NUMBER] = Field(default=0, ge=0, lt=SELECTION_SEED)
    """Seed of networks, noise and training worlds."""
    out: str = ""
    """Folder of the run, from the working directory (default: runs/<algo>-<env>-<seed>)."""
    n_timesteps: _Decisions | None = None
    """Decisions to train for (default: that of the hyperparameters)."""
    max_minutes: Annotated[float, NUMBER] | None = Field(default=None, gt=0.0, le=1e7)
    """Minutes after which training stops (default: no limit)."""
    eval_freq: _Decisions = 50_000
    """Decisions between two evaluations."""
    eval_lanes: _Lanes = 64
    """Episodes of an evaluation."""
    test_lanes: _Lanes = 128
    """Episodes of the final comparison."""
    checkpoint_freq: _Decisions = 100_000
    """Decisions between two checkpoints."""
    violations: Annotated[float, NUMBER] = Field(default=1.0, ge=0.0, le=1.0)
    """Share of decisions that may miss a budget in the agent that is kept. At 1 the agent that delivers most is kept; a
    task that missed a budget delivers nothing."""
    threads: Annotated[int, NUMBER] = Field(default=1, ge=1, le=1024)
    """Threads of the networks and the environment; small networks are no faster with two."""

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
        """Wrappers of the run: its own, or those of its hyperparameters."""
        return self.load_hyperparameters().env_wrapper if self.wrapper is None else check_wrappers(self.wrapper)

    def load_hyperparameters(self) -> Hyperparameters:
        """Hyperparameters of the file, and those that replace them."""
        from agents.hyperparameters import load_hyperparameters, parse_hyperparameters

        overrides = dict(self.hyperparams)
        if self.wrapper is not None:
            overrides["env_wrapper"] = self.wrapper
        if self.n_timesteps is not None:
            overrides["n_timesteps"] = self.n_timesteps
        if self.conf_file == "none":
            return parse_hyperparameters(overrides, self.algo, "hyperparams")
        path = self.conf_file or str(ROOT / "configs" / "agents" / f"{self.algo}.yml")
        return load_hyperparameters(path, self.algo, self.env, overrides)

    def resolve(self) -> RunConfig:
        """The same run with all hyperparameters in its configuration, so that it needs no other file."""
        plain = self.load_hyperparameters().plain()
        wrapper = plain.pop("env_wrapper", [])
        complete = {"conf_file": "none", "hyperparams": plain, "wrapper": wrapper, "n_timesteps": None}
        return self.model_copy(update=complete | {"out": self.folder.as_posix()})

    def resolved(self) -> dict[str, Any]:
        """`resolve` as plain values, with paths as in a file of the run's folder."""
        return dict(paths_to(self.resolve().model_dump(), self.folder))


def read_config(source: str | Path | Mapping[str, Any], origin: str) -> RunConfig:
    """Check a configuration, given as a YAML file or its content; errors begin with `origin`."""
    config = check_model(RunConfig, source, origin)
    find_actor(config.algo)
    known = [name for name in gym.registry if name.startswith("coinfer_gym/")]
    if config.env not in known:
        raise InvalidInputError(f"{origin}: env", config.env, f"Give one of {', '.join(sorted(known))}.")
    check_wrappers(config.wrapper)
    return config


def read_config_file(path: str | Path) -> RunConfig:
    """Configuration of a YAML file."""
    return read_config(path, str(path))


def _holds_run(folder: Path) -> bool:
    noted = folder / "config.yaml"
    return noted.exists() and noted.stat().st_size > 0  # an empty one was left by a full disk


def check_folder(config: RunConfig) -> None:
    """Raise `InvalidInputError` if the folder of a new run holds another one."""
    if _holds_run(config.folder):
        remedy = "There is a run already: give another --out, or --resume or --overwrite this one."
        raise InvalidInputError("out", str(config.folder), remedy)


def open_folder(config: RunConfig, command: Sequence[str], overwrite: bool) -> Path:
    """Make the folder of a new run and write down what it is, and the command line that asked for it."""
    folder = config.folder
    if not overwrite:
        check_folder(config)
    elif _holds_run(folder):
        for name in _OWN_FILES:
            (folder / name).unlink(missing_ok=True)
        for name in _OWN_FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)
    origin = {
        "command": ["python", "-m", "agents.train", *command],
        "git_revision": git_revision(),
        "machine": platform.machine(),
        "versions": versions(),
    }
    write_text(folder / "origin.yaml", yaml.safe_dump(origin, sort_keys=False))
    write_config(config)
    return folder


def write_config(config: RunConfig) -> None:
    """Write down what a run is."""
    write_text(config.folder / "config.yaml", yaml.safe_dump(config.resolved(), sort_keys=False))


def build_env(config: RunConfig, lanes: int, training: bool = False, bare: bool = False) -> NativeVecEnv:
    """Lanes of the run's environment: in `training` with ``train_kwargs``, `bare` without wrappers, an id's own too."""
    from coinfer_gym.sb3 import NativeVecEnv, make_native

    keywords = config.env_kwargs | (config.train_kwargs if training else {})
    if bare:
        return NativeVecEnv(make_native(config.env, lanes, **keywords).env.unwrapped)
    return make_native(config.env, lanes, config.wrappers, **keywords)


def build_model(config: RunConfig, hyperparameters: Hyperparameters) -> BaseAlgorithm:
    """A new model over its training environment; `InvalidInputError` if a value or the actions do not suit it."""
    from agents.hyperparameters import ALGORITHMS, PENALTIES, check_actions

    env: VecEnv = build_env(config, hyperparameters.n_envs, training=True)
    check_actions(config.algo, env.action_space)
    for name, options in hyperparameters.vec_env_wrapper.items():
        env = PENALTIES[name](env, **options)
    arguments = hyperparameters.build_arguments(env.action_space)
    try:
        model: BaseAlgorithm = ALGORITHMS[config.algo](env=env, seed=config.seed, device="cpu", **arguments)
    except (TypeError, ValueError, AssertionError) as error:
        remedy = f"stable-baselines3 refuses it: {error}"
        raise InvalidInputError("hyperparameters", hyperparameters.arguments, remedy) from error
    return model
