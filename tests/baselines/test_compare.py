"""The comparison: its figures recomputed, its intervals against a closed form, its resumption, own policies, errors."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import yaml
from rich.console import Console

from baselines import compare as cmp
from baselines.bootstrap import paired_bootstrap
from baselines.compare import Comparison, PolicyConfig, compare, load_config, main, policy_key
from baselines.config import load_comparisons
from baselines.journal import Journal
from baselines.laim import FAMILY
from baselines.policy import Wrapped
from baselines.rollout import measure
from baselines.rules import ConstantAction, MyopicExact, RandomPolicy
from coinfer_gym import InvalidInputError, solve_exact
from coinfer_gym.files import lock_folder
from coinfer_gym.laim.wrappers import BudgetShareAction

ROOT = Path(__file__).resolve().parents[2]
METRICS = list(FAMILY.metrics)
STEADY = METRICS[:-1]  # the last is the time of a decision
CONFIG = {
    "title": "A tiny comparison",
    "env": {"arrivals": "one_at_a_time", "tasks": 5},
    "worlds": 3,
    "seed": 40,
    "reference": "exact",
    "policies": {"chance": {"policy": "random", "seed": 7}, "exact": {"policy": "myopic_exact"}},
}


class Mine:
    """A user's policy: nothing but the call that stable-baselines3 makes."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.array([0.9, 1.0, 1.0, 1.0, -1.0, -1.0], np.float32), state  # whole network at the lowest clock


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def steady(folder):
    """What does not depend on the clock of every world."""
    return [{name: row[name] for name in ("policy", "seed", *STEADY)} for row in table(folder / "out" / "worlds.csv")]


def journal_lines(folder):
    return (folder / "out" / "worlds.jsonl").read_text().splitlines()


