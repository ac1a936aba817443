"""The channel: laws of path loss, shadowing and fading against independent references, and recorded gains."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from coinfer_gym.laim.scenario import load_scenario
from coinfer_gym.world import build_world_tables
from coinfer_gym.world.channel import bessel_j0, block_at, draw_gains

ALPHA = 1e-3
PLAIN = {"shadowing_db": 0.0, "rician_factor": 0.0, "doppler": 1.0, "block_duration": 0.1, "distance": 100.0}


def tables_of(**overrides):
    return build_world_tables(load_scenario("bert-multimodal", **(PLAIN | overrides)))


def gains(tables, count, seed=1):
    out = np.empty(count)
    draw_gains(np.uint64(seed), tables.record[0], tables.channel_trace_time, tables.channel_trace_gain, out)
    return out


def fades(count, seed=1, **overrides):
    """Gains over the path's gain, 40 + 30 log10(100) = 100 dB below 1."""
    return gains(tables_of(**overrides), count, seed) * 1e10


def autocorrelation(x, lag):
    x = x - x.mean()
    return np.mean(x[lag:] * x[:-lag]) / np.mean(x * x)


@pytest.mark.parametrize("x", [1000.1, 12345.6, 1e6])
def test_bessel_of_large_arguments(x):
    assert bessel_j0(x) == pytest.approx(special.j0(x), abs=1e-8)


@given(st.floats(0.0, 900.0))
@settings(max_examples=100, deadline=None)
def test_bessel_everywhere(x):
    assert bessel_j0(x) == pytest.approx(special.j0(x), abs=2e-14)


def test_constant_channel_is_the_path():
    values = gains(tables_of(channel="constant", shadowing_db=8.0), 100)
    np.testing.assert_allclose(values, 1e-10, rtol=1e-13)


def test_rayleigh_power_is_exponential():
    """Worlds of different seeds are independent draws of the stationary law, first block and later ones alike."""
    tables = tables_of()
    paths = np.array([gains(tables, 6, seed) for seed in range(20_000)]) * 1e10
    for k in (0, 5):
        assert stats.kstest(paths[:, k], "expon").pvalue > ALPHA


@pytest.mark.parametrize("factor", [0.0, 3.0])
def test_rician_moments(factor):
    """E g = 1, Var g = (1 + 2K) / (1 + K)^2."""
    fade = fades(1_000_000, rician_factor=factor, doppler=10.0, block_duration=0.04)
    variance = (1.0 + 2.0 * factor) / (1.0 + factor) ** 2
    error = math.sqrt(variance / fade.size) * 6.0  # successive blocks are not independent
    assert abs(fade.mean() - 1.0) < error
    assert fade.var() == pytest.approx(variance, rel=0.02)


def test_rician_power_is_noncentral():
    factor = 4.0
    tables = tables_of(rician_factor=factor)
    fade = np.array([gains(tables, 1, seed)[0] for seed in range(20_000)]) * 1e10
    law = stats.ncx2(2, 2.0 * factor, scale=0.5 / (factor + 1.0))
    assert stats.kstest(fade, law.cdf).pvalue > ALPHA


@pytest.mark.parametrize(("doppler", "block_duration"), [(1.0, 0.1), (1.0, 0.6)])
def test_scattered_part_correlates_by_bessel(doppler, block_duration):
    """Power of a complex Gauss-Markov process correlates by the square of the amplitude's correlation."""
    tables = tables_of(doppler=doppler, block_duration=block_duration)
    wanted = special.j0(2.0 * np.pi * doppler * block_duration)
    assert tables.record["fading_correlation"][0] == pytest.approx(wanted, abs=1e-13)
    fade = gains(tables, 1_000_000)
    assert autocorrelation(fade, 1) == pytest.approx(wanted**2, abs=0.01)
    assert autocorrelation(fade, 2) == pytest.approx(wanted**4, abs=0.01)


