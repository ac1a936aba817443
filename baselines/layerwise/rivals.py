"""The schemes that Mu et al. compare their framework with (Sec. VI-B): each chooses a design of a problem.

All choose among the cuts that the problem allows, except All_Local and All_Server, which stand at the ends, and must be
accurate enough by the predictor. An auto-selection scheme is an exhaustive search of a grid, so that a scheme loses by
its restrictions and not by its search.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from baselines.layerwise.cia import cia
from baselines.layerwise.designs import ParametersGenerator, check_accuracy, select_best
from baselines.layerwise.framework import Chosen, Framework
from coinfer_gym.layerwise.designs import POWER, make_designs
from coinfer_gym.layerwise.predictor import (
    RegressionPredictor,
    load_regression_predictor,
    shipped_regression_predictors,
)
from coinfer_gym.layerwise.problem import LayerwiseProblem

__all__ = [
    "RIVALS",
    "all_local",
    "all_server",
    "bottlenet",
    "cia",
    "fpgm",
    "fpgm_predictor",
    "neurosurgeon",
    "proposed",
    "prune_partition",
    "two_step_pruning",
]

Floats = NDArray[np.float64]

LEVELS = 46
"""Retained ratios of an auto-selection scheme: steps of 0.02 where the least one is 0.1."""

EVALUATIONS = 1_200_000
"""Designs that the schemes look at at most which set ratios layer by layer: about two seconds."""


def all_local(problem: LayerwiseProblem, seed: int = 0) -> Chosen:
    """The whole unpruned network on the device."""
    return _select("All_Local", problem, lambda: _unpruned(problem, problem.network.cuts - 1))


def all_server(problem: LayerwiseProblem, seed: int = 0) -> Chosen:
    """The whole unpruned network on the server, to which the image is sent."""
    return _select("All_Server", problem, lambda: _unpruned(problem, 0))


def neurosurgeon(problem: LayerwiseProblem, seed: int = 0) -> Chosen:
    """The unpruned network at its best cut."""
    return _select("Neurosurgeon", problem, ParametersGenerator(problem).unpruned)


def prune_partition(problem: LayerwiseProblem, seed: int = 0) -> Chosen:
    """Retained ratios layer by layer and the cut, without a codec, by the optimizer of `proposed`."""
    return _search("Prune_Partition", problem, seed, compress=False)


def two_step_pruning(problem: LayerwiseProblem, seed: int = 0) -> Chosen:
    """One retained ratio for the network, then at most as large a one for the group that leaves the cut (Shi et al.).

    Both are of the same grid. A cut that hands on no group, as its two ends, has one step only.
    """

    def designs() -> Floats:
        levels = np.linspace(problem.retained_min, 1.0, LEVELS)
        first, second = levels[np.array(np.tril_indices(LEVELS))]
        rows = []
        for cut in problem.allowed_cuts:
            group = int(problem.network.tables.cuts["group"][cut])
            rows.append(uniform_ratios(problem, cut, first if group else levels))
            if group:
                rows[-1][:, group] = second
        return make_designs(problem.network, np.concatenate(rows))

    return _select("2_Step Pruning", problem, designs)


def fpgm(problem: LayerwiseProblem, seed: int = 0) -> Chosen:
    """One retained ratio for all layers, whose filters are chosen by their geometric median (He et al., 2019).

    Accuracy is predicted by `fpgm_predictor`, or else as the problem does.
    """
    predictor = fpgm_predictor(problem)
    if predictor is not None:
        problem = replace(problem, predictor=predictor)

    def designs() -> Floats:
        levels = np.linspace(problem.retained_min, 1.0, LEVELS)
        ratios = [uniform_ratios(problem, cut, levels) for cut in problem.allowed_cuts]
        return make_designs(problem.network, np.concatenate(ratios))

    return _select("FPGM", problem, designs)


def fpgm_predictor(problem: LayerwiseProblem) -> RegressionPredictor | None:
    """The shipped predictor of the same trained network pruned by geometric median, None where there is none."""
    name = f"{problem.network.name}-fpgm"
    if name not in shipped_regression_predictors():
        return None
    own = load_regression_predictor(name)
    return own if own.unpruned == problem.predictor.unpruned else None


def bottlenet(problem: LayerwiseProblem, seed: int = 0) -> Chosen:
    """The unpruned network with every number of channels that a codec can send, at every cut (Shao and Zhang)."""
    return _select("BottleNet++", problem, ParametersGenerator(problem, prune=False).compressed)


def proposed(problem: LayerwiseProblem, seed: int = 0) -> Chosen:
    """All variables: retained ratios layer by layer, compression and cut."""
    return _search("Proposed", problem, seed, compress=True)


RIVALS: dict[str, Callable[[LayerwiseProblem, int], Chosen]] = {
    "All_Local": all_local,
    "All_Server": all_server,
    "Neurosurgeon": neurosurgeon,
    "Prune_Partition": prune_partition,
    "2_Step Pruning": two_step_pruning,
    "FPGM": fpgm,
    "BottleNet++": bottlenet,
    "CIA": cia,
    "Proposed": proposed,
}
"""Schemes by the names of the paper, in its order. Each takes a problem and a seed."""


def uniform_ratios(problem: LayerwiseProblem, cut: int, retained: Floats) -> Floats:
    """Ratios of designs of a cut with one ratio for all groups, without a codec; power and clock are NaN."""
    groups = len(problem.network.groups)
    ratios = np.ones((len(retained), groups + 4))
    ratios[:, 0], ratios[:, 1 : groups + 1], ratios[:, POWER:] = cut, retained[:, None], np.nan
    return ratios


def _unpruned(problem: LayerwiseProblem, cut: int) -> Floats:
    return ParametersGenerator(replace(problem, cuts=(cut, cut))).unpruned()


def _select(name: str, problem: LayerwiseProblem, designs: Callable[[], Floats]) -> Chosen:
    """The best of a grid of designs."""
    began = time.perf_counter()
    rows = designs()
    solution = problem.evaluate(problem.decision(select_best(problem, rows)))
    return Chosen(name, check_accuracy(problem, name, solution), len(rows), time.perf_counter() - began)


def _search(name: str, problem: LayerwiseProblem, seed: int, *, compress: bool) -> Chosen:
    """The best design that the search proposed here finds."""
    generator = partial(ParametersGenerator, compress=compress)
    return Framework(generator, evaluations=EVALUATIONS, name=name).optimize(problem, seed)
