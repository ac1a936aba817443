"""Runs calls on several processes, which end when the process that started them does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_watched: set[int] = set()


def run_parallel(function: Callable[..., Any], calls: Sequence[Sequence[Any]], jobs: int) -> Iterator[Any]:
    """Call a function with many arguments on several processes; needs joblib.

    Parameters
    ----------
    function : callable
        Of a module, so that other processes find it.
    calls : sequence of sequences
        Arguments of each call.
    jobs : int
        Number of processes; with 1 all calls are made in this process.

    Yields
    ------
    object
        What the calls return, in the order in which they end.
    """
    import joblib

    tasks = (joblib.delayed(_call)(os.getpid(), function, *arguments) for arguments in calls)
    jobs = min(jobs, max(1, len(calls)))
    if jobs != 1:
        end_processes()
    yield from joblib.Parallel(jobs, return_as="generator_unordered", batch_size=1)(tasks)  # each as soon as it ends


def end_processes() -> None:
    """End the processes that joblib keeps from its last call, so that the next one starts its own.

    joblib would take them for the next call, and wait without end where they are gone by then.
    """
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(kill_workers=True).shutdown(wait=True, kill_workers=True)


def _call(parent: int, function: Callable[..., Any], *arguments: Any) -> Any:
    end_with(parent)
    return function(*arguments)


def end_with(parent: int) -> None:
    """In a process that `parent` has started: end within two seconds of it, also when it is killed.

    On Windows, where a process does not learn of that, nothing is done.
    """
    if os.getppid() == parent and parent not in _watched:
        _watched.add(parent)
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
