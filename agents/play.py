"""Watch a trained agent: ``python -m agents.play PATH`` records a GIF of an episode and prints what it decides.

``PATH`` is the folder of a run, an agent's file, or the name of a shipped agent. ``--render human`` opens a window
instead. Pictures need the extra ``render``.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.error import DependencyNotInstalled

import coinfer_gym  # noqa: F401  registers the ids
from agents.evaluate import find_agent
from agents.policy import load_agent
from baselines import rollout
from baselines.family import family_of, scenario_of
from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.checks import check_whole
from coinfer_gym.command import command
from coinfer_gym.files import write_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["encode_gif", "main", "play"]

_MOST_FRAMES = 100
_FRAME_MS = 600
_WIDTH = 720  # of a picture, in pixels


def play(
    path: str | Path,
    seed: int = 0,
    tasks: int = 40,
    mode: str = "rgb_array",
    say: Callable[[str], None] = print,
) -> list[NDArray[np.uint8]]:
    """Play the beginning of an episode, showing every decision.

    Parameters
    ----------
    path : str or Path
        As for `agents.evaluate.find_agent`.
    seed : int
        World ``reset(seed=seed)`` of the environment that the agent was trained for.
    tasks : int
        Decisions to show.
    mode : {"rgb_array", "human"}
        Pictures to return, a hundred at most, or a window.
    say : callable
        Called with a line of text per decision.
    """
    check_whole("tasks", tasks, 1)
    check_whole("seed", seed, 0)
    agent = load_agent(find_agent(path))
    env_id, keywords = agent.trained_for
    env = _Shown(gym.make(env_id, render_mode=mode, **keywords), tasks, say)
    try:
        [episode] = rollout.play(gym.wrappers.TimeLimit(env, tasks), agent.bind(env), [seed])
    finally:
        env.close()
    measured, lost = rollout.metrics(episode), episode["dropped"].sum()
    earned = f"{len(episode['dropped'])} decisions: quality {measured['delivered']:.4f} per task"
    say(f"{earned}, {measured['violated']:.1%} missed a budget, {lost:.0f} lost waiting")
    return env.frames


class _Shown(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that says what every decision was, and keeps pictures of up to `_MOST_FRAMES` of them."""

    def __init__(self, env: gym.Env[Any, Any], tasks: int, say: Callable[[str], None]) -> None:
        super().__init__(env)
        self.frames: list[Any] = []
        self._say, self._every, self._decisions = say, math.ceil(tasks / _MOST_FRAMES), 0
        self._columns = family_of(scenario_of(env)).decision
        say(" ".join(column.title.rjust(int(column.form.split(".")[0])) for column in self._columns.values()))

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Decide a task, and show it."""
        found = self.env.step(action)
        info = found[-1]
        cells = (f"{column.factor * info[key]:{column.form}}" for key, column in self._columns.items())
        self._say(f"{' '.join(cells)}  {_outcome(info)}")
        if self.render_mode == "rgb_array" and self._decisions % self._every == 0:
            self.frames.append(self.env.render())
        self._decisions += 1
        return found


def encode_gif(frames: Sequence[NDArray[np.uint8]]) -> bytes:
    """Pictures of shape (height, width, 3) as a GIF; a hundred take about 1 MB."""
    from PIL import Image

    height = round(_WIDTH * frames[0].shape[0] / frames[0].shape[1])
    pictures = [Image.fromarray(frame).resize((_WIDTH, height), Image.Resampling.LANCZOS) for frame in frames]
    # One palette for all, so that unchanged areas compress well; every sixteenth pixel is enough to choose it.
    palette = Image.fromarray(np.concatenate([np.asarray(picture)[::4, ::4] for picture in pictures])).quantize(48)
    first, *rest = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=_FRAME_MS, loop=0, optimize=True)
    return buffer.getvalue()


def _outcome(info: dict[str, Any]) -> str:
    parts = [
        text
        for text, holds in (
            ("given up", info["abandoned"] > 0.0),
            ("too late", info["cost_delay"] > BUDGET_TOLERANCE),
            ("too costly", info["cost_energy"] > BUDGET_TOLERANCE),
            ("too inaccurate", info.get("cost_accuracy", 0.0) > 0.0),
        )
        if holds
    ]
    lost = f"; {info['dropped']:.0f} lost waiting" if info["dropped"] > 0.0 else ""
    return (" and ".join(parts) or "delivered") + lost


@command("agents.play", errors=(DependencyNotInstalled,))
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        "python -m agents.play", description="Record or show an episode of a trained agent."
    )
    parser.add_argument("path", help="folder of a run, file of an agent, or name of a shipped agent")
    parser.add_argument("--seed", type=int, default=0, help="seed of the world (default: 0)")
    parser.add_argument("--tasks", type=int, default=40, help="number of decisions to show (default: 40)")
    parser.add_argument("--render", choices=("human", "gif"), default="gif", help="window or file (default: gif)")
    parser.add_argument("--out", type=Path, default=Path("play.gif"), help="path of the GIF (default: play.gif)")
    options = parser.parse_args(arguments)
    mode = "human" if options.render == "human" else "rgb_array"
    frames = play(options.path, options.seed, options.tasks, mode)
    if frames:
        content = encode_gif(frames)
        write_bytes(options.out, content)
        print(f"{len(frames)} frames, {len(content) / 1000:.0f} kB, written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
