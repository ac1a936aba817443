"""The comparison: its figures recomputed, its intervals against a closed form, its resumption and its errors."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml
from rich.console import Console

from baselines import compare as cmp
from baselines.bootstrap import paired_bootstrap
from baselines.compare import METRICS, Journal, PolicyConfig, compare, load_config, main, play, policy_key
from baselines.policy import ProblemPolicy
from baselines.report import COLUMNS, Report
from baselines.rules import MyopicExact, RandomPolicy
from coinfer_gym import InvalidInputError, solve_exact

ROOT = Path(__file__).resolve().parents[2]
STEADY = [name for name in METRICS if name not in cmp.TIMES]
CONFIG = {
    "title": "A tiny comparison",
    "env": {"arrivals": "one_at_a_time", "tasks": 5},
    "worlds": 3,
    "seed": 40,
    "reference": "exact",
    "policies": {"chance": {"policy": "random", "seed": 7}, "exact": {"policy": "myopic_exact"}},
}


def run(folder, config=CONFIG, *options):
    """The command line on a configuration, in a process of its own; returns what it printed."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    command = [sys.executable, "-m", "baselines.compare", str(path), "--out", str(folder / "out"), *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    return result.stdout


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def half_width(row, column):
    """Longer side of a metric's interval as the table shows it, from the row of ``summary.csv``."""
    mean, low, high = (column.factor * float(row[name]) for name in ("mean", "low", "high"))
    return format(max(mean - low, high - mean), column.form)


def steady(folder):
    """What does not depend on the clock of every world."""
    return [{name: row[name] for name in ("policy", "seed", *STEADY)} for row in table(folder / "out" / "worlds.csv")]


def journal_lines(folder):
    return (folder / "out" / "worlds.jsonl").read_text().splitlines()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return folder, run(folder, CONFIG, "--jobs", "1")


def recompute(policy, seed):
    """Metrics of one world of `CONFIG`, by an own loop over single tasks."""
    env = gym.make("coinfer_gym/LAIM-v0", **CONFIG["env"])
    if hasattr(policy, "bind"):
        policy.bind(env)
    policy.seed(seed)
    observation, _ = env.reset(seed=seed)
    sums = dict.fromkeys(STEADY, 0.0)
    for _ in range(5):
        best = solve_exact(env.unwrapped.problem())
        observation, reward, _, _, info = env.step(policy.predict(observation)[0])
        sums["delivered"] += info["delivered"]
        sums["on_time"] += info["wait_s"] + info["delay_s"] <= 1.00001 * (info["wait_s"] + info["delay_budget_s"])
        sums["dropped"] += info["dropped"]
        sums["delay_s"] += info["wait_s"] + info["delay_s"]
        sums["service_s"] += info["delay_s"]
        sums["energy_j"] += info["energy_j"]
        sums["violated"] += info["violated"]
        sums["return"] += reward
        sums["regret"] += (best.quality if best.feasible else 0.0) - info["delivered"]
    return {name: value / 5 for name, value in sums.items()}


def test_figures_are_those_of_an_independent_recomputation(finished):
    folder, _ = finished
    rows = table(folder / "out" / "worlds.csv")
    assert [(row["policy"], int(row["seed"])) for row in rows] == [
        (p, 40 + k) for p in ("chance", "exact") for k in (0, 1, 2)
    ]
    own = {"chance": RandomPolicy(seed=7), "exact": MyopicExact()}
    expected = [recompute(own[row["policy"]], int(row["seed"])) for row in rows]
    for row, metrics in zip(rows, expected, strict=True):
        for name in STEADY:
            assert float(row[name]) == pytest.approx(metrics[name], rel=1e-9, abs=1e-9), name
    summary = {(row["policy"], row["metric"]): row for row in table(folder / "out" / "summary.csv")}
    assert len(summary) == 2 * len(METRICS)
    for name in STEADY:
        means = [np.mean([m[name] for m in expected[i : i + 3]]) for i in (0, 3)]
        for label, mean in zip(("chance", "exact"), means, strict=True):
            row = summary[label, name]
            assert float(row["mean"]) == pytest.approx(mean, rel=1e-9, abs=1e-9)
            assert float(row["low"]) <= float(row["mean"]) + 1e-12
            assert float(row["mean"]) <= float(row["high"]) + 1e-12
        assert float(summary["chance", name]["difference"]) == pytest.approx(means[0] - means[1], abs=1e-9)
        assert float(summary["exact", name]["difference_high"]) == 0.0


