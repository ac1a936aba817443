"""Callbacks of training: physical quantities for TensorBoard, held-out evaluation, checkpoints, the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

from agents.actors import find_actor
from agents.checkpoints import find_checkpoints, training_state
from agents.held_out import SELECTION_SEED, play
from agents.tensor_files import save_tensors
from agents.vec_env import find_lagrangian, native_env
from baselines.family import Columns, family_of, scenario_of
from baselines.rollout import join, metrics
from coinfer_gym.files import csv_text, read_csv, write_text
from coinfer_gym.sb3 import NativeVecEnv

__all__ = ["CheckpointCallback", "EvaluationCallback", "PhysicsCallback", "WarmupCallback"]

_EXAMINED = 256
"""Decisions, evenly spread over those logged at once, of which the family's own metrics are computed."""


class PhysicsCallback(BaseCallback):
    """Log what return hides: delivered quality, delay, energy, violations, drops, and the family's own metrics.

    Their names in TensorBoard begin with that of the family, for example ``laim/regret``. The return is that of the
    rewards in training.

    Parameters
    ----------
    every : int
        Decisions of which a mean is taken.
    """

    def __init__(self, every: int = 8192) -> None:
        super().__init__()
        self._every = every
        self._steps: list[Columns] = []

    def _on_step(self) -> bool:
        rewards = {"reward": self.locals["rewards"]}
        self._steps.append(native_env(self.training_env).decisions | rewards)
        if len(self._steps) * self.training_env.num_envs >= self._every:
            self._flush()
        return True

    def _on_training_end(self) -> None:
        if self._steps:
            self._flush()

    def _flush(self) -> None:
        decisions = join(self._steps)
        self._steps = []
        scenario = scenario_of(native_env(self.training_env).env)
        family = family_of(scenario)
        total = len(decisions["delivered"])
        some = np.unique(np.linspace(0, total - 1, min(_EXAMINED, total)).astype(np.int64))
        examined = {name: column[some] for name, column in decisions.items()}
        for name, value in (metrics(decisions) | family.measure(scenario, examined)).items():
            self.logger.record_mean(f"{family.name}/{name}", value)
        penalties = find_lagrangian(self.training_env)
        if penalties is not None:
            self.logger.record(f"{family.name}/multiplier", penalties.multiplier)


class EvaluationCallback(BaseCallback):
    """Play held-out worlds now and then between two rollouts, and keep the best agent.

    The best agent is the one that delivers the most quality among those that miss a budget in at most `violations` of
    the decisions, or else the one that misses the fewest. The ``EvalCallback`` of stable-baselines3 compares
    mean rewards only, and plays other worlds every time.

    Parameters
    ----------
    env : NativeVecEnv
        Held-out worlds; its own instance.
    every : int
        Decisions between two evaluations.
    folder : Path
        Gets ``evaluations.csv``.
    keep : callable
        Called with the number of decisions when an agent is the best so far.
    violations : float
        Share of decisions that may miss a budget.
    say : callable
        Called with a line of text after every evaluation.
    """

    def __init__(
        self,
        env: NativeVecEnv,
        every: int,
        folder: Path,
        keep: Callable[[int], None],
        violations: float,
        say: Callable[[str], None] = tqdm.write,
    ) -> None:
        super().__init__()
        self._held_out, self._every, self._keep, self._violations = env, every, keep, violations
        self._say = say
        self._file = folder / "evaluations.csv"
        self._best = (-np.inf, -np.inf)
        self._next = 0

    def resume(self, timesteps: int) -> None:
        """Continue from a checkpoint: forget the rows after it, and remember the best of those before."""
        rows = [row for row in read_evaluations(self._file) if row["timesteps"] <= timesteps]
        if rows:
            write_text(self._file, csv_text(rows))
            self._best = max(self._rank(row["delivered"], row["violated"]) for row in rows)
            self._next = int(rows[-1]["timesteps"]) + self._every

    def evaluate(self) -> None:
        """Play the held-out worlds once, log and compare."""
        score = play(self._held_out, self.model, SELECTION_SEED)
        row = {"timesteps": float(self.model.num_timesteps)} | score
        write_text(self._file, csv_text([*read_evaluations(self._file), row]))
        for name, value in score.items():
            self.logger.record(f"eval/{name}", value)
        rank = self._rank(score["delivered"], score["violated"])
        better = rank > self._best
        self._say(
            f"{self.model.num_timesteps:>10} decisions: quality {score['delivered']:.4f}, "
            f"violations {score['violated']:.2%}{', the best so far' if better else ''}"
        )
        if better:
            self._best = rank
            self._keep(self.model.num_timesteps)

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps >= self._next:
            self._next = self.model.num_timesteps + self._every
            self.evaluate()

    def _on_step(self) -> bool:
        return True

    def _rank(self, delivered: float, violated: float) -> tuple[float, float]:
        return (0.0, delivered) if violated <= self._violations else (-violated, delivered)


