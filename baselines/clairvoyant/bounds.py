"""Both bounds of the clairvoyant optimum of an episode, and the policy that earns the lower one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import gymnasium as gym

from baselines.clairvoyant.battery import bound_with_battery
from baselines.clairvoyant.plan import Service, build_episode, raise_worth, schedule, solve, tabulate
from baselines.policy import ProblemPolicy
from coinfer_gym import Decision, Problem, solve_exact
from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.world import World


@dataclass(frozen=True)
class ClairvoyantResult:
    """Bounds of what the best policy with hindsight delivers, as mean quality per task of the episode.

    Attributes
    ----------
    lower : float
        Earned by `schedule`.
    upper : float
        No policy delivers more.
    schedule : tuple of Service
        In the order of service; tasks that do not occur are lost.
    step : float
        Step of the time grid in s.
    energy_price : float
        Multiplier of the battery's sum in 1/J; 0 without a battery.
    """

    lower: float
    upper: float
    schedule: tuple[Service, ...]
    step: float
    energy_price: float = 0.0


def clairvoyant_optimum(scenario: Scenario, world: World, steps: int | None = None) -> ClairvoyantResult:
    """Bounds of the clairvoyant optimum of an episode.

    Parameters
    ----------
    scenario : Scenario
    world : World
        One of the scenario's: ``env.unwrapped.world()``, or ``coinfer_gym.world.draw(scenario, seed)``.
    steps : int, optional
        Grid steps per delay budget, about; 500 where not given, fewer where a task is always waiting.

    Returns
    -------
    ClairvoyantResult

    Raises
    ------
    InvalidInputError
        If there are too few steps.
    """
    episode = build_episode(scenario, world, steps)
    if scenario.battery_capacity is None:
        table = tabulate(episode, scenario.problem(1.0, energy_budget=world.energy_budget * (1.0 + BUDGET_TOLERANCE)))
        outlook, upper = solve(episode, raise_worth(episode, table))
        services, price = schedule(episode, outlook, table, world.energy_budget), 0.0
    else:
        services, upper, price = bound_with_battery(episode)
    lower = sum(service.quality for service in services) / scenario.tasks
    return ClairvoyantResult(lower, max(lower, upper), tuple(services), episode.times.step, price)


class ClairvoyantPolicy(ProblemPolicy):
    """Plays the schedule of the clairvoyant's lower bound: what hindsight can surely earn, for comparisons.

    It uses the world of the running episode, future included.

    Parameters
    ----------
    env : gymnasium.Env, optional
    steps : int, optional
        As for `clairvoyant_optimum`.
    """

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
