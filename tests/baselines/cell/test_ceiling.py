"""The ceiling of a cell's episode: nothing that is played exceeds it, nor a service the worth that it is given."""

import functools
import itertools
import math
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from baselines.cell.ceiling import WorthTables, cell_ceiling, main
from baselines.cell.ceiling_service import build_menu
from baselines.cell.ceiling_worth import build_scratch, fill_worth
from baselines.cell.family import FAMILY
from baselines.clairvoyant import clairvoyant_optimum
from coinfer_gym import InvalidInputError, solve_exact
from coinfer_gym.cell.env import share_problem
from coinfer_gym.cell.optimum import solve_cell
from coinfer_gym.files import read_csv
from coinfer_gym.laim.decision import as_tuple
from coinfer_gym.laim.outcome import evaluate
from studies.fuzz.certificate import random_problem

CELL = "coinfer_gym/Cell-v0"
TOLERANCE = 3e-3
COARSE = {"levels": 5, "nodes": 12, "gain_step": 2.0, "tolerance": 5e-3}


# --- what a single service is worth at prices ---


def worth_at(problem, prices, times):
    """Bounds at both ends of the intervals between times, shape (n, 2)."""
    ends = np.zeros((1, 1, len(times) - 1, 2))
    tables = problem.tables
    given = (tables, build_menu(tables), np.array([problem.gain]), problem.energy_budget, 0.01, np.array([prices]))
    fill_worth(*given, times, TOLERANCE, build_scratch(tables), ends)
    return ends[0, 0]


def interpolate(times, ends, time):
    k = min(len(ends) - 1, max(0, np.searchsorted(times, time) - 1))
    share = (time - times[k]) / (times[k + 1] - times[k])
    return ends[k, 0] + share * (ends[k, 1] - ends[k, 0])


def paid_worth(problem, solution, band, server, prices):
    """Quality less the price of what is held, and the time of the service, by the formulas of the environment."""
    shared = share_problem(problem, band, server).tables
    t_device, tau, t_server, *_ = evaluate(shared, problem.gain, as_tuple(solution))
    total = t_device + tau + t_server
    if solution.cut == problem.workload.cuts - 1:
        return solution.quality, total
    held = t_device + tau - shared.cuts[solution.cut]["round_trip"]
    return solution.quality - prices[0] * band * held - prices[1] * server * total, total


def assert_no_service_is_worth_more(seed):
    rng = np.random.default_rng(seed)
    while True:
        problem, _ = random_problem(rng)
        if solve_exact(problem).feasible and not problem.tables.cuts["unpruned_delay_server"].any():
            break  # a cell takes such a network
    level, mix = rng.choice([0.0, 0.03, 0.1, 0.3, 1.0, 3.0]) / problem.delay_budget, rng.random()
    prices = (level * (1.0 - mix), level * mix)
    times = problem.delay_budget * (np.arange(9) / 8) ** 1.3
    ends, compared = worth_at(problem, prices, times), 0
    for trial in range(100):
        band, server = np.maximum(0.01, rng.random(2) ** rng.choice([1, 2, 4])) if trial % 4 else (1.0, 1.0)
        time = problem.delay_budget * rng.random() if trial % 3 else rng.choice(times[1:])
        cut = None if trial % 2 else int(rng.integers(problem.workload.cuts))
        if trial == 0:  # the task that can be served, with all there is
            band, server, time, cut = 1.0, 1.0, times[-1], None
        solution = solve_exact(share_problem(replace(problem, delay_budget=time), float(band), float(server)), cut)
        if solution.feasible:
            earned, total = paid_worth(problem, solution, float(band), float(server), prices)
            assert earned <= interpolate(times, ends, min(total, times[-1])) + 1e-9, seed
            compared += 1
    assert compared > 0


@pytest.mark.parametrize("seed", range(12))
def test_no_service_is_worth_more_than_its_bound(seed):
    assert_no_service_is_worth_more(seed)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(100, 400))
def test_no_service_of_many_problems_is_worth_more(seed):
    assert_no_service_is_worth_more(seed)


