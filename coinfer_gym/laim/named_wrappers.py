"""Wrappers of LAIM-v0 by name, as configurations and the files of agents give them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym

from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.laim import wrappers as _module

__all__ = ["Wrappers", "check_wrappers", "find_wrapper", "wrap"]

Wrappers = list[dict[str, dict[str, Any]]]
"""One mapping per wrapper, the innermost first: from its full name to its keyword arguments."""

_FORMER = "coinfer_gym.wrappers."  # in agents' files that are older than version 0.1
_RENAMED = {"ExactWithin": "BudgetShareAction"}


def find_wrapper(name: str) -> type[gym.Wrapper[Any, Any, Any, Any]]:
    """Wrapper class of a name, with or without ``coinfer_gym.laim.wrappers.`` in front.

    Raises
    ------
    InvalidInputError
        If there is none of this name.
    """
    known: dict[str, Any] = {key: getattr(_module, key) for key in _module.__all__}
    short = str(name).removeprefix(f"{_module.__name__}.").removeprefix(_FORMER)
    short = _RENAMED.get(short, short)
    if short not in known:
        raise InvalidInputError("wrapper", name, nearest(short, known))
    found: type[gym.Wrapper[Any, Any, Any, Any]] = known[short]
    return found


def check_wrappers(given: Any) -> Wrappers:
    """Check wrappers and their arguments, and write them in one form.

    Parameters
    ----------
    given : str, mapping, sequence of these, or None
        As ``env_wrapper`` in RL Baselines3 Zoo: a name, or a mapping from one name to its keyword arguments. The
        innermost wrapper comes first.

    Returns
    -------
    list of dict

    Raises
    ------
    InvalidInputError
        If a wrapper or one of its arguments is unknown.
    """
    items = [] if given is None else [given] if isinstance(given, (str, Mapping)) else given
    if not isinstance(items, Sequence):
        raise InvalidInputError("wrapper", given, "Give names of wrappers, or mappings from a name to its arguments.")
    return [_check_wrapper(item) for item in items]


def _check_wrapper(item: Any) -> dict[str, dict[str, Any]]:
    if isinstance(item, str):
        item = {item: None}
    if not isinstance(item, Mapping) or len(item) != 1:
        raise InvalidInputError("wrapper", item, "Give a name, or a mapping from one name to its arguments.")
    name, options = next(iter(item.items()))
    wrapper = find_wrapper(name)
    options = {} if options is None else options
    if not isinstance(options, Mapping):
        raise InvalidInputError(f"wrapper {name}", options, "Give a mapping of its arguments.")
    known = list(inspect.signature(wrapper.__init__).parameters)[2:]  # without self and env
    for key in options:
        if key not in known:
            hint = nearest(str(key), known) if known else "It has no arguments."
            raise InvalidInputError(f"wrapper {name}: argument", key, hint)
    return {f"{_module.__name__}.{wrapper.__name__}": dict(options)}


def wrap(env: gym.Env[Any, Any], wrappers: Any) -> gym.Env[Any, Any]:
    """Put an environment inside wrappers, given as for `check_wrappers`."""
    for item in check_wrappers(wrappers):
        for name, options in item.items():
            env = find_wrapper(name)(env, **options)
    return env
