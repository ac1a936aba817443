"""Train an agent: ``python -m agents.train --algo sac``. The folder of the run can be resumed, also after a kill."""

from __future__ import annotations

import argparse
import contextlib
import math
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numba
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.logger import configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from tqdm import tqdm

from agents.actors import find_actor
from agents.agent_file import AGENT_FILE, save_agent
from agents.arguments import key_and_value, yaml_value
from agents.callbacks import (
    CheckpointCallback,
    EvaluationCallback,
    PhysicsCallback,
    WarmupCallback,
)
from agents.checkpoints import find_checkpoints, restore_training, start_from
from agents.held_out import TEST_SEED, play, reference
from agents.hyperparameters import ALGORITHMS, Hyperparameters
from agents.policy import load_agent
from agents.runs import RunConfig, build_env, build_model, open_folder, read_config, read_config_file, write_results
from agents.tensor_files import load_tensors
from coinfer_gym.errors import InvalidInputError

__all__ = ["main", "train"]

_LOGGED_DECISIONS = 16_384  # between two rows of TensorBoard


def train(config: RunConfig, command: Sequence[str] = (), resume: bool = False, overwrite: bool = False) -> Path:
    """Train an agent, or resume a run.

    Parameters
    ----------
    config : RunConfig
    command : sequence of str
        Arguments of the command line, which the folder keeps.
    resume : bool
        Continue from the newest good checkpoint in the run's folder.
    overwrite : bool
        Replace another run in that folder.

    Returns
    -------
    Path
        Folder of the run.

    Raises
    ------
    InvalidInputError
        If a part of the configuration is bad, another run is in the folder, or no checkpoint in it can be read.
    """
    torch.set_num_threads(config.threads)
    numba.set_num_threads(min(config.threads, numba.get_num_threads()))
    hyperparameters = config.load_hyperparameters()
    model = build_model(config, hyperparameters)
    if config.start:
        start_from(model, config.algo, _activation(config, hyperparameters), config.start)
    folder = config.folder if resume else open_folder(config, command, overwrite)
    elapsed = _restore(model, folder) if resume else 0.0
    model.set_logger(configure(str(folder / "tensorboard"), ["tensorboard"]))
    most = math.inf if config.max_minutes is None else 60.0 * config.max_minutes
    clock = CheckpointCallback(folder / "checkpoints", config.checkpoint_freq, elapsed, most)
    keep = partial(_keep_agent, config, folder, model)
    held_out = build_env(config, config.eval_lanes)
    evaluation = EvaluationCallback(held_out, config.eval_freq, folder, keep, config.violations)
    if resume:
        evaluation.resume(model.num_timesteps)
    _learn(config, model, hyperparameters, clock, evaluation)
    _finish(config, folder, clock, evaluation, model)
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = vars(_parser().parse_args(given))
    resume, overwrite, config_file = (options.pop(name) for name in ("resume", "overwrite", "config"))
    chosen = {name: value for name, value in options.items() if value is not None}
    try:
        train(_config(chosen, config_file, resume), given, resume, overwrite)
    except InvalidInputError as error:
        print(f"agents.train: {error}", file=sys.stderr)
        return 2
    return 0


def _config(chosen: dict[str, Any], config_file: str | None, resume: bool) -> RunConfig:
    """Configuration of the command line over that of a file; or of the run that is resumed, which may become longer."""
    base = read_config_file(config_file) if config_file else RunConfig()
    for name in ("env_kwargs", "train_kwargs", "hyperparams"):
        if name in chosen:
            chosen[name] = getattr(base, name) | dict(chosen[name])
    config = read_config(base.model_dump() | chosen, config_file or "command line")
    if not resume:
        return config
    stored = read_config_file(config.folder / "config.yaml")
    hyperparams = dict(stored.hyperparams)
    if "n_timesteps" in chosen:
        hyperparams["n_timesteps"] = chosen["n_timesteps"]
    minutes = chosen.get("max_minutes", stored.max_minutes)
    changes = {"out": str(config.folder), "hyperparams": hyperparams, "max_minutes": minutes}
    return stored.model_copy(update=changes)


def _restore(model: BaseAlgorithm, folder: Path) -> float:
    """Bring the model to the newest checkpoint that can be read; returns the seconds trained until then."""
    checkpoints = find_checkpoints(folder / "checkpoints")
    for i, path in enumerate(checkpoints):
        older = f"Resuming from {checkpoints[i + 1].name} instead." if i + 1 < len(checkpoints) else "Train again."
        try:
            return restore_training(model, load_tensors(path, older))
        except InvalidInputError as error:
            if i + 1 == len(checkpoints):
                raise
            print(f"agents.train: {error}", file=sys.stderr)
    print(f"agents.train: {folder} has no checkpoint yet; starting at 0.", file=sys.stderr)
    return 0.0


def _keep_agent(config: RunConfig, folder: Path, model: BaseAlgorithm, steps: int) -> None:
    """Write the actor to its file."""
    hyperparameters = config.load_hyperparameters()
    wrapper = hyperparameters.env_wrapper
    about = {"env": config.env, "env_kwargs": config.env_kwargs, "wrapper": wrapper, "seed": config.seed}
    activation = _activation(config, hyperparameters)
    save_agent(folder / AGENT_FILE, config.algo, model.policy.state_dict(), about, activation, steps)


