"""Checks of what comes from outside: numbers, texts, keys of a mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from coinfer_gym.errors import InvalidInputError, nearest


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
