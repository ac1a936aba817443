"""The compiled recursion of the clairvoyant: what each task and those after it can earn, by when service starts.

`baselines.clairvoyant` says what is computed and why it bounds the optimum.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.clairvoyant.table import OptimumTable, upper_quality
from coinfer_gym._compile import inlined_kernel, kernel

NOTHING = -1e30
"""Worth of what cannot be done."""

IMPOSSIBLE = -0.5
"""A worth below this is that of what cannot be done; others can be negative, too, where energy has a price."""

STRIDE = 64
"""Grid times whose maximum is kept, in `solve_alone`."""

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class Times(NamedTuple):
    """Times in s that hold for every task of an episode."""

    step: float  # of the time grid
    budget: float  # delay budget
    deadline: float  # age until which a task counts as done in time: a tolerance after the budget
    patience: float  # age at which a task is abandoned


class Worth(NamedTuple):
    """What a service is worth by the time that it takes."""

    # shape (rows, n): quality of `k` steps, raised so that it bounds the quality where it is interpolated
    steps: Floats
    between: Floats  # raised further, so that values interpolated between whole steps may be interpolated again
    fastest: Floats  # least time in s that any decision takes, by row


class _Task(NamedTuple):
    """A task and what lies ahead of it: times in s, and ``U_(i+1)`` at two of them.

    `pause` is when a device whose battery ran out takes the next task; infinite without a battery.
    """

    arrival: float
    due: float
    after: float
    worth_at_due: float
    worth_at_after: float
    pause: float


@kernel
def fill_worth(table: OptimumTable, step: float, width: float, out: Floats) -> None:
    """Qualities of services that take whole steps, raised for spans of `width`."""
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[i, k] = upper_quality(table, i, k * step, width)
            if out[i, k] < IMPOSSIBLE:
                out[i, k] = NOTHING


@kernel
def _best_of_steps(quality: Floats, ahead: Floats, n: int, first: int, last: int) -> float:
    """Largest ``quality[m - n] + ahead[m]`` for `m` from `first` to `last`; four at a time, for maxima wait in line."""
    a, b, c, d = NOTHING, NOTHING, NOTHING, NOTHING
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


@inlined_kernel
def raised(between: Floats, row: int, delay: float, step: float) -> float:
    """Raised quality of a service of any length, interpolated between whole steps."""
    if delay < 0.0:
        return NOTHING
    k = min(int(delay / step), between.shape[1] - 2)
    if between[row, k] <= NOTHING:
        return float(between[row, k + 1])
    return float(between[row, k] + (delay / step - k) * (between[row, k + 1] - between[row, k]))


@kernel
def solve_queue(
    arrivals: Floats,
    times: Times,
    left: Rows,
    right: Rows,
    row_at_arrival: Rows,
    skippable: NDArray[np.bool_],
    pauses: bool,
    flooded: Floats,
    worth: Worth,
    ahead: Floats,
    at_arrival: Floats,
    scratch: Floats,
    values: NDArray[np.float32],
) -> None:
    """The recursion from the last task to the first.

    ``ahead[n]`` holds ``U_(i+1)`` at grid time `n` and is overwritten by ``U_i``, in rising order, since a service
    only looks ahead; `at_arrival` holds ``U_i`` at the task's arrival and before. `values` keeps ``U_i`` on both
    sides of the grid times after the arrival, for the schedule.
    """
    step, budget, deadline, _ = times
    tasks = arrivals.shape[0]
    for i in range(tasks - 1, -1, -1):
        arrival = arrivals[i]
        first = int(arrival / step) + 1
        expiry = math.ceil((arrival + budget) / step)
        after = arrivals[i + 1] if i + 1 < tasks else math.inf
        at_due = _worth_at_due(arrival + deadline, after, step, ahead, at_arrival[i + 1])
        _fill_suffix(arrival, times, ahead, scratch)
        skipped = at_arrival[i + 1] if skippable[i] else NOTHING
        pause = arrival + budget if pauses else math.inf
        task = _Task(arrival, arrival + deadline, after, at_due, at_arrival[i + 1], pause)
        row = row_at_arrival[i]
        at_arrival[i] = max(skipped, _earn_from(arrival, row, task, times, worth, ahead, scratch))
        at_arrival[i] = max(at_arrival[i], _earn_flooded(arrival, row, flooded[i], step, worth.between))
        for n in range(first, expiry + 1):
            late = at_arrival[i + 1] if n * step <= after else ahead[n]
            old = late if n >= expiry - 1 or skippable[i] else NOTHING
            value = NOTHING
            for side in range(2):
                rows = left[n] if side == 0 else right[n]
                if side == 1 and rows[0] == left[n, 0] and rows[1] == left[n, 1]:
                    values[i, n - first, 1] = values[i, n - first, 0]
                    continue
                best = old
                for k in range(2):
                    if rows[k] >= 0 and not (k == 1 and rows[1] == rows[0]):
                        best = max(best, _earn_flooded(n * step, rows[k], flooded[i], step, worth.between))
                        best = max(best, _earn_from_step(n, rows[k], task, times, worth, ahead, scratch))
                values[i, n - first, side] = best
                value = max(value, best)
            ahead[n] = value
        for n in range(int(arrivals[max(0, i - 1)] / step), first):
            ahead[n] = at_arrival[i]
        if i > 0 and arrival >= arrivals[i - 1] + budget - 2.0 * step:
            ahead[first] = max(ahead[first], at_arrival[i])  # the one bend that lies inside a cell


@kernel
def _earn_flooded(start: float, row: int, flooded: Floats, step: float, between: Floats) -> float:
    """Most that is earned if the queue fills up during the service, by the pieces of time in which it may end."""
    last = flooded.shape[1] - 1
    best = flooded[1, last]
    if flooded[1, 0] > NOTHING:
        for k in range(last):
            if flooded[0, k] >= start:
                best = max(best, raised(between, row, flooded[0, k] - start, step) + flooded[1, k])
    return float(best)


@kernel
def _worth_at_due(due: float, after: float, step: float, ahead: Floats, at_arrival: float) -> float:
    """``U_(i+1)`` at the deadline of task `i`."""
    if after >= due:
        return at_arrival
    n = int(due / step)
    if n * step <= after:
        share = (due - after) / ((n + 1) * step - after)
        return float(at_arrival + share * (ahead[n + 1] - at_arrival))
    share = (due - n * step) / step
    return float(ahead[n] + share * (ahead[n + 1] - ahead[n]))


@kernel
def _fill_suffix(arrival: float, times: Times, ahead: Floats, scratch: Floats) -> None:
    """Best of what lies ahead from a grid time on until the task is abandoned, from the task's arrival on."""
    first = int(arrival / times.step)
    last = min(math.ceil((arrival + times.patience) / times.step) + 1, ahead.shape[0] - 1)
    best = NOTHING
    for n in range(last, first - 1, -1):
        best = max(best, ahead[n])
        scratch[n - first] = best


