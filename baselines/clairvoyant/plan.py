"""An episode as the clairvoyant sees it: its time grid, the recursion solved on it, and the schedule that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from baselines.clairvoyant.recursion import (
    NOTHING,
    STRIDE,
    Outlook,
    Times,
    Worth,
    choose_end,
    fill_worth,
    solve_alone,
    solve_queue,
    value_at,
)
from baselines.clairvoyant.table import OptimumTable, build_table, upper_quality
from coinfer_gym import Problem, Solution, solve_exact
from coinfer_gym.budgets import BUDGET_TOLERANCE, meets
from coinfer_gym.checks import check_whole
from coinfer_gym.envs.process import STATE, TINIEST, build_rules
from coinfer_gym.envs.queue import charge, next_task
from coinfer_gym.laim.decision import as_tuple
from coinfer_gym.laim.outcome import evaluate
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.world import World, build_world_tables

Floats = NDArray[np.float64]

_STEPS = 500  # of a delay budget
_STEPS_ALONE = 50  # where a task is always waiting, the times of a task span the whole episode
_NODES = 48
_SIDE = 1e-6  # of a delay budget; float32 actions leave that much doubt about when a service ends
_PIECES = 8


@dataclass(frozen=True)
class Service:
    """One task of the schedule that earns the lower bound.

    Attributes
    ----------
    task : int
        Its place in the order of arrival.
    start : float
        When its service begins, in s from the start of the episode.
    gain : float
        Power gain then.
    delay : float
        How long the service takes, in s.
    energy_budget : float
        What the decision was allowed to spend in J.
    quality : float
        What is delivered, 0 where a budget is missed.
    solution : Solution
        The decision.
    """

    task: int
    start: float
    gain: float
    delay: float
    energy_budget: float
    quality: float
    solution: Solution


@dataclass(frozen=True, eq=False)
class Episode:
    """A world on a grid of times ``step * n``, with the coherence blocks on either side of each."""

    scenario: Scenario
    world: World
    times: Times
    # shape (n, 2): rows of the table for starts in the cell before a time; one block, or the two that meet there
    left: NDArray[np.int64]
    right: NDArray[np.int64]  # the same for the cell after it
    blocks: NDArray[np.int64]  # coherence block of each row
    row_of_block: NDArray[np.int64]  # row of each coherence block; -1 where no service can start

    @property
    def alone(self) -> bool:
        """Whether a task is always waiting, so that no queue forms."""
        return self.scenario.arrivals == "one_at_a_time"


def build_episode(scenario: Scenario, world: World, steps: int | None) -> Episode:
    """Lay the grid: its times meet the changes of the channel, or, where a task is always waiting, the delay budget."""
    if steps is not None:
        steps = check_whole("steps", steps, 4, 100_000)
    deadline = world.delay_budget * (1.0 + BUDGET_TOLERANCE)
    patience = scenario.patience * world.delay_budget * (1.0 + BUDGET_TOLERANCE)
    alone = scenario.arrivals == "one_at_a_time"
    if alone:
        # the work grows with the square of the number of tasks
        wanted = min(_STEPS_ALONE, max(8, 10_000 // scenario.tasks)) if steps is None else steps
        step = deadline / max(wanted, math.ceil(deadline / world.block_duration))
        last = scenario.tasks * patience
    else:
        wanted = _STEPS if steps is None else steps
        step = world.block_duration / math.ceil(world.block_duration * wanted / world.delay_budget)
        last = float(world.arrivals[-1]) + patience
    times = step * np.arange(math.ceil(last / step) + 4, dtype=np.float64)
    after = np.stack([_blocks_at(world, times + shift) for shift in (1e-9, step - 1e-9)], axis=1)
    used = np.unique(after if alone else after[_serving(world, times, step)])
    row_of_block = np.full(len(world.gains), -1, np.int64)
    row_of_block[used] = np.arange(len(used))
    right = row_of_block[after]
    left = np.concatenate([right[:1], right[:-1]])
    limits = Times(step, world.delay_budget, deadline, patience)
    return Episode(scenario, world, limits, left, right, used, row_of_block)


def _blocks_at(world: World, times: Floats) -> NDArray[np.int64]:
    blocks: NDArray[np.int64] = (times / world.block_duration).astype(np.int64) % len(world.gains)
    return blocks


def _serving(world: World, times: Floats, step: float) -> NDArray[np.bool_]:
    """Cells of the grid in which the service of some task can start."""
    near = np.searchsorted(world.arrivals, times + step, side="right")
    latest = world.arrivals[np.maximum(near - 1, 0)]
    serving: NDArray[np.bool_] = (near > 0) & (times <= latest + world.delay_budget + 3.0 * step)
    return serving


def tabulate(episode: Episode, problem: Problem, weaker: float = 1.0) -> OptimumTable:
    """The optimum at the gains in which services can start, taken so many times weaker."""
    times = episode.times
    longest = 1.1 * times.deadline + 3.0 * times.step  # the proofs are loose in the last cells
    gains = episode.world.gains[episode.blocks] / weaker
    return build_table(problem, gains, longest, nodes=_NODES, width=times.step)


def raise_worth(episode: Episode, table: OptimumTable) -> Worth:
    """Qualities of services, raised so that the recursion bounds what can be earned."""
    step = episode.times.step
    steps, between = np.empty((2, len(episode.blocks), math.ceil(episode.times.deadline / step) + 3))
    fill_worth(table, step, step, steps)
    fill_worth(table, step, 2.0 * step, between)
    return Worth(steps, between, table.fastest)


def solve(episode: Episode, worth: Worth) -> tuple[Outlook, float]:
    """Solve the recursion: what each task and those after it can earn, and the bound of the mean quality per task."""
    world, times = episode.world, episode.times
    tasks, cells = episode.scenario.tasks, len(episode.right)
    ahead, at_arrival = np.zeros(cells), np.zeros(tasks + 1)
    values = np.zeros((tasks + 1, cells if episode.alone else worth.steps.shape[1], 2), np.float32)
    outlook = Outlook(world.arrivals, times, at_arrival, values, episode.alone)
    if episode.alone:
        scratch = np.zeros(math.ceil(cells / STRIDE))
        solve_alone(times, episode.left, episode.right, worth.steps, ahead, scratch, values)
        return outlook, float(ahead[0]) / tasks
    rows = episode.row_of_block[_blocks_at(world, world.arrivals)]
    scratch = np.zeros(math.ceil(times.patience / times.step) + 6)
    pauses = episode.scenario.battery_capacity is not None

    def sweep(skippable: NDArray[np.bool_]) -> None:
        ahead[:] = 0.0
        grid = (episode.left, episode.right, rows)
        solve_queue(world.arrivals, times, *grid, skippable, pauses, flooded, worth, ahead, at_arrival, scratch, values)

    flooded = np.full((tasks, 2, _PIECES + 1), NOTHING)
    doubtful = may_overflow(episode)
    floods = _floods(episode, doubtful)
    if floods:
        sweep(doubtful)
        for task, time in floods:
            flooded[task] = _flood(outlook, task, time)
    sweep(np.zeros(tasks, np.bool_))
    return outlook, float(at_arrival[0]) / tasks


def may_overflow(episode: Episode) -> NDArray[np.bool_]:
    """Tasks that some policy can let meet a full queue: so many others came within a delay budget before them."""
    arrivals = episode.world.arrivals
    oldest = np.searchsorted(arrivals, arrivals - episode.world.delay_budget * (1.0 + 1e-9), side="left")
    overflow: NDArray[np.bool_] = np.arange(len(arrivals)) - oldest >= episode.scenario.queue_capacity
    return overflow


def _floods(episode: Episode, may_overflow: NDArray[np.bool_]) -> list[tuple[int, float]]:
    """Tasks during whose service the queue can fill up, and from when on.

    While task `i` is served the queue can be full for task `j` only if `queue_capacity` tasks lie between them.
    """
    doubtful, arrivals = np.flatnonzero(may_overflow), episode.world.arrivals
    floods = []
    for i in range(len(arrivals)):
        met = doubtful[np.searchsorted(doubtful, i + episode.scenario.queue_capacity + 1) :]
        if met.size and arrivals[met[0]] <= arrivals[i] + episode.times.patience:
            floods.append((i, float(arrivals[met[0]])))
    return floods


def _flood(outlook: Outlook, task: int, time: float) -> Floats:
    """Latest finish and what lies ahead, by pieces of the time from `time` to the deadline, and after it."""
    arrival, times = float(outlook.arrivals[task]), outlook.times
    due, end = arrival + times.deadline, arrival + times.patience
    pieces = np.full((2, _PIECES + 1), NOTHING)
    pieces[1, -1] = _most_ahead(outlook, task + 1, time, end)
    if time <= due:
        borders = np.linspace(time, due, _PIECES + 1)
        pieces[0, :-1] = borders[1:]
        pieces[1, :-1] = [_most_ahead(outlook, task + 1, *borders[k : k + 2]) for k in range(_PIECES)]
    return pieces


def _most_ahead(outlook: Outlook, task: int, start: float, end: float) -> float:
    """Largest ``U_i`` between two times; it is linear between the grid times and falls after the next arrival."""
    step = outlook.times.step
    times = step * np.arange(math.floor(start / step), math.ceil(end / step) + 1)
    return max(value_at(outlook, task, float(time)) for time in (*(times - 1e-9), *(times + 1e-9)))


def schedule(episode: Episode, outlook: Outlook, table: OptimumTable, energy_budget: float) -> list[Service]:
    """Serve every task as the solved recursion prefers, by the rules of the environment."""
    return _Planner(episode, outlook, table).follow(energy_budget)


class _Planner:
    """When each service should end, by the solved recursion, and what that earns in truth."""

    def __init__(self, episode: Episode, outlook: Outlook, table: OptimumTable) -> None:
        self._episode, self._outlook, self._table = episode, outlook, table
        self._world, self._times = episode.world, episode.times
        self._side = _SIDE * episode.world.delay_budget

    def follow(self, energy_budget: float) -> list[Service]:
        """Play the schedule by the rules of the environment."""
        scenario, world = self._episode.scenario, self._world
        rules, lane = build_rules(scenario, build_world_tables(scenario))[0], np.zeros(1, STATE)[0]
        lane.delay_budget, lane.battery = world.delay_budget, rules.battery_capacity
        if math.isfinite(rules.battery_capacity):
            lane.battery *= rules.battery_initial
        arrivals = np.append(world.arrivals, world.arrivals[-1])  # one more, which is never served
        queue = np.zeros(scenario.queue_capacity, np.int64)
        services: list[Service] = []
        while not next_task(lane, arrivals, queue, rules)[1]:
            task, start, age = int(lane.task), float(lane.clock), float(lane.wait)
            allowed = min(energy_budget, max(float(lane.battery), TINIEST))
            problem = scenario.problem(world.gain_at(start), energy_budget=allowed)
            solution = self._decide(task, start, age, problem)
            delay = min(solution.delay, self._times.patience - age)
            delivered = meets(age + solution.delay, world.delay_budget) and meets(solution.energy, allowed)
            quality = solution.quality if delivered else 0.0
            services.append(Service(task, start, problem.gain, delay, allowed, quality, solution))
            lane.battery = max(0.0, lane.battery - _device_energy(problem, solution))
            lane.clock += delay
            lane.served += 1
            charge(lane, rules, delay)
        return services

    def _decide(self, task: int, start: float, age: float, problem: Problem) -> Solution:
        """Exact optimum for the time that a task is to take; the fastest decision where it cannot be done in time."""
        solution = solve_exact(replace(problem, delay_budget=self._finish(task, start) - start))
        limit = self._world.delay_budget - age + 3.0 * self._side
        if solution.delay > limit:
            solution = solve_exact(replace(problem, delay_budget=limit))
        return solution

    def _finish(self, task: int, start: float) -> float:
        """When the service of a task that begins at `start` should end."""
        end, _ = self._choose(task, start)
        change = self._world.block_duration * round(end / self._world.block_duration)
        if abs(end - change) > self._times.step or task + 1 >= self._episode.scenario.tasks:
            return end
        # Near a change of the channel the recursion takes the better gain, and in truth there is only one. The
        # tolerance of a budget is wider than the two sides tried.
        best = -math.inf
        for time in (end, change - self._side, change + self._side):
            if start < time and abs(time - change) > 0.5 * self._side:
                earned = self._earn(task, start, time)
                end, best = (time, earned) if earned > best else (end, best)
        return end

    def _earn(self, task: int, start: float, end: float) -> float:
        """What is earned from a task on by this service and the best thereafter."""
        due = self._times.budget + (start if self._episode.alone else float(self._world.arrivals[task]))
        later = self._choose(task + 1, end)[1]
        if end > due + 3.0 * self._side:
            return later
        return later + max(0.0, upper_quality(self._table, self._row(start), end - start, 0.0))

    def _choose(self, task: int, start: float) -> tuple[float, float]:
        """When a task should be done, and what is then earned from it on."""
        if not self._episode.alone:
            arrivals = self._world.arrivals
            while task < len(arrivals) and arrivals[task] + self._times.budget <= start:
                task += 1
            if task == len(arrivals):
                return start, 0.0
            start = max(start, float(arrivals[task]))
        return choose_end(self._outlook, self._table, task, start, self._row(start))

    def _row(self, time: float) -> int:
        return int(self._episode.row_of_block[_blocks_at(self._world, np.array([time]))[0]])


def _device_energy(problem: Problem, solution: Solution) -> float:
    """What a decision takes from the battery in J."""
    _, _, _, e_device, e_upload, _ = evaluate(problem.tables, problem.gain, as_tuple(solution))
    return float(e_device + e_upload)
