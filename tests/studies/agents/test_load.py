"""The figures of load and of decision time: small runs recomputed, resumption, labels, and verdicts that can fail."""

import json
import re
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import yaml

from baselines import compare
from baselines.clairvoyant import clairvoyant_optimum
from baselines.compare import CompareConfig
from baselines.rollout import measure
from baselines.rules import MyopicExact
from coinfer_gym import InvalidInputError, load_scenario
from coinfer_gym.world import mean_arrival_rate
from studies.agents import bounds, decision_time, load
from tests.studies.made import failures, make_and_read

RATES, WORLDS, TASKS = (1.0, 4.0), 2, 15
SEED = 5


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """Verdict, rows, and options of a small sweep."""
    folder = tmp_path_factory.mktemp("load")
    options = {"work": folder / "work", "rates": RATES, "worlds": WORLDS, "tasks": TASKS, "seed": SEED, "jobs": 1}
    return *make_and_read(load.STUDIES[0], folder / "out", **options), options


def test_load_notes_how_it_was_made(small_run):
    summary, _, _ = small_run
    assert summary["holds"]["no policy exceeds the clairvoyant bound in any world"]
    assert {part: not found for part, found in summary["exceptions"].items()} == summary["holds"]
    kept = {"rates": list(RATES), "worlds": WORLDS, "tasks": TASKS, "seed": SEED, "jobs": 1}
    assert summary["options"] == kept
    for arrivals, file in load.TUNED.items():
        tuned = json.loads(file.read_text(encoding="utf-8"))["rules"]["queue budget"]
        assert summary["policies"][arrivals]["queue budget"] == {"policy": tuned["policy"], **tuned["options"]}


@pytest.mark.parametrize("arrivals", load.TUNED)
def test_load_holds_what_policies_and_the_clairvoyant_earn(small_run, arrivals):
    rows = {
        row["series"]: row for row in small_run[1] if row["arrivals"] == arrivals and float(row["rate"]) == RATES[1]
    }
    env = gym.make("coinfer_gym/LAIM-v0", **load.settings(arrivals, RATES[1], TASKS))
    earned, limits = [], []
    for seed in range(SEED, SEED + WORLDS):
        earned.append(measure(env, MyopicExact(env), seed)["delivered"])
        result = clairvoyant_optimum(env.unwrapped.scenario, env.unwrapped.world())
        limits.append((result.lower, result.upper))
    lower, upper = np.mean(limits, axis=0)
    myopic = rows["myopic exact"]
    assert float(myopic["mean"]) == pytest.approx(np.mean(earned), abs=1e-6)
    assert float(myopic["less_bound_mean"]) == pytest.approx(np.mean(earned) - upper, abs=2e-6)
    assert float(myopic["share_of_bound"]) == pytest.approx(np.mean(earned) / upper, abs=1e-5)
    assert float(rows["clairvoyant"]["mean"]) == pytest.approx(lower, abs=1e-6)
    assert float(rows["clairvoyant bound"]["mean"]) == pytest.approx(upper, abs=1e-6)
    assert set(rows) == set(load.SERIES)


def test_load_continues_without_playing(small_run, tmp_path, monkeypatch):
    summary, rows, options = small_run

    def refuse(*_):
        raise AssertionError("nothing is left to do")

    monkeypatch.setattr(compare, "measure", refuse)
    monkeypatch.setattr(bounds, "_bound", refuse)
    assert make_and_read(load.STUDIES[0], tmp_path, **options) == (summary, rows)


@pytest.mark.parametrize("arrivals", load.TUNED)
def test_settings_have_the_mean_rate(arrivals):
    rate = 3.0
    env = load.settings(arrivals, rate, TASKS)
    scenario = load_scenario(env.pop("scenario"), **env)
    assert mean_arrival_rate(scenario) == pytest.approx(rate, rel=1e-12)
    assert scenario.arrivals == arrivals
    if arrivals == "mmpp":
        shipped = load_scenario(load.SCENARIO)
        assert scenario.burst_rate / scenario.arrival_rate == pytest.approx(shipped.burst_rate / shipped.arrival_rate)


def test_missing_options_are_named(tmp_path):
    with pytest.raises(InvalidInputError, match=r"baselines\.tune configs/tune/none\.yaml"):
        load.tuned_policies(tmp_path / "none.json")
    (tmp_path / "some.json").write_text('{"rules": {}}')
    with pytest.raises(InvalidInputError, match="no options for 'slowdown'"):
        load.tuned_policies(tmp_path / "some.json")


def made_up_sweep():
    """Policies in rising order below the bound, in six worlds at two rates."""
    level = np.array([0.4, 0.41, 0.42, 0.43, 0.44, 0.5, 0.51])
    luck = np.linspace(0.0, 0.05, 6)
    noise = 1e-3 * np.random.default_rng(0).standard_normal((len(level), 6, 2))
    return load.Sweep(np.array([1.0, 2.0]), level[:, None, None] + luck[:, None] + noise)


