"""Policies by name: what is found, what is refused, and what mistakes are answered with."""

import subprocess
import sys
from pathlib import Path

import pytest

from baselines.registry import POLICIES, find_policy, make_policy
from baselines.rules import MyopicExact
from coinfer_gym import InvalidInputError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("myopic_exac", "Did you mean 'myopic_exact'"),
        ("agent", "agents.policy:load_agent"),
        ("os:system", "--trust os"),
        ("baselines_evil.x:y", "--trust baselines_evil.x"),
        ("coinfer_gym.files:write_text", "--trust"),
        ("baselines.nowhere:thing", "No module named"),
        ("baselines.rules:MyopicExakt", "Did you mean 'MyopicExact'"),
        ("baselines.output:render", "no policy"),
        ("baselines.compare:compare", "no policy"),
        ("baselines.rules:LAIM", "no policy"),
    ],
)
def test_unknown_policy_is_explained(name, message):
    with pytest.raises(InvalidInputError, match=message):
        find_policy(name)


def test_policy_by_import_path():
    assert find_policy("baselines.rules:MyopicExact") is MyopicExact
    assert isinstance(make_policy("baselines.rules:MyopicExact", {"cut": 2}), MyopicExact)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("myopic_exact", {"cuts": 1}, "Did you mean 'cut'"),
        ("clairvoyant", {"cut": 1}, "Did you mean 'steps'|steps"),
        ("constant", {}, "action"),
        ("cell_free", {"prt": 1.0}, "Did you mean 'part'"),
        ("cell_joint", {"leest": 1.0}, "Did you mean 'least'"),
    ],
)
def test_options_are_checked(name, options, message):
    with pytest.raises(InvalidInputError, match=message):
        make_policy(name, options)


def test_names_are_those_of_the_documentation():
    assert set(POLICIES) == {
        *("random", "constant", "myopic_exact", "myopic_sca", "robust_exact", "quantum"),
        *("slowdown", "queue_budget", "lyapunov", "predictive_control", "stochastic_dp", "clairvoyant"),
        *("layerwise_static", "layerwise_rival", "layerwise_reoptimize", "layerwise_menu", "layerwise_exact"),
        *("cell_free", "cell_equal", "cell_queue", "cell_prices", "cell_joint", "cell_quantum"),
    }


def test_everything_is_imported_without_learning_libraries():
    code = (
        "import importlib, pkgutil, sys, baselines\n"
        "for module in pkgutil.walk_packages(baselines.__path__, 'baselines.'):\n"
        "    importlib.import_module(module.name)\n"
        "print({'torch', 'stable_baselines3', 'transformers', 'pygame', 'agents', 'studies'} & set(sys.modules))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
