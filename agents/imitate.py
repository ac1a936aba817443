"""Clone a policy into the actor of an agent: ``python -m agents.imitate CONFIG.yaml``, for training to begin with.

A configuration says who is cloned, into what, and how it is fitted::

    title: Stochastic dynamic programming in the default queue
    teacher: {policy: stochastic_dp}        # a policy of `baselines.registry`, and its options
    run:                                    # fields of `agents.runs.RunConfig`: environment, wrappers, networks
      algo: ppo
      env_kwargs: {scenario: bert-multimodal}
      wrapper: [BudgetShareAction]
      hyperparams: {policy_kwargs: {net_arch: [128, 128], activation_fn: relu}}
    worlds: 1000                            # world k is env.reset(seed=first_world + k)
    epochs: 12

What is noted of the teacher is what it lets each task take: the delay and the energy of its decision, as shares of what
was left of the budgets. The exact optimum within these is the same decision where the teacher's decisions are such
optima. So the shares themselves are what an agent learns that acts in
`coinfer_gym.laim.wrappers.BudgetShareAction`, and that optimum is what one learns that acts in LAIM-v0 itself. A
teacher who tells what it weighed (``weighed``, as `baselines.stochastic.StochasticDP` does) teaches more: the agent
learns to lose as little of that worth as it can, and not to copy a choice between times that are worth the same. An
agent without `BudgetShareAction` never hits a budget exactly; what it learns is the optimum within budgets less a
`margin`. In Layerwise-v0 the clone learns the teacher's actions themselves, and a teacher that has to prepare for
the channel does so once.

Worlds that were played stay in the output folder, under a digest of all that they depend on: a second fit, or one that
was interrupted, goes on from there. The clone is written as ``agent.safetensors``, for ``start`` of a training run, and
how good it is beside its teacher to ``imitation.json``.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import shlex
import sys
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import gymnasium as gym
import joblib
import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from agents.agent_file import AGENT_FILE, save_agent
from agents.held_out import TEST_SEED, play
from agents.hyperparameters import find_algorithm, read_mapping
from agents.policy import load_agent
from agents.runs import RunConfig, build_env, read_config
from baselines.checks import check_model
from baselines.compare import CompareConfig, PolicyConfig, policy_key
from baselines.output import git_revision, versions, write_bytes, write_text
from baselines.policy import Predictor
from baselines.registry import bind, check_options, find_policy, make_policy
from baselines.rollout import MEASURED, metrics
from coinfer_gym import InvalidInputError
from coinfer_gym._compile import kernel
from coinfer_gym.laim import spaces
from coinfer_gym.laim.problem import evaluate
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.laim.wrappers import act_within

__all__ = ["FIRST_WORLD", "ImitationConfig", "Samples", "fit", "imitate", "load_config", "record"]

FIRST_WORLD = 20_000_000
"""Least seed of a world that a teacher is watched in: training, tuning and evaluation have others."""

_HELD_OUT = 1_000_000_000  # seeds from here on belong to held-out worlds
_CLONEABLE = ("ppo", "a2c", "sac", "tqc", "td3", "ddpg")  # they choose real numbers, without a memory
_CHUNK = 10
_OUTCOMES = MEASURED[:-1]  # without the reward
_STEP = 0.005  # of an action; a difference over it tells what of the budgets a component moves
_LITTLE, _MOST_WEIGHT = 1e-12, 20.0  # what is left of a budget can be next to nothing, and then no error matters
_PULL = 0.003  # of the teacher's own choice where worth is learned: enough where all times are worth the same
_CUT_WEIGHT = 10.0  # a cut that is missed costs the task, but most errors are in the few tasks between two cuts


class ImitationConfig(pydantic.BaseModel):
    """What a configuration file says; `load_config` reads and checks one.

    Attributes
    ----------
    title : str
    teacher : PolicyConfig
        Who is cloned.
    run : dict
        Fields of `agents.runs.RunConfig`: the environment, wrappers, algorithm and networks of the clone.
    worlds, first_world : int
        Worlds to watch the teacher in, and the seed of the first.
    noise : float
        Standard deviation of what is added to the teacher's share of time, so that it is seen in more states.
    margin : float
        Share of both budgets that the targets of an agent without `BudgetShareAction` leave unused.
    epochs, batch_size, learning_rate
        Of Adam; the rate falls to 0 along a cosine.
    log_std : float
        Logarithm of the noise that the clone explores with, for a training that begins with it.
    held_out_worlds : int
        Worlds that teacher and clone are compared in.
    seed : int
        Of the networks and the order of samples.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    title: str
    teacher: PolicyConfig
    run: dict[str, Any]
    worlds: int = Field(ge=1, le=_HELD_OUT - FIRST_WORLD)
    first_world: int = Field(FIRST_WORLD, ge=FIRST_WORLD, lt=_HELD_OUT)
    noise: float = Field(0.0, ge=0.0)
    margin: float = Field(0.005, ge=0.0, lt=1.0)
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(512, ge=1)
    learning_rate: float = Field(1e-3, gt=0.0)
    log_std: float = Field(-2.0, ge=-20.0, le=2.0)
    held_out_worlds: int = Field(128, ge=1)
    seed: int = Field(0, ge=0)

    @property
    def target(self) -> RunConfig:
        """The run that the clone is made for."""
        return read_config(self.run, "config: run")

    @property
    def shares(self) -> bool:
        """Whether the clone says what a task may take, instead of how it is served."""
        return "BudgetShareAction" in _layers(self.target)


