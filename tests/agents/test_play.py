"""Watching an agent: pictures, text, and a GIF."""

import io
import sys

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from agents import play as playing
from agents.agent_file import AGENT_FILE, save_agent
from agents.play import main, play
from agents.policy import load_agent
from baselines.rollout import measure

LAIM = "coinfer_gym/LAIM-v0"
WORLD = {"tasks": 6, "arrival_rate": 4.0}


@pytest.fixture
def agent(tmp_path):
    """File of an agent that lets tasks take about three quarters of what is left of their time."""
    weights = {"action_net.weight": np.full((1, 7), 0.01), "action_net.bias": np.array([0.5]), "log_std": np.zeros(1)}
    save_agent(
        tmp_path / AGENT_FILE, "ppo", weights, {"env": LAIM, "env_kwargs": WORLD, "wrapper": "BudgetShareAction"}
    )
    return tmp_path / AGENT_FILE


def read(content):
    """Size of a GIF, its pictures, and the seconds that it shows the first."""
    with Image.open(io.BytesIO(content)) as gif:
        assert gif.format == "GIF"
        pictures = []
        for k in range(gif.n_frames):
            gif.seek(k)
            pictures.append(np.asarray(gif.convert("RGB")))
        return gif.size, pictures, gif.info["duration"]


def test_records_a_gif(agent, tmp_path, capsys):
    out = tmp_path / "play.gif"
    assert main([str(agent), "--tasks", "4", "--seed", "3", "--out", str(out)]) == 0
    size, pictures, duration = read(out.read_bytes())
    assert size == (720, 480)
    assert len(pictures) == 4
    assert not np.array_equal(pictures[0], pictures[-1])
    assert duration > 0
    assert out.stat().st_size < 100_000
    lines = capsys.readouterr().out.splitlines()
    assert "quality" in lines[0]
    assert "kept device" in lines[0]
    assert [len(line.split()) >= 12 for line in lines[1:5]] == [True] * 4
    assert lines[-1].startswith("4 frames")


def test_plays_the_world_of_its_seed(agent):
    said = []
    play(agent, seed=5, tasks=100, say=said.append)
    env = gym.make(LAIM, **WORLD)
    expected = measure(env, load_agent(agent).bind(env), 5)
    assert f"quality {expected['delivered']:.4f}" in said[-1]
    assert f"{expected['violated']:.1%} missed" in said[-1]


def test_pictures_are_those_of_the_environment(agent):
    frames = play(agent, tasks=2, say=str)
    env = gym.make(LAIM, render_mode="rgb_array", **WORLD)
    bound = load_agent(agent).bind(env)
    observation, _ = env.reset(seed=0)
    for frame in frames:
        observation, *_ = env.step(bound.predict(observation, deterministic=True)[0])
        assert np.array_equal(frame, env.render())


def test_opens_a_window(agent):
    pygame = pytest.importorskip("pygame")
    assert main([str(agent), "--tasks", "1", "--render", "human"]) == 0
    assert not pygame.display.get_init()  # it closes the window


def test_says_what_became_of_a_task(agent):
    good = dict.fromkeys(("abandoned", "cost_delay", "cost_energy", "dropped"), 0.0)
    assert playing._outcome(good) == "delivered"
    assert playing._outcome(good | {"cost_delay": 0.1, "cost_energy": 2.0}) == "too late and too costly"
    assert playing._outcome(good | {"abandoned": 1.0, "dropped": 2.0}) == "given up; 2 lost waiting"


def test_long_episodes_skip_pictures(agent, monkeypatch):
    monkeypatch.setattr(playing, "_MOST_FRAMES", 3)
    assert len(play(agent, tasks=6, say=str)) == 3


def test_refuses(agent, capsys, monkeypatch):
    assert main([str(agent), "--tasks", "0"]) == 2
    assert "tasks" in capsys.readouterr().err
    assert main(["nobody"]) == 2
    save_agent(
        agent.with_name("bare"), "ppo", {"action_net.weight": np.zeros((1, 7)), "action_net.bias": np.zeros(1)}, {}
    )
    assert main([str(agent.with_name("bare"))]) == 2
    assert "which environment" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert main([str(agent), "--tasks", "1"]) == 2
    assert "pillow" in capsys.readouterr().err.lower()
