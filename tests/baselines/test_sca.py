"""The successive convex approximation: claim L5, its surrogates, its limit, and what it does with bad input."""

from dataclasses import replace
from itertools import pairwise

import cvxpy as cp
import numpy as np
import pytest

from baselines import solve_conic, solve_sca
from baselines.fixed_cut import fix_cut, least_load
from baselines.objective import own_scale_quality
from baselines.sca import METHODS, NO_START, _expand_link, bound_as_paper, bound_as_products, compile_surrogate
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.decision import Decision
from coinfer_gym.laim.distortion import QUALITIES
from studies.fuzz.certificate import random_problem
from tests.baselines.small_problem import PHYSICS, RESTRICTED, small_problem

THRESHOLD = 1e-4


def assert_descends(problem, solution, threshold, max_iterations):
    """Claim L5: iterates are feasible, the objective never gets worse, and the end is the threshold's."""
    history = solution.history
    levels = [own_scale_quality(problem, iterate) for iterate in history]
    for iterate in history:
        assert iterate.delay <= problem.delay_budget * (1 + 1e-9)
        assert iterate.energy <= problem.energy_budget * (1 + 1e-9)
    assert all(after >= before for before, after in pairwise(levels))
    rises = np.diff(levels)
    assert (rises[:-1] >= threshold).all()
    assert len(history) <= max_iterations + 1
    assert replace(solution, history=()) == history[-1]  # also: no reason, so that the solver never broke down


@pytest.mark.parametrize("method", METHODS)
def test_claim_l5_on_random_problems(method):
    verdicts, errors = [], []
    for seed in range(20):
        problem, cut = random_problem(np.random.default_rng(seed))
        solution, optimum = solve_sca(problem, cut, method=method, threshold=THRESHOLD), solve_conic(problem, cut)
        assert solution.feasible == optimum.feasible, seed
        verdicts.append(solution.feasible)
        if solution.feasible:
            assert_descends(problem, solution, THRESHOLD, 50)
            assert solution.quality <= optimum.quality + optimum.gap + 1e-7, seed
            errors.append(own_scale_quality(problem, optimum) - own_scale_quality(problem, solution))
    assert 0.1 < np.mean(verdicts) < 0.9
    assert np.median(errors) < 1e-6
    assert max(errors) < 0.01


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("cut", "changes"), [(0, {"delay_budget": 0.1}), (2, PHYSICS)])
def test_limit_is_the_optimum(quality, cut, changes, method):
    problem = small_problem(quality=quality, **changes)
    solution = solve_sca(problem, cut, method=method, threshold=1e-10, max_iterations=300)
    assert solution.feasible
    assert solution.quality == pytest.approx(solve_conic(problem, cut).quality, abs=1e-6)


def random_start(problem, cut, rng):
    """A feasible decision far from the one the algorithm would start from."""
    while True:
        decision = Decision(
            cut,
            10 ** rng.uniform(-2, 0),
            10 ** rng.uniform(-2, 0),
            problem.power_max * rng.uniform(0.05, 1),
            problem.frequency_device_max * rng.uniform(0.1, 1),
            problem.frequency_server_max * rng.uniform(0.1, 1),
        )
        if problem.evaluate(decision).feasible:
            return decision


def test_every_start_leads_to_one_value():
    problem, rng = small_problem(quality="parallel_laplacian"), np.random.default_rng(7)
    optimum = solve_conic(problem, 2).quality
    for _ in range(4):
        start = random_start(problem, 2, rng)
        solution = solve_sca(problem, start=start, threshold=1e-10, max_iterations=300)
        assert solution.history[0] == problem.evaluate(start)
        assert solution.quality == pytest.approx(optimum, abs=1e-6)