@pytest.mark.parametrize("gain_db", [-115.0, -100.0, -85.0])
def test_the_bound_of_a_service_is_close(gain_db):
    """Without prices to the exact optimum; at prices to the best of a grid of shares, cuts and times."""
    cell = gym.make(CELL).unwrapped
    problem = cell.scenario.members[0].problem(10.0 ** (gain_db / 10.0))
    times = problem.delay_budget * (np.arange(25) / 24) ** 1.5
    whole = [solve_exact(replace(problem, delay_budget=time)) for time in times[1:]]
    exact = np.array([solution.quality if solution.feasible else 0.0 for solution in whole])
    excess = worth_at(problem, (0.0, 0.0), times)[:, 1] - exact
    assert excess.mean() <= 0.01  # near the least delay of a cut, where quality jumps, it is loose
    prices, best = (1.0, 0.7), 0.0
    bound = worth_at(problem, prices, times)[-8, 1]
    shares = np.geomspace(0.03, 1.0, 12)
    for band, server, time in itertools.product(shares, shares, times[-8] * np.array([0.2, 0.35, 0.5, 0.7, 0.85, 1.0])):
        solution = solve_exact(share_problem(replace(problem, delay_budget=time), band, server))
        if solution.feasible:
            best = max(best, paid_worth(problem, solution, band, server, prices)[0])
    assert best <= bound <= best + 0.02


# --- episodes ---


def random_env(rng):
    """A small random cell, each of whose devices can serve some task."""
    while True:
        try:
            return gym.make(CELL, **random_cell(rng))
        except InvalidInputError as error:
            if "No decision meets both budgets" not in str(error):
                raise


def random_cell(rng):
    """Constants of a small cell."""
    near = rng.uniform(10.0, 80.0)
    return {
        "devices": int(rng.integers(2, 5)),
        "tasks": int(rng.integers(2, 6)),
        "bandwidth": 5e6 * 10 ** rng.uniform(-1.0, 0.5),
        "flops_per_cycle_server": 128.0 * 10 ** rng.uniform(-1.0, 0.5),
        "flops_per_cycle_device": 16.0 * 10 ** rng.uniform(-0.7, 0.3),
        "static_power_server": 9.0 * rng.random(),
        "frequency_server_min": 8e8 * rng.choice([0.1, 1.0]),
        "waiting_power_device": 0.3 * rng.random(),
        "circuit_power": 0.6 * rng.random(),
        "power_min": 0.2 * rng.choice([0.001, 0.01, 0.5]),
        "round_trip": 0.03 * rng.random(),
        "sparsity_gain": rng.uniform(0.5, 1.0),
        "retained_device_min": rng.choice([0.05, 0.3]),
        "retained_server_min": rng.choice([0.05, 0.3]),
        "quality": str(rng.choice(["parallel_laplacian", "rate_distortion", "magnitude_pruning", "random_pruning"])),
        "share_min": rng.choice([0.02, 0.1, 0.3]),
        "distance_range": (near, near * rng.uniform(1.0, 4.0)),
        "block_duration": rng.choice([0.07, 0.3, 1.0]),
        "arrivals": str(rng.choice(["poisson", "mmpp", "periodic"])),
        "arrival_rate": 10 ** rng.uniform(0.0, 1.0),
        "burst_rate": 20.0,
        "queue_capacity": int(rng.integers(1, 4)),
        "patience": rng.uniform(1.0, 2.0),
        "delay_budget": rng.uniform(0.2, 0.8),
        "energy_budget": rng.uniform(0.3, 1.5),
        "delay_budget_range": (0.2, 0.8) if rng.random() < 0.2 else None,
        "kinds": [{}, {"scenario": "minilm-squad", "tasks": 4}] if rng.random() < 0.2 else [],  # a measured accuracy
    }


def play(env, seed, decide):
    """Delivered quality per task."""
    env.reset(seed=seed)
    delivered, ended = 0.0, False
    while not ended:
        _, _, _, ended, info = env.step(decide(env.unwrapped))
        delivered += info["delivered"]
    return delivered / sum(len(env.unwrapped.world(k).arrivals) for k in range(env.unwrapped.devices))


def exactly(cell, band, server, share_of_time=1.0):
    """The exact optimum of the task at hand at shares, in a part of the time that is left."""
    problem = cell.problem(band, server)
    solution = solve_exact(replace(problem, delay_budget=share_of_time * problem.delay_budget))
    return cell.action(solution, band, server)


