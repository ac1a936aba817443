"""Both bounds of the clairvoyant optimum of an episode."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.clairvoyant.battery import bound_with_battery
from baselines.clairvoyant.plan import Service, build_episode, raise_worth, schedule, solve, tabulate
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
