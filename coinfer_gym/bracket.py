"""The root of a function that is positive below it and not above it: a bracket that shrinks (Illinois method)."""

from __future__ import annotations

import math
from typing import NamedTuple

from coinfer_gym._compile import kernel


class Bracket(NamedTuple):
    """Where a root is known to be: infinite ends are not known yet.

    Attributes
    ----------
    low, high : float
        Ends; the function is positive at `low` only.
    gap_low, gap_high : float
        Values of the function there; of an end that has stayed put for several steps, a part of it.
    side : int
        Which end moved last: 1 the low one, -1 the high one, 0 neither.
    """

    low: float
    high: float
    gap_low: float
    gap_high: float
    side: int


OPEN = Bracket(-math.inf, math.inf, 0.0, 0.0, 0)
"""Nothing is known."""


@kernel
def narrow(bracket: Bracket, x: float, gap: float) -> Bracket:
    """The bracket after a look at `x`; an end that stays put twice counts half, so that the secant reaches farther."""
    low, high, gap_low, gap_high, side = bracket
    if gap > 0.0:
        return Bracket(x, high, gap, 0.5 * gap_high if side == 1 else gap_high, 1)
    return Bracket(low, x, 0.5 * gap_low if side == -1 else gap_low, gap, -1)


@kernel
def secant(bracket: Bracket) -> float:
    """Where the secant crosses zero, inside the bracket; the middle where rounding puts it outside."""
    low, high, gap_low, gap_high, _ = bracket
    x = low + (high - low) * gap_low / (gap_low - gap_high) if gap_low != gap_high else low
    return x if low < x < high else 0.5 * (low + high)
