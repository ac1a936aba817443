"""Checks of user input: every error names the option, its value and the remedy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic

from coinfer_gym.checks import is_number
from coinfer_gym.errors import InvalidInputError, nearest

_Model = TypeVar("_Model", bound=pydantic.BaseModel)


def check_model(kind: type[_Model], content: Mapping[str, Any], origin: str) -> _Model:
    """The content of a file as a checked model; the field of an error begins with `origin`."""
    for key in content:
        if key not in kind.model_fields:
            raise InvalidInputError(f"{origin}: key", key, nearest(str(key), kind.model_fields))
    try:
        return kind.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InvalidInputError(f"{origin}: {name}", first["input"], f"{first['msg']}.") from error


def check_count(name: str, value: Any, least: int) -> int:
    """The value, if it is a whole number of at least `least`."""
    if not is_number(value) or not math.isfinite(value) or int(value) != value or value < least:
        raise InvalidInputError(name, value, f"Give a whole number of at least {least}.")
    return int(value)


def check_number(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """The value, if it is a finite number of at least `low` and at most `high`."""
    if not is_number(value) or not math.isfinite(value) or not low <= value <= high:
        span = f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise InvalidInputError(name, value, f"Give a number {span}.")
    return float(value)


def check_positive(name: str, value: Any) -> float:
    """The value, if it is a finite number above 0."""
    if not is_number(value) or not 0.0 < value < math.inf:
        raise InvalidInputError(name, value, "Give a positive number.")
    return float(value)