def test_sign_of_the_correlation_shows_with_a_line_of_sight():
    """With a strong line of sight the power follows the in-phase part, whose correlation is negative here."""
    fade = fades(1_000_000, rician_factor=1000.0, doppler=1.0, block_duration=0.6)
    assert autocorrelation(fade, 1) == pytest.approx(special.j0(2.0 * np.pi * 0.6), abs=0.01)


def test_no_doppler_freezes_the_fading():
    fade = fades(1000, doppler=0.0)
    assert np.all(fade == fade[0])
    assert fade[0] != fades(1, seed=2, doppler=0.0)[0]


def test_shadowing_is_log_normal_and_forgets_exponentially():
    """Fades are the same with and without shadowing, so their ratio is the shadowing alone."""
    count, deviation = 1_000_000, 6.0
    shadow_db = 10.0 * np.log10(
        fades(count, shadowing_db=deviation, shadowing_time=1.0) / fades(count, shadowing_db=0.0)
    )
    assert abs(shadow_db.mean()) < 4 * deviation * math.sqrt(20.0 / count)
    assert shadow_db.std() == pytest.approx(deviation, rel=0.01)
    for lag in (1, 5, 10, 20):
        assert autocorrelation(shadow_db, lag) == pytest.approx(math.exp(-0.1 * lag), abs=0.01)


def test_shadowing_starts_stationary():
    with_shadow, without = tables_of(shadowing_db=6.0), tables_of()
    first = np.array([[gains(t, 1, seed)[0] for t in (with_shadow, without)] for seed in range(20_000)])
    assert stats.kstest(10.0 * np.log10(first[:, 0] / first[:, 1]) / 6.0, "norm").pvalue > ALPHA


def test_gains_stay_positive():
    deep = {"reference_gain_db": -200.0, "distance": 1e6, "path_loss_exponent": 8.0, "shadowing_db": 30.0}
    for channel in ("fading", "constant"):
        values = gains(tables_of(channel=channel, **deep), 1000)
        assert np.all(values > 0.0)


@pytest.fixture
def trace_file(tmp_path):
    file = tmp_path / "channel.csv"
    file.write_text("time_s,gain_db\n100,-80\n101,-90\n103,-100\n104,-110\n")  # median step 1: period 5 s
    return str(file)


def recorded_db(trace_file, count, seed, block_duration):
    tables = tables_of(channel="trace", channel_trace=trace_file, block_duration=block_duration)
    return np.round(10.0 * np.log10(gains(tables, count, seed))).astype(int)


def held(time):
    """The trace above, read by hand."""
    return -80 if time < 1 else -90 if time < 3 else -100 if time < 4 else -110


@pytest.mark.parametrize("block_duration", [0.7, 3.3])
@pytest.mark.parametrize("seed", range(2))
def test_recorded_gain_holds_and_wraps(trace_file, block_duration, seed):
    """Some offset explains the whole path."""
    path = recorded_db(trace_file, 50, seed, block_duration)
    times = np.arange(50) * block_duration
    offsets = np.linspace(0.0, 5.0, 5001)[:-1] + 1e-5
    assert any(all(held((offset + t) % 5.0) == x for t, x in zip(times, path, strict=True)) for offset in offsets)


def test_recorded_gain_starts_anywhere(trace_file):
    tables = tables_of(channel="trace", channel_trace=trace_file)
    starts = [round(10.0 * math.log10(gains(tables, 1, seed)[0])) for seed in range(3000)]
    counts = [starts.count(level) for level in (-80, -90, -100, -110)]
    assert stats.chisquare(counts, [600, 1200, 600, 600]).pvalue > ALPHA


def test_block_of_a_time():
    assert [block_at(t, 0.5, 4) for t in (-1.0, 0.0, 0.49, 0.5, 1.99, 2.0, 2.6, 1e9)] == [0, 0, 0, 1, 3, 0, 1, 0]


@pytest.mark.parametrize(("time", "duration"), [(1.0, 1e-20), (1e18, 0.1), (1e300, 1e-300), (1e18, 5e-324)])
def test_a_block_is_one_of_the_path_however_many_have_passed(time, duration):
    assert 0 <= block_at(time, duration, 7) < 7