def _activation(config: RunConfig, hyperparameters: Hyperparameters) -> str:
    """Name of the activation between the layers of the run's networks."""
    return str(hyperparameters.policy_kwargs.get("activation_fn") or find_actor(config.algo).activation)


def _learn(
    config: RunConfig,
    model: BaseAlgorithm,
    hyperparameters: Hyperparameters,
    clock: CheckpointCallback,
    evaluation: EvaluationCallback,
) -> None:
    left = hyperparameters.n_timesteps - model.num_timesteps
    if left <= 0:
        clock.init_callback(model)
        evaluation.init_callback(model)
        return
    callbacks = CallbackList([evaluation, clock, PhysicsCallback(_LOGGED_DECISIONS // 2)])
    if hyperparameters.warmup:
        callbacks.callbacks.append(WarmupCallback(config.algo, hyperparameters.warmup))
    with _stops_on_signals(clock):
        model.learn(left, callbacks, _log_interval(model), reset_num_timesteps=False, progress_bar=True)
    if isinstance(model, (OnPolicyAlgorithm, OffPolicyAlgorithm)):
        model.dump_logs()


def _log_interval(model: BaseAlgorithm) -> int:
    """Rows of TensorBoard are written per so many iterations (PPO and its kin) or episodes (all others)."""
    if isinstance(model, OnPolicyAlgorithm):
        return max(1, _LOGGED_DECISIONS // (model.n_steps * model.n_envs))
    return model.n_envs


@contextlib.contextmanager
def _stops_on_signals(clock: CheckpointCallback) -> Iterator[None]:
    """Let Ctrl-C and a termination signal save and stop; a second one stops at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if clock.asked:
            raise KeyboardInterrupt
        clock.ask_to_stop()
        tqdm.write("Stopping after this rollout. Once more to stop at once.", file=sys.stderr)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _finish(
    config: RunConfig,
    folder: Path,
    clock: CheckpointCallback,
    evaluation: EvaluationCallback,
    model: BaseAlgorithm,
) -> None:
    """Save and evaluate the last agent, and compare the best one with a reference that needs no learning."""
    if clock.stopped:
        print(f"Stopped after {model.num_timesteps} decisions; resume by --resume --out {folder}")
    else:
        clock.save()
    evaluation.evaluate()
    agent = load_agent(folder)
    env, bare = build_env(config, config.test_lanes), build_env(config, config.test_lanes, bare=True)
    name, policy = reference(bare)
    scores = {"agent": play(env, agent, TEST_SEED), name: play(bare, policy, TEST_SEED)}
    write_results(folder, {**scores, "seconds": clock.elapsed})
    print(_table(scores))
    print(f"{model.num_timesteps} decisions in {clock.elapsed:.0f} s of training; the run is in {folder}")


def _table(scores: dict[str, dict[str, float]]) -> str:
    """Means per task on held-out worlds, as text."""
    best = list(scores.values())[-1]["delivered"]
    lines = [f"{'':14}{'quality':>9}{'share':>9}{'violations':>12}{'drops':>8}{'delay_s':>10}{'energy_j':>10}"]
    for name, score in scores.items():
        quality, violated, dropped = (score[key] for key in ("delivered", "violated", "dropped"))
        share = quality / best if best > 0.0 else float("nan")
        lines.append(
            f"{name:14}{quality:9.4f}{share:9.2%}{violated:12.2%}{dropped:8.2%}"
            f"{score['service_s']:10.4f}{score['energy_j']:10.4f}"
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m agents.train", description="Train an agent. --resume continues a run, also after it was killed."
    )
    parser.add_argument(
        "--config", help="YAML file with any of the options below by name; the command line overrides it"
    )
    parser.add_argument("--algo", help=f"one of {', '.join(ALGORITHMS)} (default: sac)")
    parser.add_argument("--env", help="environment id (default: coinfer_gym/LAIM-v0)")
    for name, text in (
        ("env-kwargs", "keywords of the environment"),
        ("train-kwargs", "further keywords in training only"),
        ("hyperparams", "hyperparameters that replace those of the file"),
    ):
        parser.add_argument(f"--{name}", nargs="+", action="extend", type=key_and_value, metavar="KEY=VALUE", help=text)
    parser.add_argument(
        "--wrapper",
        nargs="*",
        type=yaml_value,
        metavar="NAME",
        help="wrappers of coinfer_gym.laim.wrappers, innermost first, each as NAME or 'NAME: {argument: value}'; "
        "without a name, no wrapper (default: those of the hyperparameters)",
    )
    parser.add_argument("--start", help="agent file or folder of a run whose actor the training starts from")
    parser.add_argument("--conf-file", help="YAML of hyperparameters (default: configs/agents/<algo>.yml)")
    parser.add_argument("--out", help="folder of the run (default: runs/<algo>-<env>-<seed>)")
    for name, kind, text in (
        ("seed", int, "seed of networks, noise and training worlds"),
        ("n-timesteps", int, "decisions to train for"),
        ("max-minutes", float, "minutes after which training stops"),
        ("eval-freq", int, "decisions between two evaluations"),
        ("eval-lanes", int, "episodes of an evaluation"),
        ("test-lanes", int, "episodes of the final comparison"),
        ("checkpoint-freq", int, "decisions between two checkpoints"),
        ("violations", float, "share of decisions that may miss a budget in the agent that is kept"),
        ("threads", int, "threads of the networks and the environment"),
    ):
        parser.add_argument(f"--{name}", type=kind, help=text)
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    return parser


if __name__ == "__main__":
    sys.exit(main())
