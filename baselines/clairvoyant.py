"""The clairvoyant optimum of an episode: what a policy that knows the world could earn, bounded from both sides.

With the world known an episode is a longest path through (task, time). Tasks are served in their order, each from when
the last one is done, or from its own arrival; the gain is that of the coherence block in which service starts;
a task whose deadline passes while it waits is lost. What is chosen is how long each service takes, and with that its
quality, which `baselines.table` tabulates.

**Upper bound.** Time is a grid of step ``h``. Let ``V_i(t)`` be what tasks ``i, i+1, ...`` can earn from time `t` on.
The recursion

    U_i(t) = max over e of  q(e - t) + U_(i+1)(e),      e in the grid, at the next arrival and at the deadline

is evaluated for `t` in the grid and at the task's arrival. Draw the plane of start and finish as triangles whose
corners are these pairs. Inside a triangle ``e - t`` spans at most `h`, and `q` is the best quality raised by what a
concave function can rise above its chords over that span (`baselines.table.upper_quality`): interpolated over the
triangle it never falls short of the quality. Interpolate ``U_(i+1)`` between its points, too. The weights of a
triangle's corners at either grid time add up to the weights that the interpolation of ``U_i`` gives these times; so
if ``U_(i+1)`` bounds ``V_(i+1)``, then ``U_i`` bounds ``V_i``. The error is of second order in `h`, but for tasks of
the least delay. Where the coherence block changes both gains are tried, and the better counts. The tolerance of the
environment is granted (a budget exceeded by 1e-5 counts as met), and a task may be given up, which takes from the
fastest decision to the patience.

What is relaxed, so that the bound stays one:

- A service may take longer than its decision needs.
- A full queue turns tasks away, which the recursion would have to serve. Where that can happen it runs twice: once
  with every task that can meet a full queue (`queue_capacity` others came within the delay budget before it) to be
  skipped at no cost, and then with none; but who serves a task for so long that the queue can fill up goes over to
  the first one.
- Where a task is always waiting, one that is given up may take no time.
- Of a **battery** only the sum is kept: over the episode the device cannot spend more than the battery held at first
  and harvested since. The sum has a price: for every ``lambda >= 0``, ``max sum(q_i - lambda e_i) + lambda supply``
  bounds the optimum, by weak duality, and the least of the prices tried is reported. The energy of a task is taken in
  brackets, each with the quality of its upper end and the cost of its lower end. This bound is proven like the other,
  but not tight: it lets the device borrow energy that it will harvest later, and keep what a full battery cannot
  take.

**Lower bound.** The finishing times that the recursion prefers are followed from the first arrival on; every decision
is the exact optimum of its task for the time it is to take, its delay moves the clock, and the exact qualities are
summed. `ClairvoyantPolicy` plays this in the environment and earns it. With a battery the plan is that without one,
at a smaller energy budget for all tasks, the best of some.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.policy import Basis, Observation, ProblemPolicy, State
from baselines.recursion import (
    IMPOSSIBLE,
    NOTHING,
    STRIDE,
    Times,
    choose_alone,
    choose_queue,
    fill_quality,
    solve_alone,
    solve_queue,
    value_at,
)
from baselines.table import OptimumTable, build_table, upper_quality
from coinfer_gym import Decision, InvalidInputError, Problem, Solution, load_scenario, solve_exact
from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.laim.problem import evaluate
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.world import World, draw

__all__ = ["ClairvoyantPolicy", "ClairvoyantResult", "Service", "clairvoyant_optimum"]

_STEPS = 500  # of a delay budget
_STEPS_ONE_AT_A_TIME = 50  # there the times of a task span the whole episode
_NODES = 48
_SIDE = 1e-6  # of a delay budget; float32 actions leave that much doubt about when a service ends
_PIECES = 8
_BRACKETS, _WEIGHTS = 16, (0.5, 3.0)
_SHARES = (0.12, 0.16, 0.22, 0.3, 0.4, 0.55, 0.75, 1.0)
_SECTIONS = 10


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


@dataclass(frozen=True)
class ClairvoyantResult:
    """Bounds of what the best policy with hindsight delivers, as mean quality per task of the episode.

    Attributes
    ----------
    lower : float
        Earned by `schedule`.
    upper : float
        Exceeded by no policy.
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

    @property
    def value(self) -> float:
        """What is surely attainable, the lower bound."""
        return self.lower

    @property
    def gap(self) -> float:
        """What the optimum can be above the lower bound."""
        return self.upper - self.lower


