"""Clones of policies: what is noted of a teacher, that a clone recovers it, and that nothing is played twice."""

import dataclasses
import json
import math
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml

from agents import demonstrations
from agents.agent_file import AGENT_FILE, read_agent
from agents.cloning import Loss, budget_sensitivity, fit
from agents.demonstrations import FIRST_WORLD, Samples, load_config, record
from agents.held_out import TEST_SEED, play
from agents.hyperparameters import ALGORITHMS
from agents.imitate import imitate, main
from agents.policy import load_agent
from agents.runs import build_env
from baselines.registry import make_policy
from baselines.rollout import measure
from baselines.rules import ConstantAction
from coinfer_gym import InvalidInputError
from coinfer_gym.laim.scenario import load_scenario
from coinfer_gym.laim.wrappers import act_within

ROOT = Path(__file__).resolve().parents[2]
LAIM = "coinfer_gym/LAIM-v0"
QUEUE = {"tasks": 20}
TINY = {
    "title": "tiny",
    "teacher": {"policy": "queue_budget", "share": 0.3},
    "run": {
        "algo": "ppo",
        "env_kwargs": QUEUE,
        "wrapper": ["BudgetShareAction"],
        "hyperparams": {"policy_kwargs": {"net_arch": [16]}},
    },
    "worlds": 3,
    "held_out_worlds": 2,
    "epochs": 2,
    "batch_size": 16,
}


def config(algo="ppo", wrapper=("BudgetShareAction",), env_kwargs=None, net_arch=(16,), **options):
    hyperparams = {"policy_kwargs": {"net_arch": list(net_arch), "activation_fn": "relu"}}
    run = {"algo": algo, "env_kwargs": env_kwargs or QUEUE, "wrapper": list(wrapper), "hyperparams": hyperparams}
    return load_config(TINY | {"run": run} | options)


def draw_samples(count, rule, seed=0):
    """Decisions by a rule that gives the share of time of every observation."""
    random = np.random.default_rng(seed)
    observations = random.uniform(-1.0, 1.0, (count, 7)).astype(np.float32)
    tasks = np.tile([1e-10, 0.5, 0.85], (count, 1))
    shares = np.column_stack([rule(observations), np.ones(count)])
    nothing = np.empty((count, 0), np.float32)
    return Samples(observations, tasks, shares, np.zeros((count, 6)), nothing, nothing, nothing)


def equal_samples(first, second):
    return all(np.array_equal(value, vars(second)[name]) for name, value in vars(first).items())


def forbid_playing(monkeypatch):
    def refuse(*_):
        raise AssertionError("played again")

    monkeypatch.setattr(demonstrations, "_play", refuse)


@pytest.mark.parametrize("algo", ["ppo", "td3"])
def test_a_linear_rule_is_recovered(tmp_path, algo):
    def rule(observations):
        return 0.5 + observations @ np.array([0.2, -0.1, 0.0, 0.1, 0.0, 0.0, 0.0])

    given = config(algo, net_arch=[32], epochs=15, learning_rate=1e-2, batch_size=64)
    policy, loss = fit(given, draw_samples(4000, rule))
    assert loss < 0.01
    fresh = draw_samples(500, rule, seed=1)
    found = policy.predict(fresh.observations, deterministic=True)[0][:, 0]
    np.testing.assert_allclose(found, 2.0 * fresh.shares[:, 0] - 1.0, atol=0.06)


def test_the_exact_optimum_is_cloned_without_wrappers(tmp_path):
    one = {"arrivals": "one_at_a_time", "tasks": 40}
    given = config("sac", [], one, [64], teacher={"policy": "myopic_exact"}, worlds=10, epochs=40, learning_rate=1e-2)
    given = given.model_copy(update={"batch_size": 64, "margin": 0.02})
    result = imitate(given, tmp_path)
    scores = result["scores"]
    assert list(scores) == ["teacher", "clone", "clone, budgets kept"]
    assert scores["teacher"]["violated"] == 0.0
    assert scores["clone, budgets kept"]["violated"] == 0.0
    assert scores["clone, budgets kept"]["delivered"] > 0.9 * scores["teacher"]["delivered"]
    assert result["loss"]["training"] < 0.2


def test_worth_is_learned_and_not_the_choice():
    """The teacher chose at random among times of nearly the same worth, which peaks at a rule of its own."""
    samples = draw_samples(4000, lambda observations: np.random.default_rng(1).uniform(0.2, 0.8, len(observations)))
    best = 0.5 + 0.2 * samples.observations[:, :1]
    times = np.tile(np.linspace(0.05, 1.0, 20, dtype=np.float32), (len(samples), 1))
    samples = dataclasses.replace(samples, times=times, losses=(times - best) ** 2)
    given = config("ppo", net_arch=[32], epochs=15, learning_rate=1e-2, batch_size=64)
    policy, _ = fit(given, samples)
    found = policy.predict(samples.observations, deterministic=True)[0]
    np.testing.assert_allclose(0.5 * (found + 1.0), best, atol=0.06)


