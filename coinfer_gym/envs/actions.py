"""The one check of actions from outside: real numbers of one shape, or whole numbers of a range."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.errors import InvalidInputError


def check_actions(
    given: object, shape: tuple[int, ...], ignored: NDArray[np.bool_] | None = None, field: str = "action"
) -> NDArray[Any]:
    """Continuous actions as an array of real numbers.

    Parameters
    ----------
    given : array_like
    shape : tuple of int
        That of one action, or a row per lane.
    ignored : ndarray of bool, optional
        Lanes whose actions nobody looks at; 0 stands in their place.
    field : str
        What errors call it.

    Returns
    -------
    ndarray
        `given` itself if it is such an array and no lane is ignored. It may contain NaN.

    Raises
    ------
    InvalidInputError
        If `given` has another shape, or contains anything but integers and floats.
    """
    array = given if type(given) is np.ndarray else _read(given)
    if array is None or array.dtype.kind not in "fiu":
        raise InvalidInputError(field, given, _numbers(shape))
    if array.shape != shape:
        raise InvalidInputError(f"shape of {field}", array.shape, _numbers(shape))
    return _blank(array, ignored)


def clip_action(given: object, components: int) -> NDArray[np.float64]:
    """One action as numbers in [-1, 1], without NaN; errors as of `check_actions`."""
    action = check_actions(given, (components,))
    if np.isnan(action).any():
        raise InvalidInputError("action", given, _numbers((components,)))
    return np.clip(action.astype(np.float64), -1.0, 1.0)


def check_choices(
    given: object, shape: tuple[int, ...], count: int, ignored: NDArray[np.bool_] | None = None, field: str = "action"
) -> NDArray[Any]:
    """Choices among `count` as an array of integers; parameters and errors as in `check_actions`."""
    array, remedy = _read(given), f"Give {_count(shape)} whole numbers from 0 to {count - 1}."
    if array is None or array.dtype.kind not in "iu":
        raise InvalidInputError(field, given, remedy)
    if array.shape != shape:
        raise InvalidInputError(f"shape of {field}", array.shape, remedy)
    array = _blank(array, ignored)
    if not ((array >= 0) & (array < count)).all():
        raise InvalidInputError(field, given, remedy)
    return array


def _read(given: object) -> NDArray[Any] | None:
    """The array that is meant, or None."""
    if isinstance(given, np.ma.MaskedArray):  # whose masked numbers mean nothing
        return None
    try:
        return np.asarray(given)
    except Exception:  # whatever the object at hand raises: a tensor with a gradient, a list of rows of unequal length
        return None


def _blank(array: NDArray[Any], ignored: NDArray[np.bool_] | None) -> NDArray[Any]:
    """The array with 0 in the rows that are ignored."""
    if ignored is None or not ignored.any():
        return array
    array = array.copy()
    array[ignored] = 0
    return array


def _numbers(shape: tuple[int, ...]) -> str:
    return f"Give {_count(shape)} real number{'s' if shape != (1,) else ''} in [-1, 1]."


def _count(shape: tuple[int, ...]) -> str:
    """How many numbers, for an error."""
    return " x ".join(map(str, shape)) or "one of the"
