"""The training of a run: it learns, evaluates, saves, and ends with its best agent beside a reference."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import numba
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from tqdm import tqdm

from agents.actors import find_actor
from agents.agent_file import AGENT_FILE, save_agent
from agents.callbacks import CheckpointCallback, EvaluationCallback, PhysicsCallback, WarmupCallback
from agents.checkpoints import find_checkpoints, restore_training, start_from
from agents.evaluations import Evaluations
from agents.held_out import TEST_SEED, play, reference
from agents.hyperparameters import Hyperparameters
from agents.policy import load_agent
from agents.runs import RunConfig, build_env, build_model, open_folder, write_config
from agents.tensor_files import load_tensors
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import lock_folder, write_text

__all__ = ["train"]

_LOGGED_DECISIONS = 16_384  # between two rows of TensorBoard


def train(config: RunConfig, command: Sequence[str] = (), resume: bool = False, overwrite: bool = False) -> Path:
    """Train an agent, or resume a run.

    Parameters
    ----------
    config : RunConfig
    command : sequence of str
        Arguments of the command line, which the folder keeps.
    resume : bool
        Continue from the newest good checkpoint in the run's folder. `config` is that of the run, perhaps longer.
    overwrite : bool
        Replace another run in that folder.

    Returns
    -------
    Path
        Folder of the run.

    Raises
    ------
    InvalidInputError
        If a part of the configuration is bad, another run is in the folder, another command works there, or no
        checkpoint in it can be read.
    KeyboardInterrupt
        If Ctrl-C or a termination signal stopped the training; everything is saved before.
    """
    torch.set_num_threads(config.threads)
    numba.set_num_threads(min(config.threads, numba.get_num_threads()))
    config = config.resolve()  # once: the file of hyperparameters may change while the run goes on
    hyperparameters = config.load_hyperparameters()
    model = build_model(config, hyperparameters)
    activation = str(hyperparameters.policy_kwargs.get("activation_fn") or find_actor(config.algo).activation)
    if config.start and not (resume and find_checkpoints(config.folder / "checkpoints")):
        start_from(model, config.algo, activation, config.start)
    with lock_folder(config.folder):
        folder = config.folder if resume else open_folder(config, command, overwrite)
        elapsed = _restore(model, folder) if resume else 0.0
        write_config(config)  # it may have become longer
        print(f"{config.algo} in {config.env} for {hyperparameters.n_timesteps} decisions, into {folder}", flush=True)
        model.set_logger(configure(str(folder / "tensorboard"), ["tensorboard"]))

        def keep(steps: int) -> None:
            about = {name: getattr(config, name) for name in ("env", "env_kwargs", "wrapper", "seed")}
            save_agent(folder / AGENT_FILE, config.algo, model.policy.state_dict(), about, activation, steps)

        evaluations = Evaluations(folder / "evaluations.csv", config.violations, keep)
        if resume:
            evaluations.resume(model.num_timesteps)
        most = math.inf if config.max_minutes is None else 60.0 * config.max_minutes
        clock = CheckpointCallback(folder / "checkpoints", config.checkpoint_freq, elapsed, most)
        held_out = build_env(config, config.eval_lanes)
        evaluation = EvaluationCallback(held_out, config.eval_freq, evaluations.add, evaluations.last)
        _learn(config, model, hyperparameters, clock, evaluation)
        if clock.asked and clock.stopped:
            message = f"Stopped after {model.num_timesteps} decisions; resume by --resume --out {folder}"
            raise KeyboardInterrupt(message)
        if clock.stopped:
            print(f"Time is up; it goes on by --resume --max-minutes MORE --out {folder}")
        else:
            clock.save()
        if evaluations.last != model.num_timesteps:
            evaluation.evaluate()
        _compare(config, folder, clock.elapsed)
        print(f"{model.num_timesteps} decisions in {clock.elapsed:.0f} s of training; the run is in {folder}")
        return folder


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


def _learn(
    config: RunConfig,
    model: BaseAlgorithm,
    hyperparameters: Hyperparameters,
    clock: CheckpointCallback,
    evaluation: EvaluationCallback,
) -> None:
    left = hyperparameters.n_timesteps - model.num_timesteps
    callbacks: list[BaseCallback] = [evaluation, clock, PhysicsCallback(_LOGGED_DECISIONS // 2)]
    if left <= 0:
        for callback in callbacks[:2]:
            callback.init_callback(model)
        return
    if hyperparameters.warmup:
        callbacks.append(WarmupCallback(config.algo, hyperparameters.warmup))
    with _stops_on_signals(clock):
        model.learn(left, CallbackList(callbacks), _log_interval(model), reset_num_timesteps=False, progress_bar=True)
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
        if clock.asked and clock.stopped:
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


def _compare(config: RunConfig, folder: Path, seconds: float) -> None:
    """Write and show how the best agent does on held-out worlds, beside a reference that needs no learning."""
    env, bare = build_env(config, config.test_lanes), build_env(config, config.test_lanes, bare=True)
    name, policy = reference(bare)
    scores = {"agent": play(env, load_agent(folder), TEST_SEED), name: play(bare, policy, TEST_SEED)}
    write_text(folder / "results.json", json.dumps({**scores, "seconds": seconds}, indent=2) + "\n")
    best = scores[name]["delivered"]
    print(f"{'':14}{'quality':>9}{'share':>9}{'violations':>12}{'drops':>8}{'delay_s':>10}{'energy_j':>10}")
    for label, score in scores.items():
        quality, violated, dropped = (score[key] for key in ("delivered", "violated", "dropped"))
        share = quality / best if best > 0.0 else float("nan")
        print(
            f"{label:14}{quality:9.4f}{share:9.2%}{violated:12.2%}{dropped:8.2%}"
            f"{score['service_s']:10.4f}{score['energy_j']:10.4f}"
        )
    print(
        f"share: of the quality of {name}; violations: of the decisions, these missed a limit; drops: of the tasks, "
        "these were lost in the queue; delay_s: without the wait"
    )
