"""The policy that plays the schedule of the clairvoyant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.clairvoyant.bounds import clairvoyant_optimum
from baselines.clairvoyant.plan import Service
from baselines.policy import Basis, Observation, ProblemPolicy, State
from coinfer_gym import Decision, Problem, solve_exact
from coinfer_gym.world import World


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
        self._world: World | None = None
        self._schedule: tuple[Service, ...] = ()
        self._served = 0
        super().__init__(env)

    def predict(
        self,
        observation: Observation,
        state: State | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Action for the next task of the schedule, see `Predictor.predict`."""
        if episode_start is not None and np.any(episode_start):
            self._world = None
        return super().predict(observation, state, episode_start, deterministic)

    def solve(self, problem: Problem) -> Decision:
        """Exact optimum at the true gain for the time until the task is to be done."""
        world = self._env.world()
        if self._world is None or self._world.seed != world.seed:
            self._schedule = clairvoyant_optimum(self._env.scenario, world, self._steps).schedule
            self._world, self._served = world, 0
        service = self._schedule[min(self._served, len(self._schedule) - 1)]
        self._served += 1
        now = service.start
        if self._env.scenario.arrivals != "one_at_a_time":  # the clock of the environment: rounding does not add up
            now = float(world.arrivals[service.task]) + world.delay_budget - problem.delay_budget
        left = service.start + service.delay - now
        allowed = min(service.energy_budget, problem.energy_budget)
        return solve_exact(replace(problem, gain=world.gain_at(now), delay_budget=left, energy_budget=allowed))