@kernel
def _earn_without_steps(start: float, row: int, task: _Task, times: Times, worth: Worth, scratch: Floats) -> float:
    """Best of giving the task up, and of being done at the deadline or at the next arrival.

    Giving up takes as long as the fastest decision, or longer. A device whose battery has run out pauses until the
    deadline, which may be sooner than any decision is done.
    """
    step, latest = times.step, task.arrival + times.patience
    soonest = max(start, min(start + worth.fastest[row], task.pause) - step)
    n = int(soonest / step) - int(task.arrival / step)
    last = math.ceil(latest / step) + 1 - int(task.arrival / step)
    best = scratch[min(max(n, 0), min(last, scratch.shape[0] - 1))]
    if soonest <= task.after <= latest:
        best = max(best, task.worth_at_after)
    best = max(best, raised(worth.between, row, task.due - start, step) + task.worth_at_due)
    if start <= task.after <= task.due:
        best = max(best, raised(worth.between, row, task.after - start, step) + task.worth_at_after)
    return float(best)


@kernel
def _earn_from(
    start: float, row: int, task: _Task, times: Times, worth: Worth, ahead: Floats, scratch: Floats
) -> float:
    """``U_i`` at a start off the grid."""
    step = times.step
    best = _earn_without_steps(start, row, task, times, worth, scratch)
    if task.after < task.due:
        for m in range(int(max(start, task.after) / step) + 1, int(task.due / step) + 1):
            best = max(best, raised(worth.between, row, m * step - start, step) + ahead[m])
    return best


