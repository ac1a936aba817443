"""Decisions that keep the budgets: which of many do, and the nearest one to a decision that does not.

For a fixed cut the least energy that serves given ratios in given time is spent at one price of time, which sets both
clocks and the power (see `coinfer_gym.laim.costs`). That leaves a decision with three things to mean: its cut, its
ratios and its pace. `keep_budgets` changes as few of them as it must, in this order:

1. a decision that meets both budgets is left as it is, so that every solution of P1 can be reached;
2. where other clocks and another power serve its ratios in budget, these are taken: as fast as the decision wanted to
   be, or, where that is too late or costs too much, as near to it as the budgets allow;
3. where none do, the ratios move on a straight line towards their least ones, by no more than the budgets ask for;
4. where even the least ratios do not fit, the nearest cut that can be served is taken, and 1 to 3 apply to it.

Quality and delay of the kept decision move continuously with the decision, as long as its cut stays.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.bracket import OPEN, Bracket, narrow, secant
from coinfer_gym.budgets import meets
from coinfer_gym.laim.costs import (
    Costs,
    budget_residual,
    controls_at,
    costs_at,
    delay_of,
    energy_of,
    price_ends,
    settings_of,
    span_of,
)
from coinfer_gym.laim.decision import Decision, as_tuple
from coinfer_gym.laim.outcome import Choice, Tables, choice_of, evaluate, fit
from coinfer_gym.pricing import Span
from coinfer_gym.records import Record, Records, record_type

__all__ = ["DECISION", "decisions_that_meet", "keep_budgets"]

DECISION = record_type(
    "retained_device", "retained_server", "power", "frequency_device", "frequency_server", cut=np.int64
)
"""One `coinfer_gym.laim.decision.Decision` in a batch."""

_WIDTH = 1e-12  # of a bracket of ln(price) that needs no further search
_CLOSE = 1e-10  # relative distance from a budget that needs none either: far below the rounding of float32 actions
_SLACK = 1e-7  # relative excess of a budget that this may amount to, a hundredth of what counts as met


def keep_budgets(
    tables: Tables, gain: float, delay_budget: float, energy_budget: float, decision: Decision
) -> Decision:
    """Decision that meets both budgets and differs from the given one as little as that takes.

    Parameters
    ----------
    tables : Tables
        Constants of P1: ``problem.tables`` or ``scenario.tables``.
    gain : float
        Channel power gain, positive.
    delay_budget, energy_budget : float
        Budgets in s and J.
    decision : Decision
        Within the bounds of P1. A solution's decision is one.

    Returns
    -------
    Decision
        The given object itself where it meets both budgets, and where no decision does.
    """
    wanted = as_tuple(decision)
    changed, kept = keep_decision(tables.hardware, tables.cuts, gain, delay_budget, energy_budget, wanted)
    if not changed:
        return decision
    return Decision(*kept)


def decisions_that_meet(
    tables: Tables, gain: float, delay_budget: float, energy_budget: float, decisions: Records
) -> NDArray[np.bool_]:
    """Which decisions meet both budgets; the one that comes closest where none does.

    Parameters
    ----------
    tables : Tables
        Constants of P1.
    gain : float
        Channel power gain, positive.
    delay_budget, energy_budget : float
        Budgets in s and J.
    decisions : ndarray of `DECISION`, shape (n,)
        At least one.

    Returns
    -------
    ndarray of bool, shape (n,)
        At least one is True. The closest has the smallest of the larger of both relative excesses.
    """
    mask = np.empty(decisions.shape[0], np.bool_)
    _mark(tables.hardware, tables.cuts, gain, delay_budget, energy_budget, decisions, mask)
    return mask


@kernel
def mark_tasks(
    hardware: Records,
    cuts: Records,
    gain: NDArray[np.float64],
    delay_budget: NDArray[np.float64],
    energy_budget: NDArray[np.float64],
    decisions: Records,
    masks: NDArray[np.bool_],
) -> None:
    """Fill in `decisions_that_meet` for many tasks, a row of `masks` each."""
    for i in range(gain.shape[0]):
        _mark(hardware, cuts, gain[i], delay_budget[i], energy_budget[i], decisions, masks[i])


@kernel
def _mark(
    hardware: Records,
    cuts: Records,
    gain: float,
    delay_budget: float,
    energy_budget: float,
    decisions: Records,
    mask: NDArray[np.bool_],
) -> None:
    """Fill the mask of `decisions_that_meet`."""
    closest, least, none = 0, math.inf, True
    for i in range(decisions.shape[0]):
        delay, energy = _spend(hardware, cuts, gain, fit(cuts, choice_of(decisions[i])))
        mask[i] = meets(delay, delay_budget) and meets(energy, energy_budget)
        none = none and not mask[i]
        excess = max(_relative(delay, delay_budget), _relative(energy, energy_budget))
        if excess < least:
            closest, least = i, excess
    if none:
        mask[closest] = True


@kernel
def _relative(spent: float, budget: float) -> float:
    """What is spent in units of the budget, or where there is none its bare amount."""
    return spent / budget if budget > 0.0 else spent


@kernel
def _spend(
    hardware: Records,
    cuts: Records,
    gain: float,
    decision: Choice,
) -> tuple[float, float]:
    """Delay in s and energy in J of a decision."""
    cut, retained_device, retained_server, power, f_device, f_server = decision
    t_device, tau, t_server, e_device, e_upload, e_server = evaluate(
        hardware, cuts, cut, gain, retained_device, retained_server, power, f_device, f_server
    )
    return t_device + tau + t_server, e_device + e_upload + e_server


@kernel
def keep_decision(
    hardware: Records,
    cuts: Records,
    gain: float,
    delay_budget: float,
    energy_budget: float,
    decision: Choice,
) -> tuple[bool, Choice]:
    """Whether `keep_budgets` changes the decision, and the decision it returns; to be called from compiled code.

    Parameters
    ----------
    hardware, cuts : ndarray
        As in `coinfer_gym.laim.outcome.Tables`.
    gain, delay_budget, energy_budget : float
        As in `keep_budgets`.
    decision : Choice
    """
    given = decision
    decision = fit(cuts, given)
    wanted = decision.cut
    delay, energy = _spend(hardware, cuts, gain, decision)
    if meets(delay, delay_budget) and meets(energy, energy_budget):
        return decision != given, decision
    if not (delay_budget > 0.0 and energy_budget > 0.0):
        return False, given
    span = span_of(hardware, gain)
    ends = price_ends(hardware, gain, span)
    x = 0.5 * (ends[0] + ends[1])
    for k in range(2 * cuts.shape[0]):
        s = wanted - (k + 1) // 2 if k % 2 == 1 else wanted + k // 2  # the cut itself, then one less, one more, ...
        if 0 <= s < cuts.shape[0]:
            found, kept, x = _keep_at(hardware, cuts, s, gain, delay_budget, energy_budget, span, ends, x, decision)
            if found:
                return True, kept
    return False, given


@kernel
def _keep_at(
    hardware: Records,
    cuts: Records,
    s: int,
    gain: float,
    delay_budget: float,
    energy_budget: float,
    span: Span,
    ends: tuple[float, float],
    start: float,
    decision: Choice,
) -> tuple[bool, Choice, float]:
    """Whether cut `s` can be served in budget, the nearest decision there that is, and ``ln(price)`` for the next cut.

    The price that proves one cut infeasible, from which the search starts, mostly proves its neighbour infeasible too.
    """
    h, cut = hardware[0], cuts[s]
    _, rho_device, rho_server, power, f_device, f_server = decision
    rho_device, rho_server = min(rho_device, cut.retained_device_max), min(rho_server, cut.retained_server_max)
    if min(rho_device, rho_server) <= 0.0:
        return False, decision, start
    decision = Choice(s, rho_device, rho_server, power, f_device, f_server)
    delay, energy = _spend(hardware, cuts, gain, decision)
    if meets(delay, delay_budget) and meets(energy, energy_budget):
        return True, decision, start
    low_device, low_server = min(h.retained_device_min, rho_device), min(h.retained_server_min, rho_server)
    share, x = _largest_share(
        hardware,
        cut,
        gain,
        delay_budget,
        energy_budget,
        span,
        ends,
        start,
        (low_device, low_server),
        (rho_device, rho_server),
    )
    if share < 0.0:
        return False, decision, x
    if share < 1.0:
        rho_device = low_device + share * (rho_device - low_device)
        rho_server = low_server + share * (rho_server - low_server)
    else:
        pace = _pace(
            hardware, cut, gain, span, (ends[0], x, ends[1]), (rho_device, rho_server), min(delay, delay_budget), True
        )
        costs = costs_at(math.exp(pace), hardware, cut, gain, span)
        if energy_of(costs, rho_device, rho_server) > energy_budget:
            pace = _pace(hardware, cut, gain, span, (ends[0], x, pace), (rho_device, rho_server), energy_budget, False)
        x = pace
    own = settings_of(h, cut, gain, controls_at(math.exp(x), hardware, gain, span))
    power = own[0] if cut.upload_bits > 0.0 else power
    f_device = own[1] if cut.flops_device > 0.0 else f_device
    f_server = own[2] if cut.flops_server > 0.0 else f_server
    return True, Choice(s, rho_device, rho_server, power, f_device, f_server), x


@kernel
def _largest_share(
    hardware: Records,
    cut: Record,
    gain: float,
    delay_budget: float,
    energy_budget: float,
    span: Span,
    ends: tuple[float, float],
    start: float,
    least: tuple[float, float],
    wanted: tuple[float, float],
) -> tuple[float, float]:
    """How far from the least to the wanted ratios the budgets reach, in [0, 1], and ``ln(price)`` of time there.

    Negative where not even the least ratios fit. As in `coinfer_gym.laim.cut_search`: at any price what both budgets
    are worth together bounds the share from above, and where the bound's delay meets the delay budget it is attained.
    """
    bracket = OPEN
    x, stride = start, 1.0
    for _ in range(200):
        theta = math.exp(x)
        costs = costs_at(theta, hardware, cut, gain, span)
        bound = _share_of_worth(theta, costs, delay_budget, energy_budget, least, wanted)
        if bound < 0.0:
            return -1.0, x
        device, server = _between(least[0], wanted[0], bound), _between(least[1], wanted[1], bound)
        delay, energy = delay_of(costs, device, server), energy_of(costs, device, server)
        if delay <= delay_budget * (1.0 + _CLOSE) and energy <= energy_budget * (1.0 + _CLOSE):
            break
        if bound < 1.0:
            gap = budget_residual(theta, costs, device, server, delay_budget, energy_budget)
        else:  # one budget alone is missed; the other may be unlimited
            gap = delay / delay_budget - 1.0 if delay > delay_budget else 1.0 - energy / energy_budget
        bracket = narrow(bracket, x, gap)
        if bracket.low >= ends[1] or bracket.high <= ends[0] or bracket.high - bracket.low <= _WIDTH:
            break
        if bracket.low == -math.inf or bracket.high == math.inf:
            x = min(ends[1], max(ends[0], x + stride if gap > 0.0 else x - stride))
            stride *= 2.0
        else:
            x = secant(bracket)
    return _share_of_both(costs, delay_budget, energy_budget, least, wanted), x


@kernel
def _between(low: float, high: float, share: float) -> float:
    """Point at a share of the way; exactly `high` at share 1."""
    return high if share >= 1.0 else low + share * (high - low)


@kernel
def _share_of_worth(
    theta: float,
    costs: Costs,
    delay_budget: float,
    energy_budget: float,
    least: tuple[float, float],
    wanted: tuple[float, float],
) -> float:
    """Share that spends what both budgets are worth at a price of time, at most 1; negative where it cannot be 0."""
    start = theta * delay_of(costs, least[0], least[1]) + energy_of(costs, least[0], least[1])
    end = theta * delay_of(costs, wanted[0], wanted[1]) + energy_of(costs, wanted[0], wanted[1])
    worth = theta * delay_budget + energy_budget
    if worth < start:
        return -1.0
    return 1.0 if end <= worth else (worth - start) / (end - start)


@kernel
def _share_of_both(
    costs: Costs,
    delay_budget: float,
    energy_budget: float,
    least: tuple[float, float],
    wanted: tuple[float, float],
) -> float:
    """Share that meets either budget with given clocks and power, at most 1; negative where it cannot be 0."""
    by_delay = _share_of_one(delay_of(costs, least[0], least[1]), delay_of(costs, wanted[0], wanted[1]), delay_budget)
    by_energy = _share_of_one(
        energy_of(costs, least[0], least[1]), energy_of(costs, wanted[0], wanted[1]), energy_budget
    )
    return min(by_delay, by_energy)


@kernel
def _share_of_one(start: float, end: float, budget: float) -> float:
    """Share of the way from `start` to `end` that a budget pays, at most 1; negative where not even the start."""
    if start > budget * (1.0 + _SLACK):
        return -1.0
    return 1.0 if end <= budget else max(0.0, (budget - start) / (end - start))


@kernel
def _pace(
    hardware: Records,
    cut: Record,
    gain: float,
    span: Span,
    bracket: tuple[float, float, float],
    ratios: tuple[float, float],
    target: float,
    of_time: bool,
) -> float:
    """``ln(price)`` of time at which given ratios just take `target` seconds (`of_time`) or joules, from the inside.

    `bracket` is the lowest, a first and the highest ``ln(price)``; an end of it where the target is met beyond. The
    logarithm of a delay is nearly linear in ``ln(price)``, which the secant needs.
    """
    x, seen = bracket[1], Bracket(bracket[0], bracket[2], math.nan, math.nan, 0)
    for _ in range(100):
        costs = costs_at(math.exp(x), hardware, cut, gain, span)
        if of_time:
            gap = math.log(delay_of(costs, ratios[0], ratios[1]) / target)
        else:
            gap = math.log(target / energy_of(costs, ratios[0], ratios[1]))
        if abs(gap) <= _CLOSE and (gap <= 0.0) == of_time:
            return x
        seen = narrow(seen, x, gap)
        if seen.high - seen.low <= _WIDTH:
            break
        if math.isnan(seen.gap_low) or math.isnan(seen.gap_high):
            edge = seen.high if math.isnan(seen.gap_high) else seen.low
            x = edge if abs(edge - x) < 1.0 else x + math.copysign(1.0, edge - x)
        else:
            x = secant(seen)
    return seen.high if of_time else seen.low