@dataclass(frozen=True)
class Samples:
    """Decisions of a teacher, in the order in which it made them.

    Attributes
    ----------
    observations : ndarray of float32, shape (n, n_obs)
    tasks : ndarray, shape (n, 3)
        Gain, what was left of the delay budget in s, and the energy budget in J, as far as they could be known.
    shares : ndarray, shape (n, 2)
        Of time and energy that the teacher's decision takes of these, from 0 to 1.
    outcomes : ndarray, shape (n, 9)
        What became of the task, the columns `baselines.rollout.MEASURED`.
    actions : ndarray of float32, shape (n, n_act)
        What the teacher did, in the actions of the environment without wrappers.
    weighed, worth : ndarray of float32, shape (n, k)
        Shares of time that the teacher weighed against each other, in rising order, and what each is worth less than
        the best. No columns where it tells nothing, or where energy is weighed, too.
    """

    observations: NDArray[np.float32]
    tasks: NDArray[np.float64]
    shares: NDArray[np.float64]
    outcomes: NDArray[np.float64]
    actions: NDArray[np.float32]
    weighed: NDArray[np.float32]
    worth: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.observations)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """All samples of some parts, in their order."""
        return cls(*(np.concatenate([getattr(part, entry.name) for part in parts]) for entry in fields(cls)))

    @property
    def score(self) -> dict[str, float]:
        """How good the teacher was, see `baselines.rollout.metrics`."""
        return metrics(dict(zip(MEASURED, self.outcomes.T, strict=True)))


def load_config(source: str | Path | Mapping[str, Any]) -> ImitationConfig:
    """Read and check a configuration.

    Parameters
    ----------
    source : str, Path or mapping
        Path of a YAML file, or its content.

    Returns
    -------
    ImitationConfig

    Raises
    ------
    InvalidInputError
        If the file cannot be read, a key is unknown, a value is out of range, there is no such policy, or it cannot be
        cloned into such an agent.
    """
    data = dict(source) if isinstance(source, Mapping) else read_mapping(source)
    config = check_model(ImitationConfig, data, "config")
    _check(config)
    return config


def _check(config: ImitationConfig) -> None:
    """Raise `InvalidInputError` unless such a teacher can be cloned into such an agent."""
    teacher = config.teacher
    check_options(teacher.policy, find_policy(teacher.policy), teacher.options)
    if config.noise > 0.0 and teacher.policy == "clairvoyant":
        remedy = "The clairvoyant's schedule holds for its own services only: give 0."
        raise InvalidInputError("config: noise", config.noise, remedy)
    if config.first_world + config.worlds > _HELD_OUT:
        raise InvalidInputError("config: worlds", config.worlds, f"Their seeds must stay below {_HELD_OUT}.")
    run = config.target
    if run.algo not in _CLONEABLE:
        raise InvalidInputError("config: run.algo", run.algo, f"Clones are {', '.join(_CLONEABLE)}.")
    if not run.family.keeps_budgets and (config.noise > 0.0 or _layers(run)):
        raise InvalidInputError("config: run.env", run.env, "It takes neither wrappers nor noise: leave them out.")
    for layer in _layers(run):
        if layer not in ("BudgetShareAction", "KeepBudgets"):
            remedy = "What a teacher does is known without wrappers, and in BudgetShareAction and KeepBudgets."
            raise InvalidInputError("config: run.wrapper", layer, remedy)


