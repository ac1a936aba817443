"""Play over a channel that you recorded: a CSV file with a time and a gain, an SNR or a throughput in each row."""

from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium as gym
import numpy as np

from coinfer_gym import solve_exact

# A drive past the base station, one row every 0.1 s. Replace this by your own file.
times = np.arange(0.0, 60.0, 0.1)
distances = np.hypot(50.0, 14.0 * (times - 30.0))  # m
gains = -40.0 - 30.0 * np.log10(distances) + np.random.default_rng(0).normal(0.0, 3.0, times.size)  # dB

with TemporaryDirectory() as folder:
    path = Path(folder) / "drive.csv"
    np.savetxt(path, np.column_stack([times, gains]), fmt="%.4f", delimiter=",", header="time_s,gain_db", comments="")
    env = gym.make("coinfer_gym:coinfer_gym/LAIM-v0", channel="trace", channel_trace=str(path), tasks=50)

# Every seed starts at another place of the record.
for seed in range(3):
    env.reset(seed=seed)
    gains_seen, delivered, ended = [], [], False
    while not ended:
        best = solve_exact(env.unwrapped.problem())
        _, _, terminated, truncated, info = env.step(env.unwrapped.action(best))
        gains_seen.append(info["gain_db"])
        delivered.append(info["delivered"])
        ended = terminated or truncated
    print(f"seed {seed}: {min(gains_seen):.0f} to {max(gains_seen):.0f} dB, delivered {np.mean(delivered):.3f}")
