"""The generator of worlds: one seed, one world, whatever else changes; budgets, lengths and ranges."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.scenario import load_scenario
from coinfer_gym.world import build_world_tables, draw, gain_db_range

ALPHA = 1e-3
ROOT = Path(__file__).parents[3]


def scenario(**overrides):
    return load_scenario("bert-multimodal", **({"channel": "fading", "arrivals": "mmpp"} | overrides))


def blocks_of_path(world):
    return build_world_tables(world).record["blocks"][0]


def digest(world):
    budgets = np.array([world.delay_budget, world.energy_budget])
    return hashlib.sha256(world.arrivals.tobytes() + world.gains.tobytes() + budgets.tobytes()).hexdigest()


def test_same_seed_same_world():
    one, two = draw(scenario(), 42), draw(build_world_tables(scenario()), 42)
    assert digest(one) == digest(two)
    assert one.seed == 42


def test_another_process_draws_the_same_world():
    code = (
        "import hashlib, numpy as np\n"
        "from coinfer_gym import load_scenario\n"
        "from coinfer_gym.world import draw\n"
        "s = load_scenario('bert-multimodal', channel='fading', arrivals='mmpp', delay_budget_range=(0.1, 1.0))\n"
        "w = draw(s, 9)\n"
        "b = np.array([w.delay_budget, w.energy_budget])\n"
        "print(hashlib.sha256(w.arrivals.tobytes() + w.gains.tobytes() + b.tobytes()).hexdigest())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"},
    )
    assert out.stdout.strip() == digest(draw(scenario(delay_budget_range=(0.1, 1.0)), 9))


def test_different_seeds_differ():
    worlds = [draw(scenario(), seed) for seed in (0, 1, 2, 2**63, 2**64 - 1)]
    assert len({digest(world) for world in worlds}) == 5
    for a in range(5):
        for b in range(a):
            assert not np.any(worlds[a].gains == worlds[b].gains)


@pytest.mark.parametrize("seed", [-1, 2**64, "1", 1.0, True, None])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(InvalidInputError, match="world_seed"):
        draw(scenario(), seed)


@pytest.mark.parametrize(
    "change",
    [
        {"rician_factor": 5.0, "doppler": 3.0},
        {"channel": "constant"},
        {"delay_budget_range": (0.1, 1.0)},
        {"csi_noise_db": 3.0},
    ],
)
def test_arrivals_do_not_depend_on_channel_or_budgets(change):
    assert np.array_equal(draw(scenario(), 3).arrivals, draw(scenario(**change), 3).arrivals)


@pytest.mark.parametrize(
    "change",
    [
        {"arrivals": "poisson"},
        {"arrivals": "one_at_a_time"},
        {"tasks": 20},
        {"delay_budget_range": (0.1, 1.0)},
    ],
)
def test_gains_do_not_depend_on_arrivals_or_budgets(change):
    one, two = draw(scenario(), 3).gains, draw(scenario(**change), 3).gains
    common = min(one.size, two.size)
    assert np.array_equal(one[:common], two[:common])


def test_budgets_do_not_depend_on_channel_or_arrivals():
    ranges = {"delay_budget_range": (0.1, 1.0), "energy_budget_range": (0.01, 2.0)}
    one, two = draw(scenario(**ranges), 3), draw(scenario(**ranges, channel="constant", arrivals="periodic"), 3)
    assert (one.delay_budget, one.energy_budget) == (two.delay_budget, two.energy_budget)


def test_fixed_budgets_are_exact():
    world = draw(scenario(delay_budget=0.3, energy_budget=0.7), 5)
    assert (world.delay_budget, world.energy_budget) == (0.3, 0.7)
    world = draw(scenario(delay_budget_range=(0.2, 0.2)), 5)
    assert world.delay_budget == 0.2


def test_drawn_budgets_are_log_uniform_and_independent():
    tables = build_world_tables(
        scenario(delay_budget_range=(0.1, 1.0), energy_budget_range=(0.01, 2.0), tasks=1, channel="constant")
    )
    budgets = np.array([(w.delay_budget, w.energy_budget) for w in (draw(tables, seed) for seed in range(5_000))])
    for column, (low, high) in zip(budgets.T, ((0.1, 1.0), (0.01, 2.0)), strict=True):
        assert low <= column.min()
        assert column.max() <= high
        assert stats.kstest(np.log(column / low) / np.log(high / low), "uniform").pvalue > ALPHA
    assert abs(np.corrcoef(np.log(budgets.T))[0, 1]) < 4 / np.sqrt(5_000)


def test_gain_at_a_time_repeats_after_the_path():
    world = draw(scenario(block_duration=0.5), 1)
    assert world.gain_at(0.0) == world.gains[0]
    assert world.gain_at(1.25) == world.gains[2]
    assert world.gain_at(0.5 * world.gains.size + 0.6) == world.gains[1]


def test_worlds_cannot_be_altered():
    world = draw(scenario(), 1)
    for array in (world.arrivals, world.gains):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


def test_length_of_the_path():
    common = {"tasks": 100, "block_duration": 0.1, "delay_budget": 0.4, "patience": 2.0}
    poisson = scenario(arrivals="poisson", arrival_rate=2.0, **common)
    assert blocks_of_path(poisson) == pytest.approx(1.25 * (50.0 + 0.8) / 0.1, abs=1)
    mmpp = scenario(arrival_rate=1.0, burst_rate=5.0, calm_duration=20.0, burst_duration=20.0, **common)
    assert blocks_of_path(mmpp) == pytest.approx(1.25 * (100.0 / 3.0 + 0.8) / 0.1, abs=1)
    waiting = scenario(arrivals="one_at_a_time", delay_budget_range=(0.1, 2.0), **common)
    assert blocks_of_path(waiting) == pytest.approx(1.25 * 200.0 / 0.1, abs=1)
    assert blocks_of_path(scenario(tasks=1, arrival_rate=1000.0, burst_rate=1000.0)) == 64
    assert blocks_of_path(scenario(tasks=100_000, block_duration=1e-4)) == 2**20
    assert blocks_of_path(scenario(channel="constant")) == 64


@pytest.mark.parametrize("factor", [0.0, 5.0])
@pytest.mark.parametrize("shadowing", [0.0, 6.0])
def test_range_holds_nearly_all_gains(factor, shadowing):
    world = scenario(rician_factor=factor, shadowing_db=shadowing, doppler=7.0)
    low, high = gain_db_range(world)
    tables = build_world_tables(world)
    gains_db = 10.0 * np.log10(np.concatenate([draw(tables, seed).gains for seed in range(100)]))
    assert low < high
    assert np.mean((gains_db > low) & (gains_db < high)) > 0.99
    assert np.ptp(gains_db) > 0.4 * (high - low)


def test_range_of_rayleigh_and_constant_channels():
    rayleigh = scenario(rician_factor=0.0, shadowing_db=0.0)
    assert gain_db_range(rayleigh) == pytest.approx((rayleigh.mean_gain_db - 25.0, rayleigh.mean_gain_db + 8.0))
    constant = scenario(channel="constant")
    assert gain_db_range(constant) == pytest.approx((constant.mean_gain_db - 1.0, constant.mean_gain_db + 1.0))


def test_traces_from_file_to_world(tmp_path):
    channel, arrivals = tmp_path / "channel.csv", tmp_path / "arrivals.csv"
    channel.write_text("time_s,throughput_mbps\n0,10\n1,0\n2,20\n")
    arrivals.write_text("time_s\n0\n1\n4\n")
    world = scenario(
        channel="trace", channel_trace=str(channel), arrivals="trace", arrival_trace=str(arrivals), tasks=30
    )
    tables = build_world_tables(world)
    assert tables.channel_trace_time.tolist() == [0.0, 1.0, 2.0]
    assert tables.arrival_trace.tolist() == [0.0, 1.0, 4.0]
    drawn = draw(tables, 8)
    assert set(np.unique(drawn.gains)) == set(tables.channel_trace_gain)
    working = 10.0 * np.log10(np.sort(tables.channel_trace_gain)[1:])
    assert gain_db_range(tables) == pytest.approx((working[0] - 1.0, working[1] + 1.0))
    assert gain_db_range(world) == gain_db_range(tables)


def test_a_bad_trace_is_refused_when_the_tables_are_built(tmp_path):
    with pytest.raises(InvalidInputError, match="no such file"):
        build_world_tables(scenario(channel="trace", channel_trace=str(tmp_path / "no.csv")))
