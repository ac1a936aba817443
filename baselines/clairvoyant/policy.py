"""The policy that plays the schedule of the clairvoyant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Self

import gymnasium as gym

from baselines.clairvoyant.bounds import clairvoyant_optimum
from baselines.policy import Basis, ProblemPolicy
from coinfer_gym import Decision, Problem, solve_exact


class ClairvoyantPolicy(ProblemPolicy):
    """Plays the schedule of the clairvoyant's lower bound: what hindsight can surely earn, for comparisons.

    It uses the world of the running episode, future included.

    Parameters
    ----------
    env : gymnasium.Env, optional
    steps : int, optional
        As for `clairvoyant_optimum`.
    """

    uses: ClassVar[Basis] = "world"

    def __init__(self, env: gym.Env[Any, Any] | None = None, steps: int | None = None) -> None:
        self._steps = steps
        super().__init__(env)

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on, see `ProblemPolicy.bind`."""
        self._seed: int | None = None
        return super().bind(env)

    def solve(self, problem: Problem) -> Decision:
        """Exact optimum at the true gain for the time until the task is to be done."""
        world = self._env.world()
        if self._seed != world.seed:
            self._schedule = clairvoyant_optimum(self._env.scenario, world, self._steps).schedule
            self._seed = world.seed
        served = int(self._env.lanes.state[0]["served"])
        service = self._schedule[min(served, len(self._schedule) - 1)]
        now = service.start
        if self._env.scenario.arrivals != "one_at_a_time":  # the clock of the environment: rounding does not add up
            now = float(world.arrivals[service.task]) + world.delay_budget - problem.delay_budget
        left = service.start + service.delay - now
        allowed = min(service.energy_budget, problem.energy_budget)
        return solve_exact(replace(problem, gain=world.gain_at(now), delay_budget=left, energy_budget=allowed))
