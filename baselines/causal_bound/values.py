"""The relative value of the queue at a decision: value iteration whose expectations are integrals, not samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm
from scipy.stats import binom

from baselines.quality_grid import fastest_delay
from baselines.stochastic.arrivals import Process, arrival_process
from baselines.stochastic.model import gain_chain, gain_paths
from coinfer_gym import solve_exact_batch
from coinfer_gym.laim.scenario import Scenario

Floats = NDArray[np.float64]

_CELLS = 50  # of the delay budget
_COUNTS = 7  # tasks behind the head, from 0
_GAINS = 12
_SWEEPS, _SPAN = 300, 1e-4
_POINTS = 6  # of a quadrature within a cell


class Values(NamedTuple):
    """Relative value of a decision, up to a constant.

    The first axis is the phase of the arrivals, calm or burst, taken as known.
    """

    log_gains: Floats
    ages: Floats  # in s
    head: Floats  # shape (2, gains, ages, ages, counts): age of the head, age of the next, tasks behind the head
    rate: float  # quality per task
    process: Process


def generator(process: Process, counts: int) -> Floats:
    """Rates at which (arrivals so far, phase) change, shape (2 counts, 2 counts); the last count stays."""
    turn = np.array([[-process.leave_calm, process.leave_calm], [process.leave_burst, -process.leave_burst]])
    rates = np.diag([process.calm, process.burst])
    out = np.zeros((counts, 2, counts, 2))
    for n in range(counts - 1):
        out[n, :, n], out[n, :, n + 1] = turn - rates, rates
    out[-1, :, -1] = turn
    return out.reshape(2 * counts, 2 * counts)


def arrive_within(process: Process, seconds: float) -> Floats:
    """Chances that a task comes within some seconds, by the phase now and at the first arrival."""
    quiet = generator(process, 2)[:2, :2]
    within = np.linalg.solve(quiet, expm(quiet * seconds) - np.eye(2))
    return np.asarray(within @ np.diag([process.calm, process.burst]), np.float64)


def solve_values(scenario: Scenario) -> Values:
    """Relative value iteration; services take whole cells, and ages that are not looked at are uniform."""
    process = arrival_process(scenario)
    log_gains, chain = gain_chain(gain_paths(scenario), _GAINS)
    gains, cells, counts = len(log_gains), _CELLS, _COUNTS
    step = scenario.delay_budget / cells
    problem, levels = scenario.problem(1.0), np.exp(log_gains)
    rows = solve_exact_batch(problem, levels[:, None], np.maximum(step * np.arange(cells + 1), 1e-9))
    quality = np.where(rows["reason"] == 0, rows["quality"], 0.0)
    give_up = np.minimum(np.ceil(fastest_delay(problem, levels) / step).astype(int), cells)
    moves, none, first = _arrivals(process, step)
    oldest = _oldest(cells, counts)
    crossed = np.minimum(1.0, step * np.arange(cells + 1) / scenario.block_duration)
    to_idle = _until_next(process, chain[1], scenario.block_duration)
    older, younger = np.tril_indices(cells + 1)
    number, nodes = np.arange(counts), np.arange(cells + 1)
    value, rate = np.zeros((2, counts, gains, cells + 1, cells + 1)), 0.0
    for _ in range(_SWEEPS):
        idle = (to_idle @ value[:, 0, :, 0, 0].ravel()).reshape(2, gains)
        by_count = np.ascontiguousarray(value.transpose(1, 0, 2, 3, 4)).reshape(2 * counts, gains, cells + 1, -1)
        # a newcomer behind a head, after j cells
        second = [np.tensordot(moves[j].reshape(2, counts, -1)[:, 1], by_count[..., j], 1) for j in nodes]
        alone = np.empty((cells + 1, 2, gains, cells + 1))  # only a head, by its age at the end
        best, new = np.full((2, counts, gains, cells + 1), -np.inf), np.empty_like(value)
        given_up = np.empty((2, counts, gains, cells + 1))
        for j in nodes:
            left = cells - j
            alone[j] = np.tensordot(none[j], value[:, 0, :, :, 0], 1)
            coming = none[j] @ idle
            for k in range(j):
                alone[j] += np.tensordot(first[k], 0.5 * (second[j - k] + second[j - k - 1]), 1)
                youngest = 0.5 * (alone[j - k][:, :, j - k] + alone[j - k - 1][:, :, j - k - 1]) if k else 0.0
                coming = coming + (first[k] @ youngest if k else 0.0)
            if j:
                coming = coming + first[0] @ (0.5 * (alone[j][:, :, j] + alone[j - 1][:, :, j - 1]))
            moved = np.tensordot(moves[j], by_count[:, :, j:, j:], 1).reshape(2, counts, gains, left + 1, left + 1)
            behind = np.einsum("pngyz,nyz->pngy", moved, oldest[:, : left + 1, : left + 1])
            behind[:, 0] = alone[j][:, :, j:]
            ahead = np.empty((2, counts, gains, cells + 1))
            ahead[:, 0] = coming[:, :, None] - rate
            ahead[:, 1:, :, : left + 1] = behind[:, :-1] - rate
            if left < cells:
                some = np.stack(
                    [coming, *(behind[:, k - 1] @ oldest[k, left, : left + 1] for k in range(1, counts))], axis=1
                )
                some += rate * number[None, :, None]
                share = left / nodes[left + 1 :]
                stay = binom.pmf(number[None, None, :], number[None, :-1, None], share[:, None, None])
                ahead[:, 1:, :, left + 1 :] = np.einsum("ank,pkg->pnga", stay, some)
                ahead[:, 1:, :, left + 1 :] -= rate * (1 + number[1:, None, None])
            ahead = (1.0 - crossed[j]) * ahead + crossed[j] * np.einsum("gf,pnfa->pnga", chain[1], ahead)
            best = np.maximum(best, ahead + quality[:, j, None])
            new[:, :, :, left] = best
            given_up[:, :, give_up == j] = ahead[:, :, give_up == j]
        new = np.maximum(new, given_up[:, :, :, None])
        change = (new - value)[:, :, :, older, younger]
        rate += 0.5 * float(change.max() + change.min())
        value = new - new[0, 0, gains // 2, 0, 0]
        if change.max() - change.min() < _SPAN:
            break
    ages = np.linspace(0.0, scenario.delay_budget, cells + 1)
    return Values(log_gains, ages, value.transpose(0, 2, 3, 4, 1), rate, process)


def _arrivals(process: Process, step: float) -> tuple[list[Floats], list[Floats], list[Floats]]:
    """By a number of cells: what arrivals make of (phase, waiting), the phase if none comes, the first one after it."""
    rates = generator(process, _COUNTS)
    moves, none, first = [], [], []
    within = arrive_within(process, step)
    for j in range(_CELLS + 1):
        come = expm(rates * step * j)[:2].reshape(2, _COUNTS, 2)
        move = np.zeros((2, _COUNTS, _COUNTS, 2))
        for n in range(_COUNTS):
            for k in range(_COUNTS):
                move[:, n, min(n + k, _COUNTS - 1)] += come[:, k]
        moves.append(move.reshape(2 * _COUNTS, 2 * _COUNTS))
        none.append(come[:, 0])
        first.append(come[:, 0] @ within)
    return moves, none, first


def _oldest(cells: int, counts: int) -> Floats:
    """Oldest of so many uniform ages up to `y`, shared out among nodes: shape (counts, y, nodes)."""
    out = np.zeros((counts, cells + 1, cells + 1))
    out[:, 0, 0] = 1.0
    x, w = np.polynomial.legendre.leggauss(_POINTS)
    x, w = 0.5 * (x + 1.0), 0.5 * w
    for k in range(1, counts):
        for y in range(1, cells + 1):
            density = k * ((np.arange(y)[:, None] + x) / y) ** (k - 1) / y * w
            out[k, y, :y] += (density * (1.0 - x)).sum(axis=1)
            out[k, y, 1 : y + 1] += (density * x).sum(axis=1)
    return out


def _until_next(process: Process, chain: Floats, block: float) -> Floats:
    """From (phase, gain) of an idle device to those at the next arrival; where in a block it idles is not known."""
    gains, tick = len(chain), 0.25 * block
    quiet = generator(process, 2)[:2, :2]
    stay = np.kron(expm(quiet * tick), 0.75 * np.eye(gains) + 0.25 * chain)
    come = np.kron(arrive_within(process, tick), np.eye(gains))
    found: Floats = np.linalg.solve(np.eye(2 * gains) - stay, come)
    return found
