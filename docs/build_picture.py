"""Draw the pictures of README and site: `python docs/build_picture.py`, a burst of tasks and a cell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium as gym
from PIL import Image

from coinfer_gym import solve_exact

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"


def main() -> None:
    """Play the exact optimum of every task, in a cell at half of what is free, and keep the picture of the last one."""
    laim = gym.make("coinfer_gym:coinfer_gym/LAIM-v0", render_mode="rgb_array")
    _draw("laim", laim, seed=7, decisions=65)
    cell = gym.make("coinfer_gym:coinfer_gym/Cell-v0", render_mode="rgb_array", scenario="cell-16")
    _draw("cell", cell, seed=1, decisions=230)


def _draw(name: str, env: gym.Env[Any, Any], seed: int, decisions: int) -> None:
    inner: Any = env.unwrapped
    env.reset(seed=seed)
    for _ in range(decisions):
        shares = [max(0.5 * free, inner.scenario.share_min) for free in inner.free] if name == "cell" else []
        env.step(inner.action(solve_exact(inner.problem(*shares)), *shares))
    picture: Any = env.render()
    temporary = IMAGES / f"{name}.tmp.png"
    Image.fromarray(picture).save(temporary, optimize=True)
    os.replace(temporary, IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
