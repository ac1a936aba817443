"""Policies by name: what is found, what is refused, and what mistakes are answered with."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from baselines.policy import Policy
from baselines.registry import POLICIES, check_options, find_policy, make_policy
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


class Needs(Policy):
    def __init__(self, threshold):
        self.threshold = threshold

    def act(self, observation):
        return np.zeros(6, np.float32)


class Gives(Needs):
    def __init__(self, gain=1.0, **more):
        super().__init__(threshold=3.0)
        self.more = more


class Mixed(type("Mixin", (), {}), Needs):
    pass


def test_a_policy_of_the_user_may_read_its_options_itself():
    check_options("gives", Gives, {"gain": 2.0, "anything": 1})
    check_options("mixed", Mixed, {"threshold": 1.0})
    with pytest.raises(InvalidInputError, match="threshold: got None"):
        check_options("mixed", Mixed, {})
    with pytest.raises(InvalidInputError, match="It has no options"):
        check_options("plain", type("Plain", (Policy,), {}), {"a": 1})


def test_names_are_those_of_the_documentation():
    assert set(POLICIES) == {
        *("random", "constant", "myopic_exact", "myopic_sca", "robust_exact", "quantum"),
        *("slowdown", "queue_budget", "lyapunov", "predictive_control", "stochastic_dp", "clairvoyant"),
        *("layerwise_static", "layerwise_rival", "layerwise_reoptimize", "layerwise_menu", "layerwise_exact"),
        *("cell_free", "cell_equal", "cell_queue", "cell_prices", "cell_dp"),
        *("cell_joint", "cell_quantum"),
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
