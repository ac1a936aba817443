"""Distortion: the bounds of Sec. IV against their formulas and a minimiser, real pruning against drawn weights."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import dblquad, quad
from scipy.optimize import brentq, minimize

from coinfer_gym.laim import distortion as dst
from coinfer_gym.laim.outcome import model_distortion, model_quality
from coinfer_gym.laim.problem import Problem
from coinfer_gym.laim.workload import Block, Workload

few = settings(max_examples=30, deadline=None)
RATIOS = st.floats(0.001, 1.0)
SIDES = st.lists(st.tuples(st.integers(1, 10**8), st.floats(0.5, 3).map(lambda x: 10**x)), min_size=1, max_size=8)

SIDE = dst.block_rows([4e6, 1e6, 9e6, 2e6], [20.0, 300.0, 55.0, 90.0])
QUALITIES = [
    (quality, scale)
    for quality in dst.QUALITIES
    for scale in ("log", "linear")
    if scale == "linear" or quality in dst.BOUNDS
]


def side(blocks):
    return dst.block_rows(*np.array(blocks, dtype=np.float64).reshape(-1, 2).T)


def problem_of(blocks, quality, scale="", **changes):
    """A problem that only serves to carry a workload and a quality."""
    chain = tuple(Block(f"b{j}", 1e9, int(count), 1e5, rate) for j, (count, rate, *_) in enumerate(blocks))
    constants = dict.fromkeys(
        (
            "delay_budget",
            "energy_budget",
            "bandwidth",
            "noise_density",
            "power_max",
            "flops_per_cycle_device",
            "flops_per_cycle_server",
            "frequency_device_max",
            "frequency_server_max",
            "pue_device",
            "pue_server",
            "kappa_device",
            "kappa_server",
        ),
        1.0,
    )
    return Problem(
        workload=Workload("made", 1e6, chain), gain=1e-10, quality=quality, quality_scale=scale, **(constants | changes)
    )


def distortion_and_quality(problem, cut, retained_device, retained_server):
    given = (problem.tables, cut, retained_device, retained_server)
    return model_distortion(*given), model_quality(*given)


# --- the rate-distortion bound (Theorem IV.1) ---


@few
@given(SIDES, st.floats(0, 40))
def test_bound_is_the_formula_of_theorem_iv_1(blocks, bits):
    blocks = side(blocks)
    total = blocks[:, 0].sum()
    entropy = (blocks[:, 0] * np.log2(2 * math.e / blocks[:, 1])).sum()
    rate = bits * total
    expected = total / (2 * math.e) * 2 ** ((entropy - rate) / total)
    zero = dst.log_distortion_zero(blocks[:, 0], blocks[:, 1])
    assert dst.rate_distortion_bound(zero, rate, total) == pytest.approx(expected, rel=1e-12)


@few
@given(SIDES, st.floats(0.01, 40))
def test_rate_and_distortion_are_inverse(blocks, bits):
    blocks = side(blocks)
    total = blocks[:, 0].sum()
    zero = dst.log_distortion_zero(blocks[:, 0], blocks[:, 1])
    distortion = dst.rate_distortion_bound(zero, bits * total, total)
    assert dst.rate_distortion_rate(zero, distortion, total) == pytest.approx(bits * total, rel=1e-9)


def test_no_rate_is_needed_for_what_no_rate_gives():
    zero = dst.log_distortion_zero(SIDE[:, 0], SIDE[:, 1])
    assert dst.rate_distortion_rate(zero, 2 * math.exp(zero), SIDE[:, 0].sum()) == 0.0


@pytest.mark.parametrize("count", [1, 4, 5])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_bound_of_few_weights_uses_the_ball_of_the_norm(count, norm):
    if norm == "l1":
        ball = 2**count / math.factorial(count)
    elif count % 2 == 0:
        ball = math.pi ** (count // 2) / math.factorial(count // 2)
    else:
        half = count // 2
        ball = 2 * (4 * math.pi) ** half * math.factorial(half) / math.factorial(count)
    rates = np.linspace(10.0, 60.0, count)
    entropy = sum(math.log2(2 * math.e / rate) for rate in rates)
    expected = count / math.e * (ball * math.factorial(count)) ** (-1 / count) * 2 ** (entropy / count)
    zero = dst.log_distortion_zero(np.ones(count), rates, norm)
    assert math.exp(zero) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_no_error_of_that_size_has_more_entropy_than_the_step_of_the_proof_says(norm):
    # the maximum-entropy error in two dimensions is e^(-beta ||x||) / Z; at E ||x|| = D its entropy is
    # ln(V_2 2!) + 2 ln(e D / 2), from which the bound follows by h(w) - h(error) <= R
    order = {"l1": 1, "l2": 2}[norm]

    def length(x, y):
        return np.linalg.norm([x, y], order)

    end = 45.0
    mass = 4 * dblquad(lambda y, x: math.exp(-length(x, y)), 0, end, 0, end, epsabs=1e-6)[0]
    mean = 4 * dblquad(lambda y, x: length(x, y) * math.exp(-length(x, y)), 0, end, 0, end, epsabs=1e-6)[0] / mass
    entropy = math.log(mass) + mean
    rate = 30.0
    source = 2 * math.log(2 * math.e / rate)
    # the bound at the rate that this error needs is the size of the error
    zero = dst.log_distortion_zero(np.ones(2), np.full(2, rate), norm)
    bits = (source - entropy) / math.log(2)
    assert dst.rate_distortion_bound(zero, bits, 2.0) == pytest.approx(mean, rel=1e-5)


def test_many_weights_do_not_overflow():
    zero = dst.log_distortion_zero(np.array([1e11, 3e11]), np.array([50.0, 70.0]), "l2")
    # Stirling: V_N N! -> (2 pi N / e)^(N/2), so that N/e (V_N N!)^(-1/N) -> sqrt(N / (2 pi e))
    mean_log_scale = 0.25 * math.log(2 * math.e / 50) + 0.75 * math.log(2 * math.e / 70)
    assert zero == pytest.approx(0.5 * math.log(4e11 / (2 * math.pi * math.e)) + mean_log_scale, abs=1e-9)


# --- parallel Laplacian sources (Proposition IV.1) ---


def waterfilling_of_the_text(rate, blocks):
    """Proposition IV.1 to the letter: gamma from the rate by root finding, then ``sum N_j min(gamma, 1/lambda_j)``."""
    counts, rates = blocks.T[:2]

    def rate_at(log_water):
        return (counts * np.maximum(0.0, np.log2(1 / rates) - log_water / math.log(2))).sum()

    top = math.log(1 / rates.min())
    if rate <= rate_at(top):  # no rate, or less than the rounding of the highest level
        return (counts / rates).sum()
    low = top - rate * math.log(2) / counts.max() - 60.0
    while rate_at(low) < rate:
        low -= 60.0
    water = math.exp(brentq(lambda x: rate_at(x) - rate, low, top, xtol=1e-14, rtol=1e-15))
    return (counts * np.minimum(water, 1 / rates)).sum()


@few
@given(SIDES, st.floats(0, 32))
def test_parallel_distortion_is_proposition_iv_1(blocks, bits):
    blocks = side(blocks)
    rate = bits * blocks[:, 0].sum()
    expected = waterfilling_of_the_text(rate, blocks)
    assert dst.parallel_distortion(rate, blocks, 0, len(blocks)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("bits", [0.5, 2.0])
def test_no_split_of_the_rate_beats_reverse_waterfilling(bits):
    counts, scales = SIDE[:, 0] / SIDE[:, 0].sum(), 1 / SIDE[:, 1]

    def distortion(rates):  # bits per weight of each block
        return 1e3 * (counts * scales * 2**-rates).sum()

    def slope(rates):
        return -1e3 * math.log(2) * counts * scales * 2**-rates

    best = math.inf
    for start in ([bits] * 4, [2 * bits, 0, bits, bits / 2]):
        found = minimize(
            distortion,
            np.array(start, dtype=float),
            jac=slope,
            method="SLSQP",
            bounds=[(0, None)] * 4,
            constraints={"type": "ineq", "fun": lambda rates: bits - counts @ rates, "jac": lambda rates: -counts},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        best = min(best, found.fun)
    total = SIDE[:, 0].sum()
    mine = dst.parallel_distortion(bits * total, SIDE, 0, 4) / total * 1e3
    assert mine == pytest.approx(best, rel=1e-6)
    assert mine <= best * (1 + 1e-9)


@few
@given(SIDES, st.floats(0.01, 32))
def test_parallel_rate_and_distortion_are_inverse(blocks, bits):
    blocks = side(blocks)
    rate, last = bits * blocks[:, 0].sum(), len(blocks)
    distortion = dst.parallel_distortion(rate, blocks, 0, last)
    water = brentq(
        lambda x: (blocks[:, 0] * np.minimum(math.exp(x), 1 / blocks[:, 1])).sum() / distortion - 1,
        -60,
        10,
        xtol=1e-14,
        rtol=1e-15,
    )
    assert dst.parallel_rate(math.exp(water), blocks, 0, last) == pytest.approx(rate, rel=1e-7)


def test_side_is_the_half_open_range_of_blocks():
    for first in range(4):
        for last in range(first, 5):
            part = np.ascontiguousarray(SIDE[first:last])
            for function in (dst.parallel_distortion, dst.threshold_distortion):
                argument = 0.4 if function is dst.threshold_distortion else 3e6
                whole = function(argument, SIDE, first, last)
                assert whole == function(argument, part, 0, last - first)
    assert dst.parallel_distortion(1e6, SIDE, 2, 2) == 0.0
    assert dst.threshold_distortion(0.5, SIDE, 2, 2) == 0.0


def test_blocks_without_parameters_change_nothing():
    counts, rates = np.insert(SIDE[:, :2], [0, 2, 4], [[0.0, 1.0], [0.0, 5e3], [0.0, 60.0]], axis=0).T
    more = dst.block_rows(counts, rates)
    for bits in (0.0, 0.3, 2.0, 31.0):
        rate = bits * SIDE[:, 0].sum()
        assert dst.parallel_distortion(rate, more, 0, 7) == pytest.approx(dst.parallel_distortion(rate, SIDE, 0, 4))
    for ratio in (0.0, 0.3, 1.0):
        assert dst.threshold_distortion(ratio, more, 0, 7) == pytest.approx(dst.threshold_distortion(ratio, SIDE, 0, 4))
    assert dst.parallel_distortion(1e6, more, 0, 1) == 0.0


# --- what pruning does ---


@pytest.fixture(scope="module")
def weights():
    """Magnitudes of drawn Laplacian weights, sorted, largest first; and their rate."""
    rate = 45.0
    drawn = np.random.default_rng(7).laplace(scale=1 / rate, size=1_000_000)
    return np.sort(np.abs(drawn))[::-1], rate


@pytest.mark.parametrize("ratio", [0.2, 0.9])
def test_random_pruning_of_drawn_weights(weights, ratio):
    sizes, rate = weights
    keep = np.random.default_rng(11).random(sizes.size) < ratio
    measured = sizes[~keep].sum()
    assert abs(measured - dst.random_distortion(ratio, sizes.size / rate)) < 8 * math.sqrt(sizes.size) / rate


@few
@given(RATIOS, st.floats(1, 300))
def test_magnitude_pruning_is_the_mass_of_the_small_weights(ratio, rate):
    threshold = -math.log(ratio) / rate
    mass, _ = quad(lambda w: w * rate * math.exp(-rate * w), 0, threshold)
    assert dst.magnitude_distortion(ratio, 1000 / rate) == pytest.approx(1000 * mass, rel=1e-8, abs=1e-13)


@few
@given(SIDES, RATIOS)
def test_threshold_pruning_is_the_mass_below_the_common_threshold(blocks, ratio):
    blocks = side(blocks)
    counts, rates = blocks.T[:2]

    def kept(x):
        return (counts * np.exp(-rates * x)).sum() / counts.sum()

    threshold = brentq(lambda x: kept(x) - ratio, 0, 10 / rates.min(), xtol=1e-18, rtol=1e-15)
    expected = 0.0
    for count, rate in zip(counts, rates, strict=True):
        expected += count * quad(lambda w, rate=rate: w * rate * math.exp(-rate * w), 0, threshold)[0]
    scale = (counts / rates).sum()
    lost = dst.threshold_distortion(ratio, blocks, 0, len(blocks))
    assert lost == pytest.approx(expected, rel=1e-7, abs=1e-12 * scale)


def test_threshold_is_found_for_tiny_ratios_of_very_different_blocks():
    blocks = side([(1e8, 1e3), (10, 1.0)])

    def kept(x):
        return (blocks[:, 0] * np.exp(-blocks[:, 1] * x)).sum() / blocks[:, 0].sum()

    for ratio in (1e-12, 1e-9, 3e-8, 1e-7, 1e-4):
        threshold = brentq(lambda x, r=ratio: kept(x) / r - 1, 0, 60, xtol=1e-16)
        exponents = blocks[:, 1] * threshold
        lost = (blocks[:, 0] / blocks[:, 1] * (1 - (1 + exponents) * np.exp(-exponents))).sum()
        assert dst.threshold_distortion(ratio, blocks, 0, 2) == pytest.approx(lost, rel=1e-9)


def test_nothing_kept_loses_everything_and_everything_kept_nothing():
    scale = (SIDE[:, 0] / SIDE[:, 1]).sum()
    assert dst.magnitude_distortion(0.0, scale) == dst.random_distortion(0.0, scale) == scale
    assert dst.threshold_distortion(0.0, SIDE, 0, 4) == pytest.approx(scale)
    assert dst.magnitude_distortion(1.0, scale) == dst.random_distortion(1.0, scale) == 0.0
    assert dst.threshold_distortion(1.0, SIDE, 0, 4) == 0.0
    assert dst.parallel_distortion(0.0, SIDE, 0, 4) == pytest.approx(scale)


@few
@given(SIDES, st.floats(0.01, 1))
def test_no_pruning_beats_the_bounds_at_the_rate_of_what_it_keeps(blocks, ratio):
    """Claim L4: ``R = b rho N`` bits at b = 32."""
    values = {}
    for quality in dst.QUALITIES:
        values[quality], _ = distortion_and_quality(problem_of(blocks, quality), 0, 1.0, 0.999 * ratio)
    for achieved in ("magnitude_pruning", "magnitude_threshold", "random_pruning"):
        for bound in dst.BOUNDS:
            assert values[achieved] >= values[bound]


# --- the model's distortion and quality ---


def reference_distortion(quality, bits, blocks, cut, ratios):
    """Each quality from its definition, side by side, by other means than the code's."""
    counts, rates = blocks.T[:2]
    device, server = blocks[:cut], blocks[cut:]
    rate = [bits * ratio * part[:, 0].sum() for ratio, part in zip(ratios, (device, server), strict=True)]
    if quality == "rate_distortion":
        entropy = (counts * np.log2(2 * math.e / rates)).sum()
        return counts.sum() / (2 * math.e) * 2 ** ((entropy - sum(rate)) / counts.sum())
    if quality == "parallel_laplacian_joint":
        return waterfilling_of_the_text(sum(rate), blocks)
    total = 0.0
    for ratio, part, side_rate in zip(ratios, (device, server), rate, strict=True):
        if not len(part):
            continue
        n, lam = part.T
        scale = (n / lam).sum()
        if quality == "parallel_laplacian":
            total += waterfilling_of_the_text(side_rate, part)
        elif quality == "magnitude_pruning":
            total += scale * (1 - ratio + ratio * math.log(ratio))
        elif quality == "random_pruning":
            total += scale * (1 - ratio)
        else:
            x = brentq(lambda x, n=n, lam=lam, r=ratio: (n * np.exp(-lam * x)).sum() / n.sum() - r, 0, 50, xtol=1e-17)
            total += (n / lam * (1 - (1 + lam * x) * np.exp(-lam * x))).sum()
    return total


