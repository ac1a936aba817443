"""Each extra installs and runs alone: `make extras` builds an environment for each from the package index."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STEP = """
import gymnasium as gym
env = gym.make("coinfer_gym:coinfer_gym/LAIM-v0")
env.reset(seed=0)
env.step(env.action_space.sample())
"""
FRAME = """
import gymnasium as gym
env = gym.make("coinfer_gym:coinfer_gym/LAIM-v0", render_mode="rgb_array")
env.reset(seed=0)
assert env.render().ndim == 3
"""
TURNS = """
from coinfer_gym.cell.multiagent import CellAEC
env = CellAEC(tasks=1)
env.reset(seed=0)
for agent in env.agent_iter():
    env.step(None if env.last()[3] else env.action_space(agent).sample())
"""
COMPARISON = """
title: tiny
env: {scenario: bert-multimodal, tasks: 5}
worlds: 2
policies: {random: {policy: random}, exact: {policy: myopic_exact}, slow: {policy: myopic_sca, cut: 1}}
"""
COMMANDS = {
    "": ["-c", STEP],
    "render": ["-c", FRAME],
    "baselines": ["-m", "baselines.compare", "tiny.yaml", "--out", "out", "--jobs", "1"],
    "agents": ["-m", "agents.train", "--algo", "ppo", "--n-timesteps", "2048", "--test-lanes", "8", "--out", "out"],
    "multiagent": ["-c", TURNS],
    "offline": ["-m", "agents.record", "tiny.yaml", "--decisions", "10"],
    "docs": ["-m", "mkdocs", "build", "--strict", "--quiet"],
    "models": ["-m", "coinfer_gym.models.demo", "--cut", "1", "--tokens", "16", "--rounds", "1"],
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("COINFER_EXTRAS" not in os.environ, reason="installs from the package index: run `make extras`"),
]


@pytest.mark.parametrize("extra", COMMANDS, ids=lambda extra: extra or "core")
def test_it_installs_and_runs_alone(extra, tmp_path):
    python = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*command):
        done = subprocess.run(
            [str(part) for part in command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    for name in ("pyproject.toml", "mkdocs.yml", "CHANGELOG.md", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("coinfer_gym", "baselines", "agents", "configs", "docs", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tiny.yaml").write_text(COMPARISON, encoding="utf-8")
    constraints = ROOT / "constraints.txt"
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    if extra in ("agents", "models", "offline"):  # pinned and first, so that it brings no CUDA along
        run(
            python,
            "-m",
            "pip",
            "install",
            "-q",
            *[line for line in constraints.read_text().split() if "torch==" in line],
        )
    run(python, "-m", "pip", "install", "-q", "-c", constraints, f".[{extra}]" if extra else ".")
    if extra not in ("agents", "models", "offline"):
        run(python, "-c", "import importlib.util as u; assert u.find_spec('torch') is None")
    run(python, *COMMANDS[extra])
