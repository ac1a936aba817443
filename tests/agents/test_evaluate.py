"""Evaluation on frozen worlds: world by world what one environment gives, and beside it the references."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO

from agents import evaluate as evaluation
from agents.agent_file import AGENT_FILE
from agents.evaluate import METRICS, evaluate, find_agent, main
from agents.held_out import play_worlds
from agents.policy import load_agent
from agents.runs import RunConfig
from agents.training import train
from baselines.compare import compare
from baselines.laim import FAMILY
from baselines.rollout import measure
from coinfer_gym import InvalidInputError
from coinfer_gym.sb3 import make_native

LAIM = "coinfer_gym/LAIM-v0"
WORLD = {"scenario": "bert-multimodal", "tasks": 12}
COARSE = {"gains": 3, "waits": 4, "queue": 3, "beliefs": 2, "times": 4, "samples": 16}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a tiny run."""
    small = {"n_timesteps": 2048, "n_envs": 16, "n_steps": 32, "batch_size": 128, "policy_kwargs": {"net_arch": [16]}}
    out = tmp_path_factory.mktemp("run") / "ppo"
    lanes = {"eval_lanes": 4, "test_lanes": 4}
    return train(RunConfig(algo="ppo", env_kwargs=WORLD, hyperparams=small, seed=10_000, out=str(out), **lanes))


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    """What references earned is kept in the working folder; the solution of the process is a coarse one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(FAMILY.references, "stochastic DP", {"policy": "stochastic_dp"} | COARSE)


def test_a_lane_is_a_world_of_the_single_environment(run):
    agent = load_agent(run)
    lanes = make_native(LAIM, 3, agent.config["wrapper"], **WORLD)
    found = play_worlds(lanes, agent, 50)
    env = gym.make(LAIM, **WORLD)
    alone = load_agent(run).bind(env)
    for k, row in enumerate(found):
        expected = measure(env, alone, 50 + k)
        assert row == pytest.approx({name: expected[name] for name in row}, abs=1e-5)


def test_a_model_of_stable_baselines3_is_a_policy():
    env = gym.make(LAIM, **WORLD)
    model = PPO("MlpPolicy", env, seed=3, device="cpu")
    config = {"title": "t", "env": WORLD, "worlds": 2, "policies": {"exact": {"policy": "myopic_exact"}}}
    found = compare(config, policies={"model": model}).only(["delivered", "return"])
    again = measure(env, model, 1)
    assert found.values[1, 1].tolist() == [again["delivered"], again["return"]]


def test_agent_beside_references(run, capsys):
    assert main([str(run), "--worlds", "6", "--seed", "7", "--jobs", "1", "--out", "found.json"]) == 0
    text = capsys.readouterr().out
    assert all(label in text for label in ("agent", "myopic exact", "stochastic DP", "delivered quality"))
    found = json.loads(Path("found.json").read_text(encoding="utf-8"))
    assert (found["worlds"], found["seed"], found["env_kwargs"]) == (6, 7, WORLD)
    assert {len(values) for values in found["delivered"].values()} == {6}
    for label, less in found["relative_to_agent"].items():
        difference = np.subtract(found["delivered"][label], found["delivered"]["agent"])
        assert less["delivered"]["mean"] == pytest.approx(difference.mean())
        assert less["delivered"]["low"] <= less["delivered"]["mean"] <= less["delivered"]["high"]
    for label, metrics in found["policies"].items():
        assert metrics["delivered"]["mean"] == pytest.approx(np.mean(found["delivered"][label]))
        assert set(metrics) == set(METRICS)


def test_proven_share(run, capsys):
    options = ["--worlds", "2", "--seed", "7", "--jobs", "1", "--bound", "--out", "bound.json"]
    steady = ["--env-kwargs", "arrivals=poisson", "channel=constant"]
    assert main([str(run), *options, *steady]) == 0
    proven = json.loads(Path("bound.json").read_text(encoding="utf-8"))["proven_share"]
    assert 0.0 < proven["agent"][1] <= proven["agent"][0] <= proven["agent"][2] < 1.2
    assert "of the causal bound" in capsys.readouterr().out


def test_references_are_played_once(run, monkeypatch):
    first = evaluate(run, worlds=3)
    monkeypatch.setattr("baselines.compare.measure", None)  # nothing is left to play
    again = evaluate(run, worlds=3)
    assert np.array_equal(first.values, again.values)


def test_in_an_environment_it_was_not_trained_for(run, capsys):
    options = ["--worlds", "2", "--jobs", "1", "--env-kwargs", "arrivals=one_at_a_time", "tasks=5"]
    assert main([str(run), *options]) == 0
    text = capsys.readouterr().out
    assert "arrivals=one_at_a_time" in text
    assert "Without stochastic DP: There is no queue" in text
    base, loaded = (evaluate(run, keywords, worlds=3) for keywords in ({}, {"arrival_rate": 6.0}))
    assert loaded.config["env"] == WORLD | {"arrival_rate": 6.0}
    assert loaded.intervals[0].mean[0, 0] < base.intervals[0].mean[0, 0]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--env-kwargs", "dopler=3"], "doppler"),
        (["--env-kwargs", "battery_capacity=3.0"], "trained with"),  # there it would have to share the energy, too
        (["--worlds", "0"], "worlds"),
        (["--seed", "-1"], "seed"),
    ],
)
def test_refuses(run, capsys, options, hint):
    assert main([str(run), *options]) == 2
    assert hint in capsys.readouterr().err


def test_keywords_are_pairs(run, capsys):
    with pytest.raises(SystemExit):
        main([str(run), "--env-kwargs", "tasks"])
    assert "KEY=VALUE" in capsys.readouterr().err


def test_tells_where_training_began(run):
    assert evaluate(run, worlds=2, seed=0).notes == ()
    assert "training" in evaluate(run, worlds=2, seed=9_999).notes[0]


def test_finds_agents(run, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "TRAINED", tmp_path / "trained")
    with pytest.raises(InvalidInputError, match="No agent is shipped"):
        find_agent("bert")
    shipped = tmp_path / "trained" / "bert" / AGENT_FILE
    shipped.parent.mkdir(parents=True)
    shipped.write_bytes((run / AGENT_FILE).read_bytes())
    assert find_agent("bert") == shipped
    assert find_agent(run) == find_agent(run / AGENT_FILE) == run / AGENT_FILE
    with pytest.raises(InvalidInputError, match="Did you mean 'bert'"):
        find_agent("bertt")
