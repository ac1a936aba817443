"""The semi-Markov process of a scenario, and its solution by relative value iteration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.quality_grid import QualityGrid, build_grid, build_robust_grid
from baselines.stochastic.arrivals import Process, arrival_process
from baselines.stochastic.futures import LAGS, Axes, sample_transitions
from coinfer_gym import GainBelief
from coinfer_gym._compile import kernel
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.physics import from_db
from coinfer_gym.world import draw, gain_db_range

Floats = NDArray[np.float64]

PATHS = range(2**63, 2**63 + 40)
"""World seeds of the paths on which transitions of the gain are counted."""

_LAST_LAG = 9  # coherence blocks that the last lag stands for
_SWEEPS, _SPAN = 400, 2e-5
_LEAP, _FAST, _SLOW = 24, 0.5, 0.995  # sweeps between leaps, and the changes that one is made for
_FINE_GAINS, _FINE_DELAYS = 64, 65


@dataclass(frozen=True)
class Fineness:
    """How finely the process is resolved: levels of each quantity."""

    gains: int = 10
    waits: int = 15  # ages
    queue: int = 9  # numbers of waiting tasks
    beliefs: int = 9
    times: int = 20  # service times
    levels: int = 9  # of the battery
    samples: int = 256  # futures that an expectation is the mean of


@dataclass(frozen=True, eq=False)
class Model:
    """The solved process; the axes of its state are gain, age, queue (the number itself), belief and battery."""

    log_gains: Floats
    waits: Floats
    beliefs: Floats
    levels: Floats
    fractions: Floats  # service times as shares of what is left of the delay budget
    energies: Floats  # energy budgets in J that are chosen among
    # shape (waits, queue, beliefs, fractions, gains, levels): ``h`` after a service minus ``rho`` for its tasks
    ahead: Floats
    elapsed: Floats  # shape (waits, queue, beliefs, fractions): mean time in s until the next task is at the head
    quality: QualityGrid
    process: Process
    mean_quality: float  # ``rho``: what the rule expects to deliver per task


@lru_cache(maxsize=4)
def solve_process(scenario_json: str, fineness: Fineness, robust: bool = False) -> Model:
    """Solve the process of a scenario, given as JSON so that the last solutions can be kept.

    The gain is the observed one where the rule is to be `robust`, and else taken for the gain itself.
    """
    scenario = Scenario.model_validate_json(scenario_json)
    shares = [0.3, 0.45, 0.6, 0.8, 1.0] if scenario.battery_capacity is not None else [1.0]
    energies = scenario.energy_budget * np.array(shares)
    problem, (gains, delays) = scenario.problem(1.0), fine_axes(scenario, *gain_db_range(scenario))
    if robust:
        grid = build_robust_grid(problem, GainBelief(scenario), gains, delays, energies)
    else:
        grid = build_grid(problem, gains, delays, energies)
    return solve_worth(scenario, fineness, gain_chain(gain_paths(scenario, robust), fineness.gains), grid)


def fine_axes(scenario: Scenario, low: float, high: float) -> tuple[Floats, Floats]:
    """Gains between two ends in dB, and service times in s, at which a service's worth is tabulated."""
    gains = np.asarray(from_db(np.linspace(low, high, _FINE_GAINS)))
    return gains, scenario.delay_budget * np.linspace(0.0, 1.0, _FINE_DELAYS)[1:] ** 1.5


def solve_worth(scenario: Scenario, fineness: Fineness, chain: tuple[Floats, Floats], grid: QualityGrid) -> Model:
    """Solve the process in which a service earns what a grid says, over the `gain_chain` of what is observed.

    A battery counts if the grid has several energy budgets.
    """
    process = arrival_process(scenario, fineness.beliefs > 1)
    log_gains, chances = chain
    waits = scenario.delay_budget * np.linspace(0.0, 1.0, fineness.waits)
    bursty = process.calm != process.burst
    # dense at the ends: what is all but certain must not be taken for a chance now and then
    beliefs = 0.5 - 0.5 * np.cos(np.linspace(0.0, math.pi, fineness.beliefs)) if bursty else np.zeros(1)
    has_battery = len(grid.energies) > 1
    levels = np.linspace(0.0, scenario.battery_capacity or 1.0, fineness.levels) if has_battery else np.zeros(1)
    fractions = np.linspace(0.0, 1.0, fineness.times + 1)[1:] ** 1.5
    queue, fastest = min(fineness.queue, scenario.queue_capacity + 1), float(np.min(grid.fastest))
    limits = (scenario.delay_budget, fastest, scenario.block_duration, scenario.queue_capacity)
    axes = Axes(waits, beliefs, queue, fractions, process, *limits)
    operator, lost, elapsed = sample_transitions(axes, fineness.samples)
    elapsed = elapsed.reshape(len(waits), queue, len(beliefs), len(fractions))
    rewards, spent = _rewards(grid, axes, log_gains)
    costs = (spent, levels, grid.energies, scenario.harvest_power)
    ahead, rho = _iterate(operator, lost, elapsed, chances, rewards, costs)
    return Model(log_gains, waits, beliefs, levels, fractions, grid.energies, ahead, elapsed, grid, process, rho)


def gain_paths(scenario: Scenario, observed: bool = False) -> Floats:
    """Logarithms of the gain in some worlds, shape (worlds, blocks), or of the `observed` gain.

    Of the latter they have its noise; its delay is the same at both ends of a transition.
    """
    paths: Floats = np.log([draw(scenario, seed).gains for seed in PATHS])
    if observed:
        noise = np.random.default_rng(0).standard_normal(paths.shape)
        paths += scenario.csi_noise_db * math.log(10.0) / 10.0 * noise
    return paths


