"""Decisions of P1 (Lyu et al., eq. 44), their results, and the checks of what is given as one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coinfer_gym.checks import is_number
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.outcome import Choice
from coinfer_gym.laim.workload import Workload


@dataclass(frozen=True)
class Decision:
    """What is chosen for a task: the cut and the five controls of P1, in SI units.

    A side without work (the device at cut 0, link and server at cut J) has ratio 1, clock 0 and power 0.

    Attributes
    ----------
    cut : int
        Blocks ``1..cut`` run on the device.
    retained_device, retained_server : float
        Retained ratios `rho_d`, `rho_s` in (0, 1].
    power : float
        Transmit power `p` in W.
    frequency_device, frequency_server : float
        Clock frequencies `f_d`, `f_s` in Hz.
    """

    cut: int
    retained_device: float
    retained_server: float
    power: float
    frequency_device: float
    frequency_server: float


CONTROLS = ("retained_device", "retained_server", "power", "frequency_device", "frequency_server")
"""The five controls of P1, in the order of an array of them."""


def as_tuple(decision: Decision) -> Choice:
    """A decision as compiled code takes it."""
    return Choice(
        int(decision.cut),
        float(decision.retained_device),
        float(decision.retained_server),
        float(decision.power),
        float(decision.frequency_device),
        float(decision.frequency_server),
    )


@dataclass(frozen=True)
class Solution(Decision):
    """A decision, its results, and a bound on how far it is from the optimum.

    Attributes
    ----------
    delay, energy : float
        `T` in s and `E` in J (eqs. 10, 11).
    quality : float
        In [0, 1], 1 for the unpruned model.
    distortion : float
        The distortion behind the quality, in units of the weights' norm.
    feasible : bool
        Whether both budgets are met and both memories hold what is retained.
    reason : str
        Empty if feasible. Otherwise the budget that no decision can meet: ``"time"``, ``"energy"``, or
        ``"time and energy"`` (not both together). The decision then meets one budget and exceeds the other by as little
        as possible. ``"memory"`` if even the least ratios do not fit at any cut; the cut is then the one that lacks
        least. An iterative solver that stopped early also reports it here.
    delay_needed, energy_needed : float
        If infeasible, the smallest delay budget that can be met with this energy budget, and the smallest energy budget
        that can be met with this delay budget; infinite if there is none. NaN if feasible, and from solvers that do not
        compute them.
    memory_device_needed, memory_server_needed : float
        If the reason is ``"memory"``, the bytes that each side must hold at this cut with its least ratio; else NaN.
    gap : float
        Proven bound on how far the optimum can exceed `quality`; NaN if the solver proves none.
    history : tuple of Solution
        Iterates of an iterative solver, first to last.
    """

    delay: float
    energy: float
    quality: float
    distortion: float
    feasible: bool
    reason: str = ""
    delay_needed: float = math.nan
    energy_needed: float = math.nan
    memory_device_needed: float = math.nan
    memory_server_needed: float = math.nan
    gap: float = math.nan
    history: tuple[Solution, ...] = field(default=(), repr=False)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Results of an array of decisions, row by row.

    Attributes
    ----------
    quality, distortion : ndarray, shape (...)
        As in `Solution`.
    delay, energy : ndarray, shape (...)
        `T` in s and `E` in J.
    margins : ndarray, shape (..., 2)
        What is left of the delay budget in s and of the energy budget in J; negative where it is exceeded.
    feasible : ndarray of bool, shape (...)
        Whether both budgets are met and both memories hold what is retained, within
        `coinfer_gym.budgets.BUDGET_TOLERANCE`.
    """

    quality: NDArray[np.float64]
    distortion: NDArray[np.float64]
    delay: NDArray[np.float64]
    energy: NDArray[np.float64]
    margins: NDArray[np.float64]
    feasible: NDArray[np.bool_]


def check_cut(cut: Any, workload: Workload) -> int:
    """The cut, if the workload has it.

    Raises
    ------
    InvalidInputError
        If it is not a whole number in ``0..J``.
    """
    if not is_number(cut) or not 0 <= cut < workload.cuts or int(cut) != cut:
        raise InvalidInputError("cut", cut, f"{workload.name!r} has the cuts 0 to {workload.cuts - 1}.")
    return int(cut)


def check_decision(decision: Decision, workload: Workload) -> int:
    """Check a decision and return its cut; the bounds of a problem are not checked.

    Raises
    ------
    InvalidInputError
        If the workload has no such cut, a ratio is outside (0, 1], or a clock or the power is negative or not a number.
    """
    if not all(hasattr(decision, name) for name in ("cut", *CONTROLS)):
        raise InvalidInputError(
            "decision", decision, "Give a Decision or Solution; Decision(cut, *controls) makes one."
        )
    for name in CONTROLS:
        _check_control(name, getattr(decision, name))
    return check_cut(decision.cut, workload)


def check_controls(
    controls: ArrayLike, cut: ArrayLike, workload: Workload
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Controls and cuts of many decisions as arrays of shapes (..., 5) and (...); errors as in `check_decision`."""
    try:
        rows = np.array(controls, np.float64, order="C")
        cuts = np.broadcast_to(np.asarray(cut, np.float64), rows.shape[:-1])
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            "decision", controls, "Give a Decision, or controls and cuts of matching shapes."
        ) from error
    if rows.shape[-1:] != (len(CONTROLS),):
        raise InvalidInputError("decision", rows.shape, f"Give rows of the {len(CONTROLS)} controls.")
    ends = rows.reshape(-1, len(CONTROLS))
    for k, name in enumerate(CONTROLS):
        for value in (ends[:, k].min(initial=1.0), ends[:, k].max(initial=1.0)):
            _check_control(name, float(value))
    for value in np.unique(cuts):
        check_cut(value, workload)
    return rows, cuts.astype(np.int64)


def _check_control(name: str, value: Any) -> None:
    if name.startswith("retained"):
        if not (is_number(value) and 0.0 < value <= 1.0):
            raise InvalidInputError(name, value, "Give a retained ratio in (0, 1].")
    elif not (is_number(value) and 0.0 <= value < math.inf):
        raise InvalidInputError(name, value, "Give a finite number of at least 0, in SI units.")