def test_everything_is_written(finished):
    folder, printed = finished
    out = folder / "out"
    names = {"comparison.png", "summary.csv", "summary.json", "worlds.csv", "worlds.jsonl"}
    assert {path.name for path in out.iterdir()} == names
    summary = json.loads((out / "summary.json").read_text())
    assert summary["config"]["policies"] == CONFIG["policies"]
    assert summary["config"]["worlds"] == 3
    assert {"numpy", "numba", "gymnasium", "python", "coinfer_gym"} <= set(summary["versions"])
    assert summary["command"].startswith("python -m baselines.compare")
    assert summary["date"][:2] == "20"
    rows = {(row["policy"], row["metric"]): row for row in table(out / "summary.csv")}
    for label, policy in summary["policies"].items():
        for name in METRICS:
            assert policy["metrics"][name]["mean"] == float(rows[label, name]["mean"])
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    for word in ("chance", "exact", "A tiny comparison", "delivered quality", "regret", "decision us"):
        assert word in printed
    for label in ("chance", "exact"):
        quality = rows[label, "delivered"]
        assert f"[{float(quality['low']):.4f}, {float(quality['high']):.4f}]" in printed
        for name in METRICS[1:]:
            assert f"±{half_width(rows[label, name], COLUMNS[name])}" in printed, name


def test_table_shows_every_interval_at_180_columns(monkeypatch, capsys):
    monkeypatch.setattr("baselines.report.Console", lambda width=180: Console(width=180, force_terminal=False))
    config = load_config(
        CONFIG | {"policies": {"myopic exact, long name": {"policy": "myopic_exact"}, "exact": {"policy": "random"}}}
    )
    values = np.random.default_rng(0).uniform(-1.0, 1.0, (2, 9, len(METRICS))) * 10.0
    values[:, :, -1] *= 1e4
    estimate, difference = paired_bootstrap(values, reference=1)
    Report(config.model_dump(), {}, "", METRICS, values, estimate, difference).show()
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 180
    assert "…" not in printed
    assert printed.count("±") == 2 * (len(METRICS) - 1) + 1  # and the line that explains it


def test_policies_meet_the_same_worlds(finished):
    folder, _ = finished
    worlds = {}
    for record in map(json.loads, journal_lines(folder)):
        worlds.setdefault(record["seed"], set()).add(record["world"])
    assert sorted(worlds) == [40, 41, 42]
    assert all(len(found) == 1 for found in worlds.values())
    assert len(set.union(*worlds.values())) == 3
    env = gym.make("coinfer_gym/LAIM-v0", tasks=30)
    seen = []
    for policy in (RandomPolicy(), MyopicExact(env, scheme="on_server")):
        play(env, policy, 8)
        seen.append(env.unwrapped.world())
    np.testing.assert_array_equal(seen[0].arrivals, seen[1].arrivals)
    np.testing.assert_array_equal(seen[0].gains, seen[1].gains)
    records = [[{"world": "a"}, {"world": "b"}], [{"world": "a"}, {"world": "c"}]]
    with pytest.raises(RuntimeError, match="under seed 6"):
        cmp._check_worlds(records, ["x", "y"], [5, 6])


def test_interrupted_run_goes_on(finished, tmp_path):
    folder, _ = finished
    lines = journal_lines(folder)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "worlds.jsonl").write_text("\n".join([*lines[:3], lines[3][:40]]))  # killed in mid-line
    run(tmp_path, CONFIG, "--jobs", "1")
    resumed = journal_lines(tmp_path)
    assert resumed[:3] == lines[:3]  # with their times: not played again
    again = [json.loads(line) for line in resumed[3:]]
    assert sorted((r["key"], r["seed"]) for r in again) == sorted(
        (r["key"], r["seed"]) for r in map(json.loads, lines[3:])
    )
    assert steady(tmp_path) == steady(folder)


def test_processes_do_not_change_the_results(finished, tmp_path):
    folder, _ = finished
    run(tmp_path, CONFIG, "--jobs", "2")
    assert steady(tmp_path) == steady(folder)


