"""Put in a network of your own: transformers configuration -> workload -> environment (extra models; no weights)."""

from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium as gym
from transformers import DistilBertConfig

from coinfer_gym import solve_exact
from coinfer_gym.models.build import workload_from_config

workload = workload_from_config(DistilBertConfig(), tokens=128)
print(f"{len(workload.blocks)} blocks, {workload.flops / 1e9:.1f} GFLOPs, {workload.parameters / 1e6:.0f} M parameters")
for block in workload.blocks[:3]:
    print(block)

with TemporaryDirectory() as folder:
    path = Path(folder) / "distilbert.yaml"
    workload.save(path)
    # A new workload brings its own raw sample, here token ids. Set input_bits for a photo that comes with the prompt.
    env = gym.make("coinfer_gym:coinfer_gym/LAIM-v0", workload=str(path), input_bits=3e5, energy_budget=0.4)

for seed in range(3):
    env.reset(seed=seed)
    best = solve_exact(env.unwrapped.problem())
    print(f"world {seed}: cut {best.cut}, quality {best.quality:.3f}, {best.delay:.3f} s")
