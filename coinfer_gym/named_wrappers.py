"""Wrappers by name, as configurations and the files of agents give them; `coinfer_gym` registers them at import."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
from numpy.typing import NDArray

from coinfer_gym.errors import InvalidInputError, nearest

Wrappers = list[dict[str, dict[str, Any]]]
"""One mapping per wrapper, the innermost first: from its full name to its keyword arguments."""

_FORMER = "coinfer_gym.wrappers."  # in agents' files that are older than version 0.1
_RENAMED = {"ExactWithin": "BudgetShareAction"}

_SINGLE: dict[str, str] = {}  # module of each wrapper, by the wrapper's name
_VECTOR: dict[str, str] = {}  # module of the wrapper of the same name for vector environments


def register_wrappers(module: str, names: Sequence[str], vector_module: str, vector_names: Sequence[str]) -> None:
    """Make wrappers known by name; their modules are imported when one is first used.

    `vector_names` are those of `names` that also have a class for native vector environments.
    """
    _SINGLE.update(dict.fromkeys(names, module))
    _VECTOR.update(dict.fromkeys(vector_names, vector_module))


def find_wrapper(name: str) -> type[gym.Wrapper[Any, Any, Any, Any]]:
    """Wrapper class of a name, with or without its module in front.

    Raises
    ------
    InvalidInputError
        If there is none of this name.
    """
    module, _, short = str(name).removeprefix(_FORMER).rpartition(".")
    short = _RENAMED.get(short, short)
    if short not in _SINGLE or module not in ("", _SINGLE[short]):
        raise InvalidInputError("wrapper", name, nearest(short, _SINGLE))
    found: type[gym.Wrapper[Any, Any, Any, Any]] = getattr(importlib.import_module(_SINGLE[short]), short)
    return found


def find_vector_wrapper(name: str) -> Any:
    """The wrapper of vector environments that acts as `find_wrapper` of this name in every lane, or None."""
    short = find_wrapper(name).__name__
    return getattr(importlib.import_module(_VECTOR[short]), short) if short in _VECTOR else None


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
    return {f"{wrapper.__module__}.{wrapper.__name__}": dict(options)}


def wrap(env: gym.Env[Any, Any], wrappers: Any) -> gym.Env[Any, Any]:
    """Put an environment inside wrappers, given as for `check_wrappers`."""
    for item in check_wrappers(wrappers):
        for name, options in item.items():
            env = find_wrapper(name)(env, **options)
    return env


def unwrap_action(wrapped: gym.Env[Any, Any], env: gym.Env[Any, Any], action: NDArray[Any]) -> NDArray[Any]:
    """The action of an environment that is `wrapped` as an action of the environment `env` inside it."""
    layer: Any = wrapped
    while layer is not env:
        if hasattr(layer, "keep"):
            action = layer.keep(action)
        elif isinstance(layer, gym.ActionWrapper):
            action = layer.action(action)
        layer = layer.env
    return action