def test_fresh_run_forgets_and_stale_results_are_not_used(tmp_path):
    config = load_config(CONFIG | {"worlds": 2})
    first = compare(config, tmp_path)
    marked = json.loads((tmp_path / "worlds.jsonl").read_text().splitlines()[0])
    marked["metrics"]["delivered"] = 99.0
    with (tmp_path / "worlds.jsonl").open("a") as file:
        file.write(json.dumps(marked) + "\n")
    assert compare(config, tmp_path).values.max() >= 99.0  # the journal is believed
    assert compare(config, tmp_path, fresh=True).values[:, :, 0] == pytest.approx(first.values[:, :, 0])
    longer = compare(load_config(CONFIG | {"worlds": 4}), tmp_path)
    assert len((tmp_path / "worlds.jsonl").read_text().splitlines()) == 8
    np.testing.assert_array_equal(longer.values[:, :2, :-1], first.values[:, :, :-1])
    other = load_config(CONFIG | {"worlds": 2, "env": CONFIG["env"] | {"distance": 300.0}})
    assert (compare(other, tmp_path).values[1, :, 0] < first.values[1, :, 0]).all()


def test_key_follows_all_that_matters(tmp_path):
    agent = tmp_path / "agent"
    agent.mkdir()
    (agent / "weights").write_text("1")
    config = load_config(CONFIG)
    env = gym.make("coinfer_gym/LAIM-v0", **CONFIG["env"])
    entry = PolicyConfig(policy="random", path=str(agent))
    keys = [policy_key(config, entry, env)]
    assert keys[0] == policy_key(config.model_copy(update={"title": "x", "worlds": 9}), entry, env)
    (agent / "weights").write_text("2")
    keys.append(policy_key(config, entry, env))
    keys.append(policy_key(config, PolicyConfig(policy="random", seed=1), env))
    keys.append(policy_key(config, PolicyConfig(policy="myopic_exact", scheme="on_device"), env))
    keys.append(policy_key(config, entry, gym.make("coinfer_gym/LAIM-v0", **CONFIG["env"], bandwidth=2e7)))
    assert len(set(keys)) == 5


def test_journal_skips_what_is_not_whole(tmp_path):
    path = tmp_path / "worlds.jsonl"
    metrics = dict.fromkeys(METRICS, 1.0)
    good = json.dumps({"key": "k", "seed": 1, "world": "w", "metrics": metrics})
    unmeasured = json.dumps({"key": "k", "seed": 2, "world": "w", "metrics": {}})
    tuned = json.dumps({"key": "t", "tuned": {"a": 1}})
    path.write_text("\n".join([good, "[]", "null", unmeasured, tuned, good[:-9]]))
    journal = Journal(path)
    assert list(journal.worlds) == [("k", 1)]
    assert journal.tuned == {"t": {"a": 1}}
    assert len(path.read_text().splitlines()) == 2
    journal.note([{"key": "k", "seed": 3, "world": "w", "metrics": metrics}])
    assert set(Journal(path).worlds) == {("k", 1), ("k", 3)}


def test_best_constant_is_searched_once_and_noted(tmp_path, monkeypatch):
    calls = []

    def search(env, seeds, environment):
        calls.append(set(seeds))
        return np.full(6, 0.25, np.float32)

    monkeypatch.setattr("baselines.rules.best_constant_action", search)
    policies = {"best": {"policy": "constant"}, "fixed": {"policy": "constant", "action": [0.25] * 6}}
    config = load_config(CONFIG | {"policies": policies, "reference": None})
    first = compare(config, tmp_path)
    assert first.tuned == {"best": {"action": [0.25] * 6}}
    np.testing.assert_array_equal(first.values[0, :, :-1], first.values[1, :, :-1])
    assert compare(config, tmp_path).tuned == first.tuned
    assert len(calls) == 1
    assert calls[0].isdisjoint(range(config.seed, config.seed + config.worlds))


def test_lost_tasks_count_in_every_share():
    class Slowest(ProblemPolicy):
        def solve(self, problem):
            raise NotImplementedError

        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.array([0.9, 1.0, 1.0, 1.0, -1.0, -1.0], np.float32), state  # whole network at the lowest clock

    env = gym.make("coinfer_gym/LAIM-v0", tasks=60)
    metrics = play(env, Slowest(env), seed=1)
    env.reset(seed=1)
    dropped, decisions, ended = 0.0, 0, False
    while not ended:
        *_, ended, info = env.step(Slowest(env).predict(None)[0])
        dropped, decisions = dropped + info["dropped"], decisions + 1
    assert dropped > 0
    assert dropped + decisions == 60
    assert metrics["dropped"] == pytest.approx(dropped / 60)
    assert metrics["on_time"] == metrics["delivered"] == 0.0
    assert metrics["violated"] == 1.0
    assert metrics["regret"] > 0.0


