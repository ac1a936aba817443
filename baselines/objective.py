"""The qualities as concave objectives of the two retained ratios, for the convex solvers.

Each quality is a non-decreasing function of one of four concave forms, so that both have the same best decision:

- ``linear``: ``w_d rho_d + w_s rho_s``. The rate-distortion bound and the joint parallel bound only see the bits kept,
  random pruning is linear by itself.
- ``magnitude``: ``sum_i w_i (rho_i - rho_i ln rho_i)``, one entropy cone per side.
- ``threshold``: ``sum_j w_j (k_j - k_j ln k_j)`` over the blocks' own ratios `k_j`, whose weights add up to what
  their side keeps. Its optimum over the `k_j` is one threshold for the side: ``k_j = exp(-lambda_j theta)``.
- ``parallel``: ``-ln sum_j exp(ln(N_j / (lambda_j D_0)) - m_j)`` with `m_j` the nats that each weight of a block gets
  of its side's rate: reverse water-filling in logarithms, since distortions span a factor ``2^b``.
"""

from __future__ import annotations

import math
from typing import Any

import cvxpy as cp
import numpy as np

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim import distortion as dst
from coinfer_gym.laim.decision import Solution
from coinfer_gym.laim.problem import Problem

_atoms: Any = cp.atoms  # functions that carry no types

_FORMS = {
    "rate_distortion": "linear",
    "parallel_laplacian_joint": "linear",
    "random_pruning": "linear",
    "magnitude_pruning": "magnitude",
    "magnitude_threshold": "threshold",
    "parallel_laplacian": "parallel",
}

_LN2 = math.log(2.0)
_UNIT_BITS = 32.0
_UNIT = _UNIT_BITS * _LN2
"""Nats to which logarithms of distortion are scaled: those of a 32-bit parameter."""


def objective_form(problem: Problem) -> str:
    """Which of the four forms the problem's quality takes.

    Raises
    ------
    InvalidInputError
        If it has none: a measured accuracy need not be concave.
    """
    if problem.quality not in _FORMS:
        raise InvalidInputError(
            "quality",
            problem.quality,
            "The convex solvers need a formula: take coinfer_gym.solve_exact or a search, or solve for one of "
            f"{', '.join(_FORMS)} and evaluate the decision.",
        )
    return _FORMS[problem.quality]


class Objective:
    """One form of `objective_form`, built on two affine ratio expressions; its parameters are set per problem and cut.

    `expression` is concave and to be maximised, `constraints` tie the form's own variables to the ratios.
    """

    def __init__(
        self,
        form: str,
        blocks: int,  # that have prunable weights; only ``threshold`` and ``parallel`` look at it
        holds: tuple[bool, bool],  # whether device and server hold prunable weights
        ratios: tuple[cp.Expression, cp.Expression],
    ) -> None:
        self.form = form
        self.constraints: list[cp.Constraint] = []
        self._weights = cp.Parameter(2, nonneg=True)
        if form == "linear":
            self.expression = self._weights[0] * ratios[0] + self._weights[1] * ratios[1]
        elif form == "magnitude":
            kept = [ratio + _atoms.entr(ratio) for ratio in ratios]
            self.expression = self._weights[0] * kept[0] + self._weights[1] * kept[1]
        else:
            self._build_blocks(blocks, holds, ratios)

    def _build_blocks(self, blocks: int, holds: tuple[bool, bool], ratios: tuple[cp.Expression, cp.Expression]) -> None:
        shares = cp.Variable(blocks, nonneg=True)
        self._members = cp.Parameter((2, blocks), nonneg=True)
        for side in (0, 1):
            if holds[side]:
                self.constraints.append(self._members[side] @ shares <= self._weights[side] * ratios[side])
        if self.form == "threshold":
            self._scales = cp.Parameter(blocks, nonneg=True)
            self.expression = self._scales @ (shares + _atoms.entr(shares))
        else:
            self._scales = cp.Parameter(blocks)
            self.expression = -_atoms.log_sum_exp(self._scales - _UNIT * shares) / _UNIT

    def set(self, problem: Problem, cut: int) -> None:
        """Set the parameters to a problem and a cut."""
        row = problem.tables.cuts[cut]
        if self.form == "magnitude" or problem.quality == "random_pruning":
            weights = np.array([row["scale_device"], row["scale_server"]])
        else:
            weights = np.array([row["prunable_device"], row["prunable_server"]])
        self._weights.value = weights / weights.sum()
        if self.form in ("threshold", "parallel"):
            self._set_blocks(problem, cut)

    def _set_blocks(self, problem: Problem, cut: int) -> None:
        weights, rates = problem.tables.blocks.T[:2]
        on_device = np.arange(len(weights)) < cut
        held = weights > 0.0
        members = np.stack([weights * on_device, weights * ~on_device])[:, held]
        scales = (weights / rates)[held]
        total = weights.sum()
        if self.form == "threshold":
            self._members.value = members / total
            self._scales.value = scales / scales.sum()
        else:
            # shares are in units of 32 bits per weight, whatever a parameter's own bits
            self._members.value = members / total * (_UNIT_BITS / problem.parameter_bits)
            self._scales.value = np.log(scales / scales.sum())


def quality_of(problem: Problem, cut: int, value: float) -> float:
    """Quality, in the problem's own scale, at a value of `Objective.expression` or a bound on it."""
    if problem.quality not in dst.BOUNDS:
        return value
    quality = problem.tables.quality[0]
    log_zero = float(quality["log_distortion_zero"])
    if problem.quality == "rate_distortion":
        log_distortion = log_zero - value * problem.parameter_bits * _LN2
    elif problem.quality == "parallel_laplacian":
        log_distortion = log_zero - value * _UNIT
    else:
        blocks = problem.tables.blocks
        rate_bits = value * problem.parameter_bits * float(quality["prunable"])
        log_distortion = math.log(dst.parallel_distortion(rate_bits, blocks, 0, len(blocks)))
    return _quality_at(problem, cut, log_distortion, bool(quality["log_scale"]))


def own_scale_quality(problem: Problem, solution: Solution) -> float:
    """Quality on the scale on which it is not flat: the logarithm for the bounds, the linear one for the others."""
    if problem.quality not in dst.BOUNDS or problem.quality_scale != "linear":
        return solution.quality
    return _quality_at(problem, solution.cut, math.log(solution.distortion), log_scale=True)


def _quality_at(problem: Problem, cut: int, log_distortion: float, log_scale: bool) -> float:
    log_zero = float(problem.tables.quality[0]["log_distortion_zero"])
    fall, span = log_zero - log_distortion, log_zero - math.log(float(problem.tables.cuts[cut]["distortion_full"]))
    return fall / span if log_scale else math.expm1(-fall) / math.expm1(-span)
