"""Designs are whole channels: ratios of equal widths are one network, and get equal answers everywhere."""

import math
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise.designs import check_designs, make_designs, ratios_of
from coinfer_gym.layerwise.env import LayerwiseEnv
from coinfer_gym.layerwise.network import load_network, shipped_networks
from coinfer_gym.layerwise.optimum import solve_exact, solve_given, solve_rows
from coinfer_gym.layerwise.predictor import load_regression_predictor, write_features
from coinfer_gym.layerwise.problem import LayerwiseDecision
from coinfer_gym.layerwise.scenario import load_layerwise_scenario, shipped_layerwise_scenarios

SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
UNIT = st.floats(0.0, 1.0)


@cache
def scenario_of(name):
    return load_layerwise_scenario(name)


@cache
def environments(name):
    return LayerwiseEnv(name), LayerwiseEnv(name)


def interval(count, channels, step=1):
    """Ratios that keep `count` of so many channels, by hand: those nearer to it than to its neighbours."""
    low = 1e-9 if count == step else (count - 0.5 * step) / channels
    high = 1.0 if count == channels else (count + 0.5 * step) / channels
    return low + 1e-9, high - 1e-9


@st.composite
def same_networks(draw, name=None):
    """A scenario, and two decisions that build the same network in different words."""
    name = draw(st.sampled_from(shipped_layerwise_scenarios())) if name is None else name
    s = scenario_of(name)
    cut = draw(st.integers(0, s.network.cuts - 1))
    kept = [group.step * draw(st.integers(1, group.channels // group.step)) for group in s.network.groups]
    group = int(s.network.tables.cuts["group"][cut])
    before = kept[group - 1] if group else 1
    sent = draw(st.one_of(st.just(before), st.integers(1, before)))
    ends = (s.power_max * draw(st.floats(0.1, 1.0)), s.frequency_device_max)

    def written():
        spans = [interval(k, g.channels, g.step) for k, g in zip(kept, s.network.groups, strict=True)]
        retained = tuple(low + (high - low) * draw(UNIT) for low, high in spans)
        low, high = interval(sent, before)
        return LayerwiseDecision(cut, retained, low + (high - low) * draw(UNIT), *ends)

    return name, written(), written(), [cut, *kept, sent]


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(same_networks(), st.floats(-15.0, -8.0), st.sampled_from([math.inf, 1e-3, 1e-2]))
def test_equal_widths_give_equal_everything(drawn, log_gain, energy):
    name, one, two, whole = drawn
    problem = scenario_of(name).problem(10.0**log_gain, 1.0, energy)
    rows = np.array([problem.row(one), problem.row(two)])
    assert rows[:, :-2].tolist() == [whole, whole]
    assert problem.evaluate(one) == problem.evaluate(two)
    outcomes = problem.evaluate(rows)
    for field in fields(outcomes):
        first, second = getattr(outcomes, field.name)
        assert first == second, field.name
    network = problem.network
    kept = network.kept(one.retained)
    assert kept.tolist() == network.kept(two.retained).tolist() == whole[1:-1]
    assert network.block_flops(one.retained).tolist() == network.block_flops(two.retained).tolist()
    assert network.upload_values(one.retained).tolist() == network.upload_values(two.retained).tolist()
    fastest = solve_rows(problem, rows)
    assert (fastest[0] == fastest[1]).all()
    at_cut = [solve_given(problem, each.retained, each.compression, each.cut) for each in (one, two)]
    assert at_cut[0] == at_cut[1]
    assert solve_given(problem, one.retained, 1.0) == solve_given(problem, two.retained, 1.0)
    features = np.zeros((2, len(problem.predictor.features)))
    for i in range(2):
        write_features(network.tables, rows, i, 0.0, features)
    assert (features[0] == features[1]).all()


@settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(same_networks(), st.integers(0, 2**31))
def test_equal_widths_give_equal_steps(drawn, seed):
    name, one, two, whole = drawn
    found = []
    for env, decision in zip(environments(name), (one, two), strict=True):
        env.reset(seed=seed)
        action = env.action(decision)
        back = env.problem().row(env.decision(action))
        least = env.scenario.network.kept([env.scenario.retained_min] * (len(whole) - 2))
        if (np.array(whole[1:-1]) >= least).all():
            assert back[:-2].tolist() == whole
            assert env.action(env.decision(action)).tolist() == action.tolist()
        found.append((action.tolist(), [part if i else part.tolist() for i, part in enumerate(env.step(action))]))
    assert found[0] == found[1]


@settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(st.sampled_from(shipped_layerwise_scenarios()), st.integers(0, 2**31))
def test_actions_of_one_network_give_one_step(name, seed):
    """Raw actions, not those that `env.action` makes: every component moves within what keeps as many channels."""
    rng, s = np.random.default_rng(seed), scenario_of(name)
    env, twin = environments(name)
    action = rng.uniform(-1.0, 1.0, env.action_space.shape).astype(np.float32)
    other = action.copy()
    row = env.scenario.problem(1.0).row(env.decision(action))
    for k in range(1, len(action) - 2):
        moved = other.copy()
        step = rng.normal() * 10.0 ** rng.uniform(-4.0, -1.0)
        moved[k] = rng.uniform(-1.0, 1.0) if rng.random() < 0.2 else np.clip(other[k] + step, -1.0, 1.0)
        if (env.scenario.problem(1.0).row(env.decision(moved))[:-2] == row[:-2]).all():
            other = moved
    results = []
    for each, taken in ((env, action), (twin, other)):
        each.reset(seed=seed)
        observation, *rest = each.step(taken)
        results.append((observation.tolist(), rest))
    assert results[0] == results[1]
    info = results[0][1][-1]
    for group, kept in zip(s.network.groups, row[1:-3], strict=True):
        assert info[f"retained_{group.name}"] == kept / group.channels


@pytest.mark.parametrize("network", shipped_networks())
def test_ratios_come_back_as_the_same_designs(network):
    network, rng = load_network(network), np.random.default_rng(0)
    cuts = rng.integers(0, network.cuts, 5000)
    ratios = np.column_stack([cuts, 1.0 - rng.random((5000, len(network.groups) + 1)), rng.random((5000, 2)) + 0.1])
    designs = make_designs(network, ratios)
    check_designs(network, designs)
    again = ratios_of(network, designs)
    assert (make_designs(network, again) == designs).all()
    assert ((again[:, 1:-2] > 0.0) & (again[:, 1:-2] <= 1.0)).all()
    # the nearest whole numbers, by hand
    channels = np.array([group.channels for group in network.groups])
    steps = np.array([group.step for group in network.groups])
    kept = steps * np.maximum(1, np.floor(ratios[:, 1:-3] * channels / steps + 0.5))
    assert (designs[:, 1:-3] == kept).all()
    before = np.column_stack([np.ones(5000), kept])[np.arange(5000), network.tables.cuts["group"][cuts]]
    assert (designs[:, -3] == np.maximum(1, np.floor(ratios[:, -3] * before + 0.5))).all()


@pytest.mark.parametrize("network", shipped_networks())
def test_without_a_codec_the_accuracy_is_the_same_wherever_the_network_is_cut(network):
    problem = scenario_of(f"{network}-rpi4b-4g").problem(1e-10)
    rng, cuts = np.random.default_rng(1), problem.network.cuts
    for _ in range(20):
        retained = rng.uniform(0.1, 1.0, len(problem.network.groups))
        ratios = np.column_stack([np.arange(cuts), np.tile(retained, (cuts, 1)), np.ones((cuts, 3))])
        assert len(set(problem.evaluate(make_designs(problem.network, ratios)).accuracy.tolist())) == 1


@pytest.mark.parametrize("network", shipped_networks())
def test_the_optimum_sees_nothing_but_channels(network):
    problem = scenario_of(f"{network}-rpi4b-4g").problem(1e-10, math.inf, math.inf)
    best = solve_exact(problem)
    found = problem.evaluate(best)
    assert (found.delay, found.accuracy, found.retained) == (best.delay, best.accuracy, best.retained)
    groups = len(problem.network.groups)
    other = replace(problem, retained_min=0.10001)  # the same least channels
    assert (problem.network.kept([0.10001] * groups) == problem.network.kept([0.1] * groups)).all()
    assert solve_exact(other) == best


def test_a_noisy_predictor_sees_whole_channels_and_its_cut():
    problem = scenario_of("alexnet-rpi4b-4g").problem(1e-10)
    noisy = replace(problem, predictor=load_regression_predictor("alexnet-noise"), snr_db=10.0)
    base = LayerwiseDecision(3, (0.5,) * 7, 0.25, 0.1, 1e9)
    moved = replace(base, retained=(0.5001,) * 7, compression=0.2501)
    assert noisy.evaluate(base) == noisy.evaluate(moved)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        (0, 12, r"cut.*0\.\.11"),
        (0, 0.5, "cut"),
        (1, 0.5, "retained of conv1.*multiple of 1 up to 64.*make_designs"),
        (1, 65, "retained of conv1"),
        (8, 0.5, "compression.*whole number.*make_designs"),
        (8, 65, "compression"),
        (9, 0.0, "power"),
        (10, math.nan, "frequency"),
    ],
)
def test_rows_that_are_no_designs_are_refused(column, value, said):
    network = load_network("alexnet")
    design = np.array([[1.0, 64, 192, 384, 256, 256, 1024, 1024, 64, 0.1, 1e9]])
    check_designs(network, design)
    design[0, column] = value
    with pytest.raises(InvalidInputError, match=said):
        check_designs(network, design)


def test_a_step_is_a_whole_group():
    network = load_network("regnet")
    design = np.array([[25.0, 32, 64, 160, 400, 1, 0.1, 1e9]])
    check_designs(network, design)
    design[0, 1] = 24
    with pytest.raises(InvalidInputError, match=r"retained of stage1.*multiple of 16"):
        check_designs(network, design)