def test_the_best_of_several_starts_counts():
    problem = small_problem()
    alone = solve_sca(problem, 2, max_iterations=1)  # so few that the start matters
    several = solve_sca(problem, 2, starts=4, max_iterations=1)
    assert several.quality > alone.quality
    assert several.history[0] != alone.history[0]
    assert all(point.feasible for point in several.history)
    assert solve_sca(problem, 2, starts=4, max_iterations=1) == several


def test_start_may_be_faster_than_memory_and_link():
    """What has no effect is taken away: the clock that waits for the memory, the power beyond the highest rate."""
    problem = small_problem(**PHYSICS)
    slow = least_load(fix_cut(problem, 2))
    start = replace(slow, power=problem.power_max, frequency_device=problem.frequency_device_max)
    first = solve_sca(problem, start=start, threshold=1e-10, max_iterations=300).history[0]
    assert first.delay == pytest.approx(problem.evaluate(start).delay, rel=1e-12)
    assert first.energy < problem.evaluate(start).energy
    assert first.power < start.power
    assert first.frequency_device < start.frequency_device


def test_iterations_are_limited():
    solution = solve_sca(small_problem(), 2, threshold=0.0, max_iterations=3)
    assert len(solution.history) <= 4
    assert solve_sca(small_problem(), 2, max_iterations=0).history == (small_problem().evaluate(solution.history[0]),)


def test_paper_linearises_the_inverse_ratio():
    """Eqs. 48 and 49 keep ``1 / rho`` positive, so that no ratio more than doubles; other bounds let it."""
    problem = small_problem(delay_budget=0.1)
    ratios = {
        method: np.array([[i.retained_device, i.retained_server] for i in solve_sca(problem, 2, method=method).history])
        for method in METHODS
    }
    assert (ratios["lyu"][1:] < 2.0 * ratios["lyu"][:-1]).all()
    assert (ratios["products"][1:] > 2.0 * ratios["products"][:-1]).any()
    assert len(ratios["products"]) < len(ratios["lyu"])
    assert solve_sca(problem, 2).history == solve_sca(problem, 2, method="lyu").history


@pytest.mark.parametrize(("ends", "bound"), [((0.1, 1.9), bound_as_paper), ((0.0, 3.0), bound_as_products)])
def test_side_surrogates_lie_above_and_touch(ends, bound):
    ratio, clock = cp.Variable(), cp.Variable()
    time, work, tight = bound(ratio, clock)
    helpers = [(constraint.args[1], constraint.args[0]) for constraint in tight]  # ``u >= 1 / clock`` and the like
    for ratio.value, clock.value in [(1.0, 1.0), *np.random.default_rng(0).uniform(*ends, (50, 2))]:
        for helper, least in helpers:
            helper.value = least.value
        excess = np.array([time.value - ratio.value / clock.value, work.value - ratio.value * clock.value**2])
        assert (excess >= -1e-12).all()
        assert ratio.value != 1.0 or excess == pytest.approx(np.zeros(2), abs=1e-12)


@pytest.mark.parametrize("gain", [1e-14, 1e-10, 1e-4])
def test_link_surrogates_lie_above_and_touch(gain):
    problem, rng = small_problem(gain=gain), np.random.default_rng(1)
    fixed = fix_cut(problem, 2)
    delay, energy, slope, _, _, _, nats, grown = _expand_link(fixed, 0.1)
    for power in [1.0, *rng.uniform(0.1, 3.0, 20)]:
        rate = 1 + np.log(1 - grown + grown * power) / nats
        assert delay / rate * fixed.delay_room == pytest.approx(fixed.link.delay(0.1 * power), rel=1e-9)
        excess = (energy + slope * (power - 1)) * fixed.energy_room / fixed.link.amplifier(0.1 * power) - 1.0
        assert excess >= -1e-12
        assert power != 1.0 or excess == pytest.approx(0.0, abs=1e-12)


def test_start_is_feasible_where_anything_is():
    problem = small_problem()
    start = solve_sca(problem, 2).history[0]
    assert start.feasible
    assert start == problem.evaluate(least_load(fix_cut(problem, 2)))
    assert (start.retained_device, start.retained_server) == (0.01, 0.01)


