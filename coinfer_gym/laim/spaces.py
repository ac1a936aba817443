"""Actions of LAIM-v0 (large AI model), and their conversion from and to decisions in SI units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import inlined_kernel, kernel
from coinfer_gym.envs.interval import between, clock_of, component, component_of_clock
from coinfer_gym.laim.decision import Decision, as_tuple
from coinfer_gym.laim.outcome import Choice, Tables, choice_of
from coinfer_gym.records import Records

ACTION_NAMES = ("cut", "retained_device", "retained_server", "power", "frequency_device", "frequency_server")
"""Components of an action, each in [-1, 1]."""


@inlined_kernel
def cut_of(action: float, cuts: int) -> int:
    """Cut of a component of an action: a quarter of the scale for either end, equal bins for the cuts between them.

    Agents find out first which side is the better place for a task, and only then where between them to cut.
    """
    if action < -0.5 or (cuts < 3 and action < 0.0):
        return 0
    if action >= 0.5 or cuts < 3:
        return cuts - 1
    return 1 + int((action + 0.5) * (cuts - 2))


@inlined_kernel
def component_of_cut(cut: int, cuts: int) -> float:
    """The middle of a cut's bin."""
    if cut == 0 or cut == cuts - 1:
        return -0.75 if cut == 0 else 0.75
    return (cut - 0.5) / (cuts - 2) - 0.5


@inlined_kernel
def ratio_of(action: float, least: float) -> float:
    """Retained ratio of a component of an action, with the power of 1.5: low ratios are the fast designs."""
    part = 0.5 * (action + 1.0)
    return least + (1.0 - least) * part * math.sqrt(part)


@inlined_kernel
def component_of_ratio(ratio: float, least: float) -> float:
    """The component that `ratio_of` turns into a ratio."""
    if least >= 1.0:
        return 1.0
    part: float = min(1.0, max(0.0, (ratio - least) / (1.0 - least))) ** (2.0 / 3.0)
    return 2.0 * part - 1.0


@inlined_kernel
def decode(tables: Tables, actions: NDArray[Any], i: int) -> Choice:
    """Decision of row `i` of actions in [-1, 1]: cut, both ratios, power in W, both clocks in Hz.

    On these scales an agent that knows nothing and chooses the middle, or at random, often meets both budgets.
    """
    h = tables.hardware[0]
    return Choice(
        cut_of(actions[i, 0], tables.cuts.shape[0]),
        ratio_of(actions[i, 1], h.retained_device_min),
        ratio_of(actions[i, 2], h.retained_server_min),
        between(actions[i, 3], h.power_min, h.power_max),
        clock_of(actions[i, 4], h.frequency_device_min, h.frequency_device_max),
        clock_of(actions[i, 5], h.frequency_server_min, h.frequency_server_max),
    )


@kernel
def write_action(tables: Tables, decision: Choice, out: NDArray[np.float32], i: int) -> None:
    """Write the action that `decode` turns into a decision to row `i`; idle components are clipped."""
    h = tables.hardware[0]
    s, retained_device, retained_server, power, frequency_device, frequency_server = decision
    out[i, 0] = component_of_cut(s, tables.cuts.shape[0])
    out[i, 1] = component_of_ratio(retained_device, h.retained_device_min)
    out[i, 2] = component_of_ratio(retained_server, h.retained_server_min)
    out[i, 3] = component(power, h.power_min, h.power_max)
    out[i, 4] = component_of_clock(frequency_device, h.frequency_device_min, h.frequency_device_max)
    out[i, 5] = component_of_clock(frequency_server, h.frequency_server_min, h.frequency_server_max)


def encode(tables: Tables, decision: Decision) -> NDArray[np.float32]:
    """Action that `decode` turns into `decision`, up to the rounding of float32; idle components are clipped.

    Parameters
    ----------
    tables : Tables
        Constants of P1: ``scenario.tables``.
    decision : Decision

    Returns
    -------
    ndarray of float32, shape (6,)
        In the order of `ACTION_NAMES`.
    """
    action = np.empty((1, len(ACTION_NAMES)), np.float32)
    write_action(tables, as_tuple(decision), action, 0)
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
    _write_actions(tables, rows, actions)
    return actions


@kernel
def _write_actions(tables: Tables, rows: Records, actions: NDArray[np.float32]) -> None:
    for i in range(rows.shape[0]):
        write_action(tables, choice_of(rows[i]), actions, i)
