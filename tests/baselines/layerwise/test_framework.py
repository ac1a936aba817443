"""The framework's parts: designs and points, limits, Algorithm 1 against other optimizers with ten times its budget."""

import math
from dataclasses import replace

import numpy as np
import pytest

from baselines.layerwise.designs import (
    CODEC_SHARE,
    DELAY_CALCULATOR,
    ENERGY_CALCULATOR,
    DesignSearch,
    ParametersGenerator,
    complete,
    select_best,
)
from baselines.layerwise.framework import Framework, search_each_cut
from baselines.optimizers import OPTIMIZERS
from coinfer_gym import InvalidInputError
from coinfer_gym.layerwise.optimum import solve_exact
from tests.baselines.layerwise.synthetic import synthetic_problem

PROBLEM = synthetic_problem()
FREE = [{}, {"cuts": (3, 3)}, {"compress": False}, {"prune": False}, {"prune": False, "compress": False}]


def sample(generator, count=100, seed=0):
    """Random points of a generator, shape (n, count)."""
    return generator.box.points(np.random.default_rng(seed).random((count, len(generator.box.low))))


@pytest.mark.parametrize("settings", FREE)
def test_points_come_back_from_their_designs(settings):
    generator = ParametersGenerator(PROBLEM, **settings)
    points = sample(generator)
    designs = generator.designs(points)
    assert designs.shape == (100, 11)
    assert len(points) == np.ptp(designs[:, :-2], axis=0).astype(bool).sum()
    np.testing.assert_array_equal(np.unique(designs[:, 0]), generator.cuts)
    again = generator.designs(generator.points(designs))
    np.testing.assert_allclose(again[:, :-2], designs[:, :-2], rtol=1e-12)
    if not settings.get("prune", True):
        assert (designs[:, 1:-3] == 1.0).all()
    if not settings.get("compress", True):
        assert (designs[:, -3] == 1.0).all()


def test_the_corners_are_the_ends_of_the_ranges():
    generator = ParametersGenerator(PROBLEM)
    least, most = generator.designs(generator.box.points(np.array([[0.0] * 9, [1.0] * 9])))[:, :-2]
    np.testing.assert_allclose(least, [0, *[0.1] * 7, 1 / 1024])
    np.testing.assert_array_equal(most, [11, *[1.0] * 8])


@pytest.mark.parametrize("cuts", [(-1, 3), (4, 3), (0, 12)])
def test_cuts_that_the_network_lacks_are_refused(cuts):
    with pytest.raises(InvalidInputError, match="cuts"):
        ParametersGenerator(PROBLEM, cuts=cuts)


def test_nothing_free_is_refused():
    with pytest.raises(InvalidInputError, match="Leave the cut"):
        ParametersGenerator(PROBLEM, cuts=(2, 2), prune=False, compress=False)


def test_the_search_sees_what_the_problem_says():
    search = DesignSearch(PROBLEM, ParametersGenerator(PROBLEM), DELAY_CALCULATOR)
    points = sample(ParametersGenerator(PROBLEM), 40)
    for row, value, excess in zip(search.rows(points), search.objective(points), search.excess(points), strict=True):
        solution = PROBLEM.evaluate(PROBLEM.decision(row))
        assert value == solution.delay
        assert excess == pytest.approx(1.0 + PROBLEM.accuracy_min - solution.accuracy if excess else 0.0, rel=1e-12)
        assert (excess == 0.0) == (solution.accuracy >= PROBLEM.accuracy_min)


@pytest.mark.parametrize("compress", [False, True])
def test_the_starts_are_the_unpruned_network_best_cut_first(compress):
    search = DesignSearch(PROBLEM, ParametersGenerator(PROBLEM, compress=compress), DELAY_CALCULATOR)
    rows = search.rows(search.start.T)
    assert (rows[:, 1:-3] == 1.0).all()
    assert compress or (rows[:, -3] == 1.0).all()
    assert sorted(rows[:, 0]) == list(range(12))
    solutions = [PROBLEM.evaluate(PROBLEM.decision(row)) for row in rows]
    accurate = [solution.accuracy >= PROBLEM.accuracy_min for solution in solutions]
    assert accurate == sorted(accurate, reverse=True)
    delays = [solution.delay for solution, enough in zip(solutions, accurate, strict=True) if enough]
    assert delays == sorted(delays)


