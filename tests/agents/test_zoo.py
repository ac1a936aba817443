"""RL Baselines3 Zoo's own training runs on the shipped hyperparameters."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from agents.hyperparameters import ALGORITHMS

pytest.importorskip("rl_zoo3")

LAIM, LAYERWISE = "coinfer_gym/LAIM-v0", "coinfer_gym/Layerwise-v0"
ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs" / "agents"
NAMES = {"recurrent_ppo": "ppo_lstm"}  # where the Zoo has another name
TINY = {"n_envs": 2, "n_steps": 8, "batch_size": 16, "learning_starts": 8, "buffer_size": 64, "n_epochs": 1}
MANY = """
import json, sys
sys.modules["agents"] = None  # outside a checkout there is no such module
import rl_zoo3, sb3_contrib
from rl_zoo3.train import train
rl_zoo3.ALGOS["maskable_ppo"] = sb3_contrib.MaskablePPO
for arguments in json.load(sys.stdin):
    sys.argv[1:] = arguments
    train()
"""


def arguments_of(folder, algo, env=LAIM, **changes):
    """The Zoo's arguments for two iterations on a shipped file."""
    conf_file = CONFIGS / f"{algo}.yml"
    entry = yaml.safe_load(conf_file.read_text(encoding="utf-8"))[env]
    changes |= {key: value for key, value in TINY.items() if key == "n_envs" or key in entry}
    return [
        *("--algo", NAMES.get(algo, algo), "--env", env, "--gym-packages", "coinfer_gym"),
        *("--conf-file", str(conf_file), "--env-kwargs", "tasks:8", "--log-folder", str(folder), "--seed", "0"),
        *("-n", "32", "--eval-freq", "16", "--eval-episodes", "1", "--num-threads", "1", "--device", "cpu"),
        *("--hyperparams", *(f"{key}:{value!r}" for key, value in changes.items())),
    ]


@pytest.mark.slow
def test_it_trains_on_every_file(tmp_path):
    """And with the penalties; in one process, as importing takes longer than training."""
    given = [arguments_of(tmp_path / algo, algo) for algo in sorted(ALGORITHMS)]
    names = ("PayDelivered", "LagrangianPenalties")
    given += [arguments_of(tmp_path / name, "ppo", vec_env_wrapper=f"coinfer_gym.sb3_rewards.{name}") for name in names]
    given.append(arguments_of(tmp_path / "layerwise", "ppo", LAYERWISE))
    done = subprocess.run(
        [sys.executable, "-c", MANY],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    trained = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("coinfer_gym-L*-v0.zip")}
    assert trained == {*ALGORITHMS, *names, "layerwise"}
