"""The conic form of P1 against searches that know nothing of it, and against the compiled optimum."""

import math
from dataclasses import replace

import cvxpy as cp
import gymnasium as gym
import numpy as np
import pytest

from baselines import solve_conic, solve_sca
from baselines.conic import INFEASIBLE, compile_form
from baselines.fixed_cut import fix_cut
from baselines.search import solve_quantum
from coinfer_gym import load_scenario, shipped_scenarios
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.decision import CONTROLS, Decision
from coinfer_gym.laim.distortion import BOUNDS, QUALITIES
from coinfer_gym.laim.optimum import solve_exact
from studies.fuzz.certificate import random_problem
from tests.baselines.small_problem import PHYSICS, RESTRICTED, small_problem


def largest_server_ratio(problem, cut, retained_device, controls):
    """Largest `rho_s` over all combinations of clocks and powers on a grid, and the combination.

    What is left of a budget is affine in the ratio, so that two looks at the ratio suffice.
    """
    clock_device, clock_server, power = (part.ravel() for part in np.meshgrid(*controls, indexing="ij"))
    left = []
    for ratio in (problem.retained_server_min, 1.0):
        rows = [np.full_like(power, retained_device), np.full_like(power, ratio), power, clock_device, clock_server]
        left.append(problem.evaluate(np.stack(rows, axis=-1), cut).margins)
    low, high = left
    share = np.where(high >= 0.0, 1.0, np.where(low < 0.0, -np.inf, low / np.maximum(low - high, 1e-300))).min(axis=-1)
    place = np.argmax(share)
    ratio = problem.retained_server_min + share[place] * (1.0 - problem.retained_server_min)
    return ratio, (clock_device[place], clock_server[place], power[place])


def brute_force(problem, cut, points=10, rounds=15):
    """Best quality on a grid over all five controls that closes in on its best point round by round."""
    most = float(problem.tables.cuts[cut]["retained_device_max"])
    highs = (most, problem.frequency_device_max, problem.frequency_server_max, problem.power_max)
    lows = (problem.retained_device_min, *(high / 100 for high in highs[1:]))
    grids = [np.geomspace(low, high, points) for low, high in zip(lows, highs, strict=True)]
    best, center = -math.inf, None
    for _ in range(rounds):
        for retained_device in grids[0]:
            retained_server, controls = largest_server_ratio(problem, cut, retained_device, grids[1:])
            if retained_server < problem.retained_server_min:
                continue
            found = problem.evaluate(Decision(cut, retained_device, retained_server, controls[2], *controls[:2]))
            if found.feasible and found.quality > best:
                best, center = found.quality, (retained_device, *controls)
        assert center is not None
        steps = [(grid[1] / grid[0]) ** 3 for grid in grids]
        grids = [
            np.geomspace(max(middle / step, low), min(middle * step, high), points)
            for middle, step, low, high in zip(center, steps, lows, highs, strict=True)
        ]
    return best


@pytest.mark.parametrize("quality", QUALITIES)
def test_no_grid_point_is_better(quality):
    problem = small_problem(quality=quality, **PHYSICS)
    solution, searched = solve_conic(problem, 2), brute_force(problem, 2)
    assert solution.feasible
    assert searched <= solution.quality + 1e-9
    assert searched == pytest.approx(solution.quality, rel=0.02)  # the grid stalls on the ridge where both budgets bind


@pytest.mark.parametrize("snr_db", [(-80.0, -20.0), (80.0, 120.0)])  # the range between: tests/studies/test_fuzz.py
def test_agrees_with_the_compiled_optimum(snr_db):
    verdicts = []
    for seed in range(15):
        problem, cut = random_problem(np.random.default_rng(seed), snr_db)
        conic, exact = solve_conic(problem, cut), solve_exact(problem, cut)
        assert conic.feasible == exact.feasible, seed
        verdicts.append(conic.feasible)
        if conic.feasible:
            assert conic.quality == pytest.approx(exact.quality, rel=1e-7, abs=1e-9), seed
            assert 0.0 <= conic.gap < 1e-6, seed
            assert exact.quality <= conic.quality + conic.gap + 1e-7, seed
            assert conic.delay <= problem.delay_budget * (1 + 1e-7), seed
            assert conic.energy <= problem.energy_budget * (1 + 1e-7), seed
    assert 0.1 < np.mean(verdicts) < 0.9


