"""Reads data sets that may be gzipped."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from coinfer_gym.errors import InvalidInputError

Content = TypeVar("Content")


def read_data(path: str | Path, parse: Callable[[bytes], Content], missing: str, damaged: str) -> Content:
    """What `parse` makes of a file's bytes, unzipped if its name ends in ``.gz``.

    Raises
    ------
    InvalidInputError
        If there is no such file (`missing` is the remedy), or `parse` fails (`damaged` begins the remedy).
    """
    file = Path(path)
    if not file.is_file():
        raise InvalidInputError("data", str(path), f"There is no such file: {missing}")
    try:
        raw = file.read_bytes()
        return parse(gzip.decompress(raw) if file.suffix == ".gz" else raw)
    except (ValueError, KeyError, TypeError, EOFError, OSError, zlib.error) as error:
        raise InvalidInputError("data", str(path), f"{damaged}: {type(error).__name__}: {error}") from error


def text_of(row: Any, key: str) -> str:
    """Return the value under `key` if it is text, else raise TypeError."""
    value = row[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} {value!r} is not text")
    return value
