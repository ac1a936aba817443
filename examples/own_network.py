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

env.reset(seed=0)
problem = env.unwrapped.problem()
for cut in range(len(workload.blocks) + 1):
    best = solve_exact(problem, cut=cut)
    print(f"cut {cut}: quality {best.quality:.3f}" if best.feasible else f"cut {cut}: too little {best.reason}")
print(f"the best cut is {solve_exact(problem).cut}")
