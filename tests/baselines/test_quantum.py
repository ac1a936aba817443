"""The quantum-inspired search: minima known beforehand, bounds, constraints, counts, and that it ends."""

import numpy as np
import pytest
from scipy.optimize import Bounds

from baselines.box import Box
from baselines.quantum import minimize_quantum
from baselines.quantum_groups import _sample_around
from coinfer_gym import InvalidInputError

SQUARE = [(-5.0, 5.0)] * 4
CENTRE = np.array([1.0, -2.0, 0.5, 3.0])


def sphere(x):
    return ((x.T - CENTRE) ** 2).sum(axis=-1)


class Counter:
    """A function that keeps the points it is asked for, one per row."""

    def __init__(self, function):
        self.function, self.points = function, []

    def __call__(self, x):
        self.points.extend(np.atleast_2d(x.T).copy())
        return self.function(x)


def same(first, second):
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("feasibility", ["rejection", "penalty"])
def test_finds_a_known_minimum(feasibility):
    settings = {"vectorized": True, "scales": 60, "feasibility": feasibility}
    result = minimize_quantum(sphere, SQUARE, max_evaluations=20_000, restarts=True, **settings)
    assert result.success
    assert result.fun < 1e-3
    np.testing.assert_allclose(result.x, CENTRE, atol=0.03)
    assert result.fun == sphere(result.x)
    assert result.maxcv == 0.0


def test_finishes_by_itself_with_the_settings_of_the_paper():
    result = minimize_quantum(sphere, SQUARE, vectorized=True)
    assert (result.status, result.nit, result.success) == (0, 20, True)
    assert 100 < result.nfev < 2000
    single = minimize_quantum(sphere, SQUARE)
    same(single, result)


@pytest.mark.parametrize("form", [tuple, list, lambda pairs: Bounds(*np.array(pairs).T)])
def test_whole_numbers_and_bounds_are_kept(form):
    pairs = [(-2.5, 7.9), (0.0, 1.0), (3, 3), (-1e-3, 1e-3), (0, 1)]
    count = Counter(lambda x: (x**2).sum(axis=0) - 2.0 * x[0])
    result = minimize_quantum(
        count, form(pairs), integrality=[1, 0, True, False, True], vectorized=True, max_evaluations=4000, restarts=True
    )
    low, high = np.array(pairs).T
    points = np.array(count.points)
    assert ((points >= low) & (points <= high)).all()
    np.testing.assert_array_equal(points[:, [0, 2, 4]] % 1.0, 0.0)
    assert set(points[:, 0]) == set(range(-2, 8))
    np.testing.assert_array_equal(result.x[[0, 2, 4]], [1.0, 3.0, 0.0])


def test_each_whole_number_is_as_likely_as_the_next():
    box = Box([(0, 3), (0.0, 2.0)], [True, False])
    points = box.points(np.random.default_rng(0).random((40_000, 2)))
    shares = np.bincount(points[0].astype(int)) / points.shape[1]
    np.testing.assert_allclose(shares, 0.25, atol=0.01)
    assert abs(points[1].mean() - 1.0) < 0.01
    np.testing.assert_array_equal(box.points(box.units(points.T))[0], points[0])
    np.testing.assert_allclose(box.points(box.units(points.T))[1], points[1])


def test_samples_follow_the_normal_law_within_the_bounds():
    positions = np.array([[0.1, 0.5]])
    units, used = np.empty((1, 2)), 0
    normals = np.random.default_rng(0).standard_normal(60_000)
    drawn = []
    while (used := _sample_around(positions, np.array([0]), 0.3, normals, used, units)) >= 0:
        drawn.append(units[0].copy())
    z = 0.1 + 0.3 * np.random.default_rng(1).standard_normal(400_000)
    expected = z[(z >= 0.0) & (z <= 1.0)]
    first = np.array(drawn)[:, 0]
    np.testing.assert_allclose(np.quantile(first, [0.1, 0.5, 0.9]), np.quantile(expected, [0.1, 0.5, 0.9]), atol=0.01)


def ring(x):
    """Two constraints: between two circles around the origin of the first two variables."""
    radius = np.hypot(x[0], x[1])
    return np.stack([radius - 3.0, 2.0 - radius])


def test_rejection_shows_the_function_only_what_meets_the_constraints():
    function, constraints = Counter(sphere), Counter(ring)
    settings = {"vectorized": True, "constraints": constraints}
    result = minimize_quantum(function, SQUARE, max_evaluations=3000, restarts=True, **settings)
    assert result.success
    assert (ring(np.array(function.points).T) <= 0.0).all()
    assert result.nfev == len(constraints.points) == 3000
    assert len(function.points) < 3000
    assert result.fun == min(sphere(np.array(function.points).T))


