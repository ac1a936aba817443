"""The compiled recursion of the causal bound: the penalised plan of the clairvoyant, over (task, cell of time)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.clairvoyant.recursion import NOTHING, Times, Worth, raised
from coinfer_gym._compile import inlined_kernel, kernel

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class Foresight(NamedTuple):
    """What everything that happened says of the value of the next state; see `baselines.causal_bound.foresight`.

    Phases are those of the arrivals, calm and burst; gains are levels between which values are interpolated.
    """

    rate: float  # quality per task, ``rho``
    head: Floats  # shape (2, gains, ages, ages, counts): by phase, gain, age of the head and of the next, tasks behind
    age_step: float  # in s
    # shape (cells of a block, blocks, 2, 2): chance that the next task comes so many coherence blocks after a cell, by
    # the phases at the end of the cell and at the arrival
    next: Floats
    later: float  # value of a queue to which the next task comes after all these blocks
    # shape (cells, counts, 2, 2): chance of so many arrivals in so many cells by the phases now and then; the last
    # count stands for all beyond
    chances: Floats
    # shape (cells, 2, gains, ages): expected value of a head that nobody waits behind now, by its age then
    alone: Floats
    coming: Floats  # shape (cells, 2, gains): expected value where nobody waits, 0 where nobody waits then either


class History(NamedTuple):
    """A world as the recursion reads it; cell `c` lasts from ``c step`` to ``(c + 1) step``."""

    arrivals: Floats
    block: Rows  # shape (cells,): coherence block of each cell, counted on where the path repeats
    row: Rows  # shape (cells,): its row of the quality table
    come: Rows  # shape (cells,): tasks that have come by the end of a cell
    belief: Floats  # shape (cells,): probability of a burst then, given all arrivals so far
    noted: Floats  # shape (tasks,): the same just after each arrival
    # shape (blocks, lags, gains): expected weights of the levels of the gain so many blocks ahead
    weights: Floats


@inlined_kernel
def _first_left(history: History, come: int, task: int, limit: float) -> int:
    """First task from `task` on, of those that have `come`, that came after a `limit` in s; else `come`."""
    while task < come and history.arrivals[task] <= limit:
        task += 1
    return task


@inlined_kernel
def _between(values: Floats, place: float) -> float:
    """Value at a place between nodes."""
    a = min(int(place), values.shape[0] - 2)
    return float(values[a] + (place - a) * (values[a + 1] - values[a]))


@inlined_kernel
def _of_two(values: Floats, head: float, second: float, n: int) -> float:
    """Value at the ages of head and next, in nodes, of shape (ages, ages, counts)."""
    a, b = min(int(head), values.shape[0] - 2), min(int(second), values.shape[1] - 2)
    x, y = head - a, second - b
    low = (1.0 - y) * values[a, b, n] + y * values[a, b + 1, n]
    high = (1.0 - y) * values[a + 1, b, n] + y * values[a + 1, b + 1, n]
    return float((1.0 - x) * low + x * high)


@kernel
def value_of(history: History, foresight: Foresight, c: int, task: int, times: Times, fresh: Floats) -> float:
    """Value at the end of cell `c` of what is left from `task` on; of an empty queue when the next task has come.

    `fresh`, shape (blocks, lags, 2), is the expected value of a task that comes, by the phase then, so many coherence
    blocks after one that is known.
    """
    come, most = history.come[c], foresight.head.shape[4] - 1
    head = _first_left(history, come, task, (c + 1) * times.step - times.budget)
    value = -foresight.rate * head
    if head >= history.arrivals.shape[0] - most:  # the last tasks are free of penalties
        return value
    if head >= come:
        block = history.block[int(history.arrivals[head] / times.step)]
        if block - history.block[c] >= foresight.next.shape[1]:
            return value + foresight.later
        return value + _mean(fresh[block, 0], history.noted[head])
    weights, burst = history.weights[history.block[c], 0], history.belief[c]
    now = (c + 1) * times.step
    first = (now - history.arrivals[head]) / foresight.age_step
    second = (now - history.arrivals[head + 1]) / foresight.age_step if head + 1 < come else 0.0
    for g in range(weights.shape[0]):
        if weights[g] > 0.0:
            for phase in range(2):
                worth = _of_two(foresight.head[phase, g], first, second, min(come - 1 - head, most))
                value += weights[g] * (burst if phase else 1.0 - burst) * worth
    return value


@inlined_kernel
def _mean(by_phase: Floats, burst: float) -> float:
    return float((1.0 - burst) * by_phase[0] + burst * by_phase[1])


@kernel
def expect_idle(history: History, foresight: Foresight, c: int, m: int, phase: int, fresh: Floats) -> float:
    """Expected value where nobody waits at the end of cell `m`, in a phase, given the channel until cell `c`."""
    block, found, left = history.block[c], 0.0, 1.0
    ahead = history.block[m] - block
    chances = foresight.next[m % foresight.next.shape[0]]
    for lag in range(chances.shape[0]):
        for then in range(2):
            found += chances[lag, phase, then] * fresh[block, ahead + lag, then]
            left -= chances[lag, phase, then]
    return found + left * foresight.later


@kernel
def expect_value(
    history: History, foresight: Foresight, c: int, m: int, task: int, times: Times, fresh: Floats, mixed: Floats
) -> float:
    """Expectation of `value_of` at cell `m`, given all that has happened by the end of cell `c`.

    `mixed`, shape (2, ages, ages, counts), is the value of a head averaged over the gain then.
    """
    come, k, most = history.come[c], m - c, foresight.head.shape[4] - 1
    now = (m + 1) * times.step
    head = _first_left(history, come, task, now - times.budget)
    value = -foresight.rate * head
    if head >= history.arrivals.shape[0] - most:
        return value
    burst = history.belief[c]
    first = (now - history.arrivals[head]) / foresight.age_step if head < come else 0.0
    if head + 1 < come:
        second = (now - history.arrivals[head + 1]) / foresight.age_step
        for more in range(most + 1):
            for phase in range(2):
                chance = (1.0 - burst) * foresight.chances[k, more, 0, phase]
                chance += burst * foresight.chances[k, more, 1, phase]
                value += chance * _of_two(mixed[phase], first, second, min(come - 1 - head + more, most))
        return value
    if head >= come:
        for now_in in range(2):
            for then_in in range(2):
                chance = foresight.chances[k, 0, now_in, then_in] * (burst if now_in else 1.0 - burst)
                value += chance * expect_idle(history, foresight, c, m, then_in, fresh)
    weights = history.weights[history.block[c], history.block[m] - history.block[c]]
    for g in range(weights.shape[0]):
        if weights[g] > 0.0:
            for phase in range(2):
                worth = foresight.coming[k, phase, g]
                if head < come:
                    worth = _between(foresight.alone[k, phase, g], first)
                value += weights[g] * (burst if phase else 1.0 - burst) * worth
    return value


@kernel
def mix_gains(foresight: Foresight, weights: Floats, mixed: Floats) -> None:
    """Average the values of a head over the levels of the gain."""
    mixed[:] = 0.0
    for g in range(weights.shape[0]):
        if weights[g] > 0.0:
            for phase in range(2):
                for a in range(mixed.shape[1]):
                    for b in range(mixed.shape[2]):
                        for n in range(mixed.shape[3]):
                            mixed[phase, a, b, n] += weights[g] * foresight.head[phase, g, a, b, n]


@kernel
def charge_decisions(
    history: History,
    foresight: Foresight,
    times: Times,
    tasks: Rows,
    starts: Floats,
    ends: Floats,
    fresh: Floats,
    mixed: Floats,
    out: Floats,
) -> None:
    """Penalties of services of given tasks, from start to end in s."""
    most = foresight.chances.shape[0] - 1
    for j in range(tasks.shape[0]):
        c = int(starts[j] / times.step)
        m = min(int(ends[j] / times.step), c + most)
        block = history.block[c]
        mix_gains(foresight, history.weights[block, history.block[m] - block], mixed)
        expected = expect_value(history, foresight, c, m, tasks[j] + 1, times, fresh, mixed)
        out[j] = value_of(history, foresight, m, tasks[j] + 1, times, fresh) - expected


@kernel
def solve_penalised(
    history: History,
    foresight: Foresight,
    times: Times,
    worth: Worth,
    skippable: NDArray[np.bool_],
    latest: Rows,
    ahead: Floats,
    late: Floats,
    values: Floats,
    fresh: Floats,
    mixed: Floats,
) -> float:
    """Most that is earned in all, penalties paid, by any plan: the recursion from the last task to the first.

    ``ahead[c]`` holds what tasks ``i + 1, ...`` earn if the device is free at the start and at the end of cell `c`, and
    is overwritten by that of ``i, ...`` in rising order, since a service only looks ahead. `latest` is the last cell in
    which an earlier service can end. The other arrays are scratch.
    """
    step, budget, deadline, patience = times
    tasks, most = history.arrivals.shape[0], foresight.chances.shape[0] - 1
    earned = 0.0
    for i in range(tasks - 1, -1, -1):
        arrival = history.arrivals[i]
        first, expiry = int(arrival / step), int((arrival + budget) / step)
        due, last = arrival + deadline, int((arrival + patience) / step)
        due_cell = int(due / step)
        for c in range(first, last + 1):
            values[c - first] = value_of(history, foresight, c, i + 1, times, fresh)
        best = NOTHING
        for c in range(last, first - 1, -1):
            best = max(best, max(ahead[c, 0], ahead[c, 1]))
            late[c - first] = best
        block = -1
        for c in range(first, expiry + 1):
            if c > latest[i]:  # no earlier service ends so late
                ahead[c, 0], ahead[c, 1] = NOTHING, NOTHING
                continue
            if history.block[c] != block:
                block = history.block[c]
                for lag in range(mixed.shape[0]):
                    mix_gains(foresight, history.weights[block, lag], mixed[lag])
            row = history.row[c]
            fastest = worth.fastest[row]
            left, right = NOTHING, NOTHING
            for m in range(c, min(c + most, last) + 1):
                k = m - c
                here = mixed[history.block[m] - block]
                penalty = values[m - first] - expect_value(history, foresight, c, m, i + 1, times, fresh, here)
                from_left, from_right = NOTHING, NOTHING
                start, end = ahead[m, 0], ahead[m, 1]
                if m < due_cell:
                    steps = worth.steps[row]
                    from_left = max(steps[k] + start, steps[k + 1] + end)
                    from_right = steps[k] + end
                    if k > 0:
                        from_right = max(from_right, steps[k - 1] + start)
                elif m == due_cell:
                    end += (due / step - m - 1.0) * (end - start)
                    steps = worth.steps[row]
                    from_left = max(steps[k] + start, raised(worth.between, row, due - c * step, step) + end)
                    from_right = raised(worth.between, row, due - (c + 1) * step, step) + end
                    from_right = max(from_right, steps[k - 1] + start if k > 0 else from_left)
                if (k + 1) * step >= fastest:
                    given_up = max(ahead[m, 0], ahead[m, 1])
                    from_left, from_right = max(from_left, given_up), max(from_right, given_up)
                left, right = max(left, from_left - penalty), max(right, from_right - penalty)
            if c + most < last:
                m = c + most
                here = mixed[history.block[m] - block]
                penalty = values[m - first] - expect_value(history, foresight, c, m, i + 1, times, fresh, here)
                left, right = max(left, late[m + 1 - first] - penalty), max(right, late[m + 1 - first] - penalty)
            if c == first:
                share = arrival / step - first
                earned = left + share * (right - left)
                left = max(left, earned)
            if skippable[i] or c == expiry:
                left, right = max(left, ahead[c, 0]), max(right, ahead[c, 1])
            ahead[c, 0], ahead[c, 1] = left, right
        for c in range(int(history.arrivals[max(0, i - 1)] / step), first):
            ahead[c, 0], ahead[c, 1] = earned, earned
    return earned
