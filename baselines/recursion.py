"""The compiled recursion of the clairvoyant optimum: what each task and those after it can earn, by when it starts.

See `baselines.clairvoyant` for what is computed and why it bounds the optimum. Times are ``(step, delay budget,
deadline, patience)`` in s, where a task counts as done in time until the deadline, a tolerance after the delay
budget.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from baselines.table import TableArrays, upper_quality
from coinfer_gym._compile import inlined_kernel, kernel

NOTHING = -1e30
"""Worth of what cannot be done."""

IMPOSSIBLE = -0.5
"""Below this a worth is that of what cannot be done; with a price of energy it can be negative otherwise."""

STRIDE = 64
"""Grid times whose maximum is kept, in `solve_alone`."""

Times = tuple[float, float, float, float]
Ahead = tuple[float, float, float, float, float, float]
"""Next arrival, deadline, ``U_(i+1)`` at the deadline and at the next arrival, own arrival, and when a device whose
battery ran out takes the next task (infinite without one)."""


@kernel
def fill_quality(table: TableArrays, step: float, width: float, out: NDArray[np.float64]) -> None:
    """Qualities of services that take whole steps, raised for spans of `width`."""
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[i, k] = upper_quality(table, i, k * step, width)
            if out[i, k] < IMPOSSIBLE:
                out[i, k] = NOTHING


@kernel
def _best_of_steps(quality: NDArray[np.float64], ahead: NDArray[np.float64], n: int, first: int, last: int) -> float:
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
def _raised(between: NDArray[np.float64], row: int, delay: float, step: float) -> float:
    """Raised quality of a service of any length.

    Between whole steps it is interpolated from values that are fit for spans of two steps; so it is fit for one.
    """
    if delay < 0.0:
        return NOTHING
    k = min(int(delay / step), between.shape[1] - 2)
    if between[row, k] <= NOTHING:
        return float(between[row, k + 1])
    return float(between[row, k] + (delay / step - k) * (between[row, k + 1] - between[row, k]))


@kernel
def solve_queue(
    arrivals: NDArray[np.float64],
    times: Times,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    row_at_arrival: NDArray[np.int64],
    skippable: NDArray[np.bool_],
    pauses: bool,
    flooded: NDArray[np.float64],
    quality: NDArray[np.float64],
    between: NDArray[np.float64],
    fastest: NDArray[np.float64],
    ahead: NDArray[np.float64],
    at_arrival: NDArray[np.float64],
    scratch: NDArray[np.float64],
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
        end = _end_of_task(arrival + deadline, after, step, ahead, at_arrival[i + 1])
        _fill_suffix(arrival, times, ahead, scratch)
        skipped = at_arrival[i + 1] if skippable[i] else NOTHING
        pause = arrival + budget if pauses else math.inf
        args = (after, arrival + deadline, end, at_arrival[i + 1], arrival, pause)
        row = row_at_arrival[i]
        at_arrival[i] = max(skipped, _earn_from(arrival, row, args, times, between, fastest, ahead, scratch))
        at_arrival[i] = max(at_arrival[i], _earn_flooded(arrival, row, flooded[i], step, between))
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
                        best = max(best, _earn_flooded(n * step, rows[k], flooded[i], step, between))
                        best = max(
                            best, _earn_from_step(n, rows[k], args, times, quality, between, fastest, ahead, scratch)
                        )
                values[i, n - first, side] = best
                value = max(value, best)
            ahead[n] = value
        for n in range(int(arrivals[max(0, i - 1)] / step), first):
            ahead[n] = at_arrival[i]
        if i > 0 and arrival >= arrivals[i - 1] + budget - 2.0 * step:
            ahead[first] = max(ahead[first], at_arrival[i])  # the one bend that lies inside a cell


@kernel
def _earn_flooded(
    start: float, row: int, flooded: NDArray[np.float64], step: float, between: NDArray[np.float64]
) -> float:
    """Most that is earned if the queue fills up during the service, by the pieces of time in which it may end."""
    last = flooded.shape[1] - 1
    best = flooded[1, last]
    if flooded[1, 0] > NOTHING:
        for k in range(last):
            if flooded[0, k] >= start:
                best = max(best, _raised(between, row, flooded[0, k] - start, step) + flooded[1, k])
    return float(best)


@kernel
def _end_of_task(due: float, after: float, step: float, ahead: NDArray[np.float64], at_arrival: float) -> float:
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
def _fill_suffix(arrival: float, times: Times, ahead: NDArray[np.float64], scratch: NDArray[np.float64]) -> None:
    """Best of what lies ahead from a grid time on until the task is abandoned, from the task's arrival on."""
    step, _, _, patience = times
    first = int(arrival / step)
    last = min(math.ceil((arrival + patience) / step) + 1, ahead.shape[0] - 1)
    best = NOTHING
    for n in range(last, first - 1, -1):
        best = max(best, ahead[n])
        scratch[n - first] = best


@kernel
def _earn_nothing(
    start: float,
    row: int,
    args: Ahead,
    times: Times,
    fastest: NDArray[np.float64],
    scratch: NDArray[np.float64],
) -> float:
    """Best of what lies ahead when the task is given up, after the fastest decision or later.

    A device whose battery has run out pauses until the deadline, which may be sooner than any decision is done.
    """
    after, _, _, at_next, arrival, pause = args
    step, _, _, patience = times
    soonest = max(start, min(start + fastest[row], pause) - step)
    n = int(soonest / step) - int(arrival / step)
    last = math.ceil((arrival + patience) / step) + 1 - int(arrival / step)
    best = scratch[min(max(n, 0), min(last, scratch.shape[0] - 1))]
    return float(max(best, at_next) if soonest <= after <= arrival + patience else best)


