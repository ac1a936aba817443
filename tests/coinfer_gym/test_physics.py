"""Physics: eqs. 2-11 by numbers worked out by hand, and the shapes that everything else rests on."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from coinfer_gym import physics

POWERS = st.floats(-6, 2).map(lambda x: 10**x)
GAINS = st.floats(-16, -4).map(lambda x: 10**x)
BANDWIDTHS = st.floats(4, 9).map(lambda x: 10**x)
NOISES = st.floats(-21, -17).map(lambda x: 10**x)
FACTORS = st.floats(1.001, 100)
RATIOS = st.floats(1e-3, 1)
FLOPS = st.floats(5, 12).map(lambda x: 10**x)
CLOCKS = st.floats(7, 10).map(lambda x: 10**x)

few = settings(max_examples=60, deadline=None)


def test_rate_is_bandwidth_times_bits_of_one_plus_snr():
    # 1 MHz, N0 B = 1e-12 W, received 0.3 W * 1e-11 = 3e-12 W: SNR 3, two bits per second and hertz
    assert physics.transmission_rate(0.3, 1e-11, 1e6, 1e-18) == pytest.approx(2e6, rel=1e-14)
    # SNR 15: four bits
    assert physics.transmission_rate(1.5, 1e-11, 1e6, 1e-18) == pytest.approx(4e6, rel=1e-14)
    # SNR 1023 at 20 MHz: ten bits
    assert physics.transmission_rate(1.0, 1023 * 2e-13, 2e7, 1e-20) == pytest.approx(2e8, rel=1e-14)


def test_delay_and_energy_of_a_pruned_side_by_hand():
    # half of 8 GFLOP at 16 FLOP per cycle are 2.5e8 cycles: 0.125 s at 2 GHz
    assert physics.compute_delay(0.5, 8e9, 2e9, 16.0) == pytest.approx(0.125, rel=1e-14)
    # 1e-27 * (2e9)^3 = 8 W for 0.125 s, and a quarter more for the building
    assert physics.compute_energy(0.5, 8e9, 2e9, 16.0, 1.25, 1e-27) == pytest.approx(1.25, rel=1e-14)


def test_upload_by_hand():
    assert physics.upload_delay(3e6, 2e6) == pytest.approx(1.5, rel=1e-14)
    assert physics.energy_at(0.2, 1.5) == pytest.approx(0.3, rel=1e-14)


def test_inverses_of_the_rate():
    # two bits per second and hertz need a ratio of 3; ln(1 + 3) is what a power of 0.3 W gives above
    assert physics.snr_of_rate(2e6, 1e6) == pytest.approx(3.0, rel=1e-14)
    assert physics.power_at(math.log(4.0), 1e-11, 1e6, 1e-18) == pytest.approx(0.3, rel=1e-14)


def test_path_gain_falls_by_the_exponent_per_decade():
    assert physics.path_gain(1e-4, 1.0, 3.0) == 1e-4
    assert physics.path_gain(1e-4, 10.0, 3.0) == pytest.approx(1e-7, rel=1e-14)
    assert physics.path_gain(1e-4, 100.0, 2.5) == pytest.approx(1e-9, rel=1e-14)
    assert physics.path_gain(1e-4, 100.0, 0.0) == 1e-4


@few
@given(POWERS, GAINS, BANDWIDTHS, NOISES, FACTORS)
def test_rate_rises_with_power_gain_and_bandwidth_and_falls_with_noise(power, gain, bandwidth, noise, factor):
    rate = physics.transmission_rate(power, gain, bandwidth, noise)
    assert rate > 0
    assert physics.transmission_rate(factor * power, gain, bandwidth, noise) > rate
    assert physics.transmission_rate(power, factor * gain, bandwidth, noise) > rate
    assert physics.transmission_rate(power, gain, bandwidth, factor * noise) < rate
    # more bandwidth never hurts; far below the noise it no longer helps: then p g / (N0 ln 2) is all there is
    assert physics.transmission_rate(power, gain, factor * bandwidth, noise) >= rate * (1 - 1e-14)
    assert rate <= power * gain / (noise * math.log(2)) * (1 + 1e-14)


@few
@given(POWERS, GAINS, BANDWIDTHS, NOISES)
def test_rate_is_the_integral_of_its_slope(power, gain, bandwidth, noise):
    def slope(p):
        return bandwidth * gain / (noise * bandwidth + p * gain) / math.log(2)

    # in ln(noise + received), where the slope is constant, a quadrature is exact
    x = math.log1p(power * gain / (noise * bandwidth))
    integral, _ = quad(
        lambda u: slope(noise * bandwidth / gain * math.expm1(u)) * noise * bandwidth / gain * math.exp(u), 0, x
    )
    assert physics.transmission_rate(power, gain, bandwidth, noise) == pytest.approx(integral, rel=1e-9)


@few
@given(POWERS, GAINS, BANDWIDTHS, NOISES, FACTORS)
def test_rate_is_concave_in_power_and_energy_per_bit_rises(power, gain, bandwidth, noise, factor):
    rate = physics.transmission_rate(power, gain, bandwidth, noise)
    more = physics.transmission_rate(factor * power, gain, bandwidth, noise)
    middle = physics.transmission_rate(0.5 * (1 + factor) * power, gain, bandwidth, noise)
    assert middle >= 0.5 * (rate + more) * (1 - 1e-13)
    assert factor * power / more >= power / rate * (1 - 1e-13)


@few
@given(POWERS, GAINS, BANDWIDTHS, NOISES, FACTORS)
def test_rate_depends_on_the_ratio_of_received_power_to_noise(power, gain, bandwidth, noise, factor):
    rate = physics.transmission_rate(power, gain, bandwidth, noise)
    assert physics.transmission_rate(factor * power, gain / factor, bandwidth, noise) == pytest.approx(rate, rel=1e-12)
    assert physics.transmission_rate(factor * power, gain, bandwidth, factor * noise) == pytest.approx(rate, rel=1e-12)
    # bandwidth and power scaled together: the same SNR on a wider band
    wide = physics.transmission_rate(factor * power, gain, factor * bandwidth, noise)
    assert wide == pytest.approx(factor * rate, rel=1e-12)


@few
@given(GAINS, BANDWIDTHS, NOISES)
def test_energy_per_bit_tends_to_the_shannon_limit_as_power_vanishes(gain, bandwidth, noise):
    limit = math.log(2) * noise / gain
    snr = 1e-9
    power = snr * noise * bandwidth / gain
    # the next term of the expansion is SNR/2
    per_bit = power / physics.transmission_rate(power, gain, bandwidth, noise)
    assert per_bit == pytest.approx(limit * (1 + snr / 2), rel=1e-13)
    power = noise * bandwidth / gain
    assert power / physics.transmission_rate(power, gain, bandwidth, noise) == pytest.approx(limit / math.log(2))


def test_no_power_or_no_channel_carries_nothing():
    assert physics.transmission_rate(0.0, 1e-10, 1e6, 4e-21) == 0.0
    assert physics.transmission_rate(0.1, 0.0, 1e6, 4e-21) == 0.0
    for power in (1e-3, 1e-30, 1e-200):
        assert 0 < physics.transmission_rate(power, 1e-10, 1e6, 4e-21) < 1e-10 * power / 4e-21 * 1.4427


@few
@given(RATIOS, FLOPS, CLOCKS, st.floats(0.5, 1e4), FACTORS)
def test_delay_falls_with_the_clock_and_rises_with_the_work(ratio, flops, clock, per_cycle, factor):
    delay = physics.compute_delay(ratio, flops, clock, per_cycle)
    assert physics.compute_delay(ratio, flops, factor * clock, per_cycle) == pytest.approx(delay / factor)
    assert physics.compute_delay(ratio, flops, clock, factor * per_cycle) == pytest.approx(delay / factor)
    assert physics.compute_delay(ratio / factor, flops, clock, per_cycle) == pytest.approx(delay / factor)
    assert physics.compute_delay(ratio, factor * flops, clock, per_cycle) == pytest.approx(delay * factor)


@few
@given(RATIOS, FLOPS, CLOCKS, st.floats(0.5, 1e4), st.floats(1, 2), FACTORS)
def test_energy_rises_with_the_square_of_the_clock_and_with_the_work(ratio, flops, clock, per_cycle, pue, factor):
    kappa = 1e-28
    energy = physics.compute_energy(ratio, flops, clock, per_cycle, pue, kappa)
    faster = physics.compute_energy(ratio, flops, factor * clock, per_cycle, pue, kappa)
    assert faster == pytest.approx(energy * factor**2)
    assert physics.compute_energy(ratio / factor, flops, clock, per_cycle, pue, kappa) == pytest.approx(energy / factor)
    assert physics.compute_energy(ratio, factor * flops, clock, per_cycle, pue, kappa) == pytest.approx(energy * factor)
    assert physics.compute_energy(ratio, flops, clock, factor * per_cycle, pue, kappa) == pytest.approx(energy / factor)
    # energy is power times time: eta kappa f^3 for as long as it takes
    delay = physics.compute_delay(ratio, flops, clock, per_cycle)
    assert energy == pytest.approx(pue * kappa * clock**3 * delay, rel=1e-12)


def test_zero_work_takes_no_time_and_no_energy_at_any_clock():
    for clock in (0.0, 1e9):
        assert physics.compute_delay(0.5, 0.0, clock, 16.0) == 0.0
        assert physics.compute_energy(0.5, 0.0, clock, 16.0, 1.4, 1e-27) == 0.0
    for rate in (0.0, 1e6):
        assert physics.upload_delay(0.0, rate) == 0.0
    assert physics.energy_at(0.2, 0.0) == 0.0


def test_work_at_a_standstill_never_ends():
    assert physics.compute_delay(0.5, 1e9, np.float64(0.0), 16.0) == math.inf
    assert physics.upload_delay(1e6, 0.0) == math.inf


def test_silence_costs_nothing_however_long():
    assert physics.energy_at(0.0, math.inf) == 0.0


def test_functions_can_be_called_with_numpy_scalars():
    assert physics.transmission_rate(np.float32(0.5), 1e-11, 1e6, 1e-18) > 0
    assert physics.compute_delay(1, 16, 2, 4) == 2.0