def run(folder, *options, config=CONFIG):
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return main([str(path), "--out", str(folder / "out"), *options])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of a comparison, and what it printed on a terminal that knows ASCII only."""
    folder = tmp_path_factory.mktemp("finished")
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    command = [sys.executable, "-m", "baselines.compare", str(path), "--out", str(folder / "out"), "--jobs", "1"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    return folder, result.stdout


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
        assert {name: float(row[name]) for name in STEADY} == pytest.approx(metrics, rel=1e-9, abs=1e-9)
    summary = {(row["policy"], row["metric"]): row for row in table(folder / "out" / "summary.csv")}
    assert len(summary) == 2 * len(METRICS)
    for name in STEADY:
        means = [np.mean([m[name] for m in expected[i : i + 3]]) for i in (0, 3)]
        for label, mean in zip(("chance", "exact"), means, strict=True):
            row = summary[label, name]
            assert float(row["mean"]) == pytest.approx(mean, rel=1e-9, abs=1e-9)
            assert float(row["low"]) - 1e-12 <= float(row["mean"]) <= float(row["high"]) + 1e-12
        assert float(summary["chance", name]["difference"]) == pytest.approx(means[0] - means[1], abs=1e-9)
        assert float(summary["exact", name]["difference_high"]) == 0.0


def test_everything_is_written_and_an_ascii_terminal_shows_it(finished):
    folder, printed = finished
    out = folder / "out"
    names = {".lock", "comparison.png", "summary.csv", "summary.json", "worlds.csv", "worlds.jsonl"}
    assert {path.name for path in out.iterdir()} == names
    summary = json.loads((out / "summary.json").read_text())
    assert summary["config"]["policies"] == CONFIG["policies"]
    assert {"numpy", "numba", "gymnasium", "python", "coinfer_gym"} <= set(summary["versions"])
    assert summary["command"].startswith("python -m baselines.compare")
    rows = {(row["policy"], row["metric"]): row for row in table(out / "summary.csv")}
    for label, policy in summary["policies"].items():
        for name in METRICS:
            assert policy["metrics"][name]["mean"] == float(rows[label, name]["mean"])
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    for word in ("chance", "exact", "A tiny comparison", "relative to 'exact'", "regret", "decision us"):
        assert word in printed
    for (label, name), row in rows.items():
        column = FAMILY.metrics[name]
        mean, low, high = (column.factor * float(row[part]) for part in ("mean", "low", "high"))
        shown = (
            f"[{low:.4f}, {high:.4f}]" if name == "delivered" else f"+/-{max(mean - low, high - mean):{column.form}}"
        )
        assert shown in printed, (label, name)


def test_table_shows_every_interval_at_180_columns(monkeypatch, capsys):
    monkeypatch.setattr("baselines.report.open_console", lambda: Console(width=180, force_terminal=False))
    values = np.random.default_rng(0).uniform(-1.0, 1.0, (2, 9, len(METRICS))) * 10.0
    values[:, :, -1] *= 1e4
    config = load_config(CONFIG).model_dump()
    Comparison(config, ["myopic exact, long name", "exact"], FAMILY.metrics, values, {}, "exact").show()
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 180
    assert "…" not in printed
    assert printed.count("±") == 2 * (len(METRICS) - 1) + 1  # and the line that explains it


def test_policies_meet_the_same_worlds(finished):
    worlds = {}
    for record in map(json.loads, journal_lines(finished[0])):
        worlds.setdefault(record["seed"], set()).add(record["world"])
    assert sorted(worlds) == [40, 41, 42]
    assert all(len(found) == 1 for found in worlds.values())
    assert len(set.union(*worlds.values())) == 3
    records = {"x": [{"world": "a"}, {"world": "b"}], "y": [{"world": "a"}, {"world": "c"}]}
    with pytest.raises(RuntimeError, match="under seed 6"):
        cmp._check_worlds(records, 5)


def test_interrupted_run_goes_on(finished, tmp_path):
    folder, _ = finished
    lines = journal_lines(folder)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "worlds.jsonl").write_text("\n".join([*lines[:3], lines[3][:40]]))  # killed in mid-line
    assert run(tmp_path, "--jobs", "2") == 0
    resumed = journal_lines(tmp_path)
    assert resumed[:3] == lines[:3]  # with their times: not played again
    again, before = ({(record["key"], record["seed"]) for record in map(json.loads, part)} for part in (resumed, lines))
    assert again == before
    assert steady(tmp_path) == steady(folder)  # two processes give what one does


def test_fresh_run_forgets_and_stale_results_are_not_used(tmp_path, capsys):
    config = load_config(CONFIG | {"worlds": 2})
    first = compare(config, tmp_path)
    assert "in the folder already" not in capsys.readouterr().err
    marked = json.loads((tmp_path / "worlds.jsonl").read_text().splitlines()[0])
    marked["metrics"]["delivered"] = 99.0
    del marked["digest"]
    Journal(tmp_path / "worlds.jsonl", METRICS).note([marked])
    assert compare(config, tmp_path).values.max() >= 99.0  # the journal is believed
    assert "4 results are in the folder already (--fresh plays them again)." in capsys.readouterr().err
    assert compare(config, tmp_path, fresh=True).values[:, :, 0] == pytest.approx(first.values[:, :, 0])
    longer = compare(load_config(CONFIG | {"worlds": 4}), tmp_path)
    assert len((tmp_path / "worlds.jsonl").read_text().splitlines()) == 8
    np.testing.assert_array_equal(longer.values[:, :2, :-1], first.values[:, :, :-1])
    other = load_config(CONFIG | {"worlds": 2, "env": CONFIG["env"] | {"energy_budget": 0.3}})
    assert (compare(other, tmp_path).values[1, :, 0] < first.values[1, :, 0]).all()


def test_key_follows_all_that_matters(tmp_path, monkeypatch):
    agent = tmp_path / "agent"
    agent.mkdir()
    (agent / "weights").write_text("1")
    config = load_config(CONFIG)
    env = gym.make("coinfer_gym/LAIM-v0", **CONFIG["env"])
    entry = PolicyConfig(policy="random", path=str(agent))
    keys = [policy_key(config, entry, env)]
    assert keys[0] == policy_key(config.model_copy(update={"title": "x", "worlds": 9}), entry, env)
    assert keys[0] == policy_key(config, entry.model_copy(update={"worlds": 2}), env)
    (agent / "weights").write_text("2")
    keys.append(policy_key(config, entry, env))
    keys.append(policy_key(config, PolicyConfig(policy="random", seed=1), env))
    keys.append(policy_key(config, PolicyConfig(policy="myopic_exact", scheme="on_device"), env))
    keys.append(policy_key(config, entry, gym.make("coinfer_gym/LAIM-v0", **CONFIG["env"], bandwidth=2e7)))
    monkeypatch.syspath_prepend(tmp_path)
    for text in ("A = dict", "B = A = dict"):
        (tmp_path / "of_the_user.py").write_text(text)
        keys.append(policy_key(config, PolicyConfig(policy="of_the_user:A"), env, ["of_the_user"]))
    assert len(set(keys)) == 7


def test_journal_skips_what_is_not_whole(tmp_path):
    path = tmp_path / "worlds.jsonl"
    metrics = dict.fromkeys(METRICS, 1.0)
    record = {"key": "k", "seed": 1, "world": "w", "metrics": metrics}
    Journal(path, []).note([record, record | {"seed": 2, "metrics": {}}, {"key": "t", "tuned": {"a": 1}}])
    good, *others = path.read_text().splitlines()
    path.write_text("\n".join([good, "[]", "null", "[" * 9999, json.dumps(record), *others, good[:-9]]))
    journal = Journal(path, METRICS)
    assert list(journal.worlds) == [("k", 1)]
    assert journal.tuned == {"t": {"a": 1}}
    assert len(path.read_text().splitlines()) == 2
    journal.note([{"key": "k", "seed": 3, "world": "w", "metrics": metrics}])
    assert set(Journal(path, METRICS).worlds) == {("k", 1), ("k", 3)}


@pytest.mark.parametrize("value", ["NaN", "-5", "0.30000000000000014"])
def test_a_changed_line_of_the_journal_is_told(tmp_path, capsys, value):
    metrics = dict.fromkeys(METRICS, 0.30000000000000004)
    path = tmp_path / "out" / "worlds.jsonl"
    journal = Journal(path, METRICS)
    journal.note([{"key": "k", "seed": seed, "world": "w", "metrics": metrics} for seed in (1, 2)])
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{second.replace('0.30000000000000004', value, 1)}\n")
    assert run(tmp_path) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"baselines.compare: \S*worlds.jsonl, line 2: got .*: delete this line.*\n", said)


def test_a_folder_in_use_is_refused(finished, capsys):
    with lock_folder(finished[0] / "out"):
        assert run(finished[0]) == 2
    assert re.fullmatch("baselines.compare: folder: got .*Another command works there.*\n", capsys.readouterr().err)


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


def test_slow_policies_play_fewer_worlds(capsys):
    slow = CONFIG["policies"] | {"slow": {"policy": "myopic_exact", "cut": 1, "worlds": 2}}
    found = compare(CONFIG | {"policies": slow})
    assert found.worlds == [3, 3, 2]
    estimate, difference = found.intervals
    paired = found.values[2, :2, 0] - found.values[1, :2, 0]
    assert estimate.mean[2, 0] == pytest.approx(found.values[2, :2, 0].mean())
    assert difference.mean[2, 0] == pytest.approx(paired.mean())
    assert difference.low[2, 0] == pytest.approx(paired.min())
    whole = compare(CONFIG)
    for part, same in zip(estimate, whole.intervals[0], strict=True):
        np.testing.assert_array_equal(part[:2, :-1], same[:, :-1])
    found.show()
    assert "worlds" in capsys.readouterr().out


def test_own_policies_from_python():
    found = compare(CONFIG | {"reference": "mine"}, policies={"mine": Mine(), "again": MyopicExact()})
    assert found.labels == ["chance", "exact", "mine", "again"]
    env = gym.make("coinfer_gym/LAIM-v0", **CONFIG["env"])
    alone = measure(env, Mine(), 41)
    assert found.values[2, 1, :-1].tolist() == [alone[name] for name in STEADY]
    np.testing.assert_array_equal(found.values[3, :, :-1], found.values[1, :, :-1])
    silent = SimpleNamespace(predict=lambda *_, **__: np.zeros(6))
    with pytest.raises(InvalidInputError, match="config: got 3"):
        compare(3)
    wrong = (
        ({"exact": Mine()}, "another"),
        ({"mine": object()}, "predict"),
        ({"mine": silent}, "pair"),
        (3, "mapping"),
    )
    for policies, message in wrong:
        with pytest.raises(InvalidInputError, match=message):
            compare(CONFIG, policies=policies)


class HalfOfTheTime:
    """A model as trained in `BudgetShareAction`: a single number per action."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.zeros(1, np.float32), state