def test_start_strains_both_budgets_alike():
    problem = small_problem(delay_budget=0.2, energy_budget=0.1)
    strained = problem.evaluate(least_load(fix_cut(problem, 2)))
    assert strained.delay / problem.delay_budget == pytest.approx(strained.energy / problem.energy_budget, rel=1e-9)
    rng = np.random.default_rng(2)
    load = strained.delay / problem.delay_budget
    highs = [problem.power_max, problem.frequency_device_max, problem.frequency_server_max]
    for factors in rng.uniform(0.5, 1.5, (200, 3)):
        controls = np.array([strained.power, strained.frequency_device, strained.frequency_server]) * factors
        other = problem.evaluate(Decision(2, 0.01, 0.01, *np.minimum(controls, highs)))
        assert max(other.delay / problem.delay_budget, other.energy / problem.energy_budget) >= load * (1 - 1e-9)


@pytest.mark.parametrize("changes", [{"delay_budget": 1e-6}, {"energy_budget": -1.0}, {"gain": 1e-20}])
def test_infeasible(changes):
    solution = solve_sca(small_problem(**changes), 2)
    assert not solution.feasible
    assert solution.reason == NO_START
    assert solution.history == ()


def test_all_cuts():
    problem = small_problem()
    winner = solve_sca(problem)
    cuts = [solve_sca(problem, cut) for cut in range(problem.workload.cuts)]
    assert winner.quality == max(solution.quality for solution in cuts if solution.feasible)
    assert len(winner.history) > 1


BOTH = {"retained_device_min": 1.0, "retained_server_min": 1.0, "delay_budget": 0.3, "energy_budget": 3.0}


@pytest.mark.parametrize("changes", [*(changes for changes, _, _ in RESTRICTED), BOTH])
def test_restricted_schemes(changes):
    problem = small_problem(**changes)
    solution = solve_sca(problem, 1, threshold=1e-9, max_iterations=200)
    assert solution.feasible
    assert solution.quality == pytest.approx(solve_conic(problem, 1).quality, abs=1e-6)
    for name in ("power", "frequency_device", "frequency_server"):
        assert getattr(problem, f"{name}_min") <= getattr(solution, name) <= getattr(problem, f"{name}_max")
    assert solution.retained_device >= problem.retained_device_min
    assert solution.retained_server >= problem.retained_server_min


@pytest.mark.parametrize(
    ("change", "cut", "match"),
    [
        ({"retained_device": 1.0, "retained_server": 1.0}, 2, "both budgets"),
        ({"power": 0.31}, 2, "power"),
        ({"frequency_device": -1e9}, 2, "frequency_device"),
        ({"retained_server": 0.001}, 2, "retained_server"),
        ({}, 3, "cut"),
    ],
)
def test_bad_start(change, cut, match):
    problem = small_problem(delay_budget=0.1)
    start = replace(least_load(fix_cut(problem, 2)), **change)
    with pytest.raises(InvalidInputError, match=match):
        solve_sca(problem, cut, start)


def test_bad_method():
    with pytest.raises(InvalidInputError, match=r"method: got 'product'.*'products'"):
        solve_sca(small_problem(), 2, method="product")


def test_one_compilation_serves_cuts_and_iterates():
    problem = small_problem(quality="magnitude_threshold")
    solve_sca(problem, 1)
    surrogate = compile_surrogate(fix_cut(problem, 1).structure, "lyu")
    compiled = surrogate.problem.get_problem_data(cp.CLARABEL)[0]["param_prob"]
    misses = compile_surrogate.cache_info().misses
    for cut in (1, 2, 3):
        solve_sca(replace(problem, gain=1e-9), cut)
    assert compile_surrogate.cache_info().misses == misses
    assert surrogate.problem.get_problem_data(cp.CLARABEL)[0]["param_prob"] is compiled
