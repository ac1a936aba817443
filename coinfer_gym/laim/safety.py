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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.bracket import OPEN, Bracket, narrow, secant
from coinfer_gym.budgets import meets
from coinfer_gym.laim import spaces
from coinfer_gym.laim.costs import (
    Case,
    Costs,
    budget_residual,
    case_of,
    controls_at,
    costs_at,
    delay_of,
    energy_of,
    price_ends,
    settings_of,
)
from coinfer_gym.laim.outcome import Choice, Tables, choice_of, fit, spend
from coinfer_gym.records import Records, record_type

DECISION = record_type(
    "retained_device", "retained_server", "power", "frequency_device", "frequency_server", cut=np.int64
)
"""One `coinfer_gym.laim.decision.Decision` in a batch."""

Tasks = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Gain, delay budget in s and energy budget in J of many tasks, each of shape (n,)."""

_WIDTH = 1e-12  # of a bracket of ln(price) that needs no further search
_CLOSE = 1e-10  # relative distance from a budget that needs none either: far below the rounding of float32 actions
_SLACK = 1e-7  # relative excess of a budget that this may amount to, a hundredth of what counts as met


def keep_budgets(tables: Tables, tasks: Tasks, actions: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Actions that meet both budgets and differ from the given ones as little as that takes.

    Parameters
    ----------
    tables : Tables
        Constants of P1: ``problem.tables`` or ``scenario.tables``.
    tasks : tuple of ndarray
        As of `coinfer_gym.envs.lanes.Lanes.tasks`.
    actions : ndarray, shape (n, 6)
        Actions of LAIM-v0, without NaN. What lies outside [-1, 1] is clipped.

    Returns
    -------
    kept : ndarray of float32, shape (n, 6)
    changed : ndarray of bool, shape (n,)
        False where the given action meets both budgets, and where none does: what `kept` has there is not needed.
    """
    wanted = np.clip(actions.astype(np.float64), -1.0, 1.0)
    kept, changed = wanted.astype(np.float32), np.zeros(len(wanted), np.bool_)
    _keep_rows(tables, *tasks, wanted, kept, changed)
    return kept, changed


def decisions_that_meet(tables: Tables, tasks: Tasks, decisions: Records) -> NDArray[np.bool_]:
    """Which decisions meet both budgets; the one that comes closest where none does.

    Parameters
    ----------
    tables : Tables
        Constants of P1.
    tasks : tuple of ndarray
        As of `coinfer_gym.envs.lanes.Lanes.tasks`.
    decisions : ndarray of `DECISION`, shape (k,)
        At least one.

    Returns
    -------
    ndarray of bool, shape (n, k)
        At least one is True in each row. The closest has the smallest of the larger of both relative excesses.
    """
    masks = np.empty((len(tasks[0]), len(decisions)), np.bool_)
    _mark_rows(tables, *tasks, decisions, masks)
    return masks


@kernel
def _mark_rows(
    tables: Tables,
    gain: NDArray[np.float64],
    delay_budget: NDArray[np.float64],
    energy_budget: NDArray[np.float64],
    decisions: Records,
    masks: NDArray[np.bool_],
) -> None:
    """Fill the masks of `decisions_that_meet`."""
    for i in range(gain.shape[0]):
        closest, least, none = 0, math.inf, True
        for k in range(decisions.shape[0]):
            delay, energy = spend(tables, gain[i], fit(tables.cuts, choice_of(decisions[k])))
            masks[i, k] = meets(delay, delay_budget[i]) and meets(energy, energy_budget[i])
            none = none and not masks[i, k]
            excess = max(_relative(delay, delay_budget[i]), _relative(energy, energy_budget[i]))
            if excess < least:
                closest, least = k, excess
        if none:
            masks[i, closest] = True


@kernel
def _relative(spent: float, budget: float) -> float:
    """What is spent in units of the budget, or where there is none its bare amount."""
    return spent / budget if budget > 0.0 else spent


@kernel
def _keep_rows(
    tables: Tables,
    gain: NDArray[np.float64],
    delay_budget: NDArray[np.float64],
    energy_budget: NDArray[np.float64],
    wanted: NDArray[np.float64],
    kept: NDArray[np.float32],
    changed: NDArray[np.bool_],
) -> None:
    """Fill what `keep_budgets` returns."""
    for i in range(wanted.shape[0]):
        changed[i] = keep_row(tables, gain[i], delay_budget[i], energy_budget[i], wanted, kept, i)


@kernel
def keep_row(
    tables: Tables,
    gain: float,
    delay_budget: float,
    energy_budget: float,
    wanted: NDArray[np.float64],
    kept: NDArray[np.float32],
    i: int,
) -> bool:
    """Fill row `i` of `kept` with the decision that keeps the budgets; returns whether it is not the wanted one."""
    decision = spaces.decode(tables, wanted, i)
    changed, nearest = keep_decision(tables, gain, delay_budget, energy_budget, decision)
    spaces.write_action(tables, nearest, kept, i)
    if nearest.cut == decision.cut:  # not even its place within the cut's bin moves
        kept[i, 0] = wanted[i, 0]
    return changed