def test_worth_of_dynamic_programming_is_recorded(tmp_path):
    options = {"gains": 4, "waits": 4, "queue": 2, "beliefs": 2, "times": 6, "samples": 16}
    given = config(teacher={"policy": "stochastic_dp", **options}, worlds=2)
    samples = record(given, tmp_path, range(20_000_000, 20_000_002))
    assert samples.losses.shape == samples.times.shape == (len(samples), 6)
    np.testing.assert_array_equal(samples.losses.min(axis=1), 0.0)
    assert (np.diff(samples.times, axis=1) >= 0.0).all()
    assert Loss(given, samples).mean(fit(given, samples)[0]) < 0.2


def test_targets_are_the_optimum_within_the_margin():
    samples = draw_samples(5, lambda observations: np.linspace(0.2, 1.0, 5))
    given = config(wrapper=[], margin=0.1)
    loss = Loss(given, samples)
    scenario = load_scenario("bert-multimodal")
    within = 2.0 * np.minimum(samples.shares, 0.9) - 1.0
    expected = act_within(scenario.problem(1.0), samples.tasks.T.copy(), within)
    assert np.array_equal(loss._targets.numpy(), expected)
    assert not np.array_equal(expected[-1], expected[-2])


def test_idle_components_do_not_count():
    scenario = load_scenario("bert-multimodal")
    cuts = scenario.workload.cuts
    tasks = np.tile([1e-10, 0.5, 0.85], (3, 1))
    actions = np.zeros((3, 6))
    actions[:, 0] = [-0.75, (6 - 0.5) / (cuts - 2) - 0.5, 0.75]
    weights = budget_sensitivity(scenario, tasks, actions)
    assert ((weights[:, 1:] > 0.0) == [[0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [1, 0, 0, 1, 0]]).all()
    # Time and energy fall and rise alike by the retained ratio, whose scale has the power of 1.5, here in its middle.
    problem = scenario.problem(1e-10)
    decision = gym.make(LAIM).unwrapped.decision(actions[2].astype(np.float32))
    solution = problem.evaluate(decision)
    used = solution.delay / 0.5 + solution.energy / 0.85
    saved = scenario.sparsity_gain
    rise = 0.5 * 1.5 * math.sqrt(0.5) * (1.0 - scenario.retained_device_min)
    slope = rise * saved / (1.0 - saved * (1.0 - decision.retained_device))
    assert weights[2, 1] == pytest.approx(used * slope, rel=1e-4)


def test_a_component_counts_no_more_where_no_energy_is_left():
    scenario = load_scenario("bert-multimodal")
    weights = budget_sensitivity(scenario, np.array([[1e-10, 0.5, 0.0]]), np.zeros((1, 6)))
    assert np.isfinite(weights).all()


def test_records_what_the_teacher_lets_a_task_take(tmp_path):
    given = config()
    samples = record(given, tmp_path, range(FIRST_WORLD, FIRST_WORLD + 3))
    env = gym.make(LAIM, **QUEUE)
    teacher = make_policy("queue_budget", {"share": 0.3}).bind(env)
    assert samples.score["delivered"] == pytest.approx(
        np.mean([measure(env, teacher, FIRST_WORLD + k)["delivered"] for k in range(3)])
    )
    # An agent in BudgetShareAction that says these shares plays the same episodes.
    lanes = build_env(given.target, 3)

    class Recorded(ConstantAction):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            # What was said of the observation, which rounding moves a little.
            nearest = [np.abs(samples.observations - row).max(1).argmin() for row in observation]
            return 2.0 * samples.shares[nearest, :1] - 1.0, state

    played = play(lanes, Recorded([0.0]), FIRST_WORLD)
    assert played == pytest.approx(samples.score, abs=1e-4)
    assert (samples.shares <= 1.0).all()
    assert (samples.shares[:, 0] < 0.9).any()


def test_the_same_worlds_give_the_same_samples(tmp_path):
    given, seeds = config(), range(FIRST_WORLD, FIRST_WORLD + 1)
    assert equal_samples(*(record(given, tmp_path / name, seeds) for name in "ab"))


def test_with_a_battery_both_shares_are_cloned(tmp_path):
    battery = {"tasks": 10, "battery_capacity": 5.0, "harvest_power": 0.5}
    given = config(env_kwargs=battery, worlds=1)
    samples = record(given, tmp_path, range(FIRST_WORLD, FIRST_WORLD + 1))
    policy, _ = fit(given, samples)
    assert policy.predict(samples.observations, deterministic=True)[0].shape == (len(samples), 2)


def test_nothing_is_played_twice(tmp_path, monkeypatch):
    first = config(worlds=12)
    seeds = range(FIRST_WORLD, FIRST_WORLD + 12)
    whole = record(first, tmp_path, seeds)
    forbid_playing(monkeypatch)
    other = config(worlds=12, seed=5, epochs=1, margin=0.1)
    assert equal_samples(record(other, tmp_path, seeds), whole)
    with pytest.raises(AssertionError, match="played again"):
        record(config(worlds=12, teacher={"policy": "queue_budget", "share": 0.2}), tmp_path, seeds)


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:-99])])
def test_an_interrupted_recording_goes_on(tmp_path, monkeypatch, damage):
    given = config(worlds=12)
    seeds = range(FIRST_WORLD, FIRST_WORLD + 12)
    whole = record(given, tmp_path, seeds)
    files = sorted(tmp_path.rglob("*.npz"))
    assert len(files) == 2
    damage(files[-1])
    played = []
    once = demonstrations._play
    monkeypatch.setattr(demonstrations, "_play", lambda *given: played.append(given[2]) or once(*given))
    assert equal_samples(record(given, tmp_path, seeds), whole)
    assert played == list(seeds[10:])


