"""Policies of Layerwise-v0: their designs against designs chosen by hand, their errors, and a comparison of them."""

import csv
import math

import gymnasium as gym
import numpy as np
import pytest

import coinfer_gym  # noqa: F401  registers the ids
from baselines.compare import DATA, load_config, main
from baselines.layerwise.family import FAMILY
from baselines.layerwise.policies import full_power_rates
from baselines.registry import POLICIES, find_policy, make_policy
from baselines.rollout import TAILS, measure
from coinfer_gym import InvalidInputError
from coinfer_gym.layerwise.problem import LayerwiseDecision

ENV = "coinfer_gym/Layerwise-v0"
KEYWORDS = {"scenario": "alexnet-rpi4b-4g", "tasks": 8}
OWN = sorted(name for name in POLICIES if name.startswith("layerwise"))
UNPRUNED = [1.0] * 8


@pytest.fixture
def env():
    return gym.make(ENV, **KEYWORDS)


def designs():
    """Ratios of the unpruned network at some cuts."""
    return [[cut, *UNPRUNED, 0.2, 1.5e9] for cut in (0, 2, 11)]


def options(name):
    """Such that nothing has to be searched for long."""
    found = {
        "layerwise_rival": {"name": "All_Local"},
        "layerwise_static": {"design": designs()[0]},
        "layerwise_menu": {"designs": designs()},
        "layerwise_reoptimize": {"evaluations": 2000},
    }
    return found.get(name, {})


def test_rates_are_those_of_shannon(env):
    rates = full_power_rates(env, [3, 4])
    core, expected = env.unwrapped, []
    for seed in (3, 4):
        core.reset(seed=seed)
        for gain in core.world().gains:
            snr = core.scenario.power_max * gain / (core.scenario.noise_density * core.scenario.bandwidth)
            expected.append(core.scenario.bandwidth * math.log2(1.0 + snr))
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_a_scheme_is_run_once_for_the_mean_rate(env, monkeypatch):
    seen = []

    def scheme(problem, seed):
        seen.append((problem.rate, problem.energy_budget, seed))
        return rivals["All_Local"](problem, seed)

    rivals = dict(find_policy("layerwise_rival").__init__.__globals__["RIVALS"])
    monkeypatch.setitem(find_policy("layerwise_rival").__init__.__globals__["RIVALS"], "Proposed", scheme)
    seeds = range(50, 54)
    tuned = find_policy("layerwise_static").tune({"seed": 3}, ENV, KEYWORDS, seeds)
    [(rate, energy, seed)] = seen
    assert rate == pytest.approx(full_power_rates(env, seeds).mean(), rel=1e-9)
    assert (energy, seed) == (env.unwrapped.scenario.energy_budget, 3)
    assert tuned["design"][0] == 11.0  # what the scheme has chosen
    assert find_policy("layerwise_static").tune(tuned, ENV, KEYWORDS, seeds) == tuned
    policy = make_policy("layerwise_static", tuned).bind(env)
    assert len(seen) == 1
    env.reset(seed=0)
    actions = [policy.predict(env.reset(seed=seed)[0])[0] for seed in range(3)]
    assert (actions[0] == actions).all()


def test_menu_takes_the_fastest_accurate_design(env):
    policy = make_policy("layerwise_menu", {"designs": designs()}).bind(env)
    for seed in range(6):
        env.reset(seed=seed)
        problem = env.unwrapped.problem()
        chosen = policy.solve(problem)
        trials = [problem.evaluate(LayerwiseDecision(row[0], tuple(row[1:-3]), *row[-3:])) for row in designs()]
        within = [t.delay for t in trials if t.accuracy >= problem.accuracy_min and t.energy <= problem.energy_budget]
        if within:
            assert problem.evaluate(chosen).delay <= min(within) * (1.0 + 1e-9)


def test_a_menu_is_found_for_the_channel():
    tuned = find_policy("layerwise_menu").tune({"rates": 2}, ENV, KEYWORDS, range(60, 62))
    rows = np.array(tuned["designs"])
    assert set(range(12)) <= set(rows[:, 0])  # the unpruned network at every cut is among them
    assert len({tuple(row) for row in rows[:, :-2].tolist()}) == len(rows)
    assert tuned["rates"] == 2