@pytest.mark.parametrize("feasibility", ["rejection", "penalty"])
def test_constrained_minimum_is_found(feasibility):
    settings = {"vectorized": True, "constraints": lambda x: 1.0 - x[0], "feasibility": feasibility, "scales": 40}
    result = minimize_quantum(
        lambda x: (x**2).sum(axis=0), [(-5.0, 5.0)] * 3, max_evaluations=10_000, restarts=True, **settings
    )
    assert result.maxcv == 0.0
    assert 1.0 <= result.fun < 1.05


def needle(x):
    """Met by one place in ten thousand; points the way by its size."""
    return np.hypot(x[0] - 0.3, x[1] - 0.7) - 0.0056


def test_penalty_finds_what_rejection_cannot_start_from():
    settings = {"vectorized": True, "constraints": needle, "max_evaluations": 2000}
    unit = [(0.0, 1.0)] * 2
    lost = minimize_quantum(lambda x: x[0], unit, max_redraws=20, **settings)
    assert (lost.status, lost.success, lost.fun) == (2, False, np.inf)
    assert lost.nfev == 100
    assert lost.maxcv == pytest.approx(needle(lost.x), rel=1e-12)
    assert "penalty" in lost.message
    again = minimize_quantum(lambda x: x[0], unit, max_redraws=20, restarts=True, **settings)
    assert (again.status, again.nfev) == (1, 2000)
    found = minimize_quantum(lambda x: x[0], unit, feasibility="penalty", restarts=True, **settings)
    assert found.success
    assert found.maxcv == 0.0
    assert needle(found.x) <= 0.0


def test_ends_where_nothing_meets_the_constraints():
    for feasibility in ("rejection", "penalty"):
        result = minimize_quantum(lambda x: 0.0, [(0, 1)], constraints=lambda x: 1.0 + x[0], feasibility=feasibility)
        assert not result.success
        assert result.fun == np.inf
        assert 1.0 <= result.maxcv <= 2.0
        assert all(part.size == 0 for part in result.history)


def test_ends_where_the_mean_is_the_worst_for_ever():
    """Two basins and a ridge between them: as printed, the mean on the ridge replaces itself without end."""
    ridge = minimize_quantum(
        lambda x: np.abs(np.abs(x[0]) - 1.0), [(-1.0, 1.0)], vectorized=True, start=[[-1.0], [1.0], [-1.0], [1.0]]
    )
    assert (ridge.status, ridge.fun) == (0, 0.0)
    assert ridge.nfev < 2000


@pytest.mark.parametrize("vectorized", [True, False])
@pytest.mark.parametrize("limit", [1, 7, 1234])
def test_counts_are_honest_and_the_limit_holds(limit, vectorized):
    function = Counter(sphere)
    result = minimize_quantum(function, SQUARE, vectorized=vectorized, max_evaluations=limit, restarts=True)
    assert result.nfev == len(function.points) == limit
    assert result.status == 1
    assert result.fun == min(sphere(np.array(function.points).T))


def test_a_generator_seeds_the_search_as_its_seed_does():
    first, again = (
        minimize_quantum(sphere, SQUARE, vectorized=True, seed=seed) for seed in (5, np.random.default_rng(5))
    )
    same(first, again)


def test_start_is_where_the_search_begins():
    result = minimize_quantum(sphere, SQUARE, vectorized=True, start=CENTRE)
    assert result.fun == pytest.approx(0.0, abs=1e-25)


def test_nan_is_never_the_best():
    result = minimize_quantum(lambda x: np.where(x[0] < 0.5, np.nan, x[0]), [(0, 1)], vectorized=True)
    assert 0.5 <= result.fun < 0.52
    nothing = minimize_quantum(lambda x: np.nan, [(0, 1)])
    assert nothing.fun == np.inf


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("bounds", {"bounds": [(0.0, np.inf)]}),
        ("bounds", {"bounds": [(1.0, 0.0)]}),
        ("bounds", {"bounds": [(0.0, 1.0, 2.0)]}),
        ("bounds", {"bounds": "wide"}),
        ("bounds", {"bounds": [(0.2, 0.8)], "integrality": True}),
        ("integrality", {"integrality": [True] * 3}),
        ("k", {"k": 1}),
        ("scales", {"scales": 0}),
        ("factor", {"factor": 1.0}),
        ("feasibility", {"feasibility": "penalties"}),
        ("max_redraws", {"max_redraws": 0}),
        ("max_evaluations", {"max_evaluations": 0}),
        ("restarts", {"restarts": True}),
        ("start", {"start": [9.0]}),
        ("start", {"start": [[0.5]] * 6}),
        ("start", {"start": [0.5], "integrality": True}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": "one"}),
        ("function", {"function": 5}),
        ("constraints", {"constraints": 3}),
        ("function", {"function": lambda x: np.zeros(3), "vectorized": True}),
        ("constraints", {"constraints": lambda x: np.zeros((2, 3)), "vectorized": True}),
    ],
)
def test_bad_input_is_named(field, arguments):
    with pytest.raises(InvalidInputError) as caught:
        minimize_quantum(**({"function": lambda x: float(x[0]), "bounds": [(0.0, 1.0)]} | arguments))
    assert caught.value.field == field
