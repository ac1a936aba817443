"""Compare a policy of your own with the shipped ones, in the same worlds (extra baselines)."""

from dataclasses import replace

from baselines.compare import compare
from coinfer_gym import solve_exact


class Hurry:
    """Plan a task with 60 % of its time when another one waits, and with all of it otherwise.

    Anything with the `predict` of Stable-Baselines3 is a policy.
    """

    def bind(self, env):
        """Optional: called with the environment before the first world, for policies that look at the task itself."""
        self.laim = env.unwrapped
        return self

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """Action for an observation, and the state of a recurrent policy."""
        problem = self.laim.problem()
        best = solve_exact(problem)
        if observation[1] > -1.0:  # tasks wait behind this one
            hurried = solve_exact(replace(problem, delay_budget=0.6 * problem.delay_budget))
            best = hurried if hurried.feasible else best
        return self.laim.action(best), state


config = {
    "title": "My policy in a queue",
    "env": {"scenario": "bert-multimodal", "tasks": 100},
    "worlds": 5,
    "reference": "exact",
    "policies": {"random": {"policy": "random"}, "exact": {"policy": "myopic_exact"}},
}
compare(config, policies={"mine": Hurry()}).show()
