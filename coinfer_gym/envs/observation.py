"""What an agent sees of the task at hand, in every environment: seven numbers in [-1, 1]."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel, merged_kernel
from coinfer_gym.envs.interval import share
from coinfer_gym.records import Record

OBSERVATION_NAMES = ("gain", "queue", "wait", "intensity", "delay_budget", "energy_budget", "battery")
"""Components of an observation, each in [-1, 1]."""


@kernel
def budget_levels(rules: Record, delay_budget: float, energy_budget: float) -> tuple[float, float]:
    """Both budgets as they are observed, logarithmic between the ends of their ranges."""
    return (
        share(math.log(delay_budget), rules.log_delay_low, rules.log_delay_high),
        share(math.log(energy_budget), rules.log_energy_low, rules.log_energy_high),
    )


@merged_kernel
def write_observation(
    rules: Record,
    gain_db: float,
    queue_share: float,
    wait_share: float,
    intensity: float,
    delay_level: float,
    energy_level: float,
    battery_share: float,
    out: NDArray[np.float32],
    i: int,
) -> None:
    """Write the normalised observation to row `i`, in the order of `OBSERVATION_NAMES`."""
    out[i, 0] = share(gain_db, rules.gain_db_low, rules.gain_db_high)
    out[i, 1] = share(queue_share, 0.0, 1.0)
    out[i, 2] = share(wait_share, 0.0, 1.0)
    out[i, 3] = share(intensity, 0.0, rules.intensity_high)
    out[i, 4] = delay_level
    out[i, 5] = energy_level
    out[i, 6] = share(battery_share, 0.0, 1.0)
