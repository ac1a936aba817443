"""Sweeps: every run in its own folder, and the same command again goes on where it stopped."""

import json
import shutil
import sys
from pathlib import Path

import gymnasium as gym
import pytest
import yaml

from agents.held_out import SELECTION_SEED, play_worlds
from agents.policy import load_agent
from baselines.rollout import measure
from baselines.rules import ConstantAction, MyopicExact
from coinfer_gym import InvalidInputError
from coinfer_gym.files import lock_folder, read_csv
from coinfer_gym.named_wrappers import wrap
from coinfer_gym.sb3 import make_native
from studies.agents import sweep_config
from studies.agents.evidence import read_sweep
from studies.agents.sweep import main
from studies.agents.sweep_config import BOUNDS, list_runs, load_sweep

LAIM = "coinfer_gym/LAIM-v0"
CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "sweeps"
WORLDS, LANES = 4, 2
PPO = {"algo": "ppo", "hyperparams": {"n_envs": 8, "n_steps": 16, "batch_size": 64, "policy_kwargs": {"net_arch": [8]}}}
CONTENT = {
    "title": "tiny",
    "env_kwargs": {"scenario": "bert-multimodal", "tasks": 10},
    "seeds": 2,
    "evaluation": {"worlds": WORLDS, "seed": 5},
    "target": "myopic exact",
    "references": {"myopic exact": {"policy": "myopic_exact"}, "thrifty": {"policy": "slowdown", "fraction": 0.8}},
    "common": {
        "n_timesteps": 2000,
        "eval_freq": 1000,
        "eval_lanes": LANES,
        "test_lanes": 2,
        "checkpoint_freq": 500,
        "wrapper": ["BudgetShareAction"],
    },
    "entries": {"PPO": PPO},
}


def write_config(folder, **changes):
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONTENT | changes), encoding="utf-8")
    return path


