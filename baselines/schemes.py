"""The designs that Lyu et al. compare (Sec. VI): each is P1 (eq. 44) with some controls fixed, for any solver of P1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from coinfer_gym import Problem

__all__ = ["SCHEMES", "Scheme"]


@dataclass(frozen=True)
class Scheme:
    """A restriction of P1.

    Attributes
    ----------
    title : str
        Name in tables and legends.
    restrict : callable
        P1 with some controls fixed: their lower bounds raised to the upper ones.
    end : {"", "device", "server"}
        Where inference runs whole; empty where the cut is free.
    """

    title: str
    restrict: Callable[[Problem], Problem]
    end: str = ""

    def cut(self, problem: Problem) -> int | None:
        """The cut that the scheme prescribes; None where it is free."""
        return {"": None, "server": 0, "device": problem.workload.cuts - 1}[self.end]


def _keep(problem: Problem) -> Problem:
    return problem


def _fix_power(problem: Problem) -> Problem:
    return replace(problem, power_min=problem.power_max)


def _fix_frequency(problem: Problem) -> Problem:
    return replace(
        problem,
        frequency_device_min=problem.frequency_device_max,
        frequency_server_min=problem.frequency_server_max,
    )


def _prune_device(problem: Problem) -> Problem:
    return replace(problem, retained_server_min=1.0)


def _prune_server(problem: Problem) -> Problem:
    return replace(problem, retained_device_min=1.0)


SCHEMES: dict[str, Scheme] = {
    "joint": Scheme("joint design", _keep),
    "fixed_power": Scheme("fixed power", _fix_power),
    "fixed_frequency": Scheme("fixed frequency", _fix_frequency),
    "device_pruning": Scheme("pruning the device only", _prune_device),
    "server_pruning": Scheme("pruning the server only", _prune_server),
    "on_device": Scheme("on the device", _keep, end="device"),
    "on_server": Scheme("on the server", _keep, end="server"),
}
"""The designs by the names that configuration files use (Lyu et al., Sec. VI)."""
