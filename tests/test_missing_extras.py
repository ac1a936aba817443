"""Without the extra that it needs a command ends in one line, which says how to install it."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from coinfer_gym import extras

ROOT = Path(__file__).resolve().parents[1]
IMPORTED_AS = {"pillow": "PIL", "pygame_ce": "pygame", "scikit_learn": "sklearn"}
TOLD = """
import importlib, json, sys
from importlib.util import find_spec
from coinfer_gym.extras import explain

told = {}
for name in sys.argv[1:]:
    try:
        found = find_spec(name)
        importlib.import_module(name if found.submodule_search_locations is None else f"{name}.__main__")
    except ImportError as error:
        told[name] = explain(error)
print(json.dumps(told))
"""


def documented():
    """Modules that README and documentation run by ``python -m``."""
    pages = [ROOT / "README.md", ROOT / "Makefile", *(ROOT / "docs").rglob("*.md")]
    found = {name for page in pages for name in re.findall(r"python -m ([a-z_0-9.]*\w)", page.read_text("utf-8"))}
    return sorted(name for name in found if (ROOT / name.split(".")[0]).is_dir())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Python with the core dependencies alone, in the checkout."""
    folder = tmp_path_factory.mktemp("core")
    missing = [name for packages in extras._PACKAGES.values() for name in packages]
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({missing}))", "utf-8")
    path = os.pathsep.join([str(folder), str(ROOT)])

    def python(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
        )

    return python


def test_every_package_of_an_extra_is_known():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    brought = {
        re.match(r"[\w-]+", requirement)[0].replace("-", "_")
        for extra, requirements in project["optional-dependencies"].items()
        if extra not in ("dev", "docs")  # no command of this project needs them
        for requirement in requirements
    } - {"coinfer_gym"}
    known = [name for packages in extras._PACKAGES.values() for name in packages]
    assert sorted(known) == sorted(IMPORTED_AS.get(name, name) for name in brought)


def test_every_command_of_the_documentation_names_its_extra(run):
    commands = documented()
    assert {"agents.train", "baselines.compare", "coinfer_gym.models.demo", "studies"} <= set(commands)
    done = run("-c", TOLD, *commands)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(commands) - set(told) == {"benchmarks"}  # some of its parts need the core alone
    for name, text in told.items():
        room = name.removeprefix("studies.").split(".")[0]
        expected = {"agents": "agents", "baselines": "baselines", "coinfer_gym": "models"}.get(room, r"\w+")
        assert re.search(rf"pip install 'coinfer-gym\[{expected}\]'", text or ""), (name, text)


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["coinfer_gym.models.demo"], "models"),  # its package says so
        (["studies.mu.cifar.training"], "models"),  # one of its imports fails
        (["benchmarks", "optimizers"], "baselines"),  # only while it runs
    ],
)
def test_a_command_ends_in_one_line(run, command, extra):
    done = run("-m", *command)
    assert done.returncode != 0
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{command[0]}: ")
    assert f"pip install 'coinfer-gym[{extra}]'" in line


def test_other_failed_imports_keep_their_traceback(run):
    done = run("-c", "from coinfer_gym.command import command\ncommand('x')(lambda _: __import__('no_such'))([])")
    assert "ModuleNotFoundError: No module named 'no_such'" in done.stderr
    assert extras.explain(ImportError("cannot import name 'x'", name="torch")) is None
