"""The clairvoyant optimum of an episode: what a policy that knows the world could earn, bounded from both sides.

With the world known an episode is a shortest path through (task, time). Tasks are served in the order of arrival, each from
when the last one is done, or from its own arrival; the gain is that of the coherence block in which service starts; a task
whose deadline passes while it waits is lost. What is chosen is how long each service takes, and with that its quality,
which `baselines.table` tabulates.

**Upper bound.** Time is a grid of step ``h``. Let ``V_i(t)`` be what tasks ``i, i+1, ...`` can earn from time `t` on. The
recursion

    U_i(t) = max over e of  q(e - t) + U_(i+1)(e),      e in the grid, at the next arrival and at the deadline

is evaluated for `t` in the grid and at the task's arrival. Draw the plane of start and finish as triangles whose corners are
these pairs. Inside a triangle ``e - t`` spans at most `h`, and `q` is raised by what a concave function can rise above its
chords over that span (`upper_quality`): interpolated over the triangle it never falls short of the quality. With
``U_(i+1)`` interpolated between its points, an upper bound by induction, so is ``U_i``: the interpolation at a point
``(t, e)`` weighs the corners at either grid time by the same shares as the interpolation of ``U_i`` at `t`. The error is of
second order in `h`. Where the coherence block changes, both gains are taken, the better one counts. Neither the tolerance
of the environment (a budget exceeded by 1e-5 counts as met) nor a service that is abandoned is left out: quality 0 may take
any time from the fastest decision to the patience.

Three things are relaxed, so that the bound stays one. A full queue turns tasks away, which a longer queue would force the
server to deal with. The recursion runs twice where that can happen: once every task that can meet a full queue
(`queue_capacity` others came within the delay budget before it) may be skipped at no cost, and then none, but whoever
serves a task for so long that the queue can fill up meanwhile goes over to the first recursion. A task may take longer than its decision needs. And of a **battery** only the sum is kept: over
the episode the device cannot spend more than the battery held at first and harvested since. Its price ``lambda`` enters by
weak duality: ``max sum(q_i - lambda e_i) + lambda (initial + harvest)`` bounds the optimum for every price, and the lowest
of the prices tried is reported. Of both energy budgets, the task's own and the device's share, either is relaxed in turn.

**Lower bound.** The finishing times that the recursion prefers are followed from the first arrival on; every decision is the
exact optimum of its task for the time it is to take, its delay moves the clock, and the exact qualities are summed.
`ClairvoyantPolicy` plays this in the environment and earns it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.policy import Observation, ProblemPolicy, State
from baselines.table import OptimumTable, TableArrays, build_table, upper_quality
from coinfer_gym import Decision, InvalidInputError, Problem, Solution, load_scenario, solve_exact
from coinfer_gym._compile import kernel
from coinfer_gym.problem import BUDGET_TOLERANCE
from coinfer_gym.scenario import Scenario
from coinfer_gym.world import World, draw

__all__ = ["ClairvoyantPolicy", "ClairvoyantResult", "Service", "clairvoyant_optimum"]

_STEPS = 500  # of a delay budget
_STEPS_ONE_AT_A_TIME = 100  # there the times of a task span the whole episode
_NODES = 48
_SIDE = 1e-6  # s; float32 actions leave that much doubt about when a service ends
_NOTHING = -1e30
_IMPOSSIBLE = -0.5
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
    energy_budget : float or None
        What the decision was allowed to spend in J, where that was less than the task's budget.
    quality : float
        What is delivered, 0 where a budget is missed.
    solution : Solution
        The decision.
    """

    task: int
    start: float
    gain: float
    delay: float
    energy_budget: float | None
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
        Rows of the table for starts in the cell before and after a time: one block, or the two between which the cell lies.
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
    patience = scenario.patience * world.delay_budget
    if scenario.arrivals == "one_at_a_time":
        # the work grows with the square of the number of tasks
        wanted = min(_STEPS_ONE_AT_A_TIME, max(8, 20_000 // scenario.tasks)) if steps is None else steps
        step = deadline / max(wanted, math.ceil(deadline / world.block_duration))
        last = scenario.tasks * patience
    else:
        wanted = _STEPS if steps is None else steps
        step = world.block_duration / math.ceil(world.block_duration * wanted / world.delay_budget)
        last = float(world.arrivals[-1]) + patience
    times = step * np.arange(math.ceil(last / step) + 4)
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
    longest = grid.deadline + 3.0 * grid.step
    return build_table(scenario.problem(1.0), gains, longest, energy, nodes=nodes, width=grid.step)


class _Plan:
    """The recursion for one episode, solved, and the schedule that follows it.

    Parameters
    ----------
    scenario : Scenario
    world : World
    grid : _Grid
    table : OptimumTable
        One row per row of the grid; its qualities may be less a price of energy.

    Attributes
    ----------
    upper : float
        Bound of the mean quality per task.
    """

    def __init__(self, scenario: Scenario, world: World, grid: _Grid, table: OptimumTable) -> None:
        self._scenario, self._world, self._grid, self._table = scenario, world, grid, table
        self._alone = scenario.arrivals == "one_at_a_time"
        tasks, times = scenario.tasks, len(grid.right)
        span = math.ceil(grid.deadline / grid.step) + 3
        self._quality = np.empty((len(grid.blocks), span))
        _fill_quality(table.arrays, grid.step, self._quality)
        self._ahead = np.zeros(times)
        self._at_arrival = np.zeros(tasks + 1)
        if self._alone:
            self._values = np.zeros((tasks + 1, times, 2), np.float32)
            _solve_alone(self._times, grid.left, grid.right, self._quality, table.fastest, self._ahead, self._values)
            self.upper = float(self._ahead[0]) / tasks
        else:
            self._values = np.zeros((tasks + 1, span, 2), np.float32)
            flooded = np.full((tasks, 2, _PIECES + 1), _NOTHING)
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
        _solve_queue(
            world.arrivals,
            self._times,
            grid.left,
            grid.right,
            grid.row_of_block[_blocks_at(world, world.arrivals)],
            skippable,
            flooded,
            self._quality,
            self._table.arrays,
            self._table.fastest,
            self._ahead,
            self._at_arrival,
            np.zeros(math.ceil(grid.patience / grid.step) + 6),
            self._values,
        )

    def _flood(self, task: int, time: float) -> NDArray[np.float64]:
        """Latest finish and what lies ahead in pieces of the time from `time` to the deadline, and after the deadline."""
        arrival = float(self._world.arrivals[task])
        due, end = arrival + self._grid.deadline, arrival + self._grid.patience
        pieces = np.full((2, _PIECES + 1), _NOTHING)
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
            _value(task, time, self._world.arrivals, self._times, self._at_arrival, self._values, self._alone)
        )

    @property
    def _times(self) -> tuple[float, float, float, float]:
        grid = self._grid
        return grid.step, self._world.delay_budget, grid.deadline, grid.patience

    def finish(self, task: int, start: float) -> float:
        """When the service of a task that begins at `start` should end."""
        block = int(_blocks_at(self._world, np.array([start]))[0])
        row = int(self._grid.row_of_block[block])
        run = _choose_alone if self._alone else _choose_queue
        table = self._table
        world = (self._world.arrivals, self._times)
        end = run(task, start, row, *world, table.arrays, table.fastest, self._at_arrival, self._values)
        return self._beside_change(task + 1, float(end))

    def _beside_change(self, task: int, end: float) -> float:
        """A time next to `end`, where that is when the channel changes: on the side that is worth more."""
        change = self._world.block_duration * round(end / self._world.block_duration)
        if abs(end - change) > 2.0 * _SIDE or task >= self._scenario.tasks:
            return end
        sides = [change - _SIDE, change + _SIDE]
        return max(sides, key=lambda side: self._value_at(task, side))

    def decide(self, task: int, start: float, age: float, problem: Problem) -> Solution:
        """Exact optimum for the time that a task is to take; the fastest decision where it cannot be done in time."""
        solution = solve_exact(replace(problem, delay_budget=self.finish(task, start) - start))
        limit = self._world.delay_budget - age
        if solution.delay > limit:
            solution = solve_exact(replace(problem, delay_budget=limit))
        return solution

    def follow(self) -> list[Service]:
        """Play the schedule by the rules of the environment."""
        queue = _Queue(self._scenario, self._world)
        schedule: list[Service] = []
        while (head := queue.next_task()) is not None:
            task, start, age = head
            gain = self._world.gain_at(start)
            problem = self._scenario.problem(gain, energy_budget=self._world.energy_budget)
            solution = self.decide(task, start, age, problem)
            in_time = age + solution.delay <= self._grid.deadline
            within = solution.energy <= self._world.energy_budget * (1.0 + BUDGET_TOLERANCE)
            delay = min(solution.delay, self._grid.patience - age)
            quality = solution.quality if in_time and within else 0.0
            schedule.append(Service(task, start, gain, delay, None, quality, solution))
            queue.clock += delay
        return schedule


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
        while not self._waiting:
            if self._arrived == self._tasks:
                return None
            self.clock = max(self.clock, self._arrivals[self._arrived])
            self._admit()
        task = self._waiting.pop(0)
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
    """Plays the schedule of the clairvoyant's lower bound: a rival that nobody without hindsight can match.

    It uses the world of the running episode, future included, and stands in a comparison as the ceiling's attainable side.

    Parameters
    ----------
    env : gymnasium.Env, optional
    steps : int, optional
        As for `clairvoyant_optimum`.
    """

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
        allowed = problem.energy_budget if service.energy_budget is None else service.energy_budget
        return solve_exact(replace(problem, delay_budget=left, energy_budget=min(allowed, problem.energy_budget)))


@kernel
def _fill_quality(table: TableArrays, step: float, out: NDArray[np.float64]) -> None:
    """Raised qualities of services that take whole steps."""
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[i, k] = upper_quality(table, i, k * step, step)
            if out[i, k] < _IMPOSSIBLE:
                out[i, k] = _NOTHING


@kernel
def _best_of_steps(quality: NDArray[np.float64], ahead: NDArray[np.float64], n: int, first: int, last: int) -> float:
    """Largest ``quality[m - n] + ahead[m]`` for `m` from `first` to `last`; four at a time, for the maxima wait in line."""
    a, b, c, d = _NOTHING, _NOTHING, _NOTHING, _NOTHING
    m = first
    while m + 3 <= last:
        a = max(a, quality[m - n] + ahead[m])
        b = max(b, quality[m - n + 1] + ahead[m + 1])
        c = max(c, quality[m - n + 2] + ahead[m + 2])
        d = max(d, quality[m - n + 3] + ahead[m + 3])
        m += 4
    while m <= last:
        a = max(a, quality[m - n] + ahead[m])
        m += 1
    return max(max(a, b), max(c, d))


@kernel
def _raised(table: TableArrays, row: int, delay: float, step: float) -> float:
    """Raised quality of a service of any length."""
    value = upper_quality(table, row, delay, step)
    return value if value > _IMPOSSIBLE else _NOTHING


@kernel
def _solve_queue(
    arrivals: NDArray[np.float64],
    times: tuple[float, float, float, float],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    row_at_arrival: NDArray[np.int64],
    skippable: NDArray[np.bool_],
    flooded: NDArray[np.float64],
    quality: NDArray[np.float64],
    table: TableArrays,
    fastest: NDArray[np.float64],
    ahead: NDArray[np.float64],
    at_arrival: NDArray[np.float64],
    scratch: NDArray[np.float64],
    values: NDArray[np.float32],
) -> None:
    """The recursion from the last task to the first.

    ``ahead[n]`` holds ``U_(i+1)`` at grid time `n` and is overwritten by ``U_i``, in rising order, since a service only
    looks ahead; `at_arrival` holds ``U_i`` at the task's arrival and before. `values` keeps ``U_i`` on both sides of the
    grid times after the arrival, for the schedule.
    """
    step, budget, deadline, _ = times
    tasks = arrivals.shape[0]
    for i in range(tasks - 1, -1, -1):
        arrival = arrivals[i]
        first = int(arrival / step) + 1
        expiry = int(math.ceil((arrival + budget) / step))
        after = arrivals[i + 1] if i + 1 < tasks else math.inf
        end = _end_of_task(arrival + deadline, after, step, ahead, at_arrival[i + 1])
        _fill_suffix(arrival, times, ahead, scratch)
        skipped = at_arrival[i + 1] if skippable[i] else _NOTHING
        args = (after, arrival + deadline, end, at_arrival[i + 1], arrival)
        row = row_at_arrival[i]
        at_arrival[i] = max(skipped, _earn_from(arrival, row, args, times, table, fastest, ahead, scratch))
        at_arrival[i] = max(at_arrival[i], _earn_flooded(arrival, row, flooded[i], step, table))
        for n in range(first, expiry + 1):
            late = at_arrival[i + 1] if n * step <= after else ahead[n]
            old = late if n >= expiry - 1 or skippable[i] else _NOTHING
            value = _NOTHING
            for side in range(2):
                rows = left[n] if side == 0 else right[n]
                best = old
                for k in range(2):
                    if rows[k] >= 0 and not (k == 1 and rows[1] == rows[0]):
                        best = max(best, _earn_flooded(n * step, rows[k], flooded[i], step, table))
                        best = max(best, _earn_from_step(n, rows[k], args, times, quality, table, fastest, ahead, scratch))
                values[i, n - first, side] = best
                value = max(value, best)
            ahead[n] = value
        for n in range(int(arrivals[max(0, i - 1)] / step), first):
            ahead[n] = at_arrival[i]
        if i > 0 and arrival >= arrivals[i - 1] + budget - 2.0 * step:
            ahead[first] = max(ahead[first], at_arrival[i])  # the one bend that lies inside a cell


@kernel
def _earn_flooded(start: float, row: int, flooded: NDArray[np.float64], step: float, table: TableArrays) -> float:
    """Most that is earned if the queue fills up during the service, by the pieces of time in which it may end."""
    last = flooded.shape[1] - 1
    best = flooded[1, last]
    if flooded[1, 0] > _NOTHING:
        for k in range(last):
            if flooded[0, k] >= start:
                best = max(best, _raised(table, row, flooded[0, k] - start, step) + flooded[1, k])
    return best


@kernel
def _end_of_task(due: float, after: float, step: float, ahead: NDArray[np.float64], at_arrival: float) -> float:
    """``U_(i+1)`` at the deadline of task `i`."""
    if after >= due:
        return at_arrival
    n = int(due / step)
    if n * step <= after:
        share = (due - after) / ((n + 1) * step - after)
        return at_arrival + share * (ahead[n + 1] - at_arrival)
    share = (due - n * step) / step
    return ahead[n] + share * (ahead[n + 1] - ahead[n])


@kernel
def _fill_suffix(
    arrival: float, times: tuple[float, float, float, float], ahead: NDArray[np.float64], scratch: NDArray[np.float64]
) -> None:
    """Best of what lies ahead from a grid time on until the task is abandoned, from the task's arrival on."""
    step, _, _, patience = times
    first = int(arrival / step)
    last = min(int(math.ceil((arrival + patience) / step)) + 1, ahead.shape[0] - 1)
    best = _NOTHING
    for n in range(last, first - 1, -1):
        best = max(best, ahead[n])
        scratch[n - first] = best


@kernel
def _earn_nothing(
    start: float,
    row: int,
    args: tuple[float, float, float, float, float],
    times: tuple[float, float, float, float],
    fastest: NDArray[np.float64],
    scratch: NDArray[np.float64],
) -> float:
    """Best of what lies ahead when the task is given up, which takes the fastest decision or longer."""
    after, _, _, at_next, arrival = args
    step, _, _, patience = times
    soonest = max(start, start + fastest[row] - step)
    n = int(soonest / step) - int(arrival / step)
    last = int(math.ceil((arrival + patience) / step)) + 1 - int(arrival / step)
    best = scratch[min(max(n, 0), min(last, scratch.shape[0] - 1))]
    return max(best, at_next) if soonest <= after <= arrival + patience else best


@kernel
def _earn_from(
    start: float,
    row: int,
    args: tuple[float, float, float, float, float],
    times: tuple[float, float, float, float],
    table: TableArrays,
    fastest: NDArray[np.float64],
    ahead: NDArray[np.float64],
    scratch: NDArray[np.float64],
) -> float:
    """``U_i`` at a start off the grid."""
    after, due, end, at_next, _ = args
    step = times[0]
    best = _earn_nothing(start, row, args, times, fastest, scratch)
    best = max(best, _earn_at_ends(start, row, args, step, table))
    for m in range(int(max(start, after) / step) + 1, int(due / step) + 1) if after < due else range(0):
        best = max(best, _raised(table, row, m * step - start, step) + ahead[m])
    return best


@kernel
def _earn_at_ends(
    start: float, row: int, args: tuple[float, float, float, float, float], step: float, table: TableArrays
) -> float:
    """Best of being done at the deadline and at the next arrival."""
    after, due, end, at_next, _ = args
    best = _raised(table, row, due - start, step) + end
    if start <= after <= due:
        best = max(best, _raised(table, row, after - start, step) + at_next)
    return best


@kernel
def _earn_from_step(
    n: int,
    row: int,
    args: tuple[float, float, float, float, float],
    times: tuple[float, float, float, float],
    quality: NDArray[np.float64],
    table: TableArrays,
    fastest: NDArray[np.float64],
    ahead: NDArray[np.float64],
    scratch: NDArray[np.float64],
) -> float:
    """``U_i`` at a start on the grid."""
    after, due = args[0], args[1]
    step = times[0]
    start = n * step
    best = _earn_nothing(start, row, args, times, fastest, scratch)
    best = max(best, _earn_at_ends(start, row, args, step, table))
    if after < due:
        first = max(n, int(after / step) + 1)
        best = max(best, _best_of_steps(quality[row], ahead, n, first, int(due / step)))
    return best


@kernel
def _solve_alone(
    times: tuple[float, float, float, float],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    quality: NDArray[np.float64],
    fastest: NDArray[np.float64],
    ahead: NDArray[np.float64],
    values: NDArray[np.float32],
) -> None:
    """The recursion where a task is always waiting: every one has the whole delay budget, a whole number of steps."""
    step, _, deadline, patience = times
    longest = int(round(deadline / step))
    abandoned = int(math.ceil(patience / step))
    tasks = values.shape[0] - 1
    for i in range(tasks - 1, -1, -1):
        reach = min(i * abandoned, ahead.shape[0] - 1)
        for n in range(reach + 1):
            # not all that lies ahead is within reach of a task given up, which only raises the bound
            last = min(n + abandoned + 1, ahead.shape[0] - 1)
            given_up = _NOTHING
            for m in range(n, last + 1):
                given_up = max(given_up, ahead[m])
            value = _NOTHING
            for side in range(2):
                rows = left[n] if side == 0 else right[n]
                best = given_up
                for k in range(2):
                    if not (k == 1 and rows[1] == rows[0]):
                        best = max(
                            best, _best_of_steps(quality[rows[k]], ahead, n, n, min(n + longest, ahead.shape[0] - 1))
                        )
                values[i, n, side] = best
                value = max(value, best)
            ahead[n] = value


@kernel
def _value(
    i: int,
    time: float,
    arrivals: NDArray[np.float64],
    times: tuple[float, float, float, float],
    at_arrival: NDArray[np.float64],
    values: NDArray[np.float32],
    alone: bool,
) -> float:
    """``U_i`` at any time, between the grid times interpolated."""
    step, budget, _, _ = times
    tasks = values.shape[0] - 1
    if not alone:
        while i < tasks and time >= arrivals[i] + budget:
            i += 1
    if i >= tasks:
        return 0.0
    n = int(time / step)
    share = time / step - n
    if alone:
        m = min(n, values.shape[1] - 2)
        return values[i, m, 1] + share * (values[i, m + 1, 0] - values[i, m, 1])
    if time <= arrivals[i]:
        return at_arrival[i]
    first = int(arrivals[i] / step) + 1
    if n < first:
        share = (time - arrivals[i]) / (first * step - arrivals[i])
        return at_arrival[i] + share * (values[i, 0, 0] - at_arrival[i])
    below, above = values[i, n - first, 1], values[i, n + 1 - first, 0]
    return below + share * (above - below)


@kernel
def _choose_queue(
    i: int,
    start: float,
    row: int,
    arrivals: NDArray[np.float64],
    times: tuple[float, float, float, float],
    table: TableArrays,
    fastest: NDArray[np.float64],
    at_arrival: NDArray[np.float64],
    values: NDArray[np.float32],
) -> float:
    """When task `i` should be done."""
    step, budget, _, patience = times
    due = arrivals[i] + budget
    after = arrivals[i + 1] if i + 1 < arrivals.shape[0] else math.inf
    end = start + fastest[row]
    best = _value(i + 1, end, arrivals, times, at_arrival, values, False)
    first = int(start / step) + 1
    last = int((arrivals[i] + patience) / step)
    for k in range(first - 2, last + 1):
        time = k * step
        if k == first - 2:
            time = due
        elif k == first - 1:
            time = after
        if not start < time < math.inf or (time > due and k < first):
            continue
        value = _value(i + 1, time, arrivals, times, at_arrival, values, False)
        if time <= due:
            value += upper_quality(table, row, time - start, 0.0)
        if value > best + 1e-12:
            end, best = time, value
    return end


@kernel
def _choose_alone(
    i: int,
    start: float,
    row: int,
    arrivals: NDArray[np.float64],
    times: tuple[float, float, float, float],
    table: TableArrays,
    fastest: NDArray[np.float64],
    at_arrival: NDArray[np.float64],
    values: NDArray[np.float32],
) -> float:
    """When task `i` should be done, where a task is always waiting."""
    step, budget, _, patience = times
    end = start + fastest[row]
    best = _value(i + 1, end, arrivals, times, at_arrival, values, True)
    for k in range(int(patience / step) + 2):
        delay = budget if k == 0 else k * step
        value = _value(i + 1, start + delay, arrivals, times, at_arrival, values, True)
        if delay <= budget:
            value += upper_quality(table, row, delay, 0.0)
        if value > best + 1e-12:
            end, best = start + delay, value
    return end
