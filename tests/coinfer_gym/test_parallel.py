"""Calls on several processes: all results, and no process that outlives the one that started it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coinfer_gym import InvalidInputError
from coinfer_gym.files import lock_folder
from coinfer_gym.parallel import run_parallel

ROOT = Path(__file__).resolve().parents[2]
STAY = """
import sys, time
from pathlib import Path
from coinfer_gym.files import lock_folder

def stay(folder):
    with lock_folder(Path(folder)):
        Path(folder, "here").touch()
        time.sleep(600)
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_all_calls_are_made(jobs):
    assert sorted(run_parallel(divmod, [(k, 2) for k in range(4)], jobs)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.skipif(sys.platform == "win32", reason="a process does not learn there that its parent has ended")
def test_workers_end_with_a_killed_parent(tmp_path):
    (tmp_path / "stay.py").write_text(STAY, encoding="utf-8")
    folders = [tmp_path / "first", tmp_path / "second"]
    calls = [(str(folder),) for folder in folders]
    code = f"import stay; from coinfer_gym.parallel import run_parallel; list(run_parallel(stay.stay, {calls}, 2))"
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    parent = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths})
    wait_for(lambda: all((folder / "here").exists() for folder in folders))
    parent.kill()
    parent.wait()
    wait_for(lambda: all(is_free(folder) for folder in folders))


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen within a minute")


def is_free(folder):
    try:
        with lock_folder(folder):
            return True
    except InvalidInputError:
        return False
