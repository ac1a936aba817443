"""Formulas give the same numbers interpreted (``NUMBA_DISABLE_JIT=1``, for a debugger) as compiled."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import json
import gymnasium as gym, numpy as np
from coinfer_gym import load_scenario, physics, solve_exact
from coinfer_gym.laim.distortion import QUALITIES

numbers = [physics.transmission_rate(0.3, 1e-11, 1e6, 1e-18), physics.snr_of_rate(2e6, 1e6),
           physics.compute_energy(0.5, 8e9, 2e9, 16.0, 1.25, 1e-27), physics.power_at(1.0, 1e-11, 1e6, 1e-18)]
for name in ("LAIM", "Layerwise", "Cell"):
    for parallel in (False, True):
        env = gym.make_vec(f"coinfer_gym/{name}-v0", 3, vectorization_mode="vector_entry_point", parallel=parallel,
                           csi_noise_db=1.0)
        numbers += env.reset(seed=5)[0].ravel().tolist()
        rng = np.random.default_rng(0)
        for _ in range(4):
            observation, reward, _, _, info = env.step(rng.uniform(-1.1, 1, env.action_space.shape).astype("f4"))
            numbers += [*observation.ravel().tolist(), *reward.tolist(), *info["energy_j"].tolist()]
for scenario, quality in [("bert-multimodal", name) for name in QUALITIES] + [("minilm-squad", "accuracy")]:
    world = load_scenario(scenario, quality=quality)
    for share in (0.3, 0.8, 1e-6):
        best = solve_exact(world.problem(1e-10, share * world.delay_budget, world.energy_budget))
        numbers += [best.cut, best.retained_device, best.power, best.delay, best.energy, best.quality]
print(json.dumps(numbers))
"""


def numbers(interpreted):
    environment = os.environ | {"NUMBA_DISABLE_JIT": str(int(interpreted))}
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return np.array(json.loads(out))


def test_interpreted_formulas_give_what_compiled_ones_give():
    assert numbers(True) == pytest.approx(numbers(False), rel=1e-9, abs=1e-12)
