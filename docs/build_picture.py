"""Draw the picture of the README: `python docs/build_picture.py`, the exact optimum in a burst of tasks."""

from __future__ import annotations

import os
from pathlib import Path

import gymnasium as gym
from PIL import Image

from coinfer_gym import solve_exact

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "laim.png"
SEED, DECISIONS = 7, 65


def main() -> None:
    """Play the exact optimum of every task and keep the picture of the last one."""
    env = gym.make("coinfer_gym:coinfer_gym/LAIM-v0", render_mode="rgb_array")
    env.reset(seed=SEED)
    for _ in range(DECISIONS):
        laim = env.unwrapped
        env.step(laim.action(solve_exact(laim.problem())))
    temporary = PICTURE.with_suffix(".tmp.png")
    Image.fromarray(env.render()).save(temporary, optimize=True)
    os.replace(temporary, PICTURE)


if __name__ == "__main__":
    main()
