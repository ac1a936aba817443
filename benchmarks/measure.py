"""How a time is taken: by repetitions of all subjects in turn."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping


def interleave(
    subjects: Mapping[str, tuple[Callable[[], object], int]],
    repetitions: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time several subjects in turn, so that a drift of the machine meets all of them alike.

    Parameters
    ----------
    subjects : mapping of str to (function, int)
        Name to the function to time and the units of work that one call does.
    repetitions : int
        Counted calls of each; one more before them is not counted.
    clock : callable
        Time in s; ``time.thread_time`` leaves out what other processes take of the core.

    Returns
    -------
    dict of str to list of float
        Seconds per unit of work, of every repetition.
    """
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for repetition in range(repetitions + 1):
        for name, (function, units) in subjects.items():
            gc.collect()
            start = clock()
            function()
            elapsed = clock() - start
            if repetition > 0:
                seconds[name].append(elapsed / units)
    return seconds
