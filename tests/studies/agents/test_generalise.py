"""Agents beyond their training: points are what other commands find, seen on the agents' own scale, and played once."""

import dataclasses
import json

import gymnasium as gym
import numpy as np
import pytest

from agents import evaluate as evaluation
from agents.agent_file import AGENT_FILE, save_agent
from agents.evaluate import evaluate
from agents.rescaled import RescaledAgent
from baselines import compare, laim
from baselines.compare import DATA
from coinfer_gym import InvalidInputError
from coinfer_gym.files import read_csv
from studies.agents.generalise import BOUND, generalise, load_config, main

LAIM = "coinfer_gym/LAIM-v0"
WORLD = {"scenario": "bert-multimodal", "tasks": 12}
MYOPIC = {"myopic exact": {"policy": "myopic_exact"}}
DOPPLER = {"trained": 0.25, "log": True, "points": {0.25: {}, 1: {"doppler": 1.0}}}
CONFIG = {
    "title": "Elsewhere",
    "env": WORLD,
    "worlds": 4,
    "seed": 3,
    "agents": {"agent": "bert-multimodal"},
    "policies": MYOPIC | {"on device": {"policy": "myopic_exact", "scheme": "on_device"}},
    "target": "myopic exact",
    "axes": {"Doppler spread (Hz)": DOPPLER},
}


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    """What was played is kept in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(laim, "FAMILY", dataclasses.replace(laim.FAMILY, references=MYOPIC))


@pytest.fixture
def flexible(tmp_path):
    """Folder of an agent without skill that was trained in drawn budgets."""
    rng = np.random.default_rng(0)
    shapes = {"actor.latent_pi.0": (4, 7), "actor.mu": (6, 4), "actor.log_std": (6, 4)}
    weights = {f"{name}.weight": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights |= {f"{name}.bias": np.zeros(shape[0], np.float32) for name, shape in shapes.items()}
    ranges = {"delay_budget_range": [0.1, 1.6], "energy_budget_range": [0.2, 1.7]}
    keywords = WORLD | {"arrivals": "one_at_a_time"} | ranges
    (tmp_path / "flexible").mkdir()
    save_agent(tmp_path / "flexible" / AGENT_FILE, "sac", weights, {"env": LAIM, "env_kwargs": keywords}, None)
    return tmp_path / "flexible"


def seen(agent, env, monkeypatch):
    """What the agent inside sees of an environment's first task in the world of seed 5."""
    own = RescaledAgent(str(agent / AGENT_FILE)).bind(env)
    shown = []
    monkeypatch.setattr(own._agent, "predict", lambda observation, *_: shown.append(observation))
    own.predict(env.reset(seed=5)[0])
    return shown[0]


def test_a_point_is_what_evaluate_and_compare_find(tmp_path):
    base, faster = generalise(load_config(CONFIG), tmp_path / "work")
    for point, keywords in ((base, {}), (faster, {"doppler": 1.0})):
        found = evaluate("bert-multimodal", WORLD | keywords, worlds=4, seed=3)
        for part, name in enumerate(("delivered", "violated", "dropped")):
            assert point.means[:2, part] == pytest.approx(found.only([name]).intervals[0].mean[:, 0])
        difference = found.intervals[1]
        assert point.difference.mean[0] == pytest.approx(-difference.mean[1, 0])
        assert point.difference.low[0] == pytest.approx(-difference.high[1, 0], abs=1e-3)
        content = {"title": "", "env": WORLD | keywords, "worlds": 4, "seed": 3, "policies": CONFIG["policies"]}
        alone = compare.compare(compare.load_config(content), tmp_path / "alone").values
        assert np.array_equal(point.delivered.mean[1:], alone[:, :, 0].mean(axis=1))
    assert base.delivered.mean[0] != faster.delivered.mean[0]


def test_is_played_once(tmp_path, monkeypatch):
    first = generalise(load_config(CONFIG), tmp_path)
    played, play = [], compare.measure
    monkeypatch.setattr(compare, "measure", lambda env, policy, seed: played.append(seed) or play(env, policy, seed))
    again = generalise(load_config(CONFIG), tmp_path)
    assert played == []
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.means, other.means)
    more = DOPPLER | {"points": DOPPLER["points"] | {2: {"doppler": 2.0}}}
    generalise(load_config(CONFIG | {"axes": {"Doppler spread (Hz)": more}}), tmp_path)
    assert sorted(played) == sorted(3 * [3, 4, 5, 6])  # the new point, by three players


