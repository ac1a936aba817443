"""Shipped agents are what their cards say, and shipping makes such cards.

**Re-evaluation.** A card states the mean over its frozen worlds, its 95 % interval, and what was delivered in each
world. Here the agent plays the first `WORLDS` of them again. The mean over these must lie within the stated interval
moved to the card's own mean over the same worlds: worlds are the same, so that nothing but arithmetic can differ.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from agents import evaluate as evaluation
from agents.agent_file import AGENT_FILE, save_agent
from agents.evaluate import AGENT, TRAINED
from agents.held_out import play_worlds
from agents.policy import load_agent
from agents.runs import RunConfig
from agents.training import train
from baselines.laim import FAMILY
from coinfer_gym import InvalidInputError
from coinfer_gym.sb3 import make_native
from studies.agents import ship as shipping
from studies.agents.ship import LIMIT, main, read_training

ROOT = Path(__file__).resolve().parents[2]
WORLDS = 10
SHIPPED = sorted(path for path in TRAINED.iterdir() if path.is_dir() and not path.name.startswith("."))
WORLD = {"scenario": "bert-multimodal", "tasks": 10}
COARSE = {"gains": 3, "waits": 4, "queue": 3, "beliefs": 2, "times": 4, "samples": 16}
SMALL = {"n_timesteps": 1024, "n_envs": 16, "n_steps": 16, "batch_size": 64, "policy_kwargs": {"net_arch": [8]}}


def read_card(folder):
    return json.loads((folder / "card.json").read_text(encoding="utf-8"))


def check_files(folder):
    card = read_card(folder)
    assert {path.name for path in folder.iterdir()} == {AGENT_FILE, "card.json", "card.md"}
    assert all(path.stat().st_size < LIMIT for path in folder.iterdir())
    content = (folder / AGENT_FILE).read_bytes()
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    assert len(content) == card["bytes"]
    assert card["name"] == folder.name
    text = (folder / "card.md").read_text(encoding="utf-8")
    assert card["sha256"] in text
    assert all(step["command"] in text for step in card["training"])


def check_result(folder):
    card = read_card(folder)
    stated = card["evaluation"]["policies"][AGENT]["delivered"]
    worlds = card["evaluation"]["delivered"][AGENT]
    assert np.mean(worlds) == pytest.approx(stated["mean"])
    count = min(WORLDS, len(worlds))
    agent = load_agent(folder)
    assert (agent.config["env"], agent.config["env_kwargs"]) == (
        card["evaluation"]["env"],
        card["evaluation"]["env_kwargs"],
    )
    env = make_native(agent.config["env"], count, agent.config["wrapper"], **agent.config["env_kwargs"])
    found = np.mean([world["delivered"] for world in play_worlds(env, agent, card["evaluation"]["seed"])])
    expected = np.mean(worlds[:count])
    assert stated["low"] - stated["mean"] <= found - expected <= stated["high"] - stated["mean"]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: path.name)
def test_files_are_those_of_the_card(folder):
    check_files(folder)


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: path.name)
def test_plays_as_the_card_says(folder):
    check_result(folder)


def make_run(out, **options):
    common = {"env_kwargs": WORLD, "hyperparams": SMALL, "seed": 10_000, "eval_lanes": 3, "test_lanes": 3}
    command = ["--algo", "ppo", "--out", str(out)]
    return train(RunConfig(algo="ppo", out=str(out), **(common | options)), command)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a tiny run that started from another."""
    place = tmp_path_factory.mktemp("runs")
    return make_run(place / "second", start=str(make_run(place / "first")), seed=20_000)


@pytest.fixture(autouse=True)
def trained(tmp_path, monkeypatch):
    """A place to ship to; references play there quickly."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(FAMILY.references, "stochastic DP", {"policy": "stochastic_dp"} | COARSE)
    place = tmp_path / "agents" / "trained"
    place.mkdir(parents=True)
    for module in (evaluation, shipping):
        monkeypatch.setattr(module, "TRAINED", place)
    return place


def ship(run, *options, name="mine"):
    return main([str(run), "--name", name, "--worlds", "4", "--jobs", "1", *options])


def test_ships_what_the_tests_above_accept(run, trained, capsys):
    assert ship(run) == 0
    assert [path.name for path in trained.iterdir()] == ["mine"]
    check_files(trained / "mine")
    check_result(trained / "mine")
    card = read_card(trained / "mine")
    found = card["evaluation"]
    assert {"myopic exact", "stochastic DP", AGENT} == set(found["policies"])
    bounds = found["clairvoyant"]
    assert 0.0 < bounds["lower"]["mean"] <= bounds["upper"]["mean"]
    assert all(policy["delivered"]["mean"] <= bounds["upper"]["mean"] for policy in found["policies"].values())
    text = (trained / "mine" / "card.md").read_text(encoding="utf-8")
    for part in ("BudgetShareAction", "clairvoyant, upper bound", "Seed 20000", "Seed 10000", "bursts of requests"):
        assert part in text
    # It is found by its name, and replaced if asked.
    assert evaluation.find_agent("mine") == trained / "mine" / AGENT_FILE
    assert ship(run) == 2
    assert "--overwrite" in capsys.readouterr().err
    (trained / "mine" / "old.txt").touch()
    assert ship(run, "--overwrite") == 0
    check_files(trained / "mine")


def test_tells_how_it_was_trained(run):
    last, first = read_training(run)
    assert (last["config"]["seed"], first["config"]["seed"]) == (20_000, 10_000)
    assert first["command"].startswith("python -m agents.train --algo ppo")
    assert {"git_revision", "versions"} <= set(first)


def test_tells_of_a_clone_and_of_a_shipped_agent(tmp_path):
    told = {"command": "python -m agents.imitate x.yaml", "config": {"seed": 0}, "git_revision": None, "versions": {}}
    (tmp_path / "imitation.json").write_text(json.dumps(told | {"seconds": 3.0}), encoding="utf-8")
    assert read_training(tmp_path) == [told]
    (tmp_path / "card.json").write_text(json.dumps({"training": [told, told]}), encoding="utf-8")
    assert read_training(tmp_path) == [told, told]
    (tmp_path / "card.json").write_text("{", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"card\.json"):
        read_training(tmp_path)


def test_paths_count_from_the_checkout(run, tmp_path):
    step = read_training(make_run(tmp_path / "runs" / "third"))[0]
    assert step["config"]["out"] == "runs/third"
    assert step["command"].endswith("--out runs/third")


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (("--seed", "20010"), "--seed 20016"),
        (("--seed", "9997"), "worlds 10000 to 10015"),  # of what it started from
        (("--worlds", "0"), "worlds"),
    ],
)
def test_refuses_worlds(run, trained, capsys, options, hint):
    assert ship(run, *options) == 2
    assert hint in capsys.readouterr().err
    assert not any(trained.iterdir())


def test_refuses_names_folders_and_large_agents(run, trained, tmp_path, capsys):
    for name in ("Mine", "../mine", ""):
        assert ship(run, name=name) == 2
        assert "hyphens" in capsys.readouterr().err
    assert ship(tmp_path) == 2
    assert AGENT_FILE in capsys.readouterr().err
    save_agent(tmp_path / AGENT_FILE, "ppo", {"action_net.weight": np.zeros((1, 7))}, {})
    assert ship(tmp_path) == 2
    assert "config.yaml" in capsys.readouterr().err


def test_large_agents_are_not_shipped(run, trained, capsys, monkeypatch):
    monkeypatch.setattr(shipping, "LIMIT", 100)
    assert ship(run) == 2
    assert "smaller network" in capsys.readouterr().err
    assert not any(trained.iterdir())
