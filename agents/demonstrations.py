"""Demonstrations of a policy: what it decides in many worlds, recorded for `agents.imitate`."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from agents.held_out import SELECTION_SEED
from agents.runs import RunConfig, read_config
from baselines import rollout
from baselines.checks import NUMBER, Checked, check_model
from baselines.compare import CompareConfig, PolicyConfig, policy_key
from baselines.policy import Observation, Predictor, State
from baselines.registry import bind, check_options, find_policy, make_policy
from baselines.rollout import MEASURED, metrics
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import read_json, write_bytes, write_text
from coinfer_gym.parallel import run_parallel

__all__ = ["FIRST_WORLD", "ImitationConfig", "Samples", "load_config", "prepare_teacher", "record"]

FIRST_WORLD = 20_000_000
"""Least seed of a world for demonstrations: training, tuning and evaluation use others."""

_CLONEABLE = ("ppo", "a2c", "sac", "tqc", "td3", "ddpg")  # real actions, no memory
_SHARES = ("BudgetShareAction", "CellShareAction")
_CHUNK = 10  # worlds per file


class ImitationConfig(Checked):
    """A configuration of `agents.imitate`; `load_config` reads and checks one.

    Attributes
    ----------
    margin : float
        Share of both budgets that the targets of an agent without `BudgetShareAction` leave unused.
    learning_rate : float
        Of Adam; it falls to 0 along a cosine.
    log_std : float
        Logarithm of the standard deviation of the clone's noise, for a training that starts from it.
    seed : int
        Of the networks and the order of samples.
    """

    title: str
    teacher: PolicyConfig
    run: dict[str, Any]
    worlds: Annotated[int, NUMBER] = Field(ge=1, le=SELECTION_SEED - FIRST_WORLD)
    first_world: Annotated[int, NUMBER] = Field(FIRST_WORLD, ge=FIRST_WORLD, lt=SELECTION_SEED)
    margin: Annotated[float, NUMBER] = Field(0.005, ge=0.0, lt=1.0)
    epochs: Annotated[int, NUMBER] = Field(20, ge=1, le=100_000)
    batch_size: Annotated[int, NUMBER] = Field(512, ge=1, le=10**8)
    learning_rate: Annotated[float, NUMBER] = Field(1e-3, gt=0.0, le=1.0)
    log_std: Annotated[float, NUMBER] = Field(-2.0, ge=-20.0, le=2.0)
    held_out_worlds: Annotated[int, NUMBER] = Field(128, ge=1, le=100_000)
    seed: Annotated[int, NUMBER] = Field(0, ge=0, lt=SELECTION_SEED)

    @property
    def target(self) -> RunConfig:
        """The run that the clone is made for."""
        return read_config(self.run, "config: run")

    @property
    def wrappers(self) -> list[str]:
        """Names of the run's wrappers, the innermost first."""
        return [name.rsplit(".", maxsplit=1)[-1] for layer in self.target.wrappers for name in layer]

    @property
    def learns_shares(self) -> bool:
        """Whether the clone says what a task may use, and the exact optimum decides the rest."""
        return any(name in _SHARES for name in self.wrappers)

    @property
    def seeds(self) -> range:
        """Worlds of the demonstrations."""
        return range(self.first_world, self.first_world + self.worlds)