def free_part(cell, part, share_of_time=1.0):
    return exactly(cell, *(min(free, max(part * free, cell.scenario.share_min)) for free in cell.free), share_of_time)


def equal_shares(cell):
    share = max(1.0 / cell.devices, cell.scenario.share_min)
    return exactly(cell, *(min(free, share) for free in cell.free))


def jointly(cell, rng):
    """The shares that the joint optimum gives the device at hand, were some others to decide at the same time."""
    now, kinds = cell.problem(), cell.scenario.members
    others = rng.permutation(cell.devices)[: rng.integers(0, cell.devices)]
    problems = [cell.kind.problem(now.gain, now.delay_budget, now.energy_budget)]
    problems += [kinds[k % len(kinds)].problem(cell.world(int(k)).gains[0]) for k in others]
    if any(problem.predictor is not None for problem in problems):
        return free_part(cell, 0.7)  # no joint optimum pays a measured accuracy
    band_free, server_free = cell.free
    best = solve_cell(problems, band_free * cell.scenario.bandwidth, server_free, tolerance=0.05)
    least = cell.scenario.share_min
    band, server = best.band[0] / cell.scenario.bandwidth, best.server[0]
    return exactly(cell, min(band_free, max(least, band)), min(server_free, max(least, server)))


def policies(rng):
    """Rules with random constants."""
    part, time = rng.uniform(0.1, 1.0), rng.uniform(0.2, 1.0)
    return [
        lambda cell: rng.uniform(-1.0, 1.0, 8).astype(np.float32),
        lambda cell: free_part(cell, 1.0),
        lambda cell: free_part(cell, 0.5),
        lambda cell: free_part(cell, part, time),
        lambda cell: free_part(cell, rng.uniform(0.1, 1.0), rng.uniform(0.2, 1.0)),
        equal_shares,
        functools.partial(jointly, rng=rng),
    ]


def assert_nothing_exceeds_the_ceiling(seed, worlds):
    """Returns the shares of the ceiling that the best policy of each world delivers."""
    rng, reached = np.random.default_rng(seed), []
    env = random_env(rng)
    tables = WorthTables(env.unwrapped.scenario, mix=rng.choice([0.2, 0.5, 0.8]), **COARSE)
    for world in range(worlds):
        env.reset(seed=world)
        result = cell_ceiling(env, tables, steps=20, bins=rng.choice([0.5, 1.0, 3.0]), rounds=10)
        best = max(play(env, world, decide) for decide in policies(rng))
        assert best <= result.bound + 1e-9 <= result.alone + 2e-9, (seed, world)
        reached.append(best / max(result.bound, 1e-9))
    return reached


def test_no_policy_exceeds_the_ceiling():
    reached = [share for seed in range(10) for share in assert_nothing_exceeds_the_ceiling(seed, worlds=2)]
    assert len(reached) == 20
    assert max(reached) > 0.6  # the ceiling is not far


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(100, 400, 20))
def test_no_policy_exceeds_the_ceiling_of_many_cells(seed):
    for cell in range(seed, seed + 20):
        assert_nothing_exceeds_the_ceiling(cell, worlds=7)


def search_exhaustively(env, seed, choices):
    """Most that any sequence of choices delivers per task."""
    best, stack = 0.0, [()]
    while stack:
        prefix = stack.pop()
        left = iter(prefix)
        env.reset(seed=seed)
        delivered, ended, missing = 0.0, False, False
        while not ended:
            choice = next(left, None)
            if choice is None:
                missing = True
                break
            _, _, _, ended, info = env.step(free_part(env.unwrapped, *choice))
            delivered += info["delivered"]
        if missing:
            stack += [(*prefix, choice) for choice in choices]
        best = max(best, delivered)
    return best / (env.unwrapped.devices * env.unwrapped.scenario.tasks)


