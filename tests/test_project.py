"""The project as a whole: its version, its wheel, what an import loads, and which floor imports which."""

import ast
import json
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("coinfer_gym", "baselines", "agents", "studies")  # from the ground up
OTHERS = ("benchmarks", "configs", "docs", "examples", "tests")  # rooms outside the house
HEAVY = ("torch", "transformers", "cvxpy", "matplotlib", "pygame", "stable_baselines3")


def source_files(floor):
    return sorted((ROOT / floor).rglob("*.py"))


def version():
    return runpy.run_path(str(ROOT / "coinfer_gym" / "_version.py"))["__version__"]


def imported(tree):
    """Names of all absolute imports in a module, lazy and dynamic ones included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value


def offences(folder, *forbidden):
    """Imports in a folder of what it must not know."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in source_files(folder)
        for name in imported(ast.parse(path.read_text(encoding="utf-8")))
        if any(f"{name}.".startswith(f"{other}.") for other in forbidden)
    ]


def normal(name):
    """A distribution's name in the spelling that package indexes compare."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory):
    """Names of the files in a wheel built from a copy of the checkout."""
    copy, out = tmp_path_factory.mktemp("checkout") / "project", tmp_path_factory.mktemp("wheel")
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in (*FLOORS, *OTHERS):  # setuptools must leave the others out by itself
        if (ROOT / name).is_dir():
            keep_out = shutil.ignore_patterns("__pycache__", "*.zip", "*.png", "*.gif", "*.npz")
            shutil.copytree(ROOT / name, copy / name, ignore=keep_out)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    result = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (wheel,) = out.glob("*.whl")
    assert wheel.name == f"coinfer_gym-{version()}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_version_has_one_source():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == version()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" in project["dynamic"]


def test_wheel_contains_coinfer_gym_alone(wheel_names):
    assert {name.split("/")[0] for name in wheel_names} == {"coinfer_gym", f"coinfer_gym-{version()}.dist-info"}


def test_wheel_is_complete(wheel_names):
    wanted = {path for path in (ROOT / "coinfer_gym").rglob("*") if path.suffix in (".py", ".yaml", ".json")}
    wanted.add(ROOT / "coinfer_gym" / "py.typed")
    missing = {path.relative_to(ROOT).as_posix() for path in wanted} - wheel_names
    assert not missing
    for folder in ("scenarios", "workloads"):
        assert any(re.fullmatch(rf"coinfer_gym/laim/{folder}/[^/]+\.yaml", name) for name in wheel_names), folder


def test_import_is_light():
    code = "import json, sys, coinfer_gym; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    loaded = set(json.loads(result.stdout))
    assert "coinfer_gym" in loaded
    assert not loaded.intersection(HEAVY)


@pytest.mark.parametrize("level", range(len(FLOORS)), ids=FLOORS)
def test_imports_point_down(level):
    assert source_files(FLOORS[level])
    assert not offences(FLOORS[level], *FLOORS[level + 1 :], *OTHERS)


@pytest.mark.parametrize(
    ("room", "unknown"),
    [
        ("laim", ["cell", "layerwise", "models"]),
        ("layerwise", ["cell", "laim", "models"]),
        ("cell", ["layerwise", "models"]),  # each of its decisions is one of LAIM-v0
        ("envs", ["cell", "laim", "layerwise", "models"]),
        ("world", ["cell", "laim", "layerwise", "models", "envs"]),
    ],
)
def test_tasks_do_not_know_each_other_nor_the_ground_them(room, unknown):
    assert source_files(f"coinfer_gym/{room}")
    assert not offences(f"coinfer_gym/{room}", *(f"coinfer_gym.{name}" for name in unknown))


def test_the_ground_knows_no_task():
    ground = {path.stem for path in (ROOT / "coinfer_gym").glob("*.py")} - {"__init__"}
    assert {"physics", "scenario", "sb3"} <= ground
    found = offences("coinfer_gym", "coinfer_gym.cell", "coinfer_gym.laim", "coinfer_gym.layerwise")
    assert not [line for line in found if line.split("/")[1].split(".py")[0] in ground]


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import agents.train as t", {"agents.train"}),
        ("def f():\n    from baselines.sca import solve", {"baselines.sca.solve"}),
        ("from coinfer_gym import laim", {"coinfer_gym.laim"}),
        ("from . import agents\nfrom .baselines import x", set()),
        ("import importlib\nimportlib.import_module('agents.play')", {"importlib", "agents.play"}),
    ],
)
def test_import_walk_sees(code, names):
    assert set(imported(ast.parse(code))) == names


def test_files_say_what_they_are_for():
    silent = [
        str(path.relative_to(ROOT))
        for floor in FLOORS
        for path in source_files(floor)
        if not (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").strip()
    ]
    assert not silent


def test_constraints_pin_every_dependency():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin) for pin in pins)  # no local versions, no links
    pinned = {normal(pin.split("==")[0]) for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {normal(re.match(r"[A-Za-z0-9._-]+", requirement)[0]) for requirement in wanted}
    assert names - pinned == {"coinfer-gym"}