def test_a_model_that_was_trained_in_wrappers():
    model = HalfOfTheTime()
    found = compare(CONFIG, policies={"mine": Wrapped(model, ["BudgetShareAction"])})
    inside = BudgetShareAction(gym.make("coinfer_gym/LAIM-v0", **CONFIG["env"]))
    alone = measure(inside, model, 41)
    assert found.values[2, 1, :-1].tolist() == pytest.approx([alone[name] for name in STEADY])
    with pytest.raises(InvalidInputError, match=r"policies: mine.*\(1,\).*Wrapped\(model"):
        compare(CONFIG, policies={"mine": model})


def test_a_class_in_place_of_a_policy_is_told():
    with pytest.raises(InvalidInputError, match=r"policies: mine: .*Give an instance, such as Mine\(\)"):
        compare(CONFIG, policies={"mine": Mine})


def test_own_policies_from_a_configuration_need_trust(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_here.py").write_text(
        "import numpy as np\nfrom pathlib import Path\n\nPath(__file__).with_name('ran').touch()\n\n\n"
        "class MyPolicy:\n    def __init__(self, level=0.0):\n        self.level = level\n\n"
        "    def predict(self, observation, state=None, episode_start=None, deterministic=False):\n"
        "        return np.full(6, self.level, np.float32), state\n"
    )
    config = CONFIG | {"policies": {"mine": {"policy": "mine_here:MyPolicy", "level": 0.5}}, "reference": None}
    assert run(tmp_path, config=config) == 2
    assert "--trust mine_here" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()  # it was refused before it was imported
    assert run(tmp_path, "--jobs", "1", "--trust", "mine_here", config=config) == 0
    constant = CONFIG | {"policies": {"same": {"policy": "constant", "action": [0.5] * 6}}, "reference": None}
    same = compare(constant).values
    rows = [[float(row[name]) for name in STEADY] for row in table(tmp_path / "out" / "worlds.csv")]
    np.testing.assert_allclose(rows, same[0, :, :-1])
    no_policy = config | {"policies": {"mine": {"policy": "mine_here:Path"}}}
    with pytest.raises(InvalidInputError, match="has no predict"):
        compare(no_policy, trust=["mine_here"])


