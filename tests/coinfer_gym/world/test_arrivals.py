"""Arrivals: Poisson, bursts, a beat, recorded rows, and tasks that always wait, against their laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from coinfer_gym.laim.scenario import load_scenario
from coinfer_gym.world import build_world_tables
from coinfer_gym.world.arrivals import ARRIVAL_KINDS, draw_arrivals

ALPHA = 1e-3


def tables_of(kind, **overrides):
    return build_world_tables(load_scenario("bert-multimodal", arrivals=kind, **overrides))


def arrivals(tables, count, seed=1):
    out = np.empty(count)
    draw_arrivals(np.uint64(seed), tables.record[0], tables.arrival_trace, out)
    return out


def dispersion(times, window):
    """Variance over mean of the counts in windows."""
    counts = np.bincount((times / window).astype(int))[:-1]
    return counts.var() / counts.mean()


@pytest.fixture
def trace_file(tmp_path):
    file = tmp_path / "arrivals.csv"
    file.write_text("time_s\n10\n11\n11\n15\n22\n")  # gaps 1, 0, 4, 7; mean gap 3
    return str(file)


def test_tasks_that_come_one_at_a_time_are_there_from_the_start():
    assert np.all(arrivals(tables_of("one_at_a_time"), 10) == 0.0)


def test_poisson_gaps_are_exponential_and_independent():
    gaps = np.diff(arrivals(tables_of("poisson", arrival_rate=3.0), 300_000), prepend=0.0)
    assert stats.kstest(3.0 * gaps, "expon").pvalue > ALPHA
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 4 / np.sqrt(gaps.size)


@pytest.mark.parametrize("window", [0.5, 10.0])
def test_poisson_counts_disperse_as_their_mean(window):
    times = arrivals(tables_of("poisson", arrival_rate=3.0), 600_000)
    windows = times[-1] / window
    assert abs(dispersion(times, window) - 1.0) < 5 * np.sqrt(2 / windows)


BURSTS = {"arrival_rate": 1.0, "burst_rate": 8.0, "calm_duration": 6.0, "burst_duration": 2.0}


def test_bursts_have_the_mean_rate():
    """Both rates, weighted by the mean durations of their states: (6 x 1 + 2 x 8) / 8."""
    times = arrivals(tables_of("mmpp", **BURSTS), 500_000)
    assert times.size / times[-1] == pytest.approx(22.0 / 8.0, rel=0.01)


@pytest.mark.parametrize("window", [0.5, 20.0])
def test_bursts_disperse_by_the_formula(window):
    """Index of dispersion of the two-state process, from the exponential autocovariance of its rate."""
    times = arrivals(tables_of("mmpp", **BURSTS), 2_000_000)
    leave_calm, leave_burst = 1.0 / 6.0, 1.0 / 2.0
    decay = leave_calm + leave_burst
    variance_of_rate = leave_calm * leave_burst / decay**2 * 7.0**2
    mean_rate = 22.0 / 8.0
    wanted = 1.0 + 2.0 * variance_of_rate / (mean_rate * decay) * (
        1.0 - (1.0 - np.exp(-decay * window)) / (decay * window)
    )
    assert wanted > 1.2
    assert dispersion(times, window) == pytest.approx(wanted, rel=0.03)


def test_bursts_start_in_their_stationary_distribution():
    """The count of early arrivals has the long-run mean at once: 22/8 per second."""
    tables = tables_of("mmpp", **BURSTS)
    for start in (0.0, 3.0):
        counts = [
            np.count_nonzero((t >= start) & (t < start + 1.0)) for t in (arrivals(tables, 60, s) for s in range(3000))
        ]
        error = np.std(counts) / np.sqrt(len(counts))
        assert abs(np.mean(counts) - 22.0 / 8.0) < 4 * error


def test_states_far_apart_do_not_hang():
    times = arrivals(tables_of("mmpp", arrival_rate=1e-6, burst_rate=1e3, calm_duration=1.0, burst_duration=0.1), 500)
    assert np.all(np.isfinite(times))
    assert np.all(np.diff(times) >= 0.0)


def test_periodic_gaps_are_equal_and_the_phase_is_random():
    tables = tables_of("periodic", arrival_rate=4.0)
    np.testing.assert_allclose(np.diff(arrivals(tables, 1000)), 0.25, rtol=1e-10)
    first = [arrivals(tables, 1, seed)[0] for seed in range(5000)]
    assert stats.kstest(first, stats.uniform(scale=0.25).cdf).pvalue > ALPHA


def test_recorded_arrivals_are_rotated_gaps(trace_file):
    tables = tables_of("trace", arrival_trace=trace_file)
    cycle = [1.0, 0.0, 4.0, 7.0, 3.0]  # the last gap, back to the first row, is the mean one
    rotations = [cycle[i:] + cycle[:i] for i in range(5)]
    seen = set()
    for seed in range(100):
        gaps = np.round(np.diff(arrivals(tables, 12, seed), prepend=0.0), 9).tolist()
        matches = [i for i, rotation in enumerate(rotations) if gaps == (rotation * 3)[:12]]
        assert len(matches) == 1
        seen.add(matches[0])
    assert seen == set(range(5))


@given(kind=st.sampled_from(ARRIVAL_KINDS[:-1]), seed=st.integers(0, 2**64 - 1), rate=st.floats(1e-3, 1e3))
@settings(max_examples=60, deadline=None)
def test_times_never_decrease_and_start_at_0_at_the_earliest(kind, seed, rate):
    times = arrivals(tables_of(kind, arrival_rate=rate, burst_rate=10.0 * rate), 100, seed)
    assert times[0] >= 0.0
    assert np.all(np.diff(times) >= 0.0)
    assert np.all(np.isfinite(times))


def test_fewer_tasks_are_the_start_of_more():
    tables = tables_of("mmpp")
    assert np.array_equal(arrivals(tables, 50), arrivals(tables, 200)[:50])
