"""Accuracy predictors: their files, their interpolation, and the exact optimum of a quality that only rises."""

import json
import math
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from coinfer_gym import load_scenario, solve_exact
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim import frontier
from coinfer_gym.laim.costs import case_of
from coinfer_gym.laim.frontier import TOLERANCE, along_line, under_tangents
from coinfer_gym.laim.optimum import solve_exact_batch
from coinfer_gym.laim.outcome import model_distortion
from coinfer_gym.laim.predictor import LEVELS, AccuracyPredictor, interpolate, load_predictor, shipped_predictors
from tests.coinfer_gym.laim.test_optimum import (
    assert_in_budget,
    held,
    largest_server_ratio,
    random_physics,
    random_problem,
)
from tests.interpreted import samples

GRID = np.linspace(0.0, 1.0, LEVELS)
KINDS = ("smooth", "steps", "noise")


def random_table(rng, cuts, kind):
    """Rising tables: logistic, stairs, and running maxima of noise, which are not even quasi-concave."""
    tables = np.empty((cuts, LEVELS, LEVELS))
    for cut in range(cuts):
        if kind == "smooth":
            sides = [1.0 / (1.0 + np.exp(-rng.uniform(5, 25) * (GRID - rng.uniform(0.1, 0.7)))) for _ in range(2)]
            table = np.outer(*sides)
        elif kind == "steps":
            table = np.floor(5 * np.add.outer(GRID ** rng.uniform(0.5, 3), GRID)) + 1e-3
        else:
            table = np.maximum.accumulate(np.maximum.accumulate(rng.random((LEVELS, LEVELS)) ** 9, 0), 1)
        if cut == 0:
            table = np.tile(table[-1], (LEVELS, 1))
        if cut == cuts - 1:
            table = np.tile(table[:, -1:], (1, LEVELS))
        tables[cut] = table / table[-1, -1]
    return tables


def predictor(rng, cuts, kind="smooth"):
    return AccuracyPredictor("random", "f1", 0.7, random_table(rng, cuts, kind))


def accuracy_problem(seed, kind, physics=False):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, "magnitude_pruning", count=int(rng.integers(1, 6)), fixed=0.1)
    problem = replace(problem, quality="accuracy", predictor=predictor(rng, problem.workload.cuts, kind))
    return replace(problem, **random_physics(rng, problem)) if physics else problem


def corner_problem():
    """Static power: the frontier is straight where the energy alone decides, and bends where the delay does, too."""
    world = load_scenario("minilm-squad", static_power_server=2.3, frequency_server_min=8e8, energy_budget=0.15)
    return world.problem(1.3e-9, 0.3, 0.15)


def best_on_a_grid(problem, cut, points=4001):
    """Best quality on a fine grid of the device's ratio, the server's as large as the budgets allow; -1 where none."""
    if held(problem, cut) is None:
        return -1.0
    most_device, most_server = held(problem, cut)
    low = 1.0 if problem.workload.flops_device[cut] == 0.0 else problem.retained_device_min
    least = 0.0 if problem.workload.flops_server[cut] == 0.0 else problem.retained_server_min
    device = np.linspace(low, most_device, points)
    server = largest_server_ratio(problem, cut, device)
    inside = server >= least
    table = RegularGridInterpolator((GRID, GRID), problem.predictor.quality[cut])
    values = table(np.stack([device, np.clip(server, 0.0, most_server)], axis=1))
    return float(np.where(inside, values, -1.0).max())


# --- the table ---


def test_interpolation_is_that_of_scipy():
    rng = np.random.default_rng(0)
    table = rng.random((LEVELS, LEVELS))
    points = np.concatenate([rng.random((500, 2)), np.array([[0, 0], [1, 1], [1, 0], [0.05, 0.35], [0.1, 0.95]])])
    expected = RegularGridInterpolator((GRID, GRID), table)(points)
    assert [interpolate(table, *point) for point in points] == pytest.approx(expected, abs=1e-12)


