"""Hyperparameters: the Zoo's files, read without evaluating anything."""

from pathlib import Path

import pytest
import yaml
from gymnasium.spaces import Box
from torch import nn

from agents.hyperparameters import ALGORITHMS, load_hyperparameters, parse_hyperparameters
from agents.runs import RunConfig, build_model
from coinfer_gym import InvalidInputError
from coinfer_gym.sb3_rewards import LagrangianPenalties, PayDelivered, native_env

LAIM = "coinfer_gym/LAIM-v0"
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "agents"
DELIVERED, LAGRANGIAN = "coinfer_gym.sb3_rewards.PayDelivered", "coinfer_gym.sb3_rewards.LagrangianPenalties"
ACTIONS = Box(-1.0, 1.0, (6,))


def parse(algo="ppo", **entry):
    return parse_hyperparameters({"n_timesteps": 100} | entry, algo, "some.yml")


@pytest.mark.parametrize("algo", sorted(ALGORITHMS))
def test_shipped_files_build_a_model(algo):
    whole = load_hyperparameters(CONFIGS / f"{algo}.yml", algo, LAIM).arguments
    small = {name: 32 for name in ("buffer_size", "batch_size") if name in whole}
    shipped = load_hyperparameters(CONFIGS / f"{algo}.yml", algo, LAIM, {"n_envs": 2} | small)
    model = build_model(RunConfig(algo=algo), shipped)
    assert type(model) is ALGORITHMS[algo]
    lanes = native_env(model.env)
    assert lanes.num_envs == 2
    assert lanes.snapshot() is not None  # wrapped all at once
    assert parse_hyperparameters(shipped.plain(), algo, "again") == shipped


@pytest.mark.parametrize("algo", sorted(ALGORITHMS))
def test_shipped_files_keep_to_what_the_zoo_understands(algo):
    content = yaml.safe_load((CONFIGS / f"{algo}.yml").read_text(encoding="utf-8"))
    assert "env_wrapper" in content[LAIM]
    for entry in content.values():
        assert {"n_timesteps", "policy"} <= set(entry)
        kwargs = entry["policy_kwargs"]
        assert isinstance(kwargs, str) or "activation_fn" not in kwargs  # the Zoo takes a class there, not a name
        assert "warmup" not in entry  # that is ours alone
        assert all(
            not isinstance(value, str) or value.startswith("lin_")
            for key, value in entry.items()
            if key in ("learning_rate", "clip_range")
        )


def test_plain_form_comes_back():
    given = parse(
        "sac",
        n_envs=4,
        learning_rate="lin_1e-3",
        train_freq=[1, "step"],
        ent_coef="auto_0.1",
        env_wrapper=["KeepBudgets", {"coinfer_gym.laim.wrappers.DiscreteActions": {"cuts": [0, 12]}}],
        vec_env_wrapper={LAGRANGIAN: {"limit": 0.02}},
        noise_type="normal",
        noise_std=0.1,
        warmup=1e3,
        policy_kwargs={"net_arch": [8]},
    )
    assert parse_hyperparameters(given.plain(), "sac", "again") == given
    assert given.vec_env_wrapper == {LAGRANGIAN: {"limit": 0.02}}
    former = parse(vec_env_wrapper="agents.vec_env.LagrangianPenalties")
    assert former.vec_env_wrapper == {LAGRANGIAN: {}}
    assert given.env_wrapper[0] == {"coinfer_gym.laim.wrappers.KeepBudgets": {}}
    assert given.warmup == 1000
    arguments = given.build_arguments(Box(-1.0, 1.0, (2,)))
    assert arguments["train_freq"] == (1, "step")
    assert repr(arguments["action_noise"]) == "NormalActionNoise(mu=[0. 0.], sigma=[0.1 0.1])"


def test_penalties_are_around_the_lanes():
    given = parse(vec_env_wrapper={LAGRANGIAN: {"limit": 0.02}}, n_envs=2, n_steps=32)
    assert isinstance(build_model(RunConfig(algo="ppo"), given).env, LagrangianPenalties)
    assert isinstance(build_model(RunConfig(algo="ppo"), parse(vec_env_wrapper=DELIVERED)).env, PayDelivered)