def test_bootstrap_agrees_with_the_normal_approximation():
    generator = np.random.default_rng(3)
    worlds = 500
    luck = generator.normal(0.0, 2.0, (1, worlds, 2))  # of the world: shared by all policies
    values = np.array([1.0, 1.1, 5.0])[:, None, None] + luck + generator.normal(0.0, 0.3, (3, worlds, 2))
    estimate, difference = paired_bootstrap(values, reference=0)
    for found, sample in ((estimate, values), (difference, values - values[:1])):
        half = 1.959964 * sample.std(axis=1) / np.sqrt(worlds)
        np.testing.assert_allclose(found.mean, sample.mean(axis=1))
        np.testing.assert_allclose(found.low, found.mean - half, atol=0.05 * half.max())
        np.testing.assert_allclose(found.high, found.mean + half, atol=0.05 * half.max())
    assert (difference.high - difference.low)[1].max() < 0.4 * (estimate.high - estimate.low)[1].min()


def test_bootstrap_resamples_the_same_worlds_for_all():
    values = np.random.default_rng(0).normal(size=(1, 40, 3))
    shifted = np.concatenate([values, values + 0.5])
    estimate, difference = paired_bootstrap(shifted, reference=0)
    for part in difference:
        np.testing.assert_allclose(part, [[0.0] * 3, [0.5] * 3], atol=1e-12)
    np.testing.assert_allclose(estimate.low[1], estimate.low[0] + 0.5)
    again, _ = paired_bootstrap(shifted)
    np.testing.assert_array_equal(again.high, estimate.high)
    assert paired_bootstrap(values[:, :1], reference=0)[0].low == pytest.approx(values[:, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"polices": {}}, "Did you mean 'policies'"),
        ({"worlds": 0}, "worlds"),
        ({"seed": -1}, "seed"),
        ({"policies": {}}, "policies"),
        ({"policies": {"a": {"polcy": "random"}}}, "policies.a.policy"),
        ({"policies": {"a": {"policy": "random", "worlds": 0}}}, "policies.a.worlds"),
        ({"policies": {"a": {"policy": "randon"}}}, "Did you mean 'random'"),
        ({"policies": {"a": {"policy": "os:system"}}}, "--trust os"),
        ({"policies": {"a": {"policy": "agents.policy:load_agent", "path": "no/such"}}}, "Train it first"),
        ({"reference": "exakt"}, "Did you mean 'exact'"),
        ({"env": {"scenario": "bert-multimodel"}}, "Did you mean 'bert-multimodal'"),
        ({"env": {"bandwith": 1.0}}, "Did you mean 'bandwidth'"),
        ({"environment": "coinfer_gym/LAIM-v1"}, "Did you mean 'coinfer_gym/LAIM-v0'"),
        ({"environment": "no_module_of_mine:X-v0"}, "--trust no_module_of_mine"),
        ({"environment": "CartPole-v1"}, "coinfer_gym/Layerwise-v0"),
        ({"policies": {"exact": {"policy": "myopic_exact", "cut": 10**400}}}, "cut: got 1000"),
        ({"policies": {"exact": {"policy": "myopic_exact", "quality": []}}}, "quality"),
        ({"policies": {"exact": {"policy": "constant", "action": 10**400}}}, "action"),
        ({"policies": {"exact": {"policy": "myopic_exact", "cuts": 1}}}, "Did you mean 'cut'"),
        ({"policies": {"exact": {"policy": "myopic_exact", "cut": 99}}}, "cut"),
    ],
)
def test_mistakes_are_explained(change, message):
    with pytest.raises(InvalidInputError, match=message):
        compare(CONFIG | change)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"policy": "randon"}, "policies: mine: policy: got 'randon'"),
        ({"policy": "agents.policy:load_agent", "path": "no/such"}, "policies: mine: .*path: got 'no/such'"),
        ({"policy": "myopic_exact", "cuts": 1}, "policies: mine: .*key: got 'cuts'"),
        ({"policy": "constant", "actions": [0.0]}, "policies: mine: .*Did you mean 'action'"),
        ({"policy": "myopic_exact", "cut": 99}, "policies: mine: cut: got 99"),
        ({"policy": "layerwise_exact"}, "policies: mine: env"),
    ],
)
def test_mistakes_about_a_policy_name_its_label(entry, message):
    with pytest.raises(InvalidInputError, match=message):
        compare(CONFIG | {"policies": {"mine": entry}, "reference": None})