def _layers(run: RunConfig) -> list[str]:
    """Names of the run's wrappers, the innermost first."""
    return [name.rsplit(".", maxsplit=1)[-1] for layer in run.wrappers for name in layer]


def imitate(config: ImitationConfig, folder: Path, command: str = "", jobs: int = 1) -> dict[str, Any]:
    """Watch a teacher, fit a clone to it, and compare the two in held-out worlds.

    Parameters
    ----------
    config : ImitationConfig
    folder : Path
        Gets the samples, the clone and ``imitation.json``.
    command : str
        To be written down.
    jobs : int
        Processes that watch.

    Returns
    -------
    dict
        The content of ``imitation.json``.

    Raises
    ------
    InvalidInputError
        If the environment cannot be made, or the teacher cannot act in it.
    """
    config = _prepare(config, folder)
    run = config.target
    samples = record(config, folder, range(config.first_world, config.first_world + config.worlds), config.noise, jobs)
    held_out = record(config, folder, range(TEST_SEED, TEST_SEED + config.held_out_worlds), 0.0, jobs)
    begin = time.monotonic()
    policy, loss = fit(config, samples)
    seconds = time.monotonic() - begin
    about = {"env": run.env, "env_kwargs": run.env_kwargs, "wrapper": run.wrappers, "seed": config.seed}
    activation = run.load_hyperparameters().policy_kwargs.get("activation_fn")
    about |= {"teacher": config.teacher.model_dump()}
    save_agent(folder / AGENT_FILE, run.algo, policy.state_dict(), about, activation)
    result = {
        "title": config.title,
        "command": command,
        "config": config.model_dump(mode="json"),
        "samples": {"training": len(samples), "held_out": len(held_out)},
        "loss": {"training": loss, "held_out": _Lesson(config, held_out).loss(policy)},
        "scores": _compare(config, folder, held_out),
        "seconds": seconds,
        "git_revision": git_revision(),
        "versions": versions(),
    }
    write_text(folder / "imitation.json", json.dumps(result, indent=1) + "\n")
    return result


def _prepare(config: ImitationConfig, folder: Path) -> ImitationConfig:
    """The configuration with the options that its teacher has to search for, which are kept in the folder."""
    run, teacher = config.target, config.teacher
    factory: Any = find_policy(teacher.policy)
    if not hasattr(factory, "tune"):
        return config
    path = folder / "teacher" / f"{_key(config)}.json"
    if not path.exists():
        seeds = range(config.first_world, config.first_world + config.worlds)
        options = factory.tune(teacher.options, run.env, run.env_kwargs, seeds)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(options) + "\n")
    options = json.loads(path.read_text(encoding="utf-8"))
    return config.model_copy(update={"teacher": PolicyConfig(policy=teacher.policy, **options)})


def _key(config: ImitationConfig) -> str:
    """Digest of all that the teacher's decisions depend on, beside the world."""
    run, alone = config.target, {"teacher": config.teacher}
    watched = CompareConfig(title="", environment=run.env, env=run.env_kwargs, worlds=1, seed=0, policies=alone)
    return policy_key(watched, config.teacher, gym.make(run.env, **run.env_kwargs))


def _compare(config: ImitationConfig, folder: Path, held_out: Samples) -> dict[str, dict[str, float]]:
    """Teacher and clone in the same held-out worlds; one that may miss budgets is also played with these kept."""
    run = config.target
    keeping = {"clone": run.wrappers}
    if run.family.keeps_budgets and not _layers(run):
        keeping["clone, budgets kept"] = [{"coinfer_gym.laim.wrappers.KeepBudgets": {}}]
    scores = {"teacher": held_out.score}
    for name, wrapper in keeping.items():
        env = build_env(read_config(config.run | {"wrapper": wrapper}, "config: run"), config.held_out_worlds)
        scores[name] = play(env, load_agent(folder), TEST_SEED)
    return scores


