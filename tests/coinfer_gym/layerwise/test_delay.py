"""Delays and energies of designs against equations 1-6 and Table I written out in plain Python."""

import math

import numpy as np
import pytest

from coinfer_gym.layerwise.network import Block, Group, Layer, Network
from coinfer_gym.layerwise.problem import HARDWARE, evaluate
from tests.coinfer_gym.layerwise.hardware import CONSTANTS

NETWORK = Network(
    "tiny",
    (Group("a", 8, 2), Group("b", 6)),
    (
        Block("conv", (Layer("conv", 3, "a", 4, 4, 3), Layer("relu", "a", "a", 4, 4)), "a", 16),
        Block("pool", (Layer("maxpool", "a", "a", 2, 2, 2),), "a", 4),
        Block("fc", (Layer("fc", "a", "b", area=4), Layer("relu", "b", "b")), "b", 1, True),
        Block("end", (Layer("fc", "b", 10),), 10, 1, True),
    ),
    48,
)
GAIN = 0.003


def record():
    hardware = np.zeros(1, HARDWARE)
    for name, value in CONSTANTS.items():
        hardware[name] = value
    return hardware


def outcomes(rows, gain=GAIN):
    designs, widths = np.array(rows, np.float64), np.empty((len(rows), 3))
    return np.array([evaluate(NETWORK.tables, record(), designs, i, widths, gain) for i in range(len(rows))])


def half_up(number):
    return math.floor(number + 0.5)


def expected(row, gain=GAIN):
    """Table I and the equations, layer by layer, with no look at the package."""
    cut, ratio_a, ratio_b, compression, power, clock = row
    k = CONSTANTS
    a = 2 * max(1, half_up(ratio_a * 8 / 2))
    b = max(1, half_up(ratio_b * 6))
    blocks = [2 * 16 * (3 * 9 + 1) * a + 16 * a, 4 * 4 * a, (2 * 4 * a - 1) * b + b, (2 * b - 1) * 10]
    area, kept, vector = [(48, 1, 0), (16, a, 0), (4, a, 0), (1, b, 1), (0, 1, 1)][cut]
    device, server = sum(blocks[:cut]), sum(blocks[cut:])
    sent = kept
    if cut in (1, 2, 3):
        sent = max(1, half_up(compression * kept))
        if sent < kept and vector:
            device += (2 * kept - 1) * sent
            server += (2 * sent - 1) * kept + kept  # and the ReLU
        elif sent < kept:
            device += 2 * area * (kept + 1) * sent
            server += 2 * area * (sent + 1) * kept + area * kept
    bits = area * sent * (k["input_value_bits"] if cut == 0 else k["feature_value_bits"])
    rate = k["bandwidth"] * math.log2(1 + power * gain / (k["noise_density"] * k["bandwidth"]))
    times = (
        device / (clock * k["flops_per_cycle_device"]),
        (bits / rate if rate else math.inf) if bits else 0.0,
        server / (k["frequency_server"] * k["flops_per_cycle_server"]),
    )
    energies = (
        k["pue_device"] * k["kappa_device"] * clock**2 * device / k["flops_per_cycle_device"],
        power * times[1],
        k["pue_server"] * k["kappa_server"] * k["frequency_server"] ** 2 * server / k["flops_per_cycle_server"],
    )
    return [*times, *energies, area * sent]


def random_rows(count, seed=0):
    rng = np.random.default_rng(seed)
    cuts = rng.integers(0, 5, count)
    shares = rng.uniform(0.01, 1.0, (count, 3))
    shares[rng.random((count, 3)) < 0.3] = 1.0
    return [
        [int(cut), *share, float(rng.uniform(0.01, 0.5)), float(rng.uniform(1e4, 1e6))]
        for cut, share in zip(cuts, shares.tolist(), strict=True)
    ]


def test_random_designs():
    rows = random_rows(300)
    assert {row[0] for row in rows} == {0, 1, 2, 3, 4}
    np.testing.assert_allclose(outcomes(rows), [expected(row) for row in rows], rtol=1e-13)


def test_nothing_is_sent_when_all_runs_on_the_device():
    result = outcomes([[4, 0.5, 0.5, 0.2, 0.1, 1e6]])[0]
    assert result[1:3].tolist() == [0.0, 0.0]
    assert result[4:].tolist() == [0.0, 0.0, 0.0]


def test_the_image_is_sent_as_it_is():
    plain, compressed = outcomes([[0, 1.0, 1.0, 1.0, 0.1, 1e6], [0, 1.0, 1.0, 0.1, 0.1, 1e6]])
    assert plain.tolist() == compressed.tolist()
    assert plain[0] == 0.0
    assert plain[6] == 48


def test_a_codec_only_where_fewer_channels_are_sent():
    # 0.95 of 8 channels are 7.6, so that all 8 are sent; 0.9 of them are 7.2
    whole, rounded, coded = outcomes([[1, 1.0, 1.0, x, 0.1, 1e6] for x in (1.0, 0.95, 0.9)])
    assert rounded.tolist() == whole.tolist()
    assert coded[6] == 7 * 16
    assert (coded[0] - whole[0]) * 1e6 * 0.25 == pytest.approx(2 * 16 * 9 * 7)
    assert (coded[2] - whole[2]) * 3e6 * 8.0 == pytest.approx(2 * 16 * 8 * 8 + 16 * 8)


def test_no_channel_takes_for_ever():
    result = outcomes([[1, 1.0, 1.0, 1.0, 0.1, 1e6], [4, 1.0, 1.0, 1.0, 0.1, 1e6]], gain=0.0)
    assert result[0, 1] == math.inf
    assert np.isfinite(result[1]).all()