def clairvoyant_optimum(
    scenario: Scenario | Mapping[str, Any], world: World | int, steps: int | None = None, nodes: int = _NODES
) -> ClairvoyantResult:
    """Bounds of the clairvoyant optimum of an episode.

    Parameters
    ----------
    scenario : Scenario or mapping
        The scenario, or the keyword arguments of the environment.
    world : World or int
        The world, or its seed.
    steps : int, optional
        Grid steps per delay budget, about; 500 where not given, less where a task is always waiting.
    nodes : int
        Nodes of the tabulated optimum.

    Returns
    -------
    ClairvoyantResult

    Raises
    ------
    InvalidInputError
        If the scenario cannot be made, or there are too few steps or nodes.
    """
    if not isinstance(scenario, Scenario):
        scenario = load_scenario(scenario.get("scenario", "bert-multimodal"), **_without_scenario(scenario))
    if not isinstance(world, World):
        world = draw(scenario, world)
    grid = _build_grid(scenario, world, steps)
    if scenario.battery_capacity is not None:
        return _with_battery(scenario, world, grid, nodes)
    plan = _Plan(scenario, world, grid, _tabulate(scenario, world, grid, nodes))
    schedule = plan.follow()
    return _result(scenario, plan.upper, schedule, grid)


def _without_scenario(env: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in env.items() if key not in ("scenario", "render_mode")}


def _result(
    scenario: Scenario, upper: float, schedule: list[Service], grid: _Grid, price: float = 0.0
) -> ClairvoyantResult:
    lower = sum(service.quality for service in schedule) / scenario.tasks
    return ClairvoyantResult(lower, max(lower, upper), tuple(schedule), grid.step, price)


@dataclass(frozen=True, eq=False)
class _Grid:
    """Times ``step * n``, and the coherence blocks on either side of each.

    Attributes
    ----------
    step : float
    deadline : float
        Age in s until which a task counts as done in time.
    patience : float
        Age in s at which a task is abandoned.
    left, right : ndarray of int, shape (n, 2)
        Rows of the table for starts in the cell before and after a time: one block, or the two that meet in the cell.
    blocks : ndarray of int, shape (rows,)
        Coherence block of each row.
    row_of_block : ndarray of int
        The other way round; -1 where no service can start.
    """

    step: float
    deadline: float
    patience: float
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    blocks: NDArray[np.int64]
    row_of_block: NDArray[np.int64]


