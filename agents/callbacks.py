"""Callbacks of training: physical quantities for TensorBoard, held-out evaluation, checkpoints, the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from agents.actors import find_actor
from agents.checkpoints import find_checkpoints, training_state
from agents.held_out import SELECTION_SEED, play
from agents.tensor_files import save_tensors
from baselines.family import Columns, family_of, scenario_of
from baselines.rollout import join, metrics
from coinfer_gym.sb3 import NativeVecEnv
from coinfer_gym.sb3_rewards import find_lagrangian, native_env

__all__ = ["CheckpointCallback", "EvaluationCallback", "PhysicsCallback", "WarmupCallback"]

_EXAMINED = 256
"""Decisions, evenly spread over those logged at once, of which the family's own metrics are computed."""

_KEPT = 2  # checkpoints; older ones are deleted


class PhysicsCallback(BaseCallback):
    """Log the means of `every` decisions: delivered quality, delay, energy, violations, drops, which a return hides.

    Names begin with that of the family, whose own metrics are among them, for example ``laim/regret``. The return is
    that of the rewards in training.
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
        total = len(decisions["delivered"])
        some = np.unique(np.linspace(0, total - 1, min(_EXAMINED, total)).astype(np.int64))
        examined = {name: column[some] for name, column in decisions.items()}
        for name, value in (metrics(decisions) | family_of(scenario).measure(scenario, examined)).items():
            self.logger.record_mean(f"{scenario.family}/{name}", value)
        penalties = find_lagrangian(self.training_env)
        if penalties is not None:
            self.logger.record(f"{scenario.family}/multiplier", penalties.multiplier)


class EvaluationCallback(BaseCallback):
    """Play the same held-out worlds after `every` so many decisions, between two rollouts; log and report the score.

    The ``EvalCallback`` of stable-baselines3 plays other worlds every time, in the middle of rollouts.

    Parameters
    ----------
    env : NativeVecEnv
        Held-out worlds; its own instance.
    every : int
    report : callable
        Called with the number of decisions and the score.
    last : int, optional
        Decisions until the last evaluation; if there was none, the first is at the beginning.
    """

    def __init__(
        self, env: NativeVecEnv, every: int, report: Callable[[int, dict[str, float]], None], last: int | None = None
    ) -> None:
        super().__init__()
        self._held_out, self._every, self._report = env, every, report
        self._next = 0 if last is None else last + every

    def evaluate(self) -> None:
        """Play the held-out worlds once."""
        score = play(self._held_out, self.model, SELECTION_SEED)
        for name, value in score.items():
            self.logger.record(f"eval/{name}", value)
        self.logger.dump(self.model.num_timesteps)  # otherwise the value waits for the next row, and loses its place
        self._report(self.model.num_timesteps, score)

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps >= self._next:
            self._next = self.model.num_timesteps + self._every
            self.evaluate()

    def _on_step(self) -> bool:
        return True


class CheckpointCallback(BaseCallback):
    """Save all after `every` so many decisions, between two rollouts, and stop there on request or when time is up.

    `elapsed` are the seconds trained before, which count among the `most_seconds`.
    """

    def __init__(self, folder: Path, every: int, elapsed: float = 0.0, most_seconds: float = np.inf) -> None:
        super().__init__()
        self._folder, self._every, self._most = folder, every, most_seconds
        self._start = time.monotonic() - elapsed
        self._next = 0
        self.stopped = False
        self.asked = False

    @property
    def elapsed(self) -> float:
        """Seconds of training, those before a resume included."""
        return time.monotonic() - self._start

    def ask_to_stop(self) -> None:
        """Have training stop before the next rollout; safe in a signal handler."""
        self.asked = True

    def save(self) -> None:
        """Write a checkpoint now; the model must stand between two rollouts."""
        path = self._folder / f"step_{self.model.num_timesteps:012d}.pt"
        save_tensors(training_state(self.model, self.elapsed), path)
        for old in find_checkpoints(self._folder)[_KEPT:]:
            old.unlink()

    def _on_training_start(self) -> None:
        self._next = self.model.num_timesteps + self._every

    def _on_rollout_start(self) -> None:
        self.stopped = self.asked or self.elapsed >= self._most
        if self.stopped or self.model.num_timesteps >= self._next:
            self._next = self.model.num_timesteps + self._every
            self.save()

    def _on_step(self) -> bool:
        return not self.stopped


class WarmupCallback(BaseCallback):
    """Freeze the actor for so many `decisions`, while the critic or value network learns what it is worth.

    The entropy coefficient of SAC and TQC is frozen, too: it would adapt to an actor that cannot respond.
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
