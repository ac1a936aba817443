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
def power_of(action: float, power_max: float, log_power_ratio: float) -> float:
    """Power in W of a component of an action, linear in dB; `log_power_ratio` is ``ln(P_min / P_max)``."""
    return power_max * math.exp(0.5 * (1.0 - action) * log_power_ratio)


@inlined_kernel
def cut_of(action: float, cuts: int) -> int:
    """Cut of a component of an action: one of `cuts` equal bins."""
    return min(cuts - 1, int(0.5 * (action + 1.0) * cuts))


@inlined_kernel
def component_of_cut(cut: int, cuts: int) -> float:
    """The middle of a cut's bin."""
    return (2.0 * cut + 1.0) / cuts - 1.0
