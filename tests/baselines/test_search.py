"""P1 as a black box: its evaluation, its optimizers on equal budgets against the exact optimum."""

import math
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from baselines.optimizers import OPTIMIZERS, SearchProblem
from baselines.search import NOT_FOUND, OPEN_END, MyopicQuantum, P1Search, solve_quantum
from coinfer_gym import Decision, InvalidInputError, solve_exact
from coinfer_gym.budgets import BUDGET_TOLERANCE
from studies.fuzz.certificate import random_problem
from studies.lyu.sca_convergence import draw_problems
from tests.baselines.small_problem import PHYSICS, small_problem

EASY = small_problem()


@pytest.mark.parametrize("seed", range(4))
def test_columns_evaluate_as_the_problem_does(seed):
    problem, cut = random_problem(np.random.default_rng(seed))
    for search in (P1Search(problem), P1Search(problem, cut)):
        points = search.box.points(np.random.default_rng(seed).random((30, 6)))
        values, excesses = search.objective(points), search.excess(points)
        for point, value, excess in zip(points.T, values, excesses, strict=True):
            solution = problem.evaluate(search.decision(point))
            assert value == pytest.approx(-solution.quality, rel=1e-12, abs=1e-300)
            row = problem.tables.cuts[solution.cut]
            limits = [problem.delay_budget, problem.energy_budget, row.retained_device_max, row.retained_server_max]
            spent = [solution.delay, solution.energy, solution.retained_device, solution.retained_server]
            shares = [(use - limit) / abs(limit) for use, limit in zip(spent, limits, strict=True)]
            assert excess == pytest.approx(max(0.0, *shares), rel=1e-9, abs=1e-12)
            if excess == 0.0:
                assert solution.feasible
            if excess > BUDGET_TOLERANCE * 1.001:
                assert not solution.feasible
        if search.box.low[0] == search.box.high[0]:
            np.testing.assert_array_equal(points[0], cut)


def test_corners_of_the_search_are_the_bounds_of_the_problem():
    problem = replace(EASY, frequency_device_min=5e8)
    search = P1Search(problem)
    least, most = (search.decision(np.array([2.0, *[place] * 5])) for place in (0.0, 1.0))
    assert least == Decision(2, 0.01, 0.01, OPEN_END * 0.3, 5e8, OPEN_END * 3e9)
    assert most == Decision(2, 1.0, 1.0, 0.3, 2e9, 3e9)
    assert search.decision(np.array([2.0, 0.5, 0.0, 0.5, 0.5, 0.0])) == Decision(
        2,
        pytest.approx(0.505),
        0.01,
        pytest.approx(0.3 * math.sqrt(OPEN_END)),
        pytest.approx(1e9),
        pytest.approx(OPEN_END * 3e9),
    )
    ends = [search.decision(np.array([cut, *[0.5] * 5])) for cut in (0.0, 4.0)]
    assert (ends[0].retained_device, ends[0].frequency_device) == (1.0, 0.0)
    assert (ends[1].retained_server, ends[1].frequency_server, ends[1].power) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("budget", [math.inf, 0.0, -1.0])
def test_any_budget_has_an_excess(budget):
    search = P1Search(replace(EASY, delay_budget=budget, energy_budget=math.inf))
    excesses = search.excess(search.box.points(np.random.default_rng(0).random((50, 6))))
    assert np.isfinite(excesses).all()
    assert ((excesses == 0.0) if budget == math.inf else (excesses > 0.0)).all()


def counted(search):
    """The same search, and a list of the numbers of points that its constraints were asked for."""
    seen = []

    def excess(points):
        seen.append(points.copy())
        return search.excess(points)

    return SearchProblem(search.objective, search.box, excess), seen