@pytest.mark.parametrize(("quality", "scale"), QUALITIES)
def test_model_distortion_and_quality_follow_their_definitions(quality, scale):
    rng = np.random.default_rng(5)
    for _ in range(15):
        blocks = np.stack([rng.integers(1, 10**6, 5).astype(float), 10 ** rng.uniform(0.5, 2.5, 5)], axis=1)
        cut, ratios, bits = int(rng.integers(6)), tuple(rng.uniform(0.02, 1, 2)), float(rng.choice([2, 8, 16]))
        got = distortion_and_quality(problem_of(blocks, quality, scale, parameter_bits=bits), cut, *ratios)
        here = reference_distortion(quality, bits, blocks, cut, ratios)
        assert got[0] == pytest.approx(here, rel=1e-8)
        nothing = "rate_distortion" if quality == "rate_distortion" else "random_pruning"  # the mass of all weights
        zero = reference_distortion(nothing, bits, blocks, cut, (0.0, 0.0))
        full = reference_distortion(quality, bits, blocks, cut, (1.0, 1.0))
        if scale == "log":
            assert got[1] == pytest.approx(math.log(zero / here) / math.log(zero / full), rel=1e-8)
        else:
            assert got[1] == pytest.approx((zero - here) / (zero - full), rel=1e-8)


