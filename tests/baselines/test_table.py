"""The tabulated optimum: bounds that hold between the nodes, for every quality, gain and restriction."""

import dataclasses

import numpy as np
import pytest

from baselines.clairvoyant.table import _probe, build_table, upper_quality
from baselines.quality_grid import build_grid, fastest_delay
from coinfer_gym import InvalidInputError, load_scenario, solve_exact, solve_exact_batch
from coinfer_gym.laim.distortion import QUALITIES

GAINS = 10.0 ** np.linspace(-12.4, -8.5, 7)
LONGEST = 0.55


def exact(problem, gains, delays):
    rows = solve_exact_batch(problem, gains, delays)
    return np.where(rows["reason"] == 0, rows["quality"], 0.0)


def bounds(table, delays):
    """Bounds of the optimum over all cuts, shape (gains, delays)."""
    return (part.max(axis=1) for part in _probe(table, np.tile(delays, (len(GAINS), 1)), 0.0))


@pytest.fixture(scope="module", params=sorted(QUALITIES))
def problem(request):
    return load_scenario("bert-multimodal", quality=request.param).problem(1e-10)


def test_bounds_hold_and_are_tight(problem):
    table = build_table(problem, GAINS, LONGEST)
    delays = np.random.default_rng(0).uniform(0.02, LONGEST, 150)
    lower, upper = bounds(table, delays)
    truth = exact(problem, GAINS[:, None], delays)
    assert (lower <= truth + 1e-9).all()
    assert (truth <= upper + 1e-9).all()
    assert (upper - lower).mean() < 2e-3
    assert (upper - lower).max() < 2e-2
    for bound in bounds(table, np.linspace(0.0, LONGEST, 400)):
        assert (np.diff(bound, axis=1) >= -1e-9).all()


@pytest.mark.parametrize("width", [0.0005, 0.03])
def test_raised_quality_can_be_interpolated(problem, width):
    table = build_table(problem, GAINS, LONGEST, width=width)
    generator = np.random.default_rng(1)
    for _ in range(200):
        i = int(generator.integers(len(GAINS)))
        delays = generator.uniform(0.03, LONGEST - width) + width * generator.random(3)
        shares = generator.dirichlet(np.ones(3))
        raised = [upper_quality(table, i, delay, width) for delay in delays]
        truth = exact(problem, GAINS[i : i + 1], np.array([shares @ delays]))[0]
        if truth > 0.0:
            assert shares @ raised >= truth - 1e-9


def test_bounds_of_a_restricted_problem_and_of_one_that_nothing_meets():
    problem = load_scenario("bert-multimodal").problem(1e-10)
    delays = np.linspace(0.1, 0.5, 30)
    restricted = dataclasses.replace(problem, power_min=problem.power_max, retained_server_min=1.0)
    lower, upper = bounds(build_table(restricted, GAINS, LONGEST), delays)
    truth = exact(restricted, GAINS[:, None], delays)
    assert (lower <= truth + 1e-9).all()
    assert (truth <= upper + 1e-9).all()
    hopeless = build_table(dataclasses.replace(problem, energy_budget=1e-6), GAINS, LONGEST)
    assert not any(bound.any() for bound in bounds(hopeless, delays))
    assert not np.isfinite(hopeless.start).any()
    with pytest.raises(InvalidInputError, match="nodes"):
        build_table(problem, GAINS, LONGEST, nodes=5)


def test_fastest_delay_is_the_least_that_any_decision_takes():
    problem = load_scenario("bert-multimodal").problem(1e-10)
    fastest = fastest_delay(problem, GAINS)
    for gain, seconds in zip(GAINS, fastest, strict=True):
        unlimited = dataclasses.replace(problem, gain=float(gain), energy_budget=np.inf)
        assert not solve_exact(dataclasses.replace(unlimited, delay_budget=seconds * (1 - 1e-9))).feasible
        assert solve_exact(dataclasses.replace(unlimited, delay_budget=seconds * (1 + 1e-9))).feasible


def test_grid():
    problem = load_scenario("bert-multimodal").problem(1e-10)
    delays, energies = np.array([0.01, 0.2, 0.6]), np.array([0.4, 0.85])
    grid = build_grid(problem, GAINS, delays, energies)
    assert grid.quality.shape == (len(GAINS), 3, 2)
    assert not grid.quality[:, 0].any()
    solution = solve_exact(dataclasses.replace(problem, gain=float(GAINS[3]), delay_budget=0.6, energy_budget=0.4))
    assert grid.quality[3, 2, 0] == solution.quality
    assert 0.0 < grid.device_energy[3, 2, 0] <= 0.4
    quality, spent = grid.at(float(GAINS[3]))
    np.testing.assert_allclose(quality, grid.quality[3], rtol=1e-12)
    np.testing.assert_allclose(spent, grid.device_energy[3], rtol=1e-12)
    np.testing.assert_allclose(grid.at(1.0)[0], grid.quality[-1])
    assert build_grid(problem, [1e-10], delays).at(1e-3)[0].shape == (3, 1)
