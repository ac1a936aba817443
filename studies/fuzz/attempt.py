"""Tries in a process of their own, each with a time limit, since an input may hang or kill what reads it."""

from __future__ import annotations

import multiprocessing
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from coinfer_gym import InvalidInputError
from studies.fuzz.inputs import KINDS, SilentError, Try

GOOD, BAD = ("clear error", "accepted"), ("traceback", "hang", "silent")
LONGEST = 600
"""Characters of a clear error at most."""

_START = 180.0  # seconds for imports and compilation
_MEMORY = 8 << 30  # bytes: an input that wants more fails, and the machine goes on


class Result(NamedTuple):
    """What became of a try."""

    seed: int
    text: str  # the input
    outcome: str  # one of `GOOD` or `BAD`
    detail: str


def attempt_all(kind: str, seeds: Sequence[int], limit: float) -> Iterator[Result]:
    """Try the inputs of these seeds; after a hang or a crash a new process goes on with the next one."""
    left, context = list(seeds), multiprocessing.get_context("spawn")
    while left:
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, kind, left), daemon=True)
        process.start()
        there.close()
        text, wait = "", _START
        try:
            while left:
                if not here.poll(wait):
                    yield Result(left.pop(0), text, "hang", f"over {wait:g} s")
                    break
                outcome, detail = here.recv()
                if outcome:
                    yield Result(left.pop(0), text, outcome, detail)
                else:
                    text, wait = detail, limit
        except EOFError:
            process.join()
            yield Result(left.pop(0), text, "traceback", f"the process died with exit code {process.exitcode}")
        finally:
            process.kill()
            process.join()


def _serve(pipe: Connection, kind: str, seeds: Sequence[int]) -> None:
    """Tell each input, then what became of it."""
    warnings.simplefilter("ignore")
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # not on this system
    with tempfile.TemporaryDirectory() as folder:
        judge(KINDS[kind](np.random.default_rng(0), Path(folder)))  # imports and compiles
        for seed in seeds:
            each = KINDS[kind](np.random.default_rng(seed), Path(folder))
            pipe.send(("", each.text))
            pipe.send(judge(each))


def judge(each: Try) -> tuple[str, str]:
    """Outcome and its detail."""
    try:
        each.run()
    except SilentError as error:
        return "silent", str(error)
    except InvalidInputError as error:
        text = str(error)
        if len(text) > LONGEST or "\n" in text:
            return (
                "traceback",
                f"an error of {len(text)} characters and {text.count(chr(10)) + 1} lines: {text[:200]!r}",
            )
        return "clear error", text
    except BaseException as error:  # whatever it is, it is no clear error
        return "traceback", f"{type(error).__name__}: {str(error)[:300]!r}"
    return ("silent", "accepted") if each.refuse else ("accepted", "")
