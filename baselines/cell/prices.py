"""Constant prices in a cell: each task takes the shares that are best for it after what band and server cost."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from baselines.cell.rules import CellRule
from baselines.checks import check_number
from coinfer_gym.cell.optimum import Member

__all__ = ["ConstantPrices"]

_TOLERANCE = 3e-3  # in quality, within which a choice is the best


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
        pace = self.choose(self._view(whole), whole, None).seconds
        for seconds in (pace, whole.delay_budget):
            member = Member(whole, whole.bandwidth * free[0], free[1], seconds)
            response = member.respond(member.region(None), self._prices * free, _TOLERANCE)
            if response.quality > 0.0:
                break
        band, server = free * (response.band, response.server)
        return float(band), float(server)
