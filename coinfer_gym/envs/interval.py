"""The interval [-1, 1] in which agents see and act: physical quantities to it, and back."""

from __future__ import annotations

import math

from coinfer_gym._compile import inlined_kernel, kernel


@kernel
def share(value: float, low: float, high: float) -> float:
    """`value` on a scale of -1 at `low` to 1 at `high`, clipped; 0 where the scale has no width."""
    if high <= low:
        return 0.0
    return min(1.0, max(-1.0, 2.0 * (value - low) / (high - low) - 1.0))


@kernel
def component(value: float, low: float, high: float) -> float:
    """`value` as a component of an action; one without a choice stands at its upper end."""
    return share(value, low, high) if high > low else 1.0


@kernel
def between(action: float, low: float, high: float) -> float:
    """Value of a component of an action, linear from `low` at -1 to `high` at 1."""
    return low + (high - low) * 0.5 * (action + 1.0)


@inlined_kernel
def clock_of(action: float, low: float, high: float) -> float:
    """Clock in Hz of a component of an action, linear in its square: in the energy of an operation."""
    return math.sqrt(between(action, low * low, high * high))


@inlined_kernel
def component_of_clock(clock: float, low: float, high: float) -> float:
    """The component that `clock_of` turns into a clock."""
    return component(clock * clock, low * low, high * high)
