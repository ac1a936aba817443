"""Train an agent of Stable-Baselines3 for a short while, and compare it with the exact optimum."""

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO

from coinfer_gym import solve_exact
from coinfer_gym.sb3 import make_native

torch.set_num_threads(1)  # fastest for small networks
DECISIONS, LANES = 20_000, 32  # a few seconds; some 150,000 decisions make a good agent


def delivered(env, choose, worlds=range(100, 105)):
    """Mean delivered quality in some worlds."""
    values = []
    for world in worlds:
        observation, _ = env.reset(seed=world)
        ended = False
        while not ended:
            observation, _, terminated, truncated, info = env.step(choose(observation))
            values.append(info["delivered"])
            ended = terminated or truncated
    return np.mean(values)


# The agent chooses what share of its remaining time a task may take; the exact optimum does the rest.
training = make_native("coinfer_gym/LAIMShares-v0", LANES)
network = {"net_arch": [64, 64], "log_std_init": -1.0}
model = PPO("MlpPolicy", training, n_steps=16, batch_size=512, n_epochs=8, gamma=0.99, policy_kwargs=network, seed=0)
model.learn(DECISIONS)

env = gym.make("coinfer_gym/LAIM-v0")
laim = env.unwrapped
agent = delivered(
    gym.make("coinfer_gym/LAIMShares-v0"), lambda observation: model.predict(observation, deterministic=True)[0]
)
myopic = delivered(env, lambda _: laim.action(solve_exact(laim.problem())))
print(f"agent:                     {agent:.3f}")
print(f"exact optimum of each task {myopic:.3f}")