def record(config: ImitationConfig, folder: Path, seeds: Sequence[int], noise: float, jobs: int = 1) -> Samples:
    """Decisions of the teacher in some worlds, except what the folder holds already.

    Parameters
    ----------
    config : ImitationConfig
    folder : Path
        Its folder ``samples`` holds a file for every ten worlds.
    seeds : sequence of int
        Of the worlds.
    noise : float
        As in `ImitationConfig`.
    jobs : int
        Number of processes.

    Returns
    -------
    Samples

    Raises
    ------
    InvalidInputError
        If the environment cannot be made, or the teacher cannot act in it.
    """
    place = folder / "samples" / f"{_key(config)}-{noise:g}"
    place.mkdir(parents=True, exist_ok=True)
    chunks = [seeds[k : k + _CHUNK] for k in range(0, len(seeds), _CHUNK)]
    files = {place / f"{chunk[0]}-{len(chunk)}.npz": chunk for chunk in chunks}
    missing = [(path, chunk) for path, chunk in files.items() if _read(path) is None]
    work = (joblib.delayed(_watch)(config, path, chunk, noise) for path, chunk in missing)
    done = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(work)
    for _ in tqdm(done, total=len(missing), unit="ten worlds", disable=None if missing else True):
        pass
    return Samples.join([part for part in map(_read, files) if part is not None])


def _read(path: Path) -> Samples | None:
    """Samples of a file; None where there is none, or it is not whole."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Samples(*(arrays[entry.name] for entry in fields(Samples)))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _watch(config: ImitationConfig, path: Path, seeds: Sequence[int], noise: float) -> None:
    """Write what the teacher does in some worlds."""
    run = config.target
    env = gym.make(run.env, **run.env_kwargs)
    teacher = bind(make_policy(config.teacher.policy, config.teacher.options), env)
    samples = Samples.join([_play(env, teacher, seed, noise) for seed in seeds])
    content = io.BytesIO()
    np.savez_compressed(content, **{entry.name: getattr(samples, entry.name) for entry in fields(Samples)})
    write_bytes(path, content.getvalue())


def _play(env: gym.Env[Any, Any], teacher: Predictor, seed: int, noise: float) -> Samples:
    """One episode of the teacher, who says what is best even where noise does otherwise."""
    core: Any = env.unwrapped
    random = np.random.default_rng(seed)
    if hasattr(teacher, "seed"):
        teacher.seed(seed)
    rows: tuple[list[Any], ...] = ([], [], [], [], [], [], [])
    observation, _ = env.reset(seed=seed)
    state, start, ended = None, np.ones(1, np.bool_), False
    while not ended:
        problem = core.problem()
        task = np.array([problem.gain, problem.delay_budget, problem.energy_budget])
        action, state = teacher.predict(observation, state=state, episode_start=start, deterministic=True)
        solution = problem.evaluate(core.decision(action))
        chosen = np.asarray(action, np.float32)
        used = np.array([solution.delay, solution.energy])
        share = np.minimum(np.divide(used, task[1:], out=np.ones(2), where=task[1:] > used), 1.0)
        if noise > 0.0:
            disturbed = 2.0 * np.array([share + noise * np.array([random.standard_normal(), 0.0])]) - 1.0
            action = act_within(problem, task[:, None], disturbed)[0]
        seen = observation
        observation, reward, terminated, truncated, info = env.step(action)
        outcome = [*(info[name] for name in _OUTCOMES), float(reward)]
        for column, value in zip(rows, (seen, task, share, outcome, chosen, *_tell(teacher, task[1])), strict=True):
            column.append(value)
        start, ended = np.zeros(1, np.bool_), terminated or truncated
    kinds = (np.float32, np.float64, np.float64, np.float64, np.float32, np.float32, np.float32)
    return Samples(*(np.array(column, kind) for column, kind in zip(rows, kinds, strict=True)))


def _tell(teacher: Predictor, time_left: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of time that the teacher weighed for its last decision, and what each is worth less than the best."""
    weighed = getattr(teacher, "weighed", None)
    if weighed is None or weighed[1].shape[1] > 1:
        return np.empty(0), np.empty(0)
    seconds, worth = weighed
    return seconds / time_left, worth[:, 0] - worth.max()


