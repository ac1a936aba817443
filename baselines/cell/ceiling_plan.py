"""The compiled recursion of a cell's ceiling: what one device alone can earn at prices, by when it is free.

Time is a grid of cells of equal length. A service that starts in cell `n` and ends in cell `m` is taken to last as
long as it can, at the best gain of cell `n`, at the lowest mean price that it can meet, and to leave the device free
from the beginning of cell `m` on: everything is rounded so that the value rises. A device may wait, and may leave a
task out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel

Floats = NDArray[np.float64]

SKIP, WAIT = -1, -2
"""Choices other than the cell in which a service ends."""


class Grid(NamedTuple):
    """Cells of `step` seconds, the row of the table for services that start in each, and the price until each.

    The price is that of everything, summed from the beginning, so that its mean over some cells is a difference.
    """

    step: float
    rows: NDArray[np.int64]  # shape (cells,)
    price: Floats  # shape (cells + 1,)


class Worths(NamedTuple):
    """Bounds of what a service is worth: ``ends[row, level, k]`` at both ends of ``times[k]`` to ``times[k + 1]``."""

    levels: Floats  # of the price, rising from 0
    times: Floats
    ends: Floats
    whole: Floats  # shape (rows, levels, n): of whole numbers of cells


@kernel
def at_time(worths: Worths, row: int, level: int, time: float) -> float:
    """Worth of services of at most a `time` at one level of the price."""
    times = worths.times
    low, high = 0, times.shape[0] - 2
    while low < high:
        middle = (low + high + 1) // 2
        if times[middle] <= time:
            low = middle
        else:
            high = middle - 1
    share = min(1.0, (time - times[low]) / (times[low + 1] - times[low]))
    return float(worths.ends[row, level, low, 0] * (1.0 - share) + worths.ends[row, level, low, 1] * share)


@kernel
def fill_whole(worths: Worths, step: float) -> None:
    """Fill the worths of services of whole numbers of cells."""
    for row in range(worths.whole.shape[0]):
        for level in range(worths.levels.shape[0]):
            for k in range(worths.whole.shape[2]):
                worths.whole[row, level, k] = at_time(worths, row, level, k * step)


@kernel
def _level(levels: Floats, price: float, near: int) -> int:
    """Level at or below a price; `near` is one to begin with."""
    k = near
    while k > 0 and levels[k] > price:
        k -= 1
    while k + 2 < levels.shape[0] and levels[k + 1] <= price:
        k += 1
    return k


class _Task(NamedTuple):
    """When a task comes and when it must be done in s, and the cells of both."""

    arrival: float
    due: float
    first: int
    last: int


@kernel
def task_of(arrival: float, deadline: float, step: float) -> _Task:
    """A task on the grid."""
    due = arrival + deadline
    return _Task(arrival, due, int(max(0.0, arrival / step - 1e-9)), int(due / step + 1e-9))


@kernel
def _worth(worths: Worths, grid: Grid, task: _Task, n: int, m: int, price: float, level: int) -> tuple[float, float]:
    """Worth of a service from cell `n` to cell `m` at a price, and by how much it falls with the price."""
    row, levels = grid.rows[n], worths.levels
    if n == task.first or m == task.last:
        time = min((m + 1) * grid.step, task.due) - max(n * grid.step, task.arrival)
        low, high = at_time(worths, row, level, time), at_time(worths, row, level + 1, time)
    else:
        low, high = worths.whole[row, level, m + 1 - n], worths.whole[row, level + 1, m + 1 - n]
    slope = (high - low) / (levels[level + 1] - levels[level])
    share = min(price, levels[level + 1]) - levels[level]
    return low + slope * share, slope if price < levels[level + 1] else 0.0


@kernel
def solve(
    arrivals: Floats,
    deadline: float,
    worths: Worths,
    grid: Grid,
    ahead: Floats,
    fresh: Floats,
    chosen: NDArray[np.int32],
) -> float:
    """Most that a device can earn from all tasks; `chosen` gets the choice of each task in each of its cells.

    ``ahead[n]`` is what the tasks after the one at hand can earn from cell `n` on, and `fresh` room for what is new.
    """
    price, step = grid.price, grid.step
    ahead[:] = 0.0
    value, following = 0.0, ahead.shape[0]
    for i in range(arrivals.shape[0] - 1, -1, -1):
        task = task_of(arrivals[i], deadline, step)
        for n in range(task.first, min(following, task.last + 1)):
            ahead[n] = value
        following, level = task.first, 0
        for n in range(task.last, task.first - 1, -1):
            best, choice = ahead[n], SKIP
            if n < task.last and fresh[n + 1 - task.first] > best:
                best, choice = fresh[n + 1 - task.first], WAIT
            lowest = (price[n + 1] - price[n]) / step
            for m in range(n, task.last + 1):
                if m > n:
                    lowest = min(lowest, (price[m + 1] - price[n]) / ((m + 1 - n) * step))
                    lowest = min(lowest, (price[m + 1] - price[n + 1]) / ((m - n) * step))
                level = _level(worths.levels, lowest, level)
                own = _worth(worths, grid, task, n, m, lowest, level)[0]
                if own > 0.0 and own + ahead[m] > best:
                    best, choice = own + ahead[m], m
            fresh[n - task.first], chosen[i, n - task.first] = best, choice
        for n in range(task.first, task.last + 1):
            ahead[n] = fresh[n - task.first]
        value = fresh[0]
    return value


@kernel
def follow(
    arrivals: Floats, deadline: float, worths: Worths, grid: Grid, chosen: NDArray[np.int32], used: Floats
) -> None:
    """Add to `used`, by cell, the slope of what a device earns in the price there.

    It is the time for which all of everything is held, weighed as the price is.
    """
    price, step = grid.price, grid.step
    at = 0
    for i in range(arrivals.shape[0]):
        task = task_of(arrivals[i], deadline, step)
        n = max(at, task.first)
        while n <= task.last and chosen[i, n - task.first] == WAIT:
            n += 1
        if n > task.last or chosen[i, n - task.first] == SKIP:
            continue
        m = chosen[i, n - task.first]
        lowest, first, end = (price[n + 1] - price[n]) / step, n, n + 1
        for u in range(n + 1, m + 1):
            for start in range(n, n + 2):
                mean = (price[u + 1] - price[start]) / ((u + 1 - start) * step)
                if mean < lowest:
                    lowest, first, end = mean, start, u + 1
        _, slope = _worth(worths, grid, task, n, m, lowest, _level(worths.levels, lowest, 0))
        for cell in range(first, end):
            used[cell] -= slope / (end - first)
        at = m
