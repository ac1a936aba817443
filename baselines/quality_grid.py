"""Best quality on a grid of gains and budgets: what planning rules look up, interpolated without a proven bound."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coinfer_gym import Decision, GainBelief, Problem, solve_exact_batch, solve_robust
from coinfer_gym._compile import kernel
from coinfer_gym.laim.optimum import SOLUTION
from coinfer_gym.laim.outcome import Choice, Tables, choice_of, evaluate, spend

__all__ = ["QualityGrid", "build_grid", "build_robust_grid", "fastest_delay", "locate"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class QualityGrid:
    """The optimum of P1 (Lyu et al., eq. 44) on a grid of n gains, m delay budgets and e energy budgets."""

    log_gains: Floats  # increasing
    delays: Floats  # delay budgets in s
    energies: Floats  # energy budgets in J
    quality: Floats  # shape (n, m, e): 0 where the budgets cannot be met
    # shape (n, m, e): what the device spends in J, upload included; at its fastest where nothing is within
    device_energy: Floats
    fastest: Floats  # least time in s that any decision takes at a gain

    def at(self, gain: float) -> tuple[Floats, Floats]:
        """Quality and energy of the device at a gain, each of shape (m, e)."""
        i, share = locate(self.log_gains, math.log(gain))
        j = min(i + 1, len(self.log_gains) - 1)
        quality = (1.0 - share) * self.quality[i] + share * self.quality[j]
        return quality, (1.0 - share) * self.device_energy[i] + share * self.device_energy[j]


def locate(axis: Floats, value: float) -> tuple[int, float]:
    """Lower neighbour of a value on an increasing axis and the share of the upper one; the ends hold beyond."""
    if len(axis) == 1:
        return 0, 0.0
    x = min(max(value, float(axis[0])), float(axis[-1]))
    i = min(int(np.searchsorted(axis, x, side="right")) - 1, len(axis) - 2)
    return i, float((x - axis[i]) / (axis[i + 1] - axis[i]))


def build_grid(problem: Problem, gains: ArrayLike, delays: ArrayLike, energies: ArrayLike | None = None) -> QualityGrid:
    """Tabulate the optimum of P1 for increasing gains, delay budgets in s and energy budgets in J, or only its own."""
    g, t = np.asarray(gains, np.float64), np.asarray(delays, np.float64)
    e = np.array([problem.energy_budget]) if energies is None else np.asarray(energies, np.float64)
    rows = solve_exact_batch(problem, g[:, None, None], t[:, None], e)
    spent = np.empty(rows.shape)
    each = np.ascontiguousarray(np.broadcast_to(g[:, None, None], rows.shape))
    _fill_device_energy(problem.tables, each, rows, spent)
    quality = np.where(rows["reason"] == 0, rows["quality"], 0.0)
    return QualityGrid(np.log(g), t, e, quality, spent, fastest_delay(problem, g))


def build_robust_grid(
    problem: Problem, belief: GainBelief, gains: ArrayLike, delays: ArrayLike, energies: ArrayLike
) -> QualityGrid:
    """As `build_grid`, for observed gains: what `solve_robust` lets expect, and the energy at its threshold."""
    g, t, e = (np.asarray(axis, np.float64) for axis in (gains, delays, energies))
    rows = np.zeros((len(g), len(t), len(e)), SOLUTION)
    quality, threshold, spent = np.zeros((3, *rows.shape))
    posed = [[replace(problem, delay_budget=float(T), energy_budget=float(E)) for E in e] for T in t]
    for i, gain in enumerate(g):
        posterior = belief.given(float(gain))
        for k, j in np.ndindex(len(t), len(e)):
            solution = solve_robust(posed[k][j], posterior)
            quality[i, k, j], threshold[i, k, j] = solution.expected_quality, solution.threshold
            for name in Decision.__dataclass_fields__:
                rows[name][i, k, j] = getattr(solution, name)
    _fill_device_energy(problem.tables, threshold, rows, spent)
    return QualityGrid(np.log(g), t, e, quality, spent, fastest_delay(problem, g))


def fastest_delay(problem: Problem, gains: Floats) -> Floats:
    """Least time in s that any decision takes at each gain: the smallest ratios at the highest clocks and power."""
    fastest = np.empty(len(gains))
    _fill_fastest(problem.tables, gains, fastest)
    return fastest


@kernel
def _fill_fastest(tables: Tables, gains: Floats, out: Floats) -> None:
    h = tables.hardware[0]
    ratios = (h.retained_device_min, h.retained_server_min)
    controls = (h.power_max, h.frequency_device_max, h.frequency_server_max)
    for i in range(gains.shape[0]):
        out[i] = math.inf
        for s in range(tables.cuts.shape[0]):
            out[i] = min(out[i], spend(tables, gains[i], Choice(s, *ratios, *controls))[0])


@kernel
def _fill_device_energy(tables: Tables, gains: Floats, rows: NDArray[np.void], out: Floats) -> None:
    for i in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            for j in range(rows.shape[2]):
                _, _, _, e_device, e_upload, _ = evaluate(tables, gains[i, k, j], choice_of(rows[i, k, j]))
                out[i, k, j] = e_device + e_upload