def test_quality_of_a_problem_is_read_from_the_table_of_its_cut():
    problem = accuracy_problem(3, "noise")
    for cut in range(problem.workload.cuts):
        assert problem.tables.cuts["predicted"][cut].tolist() == problem.predictor.quality[cut].tolist()
        found = solve_exact(problem, cut)
        ratios = (found.retained_device, found.retained_server)
        expected = interpolate(problem.predictor.quality[cut], *ratios)
        assert found.quality == pytest.approx(expected, abs=1e-12)
        lost = model_distortion(problem.tables, cut, *ratios)
        assert lost == pytest.approx(1.0 - expected, abs=1e-12)


def test_parabolas_along_a_line_are_those_of_dense_sampling():
    rng = np.random.default_rng(1)
    for _ in range(samples(80)):
        table = random_table(rng, 1, KINDS[rng.integers(3)])[0]
        x, y, slope = rng.uniform(0, 0.9), rng.random(), float(rng.choice([0.0, 10 ** rng.uniform(-2, 1)]))
        last = rng.uniform(x, min(1.0, x + y / slope if slope else 1.0))
        line = np.linspace(x, last, 20001)
        values = np.array([interpolate(table, at, max(0.0, y - slope * (at - x))) for at in line])
        where, largest = along_line(table, x, y, slope, last)
        step = (last - x) / 20000
        assert largest == pytest.approx(values.max(), abs=200 * step**2 + 40 * step * 1e-2)
        assert largest >= values.max() - 1e-12
        assert interpolate(table, where, max(0.0, y - slope * (where - x))) == pytest.approx(largest, abs=1e-9)


def test_bound_under_two_tangents_is_that_of_dense_sampling():
    rng = np.random.default_rng(6)
    for _ in range(samples(80)):
        table = random_table(rng, 1, KINDS[rng.integers(3)])[0]
        device, end = np.sort(rng.random(2))
        meet, height = rng.uniform(device, end), rng.uniform(0.2, 0.6)
        end_slope = rng.random() * min(4.0, height / (end - meet))
        slope = rng.random() * min(end_slope, (1.0 - height) / (meet - device))

        def lower(x, meet=meet, height=height, slope=slope, end_slope=end_slope):
            return height - np.maximum(slope * (x - meet), end_slope * (x - meet))

        where, largest = under_tangents(table, device, lower(device), slope, end, lower(end), end_slope)
        line = np.linspace(device, end, 20001)
        expected = RegularGridInterpolator((GRID, GRID), table)(np.stack([line, lower(line)], axis=1)).max()
        assert largest >= expected - 1e-12
        assert device <= where <= end
        assert interpolate(table, where, lower(where)) == pytest.approx(largest, abs=1e-9)


# --- the exact optimum ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("physics", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_optimum_is_at_least_that_of_a_fine_grid_at_every_cut(seed, physics, kind):
    problem = accuracy_problem(seed, kind, physics)
    best = -1.0
    for cut in range(problem.workload.cuts):
        found, expected = solve_exact(problem, cut), best_on_a_grid(problem, cut)
        best = max(best, expected)
        if expected < 0:
            continue  # between the points of the grid there may be something
        assert found.feasible or max(found.delay_needed / problem.delay_budget, 0) < 1 + 1e-6
        if found.feasible:
            assert_in_budget(problem, found)
            assert found.quality >= expected - TOLERANCE
            assert found.gap <= TOLERANCE * (1 + 1e-9)
    whole = solve_exact(problem)
    if whole.feasible:
        assert whole.quality >= best - TOLERANCE
        assert problem.evaluate(whole).quality == pytest.approx(whole.quality, abs=1e-12)