@pytest.mark.parametrize(
    ("series", "place", "shift", "part"),
    [
        ("queue budget", (2, 1), 0.2, "no policy exceeds the clairvoyant bound in any world"),
        ("predictive control", (slice(None), 0), 0.04, "no rule is surely better than stochastic DP at any load"),
        (
            "myopic exact",
            (slice(None), 1),
            0.04,
            "stochastic DP is surely better than the myopic optimum at every load",
        ),
    ],
)
def test_load_verdict_reports_failures(series, place, shift, part):
    sound = made_up_sweep()
    assert failures(load.verdict({"mmpp": sound})) == []
    broken = sound.delivered.copy()
    broken[load.SERIES.index(series)][place] += shift
    judged = load.verdict({"mmpp": sound, "poisson": sound._replace(delivered=broken)})
    assert failures(judged) == [part]
    (exception,) = judged["exceptions"][part]
    assert exception["arrivals"] == "poisson"
    assert exception["policy"] == series
    assert exception["rate"] == sound.rates[place[1]]


def estimate(mean, half=0.0):
    return {"mean": mean, "low": mean - half, "high": mean + half}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A summary as the comparison stores it, cut down to what is read."""
    policies = {
        "random": ("random", {}, 0.01, 30.0),
        "myopic exact": ("myopic_exact", {}, 0.10, 32.0),
        "fixed cut": ("myopic_exact", {"cut": 1}, 0.11, 20.0),
        "SCA": ("myopic_sca", {"cut": 1}, 0.10, 8e3),
        "stochastic DP": ("stochastic_dp", {}, 0.12, 140.0),
        "an agent": ("agents.policy:load_agent", {"path": "nowhere"}, 0.11, 50.0),
        "clairvoyant": ("clairvoyant", {}, 0.9, 100.0),
    }
    config = {
        "title": "Made up",
        "env": {"scenario": "bert-multimodal", "tasks": TASKS},
        "worlds": WORLDS,
        "policies": {label: {"policy": policy, **options} for label, (policy, options, *_) in policies.items()},
    }
    metrics = {
        label: {"metrics": {"delivered": estimate(quality, 0.004), "decision_us": estimate(time, 1.0)}}
        for label, (_, _, quality, time) in policies.items()
    }
    path = tmp_path_factory.mktemp("stored") / "summary.json"
    path.write_text(json.dumps({"config": config, "policies": metrics, "command": "made up"}))
    return path


@pytest.fixture(scope="module")
def results(stored):
    return decision_time.compute(stored, work=stored.parent / "work", jobs=1)


def test_decision_time_writes_its_files(stored, results, tmp_path):
    options = {"summary": stored, "work": stored.parent / "work", "jobs": 1}
    summary, rows = make_and_read(decision_time.STUDIES[0], tmp_path / "out", **options)
    assert failures(summary) == []
    assert summary["results_made_by"] == "made up"
    rows = {row["policy"]: row for row in rows}
    assert set(rows).isdisjoint({"clairvoyant", "fixed cut"})  # no causal policy, and one of many cuts
    assert float(rows["stochastic DP"]["decision_s"]) == pytest.approx(140e-6)
    assert float(rows["stochastic DP"]["delivered_high"]) == pytest.approx(0.124)
    assert rows["an agent"]["kind"] == "other"
    found = bounds.clairvoyant_bounds(CompareConfig.model_validate(json.loads(stored.read_text())["config"]), tmp_path)
    assert results.bound[0] == pytest.approx(found[1].mean(), rel=1e-12)
    assert float(rows["clairvoyant bound"]["delivered"]) == pytest.approx(found[1].mean(), rel=1e-5)


def test_missing_or_foreign_summary_says_what_to_run(tmp_path):
    with pytest.raises(InvalidInputError, match=re.escape(decision_time.COMMAND)):
        decision_time.compute(tmp_path / "summary.json", work=tmp_path)
    for content in ("{", "[]", '{"command": "", "config": {"worlds": 0}}'):
        (tmp_path / "summary.json").write_text(content)
        with pytest.raises(InvalidInputError, match="no summary"):
            decision_time.compute(tmp_path / "summary.json", work=tmp_path)


@pytest.mark.parametrize(
    ("label", "change", "part"),
    [
        ("stochastic DP", {"quality": (2.0, 2.0, 2.0)}, "no policy delivers more than the clairvoyant bound"),
        ("an agent", {"quality": (0.13, 0.12, 0.14)}, "stochastic DP delivers the most"),
        (
            "stochastic DP",
            {"time": (0.1, 0.1, 0.1)},
            "the most is delivered at decisions within a hundredth of the delay budget",
        ),
        ("SCA", {"time": (1e-5, 1e-5, 1e-5)}, "every approximation decides more slowly than the exact optimum"),
    ],
)
def test_decision_time_verdict_reports_failures(results, label, change, part):
    points = tuple(replace(point, **change) if point.label == label else point for point in results.points)
    judged = decision_time.verdict(replace(results, points=points))
    assert failures(judged) == [part]
    assert judged["exceptions"][part] == [label]


def test_full_comparison_has_the_tuned_options():
    policies = yaml.safe_load((compare.ROOT / "configs/compare/full.yaml").read_text(encoding="utf-8"))["policies"]
    rules = json.loads(load.TUNED["mmpp"].read_text(encoding="utf-8"))["rules"]
    for label, rule in rules.items():
        assert policies[label] == {"policy": rule["policy"], **rule["options"]}