@pytest.mark.parametrize("name", OWN)
def test_every_policy_plays(env, name):
    measured = measure(env, make_policy(name, options(name)).bind(env), 1)
    assert set(measured) == {*FAMILY.metrics, *TAILS}
    assert 0.0 < measured["service_s"] <= measured["delay_s"]
    assert 0.0 < measured["accuracy"] < 1.0


def test_the_other_environment_is_refused():
    policy = make_policy("layerwise_menu", options("layerwise_menu"))
    with pytest.raises(InvalidInputError, match="LayerwiseProblem: play it in Layerwise-v0"):
        policy.bind(gym.make("coinfer_gym/LAIM-v0"))


@pytest.mark.parametrize("name", ["myopic_exact", "myopic_sca", "quantum", "slowdown", "stochastic_dp", "clairvoyant"])
def test_policies_of_laim_refuse_this_environment(env, name):
    given = {"slowdown": {"fraction": 0.5}}.get(name, {})
    with pytest.raises(InvalidInputError, match="solves a Problem: play it in LAIM-v0"):
        make_policy(name, given).bind(env)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("layerwise_rival", {"name": "Neurosurgon"}, "Neurosurgeon"),
        ("layerwise_rival", {}, "name"),
        ("layerwise_menu", {"slack": -0.1}, "slack"),
        ("layerwise_menu", {"rates": 0}, "rates"),
        ("layerwise_reoptimize", {"evaluations": 0}, "evaluations"),
    ],
)
def test_options_are_checked(name, given, message):
    with pytest.raises(InvalidInputError, match=message):
        make_policy(name, given)


def test_a_slack_that_leaves_nothing_pruned_is_refused(env):
    make_policy("layerwise_menu", {"rates": 1, "slack": 0.89}).bind(env)
    with pytest.raises(InvalidInputError, match=r"slack: got 1\.0\. Give less than 0\.9"):
        make_policy("layerwise_menu", {"rates": 1, "slack": 1.0}).bind(env)


def test_a_design_of_another_network_is_refused(env):
    with pytest.raises(InvalidInputError):
        make_policy("layerwise_static", {"design": [0.0, 1.0, 1.0, 0.2, 1e9]}).bind(env)


def test_comparison(tmp_path, capsys):
    config = tmp_path / "tiny.yaml"
    config.write_text(
        f"title: Tiny\nenvironment: {ENV}\nenv: {{scenario: alexnet-rpi4b-4g, tasks: 5}}\nworlds: 2\n"
        "reference: local\npolicies:\n  random: {policy: random}\n"
        "  local: {policy: layerwise_rival, name: All_Local}\n"
    )
    assert main([str(config), "--out", str(tmp_path / "out"), "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "mean latency (ms)" in printed
    assert "regret" not in printed
    with (tmp_path / "out" / "summary.csv").open(newline="") as file:
        rows = {(row["policy"], row["metric"]): float(row["mean"]) for row in csv.DictReader(file)}
    assert {metric for _, metric in rows} == set(FAMILY.metrics)
    assert rows["local", "accuracy"] > rows["random", "accuracy"]
    assert (tmp_path / "out" / "comparison.png").is_file()


def test_recorded_data_are_found_by_their_variable(tmp_path, monkeypatch):
    content = {"title": "t", "environment": ENV, "worlds": 1, "policies": {"r": {"policy": "random"}}}
    monkeypatch.setenv(DATA, str(tmp_path))
    with pytest.raises(InvalidInputError, match=DATA):
        load_config(content | {"env": {"channel_trace": f"${{{DATA}}}/x.csv"}})
    (tmp_path / "x.csv").touch()
    config = load_config(content | {"env": {"channel_trace": f"${{{DATA}}}/x.csv"}})
    assert config.keywords["channel_trace"] == f"{tmp_path}/x.csv"
    assert config.env["channel_trace"] == f"${{{DATA}}}/x.csv"  # no path of this machine is written
