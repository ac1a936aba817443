"""Let an optimizer of your own decide: scipy's differential evolution on the problem of the task at hand."""

import gymnasium as gym
import numpy as np
from scipy.optimize import differential_evolution

from coinfer_gym import Decision, solve_exact

env = gym.make("coinfer_gym:coinfer_gym/LAIM-v0", arrivals="one_at_a_time")
env.reset(seed=0)
problem = env.unwrapped.problem()

bounds = [
    (0, problem.workload.cuts - 1),
    (problem.retained_device_min, 1.0),
    (problem.retained_server_min, 1.0),
    (problem.power_min, problem.power_max),
    (problem.frequency_device_min, problem.frequency_device_max),
    (problem.frequency_server_min, problem.frequency_server_max),
]


def loss(x):
    """Negative quality, and a penalty for what exceeds a budget."""
    design = problem.evaluate(Decision(round(x[0]), *x[1:]))
    late = max(design.delay / problem.delay_budget - 1.0, 0.0)
    costly = max(design.energy / problem.energy_budget - 1.0, 0.0)
    return -design.quality + 10.0 * (late + costly)


result = differential_evolution(loss, bounds, integrality=[1, 0, 0, 0, 0, 0], rng=0, maxiter=60, polish=False)
found = problem.evaluate(Decision(round(result.x[0]), *result.x[1:]))
best = solve_exact(problem)
print(f"found: cut {found.cut}, quality {found.quality:.4f} after {result.nfev} evaluations")
print(f"exact: cut {best.cut}, quality {best.quality:.4f}")

_, reward, _, _, info = env.step(env.unwrapped.action(found))
print(f"delivered {info['delivered']:.4f}, reward {reward:.4f}")
assert np.isclose(info["delay_s"], found.delay)
