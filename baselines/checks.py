"""Checks of user input: every error names the option, its value and the remedy."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from coinfer_gym.checks import is_number
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.files import paths_from, read_yaml

_Model = TypeVar("_Model", bound=pydantic.BaseModel)


def _refuse_text(value: Any) -> Any:
    if isinstance(value, (bool, str)):
        raise ValueError("Give a number")
    return value


NUMBER = pydantic.BeforeValidator(_refuse_text)
"""Annotation of a field that takes numbers only: pydantic alone would also take true, false and text."""


class Checked(pydantic.BaseModel):
    """Part of a configuration: a key that it does not know is an error."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


def check_model(kind: type[_Model], source: str | Path | Mapping[str, Any], origin: str) -> _Model:
    """A YAML file, given by its path or content, as a checked model; the field of an error begins with `origin`.

    Paths in a file count from its folder, those in a content that is given from the working directory.
    """
    if not isinstance(source, (str, Path, Mapping)):
        raise InvalidInputError(origin, source, "Give the path of a YAML file, or its content as a mapping.")
    folder, content = "", source
    if not isinstance(content, Mapping):
        folder, content = os.path.dirname(content), read_yaml(Path(content), origin)
    content = paths_from(content, folder)
    for key in content:
        if key not in kind.model_fields:
            raise InvalidInputError(f"{origin}: key", key, nearest(str(key), kind.model_fields))
    try:
        return kind.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InvalidInputError(f"{origin}: {name}", first["input"], f"{first['msg']}.") from error


@contextmanager
def naming(part: str) -> Iterator[None]:
    """Have the field of an error begin with the part of a configuration that it is about."""
    try:
        yield
    except InvalidInputError as error:
        raise InvalidInputError(f"{part}: {error.field}", error.value, error.remedy) from error


def check_positive(name: str, value: Any) -> float:
    """The value, if it is a finite number above 0."""
    if not is_number(value) or not 0.0 < value <= sys.float_info.max:
        raise InvalidInputError(name, value, "Give a positive number.")
    return float(value)