def test_the_command_line_chooses_the_wrappers():
    file = RunConfig(algo="ppo")
    assert file.wrappers == [{"coinfer_gym.laim.wrappers.BudgetShareAction": {}}]
    assert RunConfig(algo="ppo", wrapper=[]).wrappers == []
    chosen = RunConfig(algo="ppo", wrapper=["KeepBudgets"])
    assert (
        chosen.load_hyperparameters().env_wrapper == chosen.wrappers == [{"coinfer_gym.laim.wrappers.KeepBudgets": {}}]
    )
    stored = RunConfig(**chosen.resolved())
    assert stored.wrappers == chosen.wrappers
    assert RunConfig(**file.resolved()).wrappers == file.wrappers


@pytest.mark.parametrize(
    ("algo", "wrapper", "hint"),
    [
        ("dqn", [], "DiscreteActions"),
        ("maskable_ppo", ["BudgetShareAction"], "DiscreteActions"),
        ("sac", [{"DiscreteActions": {"cuts": [0]}}], "real numbers"),
    ],
)
def test_actions_that_an_algorithm_cannot_choose(algo, wrapper, hint):
    given = RunConfig(algo=algo, wrapper=wrapper, hyperparams={"n_envs": 1})
    with pytest.raises(InvalidInputError, match=hint) as caught:
        build_model(given, given.load_hyperparameters())
    assert caught.value.field == "wrapper"


def test_schedule_is_a_line_to_zero():
    arguments = parse(learning_rate="lin_3e-4", clip_range=0.1).build_arguments(ACTIONS)
    rate = arguments["learning_rate"]
    assert [rate(left) for left in (1.0, 0.5, 0.0)] == pytest.approx([3e-4, 1.5e-4, 0.0])
    assert arguments["clip_range"] == 0.1


def test_policy_kwargs_by_name_and_in_the_words_of_the_zoo():
    by_name = parse(policy_kwargs={"net_arch": [64, 64], "activation_fn": "relu"})
    by_zoo = parse(policy_kwargs="dict(net_arch=[64, 64], activation_fn=nn.ReLU)")
    assert by_name == by_zoo
    assert by_name.build_arguments(ACTIONS)["policy_kwargs"]["activation_fn"] is nn.ReLU
    nested = parse(policy_kwargs="dict(net_arch=dict(pi=[32], vf=[64]), log_std_init=-2)")
    assert nested.policy_kwargs == {"net_arch": {"pi": [32], "vf": [64]}, "log_std_init": -2}
    nested = parse(policy_kwargs="{'net_arch': [16], 'ortho_init': False}")
    assert nested.policy_kwargs == {"net_arch": [16], "ortho_init": False}


