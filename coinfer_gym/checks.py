"""Checks of what comes from outside: numbers, texts, keys of a mapping."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from coinfer_gym.errors import InvalidInputError, nearest


def is_number(value: object) -> bool:
    """Whether a value from outside is a real number that a float can hold; True and False are none."""
    if isinstance(value, (int, np.integer)):
        return not isinstance(value, bool) and abs(int(value)) < _LARGEST
    return isinstance(value, (float, np.floating))


_LARGEST = 2**1023  # larger whole numbers have no float


def check_number(field: str, value: Any, low: float, high: float = sys.float_info.max, unit: str = "") -> float:
    """The finite number that `value` is, from `low` to `high`.

    Raises
    ------
    InvalidInputError
        If it is none, or out of this range.
    """
    if is_number(value) and low <= value <= high:
        return float(value)
    span = f"of at least {low:g}" if high == sys.float_info.max else f"from {low:g} to {high:g}"
    raise InvalidInputError(field, value, f"Give a number {span}{unit and f' {unit}'}.")


def check_whole(field: str, value: Any, low: int, high: int = 2**53) -> int:
    """The whole number that `value` is, from `low` to `high`: an int, or a float such as 1e6; True and False are none.

    Where numbers above 2**53 are allowed, as for seeds, a float is refused: there floats skip some.

    Raises
    ------
    InvalidInputError
        If it is none, or out of this range.
    """
    exact = high <= 2**53 or not isinstance(value, (float, np.floating))
    if exact and is_number(value) and low <= value <= high and int(value) == value:
        return int(value)
    end = "2**64 - 1" if high == 2**64 - 1 else str(high)
    remedy = f"of at least {low}" if high == 2**53 else f"from {low} to {end}"
    raise InvalidInputError(field, value, f"Give a whole number {remedy}.")


def check_flag(field: str, value: object) -> bool:
    """The value, if it is True or False; anything else is an InvalidInputError."""
    if not isinstance(value, bool):
        raise InvalidInputError(field, value, "Give true or false.")
    return value


def check_text(field: str, value: object) -> None:
    """Raise InvalidInputError unless `value` is text."""
    if not isinstance(value, str):
        raise InvalidInputError(field, value, "Give text.")


def check_keys(data: object, known: Sequence[str], needed: Sequence[str], origin: str) -> None:
    """Raise InvalidInputError unless `data` is a mapping of `known` keys with all that are `needed`."""
    if not isinstance(data, Mapping):
        raise InvalidInputError(origin, data, f"Give a mapping with the keys {', '.join(needed)}.")
    for key in data:
        if key not in known:
            raise InvalidInputError(f"{origin}: key", key, nearest(str(key), known))
    for key in needed:
        if key not in data:
            raise InvalidInputError(f"{origin}: {key}", None, "The key is missing.")
