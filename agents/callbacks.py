"""What happens beside learning: physical quantities to TensorBoard, held-out evaluation, checkpoints, the clock."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

from agents.actors import find_actor
from agents.checkpoints import find_checkpoints, training_state
from agents.held_out import SELECTION_SEED, Score, deterministic, is_layerwise, play, regrets
from agents.tensor_files import save_tensors
from agents.vec_env import find_lagrangian, native_env
from coinfer_gym.sb3 import NativeVecEnv

__all__ = ["CheckpointCallback", "EvaluationCallback", "PhysicsCallback", "ProgressCallback", "WarmupCallback"]

_LOGGED = {
    "delivered": "quality",
    "delay_s": "delay_s",
    "energy_j": "energy_j",
    "violated": "violations",
    "dropped": "drops",
}
"""Scalars, by the column of the infos that they are the mean of."""

_FOR_REGRET = ("gain_db", "delay_budget_s", "energy_budget_j", "delivered")


class PhysicsCallback(BaseCallback):
    """Log what return hides: delivered quality, delay, energy, violations, drops, and the regret to the exact optimum.

    In Layerwise-v0 that is ``layerwise/`` instead of ``laim/``, and the predicted accuracy instead of the regret.

    Parameters
    ----------
    every : int
        Decisions of which a mean is taken.
    solved : int
        Decisions of these that are solved exactly for the regret.
    """

    def __init__(self, every: int = 8192, solved: int = 64) -> None:
        super().__init__()
        self._every, self._solved = every, solved
        self._columns: dict[str, list[NDArray[Any]]] = {}
        self._gathered = 0

    def _on_step(self) -> bool:
        lanes = native_env(self.training_env)
        decisions = lanes.decisions
        for name in {*_LOGGED, *(("accuracy",) if is_layerwise(lanes) else _FOR_REGRET)}:
            self._columns.setdefault(name, []).append(decisions[name])
        self._gathered += lanes.num_envs
        if self._gathered >= self._every:
            self._flush()
        return True

    def _on_training_end(self) -> None:
        if self._gathered:
            self._flush()

    def _flush(self) -> None:
        columns = {name: np.concatenate(parts) for name, parts in self._columns.items()}
        lanes = native_env(self.training_env)
        group = "layerwise" if is_layerwise(lanes) else "laim"
        for column, name in _LOGGED.items():
            self.logger.record_mean(f"{group}/{name}", float(columns[column].mean()))
        if is_layerwise(lanes):
            self.logger.record_mean(f"{group}/accuracy", float(columns["accuracy"].mean()))
        else:
            self.logger.record_mean(f"{group}/regret", float(regrets(lanes, columns, self._solved).mean()))
        self._columns, self._gathered = {}, 0
        penalties = find_lagrangian(self.training_env)
        if penalties is not None:
            self.logger.record(f"{group}/multiplier", penalties.multiplier)


class EvaluationCallback(BaseCallback):
    """Play held-out worlds with deterministic actions now and then, and keep the best agent.

    The best is the one that delivers the most quality among those that miss a budget in at most `violations` of the
    decisions, or else the one that misses the fewest.

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
        """Go on behind a checkpoint: forget the rows after it, and remember the best of those before."""
        rows = [row for row in read_evaluations(self._file) if row["timesteps"] <= timesteps]
        if rows:
            self._rewrite(rows)
            self._best = max(self._rank(row["delivered"], row["violated"]) for row in rows)
            self._next = int(rows[-1]["timesteps"]) + self._every

    def evaluate(self) -> Score:
        """Play the held-out worlds once, log and compare."""
        score = play(self._held_out, deterministic(self.model, self._held_out), SELECTION_SEED)
        row = {"timesteps": float(self.model.num_timesteps)} | score.as_dict()
        self._rewrite([*read_evaluations(self._file), row])
        for name, value in score.as_dict().items():
            self.logger.record(f"eval/{name}", value)
        rank = self._rank(score.delivered, score.violated)
        better = rank > self._best
        self._say(
            f"{self.model.num_timesteps:>10} decisions: quality {score.delivered:.4f}, "
            f"violations {score.violated:.2%}{', the best so far' if better else ''}"
        )
        if better:
            self._best = rank
            self._keep(self.model.num_timesteps)
        return score

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps >= self._next:
            self._next = self.model.num_timesteps + self._every
            self.evaluate()

    def _on_step(self) -> bool:
        return True

    def _rank(self, delivered: float, violated: float) -> tuple[float, float]:
        return (0.0, delivered) if violated <= self._violations else (-violated, delivered)

    def _rewrite(self, rows: list[dict[str, float]]) -> None:
        temporary = self._file.with_suffix(".tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self._file)


class CheckpointCallback(BaseCallback):
    """Save everything between two rollouts now and then, and stop there when asked to or when time is up.

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
        """Have training stop before the next rollout; harmless at any moment."""
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
    """Keep the actor as it began while the critic or value network learns what it is worth.

    The entropy coefficient of SAC and TQC rests, too: it would answer to an actor that cannot follow it.

    Parameters
    ----------
    algo : str
    decisions : int
        Until which the actor stays.
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


class ProgressCallback(BaseCallback):
    """A progress bar on the terminal; nothing where there is no terminal.

    Parameters
    ----------
    total : int
        Decisions at the end of training.
    """

    def __init__(self, total: int) -> None:
        super().__init__()
        self._total = total
        self._bar: tqdm[Any] | None = None

    def _on_training_start(self) -> None:
        self._bar = tqdm(total=self._total, initial=self.model.num_timesteps, unit="decision", disable=None)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self._bar is not None:
            self._bar.update(self.model.num_timesteps - self._bar.n)

    def _on_training_end(self) -> None:
        if self._bar is not None:
            self._bar.close()


def read_evaluations(path: Path) -> list[dict[str, float]]:
    """Rows of ``evaluations.csv``; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
