"""Actions of LAIM-v0 (large AI model), and their conversion from and to decisions in SI units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import inlined_kernel, kernel
from coinfer_gym.envs.interval import between, component, component_of_cut, cut_of, power_of
from coinfer_gym.laim.decision import Decision, as_tuple
from coinfer_gym.laim.outcome import Choice, Tables
from coinfer_gym.records import Records

ACTION_NAMES = ("cut", "retained_device", "retained_server", "power", "frequency_device", "frequency_server")
"""Components of an action, each in [-1, 1]."""


@inlined_kernel
def decode(hardware: Records, cuts: int, actions: NDArray[Any], i: int, log_power_ratio: float) -> Choice:
    """Decision of row `i` of actions in [-1, 1]: cut, both ratios, power in W, both clocks in Hz.

    The cut is one of `cuts` equal bins; ratios and clocks are linear between their bounds, the power is linear in dB,
    for which the caller keeps ``ln(P_min / P_max)``.
    """
    h = hardware[0]
    return Choice(
        cut_of(actions[i, 0], cuts),
        between(actions[i, 1], h.retained_device_min, 1.0),
        between(actions[i, 2], h.retained_server_min, 1.0),
        power_of(actions[i, 3], h.power_max, log_power_ratio),
        between(actions[i, 4], h.frequency_device_min, h.frequency_device_max),
        between(actions[i, 5], h.frequency_server_min, h.frequency_server_max),
    )


@kernel
def write_action(
    hardware: Records,
    cuts: int,
    decision: Choice,
    out: NDArray[np.float32],
    i: int,
) -> None:
    """Write the action that `decode` turns into a decision to row `i`; idle components are clipped."""
    h = hardware[0]
    s, retained_device, retained_server, power, frequency_device, frequency_server = decision
    power = min(max(power, h.power_min), h.power_max)
    out[i, 0] = component_of_cut(s, cuts)
    out[i, 1] = component(retained_device, h.retained_device_min, 1.0)
    out[i, 2] = component(retained_server, h.retained_server_min, 1.0)
    out[i, 3] = component(math.log(power), math.log(h.power_min), math.log(h.power_max))
    out[i, 4] = component(frequency_device, h.frequency_device_min, h.frequency_device_max)
    out[i, 5] = component(frequency_server, h.frequency_server_min, h.frequency_server_max)


def encode(hardware: Records, cuts: int, decision: Decision) -> NDArray[np.float32]:
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


def encode_rows(tables: Tables, rows: Records) -> NDArray[np.float32]:
    """Actions of many decisions, see `encode`.

    Parameters
    ----------
    tables : Tables
        Constants of P1: ``scenario.tables``.
    rows : ndarray, shape (n,)
        Records with the fields of a decision, those of `coinfer_gym.laim.optimum.SOLUTION` among them.

    Returns
    -------
    ndarray of float32, shape (n, 6)
    """
    actions = np.empty((rows.shape[0], len(ACTION_NAMES)), np.float32)
    _write_actions(tables.hardware, tables.cuts.shape[0], rows, actions)
    return actions


@kernel
def _write_actions(hardware: Records, cuts: int, rows: Records, actions: NDArray[np.float32]) -> None:
    for i in range(rows.shape[0]):
        d = rows[i]
        choice = Choice(d.cut, d.retained_device, d.retained_server, d.power, d.frequency_device, d.frequency_server)
        write_action(hardware, cuts, choice, actions, i)