@pytest.mark.parametrize(
    ("entry", "field", "hint"),
    [
        ({"learning_rat": 1e-3}, "hyperparameter of PPO", "learning_rate"),
        ({"policy_kwargs": {"net_arc": [1]}}, "policy_kwargs of PPO", "net_arch"),
        ({"policy_kwargs": {"activation_fn": "rellu"}}, "activation_fn", "relu"),
        ({"learning_rate": "exp_1e-3"}, "learning_rate", "lin_"),
        ({"normalize": True}, "normalize", "already"),
        ({"policy": "CnnPolicy"}, "policy", "MlpPolicy"),
        ({"n_envs": 0}, "n_envs", "from 1"),
        ({"n_timesteps": 1e30}, "n_timesteps", "from 1"),
        ({"n_epochs": 0}, "n_epochs", "from 1"),
        ({"n_steps": True}, "n_steps", "whole number"),
        ({"gamma": -1}, "gamma", "from 0 to 1"),
        ({"gamma": 1.5}, "gamma", "from 0 to 1"),
        ({"gamma": 10**400}, "gamma", "from 0 to 1"),
        ({"gae_lambda": float("nan")}, "gae_lambda", "from 0 to 1"),
        ({"learning_rate": 1.5}, "learning_rate", "from 0 to 1"),
        ({"learning_rate": "lin_1e400"}, "learning_rate", "lin_"),
        ({"learning_rate": "lin_2"}, "learning_rate", "from 0 to 1"),
        ({"ent_coef": "auto"}, "ent_coef", "number"),
        ({"max_grad_norm": float("inf")}, "max_grad_norm", "number"),
        ({"normalize_advantage": 3}, "normalize_advantage", "true or false"),
        ({"policy_kwargs": {"net_arch": "text"}}, "net_arch", "widths"),
        ({"policy_kwargs": {"net_arch": [-3]}}, "net_arch", "whole number"),
        ({"policy_kwargs": {"net_arch": {"pi": 3}}}, "net_arch", "widths"),
        ({"policy_kwargs": {"activation_fn": ["relu"]}}, "activation_fn", "relu"),
        ({"policy_kwargs": {"optimizer_kwargs": 3}}, "optimizer_kwargs", "mapping"),
        ({"policy_kwargs": 3}, "policy_kwargs", "mapping"),
        ({"vec_env_wrapper": [3]}, "vec_env_wrapper", "PayDelivered"),
        ({"n_timesteps": 1.5}, "n_timesteps", "whole number"),
        ({"vec_env_wrapper": "os.system"}, "vec_env_wrapper", "PayDelivered"),
        ({"vec_env_wrapper": {LAGRANGIAN: {"rate": -1}}}, "LagrangianPenalties", "positive"),
        ({"vec_env_wrapper": {LAGRANGIAN: {"limits": 0.1}}}, "LagrangianPenalties", "limit, rate"),
        ({"env_wrapper": "coinfer_gym.laim.wrappers.KeepBudget"}, "env_wrapper", "KeepBudgets"),
        ({"warmup": -1}, "warmup", "whole number"),
        ({"noise_type": "normal", "noise_std": 0.1}, "hyperparameter of PPO", "noise_type|Known are|Did you mean"),
        ({"algo": "recurrent_ppo", "policy": "MlpPolicy"}, "policy", "MlpLstmPolicy"),
        ({"algo": "recurrent_ppo", "policy_kwargs": {"lstm_kwargs": {}}}, "policy_kwargs", "lstm"),
        ({"algo": "td3", "noise_type": "ornstein-uhlenbeck", "noise_std": 0.1}, "noise_type", "normal"),
        ({"algo": "td3", "noise_type": "normal"}, "noise_std", "positive"),
        ({"algo": "sac", "ent_coef": "auto_x"}, "ent_coef", "auto_<start>"),
        ({"algo": "sac", "train_freq": [1, "minute"]}, "train_freq", "step"),
        ({"algo": "dqn", "policy_kwargs": {"net_arch": {"pi": [8]}}}, "net_arch", "widths"),
        ({"algo": "dqn", "warmup": 10}, "warmup", "no actor"),
        ({"policy_kwargs": "__import__('os').system('true')"}, "policy_kwargs", "literals"),  # nothing is evaluated
        ({"policy_kwargs": "dict(net_arch=open('x'))"}, "policy_kwargs", "literals"),
        ({"policy_kwargs": "dict([('net_arch', [64])])"}, "policy_kwargs", "literals"),
        ({"policy_kwargs": "dict(activation_fn=torch.nn.ReLU)"}, "policy_kwargs", "literals"),
        ({"policy_kwargs": "dict(net_arch=[64, 64)"}, "policy_kwargs", "literals"),
    ],
)
def test_errors_name_file_field_and_remedy(entry, field, hint):
    with pytest.raises(InvalidInputError, match=hint) as caught:
        parse(**entry)
    assert caught.value.field.startswith("some.yml: ")
    assert field in caught.value.field


def test_values_that_only_the_algorithm_refuses():
    with pytest.raises(InvalidInputError, match="stable-baselines3"):
        build_model(RunConfig(algo="ppo"), parse(n_steps=1, n_envs=1))
    with pytest.raises(InvalidInputError, match="ppo"):
        parse_hyperparameters({"n_timesteps": 1}, "pppo", "some.yml")


def test_entries_are_chosen_by_environment(tmp_path):
    file = tmp_path / "ppo.yml"
    file.write_text("default:\n  n_timesteps: 5\n" + f"{LAIM}:\n  n_timesteps: 7\n  gamma: 0.5\n", encoding="utf-8")
    assert load_hyperparameters(file, "ppo", LAIM, {"gamma": 0.1}).arguments == {"gamma": 0.1}
    assert load_hyperparameters(file, "ppo", "other/Env-v0").n_timesteps == 5
    file.write_text(f"{LAIM}:\n  n_timesteps: 7\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="LAIM-v0"):
        load_hyperparameters(file, "ppo", "coinfer_gym/LAIM-v9")


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "coinfer_gym/LAIM-v0: 3"])
def test_files_that_are_none(tmp_path, content):
    file = tmp_path / "ppo.yml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"ppo\.yml"):
        load_hyperparameters(file, "ppo", LAIM)
    with pytest.raises(InvalidInputError, match="no such file"):
        load_hyperparameters(tmp_path / "none.yml", "ppo", LAIM)
