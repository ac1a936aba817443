"""Agents in NumPy, against the models of stable-baselines3 and sb3-contrib that they come from."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from sb3_contrib.common.maskable.utils import get_action_masks

from agents.actors import actor_weights
from agents.agent_file import AGENT_FILE, _digest, read_agent
from agents.evaluate import TRAINED
from agents.hyperparameters import ACTIVATIONS, ALGORITHMS
from agents.policy import Agent, load_agent
from baselines.rollout import measure
from coinfer_gym import InvalidInputError
from coinfer_gym.laim.wrappers import BudgetShareAction, DiscreteActions, KeepBudgets
from coinfer_gym.named_wrappers import check_wrappers, find_wrapper
from coinfer_gym.sb3 import make_native
from tests.agents.models import LAIM, LISTED, make_model, save_model

ROOT = Path(__file__).resolve().parents[2]
MEMORY = {"lstm_hidden_size": 12, "n_lstm_layers": 2}


def observations(count=100, seed=0):
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (count, 7)).astype(np.float32)


def compare_actions(agent, model):
    """Both act alike, on a batch and on single observations."""
    batch = observations()
    expected = model.predict(batch, deterministic=True)[0]
    found, _ = agent.predict(batch, deterministic=True)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert len(np.unique(np.round(expected, 3), axis=0)) > 1 or agent.algo == "recurrent_ppo"
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-5)
    for i in range(3):
        single = agent.predict(batch[i], deterministic=True)[0]
        assert single.shape == expected[i].shape
        np.testing.assert_allclose(single, expected[i], rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("algo", sorted(ALGORITHMS))
def test_equals_the_prediction_of_stable_baselines3(tmp_path, algo):
    model = make_model(algo, net_arch=[64, 64], **(MEMORY if algo == "recurrent_ppo" else {}))
    compare_actions(load_agent(save_model(model, tmp_path)), model)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_equals_it_with_every_activation(tmp_path, activation):
    model = make_model("ppo", net_arch=[16, 8, 16], activation=activation)
    compare_actions(load_agent(save_model(model, tmp_path, activation)), model)


def test_a_memory_is_carried_along_and_cleared():
    model = make_model("recurrent_ppo", **MEMORY)
    agent = Agent("recurrent_ppo", model.policy.state_dict())
    ours = theirs = None
    starts = np.random.default_rng(0).random((6, 5)) < 0.3
    for step, start in enumerate(starts):
        batch = observations(5, step)
        found, ours = agent.predict(batch, ours, start, deterministic=True)
        expected, theirs = model.predict(batch, theirs, start, deterministic=True)
        np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-5)
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, other, rtol=0.0, atol=1e-5)
    assert not np.allclose(found, agent.predict(batch, deterministic=True)[0], atol=1e-3)  # it matters
    single, state = agent.predict(batch[0], deterministic=True)
    assert single.shape == (6,)
    assert state[0].shape == (2, 1, 12)


def test_masks_are_kept():
    env = make_native(LAIM, 8, LISTED)
    env.seed(0)
    batch, masks = env.reset(), get_action_masks(env)
    assert not masks.all()
    model = make_model("maskable_ppo")
    agent = Agent("maskable_ppo", model.policy.state_dict())
    expected = model.predict(batch, deterministic=True, action_masks=masks)[0]
    assert np.array_equal(agent.predict(batch, deterministic=True, action_masks=masks)[0], expected)
    for deterministic in (True, False):
        for _ in range(20):
            chosen = agent.predict(batch, deterministic=deterministic, action_masks=masks)[0]
            assert masks[np.arange(8), chosen].all()


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_noise_has_the_distribution_of_the_model(tmp_path, algo):
    model = make_model(algo, net_arch=[8])
    agent = load_agent(save_model(model, tmp_path))
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


def test_draws_from_a_list_have_the_distribution_of_the_model():
    model = make_model("ppo", LISTED)
    agent = Agent("ppo", model.policy.state_dict())
    batch = np.repeat(observations(1), 20_000, axis=0)
    size = model.action_space.n
    ours, theirs = (np.bincount(policy.predict(batch)[0], minlength=size) / len(batch) for policy in (agent, model))
    np.testing.assert_allclose(ours, theirs, atol=0.02)


@pytest.mark.parametrize("algo", ["td3", "dqn"])
def test_the_others_have_no_noise(tmp_path, algo):
    agent = load_agent(save_model(make_model(algo), tmp_path))
    assert np.array_equal(agent.predict(observations())[0], agent.predict(observations(), deterministic=True)[0])


def test_keeps_what_it_was_trained_in(tmp_path):
    agent = load_agent(save_model(make_model("ppo"), tmp_path, env=LAIM, env_kwargs={"tasks": 5}) / "agent.safetensors")
    assert agent.config == {"env": LAIM, "env_kwargs": {"tasks": 5}}


def test_refuses_other_environments_and_observations(tmp_path):
    agent = load_agent(save_model(make_model("sac"), tmp_path))
    assert agent.bind(gym.make(LAIM)) is agent
    assert agent.bind(make_native(LAIM, 1)) is agent
    for wrapper in (BudgetShareAction, DiscreteActions):
        with pytest.raises(InvalidInputError, match="trained with"):
            agent.bind(wrapper(gym.make(LAIM)))
    for wrong in (np.zeros(6), np.zeros((2, 3, 7)), 1.0):
        with pytest.raises(InvalidInputError, match="Give 7 numbers"):
            agent.predict(wrong)


@pytest.mark.parametrize(
    ("algo", "wrappers"),
    [
        ("ppo", ["BudgetShareAction"]),
        ("sac", ["KeepBudgets"]),
        ("dqn", ["KeepBudgets", *LISTED]),
        ("maskable_ppo", LISTED),
        ("recurrent_ppo", ["BudgetShareAction", "Regret"]),
    ],
)
def test_acts_on_the_plain_environment_as_in_its_wrappers(tmp_path, algo, wrappers):
    """Bound, the agent brings its wrappers along: world by world the same rewards as inside them."""
    world = {"tasks": 12, "arrivals": "poisson", "arrival_rate": 3.0}
    save_model(make_model(algo, wrappers), tmp_path, wrapper=check_wrappers(wrappers))
    inside, outside = load_agent(tmp_path), load_agent(tmp_path)
    plain = gym.make(LAIM, **world)
    wrapped = gym.make(LAIM, **world)
    for item in check_wrappers(wrappers):
        for name, options in item.items():
            wrapped = find_wrapper(name)(wrapped, **options)
    outside.bind(plain)
    inside.bind(wrapped)
    for seed in range(3):
        assert measure(plain, outside, seed)["return"] == pytest.approx(
            measure(wrapped, inside, seed)["return"], abs=1e-9
        )
    observation, _ = plain.reset(seed=0)
    action = outside.predict(observation, deterministic=True)[0]
    assert plain.action_space.contains(action)
    batch = outside.predict(observation[None], deterministic=True)[0]
    np.testing.assert_allclose(batch, action[None], atol=1e-5)
    with pytest.raises(InvalidInputError, match="one task at a time"):
        outside.predict(observations(2))


def test_wrappers_that_are_none_are_refused():
    for given, hint in [
        ("KeepBudget", "KeepBudgets"),
        ("os.system", "Known are"),
        ([{"KeepBudgets": {"slack": 1}}], "no arguments"),
        ([{"DiscreteActions": {"cut": [1]}}], "cuts"),
        ([{"DiscreteActions": 3}], "mapping"),
        ([{"KeepBudgets": {}, "Regret": {}}], "one name"),
        (3, "names of wrappers"),
    ]:
        with pytest.raises(InvalidInputError, match=hint):
            check_wrappers(given)
    assert check_wrappers("KeepBudgets") == check_wrappers([{"coinfer_gym.laim.wrappers.KeepBudgets": None}])
    assert find_wrapper("KeepBudgets") is KeepBudgets
    assert find_wrapper("coinfer_gym.wrappers.ExactWithin") is BudgetShareAction  # in files before version 0.1


@pytest.mark.parametrize("algo", ["ppo", "sac", "dqn", "recurrent_ppo"])
def test_only_the_actor_is_shipped(tmp_path, algo):
    model = make_model(algo)
    save_model(model, tmp_path)
    weights, about = read_agent(tmp_path)
    assert not any("critic" in name or "value" in name or "target" in name for name in weights)
    state = model.policy.state_dict()
    assert all(np.array_equal(value, state[name].numpy()) for name, value in weights.items())
    assert (about["algo"], about["timesteps"]) == (algo, 7)
    assert load_file(tmp_path / "agent.safetensors").keys() == weights.keys() == actor_weights(algo, state).keys()


def rewrite(file, **changes):
    weights, about = read_agent(file)
    save_file(
        weights,
        file,
        {"agent": json.dumps({key: value for key, value in (about | changes).items() if value is not None})},
    )


def flip(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 0xFF
    file.write_bytes(content)


DAMAGE = {
    "missing": lambda file: file.unlink(),
    "activation": lambda file: rewrite(file, activation="relu"),
    "card of another": lambda file: file.with_name("card.json").write_text('{"sha256": "0"}', encoding="utf-8"),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-200]),
    "a weight": lambda file: flip(file, -200),  # the format itself would not notice
    "header": lambda file: flip(file, 20),
    "pickle": lambda file: torch.save({"weights": torch.nn.Linear(1, 1)}, file),  # would have to be unpickled
    "foreign": lambda file: save_file({"weight": np.zeros(3, np.float32)}, file),
    "no config": lambda file: rewrite(file, config=None),
    "format": lambda file: rewrite(file, format=99),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_refused(tmp_path, damage):
    save_model(make_model("ppo", net_arch=[32]), tmp_path, env=LAIM)
    damage(tmp_path / "agent.safetensors")
    with pytest.raises(InvalidInputError, match=r"agent\.safetensors"):
        load_agent(tmp_path)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"algo": "sac"}, "no actor of sac"),
        ({"algo": 3}, "algo"),
        ({"activation": "x"}, "relu"),
        ({"activation": 3}, "activation"),
        ({"timesteps": "many"}, "timesteps"),
        ({"timesteps": True}, "timesteps"),
        ({"config": [1]}, "config"),
        ({"config": {"env_kwargs": 3}}, "config"),
        ({"weights": lambda name, value: value.T}, "no actor of ppo"),
        ({"weights": lambda name, value: value[:5] if name == "log_std" else value}, "log_std"),
        ({"weights": lambda name, value: value * np.nan}, "NaN"),
    ],
)
def test_files_that_say_what_cannot_be_are_refused(tmp_path, changes, hint):
    """Also with a digest that fits."""
    edit = changes.get("weights", lambda name, value: value)
    file = save_model(make_model("ppo", net_arch=[32]), tmp_path, env=LAIM) / AGENT_FILE
    weights, about = read_agent(file)
    weights = {name: np.ascontiguousarray(edit(name, value)) for name, value in weights.items()}
    about |= {name: value for name, value in changes.items() if name != "weights"}
    save_file(weights, file, {"agent": json.dumps(about | {"sha256": _digest(weights, about)})})
    with pytest.raises(InvalidInputError, match=hint) as caught:
        load_agent(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_shipped_agents_that_changed_places_are_refused(tmp_path):
    for name in ("bert-text", "vit-image"):
        shutil.copytree(TRAINED / name, tmp_path / name)
    shutil.copy(TRAINED / "vit-image" / AGENT_FILE, tmp_path / "bert-text" / AGENT_FILE)
    with pytest.raises(InvalidInputError, match=r"card\.json"):
        load_agent(tmp_path / "bert-text")
    load_agent(tmp_path / "vit-image")


def test_only_environments_of_this_package_are_made(tmp_path):
    """Another id would import its module."""
    save_model(make_model("ppo", net_arch=[8]), tmp_path, env="os:LAIM-v0", env_kwargs={})
    with pytest.raises(InvalidInputError, match=r"coinfer_gym/LAIM-v0.* can be played"):
        load_agent(tmp_path).trained_for  # noqa: B018


def test_needs_no_torch(tmp_path):
    save_model(make_model("ppo", ["BudgetShareAction"]), tmp_path, wrapper=["BudgetShareAction"])
    code = (
        "import sys, gymnasium; from agents.policy import load_agent;"
        f"env = gymnasium.make('coinfer_gym:{LAIM}'); agent = load_agent({str(tmp_path)!r}).bind(env);"
        "agent.predict(env.reset(seed=0)[0]);"
        "from agents.train import main; main(['--algo', 'pppo']);"  # a wrong name is told before the imports
        "print(any(name in sys.modules for name in ('torch', 'stable_baselines3')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_actions_are_not_overwritten_by_the_next(tmp_path):
    agent = load_agent(save_model(make_model("ppo"), tmp_path))
    first, second = (agent.predict(row, deterministic=True)[0] for row in observations(2))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, agent.predict(observations(2)[0], deterministic=True)[0])


def test_an_actor_of_ones_own():
    with pytest.raises(InvalidInputError, match="ppo"):
        Agent("pp", {})
    with pytest.raises(InvalidInputError, match="no actor of ppo"):
        Agent("ppo", {})
    weights = {"action_net.weight": np.eye(2), "action_net.bias": np.zeros(2), "log_std": np.zeros(2)}
    assert Agent("ppo", weights).predict(np.array([0.5, 3.0]), deterministic=True)[0].tolist() == [0.5, 1.0]
