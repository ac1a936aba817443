"""Compare a policy of your own with the shipped ones, in the same worlds (extra baselines)."""

from dataclasses import replace

import gymnasium as gym
import numpy as np

from baselines.compare import play
from baselines.policy import ProblemPolicy
from baselines.rules import MyopicExact, RandomPolicy
from coinfer_gym import solve_exact


class LeaveRoom(ProblemPolicy):
    """Plan each task with 60 % of its time where that can be met, so that the next task waits less."""

    def solve(self, problem):
        """Decision for the task at hand."""
        hurried = solve_exact(replace(problem, delay_budget=0.6 * problem.delay_budget))
        return hurried if hurried.feasible else solve_exact(problem)


env = gym.make("coinfer_gym:coinfer_gym/LAIM-v0", tasks=50)
policies = {"mine": LeaveRoom(env), "exact": MyopicExact(env), "random": RandomPolicy()}
for name, policy in policies.items():
    rows = [play(env, policy, world) for world in range(5)]
    delivered, violated = (np.mean([row[key] for row in rows]) for key in ("delivered", "violated"))
    print(f"{name:8} delivered {delivered:.3f}, violated {100 * violated:.0f} %")
