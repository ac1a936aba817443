"""Bounds where the device lives on a battery: one price of its energy, and one smaller budget for all tasks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from baselines.clairvoyant.plan import Episode, Service, raise_worth, schedule, solve, tabulate
from baselines.clairvoyant.recursion import IMPOSSIBLE, NOTHING, Worth
from coinfer_gym.budgets import BUDGET_TOLERANCE

_BRACKETS, _WEIGHTS = 16, (0.5, 3.0)
_SHARES = (0.12, 0.16, 0.22, 0.3, 0.4, 0.55, 0.75, 1.0)
_SECTIONS = 10


def bound_with_battery(episode: Episode) -> tuple[list[Service], float, float]:
    """Best schedule found, bound of the mean quality per task, and the price of energy in 1/J that gives it."""
    scenario, world = episode.scenario, episode.world
    last = episode.times.step * len(episode.right)
    capacity = scenario.battery_capacity or 0.0
    supply = scenario.battery_initial * capacity + scenario.harvest_power * last
    supply += scenario.tasks * BUDGET_TOLERANCE * capacity  # each decision may overdraw by as much
    brackets, energies = _raise_by_energy(episode)

    def bound(price: float) -> float:
        steps, between = (
            np.max([getattr(worth, name) - price * energy for worth, energy in zip(brackets, energies, strict=True)], 0)
            for name in ("steps", "between")
        )
        steps[steps < IMPOSSIBLE] = NOTHING
        between[between < IMPOSSIBLE] = NOTHING
        return solve(episode, Worth(steps, between, brackets[0].fastest))[1] + price * supply / scenario.tasks

    highest = 2.0 / world.energy_budget  # at that price no task spends more than half of its budget
    price = _least(bound, highest)
    plans = []
    for share in _SHARES:
        energy = share * world.energy_budget
        thrifty = tabulate(episode, scenario.problem(1.0, energy_budget=energy))
        outlook, _ = solve(episode, raise_worth(episode, thrifty))
        plans.append(schedule(episode, outlook, thrifty, energy))
    best = max(plans, key=lambda plan: sum(service.quality for service in plan))
    return best, min(bound(price), bound(0.0)), price


def _raise_by_energy(episode: Episode) -> tuple[list[Worth], NDArray[np.float64]]:
    """Raised qualities by what the device spends, in brackets, and the least energy of each bracket.

    Whoever spends at most `x` on the device and `E0` in all spends at most ``E0 + mu x`` where the device's joules
    count ``1 + mu`` times: P1 again, with another chip, a stronger transmitter and a weaker channel. Each bracket takes
    the better of some `mu`.
    """
    budget = episode.world.energy_budget * (1.0 + BUDGET_TOLERANCE)
    edges = budget * np.linspace(0.0, 1.0, _BRACKETS + 1)
    problem = episode.scenario.problem(1.0)
    brackets = []
    for most in edges[1:]:
        bounds = []
        for mu in _WEIGHTS:
            weighted = replace(
                problem,
                energy_budget=edges[-1] + mu * most,
                kappa_device=(1.0 + mu) * problem.kappa_device,
                power_min=(1.0 + mu) * problem.power_min,
                power_max=(1.0 + mu) * problem.power_max,
            )
            bounds.append(raise_worth(episode, tabulate(episode, weighted, weaker=1.0 + mu)))
        brackets.append(_better(*bounds))
    return brackets, edges[:-1]


def _better(first: Worth, second: Worth) -> Worth:
    """Row by row the lower bound of two; not entry by entry, which would spoil the interpolation."""
    choose = (second.between.sum(axis=1) < first.between.sum(axis=1))[:, None]
    steps = np.where(choose, second.steps, first.steps)
    return Worth(steps, np.where(choose, second.between, first.between), first.fastest)


def _least(function: Callable[[float], float], high: float) -> float:
    """Where a convex function on ``[0, high]`` is about least, by golden sections."""
    golden = 0.5 * (math.sqrt(5.0) - 1.0)
    low = 0.0
    left, right = high - golden * high, golden * high
    at_left, at_right = function(left), function(right)
    for _ in range(_SECTIONS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = function(right)
    return left if at_left <= at_right else right
