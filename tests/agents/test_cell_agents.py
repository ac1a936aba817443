"""Agents of Cell-v0: cloned from a rule, trained from the clone, played in cells of other sizes."""

import gymnasium as gym
import numpy as np
import pytest

import coinfer_gym  # noqa: F401  registers the ids
from agents.demonstrations import load_config, record
from agents.held_out import TEST_SEED, play, reference
from agents.hyperparameters import load_hyperparameters
from agents.imitate import imitate
from agents.policy import load_agent
from agents.rescaled import RescaledAgent
from agents.runs import ROOT
from agents.train import main as train_main
from baselines import rollout
from baselines.registry import bind, make_policy
from coinfer_gym.sb3 import make_native

ENV = "coinfer_gym/Cell-v0"
WORLD = {"scenario": "cell-4", "devices": 2, "tasks": 6}
SMALL = {"n_envs": 4, "n_steps": 8, "batch_size": 16, "n_epochs": 1, "n_timesteps": 64}
NETWORK = {"net_arch": [32], "activation_fn": "relu"}


@pytest.fixture(scope="module")
def cloned(tmp_path_factory):
    """Configuration of a clone, its folder, and its result."""
    config = load_config(
        {
            "title": "t",
            "teacher": {"policy": "cell_free", "part": 0.3, "share": 0.1},
            "run": {
                "algo": "ppo",
                "env": ENV,
                "env_kwargs": WORLD,
                "wrapper": ["CellShareAction"],
                "conf_file": "none",
                "hyperparams": SMALL | {"policy_kwargs": NETWORK},
            },
            "worlds": 20,
            "epochs": 300,
            "batch_size": 32,
            "learning_rate": 1e-2,
            "held_out_worlds": 10,
        }
    )
    folder = tmp_path_factory.mktemp("clone")
    return config, folder, imitate(config, folder)


def test_a_clone_takes_the_shares_of_its_teacher(cloned):
    config, folder, result = cloned
    assert result["scores"]["clone"]["delivered"] > 0.9 * result["scores"]["teacher"]["delivered"]
    samples = record(config, folder, config.seeds)
    found, _ = load_agent(folder).predict(samples.observations, deterministic=True)
    assert np.abs(found[:, 1:] - (2.0 * np.sqrt(0.3) - 1.0)).max() < 0.15  # as Cell-v0 scales shares
    short = samples.shares[:, 0] < 0.7
    assert 5 < short.sum() < len(samples) - 5
    assert found[short, 0].mean() < found[~short, 0].mean() - 0.3


def test_shares_of_time_are_those_that_the_decision_takes_at_its_shares(cloned):
    config, folder, _ = cloned
    samples = record(config, folder, config.seeds)
    env = gym.make(ENV, **WORLD)
    teacher = bind(make_policy("cell_free", {"part": 0.3, "share": 0.1}), env)
    observation, _ = env.reset(seed=config.first_world)
    for k in range(5):
        action, _ = teacher.predict(observation, deterministic=True)
        assert np.array_equal(observation, samples.observations[k])
        observation, _, _, _, info = env.step(action)
        used = min(1.0, info["delay_s"] / info["delay_budget_s"])
        assert samples.shares[k, 0] == pytest.approx(used, rel=1e-6)


def test_training_starts_from_the_clone_and_the_agent_plays_cells_of_other_sizes(cloned, tmp_path):
    _, folder, _ = cloned
    small = [f"{name}={value}" for name, value in SMALL.items()]
    network = "policy_kwargs={net_arch: [32], activation_fn: relu}"
    given = ["--algo", "ppo", "--env", ENV, "--env-kwargs", *[f"{name}={value}" for name, value in WORLD.items()]]
    given += ["--start", str(folder), "--out", str(tmp_path / "run"), "--eval-lanes", "2", "--test-lanes", "2"]
    assert train_main([*given, "--hyperparams", *small, network]) == 0
    env = gym.make(ENV, scenario="cell-16", devices=5, tasks=3)
    agent = RescaledAgent(tmp_path / "run").bind(env)
    [episode] = rollout.play(env, agent, [0])
    assert len(episode["dropped"]) + episode["dropped"].sum() == 15


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_both_ids_have_the_same_hyperparameters(algo):
    path = ROOT / "configs" / "agents" / f"{algo}.yml"
    own, wrapped = (load_hyperparameters(path, algo, f"coinfer_gym/{name}-v0") for name in ("CellShares", "Cell"))
    assert wrapped.env_wrapper == [{"coinfer_gym.cell.wrappers.CellShareAction": {}}]
    assert own.plain() == {name: value for name, value in wrapped.plain().items() if name != "env_wrapper"}


def test_the_reference_takes_half_of_what_is_free():
    lanes = make_native(ENV, 3, **WORLD)
    name, policy = reference(lanes)
    assert name == "half of what is free"
    env = gym.make(ENV, **WORLD)
    rule = bind(make_policy("cell_free", {"part": 0.5}), env)
    alone = rollout.metrics(rollout.join(rollout.play(env, rule, range(TEST_SEED, TEST_SEED + 3))))
    assert play(lanes, policy, TEST_SEED)["delivered"] == pytest.approx(alone["delivered"], rel=1e-3)