@pytest.mark.parametrize("bits", [1.0, 32.0])
@pytest.mark.parametrize(("quality", "scale"), QUALITIES)
def test_quality_is_exactly_one_unpruned_and_zero_with_nothing_kept(quality, scale, bits):
    problem = problem_of(SIDE, quality, scale, parameter_bits=bits)
    for cut in range(5):
        assert distortion_and_quality(problem, cut, 1.0, 1.0)[1] == 1.0
        assert distortion_and_quality(problem, cut, 0.0, 0.0)[1] == pytest.approx(0.0, abs=1e-13)
        assert distortion_and_quality(problem, cut, 1e-9, 1e-9)[1] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("scale", ["log", "linear"])
def test_quality_of_the_bound_does_not_depend_on_the_norm(scale, norm):
    problem = problem_of(SIDE, "rate_distortion", scale, parameter_bits=4.0, norm=norm)
    kept = (0.3 * 5e6 + 0.7 * 11e6) / 16e6
    expected = kept if scale == "log" else (1 - 2 ** (-4 * kept)) / (1 - 2**-4)
    assert distortion_and_quality(problem, 2, 0.3, 0.7)[1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("quality", "scale"), QUALITIES)
def test_quality_is_concave_along_any_line(quality, scale):
    rng = np.random.default_rng(2)
    problem = problem_of(SIDE, quality, scale, parameter_bits=8.0)
    for _ in range(200):
        cut, a, b = int(rng.integers(5)), rng.random(2), rng.random(2)
        ends = [distortion_and_quality(problem, cut, *point)[1] for point in (a, b)]
        assert distortion_and_quality(problem, cut, *(0.5 * (a + b)))[1] >= 0.5 * sum(ends) - 1e-12
