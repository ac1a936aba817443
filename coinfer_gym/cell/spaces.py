"""Actions of Cell-v0: those of LAIM-v0, and how much of the free band and server a task takes."""

from __future__ import annotations

import math

from coinfer_gym._compile import inlined_kernel
from coinfer_gym.envs.observation import OBSERVATION_NAMES
from coinfer_gym.laim import spaces

ACTION_NAMES = (*spaces.ACTION_NAMES, "band", "server")
"""Components of an action, each in [-1, 1]."""

CELL_NAMES = (
    *OBSERVATION_NAMES,
    "band_free",
    "server_free",
    "busy",
    "waiting_elsewhere",
    "band_release",
    "server_release",
)
"""Components of an observation, each in [-1, 1]."""

BAND, SERVER = len(spaces.ACTION_NAMES), len(spaces.ACTION_NAMES) + 1
"""Places of the two shares in an action."""


@inlined_kernel
def share_of(action: float, free: float, least: float) -> float:
    """Share of the whole that a component takes of what is free, with its square: the middle takes a quarter of it."""
    part = 0.5 * (action + 1.0)
    return min(free, max(least, part * part * free))


def component_of_share(share: float, free: float) -> float:
    """The component that `share_of` turns into a share; above 1 for more than is free."""
    return 2.0 * math.sqrt(share / free) - 1.0