@kernel
def _earn_from(
    start: float,
    row: int,
    args: Ahead,
    times: Times,
    between: NDArray[np.float64],
    fastest: NDArray[np.float64],
    ahead: NDArray[np.float64],
    scratch: NDArray[np.float64],
) -> float:
    """``U_i`` at a start off the grid."""
    after, due, _, _, _, _ = args
    step = times[0]
    best = _earn_nothing(start, row, args, times, fastest, scratch)
    best = max(best, _earn_at_ends(start, row, args, step, between))
    for m in range(int(max(start, after) / step) + 1, int(due / step) + 1) if after < due else range(0):
        best = max(best, _raised(between, row, m * step - start, step) + ahead[m])
    return best


@kernel
def _earn_at_ends(start: float, row: int, args: Ahead, step: float, between: NDArray[np.float64]) -> float:
    """Best of being done at the deadline and at the next arrival."""
    after, due, end, at_next, _, _ = args
    best = _raised(between, row, due - start, step) + end
    if start <= after <= due:
        best = max(best, _raised(between, row, after - start, step) + at_next)
    return best


@kernel
def _earn_from_step(
    n: int,
    row: int,
    args: Ahead,
    times: Times,
    quality: NDArray[np.float64],
    between: NDArray[np.float64],
    fastest: NDArray[np.float64],
    ahead: NDArray[np.float64],
    scratch: NDArray[np.float64],
) -> float:
    """``U_i`` at a start on the grid."""
    after, due = args[0], args[1]
    step = times[0]
    start = n * step
    best = _earn_nothing(start, row, args, times, fastest, scratch)
    best = max(best, _earn_at_ends(start, row, args, step, between))
    if after < due:
        first = max(n, int(after / step) + 1)
        best = max(best, _best_of_steps(quality[row], ahead, n, first, int(due / step)))
    return best


@kernel
def solve_alone(
    times: Times,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    quality: NDArray[np.float64],
    ahead: NDArray[np.float64],
    scratch: NDArray[np.float64],
    values: NDArray[np.float32],
) -> None:
    """The recursion where a task is always waiting: every one has the whole delay budget, a whole number of steps."""
    step, _, deadline, patience = times
    longest = round(deadline / step)
    abandoned = math.ceil(patience / step)
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
                best = max(given_up, _best_of_steps(quality[rows[0]], ahead, n, n, last))
                if rows[1] != rows[0]:
                    best = max(best, _best_of_steps(quality[rows[1]], ahead, n, n, last))
                values[i, n, side] = best
                value = max(value, best)
            ahead[n] = value


@kernel
def value_at(
    i: int,
    time: float,
    arrivals: NDArray[np.float64],
    times: Times,
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
        return float(values[i, m, 1] + share * (values[i, m + 1, 0] - values[i, m, 1]))
    if time <= arrivals[i]:
        return float(at_arrival[i])
    first = int(arrivals[i] / step) + 1
    if n < first:
        share = (time - arrivals[i]) / (first * step - arrivals[i])
        return float(at_arrival[i] + share * (values[i, 0, 0] - at_arrival[i]))
    below, above = values[i, n - first, 1], values[i, n + 1 - first, 0]
    return float(below + share * (above - below))


@kernel
def choose_queue(
    i: int,
    start: float,
    row: int,
    arrivals: NDArray[np.float64],
    times: Times,
    table: TableArrays,
    fastest: NDArray[np.float64],
    at_arrival: NDArray[np.float64],
    values: NDArray[np.float32],
) -> tuple[float, float]:
    """When task `i` should be done, and what is then earned from it on."""
    step, budget, _, patience = times
    due = arrivals[i] + budget
    after = arrivals[i + 1] if i + 1 < arrivals.shape[0] else math.inf
    end = start + fastest[row]
    best = value_at(i + 1, end, arrivals, times, at_arrival, values, False)
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
        value = value_at(i + 1, time, arrivals, times, at_arrival, values, False)
        if time <= due:
            value += upper_quality(table, row, time - start, 0.0)
        if value > best + 1e-12:
            end, best = time, value
    return end, best


@kernel
def choose_alone(
    i: int,
    start: float,
    row: int,
    arrivals: NDArray[np.float64],
    times: Times,
    table: TableArrays,
    fastest: NDArray[np.float64],
    at_arrival: NDArray[np.float64],
    values: NDArray[np.float32],
) -> tuple[float, float]:
    """`choose_queue` where a task is always waiting."""
    step, budget, _, patience = times
    end = start + fastest[row]
    best = value_at(i + 1, end, arrivals, times, at_arrival, values, True)
    for k in range(int(patience / step) + 2):
        delay = budget if k == 0 else k * step
        value = value_at(i + 1, start + delay, arrivals, times, at_arrival, values, True)
        if delay <= budget:
            value += upper_quality(table, row, delay, 0.0)
        if value > best + 1e-12:
            end, best = start + delay, value
    return end, best
