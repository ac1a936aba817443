"""Compare a policy of your own with the shipped ones, in the same worlds (extra baselines)."""

from dataclasses import replace

import gymnasium as gym
import numpy as np

from baselines.compare import play
from baselines.rules import MyopicExact, RandomPolicy
from coinfer_gym import solve_exact


class Hurry:
    """Plan a task with 60 % of its time when another one waits, and with all of it otherwise.

    Anything with the `predict` of Stable-Baselines3 is a policy.
    """

    def __init__(self, env):
        self.laim = env.unwrapped

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """Action for an observation, and the state of a recurrent policy."""
        problem = self.laim.problem()
        best = solve_exact(problem)
        if observation[1] > -1.0:  # tasks wait behind this one
            hurried = solve_exact(replace(problem, delay_budget=0.6 * problem.delay_budget))
            best = hurried if hurried.feasible else best
        return self.laim.action(best), state


env = gym.make("coinfer_gym:coinfer_gym/LAIM-v0", tasks=100)
policies = {"mine": Hurry(env), "exact": MyopicExact(env), "random": RandomPolicy()}
for name, policy in policies.items():
    rows = [play(env, policy, world) for world in range(5)]
    delivered, violated = (np.mean([row[key] for row in rows]) for key in ("delivered", "violated"))
    print(f"{name:8} delivered {delivered:.3f}, violated {100 * violated:.0f} %")
