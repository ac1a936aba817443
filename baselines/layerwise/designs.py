"""Designs of a network as points that a search can move in (Mu et al., Sec. V): what is decided, and what is judged.

Power and clock are no variables: at a given design the fastest ones within the energy budget are known
(`coinfer_gym.layerwise.optimum.solve_rows`); without a budget, as in the paper, these are the largest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.box import Box
from baselines.optimizers import SearchProblem
from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise.designs import COMPRESSION, POWER, make_designs
from coinfer_gym.layerwise.optimum import solve_rows
from coinfer_gym.layerwise.problem import LayerwiseProblem, LayerwiseSolution, Outcomes

__all__ = ["DELAY_CALCULATOR", "ENERGY_CALCULATOR", "Calculator", "DesignSearch", "ParametersGenerator", "select_best"]

Floats = NDArray[np.float64]

CODEC_SHARE = 0.9
"""Part of the unit range in which the feature is compressed; in the rest there is no codec."""

LEAST_INACCURATE = 1.0
"""How far a design misses the limits that is not accurate enough, at least; all others miss them by less."""

_CEILING = 1e6
"""More seconds, and more joules, than any task takes."""


class Calculator(NamedTuple):
    """What of a design's outcomes is minimised, and what is limited by a budget.

    Attributes
    ----------
    objective : callable
        From `Outcomes` to an array of shape (n,).
    limited : tuple of str
        Those of ``delay`` and ``energy`` that the problem's budgets limit. A minimised one need not be among them:
        where its least value exceeds the budget, nothing meets it.
    """

    objective: Callable[[Outcomes], Floats]
    limited: tuple[str, ...]


DELAY_CALCULATOR = Calculator(attrgetter("delay"), ("energy",))
ENERGY_CALCULATOR = Calculator(attrgetter("energy"), ("delay",))


class ParametersGenerator:
    """Designs from points of mixed variables.

    The mapping factor brings every variable to [0, 1]: a retained ratio linearly from the least one, the compression
    by its logarithm from one channel of the widest group, since ratios of sizes matter; `CODEC_SHARE` of its range is
    with a codec. The cut is a whole number and the first of the variables, where there is more than one. Designs have
    the nearest whole channels, so that points of the same network are the same to a search.

    Parameters
    ----------
    problem : LayerwiseProblem
    prune, compress : bool
        Whether ratios and compression are free; fixed at 1 where not.

    Attributes
    ----------
    box : Box
        Bounds of the free variables.
    cuts : range
        Those that the problem allows.

    Raises
    ------
    InvalidInputError
        If nothing is left free.
    """

    def __init__(self, problem: LayerwiseProblem, *, prune: bool = True, compress: bool = True) -> None:
        self.cuts = problem.allowed_cuts
        if not (prune or compress or len(self.cuts) > 1):
            raise InvalidInputError("cuts", problem.cuts, "Leave the cut, the ratios or the compression free.")
        self._problem, self._prune, self._compress = problem, prune, compress
        self._retained_min = problem.retained_min
        self._channels = [group.channels for group in problem.network.groups]
        self._log_least = -math.log(max(self._channels))
        self._groups_sent = problem.network.tables.cuts["group"]
        whole = [True] * (len(self.cuts) > 1) + [False] * (len(self._channels) * prune + compress)
        self.box = Box([(self.cuts[0], self.cuts[-1]) if each else (0.0, 1.0) for each in whole], whole)

    def at(self, cut: int) -> ParametersGenerator:
        """The generator of one of its cuts."""
        if len(self.cuts) == 1:
            return self
        return type(self)(replace(self._problem, cuts=(cut, cut)), prune=self._prune, compress=self._compress)

    def designs(self, points: Floats) -> Floats:
        """Designs of points: shape (S, G + 4) for (n, S); power and clock are NaN."""
        ratios = self._unpruned_at(points[0] if len(self.cuts) > 1 else np.full(points.shape[1], self.cuts[0]))
        if self._prune:
            first = int(len(self.cuts) > 1)
            places = points[first : first + len(self._channels)].T
            ratios[:, 1:COMPRESSION] = self._retained_min + places * (1.0 - self._retained_min)
        if self._compress:
            shares = np.exp(self._log_least * (1.0 - points[-1] / CODEC_SHARE))
            ratios[:, COMPRESSION] = np.where(points[-1] < CODEC_SHARE, shares, 1.0)
        return make_designs(self._problem.network, ratios)

    def unpruned(self) -> Floats:
        """The network as it is at each cut, shape (C, G + 4); power and clock are NaN."""
        return make_designs(self._problem.network, self._unpruned_at(np.array(self.cuts)))

    def compressed(self) -> Floats:
        """The unpruned network at each cut with every codec, or with none; shape (n, G + 4), as `unpruned`."""
        ratios = []
        for cut in self.cuts:
            group = int(self._groups_sent[cut])
            channels = self._channels[group - 1] if group and self._compress else 1
            ratios.append(self._unpruned_at(np.full(channels, cut)))
            ratios[-1][:, COMPRESSION] = np.arange(1, channels + 1) / channels
        return make_designs(self._problem.network, np.concatenate(ratios))

    def _unpruned_at(self, cuts: NDArray[Any]) -> Floats:
        """Ratios of the network as it is at some cuts; power and clock are NaN."""
        ratios = np.ones((len(cuts), len(self._channels) + 4))
        ratios[:, 0], ratios[:, POWER:] = cuts, math.nan
        return ratios


class DesignSearch(SearchProblem):
    """A problem as a search over the points of a generator."""

    def __init__(self, problem: LayerwiseProblem, generator: ParametersGenerator, calculator: Calculator) -> None:
        super().__init__(self._objective, generator.box, self._excess, _CEILING)
        self._problem, self._generator, self._calculator = problem, generator, calculator

    @property
    def cuts(self) -> range:
        """The cuts that are searched."""
        return self._generator.cuts

    def at(self, cut: int) -> DesignSearch:
        """The search of one cut, of which the cut is no variable."""
        return DesignSearch(self._problem, self._generator.at(cut), self._calculator)

    def rows(self, points: Floats) -> Floats:
        """Designs that points, shape (n, S), stand for, with power and clock; shape (S, G + 4)."""
        return complete(self._problem, self._generator.designs(points))

    def assess(self, points: Floats) -> tuple[Floats, Floats]:
        """Objective of points, shape (n, S), and how far each misses the limits, as the function of that name."""
        return assess(self._problem, self.rows(points), self._calculator)

    def _objective(self, points: Floats) -> Floats:
        return self.assess(points)[0]

    def _excess(self, points: Floats) -> Floats:
        return self.assess(points)[1]


def complete(problem: LayerwiseProblem, rows: Floats) -> Floats:
    """The rows with the fastest power and clock within the energy budget."""
    if math.isinf(problem.energy_budget):
        rows[:, POWER:] = problem.power_max, problem.frequency_device_max
        return rows
    return solve_rows(problem, rows)


def assess(problem: LayerwiseProblem, rows: Floats, calculator: Calculator) -> tuple[Floats, Floats]:
    """Objective of complete designs, and how far each misses the limits; 0 within them.

    Accurate designs over a budget miss by less than 1, others by 1 (`LEAST_INACCURATE`) and the accuracy missing: what
    misses by least is accurate if anything is. A budget's excess up to `coinfer_gym.budgets.BUDGET_TOLERANCE` counts as
    rounding.
    """
    outcomes = problem.evaluate(rows)
    excesses = np.zeros(len(rows))
    for name in calculator.limited:
        budget = getattr(problem, f"{name}_budget")
        if budget < math.inf:
            spent = getattr(outcomes, name)
            over = np.where(spent > budget * (1.0 + BUDGET_TOLERANCE), 1.0 - budget / spent, 0.0)
            excesses = np.maximum(excesses, over)
    missing = problem.accuracy_min - outcomes.accuracy
    return calculator.objective(outcomes), np.where(missing > 0.0, LEAST_INACCURATE + missing, excesses)


def select_best(problem: LayerwiseProblem, designs: Floats) -> Floats:
    """Fastest row within the limits of some designs, shape (n, G + 4), whose power and clock it sets.

    The first of equals; if none is within the limits, the one with the smallest excess.
    """
    rows = complete(problem, designs)
    values, excesses = assess(problem, rows, DELAY_CALCULATOR)
    best = np.lexsort((values, excesses))[0]
    return np.asarray(rows[best])


def check_accuracy(problem: LayerwiseProblem, name: str, solution: LayerwiseSolution) -> LayerwiseSolution:
    """The solution; raises `InvalidInputError` if it is not accurate enough."""
    if solution.accuracy < problem.accuracy_min:
        raise InvalidInputError(
            "accuracy_min",
            problem.accuracy_min,
            f"{name} found no design that is predicted to reach it; the best one found has {solution.accuracy:.4f}.",
        )
    return solution
