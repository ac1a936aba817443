"""When a budget counts as met, and by how much it is exceeded."""

from __future__ import annotations

from coinfer_gym._compile import kernel

BUDGET_TOLERANCE = 1e-5
"""A budget counts as met up to this relative excess: the rounding of float32 actions is about 1e-6."""


@kernel
def meets(spent: float, budget: float) -> bool:
    """Whether `spent` stays within `budget` up to `BUDGET_TOLERANCE`."""
    return spent <= budget + BUDGET_TOLERANCE * abs(budget)


@kernel
def excess(spent: float, budget: float) -> float:
    """Relative excess of a budget, ``[spent / budget - 1]+``."""
    return max(0.0, spent / budget - 1.0)
