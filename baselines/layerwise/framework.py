"""The optimization framework of Mu et al. (Sec. V): four parts, each of which can be replaced, find the best design.

- Parameters generator: `ParametersGenerator` (of `baselines.layerwise.designs`), from the unit cube to designs.
  What a scheme does not decide is fixed in it, so that a scheme of fewer decisions is a generator.
- Accuracy predictor: that of the problem (`coinfer_gym.layerwise.predictor.RegressionPredictor`).
- Delay calculator: `DELAY_CALCULATOR` (eq. 2 to eq. 5), or `ENERGY_CALCULATOR`, which Sec. V-C names instead of it.
- Optimizer: any of `baselines.optimizers.OPTIMIZERS`, among them Algorithm 1 as printed (``quantum_printed``) and as
  its authors' later code has it (``quantum_mqhoa``, ``quantum_mqhoa_5``), for which the cut is a variable like all
  others; or what is proposed here, `baselines.layerwise.edges.search_edges`. None starts from a design that another
  scheme has chosen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from baselines.layerwise.designs import (
    DELAY_CALCULATOR,
    Calculator,
    DesignSearch,
    ParametersGenerator,
    check_accuracy,
)
from baselines.layerwise.edges import search_edges
from coinfer_gym.checks import check_whole
from coinfer_gym.layerwise.problem import LayerwiseProblem, LayerwiseSolution

__all__ = ["Chosen", "Framework", "Optimizer"]

Floats = NDArray[np.float64]
Optimizer = Callable[[DesignSearch, int, int], OptimizeResult]
"""From a search, a number of evaluations that it must not exceed, and a seed to a result as of `minimize_quantum`."""


@dataclass(frozen=True)
class Chosen:
    """Design that a scheme chose, and what the search cost.

    Attributes
    ----------
    name : str
        Name of the scheme.
    solution : LayerwiseSolution
    evaluations : int
        Designs evaluated, including rejected ones.
    seconds : float
        Wall-clock time.
    history : tuple of (ndarray, ndarray)
        Evaluations at each improvement within the limits, and the objective there; empty for schemes without a search.
    """

    name: str
    solution: LayerwiseSolution
    evaluations: int
    seconds: float
    history: tuple[NDArray[np.int64], Floats] = field(default_factory=lambda: (np.empty(0, np.int64), np.empty(0)))


@dataclass(frozen=True)
class Framework:
    """The four parts put together.

    Attributes
    ----------
    generator : callable
        From a problem to its `ParametersGenerator`.
    calculator : Calculator
    optimizer : callable
        See `Optimizer`.
    evaluations : int
        Designs that the optimizer looks at at most.
    name : str
        Under which the result goes.
    """

    generator: Callable[[LayerwiseProblem], ParametersGenerator] = ParametersGenerator
    calculator: Calculator = DELAY_CALCULATOR
    optimizer: Optimizer = search_edges
    evaluations: int = 100_000
    name: str = "Proposed"

    def optimize(self, problem: LayerwiseProblem, seed: int = 0) -> Chosen:
        """The best design found.

        Raises
        ------
        InvalidInputError
            If no design found is accurate enough, or the seed is no whole number of at least 0.
        """
        seed = check_whole("seed", seed, 0)
        began = time.perf_counter()
        search = DesignSearch(problem, self.generator(problem), self.calculator)
        result = self.optimizer(search, self.evaluations, seed)
        row = search.rows(result.x[:, None])[0]
        solution = check_accuracy(problem, self.name, problem.evaluate(problem.decision(row)))
        return Chosen(self.name, solution, int(result.nfev), time.perf_counter() - began, result.history)