@pytest.mark.parametrize("name", shipped_scenarios())
def test_agrees_with_the_compiled_optimum_in_shipped_worlds(name):
    """150 problems in all: gains over 8 decades, budgets over 3, one random cut each."""
    rng = np.random.default_rng(shipped_scenarios().index(name))
    worlds = [load_scenario(name, quality=quality) for quality in QUALITIES]
    verdicts = []
    for case in range(150 // len(shipped_scenarios())):
        world = worlds[case % len(worlds)]
        gain = 10.0 ** (world.mean_gain_db / 10.0 + rng.uniform(-4.0, 4.0))
        delay, energy = np.array([world.delay_budget, world.energy_budget]) * 10.0 ** rng.uniform(-1.5, 1.5, 2)
        problem, cut = world.problem(gain, float(delay), float(energy)), int(rng.integers(world.workload.cuts))
        conic, exact = solve_conic(problem, cut), solve_exact(problem, cut)
        assert conic.feasible == exact.feasible, case
        verdicts.append(conic.feasible)
        if conic.feasible:
            assert conic.quality == pytest.approx(exact.quality, rel=1e-6, abs=0.0), case
    assert 0.1 < np.mean(verdicts) < 0.9


def test_all_cuts_give_the_best_cut():
    problem = small_problem()
    winner = solve_conic(problem)
    cuts = [solve_conic(problem, cut) for cut in range(problem.workload.cuts)]
    feasible = [solution for solution in cuts if solution.feasible]
    assert feasible
    assert winner.quality == max(solution.quality for solution in feasible)
    assert 0.0 <= winner.gap < 1e-8


@pytest.mark.parametrize("quality", BOUNDS)
def test_scale_does_not_move_the_optimum(quality):
    log = solve_conic(small_problem(quality=quality, quality_scale="log"), 2)
    linear = solve_conic(small_problem(quality=quality, quality_scale="linear"), 2)
    for name in CONTROLS:
        assert getattr(log, name) == getattr(linear, name)
    assert linear.quality > log.quality
    assert linear.gap < 1e-7


def test_ends_have_no_link_or_no_device():
    problem = small_problem(delay_budget=0.15)
    on_server, on_device = solve_conic(problem, 0), solve_conic(problem, problem.workload.cuts - 1)
    assert on_server.feasible
    assert (on_server.retained_device, on_server.frequency_device) == (1.0, 0.0)
    assert on_device.feasible
    assert (on_device.retained_server, on_device.frequency_server, on_device.power) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(("changes", "name", "value"), RESTRICTED)
def test_restricted_schemes(changes, name, value):
    problem = small_problem(**changes)
    solution = solve_conic(problem, 1)
    free = solve_conic(small_problem(**{key: changes[key] for key in changes if key.endswith("budget")}), 1)
    assert solution.feasible
    assert getattr(solution, name) == pytest.approx(value, rel=1e-12)
    assert solution.quality <= free.quality + 1e-9
    assert solution.quality == pytest.approx(solve_exact(problem, 1).quality, abs=1e-8)


@pytest.mark.parametrize(
    "changes",
    [
        {"delay_budget": 1e-6},
        {"energy_budget": 1e-9},
        {"gain": 1e-20},
        {"delay_budget": -0.1},
        {"energy_budget": 0.0},
        {"retained_device_min": 1.0, "delay_budget": 0.03},
    ],
)
def test_infeasible(changes):
    solution = solve_conic(small_problem(**changes), 2)
    assert not solution.feasible
    assert solution.reason == INFEASIBLE
    assert math.isnan(solution.gap)
    assert solution.delay > 0.0


def test_unlimited_budgets_keep_everything():
    solution = solve_conic(small_problem(delay_budget=math.inf, energy_budget=math.inf), 2)
    assert solution.feasible
    assert solution.quality == pytest.approx(1.0, abs=1e-9)


def test_unknown_cut():
    with pytest.raises(InvalidInputError, match="cut"):
        solve_conic(small_problem(), 5)


def test_one_compilation_serves_cuts_gains_and_budgets():
    problem = small_problem(quality="parallel_laplacian")
    solve_conic(problem, 1)
    form = compile_form(fix_cut(problem, 1).structure)
    compiled = form.problem.get_problem_data(cp.CLARABEL)[0]["param_prob"]
    misses = compile_form.cache_info().misses
    for cut in (1, 2, 3):
        for gain in (1e-12, 1e-10, 1e-8):
            solve_conic(replace(problem, gain=gain, delay_budget=0.1 * cut, kappa_server=1e-27), cut)
    assert compile_form.cache_info().misses == misses
    assert form.problem.get_problem_data(cp.CLARABEL)[0]["param_prob"] is compiled


@pytest.mark.parametrize("solve", [solve_conic, solve_sca, solve_quantum])
def test_a_problem_of_the_other_environment_is_named(solve):
    env = gym.make("coinfer_gym:coinfer_gym/Layerwise-v0")
    env.reset(seed=0)
    with pytest.raises(InvalidInputError, match="This solves P1 of LAIM-v0"):
        solve(env.unwrapped.problem())
