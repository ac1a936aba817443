"""What an agent sees and does: observation and action, and their translation from and to SI units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.problem import Decision, Tables, as_tuple

ACTION_NAMES = ("cut", "retained_device", "retained_server", "power", "frequency_device", "frequency_server")
"""Components of an action, each in [-1, 1]."""

OBSERVATION_NAMES = ("gain", "queue", "wait", "intensity", "delay_budget", "energy_budget", "battery")
"""Components of an observation, each in [-1, 1]."""

OBSERVATION = np.dtype(
    [
        (name, np.float64)
        for name in (
            "gain_db_low",
            "gain_db_high",
            "intensity_high",
            "log_delay_low",
            "log_delay_high",
            "log_energy_low",
            "log_energy_high",
        )
    ]
)
"""Physical bounds by which observations are normalised."""


@kernel
def _share(value: float, low: float, high: float) -> float:
    """`value` on a scale of -1 at `low` to 1 at `high`, clipped; 0 where the scale has no width."""
    if high <= low:
        return 0.0
    return min(1.0, max(-1.0, 2.0 * (value - low) / (high - low) - 1.0))


@kernel
def _between(action: float, low: float, high: float) -> float:
    return low + (high - low) * 0.5 * (action + 1.0)


@kernel
def decode(
    hardware: NDArray[np.void], cuts: int, actions: NDArray[Any], i: int, log_power_ratio: float
) -> tuple[int, float, float, float, float, float]:
    """Decision of row `i` of actions in [-1, 1]: cut, both ratios, power in W, both clocks in Hz.

    The cut is one of `cuts` equal bins; ratios and clocks are linear between their bounds, the power is linear in dB,
    for which the caller keeps ``ln(P_min / P_max)``.
    """
    h = hardware[0]
    s = min(cuts - 1, int(0.5 * (actions[i, 0] + 1.0) * cuts))
    power = h.power_max * math.exp(0.5 * (1.0 - actions[i, 3]) * log_power_ratio)
    return (
        s,
        _between(actions[i, 1], h.retained_device_min, 1.0),
        _between(actions[i, 2], h.retained_server_min, 1.0),
        power,
        _between(actions[i, 4], h.frequency_device_min, h.frequency_device_max),
        _between(actions[i, 5], h.frequency_server_min, h.frequency_server_max),
    )


@kernel
def _component(value: float, low: float, high: float) -> float:
    """`value` as a component of an action; one without a choice stands at its upper end."""
    return _share(value, low, high) if high > low else 1.0


@kernel
def write_action(
    hardware: NDArray[np.void],
    cuts: int,
    decision: tuple[int, float, float, float, float, float],
    out: NDArray[np.float32],
    i: int,
) -> None:
    """Write the action that `decode` turns into a decision to row `i`; idle components are clipped."""
    h = hardware[0]
    s, retained_device, retained_server, power, frequency_device, frequency_server = decision
    power = min(max(power, h.power_min), h.power_max)
    out[i, 0] = (2.0 * s + 1.0) / cuts - 1.0
    out[i, 1] = _component(retained_device, h.retained_device_min, 1.0)
    out[i, 2] = _component(retained_server, h.retained_server_min, 1.0)
    out[i, 3] = _component(math.log(power), math.log(h.power_min), math.log(h.power_max))
    out[i, 4] = _component(frequency_device, h.frequency_device_min, h.frequency_device_max)
    out[i, 5] = _component(frequency_server, h.frequency_server_min, h.frequency_server_max)


def encode(hardware: NDArray[np.void], cuts: int, decision: Decision) -> NDArray[np.float32]:
    """Action that `decode` turns into `decision`, up to the rounding of float32; idle components are clipped.

    Parameters
    ----------
    hardware : ndarray of `HARDWARE`, shape (1,)
    cuts : int
        Number of cuts, ``J + 1``.
    decision : Decision

    Returns
    -------
    ndarray of float32, shape (6,)
        In the order of `ACTION_NAMES`.
    """
    action = np.empty((1, len(ACTION_NAMES)), np.float32)
    write_action(hardware, cuts, as_tuple(decision), action, 0)
    row: NDArray[np.float32] = action[0]
    return row


def encode_rows(tables: Tables, rows: NDArray[np.void]) -> NDArray[np.float32]:
    """Actions of many decisions, see `encode`.

    Parameters
    ----------
    tables : Tables
        Constants of P1: ``scenario.tables``.
    rows : ndarray, shape (n,)
        Records with the fields of a decision, those of `coinfer_gym.optimum.SOLUTION` among them.

    Returns
    -------
    ndarray of float32, shape (n, 6)
    """
    actions = np.empty((rows.shape[0], len(ACTION_NAMES)), np.float32)
    _write_actions(tables.hardware, tables.cuts.shape[0], rows, actions)
    return actions


@kernel
def _write_actions(hardware: NDArray[np.void], cuts: int, rows: NDArray[np.void], actions: NDArray[np.float32]) -> None:
    for i in range(rows.shape[0]):
        d = rows[i]
        ratios, clocks = (d.retained_device, d.retained_server), (d.frequency_device, d.frequency_server)
        write_action(hardware, cuts, (d.cut, ratios[0], ratios[1], d.power, clocks[0], clocks[1]), actions, i)


@kernel
def budget_levels(scale: NDArray[np.void], delay_budget: float, energy_budget: float) -> tuple[float, float]:
    """Both budgets as they are observed, logarithmic between the ends of their ranges."""
    o = scale[0]
    return (
        _share(math.log(delay_budget), o.log_delay_low, o.log_delay_high),
        _share(math.log(energy_budget), o.log_energy_low, o.log_energy_high),
    )


@kernel
def write_observation(
    scale: NDArray[np.void],
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
    o = scale[0]
    out[i, 0] = _share(gain_db, o.gain_db_low, o.gain_db_high)
    out[i, 1] = _share(queue_share, 0.0, 1.0)
    out[i, 2] = _share(wait_share, 0.0, 1.0)
    out[i, 3] = _share(intensity, 0.0, o.intensity_high)
    out[i, 4] = delay_level
    out[i, 5] = energy_level
    out[i, 6] = _share(battery_share, 0.0, 1.0)