class CheckpointCallback(BaseCallback):
    """Save everything between two rollouts now and then, and stop there on request or when time is up.

    Parameters
    ----------
    folder : Path
    every : int
        Decisions between two checkpoints.
    elapsed : float
        Seconds trained before.
    most_seconds : float
        Seconds after which training stops; those trained before count.
    kept : int
        Checkpoints that stay; older ones are deleted.
    """

    def __init__(
        self, folder: Path, every: int, elapsed: float = 0.0, most_seconds: float = np.inf, kept: int = 2
    ) -> None:
        super().__init__()
        self._folder, self._every, self._most, self._kept = folder, every, most_seconds, kept
        self._start = time.monotonic() - elapsed
        self._next = 0
        self._stopping = False
        self.asked = False

    @property
    def elapsed(self) -> float:
        """Seconds of training, those before a resume included."""
        return time.monotonic() - self._start

    @property
    def stopped(self) -> bool:
        """Whether training was stopped before its end."""
        return self._stopping

    def ask_to_stop(self) -> None:
        """Have training stop before the next rollout; safe in a signal handler."""
        self.asked = True

    def save(self) -> None:
        """Write a checkpoint now; the model must stand between two rollouts."""
        path = self._folder / f"step_{self.model.num_timesteps:012d}.pt"
        save_tensors(training_state(self.model, self.elapsed), path)
        for old in find_checkpoints(self._folder)[self._kept :]:
            old.unlink()

    def _on_training_start(self) -> None:
        self._next = self.model.num_timesteps + self._every

    def _on_rollout_start(self) -> None:
        self._stopping = self.asked or self.elapsed >= self._most
        if self._stopping or self.model.num_timesteps >= self._next:
            self._next = self.model.num_timesteps + self._every
            self.save()

    def _on_step(self) -> bool:
        return not self._stopping


class WarmupCallback(BaseCallback):
    """Freeze the actor at first, while the critic or value network learns what it is worth.

    The entropy coefficient of SAC and TQC is frozen, too: it would adapt to an actor that cannot respond.

    Parameters
    ----------
    algo : str
    decisions : int
        Decisions until the actor learns, too.
    """

    def __init__(self, algo: str, decisions: int) -> None:
        super().__init__()
        self._algo, self._decisions = algo, decisions

    def _on_training_start(self) -> None:
        optimizer = getattr(self.model, "ent_coef_optimizer", None)
        if optimizer is not None:
            optimizer.register_step_pre_hook(lambda optimizer, *_: optimizer.zero_grad() if self._resting else None)

    def _on_rollout_end(self) -> None:
        for name, parameter in self.model.policy.named_parameters():
            if name.startswith(find_actor(self._algo).parts):
                parameter.requires_grad_(not self._resting)

    def _on_step(self) -> bool:
        return True

    @property
    def _resting(self) -> bool:
        return self.model.num_timesteps <= self._decisions


def read_evaluations(path: Path) -> list[dict[str, float]]:
    """Rows of ``evaluations.csv``; none where there is no such file."""
    rows = read_csv(path) if path.is_file() else []
    return [{name: float(value) for name, value in row.items()} for row in rows]
