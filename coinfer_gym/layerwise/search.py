"""Branch and bound over boxes of cells, one cut at a time, and a descent to a good cell to start it from."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.layerwise.cells import Case, Scratch, least_delay, most_accurate

_SINGLE, _EMPTY = -1, -2  # what stands for a dimension where there is none to branch on


@kernel
def _set_whole(case: Case, box: NDArray[np.int64]) -> None:
    """Make a box hold all cells."""
    for d in range(box.shape[1]):
        box[0, d], box[1, d] = 0, case.cells.counts[d] - 1


@kernel
def _copy(source: NDArray[np.int64], target: NDArray[np.int64]) -> None:
    for d in range(source.shape[1]):
        target[0, d], target[1, d] = source[0, d], source[1, d]


@kernel
def _bound(case: Case, scratch: Scratch, box: NDArray[np.int64]) -> tuple[float, float]:
    """Least delay and most accuracy of a box; 0 accuracy if it is empty."""
    delay = least_delay(case, scratch, box)
    return delay, most_accurate(case, scratch, box) if delay < math.inf else 0.0


@kernel
def descend(case: Case, scratch: Scratch) -> float:
    """Delay of a good cell, left in ``scratch.best``: from the largest one downwards, by the steps that save most time.

    Of the steps along one dimension it takes the one that saves most time per accuracy lost. Infinite if the largest
    cell is not accurate enough.
    """
    trial, best = scratch.trial, scratch.best
    dimensions = best.shape[0]
    _set_whole(case, trial)
    for d in range(dimensions):
        best[d] = trial[1, d]
        trial[0, d] = trial[1, d]
    delay, accuracy = _bound(case, scratch, trial)
    if delay == math.inf or accuracy < case.accuracy_min:
        return math.inf
    while True:
        worth, along, to, faster, left = 0.0, _SINGLE, 0, delay, accuracy
        for d in range(dimensions):
            stride = 1
            while best[d] - stride >= 0:
                trial[0, d] = trial[1, d] = best[d] - stride
                time = least_delay(case, scratch, trial)
                if time < delay:
                    value = most_accurate(case, scratch, trial)
                    gain = (delay - time) / max(accuracy - value, 1e-7)
                    if value >= case.accuracy_min and gain > worth:
                        worth, along, to, faster, left = gain, d, best[d] - stride, time, value
                stride *= 2
            trial[0, d] = trial[1, d] = best[d]
        if along == _SINGLE:
            return delay
        best[along] = to
        trial[0, along] = trial[1, along] = to
        delay, accuracy = faster, left


@kernel
def _shrink(case: Case, scratch: Scratch, limit: float) -> tuple[int, int, float, float]:
    """Cut off the halves of ``scratch.box`` that hold no accurate design faster than `limit`.

    Returns the dimension to branch on, or `_SINGLE` or `_EMPTY`; the last cell of its first half; the bound of the
    delay in what is left; and the least bound of what was cut off for its delay. It branches on the dimension both of
    whose halves are bounded best.
    """
    box, trial, accuracy_min = scratch.box, scratch.trial, case.accuracy_min
    dimensions = box.shape[1]
    bound, accuracy = _bound(case, scratch, box)
    lowest, along, middle = math.inf, _SINGLE, 0
    d, unchanged, score = 0, 0, -1.0
    while unchanged < dimensions:
        if accuracy < accuracy_min or bound == math.inf:
            return _EMPTY, 0, bound, lowest
        if bound >= limit:
            return _EMPTY, 0, bound, min(lowest, bound)
        if box[0, d] == box[1, d]:
            unchanged += 1
            d = (d + 1) % dimensions
            continue
        half = (box[0, d] + box[1, d]) // 2
        _copy(box, trial)
        trial[1, d] = half
        fast, near = _bound(case, scratch, trial)
        if near < accuracy_min or fast >= limit:
            if near >= accuracy_min and fast < math.inf:
                lowest = min(lowest, fast)
            box[0, d] = half + 1
            bound, accuracy = _bound(case, scratch, box)
            unchanged, score, along = 0, -1.0, _SINGLE
            continue
        trial[0, d], trial[1, d] = half + 1, box[1, d]
        slow, far = _bound(case, scratch, trial)
        if slow >= limit or far < accuracy_min:
            if far >= accuracy_min and slow < math.inf:
                lowest = min(lowest, slow)
            box[1, d] = half
            bound, accuracy = fast, near
            unchanged, score, along = 0, -1.0, _SINGLE
            continue
        up = max(1e-3, (slow - bound) / (min(limit, 10.0 * bound) - bound))
        down = max(1e-3, (accuracy - near) / (accuracy - accuracy_min + 1e-9))
        if up * down > score:
            score, along, middle = up * down, d, half
        unchanged += 1
        d = (d + 1) % dimensions
    return along, middle, bound, lowest


@kernel
def search(case: Case, scratch: Scratch, delay: float, tolerance: float, nodes: int) -> tuple[float, float, int]:
    """Search depth first for cells that are faster than `delay` by a share of more than `tolerance`.

    Returns the least delay that was found (its cell is left in ``scratch.best``), the least bound of what was
    discarded or not looked at, and how many boxes were looked at, at most `nodes`.
    """
    box, trial, stack, bounds, best = scratch.box, scratch.trial, scratch.stack, scratch.bounds, scratch.best
    lowest, used, count = math.inf, 0, 1
    _set_whole(case, stack[0])
    bounds[0] = 0.0
    while count > 0 and used < nodes:
        count -= 1
        used += 1
        _copy(stack[count], box)
        along, middle, bound, cut_off = _shrink(case, scratch, delay * (1.0 - tolerance))
        lowest = min(lowest, cut_off)
        if along == _EMPTY:
            continue
        # If the least cell of the box is accurate enough, it is the best of the box.
        for e in range(best.shape[0]):
            trial[0, e] = trial[1, e] = box[0, e]
        here = least_delay(case, scratch, trial)
        if here <= bound and most_accurate(case, scratch, trial) >= case.accuracy_min:
            delay = here
            for e in range(best.shape[0]):
                best[e] = box[0, e]
            continue
        if along == _SINGLE:
            continue
        for side in range(2):
            _copy(box, stack[count])
            if side == 0:
                stack[count, 0, along] = middle + 1
            else:
                stack[count, 1, along] = middle
            bounds[count] = bound
            count += 1
    for k in range(count):
        lowest = min(lowest, bounds[k])
    return delay, lowest, used
