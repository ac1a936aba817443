"""Policies by name: what configuration files may ask for, and how it is made from its options."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, get_type_hints

import gymnasium as gym

from baselines.family import FAMILIES
from baselines.policy import Policy, Predictor
from baselines.rules import ConstantAction, RandomPolicy
from coinfer_gym import InvalidInputError
from coinfer_gym.errors import nearest

__all__ = ["POLICIES", "PROJECT", "bind", "check_environment", "check_options", "find_policy", "make_policy"]

POLICIES: dict[str, type[Policy]] = {"random": RandomPolicy, "constant": ConstantAction}
"""Policies by the names that configuration files use: those of every environment, and each family's own."""

for _module in FAMILIES.values():
    POLICIES |= importlib.import_module(_module).FAMILY.policies

_TRUSTED = "To run a module of your own with 'baselines.compare', pass --trust"

PROJECT = ("baselines", "agents")
"""Packages of this project from which a configuration file may name a policy by ``package.module:attribute``."""


def find_policy(name: str, trust: Sequence[str] = ()) -> Callable[..., Predictor]:
    """The class or function that makes the policy of this name; nothing is called.

    A configuration file that could name any callable could run any code. It may name the `POLICIES`, policies of this
    project such as ``agents.policy:load_agent``, and what is in modules that the user trusts.
    """
    if name in POLICIES:
        return POLICIES[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        hint = "Name a trained agent by 'agents.policy:load_agent' and its path."
        raise InvalidInputError("policy", name, f"{nearest(name, POLICIES)} {hint}")
    trusted = is_trusted(module_name, trust)
    if not (trusted or module_name.split(".")[0] in PROJECT):
        remedy = f"Only policies of this project are known. {_TRUSTED} {module_name}"
        raise InvalidInputError("policy", name, remedy)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InvalidInputError("policy", name, f"{error}.") from error
    factory = getattr(module, attribute, None)
    if factory is None:
        raise InvalidInputError("policy", name, nearest(attribute, getattr(module, "__all__", dir(module))))
    if not callable(factory) or not (trusted or _makes_policy(factory)):
        raise InvalidInputError(
            "policy", name, "It is no policy: a class with predict(), or a function that returns one."
        )
    return cast("Callable[..., Predictor]", factory)


def check_environment(name: str, trust: Sequence[str] = ()) -> None:
    """Raise `InvalidInputError` unless an environment is one of this project or in a module that the user trusts.

    An id may name a module, ``module:id``, which runs when the environment is made.
    """
    module, colon, known = name.rpartition(":")
    if colon and is_trusted(module, trust):
        return
    if colon and module != "coinfer_gym":
        remedy = f"Only environments of this project are known. {_TRUSTED} {module}"
        raise InvalidInputError("environment", name, remedy)
    ours = [entry for entry in gym.registry if entry.startswith("coinfer_gym/")]
    if known not in ours:
        raise InvalidInputError("environment", name, nearest(known, ours))


def is_trusted(module: str, trust: Sequence[str]) -> bool:
    """Whether a module is one of those that the user trusts, or inside one."""
    return any(module == name or module.startswith(f"{name}.") for name in trust)


def _makes_policy(factory: Any) -> bool:
    """Whether a class, or what a function says that it returns, has ``predict``."""
    if inspect.isclass(factory):
        return hasattr(factory, "predict")
    return inspect.isfunction(factory) and hasattr(get_type_hints(factory).get("return"), "predict")


def make_policy(name: str, options: Mapping[str, Any] | None = None, trust: Sequence[str] = ()) -> Predictor:
    """Policy by its name, as for `find_policy`, and its keyword arguments, not yet bound to an environment."""
    factory = find_policy(name, trust)
    options = dict(options or {})
    check_options(name, factory, options)
    policy = factory(**options)
    if not callable(getattr(policy, "predict", None)):
        raise InvalidInputError("policy", name, f"It made a {type(policy).__name__}, which has no predict().")
    return policy


def bind(policy: Any, env: Any) -> Predictor:
    """The policy, tied to the environment if it asks for that."""
    return cast("Predictor", policy.bind(env) if hasattr(policy, "bind") else policy)


def check_options(name: str, factory: Callable[..., Predictor], options: Mapping[str, Any]) -> None:
    """Raise `InvalidInputError` unless `factory` takes these keyword arguments and needs no more."""
    parameters: dict[str, inspect.Parameter] = {}
    classes = inspect.getmro(factory)[:-1] if inspect.isclass(factory) else ()
    makers: list[Callable[..., Any]] = [each for each in classes if "__init__" in vars(each)]
    for kind in makers or [factory]:
        own = inspect.signature(kind).parameters.values()
        parameters = {entry.name: entry for entry in own} | parameters
        if all(entry.kind is not inspect.Parameter.VAR_KEYWORD for entry in own):
            break
        if kind.__module__.partition(".")[0] not in PROJECT:
            return  # it may read them itself; ours pass on to their base what they do not know
    else:
        return
    loose = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    known = [name for name, entry in parameters.items() if name != "env" and entry.kind not in loose]
    for key in options:
        if key not in known:
            hint = nearest(key, known) if known else "It has no options."
            raise InvalidInputError(f"policy {name!r}: key", key, hint)
    for key, entry in inspect.signature(factory).parameters.items():
        if key in known and entry.default is inspect.Parameter.empty and key not in options:
            raise InvalidInputError(f"policy {name!r}: {key}", None, "It must be given.")