@pytest.mark.parametrize("physics", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_optimum_is_not_above_what_a_fine_grid_can_miss(seed, physics):
    problem = accuracy_problem(seed, "smooth", physics)
    for cut in range(problem.workload.cuts):
        found, expected = solve_exact(problem, cut), best_on_a_grid(problem, cut)
        if found.feasible and expected >= 0:
            # Of two neighbours on the grid the one below loses at most the table's steepest rise over their distance.
            steepest = np.abs(np.diff(problem.predictor.quality[cut], axis=0)).max() * (LEVELS - 1)
            assert found.quality <= expected + steepest / 4000 + TOLERANCE


def test_optimum_at_a_corner_of_the_frontier_is_found_in_few_steps(monkeypatch):
    problem = corner_problem()
    steps = []
    largest_ratio = frontier.largest_ratio
    monkeypatch.setattr(frontier, "largest_ratio", lambda *given: steps.append(given) or largest_ratio(*given))
    solve_cut = getattr(frontier._solve_cut, "py_func", frontier._solve_cut)
    case = case_of(problem.tables, problem.gain, problem.delay_budget, problem.energy_budget)
    for s in range(problem.workload.cuts):
        found, quality, *_ = solve_cut(case, s, 0.0, -1.0)
        assert found
        assert quality >= best_on_a_grid(problem, s) - TOLERANCE
    assert len(steps) < 100  # 157,000 where every step upwards was one of `TOLERANCE`


def test_a_quality_that_is_a_weighted_sum_of_ratios_has_the_optimum_of_the_linear_solver():
    rng = np.random.default_rng(5)
    for _ in range(40):
        problem = random_problem(rng, "rate_distortion", count=4)
        problem = replace(problem, quality_scale="log")
        cuts = problem.tables.cuts
        shares = cuts["prunable_device"] / (cuts["prunable_device"] + cuts["prunable_server"])
        table = shares[:, None, None] * GRID[:, None] + (1 - shares)[:, None, None] * GRID
        table[:, -1, -1] = 1.0
        same = replace(
            problem, quality="accuracy", quality_scale="", predictor=AccuracyPredictor("sum", "f1", 1.0, table)
        )
        linear, rising = solve_exact(problem), solve_exact(same)
        assert linear.feasible == rising.feasible
        if linear.feasible:
            assert rising.quality == pytest.approx(linear.quality, abs=TOLERANCE)


def test_unpruned_network_is_served_by_the_fastest_cut():
    problem = replace(accuracy_problem(2, "smooth"), delay_budget=math.inf, energy_budget=math.inf)
    found = solve_exact(problem)
    assert found.quality == 1.0
    assert found.delay == pytest.approx(min(solve_exact(problem, cut).delay for cut in range(problem.workload.cuts)))


def test_raised_lower_bounds_restrict_the_optimum():
    for seed in range(10):
        problem = accuracy_problem(seed, "smooth")
        free, tied = solve_exact(problem), solve_exact(replace(problem, retained_server_min=1.0))
        if tied.feasible:
            assert tied.retained_server == 1.0
            assert free.quality >= tied.quality - TOLERANCE


def test_batch_gives_what_single_problems_give():
    problem = accuracy_problem(4, "smooth")
    gains = problem.gain * np.logspace(-1, 1, 7)
    rows = solve_exact_batch(problem, gains)
    for gain, row in zip(gains, rows, strict=True):
        single = solve_exact(replace(problem, gain=float(gain)))
        assert (row["reason"] == 0) == single.feasible
        assert row["quality"] == single.quality


# --- in the environment ---


def test_environment_pays_the_predicted_accuracy():
    name = shipped_predictors()[0]
    env = gym.make("coinfer_gym/LAIM-v0", scenario="minilm-squad", predictor=name, arrivals="one_at_a_time")
    env.reset(seed=3)
    table = load_predictor(name).quality
    for _ in range(50):
        _, _, _, _, info = env.step(env.action_space.sample())
        expected = interpolate(table[int(info["cut"])], info["retained_device"], info["retained_server"])
        if info["abandoned"] == 0:
            assert info["quality"] == pytest.approx(expected, abs=1e-12)


def test_exact_optimum_acts_in_the_environment_without_missing_a_budget():
    env = gym.make("coinfer_gym/LAIM-v0", scenario="minilm-squad", arrivals="one_at_a_time").unwrapped
    env.reset(seed=0)
    feasible = 0
    for _ in range(50):
        solution = solve_exact(env.problem())
        _, _, _, _, info = env.step(env.action(solution))
        feasible += solution.feasible
        if solution.feasible:
            assert info["delivered"] == pytest.approx(solution.quality, abs=1e-3)
    assert feasible > samples(25)


# --- bad input ---


def test_shipped_predictors_load_under_their_own_names():
    assert shipped_predictors()
    for name in shipped_predictors():
        assert load_predictor(name).name == name


def test_file_and_plain_form_are_the_same(tmp_path):
    first = predictor(np.random.default_rng(0), 3)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(first.to_dict()))
    second = load_predictor(path)
    assert second.to_dict() == first.to_dict()


