"""How a time is taken: interleaved repetitions, medians, and a table of them with their ratios."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds per unit of work over the repetitions of one subject."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the repetitions in s."""
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        """Least of the repetitions in s."""
        return min(self.seconds)


def interleave(
    subjects: Mapping[str, tuple[Callable[[], object], int]],
    repetitions: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
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
    dict of str to Timing
        Seconds per unit of work.
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
    return {name: Timing(name, tuple(values)) for name, values in seconds.items()}
