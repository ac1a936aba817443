"""Exact optima: power and clock against a general solver, cuts and whole designs against enumeration."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

import coinfer_gym
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise.controls import fastest
from coinfer_gym.layerwise.designs import make_designs
from coinfer_gym.layerwise.network import Block, Group, Layer, Network
from coinfer_gym.layerwise.optimum import solve_exact, solve_given, solve_rows
from coinfer_gym.layerwise.predictor import RegressionPredictor, feature_names
from coinfer_gym.layerwise.problem import LayerwiseProblem
from coinfer_gym.layerwise.trees import LEAF
from tests.coinfer_gym.layerwise.hardware import CONSTANTS

GROUPS = (Group("a", 4), Group("b", 8, 2), Group("c", 5))
NETWORK = Network(
    "tiny",
    GROUPS,
    (
        Block("conv", (Layer("conv", 3, "a", 4, 4, 3),), "a", 16),
        Block("second", (Layer("conv", "a", "b", 4, 4, 3), Layer("maxpool", "b", "b", 2, 2, 2)), "b", 4),
        Block("fc", (Layer("fc", "b", "c", area=4),), "c", 1, True),
        Block("end", (Layer("fc", "c", 10),), 10, 1, True),
    ),
    48,
)
SPANS = ((0.1, 1.0), (0.1, 1.0), (0.1, 1.0), (0.0, 4.0), (0.05, 1.0), (0.0, 7.0))


def predictor(seed, trees=5, depth=3, linear=0.0, noisy=False):
    """Random trees, in which more is better more often than not."""
    rng = np.random.default_rng(seed)
    tests, numbers = [], []

    def grow(left, level):
        if left == 0:
            tests.append(LEAF)
            numbers.append(float(0.02 * level + rng.normal(0.0, 0.015)))
            return
        feature = int(rng.integers(len(SPANS) + noisy))
        tests.append(feature)
        numbers.append(float(rng.uniform(*(*SPANS, (0.0, 20.0))[feature])))
        grow(left - 1, level)
        grow(left - 1, level + 1)

    for _ in range(trees):
        grow(depth, 0)
    names = feature_names([group.name for group in GROUPS], noisy)
    form = np.full(len(names), linear)
    return RegressionPredictor("mine", "tiny", 0.9, names, "Tree", {}, 0.5, form, np.array(tests), np.array(numbers))


def make(seed=0, **changes):
    given = {
        "network": NETWORK,
        "predictor": predictor(seed),
        "gain": 0.003,
        "delay_budget": math.inf,
        "energy_budget": math.inf,
        "accuracy_min": 0.7,
        **CONSTANTS,
        "frequency_device_min": 1e5,
    }
    return LayerwiseProblem(**(given | changes))


def costs(problem, flops, bits, power, clock):
    """Delay and energy of device and upload, written out."""
    rate = problem.bandwidth * np.log2(1 + power * problem.gain / (problem.noise_density * problem.bandwidth))
    tau = bits / rate
    delay = flops / (clock * problem.flops_per_cycle_device) + tau
    joules = problem.pue_device * problem.kappa_device * clock**2 * flops / problem.flops_per_cycle_device
    return delay, joules + power * tau


@pytest.mark.parametrize(("flops", "bits"), [(1e5, 1e4), (1e6, 1e3), (1e3, 1e5), (0.0, 1e4), (1e5, 0.0)])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_power_and_clock_against_a_search(flops, bits, share):
    optimize = pytest.importorskip("scipy.optimize")
    # a chip hungry enough for both energies to matter
    problem = make(kappa_device=2e-18 * 1e3)
    least = costs(problem, flops, bits, problem.power_min, problem.frequency_device_min)[1]
    most = costs(problem, flops, bits, problem.power_max, problem.frequency_device_max)[1]
    budget = least + share * (most - least)
    delay, power, clock = fastest(problem.hardware, problem.gain, flops, bits, budget)
    assert costs(problem, flops, bits, power, clock) == pytest.approx((delay, budget), rel=1e-10)
    assert problem.power_min <= power <= problem.power_max
    assert problem.frequency_device_min <= clock <= problem.frequency_device_max

    # For every power the clock that spends the rest; the best power by golden section around the best of a dense grid.
    def time(power):
        left = budget - costs(problem, 0.0, bits, power, 1.0)[1]
        if left < 0.0:
            return math.inf
        block = costs(problem, flops, 0.0, power, 1.0)[1]
        clock = min(problem.frequency_device_max, math.sqrt(left / block)) if block else problem.frequency_device_max
        if clock < problem.frequency_device_min:
            return math.inf
        return costs(problem, flops, bits, power, clock)[0]

    grid = np.geomspace(problem.power_min, problem.power_max, 4001)
    times = np.array([time(each) for each in grid])
    best = int(np.argmin(times))
    ends = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
    found = optimize.minimize_scalar(time, bounds=ends, method="bounded", options={"xatol": 1e-12})
    reference = min(times[best], found.fun)
    assert delay <= reference * (1.0 + 1e-10)
    # the bounded search stops short of an end where the budget binds
    assert delay == pytest.approx(reference, rel=1e-6)


def test_without_a_budget_all_at_full_speed():
    problem = make()
    delay, power, clock = fastest(problem.hardware, problem.gain, 1e5, 1e4, math.inf)
    assert (power, clock) == (0.5, 1e6)
    assert delay == pytest.approx(costs(problem, 1e5, 1e4, 0.5, 1e6)[0], rel=1e-12)


def test_a_budget_that_nothing_meets():
    problem = make()
    least = costs(problem, 1e5, 1e4, problem.power_min, problem.frequency_device_min)[1]
    for budget in (0.999 * least, 0.0, -1.0):
        delay, power, clock = fastest(problem.hardware, problem.gain, 1e5, 1e4, budget)
        assert (delay, power, clock) == (math.inf, problem.power_min, problem.frequency_device_min)
    assert fastest(problem.hardware, problem.gain, 1e5, 1e4, least * (1 + 1e-9))[0] < math.inf
    assert fastest(problem.hardware, 0.0, 1e5, 1e4, 1.0)[0] == math.inf


@pytest.mark.parametrize(("budget", "accuracy"), [(math.inf, 0.6), (8e-3, 0.0), (8e-3, 0.99), (1e-5, 0.6)])
def test_given_ratios_against_a_dense_grid(budget, accuracy):
    problem = make(energy_budget=budget, accuracy_min=accuracy)
    ratios, compression = (0.8, 0.5, 1.0), 0.5
    solution = solve_given(problem, ratios, compression)
    grid = np.array(
        [
            (cut, *ratios, compression, power, clock)
            for cut in range(5)
            for power in np.geomspace(0.01, 0.5, 121)
            for clock in np.geomspace(1e5, 1e6, 121)
        ]
    )
    outcomes = problem.evaluate(make_designs(NETWORK, grid))
    accurate = outcomes.accuracy >= accuracy
    allowed = accurate & (outcomes.energy <= budget)
    if allowed.any():
        best = outcomes.delay[allowed].min()
        assert solution.feasible
        assert 0.95 * best <= solution.delay <= best * (1 + 1e-9)
        assert solution.energy <= budget * (1 + 1e-12)
    else:
        assert not solution.feasible
        among = accurate if accurate.any() else outcomes.accuracy == outcomes.accuracy.max()
        assert solution.accuracy in outcomes.accuracy[among]
        least = outcomes.energy[among].min()
        assert solution.energy <= max(budget, least) * (1 + 1e-9)
    for cut in range(5):
        assert solve_given(problem, ratios, compression, cut).cut == cut


def test_rows_keep_all_but_power_and_clock():
    problem = make(energy_budget=8e-3)
    rng = np.random.default_rng(0)
    ratios = np.column_stack([rng.integers(0, 5, 40), rng.uniform(0.1, 1.0, (40, 4)), np.zeros((40, 2))])
    rows = make_designs(NETWORK, ratios)
    before = rows.copy()
    solved = solve_rows(problem, rows)
    assert (rows == before).all()
    assert (solved[:, :-2] == rows[:, :-2]).all()
    one_by_one = np.concatenate([solve_rows(problem, row[None]) for row in rows])
    assert (solved == one_by_one).all()
    for row, written in zip(solved, ratios, strict=True):
        given = solve_given(problem, written[1:4], written[4], int(row[0]))
        assert (given.power, given.frequency) == (row[5], row[6])
    with pytest.raises(InvalidInputError, match="retained of b"):
        solve_rows(problem, np.array([[0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]]))


def enumerated(problem):
    """Best delay over every design there is."""
    kept = [range(int(least), group.channels + 1, group.step) for group, least in zip(GROUPS, (1, 2, 1), strict=True)]
    best = math.inf
    for cut in range(5):
        before = (None, 0, 1, 2, None)[cut]
        rows = [
            [cut, *counts, sent, 1.0, 1.0]
            for counts in itertools.product(*kept)
            for sent in range(1, (1 if before is None else counts[before]) + 1)
        ]
        outcomes = problem.evaluate(solve_rows(problem, np.array(rows)))
        allowed = outcomes.accuracy >= problem.accuracy_min
        allowed &= outcomes.energy <= problem.energy_budget * (1 + 1e-12)
        best = min(best, outcomes.delay[allowed].min(initial=math.inf))
    return best


LIMITS = ((0.7, math.inf), (0.97, math.inf), (0.9, 6e-3), (0.99, 6e-3))


@pytest.mark.parametrize(("seed", "quantile", "budget"), [(seed, *LIMITS[seed % 4]) for seed in range(40)])
def test_the_best_design_against_all_of_them(seed, quantile, budget):
    problem = make(seed, energy_budget=budget, gain=10.0 ** (0.5 * (seed % 7) - 4.0))
    if seed % 5 == 4:  # where the cut makes a difference without a codec too
        problem = dataclasses.replace(problem, predictor=predictor(seed, noisy=True), snr_db=10.0)
    rng = np.random.default_rng(seed)
    ratios = np.column_stack([rng.integers(0, 5, 3000), rng.uniform(0.1, 1.0, (3000, 4)), np.ones((3000, 2))])
    rows = make_designs(NETWORK, ratios)
    threshold = float(np.quantile(problem.evaluate(rows).accuracy, quantile))
    problem = dataclasses.replace(problem, accuracy_min=threshold)
    solution = solve_exact(problem, tolerance=0.0)
    reference = enumerated(problem)
    assert reference < math.inf
    assert solution.feasible
    assert solution.accuracy >= threshold
    assert (NETWORK.kept(solution.retained) >= NETWORK.kept([problem.retained_min] * 3)).all()
    assert solution.delay == pytest.approx(reference, rel=1e-12)
    assert solution.delay_bound == pytest.approx(reference, rel=1e-12)
    assert solution.gap == pytest.approx(0.0, abs=1e-12)
    for tolerance, nodes in ((0.1, 100_000), (0.0, 20)):
        rough = solve_exact(problem, tolerance=tolerance, nodes=nodes)
        assert rough.delay_bound <= reference * (1 + 1e-12)
        assert rough.delay * (1 - rough.gap) == pytest.approx(rough.delay_bound, rel=1e-9)
        assert rough.nodes <= nodes
        if nodes > 20:
            assert rough.gap <= tolerance


@pytest.mark.parametrize("cuts", [(1, 3), (0, 1), (2, 2)])
def test_only_the_cuts_of_the_problem_are_chosen(cuts):
    whole = make(1, gain=0.03)
    found = solve_exact(dataclasses.replace(whole, cuts=cuts), tolerance=0.0)
    # The bound is infinite at a cut without an accurate design.
    each = [solve_exact(whole, cut, tolerance=0.0).delay_bound for cut in range(cuts[0], cuts[1] + 1)]
    assert found.delay == pytest.approx(min(each), rel=1e-12)
    assert found.cut == cuts[0] + int(np.argmin(each))
    with pytest.raises(InvalidInputError, match="cuts"):
        dataclasses.replace(whole, cuts=(cuts[0], 5))


def test_a_given_start_is_never_left_for_worse():
    problem = make(0)
    solution = solve_exact(problem, tolerance=0.0)
    again = solve_exact(problem, tolerance=0.5, nodes=1, starts=problem.row(solution)[None])
    assert again.delay == solution.delay
    with pytest.raises(InvalidInputError, match=r"starts.*\[2, 4, 2\]"):
        solve_exact(make(0, retained_min=0.4), starts=np.array([[0, 1.0, 8.0, 5.0, 1.0, 0.0, 0.0]]))


def test_an_accuracy_that_nothing_reaches():
    solution = solve_exact(make(0, accuracy_min=1.0))
    assert not solution.feasible
    assert solution.delay_bound == math.inf
    assert math.isnan(solution.gap)


def test_a_linear_form_has_no_cells():
    with pytest.raises(InvalidInputError, match="sum of regression trees"):
        solve_exact(make(predictor=predictor(0, linear=0.01)))


def test_the_solver_of_laim_names_the_right_one():
    with pytest.raises(InvalidInputError, match=r"coinfer_gym\.layerwise\.optimum\.solve_exact"):
        coinfer_gym.solve_exact(make())
    with pytest.raises(InvalidInputError, match=r"coinfer_gym\.layerwise\.optimum\.solve_exact"):
        coinfer_gym.solve_exact_batch(make())
    p1 = coinfer_gym.load_scenario("bert-text").problem(1e-9)
    for solve in (solve_exact, lambda problem: solve_given(problem, [1.0], 1.0)):
        with pytest.raises(InvalidInputError, match=r"problem: got 'Problem'.*coinfer_gym\.solve_exact"):
            solve(p1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("cut", value) for value in ("a", True, 1.5, 99)),
        *(("tolerance", value) for value in (math.nan, -1.0, "a")),
        *(("nodes", value) for value in ("a", -1, math.nan)),
        *(("starts", value) for value in ("a", [[1.0]])),
    ],
)
def test_arguments_of_a_wrong_kind_are_refused(name, value):
    with pytest.raises(InvalidInputError, match=f"{name}: got"):
        solve_exact(make(), **{name: value})