def fit(config: ImitationConfig, samples: Samples) -> tuple[Any, float]:
    """Fit an actor to the decisions of a teacher.

    Parameters
    ----------
    config : ImitationConfig
    samples : Samples

    Returns
    -------
    policy : stable_baselines3.common.policies.BasePolicy
        That of the run; its critic or value network is as it began.
    loss : float
        Mean weighted error over the samples.
    """
    torch.set_num_threads(config.target.threads)
    policy = _build_policy(config)
    lesson = _Lesson(config, samples)
    batch = min(config.batch_size, len(samples))
    steps = config.epochs * (len(samples) // batch)
    optimizer = torch.optim.Adam(policy.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(config.seed)
    with tqdm(total=steps, unit="step", disable=None) as bar:
        for _ in range(config.epochs):
            order = torch.randperm(len(samples), generator=generator)
            for k in range(0, len(samples) - batch + 1, batch):
                optimizer.zero_grad()
                torch.autograd.backward(lesson.errors(policy, order[k : k + batch]).mean())
                optimizer.step()
                schedule.step()
                bar.update()
    return policy, lesson.loss(policy)


def _build_policy(config: ImitationConfig) -> Any:
    """A new policy of the run's algorithm; the global random state stays as it is."""
    run = config.target
    env = build_env(run, 1)
    find: Any = find_algorithm(run.algo)
    chosen = run.load_hyperparameters().build_arguments(env.action_space)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        make = find.policy_aliases[chosen["policy"]]
        policy = make(env.observation_space, env.action_space, lambda _: 0.0, **chosen["policy_kwargs"])
    with torch.no_grad():
        if hasattr(policy, "log_std"):
            policy.log_std.fill_(config.log_std)
        elif hasattr(policy.actor, "log_std"):
            policy.actor.log_std.weight.zero_()
            policy.actor.log_std.bias.fill_(config.log_std)
    return policy


class _Lesson:
    """Samples as targets for an actor.

    An error in a component counts by how much of both budgets it moves: a clock error of a percent matters where most
    time is spent, and not at all where nothing runs. The cut is right all over its bin, and so an error there counts
    from the half of it on: what is between two cuts is passed the more steeply.

    Parameters
    ----------
    config : ImitationConfig
    samples : Samples
    """

    def __init__(self, config: ImitationConfig, samples: Samples) -> None:
        scenario = build_env(config.target, 1, bare=True).get_attr("scenario")[0]
        if not config.target.family.keeps_budgets:
            targets = samples.actions.astype(np.float64)
            weights, slack = np.ones_like(targets), np.zeros(targets.shape[1])
            weights[:, 0], slack[0] = _CUT_WEIGHT, 0.5 / scenario.network.cuts
        elif config.shares:
            size = build_env(config.target, 1).action_space.sample().size
            targets = 2.0 * samples.shares[:, :size] - 1.0
            weights, slack = np.ones_like(targets), np.zeros(size)
        else:
            within = 2.0 * np.minimum(samples.shares, 1.0 - config.margin) - 1.0
            targets = act_within(scenario.problem(1.0), samples.tasks.T.copy(), within).astype(np.float64)
            weights, slack = _weigh_components(scenario, samples.tasks, targets), np.zeros(targets.shape[1])
            slack[0] = 0.5 / scenario.workload.cuts
        if config.shares and samples.worth.shape[1]:
            weights *= _PULL
        self._observations = torch.from_numpy(samples.observations)
        self._targets, self._weights, self._slack, self._weighed, self._worth = (
            torch.from_numpy(np.asarray(array, np.float32))
            for array in (targets, weights, slack, samples.weighed, samples.worth)
        )
        self._by_worth = config.shares and samples.worth.shape[1] > 1

    def errors(self, policy: Any, chosen: torch.Tensor) -> torch.Tensor:
        """Weighted errors of some samples, shape (n, n_act)."""
        # `predict` cannot be differentiated
        actions: torch.Tensor = policy._predict(self._observations[chosen], deterministic=True)
        away = (actions - self._targets[chosen]).abs()
        errors = (away - self._slack).clamp(min=0.0) * self._weights[chosen]
        return errors + self._lost_worth(actions, chosen) if self._by_worth else errors

    def _lost_worth(self, actions: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """What the shares of time are worth less than the best one, by linear interpolation, shape (n, 1)."""
        weighed, worth = self._weighed[chosen], self._worth[chosen]
        share = torch.minimum(torch.maximum(0.5 * (actions[:, :1] + 1.0), weighed[:, :1]), weighed[:, -1:])
        above = torch.searchsorted(weighed, share.detach(), right=True).clamp(1, weighed.shape[1] - 1)
        left, right = weighed.gather(1, above - 1), weighed.gather(1, above)
        low, high = worth.gather(1, above - 1), worth.gather(1, above)
        return -(low + (high - low) * (share - left) / (right - left).clamp(min=_LITTLE))

    def loss(self, policy: Any) -> float:
        """Mean weighted error over all samples."""
        with torch.no_grad():
            return float(self.errors(policy, torch.arange(len(self._targets))).mean())


def _weigh_components(
    scenario: Scenario, tasks: NDArray[np.float64], actions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How much of both budgets a unit of each component moves, shape (n, 6)."""
    ratio = math.log(scenario.power_min / scenario.power_max)
    tables = scenario.tables
    weights = np.full(actions.shape, _CUT_WEIGHT)
    _differentiate(tables.hardware, tables.cuts, ratio, tasks, actions, np.empty((1, actions.shape[1])), weights)
    return weights


@kernel
def _differentiate(
    hardware: NDArray[np.void],
    cuts: NDArray[np.void],
    log_power_ratio: float,
    tasks: NDArray[np.float64],
    actions: NDArray[np.float64],
    trial: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> None:
    """Differences of the shares of both budgets that are used; `trial` is room for one action."""
    for i in range(tasks.shape[0]):
        for k in range(1, actions.shape[1]):
            time, energy = 0.0, 0.0
            for sign in (-1.0, 1.0):
                for j in range(actions.shape[1]):
                    trial[0, j] = actions[i, j]
                trial[0, k] = min(1.0, max(-1.0, actions[i, k] + sign * _STEP))
                s, rho_device, rho_server, power, f_device, f_server = spaces.decode(
                    hardware, cuts.shape[0], trial, 0, log_power_ratio
                )
                t_device, tau, t_server, e_device, e_upload, e_server = evaluate(
                    hardware, cuts, s, tasks[i, 0], rho_device, rho_server, power, f_device, f_server
                )
                time += sign * (t_device + tau + t_server)
                energy += sign * (e_device + e_upload + e_server)
            moved = abs(time) / max(tasks[i, 1], _LITTLE) + abs(energy) / max(tasks[i, 2], _LITTLE)
            weights[i, k] = min(0.5 * moved / _STEP, _MOST_WEIGHT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m agents.imitate", description="Clone a policy into an agent.")
    parser.add_argument("config", help="YAML file, such as configs/imitation/queueing.yaml")
    parser.add_argument("--out", type=Path, help="folder (default: runs/imitation/NAME OF THE CONFIG)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that watch the teacher (default: 1)")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    folder = options.out or Path("runs", "imitation", Path(options.config).stem)
    try:
        if options.jobs < 1:
            raise InvalidInputError("jobs", options.jobs, "Give 1 or more.")
        config = load_config(options.config)
        result = imitate(config, folder, shlex.join(["python", "-m", "agents.imitate", *given]), options.jobs)
    except InvalidInputError as error:
        print(f"agents.imitate: {error}", file=sys.stderr)
        return 2
    best = result["scores"]["teacher"]["delivered"]
    for name, score in result["scores"].items():
        share = score["delivered"] / best if best > 0.0 else float("nan")
        print(f"{name:20} quality {score['delivered']:.4f} ({share:.2%}), violations {score['violated']:.2%}")
    print(f"written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
