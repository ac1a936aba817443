"""Policies by name: what configuration files may ask for, and how it is made from its options."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from baselines.clairvoyant import ClairvoyantPolicy
from baselines.farsighted import Lyapunov, PredictiveControl, QueueBudget, Slowdown
from baselines.layerwise.policies import (
    LayerwiseExact,
    LayerwiseMenu,
    LayerwiseReoptimize,
    LayerwiseRival,
    LayerwiseStatic,
)
from baselines.policy import Policy, Predictor
from baselines.rules import ConstantAction, MyopicExact, MyopicSCA, RandomPolicy
from baselines.search import MyopicQuantum
from baselines.stochastic import StochasticDP
from coinfer_gym import InvalidInputError
from coinfer_gym.errors import nearest

__all__ = ["POLICIES", "TRUSTED", "check_options", "find_policy", "make_policy"]

POLICIES: dict[str, type[Policy]] = {
    "random": RandomPolicy,
    "constant": ConstantAction,
    "myopic_exact": MyopicExact,
    "myopic_sca": MyopicSCA,
    "quantum": MyopicQuantum,
    "slowdown": Slowdown,
    "queue_budget": QueueBudget,
    "lyapunov": Lyapunov,
    "predictive_control": PredictiveControl,
    "stochastic_dp": StochasticDP,
    "clairvoyant": ClairvoyantPolicy,
    "layerwise_static": LayerwiseStatic,
    "layerwise_rival": LayerwiseRival,
    "layerwise_reoptimize": LayerwiseReoptimize,
    "layerwise_menu": LayerwiseMenu,
    "layerwise_exact": LayerwiseExact,
}
"""Policies by the names that configuration files use."""

TRUSTED = ("coinfer_gym", "baselines", "agents")
"""Packages from which a configuration file may name a policy by ``package.module:attribute``: those of this project.

A file that could name any module could run any code. Imports point down, so this floor knows no agent by name: the file
says ``agents.policy:load_agent``.
"""


def find_policy(name: str) -> Callable[..., Predictor]:
    """What makes the policy of this name.

    Parameters
    ----------
    name : str
        A key of `POLICIES`, or ``package.module:attribute`` where the package is one of `TRUSTED`.

    Returns
    -------
    callable
        A class or function that returns a policy.

    Raises
    ------
    InvalidInputError
        If there is none of this name, or its package is not trusted.
    """
    if name in POLICIES:
        return POLICIES[name]
    if ":" not in name:
        hint = "A learned agent goes by 'agents.policy:load_agent' and its path."
        raise InvalidInputError("policy", name, f"{nearest(name, POLICIES)} {hint}")
    module_name, attribute = name.split(":", 1)
    if module_name.split(".")[0] not in TRUSTED:
        raise InvalidInputError("policy", name, f"A policy is imported from {', '.join(TRUSTED)} only.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InvalidInputError("policy", name, f"{error}.") from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise InvalidInputError("policy", name, nearest(attribute, getattr(module, "__all__", dir(module))))
    return cast("Callable[..., Predictor]", factory)


def make_policy(name: str, options: Mapping[str, Any] | None = None) -> Predictor:
    """Policy by name and options, not yet bound to an environment.

    Parameters
    ----------
    name : str
        As for `find_policy`.
    options : mapping, optional
        Its keyword arguments.

    Returns
    -------
    Predictor

    Raises
    ------
    InvalidInputError
        If there is no such policy, or an option is unknown or missing.
    """
    factory = find_policy(name)
    options = dict(options or {})
    check_options(name, factory, options)
    return factory(**options)


def check_options(name: str, factory: Callable[..., Predictor], options: Mapping[str, Any]) -> None:
    """Raise `InvalidInputError` unless `factory` takes these keyword arguments and needs no more."""
    parameters = inspect.signature(factory).parameters
    if any(entry.kind is entry.VAR_KEYWORD for entry in parameters.values()):
        return
    known = [entry for entry in parameters if entry != "env"]
    for key in options:
        if key not in known:
            hint = nearest(key, known) if known else "It has no options."
            raise InvalidInputError(f"policy {name!r}: key", key, hint)
    for key in known:
        if parameters[key].default is inspect.Parameter.empty and key not in options:
            raise InvalidInputError(f"policy {name!r}: {key}", None, "It must be given.")
