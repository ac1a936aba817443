"""Compiled code on disk: it follows the formulas that it was made of, and only these."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CALLER = """
from coinfer_gym._compile import fingerprint, kernel
from callee import double, SHIFT
import callee

@kernel
def compute(x):
    return double(x) + SHIFT + callee.OFFSET

print(compute(1.0), fingerprint(compute))
"""
CALLEE = """
from coinfer_gym._compile import kernel
SHIFT, OFFSET = 0.0, 0.0

@kernel
def double(x):
    '''Double.'''
    return 2.0 * x
"""


def run(folder, callee, **environment):
    """What a process prints that calls a compiled function of one file, which calls one of another."""
    (folder / "callee.py").write_text(callee)
    (folder / "caller.py").write_text(CALLER)
    variables = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "PYTHONDONTWRITEBYTECODE": "1"} | environment
    result = subprocess.run(
        [sys.executable, "caller.py"], cwd=folder, env=variables, capture_output=True, text=True, check=True
    )
    value, digest = result.stdout.split()
    return float(value), digest


def test_old_machine_code_never_outlives_the_formula_it_was_made_of(tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}  # set by hand, as users do
    value, first = run(tmp_path, CALLEE, **cache)
    assert value == 2.0
    assert run(tmp_path, CALLEE, **cache) == (2.0, first)
    for old, new, expected in (
        ("2.0 * x", "3.0 * x", 3.0),
        ("SHIFT, OFFSET = 0.0, 0.0", "SHIFT, OFFSET = 5.0, 1.0", 8.0),
    ):
        value, digest = run(tmp_path, CALLEE.replace(old, new), **cache)
        assert (value, digest != first) == (expected, True)


def test_comments_and_line_numbers_do_not_count(tmp_path):
    _, first = run(tmp_path, CALLEE)
    commented = "# a comment\n" + CALLEE.replace("Double.", "Twice as much.\n")
    assert run(tmp_path, commented) == (2.0, first)


def test_formulas_run_interpreted(tmp_path):
    assert run(tmp_path, CALLEE, NUMBA_DISABLE_JIT="1")[0] == 2.0


PAIR = """
from collections import namedtuple
from coinfer_gym._compile import kernel

{name} = namedtuple("{name}", "first second")

@kernel
def add(pair):
    return pair.first + pair.second

print(add({name}(1.0, 2.0)), len(add.stats.cache_hits))
"""


def test_index_on_disk_that_names_a_class_which_is_gone_is_compiled_anew(tmp_path):
    (tmp_path / "use.py").write_text("import pair")
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    variables = os.environ | cache | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    for name, hits in (("Old", "0"), ("Old", "1"), ("New", "0"), ("New", "1")):
        (tmp_path / "pair.py").write_text(PAIR.format(name=name))
        result = subprocess.run(
            [sys.executable, "use.py"], cwd=tmp_path, env=variables, capture_output=True, text=True, check=True
        )
        assert result.stdout.split() == ["3.0", hits]


RETURNED = """
from typing import NamedTuple
from coinfer_gym._compile import kernel

class {name}(NamedTuple):
    first: float
    second: float

Pair = {name}

@kernel
def both(x):
    return Pair(x, 2.0 * x)

print(both(1.0).second, sum(both.stats.cache_hits.values()))
"""


def test_code_on_disk_that_returns_a_class_which_is_gone_is_compiled_anew(tmp_path):
    (tmp_path / "use.py").write_text("import pair")
    variables = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    variables |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    for name, hits in (("Old", "0"), ("New", "0"), ("New", "1")):
        (tmp_path / "pair.py").write_text(RETURNED.format(name=name))
        result = subprocess.run(
            [sys.executable, "use.py"], cwd=tmp_path, env=variables, capture_output=True, text=True, check=True
        )
        assert result.stdout.split() == ["2.0", hits]


def test_without_a_folder_to_write_code_is_compiled_anew_with_one_warning(tmp_path):
    code = f"""
import sys, warnings
sys.path.insert(0, {str(ROOT)!r})
from numba.core import caching
caching.CacheImpl._locator_classes = []
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from coinfer_gym.physics import compute_delay
assert [str(each.message) for each in caught if "NUMBA_CACHE_DIR" in str(each.message)], caught
assert len([each for each in caught if "NUMBA_CACHE_DIR" in str(each.message)]) == 1
assert compute_delay(1.0, 8.0, 2.0, 2.0) == 2.0
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_fingerprints_are_the_same_in_every_process():
    code = """
import coinfer_gym.laim.env, coinfer_gym.layerwise.env, coinfer_gym.layerwise.optimum, sys
from numba.core.dispatcher import Dispatcher
from coinfer_gym._compile import fingerprint
found = {}
for name, module in sorted(sys.modules.items()):
    if name.startswith("coinfer_gym"):
        kernels = {key: value for key, value in vars(module).items() if isinstance(value, Dispatcher)}
        found |= {f"{name}.{key}": fingerprint(value) for key, value in kernels.items()}
assert len(found) > 50
print(found)
"""
    runs = [
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