def test_sees_a_fixed_budget_as_a_drawn_one(flexible, monkeypatch):
    keywords = WORLD | {"arrivals": "one_at_a_time"}
    ranges = {"delay_budget_range": [0.1, 1.6], "energy_budget_range": [0.2, 1.7]}
    drawn = gym.make(LAIM, **keywords, **ranges)
    expected, _ = drawn.reset(seed=5)
    world = drawn.unwrapped.world()
    fixed = gym.make(LAIM, **keywords, delay_budget=world.delay_budget, energy_budget=world.energy_budget)
    assert fixed.reset(seed=5)[0][4:6].tolist() == [0.0, 0.0]  # a budget that does not vary is not observed
    np.testing.assert_allclose(seen(flexible, fixed, monkeypatch), expected, atol=1e-6)
    assert np.array_equal(seen(flexible, drawn, monkeypatch), expected)


def test_sees_gain_rate_and_queue_on_its_own_scale(monkeypatch):
    agent = evaluation.TRAINED / "bert-multimodal"
    home = gym.make(LAIM, scenario="bert-multimodal")
    assert np.array_equal(seen(agent, home, monkeypatch), home.reset(seed=5)[0])
    away = gym.make(LAIM, scenario="bert-multimodal", distance=300, burst_rate=8.0, queue_capacity=20)
    observation, info = away.reset(seed=5)
    scale = home.unwrapped.lanes.rules[0]
    gain, _, _, rate, *_ = seen(agent, away, monkeypatch)
    low, high = scale["gain_db_low"], scale["gain_db_high"]
    assert gain == pytest.approx(2.0 * (info["gain_db"] - low) / (high - low) - 1.0, abs=1e-5)
    assert rate == pytest.approx(2.0 * observation[3] + 1.0, abs=1e-6)  # the scale of the rate is twice as wide away


def test_command_writes_everything(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(DATA, str(tmp_path))
    (tmp_path / "bus.csv").write_text("time_s,gain_db\n0,-100\n1,-110\n2,-95\n", encoding="utf-8")
    recorded = {"points": {"bus": {"channel": "trace", "channel_trace": f"${{{DATA}}}/bus.csv"}, "home": {}}}
    content = CONFIG | {"clairvoyant": True, "axes": {"Doppler spread (Hz)": DOPPLER, "channel": recorded}}
    (tmp_path / "elsewhere.yaml").write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    assert main(["elsewhere.yaml", "--jobs", "1", "--out", "out"]) == 0
    text = capsys.readouterr().out
    assert all(part in text for part in ("Elsewhere", "bus", "agent relative to", "violated %", BOUND))
    names = {"points.csv", "summary.json", "generalise.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    rows = read_csv(tmp_path / "out" / "points.csv")
    assert len(rows) == 4 * 4
    for row in rows:
        assert float(row["low"]) <= float(row["mean"]) <= float(row["high"])
        if row["player"] == "myopic exact":
            assert (float(row["less_target_mean"]), float(row["share_of_target"])) == (0.0, 1.0)
        if row["player"] == BOUND:
            assert row["violated"] == ""
            same = [other for other in rows if (other["axis"], other["point"]) == (row["axis"], row["point"])]
            assert float(row["mean"]) >= max(float(other["mean"]) for other in same)
    traced = next(row for row in rows if row["point"] == "bus")
    assert json.loads(traced["env"])["channel_trace"] == "${COINFER_DATA}/bus.csv"  # no path of this machine
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["command"] == "python -m studies.agents.generalise elsewhere.yaml --jobs 1 --out out"
    assert {"git_revision", "versions"} <= set(summary)
    assert load_config(summary["config"]).comparison("channel", "home") == load_config(content).comparison(
        "channel", "home"
    )


def point(**keywords):
    return {"axes": {"one": {"points": {1: keywords}}}}


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"worlds": 0}, "greater than or equal to 1"),
        ({"policies": MYOPIC | {"agent": {"policy": "random"}}}, "label"),
        ({"target": "myopic"}, "myopic exact"),
        ({"axes": {"one": DOPPLER | {"trained": 0.3}}}, "0.25"),
        (point(dopler=1.0), r"axis 'one', point 1.*doppler"),
        (point(battery_capacity=2.0), "trained with"),
        (point(channel="trace", channel_trace=f"${{{DATA}}}/none.csv"), DATA),
    ],
)
def test_refuses(change, hint):
    with pytest.raises(InvalidInputError, match=hint):
        load_config(CONFIG | change)


def test_command_refuses(tmp_path, capsys):
    assert main(["none.yaml"]) == 2
    assert "no such file" in capsys.readouterr().err
    (tmp_path / "one.yaml").write_text(json.dumps(CONFIG), encoding="utf-8")
    assert main(["one.yaml", "--jobs", "0"]) == 2
    assert "jobs" in capsys.readouterr().err
