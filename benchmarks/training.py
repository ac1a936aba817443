"""Cost of a training frame over the native vector environment and over SB3's batch of single environments."""

from __future__ import annotations

import agents  # noqa: F401  # isort: skip  # first: it names the extra

import time
from collections.abc import Callable
from statistics import median

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

import coinfer_gym  # noqa: F401  registers the ids
from benchmarks.measure import interleave
from coinfer_gym.sb3 import make_native

LANES = 64
_ID = "coinfer_gym/LAIM-v0"
_STEPS = 400
_FRAMES = 16_384


def measure(repetitions: int = 5) -> dict[str, float]:
    """Microseconds per frame of collecting alone, and frames per second of PPO's whole training."""
    torch.set_num_threads(1)  # networks this small lose more by waiting for a second thread than it computes
    envs: dict[str, VecEnv] = {
        "native": make_native(_ID, LANES),
        "DummyVecEnv": DummyVecEnv([lambda: gym.make(_ID) for _ in range(LANES)]),
    }
    collecting = interleave({name: (_collect(env), LANES * _STEPS) for name, env in envs.items()}, repetitions)
    rates = {name: _train(env) for name, env in envs.items()}
    figures = {f"64 lanes: collecting a frame, {name}, us": median(times) * 1e6 for name, times in collecting.items()}
    figures["64 lanes: cost of a frame, native to DummyVecEnv"] = median(collecting["native"]) / median(
        collecting["DummyVecEnv"]
    )
    figures |= {f"64 lanes: PPO, {name}, frames/s": rate for name, rate in rates.items()}
    return figures


def _collect(env: VecEnv) -> Callable[[], None]:
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (_STEPS, LANES, 6)).astype(np.float32)
    env.seed(0)
    env.reset()

    def run() -> None:
        for batch in actions:
            env.step(batch)

    return run


def _train(env: VecEnv) -> float:
    """Frames per second of ``PPO.learn`` at the defaults but for large batches."""
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=1024, seed=0, device="cpu")
    model.learn(LANES * 64)
    start = time.perf_counter()
    model.learn(_FRAMES)
    return _FRAMES / (time.perf_counter() - start)
