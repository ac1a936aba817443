"""The designs that Lyu et al. compare (Sec. VI): each is P1 (eq. 44) with some controls fixed, for any solver of P1."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coinfer_gym import Problem
from coinfer_gym.laim.decision import CONTROLS

__all__ = ["SCHEMES", "Scheme"]


@dataclass(frozen=True)
class Scheme:
    """A restriction of P1.

    Attributes
    ----------
    title : str
        Name in tables and legends.
    fixed : tuple of str
        Controls that stand at their upper bounds.
    end : {"", "device", "server"}
        Where inference runs whole; empty where the cut is free.
    """

    title: str
    fixed: tuple[str, ...] = ()
    end: str = ""

    def restrict(self, problem: Problem) -> Problem:
        """P1 with the lower bounds of the fixed controls raised to the upper ones."""
        if not self.fixed:
            return problem
        upper = dict(zip(CONTROLS, problem.bounds()[1].tolist(), strict=True))
        return replace(problem, **{f"{name}_min": upper[name] for name in self.fixed})

    def cut(self, problem: Problem) -> int | None:
        """The cut that the scheme prescribes; None where it is free."""
        return {"": None, "server": 0, "device": problem.workload.cuts - 1}[self.end]


SCHEMES: dict[str, Scheme] = {
    "joint": Scheme("joint design"),
    "fixed_power": Scheme("fixed power", ("power",)),
    "fixed_frequency": Scheme("fixed frequency", ("frequency_device", "frequency_server")),
    "device_pruning": Scheme("pruning the device only", ("retained_server",)),
    "server_pruning": Scheme("pruning the server only", ("retained_device",)),
    "on_device": Scheme("on the device", end="device"),
    "on_server": Scheme("on the server", end="server"),
}
"""The designs by the names that configuration files use (Lyu et al., Sec. VI)."""