def test_a_run_without_an_agent_is_told_before_options_are_searched(tmp_path, monkeypatch):
    monkeypatch.setattr(ConstantAction, "tune", lambda *_: pytest.fail("searched"))
    agent = {"policy": "agents.policy:load_agent", "path": str(tmp_path)}  # a folder of a training that was stopped
    with pytest.raises(InvalidInputError, match=r"policies: agent: .*Train the agent again"):
        compare(CONFIG | {"policies": {"constant": {"policy": "constant"}, "agent": agent}, "reference": None})


def test_paths_count_from_the_folder_of_the_configuration(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    for folder in (tmp_path, tmp_path / "deep"):
        (folder / "t.csv").write_text("time_s,gain_db\n0,-80\n1,-90\n", encoding="utf-8")
    (tmp_path / "deep" / "agent").touch()
    content = CONFIG | {"env": CONFIG["env"] | {"channel": "trace", "channel_trace": "t.csv"}, "reference": None}
    content |= {"policies": {"mine": {"policy": "agents.policy:load_agent", "path": "agent"}}}
    (tmp_path / "deep" / "c.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = load_config("deep/c.yaml")
    assert config.env["channel_trace"] == os.path.join("deep", "t.csv")
    assert config.policies["mine"].options["path"] == os.path.join("deep", "agent")


def test_command_line_says_what_is_wrong(tmp_path, capsys):
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert run(tmp_path, "--jobs", "0") == 2
    assert "jobs" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "compare").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_sound(path, monkeypatch):
    monkeypatch.setattr("baselines.config._check_path", lambda entry: None)  # its agent is trained first
    try:
        configs = load_comparisons(path)
    except InvalidInputError as error:
        if cmp.DATA not in str(error):
            raise
        pytest.skip(f"needs recorded data: {error}")
    for config in configs.values():
        env = gym.make(config.environment, **config.keywords)
        assert env.unwrapped.scenario.tasks == config.env.get("tasks", env.unwrapped.scenario.tasks)
        assert config.reference in config.policies


def test_a_file_of_several_comparisons(tmp_path):
    few = {"title": "Few", "policies": {"chance": {"policy": "random"}}, "reference": "chance"}
    several = CONFIG | {"worlds": 1, "comparisons": {"usual": {}, "few": few}}
    assert run(tmp_path, "--jobs", "1", config=several) == 0
    found = {name: read(tmp_path / "out" / name / "summary.json") for name in ("usual", "few")}
    assert list(found["usual"]["policies"]) == ["chance", "exact"]
    assert list(found["few"]["policies"]) == ["chance"]
    assert found["few"]["title"] == "Few"
    assert found["few"]["config"]["env"] == CONFIG["env"]
    alone = compare(CONFIG | {"worlds": 1})
    assert found["usual"]["policies"]["exact"]["metrics"]["delivered"]["mean"] == alone.values[1, 0, 0]


@pytest.mark.parametrize(
    ("several", "message"),
    [(3, "mapping from a name"), ({"a": 3}, "mapping from a name"), ({"../a": {}}, "name the folder"), ({}, "mapping")],
)
def test_several_comparisons_that_are_none(several, message, tmp_path, capsys):
    assert run(tmp_path, config=CONFIG | {"comparisons": several}) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
