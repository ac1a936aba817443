"""Agents in NumPy, against the models of stable-baselines3 that they come from."""

import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC
from torch import nn

from agents.policy import Agent, agent_content, load_agent
from agents.tensor_files import save_tensors
from agents.vec_env import make_native
from coinfer_gym import InvalidInputError

LAIM = "coinfer_gym/LAIM-v0"
ROOT = Path(__file__).resolve().parents[2]
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}


def make_model(algo, **policy_kwargs):
    """A model with weights of some size: fresh ones of PPO give actions near 0."""
    env = make_native(LAIM, 1)
    common = {"policy_kwargs": policy_kwargs, "seed": 1, "device": "cpu"}
    model = PPO("MlpPolicy", env, **common) if algo == "ppo" else SAC("MlpPolicy", env, buffer_size=10, **common)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.policy.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def save(model, folder, activation=None, **config):
    algo = type(model).__name__.lower()
    content = agent_content(algo, model.policy.state_dict(), activation, config, 7)
    save_tensors(content, folder / "agent.pt")
    return folder


def observations(count=100, seed=0):
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (count, 7)).astype(np.float32)


@pytest.mark.parametrize("algo", ["ppo", "sac"])
@pytest.mark.parametrize(
    ("net_arch", "activation"),
    [([64, 64], None), ([32], "relu"), ([16, 8, 16], "elu"), ([8], "silu"), ([8, 8], "tanh"), ([], None)],
)
def test_equals_the_prediction_of_stable_baselines3(tmp_path, algo, net_arch, activation):
    extra = {} if activation is None else {"activation_fn": ACTIVATIONS[activation]}
    model = make_model(algo, net_arch=net_arch, **extra)
    agent = load_agent(save(model, tmp_path, activation))
    batch = observations()
    expected = model.predict(batch, deterministic=True)[0]
    found, state = agent.predict(batch, deterministic=True)
    assert found.dtype == expected.dtype
    assert state is None
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=2e-6)
    single = agent.predict(batch[0], state=(batch,), deterministic=True)
    assert single[0].shape == (6,)
    assert single[1][0] is batch
    np.testing.assert_allclose(single[0], expected[0], rtol=0.0, atol=2e-6)


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_noise_has_the_distribution_of_the_model(tmp_path, algo):
    model = make_model(algo, net_arch=[8])
    agent = load_agent(save(model, tmp_path))
    batch = np.repeat(observations(1), 20_000, axis=0)
    ours, theirs = agent.predict(batch)[0], model.predict(batch)[0]
    assert np.abs(ours).max() <= 1.0
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=0.03)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), atol=0.03)
    agent.seed(5)
    first = agent.predict(batch[:3])[0]
    agent.seed(5)
    assert np.array_equal(first, agent.predict(batch[:3])[0])
    assert not np.array_equal(first, agent.predict(batch[:3])[0])


def test_keeps_what_it_was_trained_in(tmp_path):
    agent = load_agent(save(make_model("ppo"), tmp_path, env=LAIM, env_kwargs={"tasks": 5}) / "agent.pt")
    assert agent.config == {"env": LAIM, "env_kwargs": {"tasks": 5}}
    assert agent.uses == "observation"


def test_refuses_other_environments_and_observations(tmp_path):
    agent = load_agent(save(make_model("sac"), tmp_path))
    env = make_native(LAIM, 1)
    assert agent.bind(env) is agent
    env.action_space = env.observation_space
    with pytest.raises(InvalidInputError, match="learned with"):
        agent.bind(env)
    for wrong in (np.zeros(6), np.zeros((2, 3, 7)), 1.0):
        with pytest.raises(InvalidInputError, match="Give 7 numbers"):
            agent.predict(wrong)


def test_only_the_actor_is_shipped(tmp_path):
    save(make_model("sac"), tmp_path)
    content = torch.load(tmp_path / "agent.pt", weights_only=True)
    assert all(name.startswith("actor.") for name in content["weights"])
    assert content["timesteps"] == 7


def damage_truncated(file):
    file.write_bytes(file.read_bytes()[:-200])


def damage_flipped(file):
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    content[largest.header_offset + 200] ^= 0xFF
    file.write_bytes(content)


def damage_replaced(file):
    torch.save({"format": 1, "weights": torch.nn.Linear(1, 1)}, file)  # a module would have to be unpickled


def damage_missing(file):
    file.unlink()


def damage_other(file):
    save_tensors({"format": 1, "algo": "ppo"}, file)


def damage_version(file):
    save_tensors({"format": 99}, file)


@pytest.mark.parametrize(
    "damage", [damage_truncated, damage_flipped, damage_replaced, damage_missing, damage_other, damage_version]
)
def test_damaged_files_are_refused(tmp_path, damage):
    save(make_model("ppo", net_arch=[32]), tmp_path)
    damage(tmp_path / "agent.pt")
    with pytest.raises(InvalidInputError, match=r"agent\.pt"):
        load_agent(tmp_path)


def test_needs_no_stable_baselines3(tmp_path):
    save(make_model("ppo"), tmp_path)
    code = (
        "import sys, numpy; from agents.policy import load_agent;"
        f"load_agent({str(tmp_path)!r}).predict(numpy.zeros(7));"
        "print('stable_baselines3' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_is_faster_than_the_model(tmp_path):
    model = make_model("ppo", net_arch=[64, 64])
    agent = load_agent(save(model, tmp_path))
    observation = observations(1)[0]
    durations = {}
    for name, policy in (("numpy", agent), ("torch", model)):
        start = time.perf_counter()
        for _ in range(300):
            policy.predict(observation, deterministic=True)
        durations[name] = time.perf_counter() - start
    assert durations["numpy"] < durations["torch"]


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(InvalidInputError, match="ppo"):
        agent_content("pp", {}, None, {}, 0)
    layer = (np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    agent = Agent("ppo", [], layer, np.zeros(2, np.float32), "tanh")
    assert agent.predict(np.array([0.5, 3.0]), deterministic=True)[0].tolist() == [0.5, 1.0]