def _build_grid(scenario: Scenario, world: World, steps: int | None) -> _Grid:
    """Grid whose times meet the changes of the channel, or, where tasks come one at a time, the delay budget."""
    if steps is not None and steps < 4:
        raise InvalidInputError("steps", steps, "Give 4 or more.")
    deadline = world.delay_budget * (1.0 + BUDGET_TOLERANCE)
    patience = scenario.patience * world.delay_budget * (1.0 + BUDGET_TOLERANCE)
    if scenario.arrivals == "one_at_a_time":
        # the work grows with the square of the number of tasks
        wanted = min(_STEPS_ONE_AT_A_TIME, max(8, 10_000 // scenario.tasks)) if steps is None else steps
        step = deadline / max(wanted, math.ceil(deadline / world.block_duration))
        last = scenario.tasks * patience
    else:
        wanted = _STEPS if steps is None else steps
        step = world.block_duration / math.ceil(world.block_duration * wanted / world.delay_budget)
        last = float(world.arrivals[-1]) + patience
    times: NDArray[np.float64] = step * np.arange(math.ceil(last / step) + 4, dtype=np.float64)
    blocks = [_blocks_at(world, times + shift) for shift in (1e-9, step - 1e-9)]
    after = np.stack(blocks, axis=1)
    used = np.unique(after if scenario.arrivals == "one_at_a_time" else after[_serving(world, times, step)])
    row_of_block = np.full(len(world.gains), -1, np.int64)
    row_of_block[used] = np.arange(len(used))
    right = row_of_block[after]
    left = np.concatenate([right[:1], right[:-1]])
    return _Grid(step, deadline, patience, left, right, used, row_of_block)


def _blocks_at(world: World, times: NDArray[np.float64]) -> NDArray[np.int64]:
    blocks: NDArray[np.int64] = (times / world.block_duration).astype(np.int64) % len(world.gains)
    return blocks


def _serving(world: World, times: NDArray[np.float64], step: float) -> NDArray[np.bool_]:
    """Cells of the grid in which the service of some task can start."""
    near = np.searchsorted(world.arrivals, times + step, side="right")
    latest = world.arrivals[np.maximum(near - 1, 0)]
    serving: NDArray[np.bool_] = (near > 0) & (times <= latest + world.delay_budget + 3.0 * step)
    return serving


def _tabulate(scenario: Scenario, world: World, grid: _Grid, nodes: int) -> OptimumTable:
    """The optimum at the gains in which services can start, with the tolerance that the environment grants."""
    gains = world.gains[grid.blocks]
    energy = world.energy_budget * (1.0 + BUDGET_TOLERANCE)
    longest = 1.1 * grid.deadline + 3.0 * grid.step  # the proofs are loose in the last cells
    return build_table(scenario.problem(1.0), gains, longest, energy, nodes=nodes, width=grid.step)


class _Raised(NamedTuple):
    """Qualities of services that take whole steps, raised to be interpolated over one step and over two."""

    quality: NDArray[np.float64]
    between: NDArray[np.float64]


def _raise(table: OptimumTable, grid: _Grid) -> _Raised:
    raised = _Raised(*np.empty((2, len(grid.blocks), math.ceil(grid.deadline / grid.step) + 3)))
    fill_quality(table.arrays, grid.step, grid.step, raised.quality)
    fill_quality(table.arrays, grid.step, 2.0 * grid.step, raised.between)
    return raised


class _Plan:
    """The recursion for one episode, solved, and the schedule that follows it.

    Parameters
    ----------
    scenario : Scenario
    world : World
    grid : _Grid
    table : OptimumTable
        One row per row of the grid.
    raised : _Raised, optional
        Qualities that the recursion uses; those of the table where not given.
    energy_budget : float, optional
        What a task may spend in J; the world's budget where not given.

    Attributes
    ----------
    upper : float
        Bound of the mean quality per task.
    """

    def __init__(
        self,
        scenario: Scenario,
        world: World,
        grid: _Grid,
        table: OptimumTable,
        raised: _Raised | None = None,
        energy_budget: float | None = None,
    ) -> None:
        self._scenario, self._world, self._grid, self._table = scenario, world, grid, table
        self._energy_budget = world.energy_budget if energy_budget is None else energy_budget
        self._quality, self._between = _raise(table, grid) if raised is None else raised
        self._alone = scenario.arrivals == "one_at_a_time"
        self._side = _SIDE * world.delay_budget
        tasks, times = scenario.tasks, len(grid.right)
        span = self._quality.shape[1]
        self._ahead = np.zeros(times)
        self._at_arrival = np.zeros(tasks + 1)
        if self._alone:
            self._values = np.zeros((tasks + 1, times, 2), np.float32)
            scratch = np.zeros(math.ceil(times / STRIDE))
            solve_alone(self._times, grid.left, grid.right, self._quality, self._ahead, scratch, self._values)
            self.upper = float(self._ahead[0]) / tasks
        else:
            self._values = np.zeros((tasks + 1, span, 2), np.float32)
            flooded = np.full((tasks, 2, _PIECES + 1), NOTHING)
            floods = _floods(scenario, world, grid.patience)
            if floods:
                self._solve(_may_overflow(scenario, world), flooded)
                for task, time in floods:
                    flooded[task] = self._flood(task, time)
            self._solve(np.zeros(tasks, np.bool_), flooded)
            self.upper = float(self._at_arrival[0]) / tasks

    def _solve(self, skippable: NDArray[np.bool_], flooded: NDArray[np.float64]) -> None:
        grid, world = self._grid, self._world
        self._ahead[:] = 0.0
        solve_queue(
            world.arrivals,
            self._times,
            grid.left,
            grid.right,
            grid.row_of_block[_blocks_at(world, world.arrivals)],
            skippable,
            self._scenario.battery_capacity is not None,
            flooded,
            self._quality,
            self._between,
            self._table.fastest,
            self._ahead,
            self._at_arrival,
            np.zeros(math.ceil(grid.patience / grid.step) + 6),
            self._values,
        )

    def _flood(self, task: int, time: float) -> NDArray[np.float64]:
        """Latest finish and what lies ahead, by pieces of the time from `time` to the deadline, and after it."""
        arrival = float(self._world.arrivals[task])
        due, end = arrival + self._grid.deadline, arrival + self._grid.patience
        pieces = np.full((2, _PIECES + 1), NOTHING)
        pieces[1, -1] = self._most_ahead(task + 1, time, end)
        if time <= due:
            borders = np.linspace(time, due, _PIECES + 1)
            pieces[0, :-1] = borders[1:]
            pieces[1, :-1] = [self._most_ahead(task + 1, *borders[k : k + 2]) for k in range(_PIECES)]
        return pieces

    def _most_ahead(self, task: int, start: float, end: float) -> float:
        """Largest ``U_i`` between two times; it is linear between the grid times and falls after the next arrival."""
        step = self._grid.step
        times = step * np.arange(math.floor(start / step), math.ceil(end / step) + 1)
        return max(self._value_at(task, float(time)) for time in (*(times - 1e-9), *(times + 1e-9)))

    def _value_at(self, task: int, time: float) -> float:
        return float(
            value_at(task, time, self._world.arrivals, self._times, self._at_arrival, self._values, self._alone)
        )

    @property
    def _times(self) -> Times:
        grid = self._grid
        return grid.step, self._world.delay_budget, grid.deadline, grid.patience

    def finish(self, task: int, start: float) -> float:
        """When the service of a task that begins at `start` should end."""
        end, earned = self._choose(task, start)
        change = self._world.block_duration * round(end / self._world.block_duration)
        if abs(end - change) > self._grid.step or task + 1 >= self._scenario.tasks:
            return end
        # Near a change of the channel the recursion takes the better gain. Only one is there in truth.
        best = -math.inf
        for time in (
            end,
            change - self._side,
            change + self._side,
        ):  # the tolerance of a budget is wider than these two
            if start < time and abs(time - change) > 0.5 * self._side:
                earned = self._earn(task, start, time)
                end, best = (time, earned) if earned > best else (end, best)
        return end

    def _earn(self, task: int, start: float, end: float) -> float:
        """What is earned from a task on by this service and the best thereafter."""
        due = self._times[1] + (start if self._alone else float(self._world.arrivals[task]))
        later = self._choose(task + 1, end)[1]
        if end > due + 3.0 * self._side:
            return later
        return later + max(0.0, float(upper_quality(self._table.arrays, self._row(start), end - start, 0.0)))

    def _choose(self, task: int, start: float) -> tuple[float, float]:
        """When a task should be done, and what is then earned from it on."""
        table = self._table
        if not self._alone:
            arrivals, budget = self._world.arrivals, self._world.delay_budget
            while task < len(arrivals) and arrivals[task] + budget <= start:
                task += 1
            if task == len(arrivals):
                return start, 0.0
            start = max(start, float(arrivals[task]))
        run = choose_alone if self._alone else choose_queue
        world = (self._world.arrivals, self._times)
        return run(task, start, self._row(start), *world, table.arrays, table.fastest, self._at_arrival, self._values)

    def _row(self, time: float) -> int:
        return int(self._grid.row_of_block[_blocks_at(self._world, np.array([time]))[0]])

    def decide(self, task: int, start: float, age: float, problem: Problem) -> Solution:
        """Exact optimum for the time that a task is to take; the fastest decision where it cannot be done in time."""
        solution = solve_exact(replace(problem, delay_budget=self.finish(task, start) - start))
        limit = self._world.delay_budget - age + 3.0 * self._side
        if solution.delay > limit:
            solution = solve_exact(replace(problem, delay_budget=limit))
        return solution

    def follow(self) -> list[Service]:
        """Play the schedule by the rules of the environment."""
        queue = _Queue(self._scenario, self._world)
        battery = _Battery(self._scenario)
        schedule: list[Service] = []
        while (head := queue.next_task()) is not None:
            task, start, age = head
            battery.charge_until(start)
            gain = self._world.gain_at(start)
            allowed = min(self._energy_budget, max(battery.level, math.ulp(0.0)))
            problem = self._scenario.problem(gain, energy_budget=allowed)
            solution = self.decide(task, start, age, problem)
            delay = min(solution.delay, self._grid.patience - age)
            in_time = age + solution.delay <= self._grid.deadline
            paid = solution.energy <= allowed * (1.0 + 0.1 * BUDGET_TOLERANCE)
            quality = solution.quality if in_time and paid else 0.0
            schedule.append(Service(task, start, gain, delay, allowed, quality, solution))
            battery.spend(solution.energy if math.isinf(battery.level) else _device_energy(problem, solution))
            queue.clock += delay
        return schedule


class _Battery:
    """Energy that the device has; infinite on mains power.

    Attributes
    ----------
    level : float
        In J.
    """

    def __init__(self, scenario: Scenario) -> None:
        capacity = scenario.battery_capacity
        self._capacity = math.inf if capacity is None else capacity
        self._harvest_power, self._clock = scenario.harvest_power, 0.0
        self.level = math.inf if capacity is None else scenario.battery_initial * capacity

    def charge_until(self, clock: float) -> None:
        """Harvest up to a time in s."""
        self.level = min(self._capacity, self.level + self._harvest_power * (clock - self._clock))
        self._clock = clock

    def spend(self, energy: float) -> None:
        """Take energy in J."""
        self.level = max(0.0, self.level - energy)


def _device_energy(problem: Problem, solution: Solution) -> float:
    """What a decision takes from the battery in J."""
    decision = (solution.cut, solution.retained_device, solution.retained_server, solution.power)
    clocks = (solution.frequency_device, solution.frequency_server)
    _, _, _, e_device, e_upload, _ = evaluate(
        problem.tables.hardware, problem.tables.cuts, decision[0], problem.gain, *decision[1:], *clocks
    )
    return float(e_device + e_upload)


def _with_battery(scenario: Scenario, world: World, grid: _Grid, nodes: int) -> ClairvoyantResult:
    """Bounds where the device lives on a battery: one price of its energy, and one smaller budget for all tasks."""
    last = grid.step * len(grid.right)
    capacity = scenario.battery_capacity or 0.0
    supply = scenario.battery_initial * capacity + scenario.harvest_power * last
    supply += scenario.tasks * BUDGET_TOLERANCE * capacity  # each decision may overdraw by as much
    raised, energies = _raise_by_energy(scenario, world, grid, nodes)
    table = _tabulate(scenario, world, grid, nodes)

    def bound(price: float) -> float:
        priced = [np.max(part - price * energies[:, None, None], axis=0) for part in raised]
        priced = [np.where(part < IMPOSSIBLE, NOTHING, part) for part in priced]
        return _Plan(scenario, world, grid, table, _Raised(*priced)).upper + price * supply / scenario.tasks

    highest = 2.0 / world.energy_budget  # at that price no task spends more than half of its budget
    price = _least(bound, highest)
    schedules = []
    for share in _SHARES:
        energy = share * world.energy_budget
        thrifty = build_table(scenario.problem(1.0), table.gains, table.longest, energy, nodes=nodes, width=grid.step)
        schedules.append(_Plan(scenario, world, grid, thrifty, energy_budget=energy).follow())
    best = max(schedules, key=lambda schedule: sum(service.quality for service in schedule))
    return _result(scenario, min(bound(price), bound(0.0)), best, grid, price)


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


def _raise_by_energy(scenario: Scenario, world: World, grid: _Grid, nodes: int) -> tuple[_Raised, NDArray[np.float64]]:
    """Raised qualities by what the device spends, in brackets, and the least energy of each bracket.

    Who spends at most `x` on the device and `E0` in all spends at most ``E0 + mu x`` where the device's joules count
    ``1 + mu`` times: P1 again, with another chip, a stronger transmitter and a weaker channel. Each bracket takes the
    better of some `mu`.
    """
    edges = world.energy_budget * (1.0 + BUDGET_TOLERANCE) * np.linspace(0.0, 1.0, _BRACKETS + 1)
    gains, longest = world.gains[grid.blocks], 1.1 * grid.deadline + 3.0 * grid.step
    parts: list[_Raised] = []
    for most in edges[1:]:
        best: _Raised | None = None
        for mu in _WEIGHTS:
            problem = scenario.problem(1.0)
            weighted = replace(
                problem,
                kappa_device=(1.0 + mu) * problem.kappa_device,
                power_min=(1.0 + mu) * problem.power_min,
                power_max=(1.0 + mu) * problem.power_max,
            )
            energy = edges[-1] + mu * most
            table = build_table(weighted, gains / (1.0 + mu), longest, energy, nodes=nodes, width=grid.step)
            raised = _raise(table, grid)
            best = raised if best is None else _better(best, raised)
        if best is not None:
            parts.append(best)
    return _Raised(*(np.stack(part) for part in zip(*parts, strict=True))), edges[:-1]


def _better(first: _Raised, second: _Raised) -> _Raised:
    """Row by row the lower bound of two; not entry by entry, which would spoil the interpolation."""
    choose = (second.between.sum(axis=1) < first.between.sum(axis=1))[:, None]
    return _Raised(*(np.where(choose, b, a) for a, b in zip(first, second, strict=True)))


class _Queue:
    """Which task is next, by the rules of the environment's dynamics.

    Attributes
    ----------
    clock : float
        Time in s from the start of the episode; whoever serves a task moves it.
    """

    def __init__(self, scenario: Scenario, world: World) -> None:
        self.clock = 0.0
        self._alone = scenario.arrivals == "one_at_a_time"
        self._capacity, self._tasks = scenario.queue_capacity, scenario.tasks
        self._arrivals, self._budget = world.arrivals.tolist(), world.delay_budget
        self._arrived = 0
        self._waiting: list[int] = []

    def next_task(self) -> tuple[int, float, float] | None:
        """The next task, when its service starts, and its age then; None where none is left."""
        if self._alone:
            self._arrived += 1
            return (self._arrived - 1, self.clock, 0.0) if self._arrived <= self._tasks else None
        self._admit()
        if self._waiting:
            task = self._waiting.pop(0)
        elif self._arrived == self._tasks:
            return None
        else:  # the device is idle: the task does not pass through the queue
            task, self.clock = self._arrived, max(self.clock, self._arrivals[self._arrived])
            self._arrived += 1
            self._admit()
        return task, self.clock, self.clock - self._arrivals[task]

    def _admit(self) -> None:
        while self._arrived < self._tasks and self._arrivals[self._arrived] <= self.clock:
            self._expire(self._arrivals[self._arrived])
            if len(self._waiting) < self._capacity:
                self._waiting.append(self._arrived)
            self._arrived += 1
        self._expire(self.clock)

    def _expire(self, now: float) -> None:
        while self._waiting and self._arrivals[self._waiting[0]] + self._budget <= now:
            self._waiting.pop(0)


def _may_overflow(scenario: Scenario, world: World) -> NDArray[np.bool_]:
    """Tasks that some policy can let meet a full queue: so many others came within a delay budget before them."""
    oldest = np.searchsorted(world.arrivals, world.arrivals - world.delay_budget * (1.0 + 1e-9), side="left")
    overflow: NDArray[np.bool_] = np.arange(scenario.tasks) - oldest >= scenario.queue_capacity
    return overflow


def _floods(scenario: Scenario, world: World, patience: float) -> list[tuple[int, float]]:
    """Tasks during whose service the queue can fill up, and from when on.

    While task `i` is served the queue can be full for task `j` only if `queue_capacity` tasks lie between them.
    """
    doubtful = np.flatnonzero(_may_overflow(scenario, world))
    floods = []
    for i in range(scenario.tasks):
        met = doubtful[np.searchsorted(doubtful, i + scenario.queue_capacity + 1) :]
        if met.size and world.arrivals[met[0]] <= world.arrivals[i] + patience:
            floods.append((i, float(world.arrivals[met[0]])))
    return floods


class ClairvoyantPolicy(ProblemPolicy):
    """Plays the schedule of the clairvoyant's lower bound: the attainable side of the ceiling, for comparisons.

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
        self._schedule: list[Service] = []
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
        """Exact optimum for the time until the task is to be done."""
        world = self._env.world()
        if self._world is None or self._world.seed != world.seed:
            result = clairvoyant_optimum(self._env.scenario, world, self._steps)
            self._world, self._schedule, self._served = world, list(result.schedule), 0
        service = self._schedule[min(self._served, len(self._schedule) - 1)]
        self._served += 1
        if self._env.scenario.arrivals == "one_at_a_time":
            left = service.delay
        else:  # the clock of the environment, so that rounding does not add up
            age = world.delay_budget - problem.delay_budget
            left = service.start + service.delay - (float(world.arrivals[service.task]) + age)
        allowed = min(service.energy_budget, problem.energy_budget)
        return solve_exact(replace(problem, delay_budget=left, energy_budget=allowed))
