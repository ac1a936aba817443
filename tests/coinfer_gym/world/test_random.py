"""The generator: splitmix64 as published, deviates with their laws, streams that do not touch."""

import numpy as np
import pytest
from numba import njit
from scipy import integrate, stats

from coinfer_gym.world import random as rng

MASK = 2**64 - 1
ALPHA = 1e-3  # seeds are fixed: a test either always passes or never


def splitmix64(state, count):
    """The published algorithm on Python integers."""
    words = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        words.append(z ^ (z >> 31))
    return words


@njit
def fill_raw(state, out):
    for i in range(out.size):
        out[i], state = rng.next_raw(state)


@njit
def fill_uniform(state, out):
    for i in range(out.size):
        out[i], state = rng.uniform(state)


@njit
def fill_exponential(state, out):
    for i in range(out.size):
        out[i], state = rng.exponential(state)


@njit
def fill_normal(state, out):
    for i in range(out.size):
        out[i], state = rng.normal(state)


@njit
def fill_normal_at(stream, out):
    for i in range(out.size):
        out[i] = rng.normal_at(stream, i)


def drawn(fill, count, seed=1, stream=rng.FADING, dtype=np.float64):
    out = np.empty(count, dtype=dtype)
    fill(np.uint64(rng.substream(np.uint64(seed), stream)), out)
    return out


@pytest.fixture(scope="module")
def normals():
    return drawn(fill_normal, 4_000_000)


@pytest.mark.parametrize("state", [0, 1, 1234567, 2**63, MASK])
def test_raw_words_are_splitmix64(state):
    out = np.empty(20, dtype=np.uint64)
    fill_raw(np.uint64(state), out)
    assert [int(word) for word in out] == splitmix64(state, 20)


def test_reference_gives_the_published_first_word():
    assert splitmix64(0, 1) == [0xE220A8397B1DCDAF]


@pytest.mark.parametrize(
    ("fill", "law"),
    [
        (fill_uniform, stats.uniform()),
        (fill_exponential, stats.expon()),
        (fill_normal, stats.norm()),
        (fill_normal_at, stats.norm()),
    ],
)
def test_laws(fill, law):
    assert stats.kstest(drawn(fill, 300_000, 7), law.cdf).pvalue > ALPHA


def test_uniform_stays_inside_and_has_53_bits():
    u = drawn(fill_uniform, 1_000_000)
    assert u.min() > 0.0
    assert u.max() < 1.0
    assert np.all((u * 2.0**53) % 2.0 == 1.0)


def test_normals_fit_over_fine_bins(normals):
    """Finer than the ziggurat's layers: a wrong wedge or edge shows."""
    edges = np.concatenate(([-np.inf], np.linspace(-4.0, 4.0, 1601), [np.inf]))
    expected = np.diff(stats.norm.cdf(edges)) * normals.size
    observed = np.bincount(np.searchsorted(edges, normals) - 1, minlength=expected.size)
    assert stats.chisquare(observed, expected, sum_check=False).pvalue > ALPHA


def test_tail_beyond_the_last_layer(normals):
    edge = rng._TAIL
    tail = normals[np.abs(normals) > edge]
    expected = 2.0 * stats.norm.sf(edge) * normals.size
    assert abs(tail.size - expected) < 4 * np.sqrt(expected)
    assert abs(np.count_nonzero(tail > 0) - 0.5 * tail.size) < 4 * np.sqrt(0.25 * tail.size)
    law = stats.truncnorm(edge, np.inf)
    assert stats.kstest(np.abs(tail), law.cdf).pvalue > ALPHA


def test_layers_have_equal_areas_that_add_up():
    edges, heights = rng._EDGES, rng._HEIGHTS
    areas = edges[1:-1] * np.diff(heights[1:])
    base = edges[1] * heights[1] + integrate.quad(lambda x: np.exp(-0.5 * x * x), edges[1], np.inf)[0]
    np.testing.assert_allclose(areas, base, rtol=1e-12)
    np.testing.assert_allclose(edges[0] * heights[1], base, rtol=1e-12)
    assert edges.size == 257
    assert heights[-1] == 1.0
    assert np.all(np.diff(edges) < 0.0)


def test_normals_do_not_correlate_in_time(normals):
    part = normals[:1_000_000]
    for lag in (1, 2, 3, 7):
        assert abs(np.mean(part[lag:] * part[:-lag])) < 4 / np.sqrt(part.size)
        assert abs(np.mean(part[lag:] ** 2 * part[:-lag] ** 2) - 1.0) < 4 * np.sqrt(8 / part.size)


def test_streams_and_neighbouring_seeds_do_not_correlate():
    streams = (rng.ARRIVALS, rng.FADING, rng.SHADOWING, rng.BUDGETS, rng.TRACE, rng.CSI)
    assert len(set(streams)) == 6
    rows = [drawn(fill_normal, 100_000, seed, stream) for seed in (0, 1, 2) for stream in streams]
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlation).max() < 5 / np.sqrt(100_000)


def test_first_deviates_of_consecutive_seeds_have_the_law():
    """Lanes are seeded side by side; across them the first draw must be as random as within one."""
    first = np.array([drawn(fill_uniform, 1, seed)[0] for seed in range(20_000)])
    assert stats.kstest(first, "uniform").pvalue > ALPHA
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 4 / np.sqrt(first.size)


def test_states_of_seeds_and_streams_differ():
    states = {int(rng.substream(np.uint64(seed), stream)) for seed in range(500) for stream in range(6)}
    assert len(states) == 3000


def test_normal_at_needs_no_order():
    stream = np.uint64(rng.substream(np.uint64(5), rng.CSI))
    in_order = drawn(fill_normal_at, 1000, 5, rng.CSI)
    for index in (999, 0, 500):
        assert rng.normal_at(stream, index) == in_order[index]


def test_normal_at_does_not_correlate():
    x = drawn(fill_normal_at, 300_000)
    assert abs(np.mean(x[1:] * x[:-1])) < 4 / np.sqrt(x.size)
