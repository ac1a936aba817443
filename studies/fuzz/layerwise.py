"""Random problems of Layerwise-v0 far wider than any scenario, and what may be wrong with their exact optimum."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.layerwise.designs import make_designs, ratios_of
from coinfer_gym.layerwise.optimum import solve_exact, solve_rows
from coinfer_gym.layerwise.problem import HARDWARE_NAMES, LayerwiseProblem
from coinfer_gym.layerwise.scenario import load_layerwise_scenario

SCENARIOS = ("alexnet-rpi4b-4g", "regnet-tk1-wifi")
"""Where networks and predictors come from, one each."""

DESIGNS = 2000
"""Random designs that are compared with each optimum."""

ROUNDING = 1e-9
"""Relative difference that may be rounding."""

_KEPT = ("pue_device", "pue_server", "input_value_bits", "feature_value_bits", "power_min", "frequency_device_min")
_NODES = 1000  # boxes of a search: its bound holds wherever it is stopped


@cache
def _base(name: str) -> LayerwiseProblem:
    return load_layerwise_scenario(name).problem(1e-9)


def random_problem(rng: np.random.Generator) -> LayerwiseProblem:
    """A problem with random hardware, whose limits are near or just what random designs reach."""
    base = _base(SCENARIOS[int(rng.integers(2))])
    values = {name: getattr(base, name) * 10.0 ** rng.uniform(-3, 3) for name in HARDWARE_NAMES if name not in _KEPT}
    for name in ("power", "frequency_device"):
        values[f"{name}_min"] = values[f"{name}_max"] * rng.choice([1e-6, 1e-2, 0.8, 1.0])
    values |= {"retained_min": rng.choice([0.05, 0.1, 0.5, 1.0]), "gain": 10.0 ** rng.uniform(-18, 3)}
    drawn = {name: float(value) for name, value in values.items()}
    problem = replace(base, **drawn)  # type: ignore[arg-type]  # all of them are floats
    outcomes = problem.evaluate(random_designs(rng, problem))
    k = int(rng.integers(DESIGNS))
    return replace(
        problem,
        accuracy_min=float(np.quantile(outcomes.accuracy, rng.choice([0.1, 0.5, 0.9, 0.99]))),
        energy_budget=float(outcomes.energy[k] * rng.choice([1.0, 1.2, 10.0, math.inf])),
        delay_budget=float(outcomes.delay[k] * rng.choice([0.1, 1.0, 10.0])),
    )


def random_designs(
    rng: np.random.Generator, problem: LayerwiseProblem, near: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """`DESIGNS` designs; half of them near one where one is given."""
    lower, upper = problem.bounds()
    rows = lower + (upper - lower) * rng.random((DESIGNS, len(lower)))
    rows[:, -2:] = lower[-2:] * (upper[-2:] / lower[-2:]) ** rng.random((DESIGNS, 2))
    ends = rng.random(rows.shape)
    rows = np.where(ends < 0.15, lower, np.where(ends > 0.75, upper, rows))
    rows[:, 0] = rng.integers(0, problem.network.cuts, DESIGNS)
    if near is not None:
        half = DESIGNS // 2
        steps = rng.normal(size=(half, len(lower))) * 10.0 ** rng.uniform(-6.0, 0.0, (half, 1))
        moved = ratios_of(problem.network, near[None]) * np.exp(steps)
        rows[:half] = np.clip(moved, lower, upper)
        rows[:half, 0] = near[0]
    return make_designs(problem.network, rows)


def faults(rng: np.random.Generator, problem: LayerwiseProblem) -> list[str]:
    """What is wrong with the exact optimum of a problem; empty where nothing is."""
    found, wrong = solve_exact(problem, tolerance=0.02, nodes=_NODES), []
    bound, budget = found.delay_bound, problem.energy_budget
    for near in (None, problem.row(found)):
        rows = random_designs(rng, problem, near)
        outcomes = problem.evaluate(rows)
        within = outcomes.energy <= budget
        allowed = within & (outcomes.accuracy >= problem.accuracy_min)
        if outcomes.delay[allowed].min(initial=math.inf) < bound * (1.0 - ROUNDING):
            wrong.append("a random design is faster than the bound")
        few = slice(0, 200)  # with the best power and clock
        best = problem.evaluate(solve_rows(problem, rows[few]))
        if (best.energy > budget * (1.0 + ROUNDING))[within[few]].any():
            wrong.append("the best power and clock miss the energy budget")
        if (best.delay > outcomes.delay[few] * (1.0 + ROUNDING))[within[few]].any():
            wrong.append("the best power and clock are slower than others")
    if bound < math.inf and not math.isnan(found.gap):
        if abs(found.delay * (1.0 - found.gap) - bound) > ROUNDING * found.delay:
            wrong.append("gap and bound differ")
        cut = int(rng.integers(problem.network.cuts))
        alone = solve_exact(problem, cut, tolerance=0.02, nodes=_NODES // 4)
        met = alone.accuracy >= problem.accuracy_min and alone.energy <= budget
        if met and alone.delay < bound * (1.0 - ROUNDING):
            wrong.append("a cut alone is faster than the bound of all")
    return sorted(set(wrong))
