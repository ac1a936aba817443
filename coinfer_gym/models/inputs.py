"""Checks arguments, and reads data sets that may be gzipped."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from coinfer_gym.checks import is_number
from coinfer_gym.errors import InvalidInputError, nearest

Content = TypeVar("Content")

_LARGEST_SEED = 2**31 - 1  # every generator takes it


def check_positive(field: str, value: object) -> None:
    """Raise InvalidInputError unless `value` is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidInputError(field, value, "Give a whole number of at least 1.")


def check_seed(value: object) -> None:
    """Raise InvalidInputError unless `value` is a whole number that every generator takes."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_SEED:
        raise InvalidInputError("seed", value, f"Give a whole number from 0 to {_LARGEST_SEED}.")


def check_choice(field: str, value: object, known: Iterable[str]) -> None:
    """Raise InvalidInputError unless `value` is one of the known words."""
    if not isinstance(value, str) or value not in known:
        raise InvalidInputError(field, value, nearest(str(value), known))


def check_recipe(recipe: Any, counts: Sequence[str]) -> None:
    """Raise InvalidInputError unless a training's counts are at least 1, and rate, decay and seed at least 0."""
    for name in counts:
        check_positive(name, getattr(recipe, name))
    for name in ("learning_rate", "weight_decay"):
        value = getattr(recipe, name)
        if not is_number(value) or not 0.0 <= value < math.inf:
            raise InvalidInputError(name, value, "Give a finite number of at least 0.")
    check_seed(recipe.seed)


def read_data(path: object, parse: Callable[[bytes], Content], missing: str, damaged: str) -> Content:
    """What `parse` makes of a file's bytes, unzipped if its name ends in ``.gz``.

    Raises
    ------
    InvalidInputError
        If there is no such file (`missing` is the remedy), or `parse` fails (`damaged` begins the remedy).
    """
    if not isinstance(path, (str, os.PathLike)) or not Path(path).is_file():
        raise InvalidInputError("data", str(path), f"There is no such file: {missing}")
    try:
        raw = Path(path).read_bytes()
        return parse(gzip.decompress(raw) if Path(path).suffix == ".gz" else raw)
    except (ValueError, KeyError, TypeError, EOFError, OSError, RecursionError, zlib.error) as error:
        raise InvalidInputError("data", str(path), f"{damaged}: {type(error).__name__}: {error}") from error


def text_of(row: Any, key: str) -> str:
    """Return the value under `key` if it is text, else raise TypeError."""
    value = row[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} {value!r} is not text")
    return value
