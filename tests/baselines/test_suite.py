"""The suite: its worlds are those of its version, scores are what was earned, and bad input is named."""

import json

import gymnasium as gym
import numpy as np
import pytest
from scipy.stats import trim_mean

from baselines import suite
from baselines.config import PolicyConfig
from baselines.family import digest_scenario, scenario_of
from baselines.registry import bind, make_policy
from coinfer_gym import InvalidInputError


def test_every_file_is_a_task():
    assert {path.stem for path in suite.FOLDER.glob("*.yaml")} == set(suite.TASKS)
    assert suite.TRAIN[-1] < suite.VALIDATION[0] <= suite.VALIDATION[-1] < suite.TEST[0]  # max() would count to them


@pytest.mark.parametrize("name", suite.TASKS)
def test_references_are_of_these_worlds(name):
    task, stored = suite.load_task(name), suite.read_references([name])[name]
    env = gym.make(task.environment, **task.keywords)
    assert stored["scenario_digest"] == digest_scenario(scenario_of(env)), "python -m baselines.suite --references"
    assert set(stored["references"]) == set(task.policies)
    bound = np.array(stored["bound"])
    assert bound.shape == (100,)
    for reference in stored["references"].values():
        assert (np.array(reference["delivered"]) <= bound + 1e-6).all()


def test_score_is_what_is_earned(capsys):
    result = suite.score(PolicyConfig(policy="myopic_exact"), ["bursts"])
    task, stored = suite.load_task("bursts"), suite.read_references(["bursts"])["bursts"]
    earned = np.array(result["tasks"]["bursts"]["delivered"])
    np.testing.assert_allclose(earned, stored["references"]["myopic exact"]["delivered"], atol=2e-6)
    env = gym.make(task.environment, **task.keywords)
    policy, delivered, delays = bind(make_policy("myopic_exact"), env), 0.0, []
    observation, _ = env.reset(seed=suite.TEST.start)
    truncated = False
    while not truncated:
        observation, _, terminated, truncated, info = env.step(policy.predict(observation)[0])
        delivered, truncated = delivered + info["delivered"], truncated or terminated
        delays.append(info["wait_s"] + info["delay_s"])
    assert earned[0] == pytest.approx(delivered / 200, abs=1e-6)
    comparison = suite.play("bursts", {"mine": PolicyConfig(policy="myopic_exact", worlds=1)}, None, 1)
    tails = dict(zip(comparison.metrics, comparison.values[0, 0].tolist(), strict=True))
    assert tails["delay_p95_s"] == pytest.approx(np.percentile(delays, 95))
    shares = earned / stored["bound"]
    assert result["tasks"]["bursts"]["share"] == pytest.approx(shares.mean())
    whole = result["interquartile_mean"]
    assert whole["mean"] == pytest.approx(trim_mean(shares, 0.25))
    assert whole["low"] < whole["mean"] < whole["high"]
    suite.show(result, {"bursts": stored})
    assert "queue budget" in capsys.readouterr().out


def test_interquartile_mean_resamples_each_task():
    parts = [np.full(20, 0.2), np.full(20, 0.8)]  # resampled by itself, neither changes
    assert suite.interquartile_mean(parts) == pytest.approx((0.5, 0.5, 0.5))
    values = np.random.default_rng(1).random(400)
    middle, low, high = suite.interquartile_mean([values])
    assert middle == pytest.approx(trim_mean(values, 0.25))
    assert high - low == pytest.approx(2 * 1.96 * 0.0183, rel=0.25)  # of 400 uniform numbers, by simulation


def test_command_writes_a_score(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        suite,
        "score",
        lambda policy, tasks, *_: {
            "tasks": {},
            "interquartile_mean": dict.fromkeys(("mean", "low", "high"), 0.5),
            "policy": policy.policy,
        },
    )
    assert suite.main(["myopic_exact", "scheme=on_device", "--tasks", "late", "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "score.json").read_text())["policy"] == "myopic_exact"
    assert "0.500" in capsys.readouterr().out
    assert suite.main(["myopic_exact", "scheme=on_device", "--tasks", "bursts", "--out", str(tmp_path)]) == 0
    before = (tmp_path / "score.json").read_bytes()
    capsys.readouterr()
    for other in (["random"], ["myopic_exact"]):
        assert suite.main([*other, "--tasks", "late", "--out", str(tmp_path)]) == 2
        assert "give another --out" in capsys.readouterr().err
    assert (tmp_path / "score.json").read_bytes() == before


def test_bad_input_is_named(tmp_path, monkeypatch, capsys):
    with pytest.raises(InvalidInputError, match=r"task: got 'burst'.*bursts"):
        suite.load_task("burst")
    for given, word in (
        (["--out", str(tmp_path)], "Name a policy"),
        (["myopic_exact", "--references", "--out", str(tmp_path)], "Name a policy"),
        (["myopic", "--out", str(tmp_path)], "Did you mean"),
        (["myopic_exact", "cuts=3", "--out", str(tmp_path)], "cut"),
    ):
        assert suite.main(given) == 2
        assert word in capsys.readouterr().err
    broken = tmp_path / "references.json"
    broken.write_text('{"tasks": {"bursts"')
    monkeypatch.setattr(suite, "REFERENCES", broken)
    with pytest.raises(InvalidInputError, match="damaged"):
        suite.read_references(["bursts"])