def test_the_same_seed_fits_the_same_clone():
    samples = draw_samples(200, lambda observations: 0.5 + 0.3 * observations[:, 0])
    before = torch.get_rng_state()
    states = [fit(config(seed=seed), samples)[0].state_dict() for seed in (1, 1, 2)]
    assert torch.equal(before, torch.get_rng_state())
    names = [name for name in states[0] if name.endswith("weight")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in names)
    assert not all(torch.equal(states[0][name], states[2][name]) for name in names)


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_the_clone_explores_as_it_was_told(algo):
    samples = draw_samples(64, lambda observations: 0.5 + 0.3 * observations[:, 0])
    policy, _ = fit(config(algo, log_std=-1.5, epochs=1), samples)
    rows = torch.from_numpy(samples.observations)
    log_std = policy.log_std if algo == "ppo" else policy.actor.get_action_dist_params(rows)[1]
    assert torch.allclose(log_std, torch.tensor(-1.5))


def test_end_to_end_by_the_command_line(tmp_path, capsys):
    path, out = tmp_path / "tiny.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    assert main([str(path), "--out", str(out)]) == 0
    assert "clone" in capsys.readouterr().out
    assert {entry.name for entry in out.iterdir()} == {"samples", AGENT_FILE, "imitation.json", ".lock"}
    result = json.loads((out / "imitation.json").read_text(encoding="utf-8"))
    assert result["command"] == f"python -m agents.imitate {path} --out {out}"
    assert result["config"]["seed"] == 0
    assert result["config"]["run"]["hyperparams"]["n_envs"] > 1  # those of the file
    assert result["config"]["teacher"] == TINY["teacher"]
    assert 0 < result["samples"]["held_out"] <= result["samples"]["training"] <= 60
    agent = load_agent(out)
    about = read_agent(out)[1]
    assert about["config"]["teacher"] == TINY["teacher"]
    assert about["activation"] == "tanh"
    env = build_env(load_config(TINY).target, 2)
    assert result["scores"]["clone"] == play(env, agent, TEST_SEED)
    single = gym.make(LAIM, **QUEUE)
    observation, _ = single.reset(seed=0)
    assert single.action_space.contains(agent.bind(single).predict(observation)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, "config: key: got 'epoch'. Did you mean 'epochs'"),
        ({"epochs": 0}, "config: epochs: got 0. Input should be greater"),
        ({"first_world": 7}, "config: first_world: got 7. Input should be greater"),
        ({"first_world": 999_999_999}, "config: worlds: got 3. Their seeds must stay below"),
        ({"teacher": {"policy": "stochastic_pd"}}, "policy: got 'stochastic_pd'. Did you mean 'stochastic_dp'"),
        ({"teacher": {"policy": "queue_budget", "shares": 1}}, "key: got 'shares'. Did you mean 'share'"),
        ({"run": {"algo": "dqn"}}, "config: run.algo: got 'dqn'. Give one of ppo"),
        ({"run": {"algo": "ppo", "envs": "x"}}, "config: run: key: got 'envs'. Did you mean 'env'"),
        (
            {"run": {"algo": "ppo", "wrapper": ["DiscreteActions"]}},
            "config: run.wrapper: got 'DiscreteActions'. Give Bud",
        ),
        (
            {"run": {"algo": "ppo", "wrapper": [{"BudgetShareAction": {"margin": True}}]}},
            "config: run.wrapper: margin: got True. A teacher tells no margin",
        ),
    ],
)
def test_bad_configurations_are_refused(tmp_path, capsys, options, message):
    with pytest.raises(InvalidInputError) as caught:
        load_config(TINY | options)
    assert message in str(caught.value)
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(TINY | options), encoding="utf-8")
    assert main([str(path), "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_a_teacher_that_cannot_act_there_is_refused(tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    run = TINY["run"] | {"env_kwargs": {"arrivals": "one_at_a_time", "tasks": 5}}
    path.write_text(yaml.safe_dump(TINY | {"run": run, "teacher": {"policy": "stochastic_dp"}}), encoding="utf-8")
    assert main([str(path), "--out", str(tmp_path)]) == 2
    assert "There is no queue to plan for" in capsys.readouterr().err
    assert main([str(path), "--out", str(tmp_path), "--jobs", "0"]) == 2


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "imitation").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_can_be_read(path):
    config = load_config(path)
    assert config.target.algo in ALGORITHMS
    assert config.target.env in [f"coinfer_gym/{name}-v0" for name in ("LAIM", "Layerwise", "Cell")]