def gain_chain(paths: Floats, count: int) -> tuple[Floats, Floats]:
    """Levels of the gain's logarithm, `count` at most, and the chances to pass between them in 0, 1, ... blocks."""
    if paths.max() - paths.min() < 1e-9:
        return paths[:1, 0], np.ones((LAGS, 1, 1))
    edges = np.quantile(paths, np.linspace(0.0, 1.0, count + 1)[1:-1])
    levels = np.searchsorted(edges, paths)
    used = np.unique(levels)  # records in whole decibels leave some empty
    bins = np.searchsorted(used, levels)
    centres = np.array([np.median(paths[bins == k]) for k in range(len(used))])
    chances = np.empty((LAGS, len(used), len(used)))
    for lag in range(LAGS):
        blocks = lag if lag < LAGS - 1 else _LAST_LAG
        counts = 1e-9 * np.eye(len(used))  # a level that is only met at the end stays
        np.add.at(counts, (bins[:, : bins.shape[1] - blocks].ravel(), bins[:, blocks:].ravel()), 1.0)
        chances[lag] = counts / counts.sum(axis=1, keepdims=True)
    return centres, chances


def _rewards(grid: QualityGrid, axes: Axes, log_gains: Floats) -> tuple[Floats, Floats]:
    """Quality and energy of the device, each of shape (waits, fractions, gains, energies)."""
    shape = (len(axes.waits), len(axes.fractions), len(log_gains), len(grid.energies))
    quality, spent = np.zeros(shape), np.zeros(shape)
    for g, log_gain in enumerate(log_gains):
        values, energy = grid.at(math.exp(log_gain))
        for w, wait in enumerate(axes.waits):
            left = axes.delay_budget - wait
            seconds = np.maximum(axes.fractions * left, axes.fastest)
            for e in range(len(grid.energies)):
                row = np.interp(seconds, grid.delays, values[:, e])
                quality[w, :, g, e] = np.where(seconds <= left, row, 0.0)
                spent[w, :, g, e] = np.interp(seconds, grid.delays, energy[:, e])
    return quality, spent


def _iterate(
    operator: Any,
    lost: Floats,
    elapsed: Floats,
    chances: Floats,
    rewards: Floats,
    costs: tuple[Floats, Floats, Floats, float],
) -> tuple[Floats, float]:
    """Relative value iteration: what lies ahead of each service, and the mean quality per task.

    `costs` are the device's energy by service, the battery's levels, the energy budgets and the harvest's power.
    """
    waits, queue, beliefs, times = elapsed.shape
    gains, levels = chances.shape[1], len(costs[1])
    value = np.zeros((waits * queue * beliefs, gains, levels))
    ahead = np.zeros((waits, queue, beliefs, times, gains, levels))
    new = np.empty_like(value)
    by_state = new.reshape(waits, queue, beliefs, gains, levels)
    rho, before = 0.0, value
    for sweep in range(1, _SWEEPS + 1):
        later = np.einsum("lgk,skm->lsgm", chances, value).reshape(-1, gains * levels)
        ahead = (operator @ later).reshape(ahead.shape)
        ahead -= (rho * (1.0 + lost)).reshape(waits, queue, beliefs, times, 1, 1)
        if levels == 1:
            np.max(rewards[:, None, None, :, :, :1] + ahead, axis=3, out=by_state)
        else:
            _choose_best(ahead, elapsed, rewards, *costs, by_state)
        change = new - value
        if levels == 1:
            rho += 0.5 * float(change.max() + change.min())
        else:  # after a leap the extremes are those of rare states, in which many tasks are lost
            rho += float(change.mean() / (1.0 + lost.mean()))
        value = new - new[0, 0, -1]
        if change.max() - change.min() < _SPAN:
            break
        if levels > 1 and sweep > _LEAP and sweep % _LEAP == 0:
            value = value + _leap(change, before)
        before = change
    return ahead, rho


def _leap(change: Floats, before: Floats) -> Floats:
    """What is left to go if every sweep shrinks the change as the last one did (Aitken); nothing where it did not.

    A battery fills over many tasks, so that plain sweeps come closer by a percent or two each.
    """
    change, before = change - change.mean(), before - before.mean()
    shrinks = float((change * before).sum() / (before * before).sum())
    left: Floats = change * (shrinks / (1.0 - shrinks) if _FAST < shrinks < _SLOW else 0.0)
    return left


@kernel
def _choose_best(
    ahead: Floats,
    elapsed: Floats,
    rewards: Floats,
    spent: Floats,
    levels: Floats,
    energies: Floats,
    harvest_power: float,
    best: Floats,
) -> None:
    """Value of each state, shape (waits, queue, beliefs, gains, levels), by its best choice of time and energy.

    What lies ahead is looked up where the service leaves the battery: its energy taken out, the harvest put in.
    """
    waits, queue, beliefs, times, gains, _ = ahead.shape
    step, last = levels[1], len(levels) - 1
    best[:] = -math.inf
    for w in range(waits):
        for q in range(queue):
            for b in range(beliefs):
                for t in range(times):
                    harvest = harvest_power * elapsed[w, q, b, t]
                    for g in range(gains):
                        row, top = ahead[w, q, b, t, g], best[w, q, b, g]
                        for e in range(len(energies)):
                            reward, used = rewards[w, t, g, e], spent[w, t, g, e]
                            for m in range(last + 1):
                                place = min((levels[m] - min(used, levels[m]) + harvest) / step, float(last))
                                below = min(int(place), last - 1)
                                worth = row[below] + (place - below) * (row[below + 1] - row[below])
                                if energies[e] <= levels[m] + 1e-12:
                                    worth += reward
                                top[m] = max(top[m], worth)