@kernel
def _earn_from_step(n: int, row: int, task: _Task, times: Times, worth: Worth, ahead: Floats, scratch: Floats) -> float:
    """``U_i`` at a start on the grid."""
    step = times.step
    best = _earn_without_steps(n * step, row, task, times, worth, scratch)
    if task.after < task.due:
        first = max(n, int(task.after / step) + 1)
        best = max(best, _best_of_steps(worth.steps[row], ahead, n, first, int(task.due / step)))
    return best


@kernel
def solve_alone(
    times: Times, left: Rows, right: Rows, steps: Floats, ahead: Floats, scratch: Floats, values: NDArray[np.float32]
) -> None:
    """The recursion where a task is always waiting: every one has the whole delay budget, a whole number of steps."""
    longest = round(times.deadline / times.step)
    abandoned = math.ceil(times.patience / times.step)
    end = ahead.shape[0] - 1
    for i in range(values.shape[0] - 2, -1, -1):
        for k in range(scratch.shape[0]):
            scratch[k] = NOTHING
            for n in range(k * STRIDE, min((k + 1) * STRIDE, end + 1)):
                scratch[k] = max(scratch[k], ahead[n])
        for n in range(min(i * abandoned, end) + 1):
            # a little more than what lies within reach of a task given up, which only raises the bound
            given_up = NOTHING
            for k in range(n // STRIDE, min((n + abandoned + 1) // STRIDE + 1, scratch.shape[0])):
                given_up = max(given_up, scratch[k])
            last = min(n + longest, end)
            value = given_up
            for side in range(2):
                rows = left[n] if side == 0 else right[n]
                if side == 1 and rows[0] == left[n, 0] and rows[1] == left[n, 1]:
                    values[i, n, 1] = values[i, n, 0]
                    continue
                best = max(given_up, _best_of_steps(steps[rows[0]], ahead, n, n, last))
                if rows[1] != rows[0]:
                    best = max(best, _best_of_steps(steps[rows[1]], ahead, n, n, last))
                values[i, n, side] = best
                value = max(value, best)
            ahead[n] = value


class Outlook(NamedTuple):
    """The solved recursion: ``U_i`` at each task's arrival, and on both sides of the grid times after it.

    Where a task is always waiting (`alone`), `values` start with the episode, and `at_arrival` is not used.
    """

    arrivals: Floats
    times: Times
    at_arrival: Floats
    values: NDArray[np.float32]
    alone: bool


@kernel
def value_at(outlook: Outlook, i: int, time: float) -> float:
    """``U_i`` at any time, between the grid times interpolated."""
    arrivals, times, at_arrival, values, alone = outlook
    step, tasks = times.step, values.shape[0] - 1
    if not alone:
        while i < tasks and time >= arrivals[i] + times.budget:
            i += 1
    if i >= tasks:
        return 0.0
    n = int(time / step)
    share = time / step - n
    if alone:
        n = min(n, values.shape[1] - 2)
    else:
        if time <= arrivals[i]:
            return float(at_arrival[i])
        first = int(arrivals[i] / step) + 1
        if n < first:
            share = (time - arrivals[i]) / (first * step - arrivals[i])
            return float(at_arrival[i] + share * (values[i, 0, 0] - at_arrival[i]))
        n -= first
    below, above = values[i, n, 1], values[i, n + 1, 0]
    return float(below + share * (above - below))


@kernel
def choose_end(outlook: Outlook, table: OptimumTable, i: int, start: float, row: int) -> tuple[float, float]:
    """When task `i` should be done if its service begins at `start`, and what is then earned from it on."""
    arrivals, times, _, _, alone = outlook
    due = times.budget + (start if alone else arrivals[i])
    after = math.inf if alone or i + 1 == arrivals.shape[0] else arrivals[i + 1]
    origin = start if alone else 0.0
    first = 1 if alone else int(start / times.step) + 1
    last = int(times.patience / times.step) + 1 if alone else int((arrivals[i] + times.patience) / times.step)
    end = start + table.fastest[row]
    best = value_at(outlook, i + 1, end)
    for k in range(first - 2, last + 1):
        time = origin + k * times.step
        if k == first - 2:
            time = due
        elif k == first - 1:
            time = after
        if not start < time < math.inf or (time > due and k < first):
            continue
        value = value_at(outlook, i + 1, time)
        if time <= due:
            value += upper_quality(table, row, time - start, 0.0)
        if value > best + 1e-12:
            end, best = time, value
    return end, best