def test_a_start_has_the_best_codec_of_its_cut():
    search = DesignSearch(PROBLEM, ParametersGenerator(PROBLEM), DELAY_CALCULATOR)
    cuts = PROBLEM.network.tables.cuts["group"]
    for row in search.rows(search.start.T):
        found, tried = PROBLEM.evaluate(PROBLEM.decision(row)), [math.inf]
        channels = PROBLEM.network.groups[cuts[int(row[0])] - 1].channels if cuts[int(row[0])] else 1
        for sent in range(1, channels + 1):
            row[-3] = sent / channels
            solution = PROBLEM.evaluate(PROBLEM.decision(row))
            if solution.accuracy >= PROBLEM.accuracy_min:
                tried.append(solution.delay)
        assert math.isinf(min(tried)) or found.delay == min(tried)
    assert min(search.start[:, -1]) < CODEC_SHARE


@pytest.mark.parametrize("optimizer", ["quantum_rejection", "cma_es"])
def test_any_optimizer_fits_in(optimizer):
    chosen = Framework(optimizer=OPTIMIZERS[optimizer], evaluations=400).optimize(PROBLEM, 3)
    assert chosen.evaluations <= 400
    assert chosen.solution.feasible
    assert chosen.history[1][-1] == chosen.solution.delay


def test_the_printed_algorithm_ends_by_itself_and_repeats_itself():
    first, second = (Framework().optimize(PROBLEM, 5) for _ in range(2))
    assert (first.solution, first.evaluations) == (second.solution, second.evaluations)
    assert first.solution.feasible
    assert first.evaluations < 20_000


def test_each_cut_is_searched_within_the_evaluations_and_repeatably():
    framework = Framework(optimizer=search_each_cut, evaluations=15_000)
    first, second = (framework.optimize(PROBLEM, 2) for _ in range(2))
    assert first.solution == second.solution
    starts = len(ParametersGenerator(PROBLEM).compressed())
    assert first.evaluations == starts + 15_000
    times, levels = first.history
    assert (np.diff(times) >= 0).all()
    assert (np.diff(levels) < 0).all()
    assert levels[-1] == first.solution.delay
    assert Framework(optimizer=search_each_cut, evaluations=900).optimize(PROBLEM).evaluations == starts + 900


def test_energy_takes_the_place_of_delay():
    fastest = Framework(optimizer=search_each_cut).optimize(PROBLEM).solution
    problem = replace(PROBLEM, delay_budget=3.0 * fastest.delay)
    least = Framework(calculator=ENERGY_CALCULATOR, optimizer=search_each_cut).optimize(problem).solution
    assert least.feasible
    assert least.energy < fastest.energy


def test_an_energy_budget_is_met_and_costs_time():
    free = Framework(optimizer=search_each_cut).optimize(PROBLEM).solution
    bound = replace(PROBLEM, energy_budget=0.7 * free.energy)
    found = Framework(optimizer=search_each_cut).optimize(bound).solution
    assert found.feasible
    assert found.energy <= 0.7 * free.energy * (1 + 1e-5)
    # No search is faster than what branch and bound proves for the same budget.
    assert found.delay >= solve_exact(bound, tolerance=0.05).delay_bound * (1.0 - 1e-9)
    # The same design costs time within the budget: the free one has all power and clock.
    kept = complete(bound, PROBLEM.row(free)[None].copy())
    assert float(bound.evaluate(kept).delay[0]) > free.delay


def test_what_no_design_can_afford_is_accurate_and_not_feasible():
    found = Framework(evaluations=1000).optimize(replace(PROBLEM, energy_budget=1e-9)).solution
    assert not found.feasible
    assert found.accuracy >= PROBLEM.accuracy_min


def test_select_best_prefers_accuracy_to_speed():
    rows = np.ones((3, 11))
    rows[:, 0] = 2
    rows[1, 1:-3] = 0.1
    rows[2, 0] = 11
    best = select_best(PROBLEM, rows)
    assert (best[0], best[1], best[-2], best[-1]) == (2.0, 1.0, PROBLEM.power_max, PROBLEM.frequency_device_max)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["cma_es", "genetic_algorithm"])
def test_none_beats_it_by_a_hundredth_with_ten_times_its_evaluations(optimizer):
    problem = synthetic_problem("regnet")
    found = Framework(optimizer=search_each_cut, evaluations=15_000).optimize(problem)
    rival = Framework(optimizer=OPTIMIZERS[optimizer], evaluations=150_000).optimize(problem)
    assert found.solution.delay <= 1.01 * rival.solution.delay