def test_scenario_file_names_a_predictor_beside_it(tmp_path):
    mine = predictor(np.random.default_rng(0), 13)
    (tmp_path / "mine.json").write_text(json.dumps(mine.to_dict()))
    world = tmp_path / "world.yaml"
    world.write_text("extends: bert-multimodal\nname: mine\nquality: accuracy\npredictor: mine.json\n")
    assert load_scenario(world).predictor.quality.tolist() == mine.quality.tolist()


@pytest.mark.parametrize(
    ("change", "field", "remedy"),
    [
        (lambda d: d.pop("quality"), "quality", "missing"),
        (lambda d: d.update(colour=1), "key", "Known are"),
        (lambda d: d.update(quality=[[1.0]]), "quality", "shape"),
        (lambda d: d["quality"][1][3].__setitem__(3, 10**400), "quality", "lists of numbers"),
        (lambda d: d["quality"][1][20].__setitem__(20, 0.9), "quality", "1 where both"),
        (lambda d: d["quality"][1][3].__setitem__(3, 1.5), "quality", r"\[0, 1\]"),
        (lambda d: d["quality"][1][3].__setitem__(3, 1.0), "quality", "make_monotone"),
        (lambda d: d.update(unpruned=0.0), "unpruned", "metric of the unpruned"),
        (lambda d: d.update(errors={"x": "y"}), "errors", "numbers by name"),
        (lambda d: d.update(metric=["f1"]), "metric", "Give text"),
    ],
)
def test_damaged_file_gives_one_clear_error(tmp_path, change, field, remedy):
    data = predictor(np.random.default_rng(0), 3).to_dict()
    change(data)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InvalidInputError, match=remedy) as caught:
        load_predictor(path)
    assert field in caught.value.field


def test_file_that_is_none_gives_one_clear_error(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text("{")
    with pytest.raises(InvalidInputError, match="not valid JSON"):
        load_predictor(path)
    with pytest.raises(InvalidInputError, match="no such file"):
        load_predictor(tmp_path / "none.json")
    with pytest.raises(InvalidInputError, match=r"as my\.json"):
        load_predictor("nonsense")


def test_accuracy_without_its_predictor_is_refused():
    with pytest.raises(InvalidInputError, match="minilm-squad"):
        load_scenario("bert-multimodal", quality="accuracy")
    with pytest.raises(InvalidInputError, match="13: give the predictor of this network"):
        load_scenario("bert-multimodal", quality="accuracy", predictor=shipped_predictors()[0])
    with pytest.raises(InvalidInputError, match="quality_scale"):
        load_scenario("minilm-squad", quality_scale="log")


def test_another_workload_has_no_predictor():
    with pytest.raises(InvalidInputError, match="needs measurements"):
        load_scenario("minilm-squad", workload="bert-base")
    assert load_scenario("minilm-squad", workload="bert-base", quality="rate_distortion").predictor is None