def test_bootstrap_agrees_with_the_normal_approximation():
    generator = np.random.default_rng(3)
    worlds = 500
    luck = generator.normal(0.0, 2.0, (1, worlds, 2))  # of the world: shared by all policies
    values = np.array([1.0, 1.1, 5.0])[:, None, None] + luck + generator.normal(0.0, 0.3, (3, worlds, 2))
    estimate, difference = paired_bootstrap(values, reference=0)
    np.testing.assert_allclose(estimate.mean, values.mean(axis=1))
    half = 1.959964 * values.std(axis=1) / np.sqrt(worlds)
    np.testing.assert_allclose(estimate.low, estimate.mean - half, atol=0.05 * half.max())
    np.testing.assert_allclose(estimate.high, estimate.mean + half, atol=0.05 * half.max())
    paired = values - values[:1]
    half = 1.959964 * paired.std(axis=1) / np.sqrt(worlds)
    np.testing.assert_allclose(difference.mean, paired.mean(axis=1))
    np.testing.assert_allclose(difference.low, difference.mean - half, atol=0.05 * half.max())
    np.testing.assert_allclose(difference.high, difference.mean + half, atol=0.05 * half.max())
    assert (difference.high - difference.low)[1].max() < 0.4 * (estimate.high - estimate.low)[1].min()


def test_bootstrap_resamples_the_same_worlds_for_all():
    values = np.random.default_rng(0).normal(size=(1, 40, 3))
    shifted = np.concatenate([values, values + 0.5])
    estimate, difference = paired_bootstrap(shifted, reference=0, resamples=500)
    for part in difference:
        np.testing.assert_allclose(part, [[0.0] * 3, [0.5] * 3], atol=1e-12)
    np.testing.assert_allclose(estimate.low[1], estimate.low[0] + 0.5)
    again, _ = paired_bootstrap(shifted, resamples=500)
    np.testing.assert_array_equal(again.high, estimate.high)
    assert paired_bootstrap(values[:, :1], reference=0)[0].low == pytest.approx(values[:, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"polices": {}}, "Did you mean 'policies'"),
        ({"worlds": -1}, "worlds"),
        ({"worlds": 0}, "worlds"),
        ({"seed": -1}, "seed"),
        ({"policies": {}}, "policies"),
        ({"policies": {"a": {"polcy": "random"}}}, "policies.a.policy"),
        ({"policies": {"a": {"policy": "randon"}}, "reference": None}, "Did you mean 'random'"),
        ({"policies": {"a": {"policy": "os:system"}}, "reference": None}, "imported from"),
        ({"reference": "exakt"}, "Did you mean 'exact'"),
        (
            {"policies": {"a": {"policy": "agents.policy:load_agent", "path": "no/such"}}, "reference": None},
            "Train it first",
        ),
    ],
)
def test_bad_configuration_is_explained(change, message):
    with pytest.raises(InvalidInputError, match=message):
        load_config(CONFIG | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": {"scenarion": "x"}}, "Did you mean"),
        ({"env": {"scenario": "bert-multimodel"}}, "Did you mean 'bert-multimodal'"),
        ({"env": {"bandwith": 1.0}}, "Did you mean 'bandwidth'"),
        ({"policies": {"exact": {"policy": "myopic_exact", "cuts": 1}}}, "Did you mean 'cut'"),
        ({"policies": {"exact": {"policy": "myopic_exact", "cut": 99}}}, "cut"),
    ],
)
def test_bad_world_or_option_is_explained(change, message, tmp_path):
    with pytest.raises(InvalidInputError, match=message):
        compare(load_config(CONFIG | change), tmp_path)


def test_command_line_says_what_is_wrong(tmp_path, capsys):
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "no such file" in capsys.readouterr().err
    bad = tmp_path / "bad.yaml"
    bad.write_text("title: [")
    assert main([str(bad)]) == 2
    assert "not valid YAML" in capsys.readouterr().err
    bad.write_text(yaml.safe_dump(CONFIG))
    assert main([str(bad), "--jobs", "0"]) == 2
    assert "jobs" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "compare").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_sound(path, monkeypatch):
    monkeypatch.setattr(cmp, "_check_path", lambda entry: None)  # its agent is trained first
    known = cmp.find_policy
    monkeypatch.setattr(cmp, "find_policy", lambda name: None if name.startswith("agents.") else known(name))
    try:
        config = load_config(path)
    except InvalidInputError as error:
        if cmp.DATA not in str(error):
            raise
        pytest.skip(f"needs recorded data: {error}")
    env = gym.make(config.environment, **config.keywords)
    assert env.unwrapped.scenario.tasks == config.env["tasks"]
    assert config.reference in config.policies