@pytest.mark.parametrize("evaluations", [1, 700])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_budgets_bounds_and_counts_hold(name, evaluations):
    search, seen = counted(P1Search(EASY))
    result = OPTIMIZERS[name](search, evaluations, 0)
    points = np.concatenate(seen, axis=1)
    assert result.nfev == points.shape[1] == evaluations
    assert ((points >= search.box.low[:, None]) & (points <= search.box.high[:, None])).all()
    np.testing.assert_array_equal(points[0] % 1.0, 0.0)
    times, levels = result.history
    assert (np.diff(times) >= 0).all()
    assert (np.diff(levels) < 0.0).all()
    feasible = search.excess(points) == 0.0
    assert result.success == feasible.any()
    if feasible.any():
        values = np.where(feasible, search.objective(points), math.inf)
        assert result.maxcv == 0.0
        assert result.fun == levels[-1] == values.min()
        for at, level in zip(times, levels, strict=True):
            assert level == values[:at].min()
    else:
        assert result.fun == math.inf
        assert result.maxcv == pytest.approx(search.excess(points).min())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_same_seed_same_search_and_the_global_generator_is_left_alone(name):
    np.random.seed(3)  # noqa: NPY002
    state = np.random.get_state()  # noqa: NPY002
    runs = [OPTIMIZERS[name](P1Search(EASY), 1000, seed) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(runs[0].x, runs[1].x)
    for before, after in zip(runs[0].history, runs[1].history, strict=True):
        np.testing.assert_array_equal(before, after)
    assert not np.array_equal(runs[0].x, runs[2].x)
    after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(after[1], state[1])
    assert after[2:] == state[2:]


GAPS = {
    "quantum_printed": 0.02,
    "quantum_mqhoa": 0.05,
    "quantum_mqhoa_5": 0.005,
    "differential_evolution": 1e-3,
    "dual_annealing": 0.05,
    "cma_es": 1e-6,
    "genetic_algorithm": 0.02,
    "random_search": 0.15,
}
"""What each may leave of the quality of an easy problem in the middle of three seeds."""


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_optimizer_beats_the_exact_optimum_and_each_comes_near(name):
    problem = replace(EASY, delay_budget=0.05)
    optimum = solve_exact(problem)
    assert 0.3 < optimum.quality < 1.0
    gaps = [optimum.quality + OPTIMIZERS[name](P1Search(problem), 5000, seed).fun for seed in range(3)]
    assert min(gaps) >= -1e-9
    assert np.median(gaps) < GAPS[name]


def test_solve_quantum_near_the_optimum_never_above():
    gaps = []
    physics = small_problem(**PHYSICS)
    drawn = [draw_problems(quality, 5, seed=1) for quality in ("rate_distortion", "magnitude_pruning")]
    for problem, optimum in [(physics, solve_exact(physics)), *drawn[0], *drawn[1]]:
        solution = solve_quantum(problem)
        assert solution.feasible
        assert solution.history == ()
        again = problem.evaluate(solution)
        assert (again.quality, again.delay, again.energy) == (solution.quality, solution.delay, solution.energy)
        gaps.append(optimum.quality - solution.quality)
    assert gaps[0] < 0.05
    assert min(gaps) >= -1e-9
    assert np.median(gaps) < 0.02
    problem, _ = draw_problems("rate_distortion", 1)[0]
    assert solve_quantum(problem) == solve_quantum(problem)
    assert solve_quantum(problem) != solve_quantum(problem, seed=1)
    assert solve_quantum(problem, 12).cut == 12


def test_solve_quantum_says_where_it_found_nothing():
    solution = solve_quantum(replace(EASY, energy_budget=1e-9), evaluations=300)
    assert not solution.feasible
    assert solution.reason == NOT_FOUND
    for field, arguments in (("cut", {"cut": 9}), ("max_evaluations", {"evaluations": 0}), ("seed", {"seed": -1})):
        with pytest.raises(InvalidInputError) as caught:
            solve_quantum(EASY, **arguments)
        assert caught.value.field == field


def test_policy_acts_and_repeats_itself():
    env = gym.make("coinfer_gym/LAIM-v0", arrivals="one_at_a_time")
    observation, _ = env.reset(seed=0)
    policy = MyopicQuantum(env, evaluations=2000)
    action, _ = policy.predict(observation)
    np.testing.assert_array_equal(policy.predict(observation)[0], action)
    _, _, _, _, info = env.step(action)
    assert info["delivered"] > 0.0
    fixed = MyopicQuantum(env, scheme="fixed_power", cut=3, evaluations=500).solve(env.unwrapped.problem())
    assert (fixed.cut, fixed.power) == (3, env.unwrapped.problem().power_max)
    for field, arguments in (("evaluations", {"evaluations": 0}), ("seed", {"seed": 0.5}), ("scheme", {"scheme": "x"})):
        with pytest.raises(InvalidInputError) as caught:
            MyopicQuantum(**arguments)
        assert caught.value.field == field