@pytest.mark.parametrize("seed", range(3))
def test_exhaustive_search_stays_below_and_comes_near(seed):
    """Two devices with two tasks each: all sequences of two shares and two parts of the time that is left."""
    env = gym.make(CELL, devices=2, tasks=2, arrivals="poisson", arrival_rate=8.0, bandwidth=2e6)
    env.reset(seed=seed)
    result = cell_ceiling(env, WorthTables(env.unwrapped.scenario, levels=8, nodes=16, gain_step=0.5))
    choices = list(itertools.product((0.5, 1.0), (0.35, 0.9)))
    searched = search_exhaustively(env, seed, choices)
    print("share of the ceiling", searched / result.bound)
    assert 0.75 * result.bound <= searched <= result.bound


def test_one_device_alone_may_do_what_the_clairvoyant_does():
    env = gym.make(CELL, devices=1, tasks=10, distance_range=None)
    env.reset(seed=3)
    cell = env.unwrapped
    result = cell_ceiling(env, WorthTables(cell.scenario, levels=3), steps=200)
    clairvoyant = clairvoyant_optimum(cell.scenario.members[0], cell.world())
    assert clairvoyant.lower <= result.bound <= clairvoyant.upper + 0.05


def test_prices_are_those_of_what_is_scarce():
    """In a narrow band four devices at once are worth less than four alone; the price is 0 after the last task."""
    env = gym.make(CELL, tasks=4, arrivals="periodic", arrival_rate=4.0, bandwidth=4e5, flops_per_cycle_device=2.0)
    env.reset(seed=1)
    result = cell_ceiling(env, WorthTables(env.unwrapped.scenario, **COARSE), steps=40)
    assert result.bound < 0.97 * result.alone
    assert result.prices.max() > 0.1
    assert result.prices[-1] < 0.01 * result.prices.max()
    assert result.bound * 16 == pytest.approx(result.devices.sum() + result.bin * result.prices.sum())


# --- bad input ---


def test_bad_input_is_named():
    scenario = gym.make(CELL).unwrapped.scenario
    with pytest.raises(InvalidInputError, match="mix"):
        WorthTables(scenario, mix=1.5)
    with pytest.raises(InvalidInputError, match="gain_step"):
        WorthTables(scenario, gain_step=math.nan)
    with pytest.raises(InvalidInputError, match="env"):
        cell_ceiling(gym.make("coinfer_gym/LAIM-v0"))
    env = gym.make(CELL)
    env.reset(seed=0)
    poorer = gym.make(CELL, bandwidth=1e6).unwrapped.scenario
    for name, value in (("tables", WorthTables(poorer, **COARSE)), ("tables", 5), ("steps", 1), ("bins", 0.0)):
        with pytest.raises(InvalidInputError, match=name):
            cell_ceiling(env, **{name: value})


@pytest.mark.parametrize("options", [["--worlds", "0"], ["--seed", "-1"], ["--mix", "2"]])
def test_bad_options_are_named(options, capsys):
    assert main(["cell-4", *options]) == 2
    assert options[0].removeprefix("--") in capsys.readouterr().err
    waiting = gym.make(CELL, arrivals="one_at_a_time")
    waiting.reset(seed=0)
    with pytest.raises(InvalidInputError, match="arrivals"):
        cell_ceiling(waiting)


def test_the_command_keeps_its_ceilings(tmp_path, capsys):
    file, scenario = tmp_path / "ceilings.csv", tmp_path / "tiny.yaml"
    scenario.write_text("extends: cell-4\ndevices: 2\ntasks: 3\n", encoding="utf-8")
    assert main([str(scenario), "--worlds", "2", "--out", str(file)]) == 0
    rows = read_csv(file)
    assert [row["world"] for row in rows] == ["0", "1"]
    env = gym.make(CELL, scenario=str(scenario))
    env.reset(seed=1)
    result = cell_ceiling(env)
    assert float(rows[1]["ceiling"]) == pytest.approx(result.bound, abs=1e-6)
    assert float(rows[1]["without_prices"]) == pytest.approx(result.alone, abs=1e-6)
    assert "world 1" in capsys.readouterr().out


def test_the_ceiling_is_the_bound_of_the_family():
    env = gym.make(CELL, devices=2, tasks=3)
    env.reset(seed=4)
    assert FAMILY.quality_bounds(env) == (0.0, cell_ceiling(env).bound)
    env = gym.make(CELL, devices=2, tasks=3, arrivals="one_at_a_time")
    env.reset(seed=4)
    assert FAMILY.quality_bounds(env) == (0.0, 1.0)
