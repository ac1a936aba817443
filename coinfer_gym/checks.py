"""Checks of what comes from outside: text of a file, numbers, keys of a mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from coinfer_gym.errors import InvalidInputError, nearest


def read_text(path: Path, field: str) -> str:
    """Text of a file in UTF-8.

    Raises
    ------
    InvalidInputError
        If it is in another encoding.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(field, str(path), "The file must be text in UTF-8.") from error


def is_number(value: object) -> bool:
    """Whether a value from outside is a real number; True and False are none."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


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
