"""Let an optimizer of your own decide: scipy's differential evolution on the problem of the task at hand."""

import gymnasium as gym
import numpy as np
from scipy.optimize import Bounds, NonlinearConstraint, differential_evolution

from coinfer_gym import Decision, solve_exact

env = gym.make("coinfer_gym:coinfer_gym/LAIM-v0", arrivals="one_at_a_time")
env.reset(seed=0)
problem = env.unwrapped.problem()


def search(cut):
    """Best controls found at a cut; `evaluate` takes all designs of a generation at once, here as columns."""
    return differential_evolution(
        lambda x: -problem.evaluate(x.T, cut).quality,
        Bounds(*problem.bounds(cut)),  # of both retained ratios, the power and both clocks
        constraints=NonlinearConstraint(lambda x: problem.evaluate(x.T, cut).margins.T, 0.0, np.inf),
        vectorized=True,
        updating="deferred",
        polish=False,
        maxiter=50,
        rng=0,
    )


found = {cut: search(cut) for cut in (0, 1, 6, 12)}
feasible = {cut: result for cut, result in found.items() if problem.evaluate(result.x, cut).feasible}
cut = min(feasible, key=lambda cut: feasible[cut].fun)
print(f"found: cut {cut}, quality {-feasible[cut].fun:.4f}")
best = solve_exact(problem)
print(f"exact: cut {best.cut}, quality {best.quality:.4f}")

decision = Decision(cut, *feasible[cut].x)
_, reward, _, _, info = env.step(env.unwrapped.action(decision))
print(f"delivered {info['delivered']:.4f}, reward {reward:.4f}")
