"""Rules of Cell-v0: how much of band and server a task takes; its exact optimum in the time it may take does the rest.

Each rule asks the environment for the optimisation problem P1 (Lyu et al., eq. 44) of the task at hand at the shares
that it takes. The time that a service may take shrinks with the queue, as in `baselines.farsighted.QueueBudget`, so
that the tasks behind do not starve; ``share=None`` lets every task take all the time that it has left.
"""

from __future__ import annotations

import abc
import math
from typing import Any, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.farsighted import QueueBudget
from coinfer_gym import InvalidInputError, Problem
from coinfer_gym.cell.env import CellEnv
from coinfer_gym.cell.optimum import Member, check_concave
from coinfer_gym.cell.response import Response
from coinfer_gym.cell.spaces import CELL_NAMES
from coinfer_gym.checks import check_number
from coinfer_gym.laim.scenario import Scenario

__all__ = ["CellRule", "ConstantPrices", "EqualShares", "ShareOfFree", "SharesByQueue", "respond"]

_NO_CAP = 1e9  # s
_TOLERANCE = 3e-3  # in quality, within which a choice at prices is the best


class CellRule(QueueBudget):
    """Exact optimum at shares of band and server that a subclass chooses.

    Parameters
    ----------
    env : gymnasium.Env, optional
        Cell-v0; `bind` does the same later.
    share, least, fraction
        As for `baselines.farsighted.QueueBudget`; without them a task may take all the time that it has left.
    """

    sees = CELL_NAMES
    concave = False

    def __init__(
        self,
        env: gym.Env[Any, Any] | None = None,
        share: float | None = None,
        least: float = 0.1,
        fraction: float | None = None,
    ) -> None:
        super().__init__(env, _NO_CAP if share is None else share, least, fraction)

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this cell from now on.

        Raises
        ------
        InvalidInputError
            If the environment is not Cell-v0, a wrapper has given its actions another meaning, or a kind of device is
            paid by a measured accuracy and the rule needs a `concave` quality.
        """
        if not isinstance(env.unwrapped, CellEnv):
            raise InvalidInputError("env", str(env), f"{type(self).__name__} shares out a cell: play it in Cell-v0.")
        super().bind(env)
        self._intensity_high = float(self._env.lanes.rules["intensity_high"].max())
        if self.concave:
            for kind in self._env.scenario.members:
                check_concave(kind.quality)
        return self

    @property
    def world(self) -> Scenario:
        """World of the device that decides, with all of the band and the server."""
        kind: Scenario = self._env.kind
        return kind

    @abc.abstractmethod
    def shares(self) -> tuple[float, float]:
        """Shares of the whole band and server for the task at hand, within what is free or not."""

    def decide(self) -> NDArray[Any]:
        """Action for the task at hand in the bound cell."""
        least, free = self._env.scenario.share_min, self._env.free
        taken = [max(least, min(share, part)) for share, part in zip(self.shares(), free, strict=True)]
        action: NDArray[Any] = self._env.action(self.solve(self._env.problem(*taken)), *taken)
        return action


class ShareOfFree(CellRule):
    """The same part of what is free for every task.

    Parameters
    ----------
    env, share, least, fraction
        As for `CellRule`.
    part : float
        Of the free band and the free server; 1 takes all.
    """

    def __init__(self, env: gym.Env[Any, Any] | None = None, part: float = 1.0, **pace: Any) -> None:
        self._part = check_number("part", part, 0.0, 1.0)
        super().__init__(env, **pace)

    def shares(self) -> tuple[float, float]:
        """The part of both."""
        band, server = self._env.free
        return self._part * band, self._part * server


class EqualShares(CellRule):
    """One share per device, whatever the others do.

    Parameters
    ----------
    env, share, least, fraction
        As for `CellRule`.
    """

    def shares(self) -> tuple[float, float]:
        """One over the number of devices."""
        each = 1.0 / self._env.devices
        return each, each


class SharesByQueue(CellRule):
    """What is free, shared out among the tasks that wait for it.

    A device takes the part of its own tasks, the one at hand and those behind it, in all tasks that wait anywhere.

    Parameters
    ----------
    env, share, least, fraction
        As for `CellRule`.
    reserve : float
        Number of tasks yet to come that count as waiting elsewhere.
    """

    def __init__(self, env: gym.Env[Any, Any] | None = None, reserve: float = 1.0, **pace: Any) -> None:
        self._reserve = check_number("reserve", reserve, 0.0)
        super().__init__(env, **pace)

    def shares(self) -> tuple[float, float]:
        """The part of the device's tasks, of both."""
        seen, (band, server) = self.seen(), self._env.free
        own = 1.0 + round(seen["queue"] * self._env.scenario.queue_capacity)
        elsewhere = self._env.devices * seen["waiting_elsewhere"] / (1.0 - seen["waiting_elsewhere"])
        part = own / (own + elsewhere + self._reserve)
        return part * band, part * server


class ConstantPrices(CellRule):
    """Exact optimum of quality less what band and server cost, at most what is free.

    Parameters
    ----------
    env, share, least, fraction
        As for `CellRule`.
    band, server : float
        Price in quality of holding all of the band, and all of the server, for a task.
    """

    concave = True

    def __init__(
        self, env: gym.Env[Any, Any] | None = None, band: float = 0.2, server: float = 0.2, **pace: Any
    ) -> None:
        self._prices = np.array([check_number("band", band, 0.0), check_number("server", server, 0.0)])
        super().__init__(env, **pace)

    def shares(self) -> tuple[float, float]:
        """The best choice within the pace; where none is worth its price there, within all the time that is left."""
        whole, free = self._env.problem(1.0, 1.0), np.array(self._env.free)
        pace = self.choose(self._view(whole), whole, self._memory).seconds
        for seconds in (pace, whole.delay_budget):
            response = respond(whole, free, self._bill(seconds), seconds)
            if response.quality > 0.0:
                break
        band, server = free * (response.band, response.server)
        return float(band), float(server)

    def _bill(self, seconds: float) -> NDArray[np.float64]:
        """What all of the band and all of the server cost a task that may take so long."""
        return self._prices


def respond(
    whole: Problem, free: NDArray[np.float64], bill: NDArray[np.float64], seconds: float = math.inf
) -> Response:
    """Best choice within what is `free`, at a `bill` for all of the band and the server; `whole` is P1 with both."""
    member = Member(whole, whole.bandwidth * free[0], free[1], seconds)
    return member.respond(member.region(None), bill * free, _TOLERANCE)