@kernel
def keep_decision(
    tables: Tables, gain: float, delay_budget: float, energy_budget: float, given: Choice
) -> tuple[bool, Choice]:
    """Whether `keep_budgets` changes a decision, and the decision that it takes instead."""
    cuts, decision = tables.cuts, fit(tables.cuts, given)
    wanted = decision.cut
    delay, energy = spend(tables, gain, decision)
    if meets(delay, delay_budget) and meets(energy, energy_budget):
        return decision != given, decision
    if not (delay_budget > 0.0 and energy_budget > 0.0):
        return False, given
    case = case_of(tables, gain, delay_budget, energy_budget)
    ends = price_ends(case)
    x = 0.5 * (ends[0] + ends[1])
    for k in range(2 * cuts.shape[0]):
        s = wanted - (k + 1) // 2 if k % 2 == 1 else wanted + k // 2  # the cut itself, then one less, one more, ...
        if 0 <= s < cuts.shape[0]:
            found, kept, x = _keep_at(case, s, ends, x, decision)
            if found:
                return True, kept
    return False, given


@kernel
def _keep_at(
    case: Case, s: int, ends: tuple[float, float], start: float, decision: Choice
) -> tuple[bool, Choice, float]:
    """Whether cut `s` can be served in budget, the nearest decision there that is, and ``ln(price)`` for the next cut.

    The price that proves one cut infeasible, from which the search starts, mostly proves its neighbour infeasible too.
    """
    h, cut = case.tables.hardware[0], case.tables.cuts[s]
    delay_budget, energy_budget = case.budgets
    _, rho_device, rho_server, power, f_device, f_server = decision
    rho_device, rho_server = min(rho_device, cut.retained_device_max), min(rho_server, cut.retained_server_max)
    if min(rho_device, rho_server) <= 0.0:
        return False, decision, start
    decision = Choice(s, rho_device, rho_server, power, f_device, f_server)
    delay, energy = spend(case.tables, case.gain, decision)
    if meets(delay, delay_budget) and meets(energy, energy_budget):
        return True, decision, start
    low_device, low_server = min(h.retained_device_min, rho_device), min(h.retained_server_min, rho_server)
    share, x = _largest_share(case, s, ends, start, (low_device, low_server), (rho_device, rho_server))
    if share < 0.0:
        return False, decision, x
    if share < 1.0:
        rho_device = low_device + share * (rho_device - low_device)
        rho_server = low_server + share * (rho_server - low_server)
    else:
        ratios = (rho_device, rho_server)
        pace = _pace(case, s, (ends[0], x, ends[1]), ratios, min(delay, delay_budget), True)
        if energy_of(costs_at(math.exp(pace), case, s), rho_device, rho_server) > energy_budget:
            pace = _pace(case, s, (ends[0], x, pace), ratios, energy_budget, False)
        x = pace
    own = settings_of(case, s, controls_at(math.exp(x), case))
    power = own[0] if cut.upload_bits > 0.0 else power
    f_device = own[1] if cut.flops_device > 0.0 else f_device
    f_server = own[2] if cut.flops_server > 0.0 else f_server
    return True, Choice(s, rho_device, rho_server, power, f_device, f_server), x


@kernel
def _largest_share(
    case: Case,
    s: int,
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
    delay_budget, energy_budget = case.budgets
    x, stride = start, 1.0
    for _ in range(200):
        theta = math.exp(x)
        costs = costs_at(theta, case, s)
        bound = _share_of_worth(theta, costs, case.budgets, least, wanted)
        if bound < 0.0:
            return -1.0, x
        device, server = _between(least[0], wanted[0], bound), _between(least[1], wanted[1], bound)
        delay, energy = delay_of(costs, device, server), energy_of(costs, device, server)
        if delay <= delay_budget * (1.0 + _CLOSE) and energy <= energy_budget * (1.0 + _CLOSE):
            break
        if bound < 1.0:
            gap = budget_residual(theta, costs, device, server, case.budgets)
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
    by_delay = _share_of_one(delay_of(costs, least[0], least[1]), delay_of(costs, wanted[0], wanted[1]), delay_budget)
    start, end = energy_of(costs, least[0], least[1]), energy_of(costs, wanted[0], wanted[1])
    return min(by_delay, _share_of_one(start, end, energy_budget)), x  # with the clocks and the power of this price


@kernel
def _between(low: float, high: float, share: float) -> float:
    """Point at a share of the way; exactly `high` at share 1."""
    return high if share >= 1.0 else low + share * (high - low)


@kernel
def _share_of_worth(
    theta: float, costs: Costs, budgets: tuple[float, float], least: tuple[float, float], wanted: tuple[float, float]
) -> float:
    """Share that spends what both budgets are worth at a price of time, at most 1; negative where it cannot be 0."""
    start = theta * delay_of(costs, least[0], least[1]) + energy_of(costs, least[0], least[1])
    end = theta * delay_of(costs, wanted[0], wanted[1]) + energy_of(costs, wanted[0], wanted[1])
    worth = theta * budgets[0] + budgets[1]
    if worth < start:
        return -1.0
    return 1.0 if end <= worth else (worth - start) / (end - start)


@kernel
def _share_of_one(start: float, end: float, budget: float) -> float:
    """Share of the way from `start` to `end` that a budget pays, at most 1; negative where not even the start."""
    if start > budget * (1.0 + _SLACK):
        return -1.0
    return 1.0 if end <= budget else max(0.0, (budget - start) / (end - start))


@kernel
def _pace(
    case: Case,
    s: int,
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
        costs = costs_at(math.exp(x), case, s)
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