@dataclass(frozen=True)
class Samples:
    """Decisions of a teacher, in the order in which it made them.

    Attributes
    ----------
    observations : ndarray of float32, shape (n, n_obs)
    tasks : ndarray, shape (n, 3)
        Gain, delay budget that was left in s, and energy budget in J, as the agent can know them.
    shares : ndarray, shape (n, 2)
        Shares of these budgets that the decision uses, from 0 to 1.
    outcomes : ndarray, shape (n, 9)
        What became of the task: the columns `baselines.rollout.MEASURED`.
    actions : ndarray of float32, shape (n, n_act)
        The teacher's actions, in those of the environment without wrappers.
    times, losses : ndarray of float32, shape (n, k)
        Shares of time that the teacher compared, in rising order, and how much less than the best each delivers. No
        columns if the teacher does not say, or compares energies, too.
    """

    observations: NDArray[np.float32]
    tasks: NDArray[np.float64]
    shares: NDArray[np.float64]
    outcomes: NDArray[np.float64]
    actions: NDArray[np.float32]
    times: NDArray[np.float32]
    losses: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.observations)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Samples of several parts, in their order."""
        return cls(*(np.concatenate([getattr(part, entry.name) for part in parts]) for entry in fields(cls)))

    @property
    def score(self) -> dict[str, float]:
        """How good the teacher was, see `baselines.rollout.metrics`."""
        return metrics(dict(zip(MEASURED, self.outcomes.T, strict=True)))


def load_config(source: str | Path | Mapping[str, Any]) -> ImitationConfig:
    """Read and check a configuration, from a YAML file or as its content.

    Raises
    ------
    InvalidInputError
        If the file cannot be read, a key is unknown, a value is out of range, or the teacher is unknown or cannot be
        cloned into such an agent.
    """
    config = check_model(ImitationConfig, source, "config")
    teacher = config.teacher
    check_options(teacher.policy, find_policy(teacher.policy), teacher.options)
    if config.seeds.stop > SELECTION_SEED:
        raise InvalidInputError("config: worlds", config.worlds, f"Their seeds must stay below {SELECTION_SEED}.")
    run = config.target
    if run.algo not in _CLONEABLE:
        raise InvalidInputError("config: run.algo", run.algo, f"Give one of {', '.join(_CLONEABLE)}.")
    if not (run.family.keeps_budgets or config.learns_shares) and config.wrappers:
        raise InvalidInputError("config: run.env", run.env, "It takes no wrappers: leave them out.")
    for layer in config.wrappers:
        if layer not in (*_SHARES, "KeepBudgets"):
            remedy = f"Give {', '.join(_SHARES)}, KeepBudgets or no wrapper."
            raise InvalidInputError("config: run.wrapper", layer, remedy)
    if any((options or {}).get("margin") for layer in run.wrappers for options in layer.values()):
        raise InvalidInputError("config: run.wrapper: margin", True, "A teacher tells no margin: leave it out.")
    return config


def prepare_teacher(config: ImitationConfig, folder: Path) -> ImitationConfig:
    """Let a teacher that tunes itself to the channel do so once; its options are kept in the folder."""
    run, teacher = config.target, config.teacher
    factory: Any = find_policy(teacher.policy)
    if not hasattr(factory, "tune"):
        return config
    path = folder / "teacher" / f"{_key(config)}.json"
    if not path.exists():
        options = factory.tune(teacher.options, run.env, run.env_kwargs, config.seeds)
        write_text(path, json.dumps(options) + "\n")
    options = read_json(path, "teacher")
    return config.model_copy(update={"teacher": PolicyConfig(policy=teacher.policy, **options)})


def _key(config: ImitationConfig) -> str:
    """Digest of all that the teacher's decisions depend on, beside the world."""
    run, alone = config.target, {"teacher": config.teacher}
    played = CompareConfig(title="", environment=run.env, env=run.env_kwargs, worlds=1, seed=0, policies=alone)
    return policy_key(played, config.teacher, gym.make(run.env, **run.env_kwargs))


def record(config: ImitationConfig, folder: Path, seeds: Sequence[int], jobs: int = 1) -> Samples:
    """Decisions of the teacher in the worlds of some seeds; what the folder holds already is not played again.

    `InvalidInputError` is raised if the environment cannot be made, or the teacher cannot act in it.
    """
    place = folder / "samples" / _key(config)
    chunks = [seeds[k : k + _CHUNK] for k in range(0, len(seeds), _CHUNK)]
    files = {place / f"{chunk[0]}-{len(chunk)}.npz": chunk for chunk in chunks}
    missing = [(path, chunk) for path, chunk in files.items() if _read(path) is None]
    done = run_parallel(_record_chunk, [(config, path, chunk) for path, chunk in missing], jobs)
    for _ in tqdm(done, total=len(missing), unit="ten worlds", disable=None if missing else True):
        pass
    return Samples.join([part for part in map(_read, files) if part is not None])


def _read(path: Path) -> Samples | None:
    """Samples of a file; None if it does not exist or is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Samples(*(arrays[entry.name] for entry in fields(Samples)))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _record_chunk(config: ImitationConfig, path: Path, seeds: Sequence[int]) -> None:
    """Write what the teacher does in some worlds."""
    run = config.target
    env = gym.make(run.env, **run.env_kwargs)
    teacher = bind(make_policy(config.teacher.policy, config.teacher.options), env)
    samples = Samples.join([_play(env, teacher, seed) for seed in seeds])
    content = io.BytesIO()
    np.savez_compressed(content, **vars(samples))
    write_bytes(path, content.getvalue())


def _play(env: gym.Env[Any, Any], teacher: Predictor, seed: int) -> Samples:
    """One episode of the teacher."""
    core: Any = env.unwrapped
    rows: list[tuple[Any, ...]] = []

    def predict(observation: Observation, **memory: Any) -> tuple[NDArray[Any], State | None]:
        action, state = teacher.predict(observation, **memory)
        problem = core.problem(*(core.shares(action) if hasattr(core, "shares") else ()))  # those of a cell
        task = np.array([problem.gain, problem.delay_budget, problem.energy_budget])
        solution = problem.evaluate(core.decision(action))
        used = np.array([solution.delay, solution.energy])
        share = np.minimum(np.divide(used, task[1:], out=np.ones(2), where=task[1:] > used), 1.0)
        rows.append((observation, task, share, action, *_compared(teacher, task[1])))
        return action, state

    noting: Any = SimpleNamespace(predict=predict, seed=getattr(teacher, "seed", None))
    [episode] = rollout.play(env, noting, [seed])
    outcomes = np.column_stack([episode[name] for name in MEASURED])
    observations, tasks, shares, actions, times, losses = map(np.array, zip(*rows, strict=True))
    single = (array.astype(np.float32) for array in (actions, times, losses))
    return Samples(observations, tasks, shares, outcomes, *single)


def _compared(teacher: Predictor, time_left: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of time that the teacher compared for its last decision, and what each loses against the best."""
    compared = getattr(teacher, "compared", None)
    if compared is None or compared[1].shape[1] > 1:
        return np.empty(0), np.empty(0)
    seconds, values = compared
    return seconds / time_left, values.max() - values[:, 0]
