"""Worlds and lanes that the tests of the adapter to Stable-Baselines3 and of its training rewards share."""

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

LAIM = "coinfer_gym/LAIM-v0"
LANES = 5
QUEUE = {"tasks": 12, "arrivals": "poisson", "arrival_rate": 3.0}
ONE = {"tasks": 7, "arrivals": "one_at_a_time"}


def make_dummy(lanes, **env_kwargs):
    return DummyVecEnv([lambda: gym.make(LAIM, **env_kwargs) for _ in range(lanes)])


def random_actions(seed, steps, lanes=LANES):
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (steps, lanes, 6)).astype(np.float32)