def run(config, folder, *more):
    return main([str(config), "--out", str(folder), "--jobs", "1", *more])


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished sweep; tests that change something take a copy."""
    base = tmp_path_factory.mktemp("sweep")
    assert run(write_config(base), base / "out") == 0
    return base


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_a_sweep_writes_all(finished):
    folder = finished / "out"
    runs = [folder / "PPO" / f"seed_{seed}" for seed in (10_000, 20_000)]
    assert [found.config.folder for found in list_runs(load_sweep(finished / "tiny.yaml"), folder)] == runs
    for own in runs:
        names = {path.name for path in own.iterdir()}
        assert {"config.yaml", "origin.yaml", "evaluations.csv", "results.json", "checkpoints", "tensorboard"} <= names
        assert {"evaluation.csv", "train.log"} <= names
        assert [int(row["world"]) for row in read_csv(own / "evaluation.csv")] == [5, 6, 7, 8]
    rows = read_csv(folder / "reference.csv")
    worlds = {*range(5, 5 + WORLDS), *range(SELECTION_SEED, SELECTION_SEED + LANES)}
    for label in ("myopic exact", "thrifty", *BOUNDS):
        assert {int(row["world"]) for row in rows if row["policy"] == label} == worlds
    lower, upper = ([float(row["delivered"]) for row in rows if row["policy"] == label] for label in BOUNDS)
    assert all(low <= high for low, high in zip(lower, upper, strict=True))
    evidence = read_sweep(folder)
    assert evidence.missing == []
    assert (evidence.agents["PPO"].delivered <= evidence.upper + 1e-6).all()


def test_worlds_are_those_of_single_environments(finished):
    folder = finished / "out" / "PPO" / "seed_10000"
    agent = load_agent(folder)
    env = wrap(gym.make(LAIM, **CONTENT["env_kwargs"]), ["BudgetShareAction"])
    rows = read_csv(folder / "evaluation.csv")
    for row in rows[:2]:
        measured = measure(env, agent, int(row["world"]))
        for name in ("delivered", "violated", "dropped"):
            assert float(row[name]) == pytest.approx(measured[name], abs=1e-5)
    bare = gym.make(LAIM, **CONTENT["env_kwargs"])
    measured = measure(bare, MyopicExact(bare), 5)
    reference = next(row for row in read_csv(finished / "out" / "reference.csv") if row["policy"] == "myopic exact")
    assert float(reference["delivered"]) == pytest.approx(measured["delivered"])


def test_lanes_that_end_early_count_their_first_episode_only():
    env = make_native(LAIM, 3, tasks=30, arrivals="poisson", arrival_rate=8.0)
    slow = ConstantAction([1.0, 1.0, 1.0, 1.0, -1.0, -1.0])
    earned = play_worlds(env, slow, 0)
    assert all(world["dropped"] > 0.2 for world in earned)
    assert earned[1:] == play_worlds(make_native(LAIM, 2, **vars_of(env)), slow, 1)


def vars_of(env):
    scenario = env.get_attr("scenario")[0]
    return {"tasks": scenario.tasks, "arrivals": scenario.arrivals, "arrival_rate": scenario.arrival_rate}


def test_a_second_call_does_nothing(copy, capsys):
    before = content(copy / "out")
    assert run(copy / "tiny.yaml", copy / "out") == 0  # although the folder has moved
    assert "0 trained, 0 resumed, 0 evaluated, 0 failed, 2 finished before" in capsys.readouterr().out
    assert content(copy / "out") == before


def test_a_killed_run_is_resumed(copy, capsys):
    killed, other = (copy / "out" / "PPO" / f"seed_{seed}" for seed in (10_000, 20_000))
    first, untouched = read_csv(killed / "evaluation.csv"), content(other)
    (killed / "results.json").unlink()
    newest, *older = sorted((killed / "checkpoints").iterdir(), reverse=True)
    newest.unlink()
    assert older
    assert run(copy / "tiny.yaml", copy / "out") == 0
    assert "1 resumed" in capsys.readouterr().out
    assert json.loads((killed / "results.json").read_text(encoding="utf-8"))["seconds"] > 0.0
    assert read_csv(killed / "evaluation.csv") == first  # as if it had never stopped
    assert content(other) == untouched


def test_what_was_left_empty_or_edited_is_made_anew(copy, capsys):
    first, second = (copy / "out" / "PPO" / f"seed_{seed}" for seed in (10_000, 20_000))
    before = [read_csv(own / "evaluation.csv") for own in (first, second)]
    text = (first / "evaluation.csv").read_text(encoding="utf-8")
    (first / "evaluation.csv").write_text(text.replace("6,0.", "6,1."), encoding="utf-8")
    for name in ("config.yaml", "results.json"):
        (second / name).write_bytes(b"")
    with lock_folder(copy / "out"):
        assert run(copy / "tiny.yaml", copy / "out") == 2
    assert "Another command works there" in capsys.readouterr().err
    assert run(copy / "tiny.yaml", copy / "out") == 0
    assert "1 trained, 0 resumed, 1 evaluated" in capsys.readouterr().out
    assert [read_csv(own / "evaluation.csv") for own in (first, second)] == before


def test_damaged_runs_are_told(copy, capsys):
    first, second = (copy / "out" / "PPO" / f"seed_{seed}" for seed in (10_000, 20_000))
    (first / "results.json").write_text("{", encoding="utf-8")
    (second / "results.json").unlink()
    for checkpoint in (second / "checkpoints").iterdir():
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    before = content(first)
    assert run(copy / "tiny.yaml", copy / "out") == 1
    said, told = capsys.readouterr()
    assert "0 resumed, 0 evaluated, 2 failed" in said
    assert "PPO, seed 10000" in told
    assert "results are damaged. Delete its folder" in told
    assert "PPO, seed 20000" in told
    assert "Train again" in told
    assert "Traceback" in (second / "train.log").read_text(encoding="utf-8")
    assert content(first) == before


def test_runs_of_another_configuration_are_told(copy, capsys):
    config = write_config(copy, entries={"PPO": PPO | {"eval_freq": 999}})
    assert run(config, copy / "out") == 1
    assert capsys.readouterr().err.count("eval_freq: got 1000. The sweep now asks for 999.") == 2


def test_other_worlds_are_played_anew(copy, capsys):
    path = copy / "out" / "reference.csv"
    kept = [row for row in read_csv(path) if int(row["world"]) != 5]
    assert run(write_config(copy, evaluation={"worlds": 3, "seed": 6}), copy / "out") == 0
    assert "2 evaluated" in capsys.readouterr().out
    assert [row for row in read_csv(path) if int(row["world"]) != 5] == kept
    assert [row["world"] for row in read_csv(copy / "out/PPO/seed_10000/evaluation.csv")] == ["6", "7", "8"]


def test_a_changed_reference_is_played_anew(copy):
    path = copy / "out" / "reference.csv"
    before = {(row["policy"], row["world"]): row["delivered"] for row in read_csv(path)}
    thrifty = {"policy": "slowdown", "fraction": 0.3}
    config = write_config(copy, references=CONTENT["references"] | {"thrifty": thrifty})
    assert run(config, copy / "out") == 0
    after = {(row["policy"], row["world"]): row["delivered"] for row in read_csv(path)}
    assert after.keys() == before.keys()
    assert {label for label, world in before if after[label, world] != before[label, world]} == {"thrifty"}


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"target": "myopic"}, "myopic exact"),
        ({"evaluation": {"worlds": 10, "seed": 9995}}, "Frozen worlds end before"),
        ({"entries": {"PPO": {"wrapper": []}}}, "algo"),
        ({"entries": {"PPO": PPO | {"seed": 1}}}, "The sweep sets it"),
        ({"entries": {"PPO": PPO | {"eval_lanes": 1}}}, "under 'common'"),
        ({"entries": {"../PPO": PPO}}, "letters"),
        ({"entries": {"thrifty": PPO}}, "different labels"),
        ({"entries": {"P O": PPO, "P_O": PPO}}, "folder would be that of 'P O'"),
    ],
)
def test_mistakes_in_a_config_are_told_before_anything_runs(tmp_path, changes, hint, capsys):
    config = write_config(tmp_path, **changes)
    with pytest.raises(InvalidInputError, match=hint):
        load_sweep(config)
    assert run(config, tmp_path / "out") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_sweeps_can_be_read(path, monkeypatch):
    monkeypatch.setattr(sweep_config, "read_agent", lambda start: None)  # another command makes the clones
    config = load_sweep(path)
    seeds = [found.config.seed for found in list_runs(config, Path("out"))]
    assert len(seeds) == len(config.entries) * config.seeds
    assert min(seeds) > config.frozen.stop + 1
    lanes = max(found.config.load_hyperparameters().n_envs for found in list_runs(config, Path("out")))
    assert lanes < min(seeds)


def test_ray_that_is_missing_is_told(finished, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(finished / "tiny.yaml", tmp_path / "out", "--backend", "ray") == 2
    assert "pip install ray" in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_on_a_ray_cluster(copy, capsys):
    ray = pytest.importorskip("ray", reason="Linux only")
    killed = copy / "out" / "PPO" / "seed_10000"
    first = read_csv(killed / "evaluation.csv")
    (killed / "results.json").unlink()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)  # joblib takes one for no cluster at all
    try:
        assert run(copy / "tiny.yaml", copy / "out", "--backend", "ray", "--jobs", "2") == 0
    finally:
        ray.shutdown()
    assert "1 resumed" in capsys.readouterr().out
    assert read_csv(killed / "evaluation.csv") == first
