"""Agents of Layerwise-v0: trained, cloned, compared and played by the commands that agents of LAIM-v0 have."""

import dataclasses
import json

import gymnasium as gym
import numpy as np
import pytest

import coinfer_gym  # noqa: F401  registers the ids
from agents import evaluate as evaluation
from agents.demonstrations import load_config
from agents.held_out import TEST_SEED, play, reference
from agents.hyperparameters import load_hyperparameters
from agents.imitate import imitate
from agents.play import main as play_main
from agents.policy import load_agent
from agents.rescaled import RescaledAgent
from agents.runs import ROOT
from agents.train import main as train_main
from baselines.layerwise import family as layerwise
from coinfer_gym import InvalidInputError
from coinfer_gym.layerwise.problem import LayerwiseDecision
from coinfer_gym.sb3 import make_native

ENV = "coinfer_gym/Layerwise-v0"
SCENARIO = "alexnet-rpi4b-4g"
DESIGNS = [[cut, *[1.0] * 8, 0.2, 1.5e9] for cut in (0, 11)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a tiny run."""
    folder = tmp_path_factory.mktemp("run") / "ppo"
    small = ("n_envs=4", "n_steps=8", "batch_size=16", "n_epochs=1", "n_timesteps=64", "warmup=0")
    given = ("--algo", "ppo", "--env", ENV, "--env-kwargs", f"scenario={SCENARIO}", "tasks=5", "--out", str(folder))
    assert train_main([*given, "--eval-lanes", "2", "--test-lanes", "2", "--hyperparams", *small]) == 0
    return folder


def test_training_leaves_an_agent_and_its_reference(run):
    results = json.loads((run / "results.json").read_text())
    assert {"agent", "unpruned"} <= set(results)
    agent = load_agent(run).bind(gym.make(ENV, scenario=SCENARIO))
    action, _ = agent.predict(np.zeros(7, np.float32), deterministic=True)
    assert action.shape == (11,)


def test_the_reference_is_the_best_unpruned_cut():
    lanes = make_native(ENV, 3, scenario=SCENARIO)
    lanes.seed(5)
    lanes.reset()
    single = gym.make(ENV, scenario=SCENARIO).unwrapped
    for lane, action in enumerate(layerwise.unpruned_actions(lanes.env)):
        single.reset(seed=5 + lane)
        problem = single.problem()
        trials = [problem.evaluate(LayerwiseDecision(cut, (1.0,) * 7, 1.0, 0.2, 1.5e9)) for cut in range(12)]
        free = [t.delay for t in trials if t.accuracy >= problem.accuracy_min and t.energy <= problem.energy_budget]
        if free:
            assert problem.evaluate(single.decision(action)).delay <= min(free) * (1.0 + 1e-5)


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_there_are_hyperparameters(algo):
    path = ROOT / "configs" / "agents" / f"{algo}.yml"
    assert not load_hyperparameters(path, algo, ENV).env_wrapper


def test_a_clone_does_what_its_teacher_does(tmp_path):
    config = load_config(
        {
            "title": "t",
            "teacher": {"policy": "layerwise_menu", "designs": DESIGNS},
            "run": {
                "algo": "ppo",
                "env": ENV,
                "env_kwargs": {"scenario": SCENARIO, "tasks": 40},
                "conf_file": "none",
                "hyperparams": {"n_timesteps": 1, "policy_kwargs": {"net_arch": [32], "activation_fn": "relu"}},
            },
            "worlds": 10,
            "epochs": 60,
            "batch_size": 64,
            "learning_rate": 1e-2,
            "held_out_worlds": 10,
        }
    )
    result = imitate(config, tmp_path)
    assert set(result["scores"]) == {"teacher", "clone"}
    assert result["scores"]["clone"]["delivered"] > 0.8 * result["scores"]["teacher"]["delivered"]
    lanes = make_native(ENV, 10, scenario=SCENARIO, tasks=40)
    again = play(lanes, load_agent(tmp_path), TEST_SEED)
    assert again["delivered"] == pytest.approx(result["scores"]["clone"]["delivered"])
    name, policy = reference(lanes)
    assert name == "unpruned"
    assert play(lanes, policy, TEST_SEED)["violated"] <= 1.0


def test_wrappers_are_refused():
    content = {"title": "t", "teacher": {"policy": "layerwise_menu"}, "worlds": 1}
    content["run"] = {"algo": "ppo", "env": ENV, "wrapper": ["KeepBudgets"]}
    with pytest.raises(InvalidInputError, match="takes no wrappers"):
        load_config(content)


def test_evaluation_and_another_scale(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = {"server": {"policy": "layerwise_static", "design": DESIGNS[0]}}
    monkeypatch.setattr(layerwise, "FAMILY", dataclasses.replace(layerwise.FAMILY, references=kept))
    found = evaluation.evaluate(run, worlds=3, seed=100)
    assert found.labels == ["agent", "server"]
    assert not any("Without" in note for note in found.notes)
    env = gym.make(ENV, scenario="alexnet-rpi4b-5g")
    observation, _ = env.reset(seed=0)
    action, _ = RescaledAgent(run).bind(env).predict(observation, deterministic=True)
    assert action.shape == (11,)


def test_played_as_text(run, capsys, tmp_path):
    assert play_main([str(run), "--tasks", "2", "--out", str(tmp_path / "a.gif")]) == 0
    printed = capsys.readouterr().out
    assert "accuracy" in printed
    assert "missed a budget" in printed
