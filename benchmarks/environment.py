"""Steps per second of the environments, single and batched, against Gymnasium's own in the same run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np

import coinfer_gym  # noqa: F401  registers the ids
from benchmarks.measure import interleave
from coinfer_gym.layerwise.network import load_network
from coinfer_gym.layerwise.predictor import RegressionPredictor, feature_names
from coinfer_gym.layerwise.trees import LEAF

LANES = 4096
CELLS, DEVICES = 1024, (4, 16, 64)
"""Lanes of Cell-v0, and devices that share the band and the server of `cell-16` in each."""
TREES, DEPTH = 100, 3
"""Size of the predictor of Layerwise-v0, that of gradient boosting as scikit-learn sets it."""
_STEPS = 20_000
_BATCHES = 200  # at least one whole episode of every lane, its reset included
_TASKS = 25  # of each device of a cell, so that whole episodes are short there too
_TURNS = 2  # of the lanes, for each repetition of the rest


def measure(repetitions: int = 7) -> dict[str, float]:
    """Microseconds per step and lane steps per second, and their ratios.

    All but the lanes on all cores are timed by what their thread takes of a core, and of the lanes the best turn
    counts, so that other processes move the figures little. Lanes on all cores go by the clock, beside CartPole-v1.
    """
    single = interleave(
        {
            "LAIM-v0": (_single("coinfer_gym/LAIM-v0"), _STEPS),
            "Pendulum-v1": (_single("Pendulum-v1"), _STEPS),
        },
        repetitions,
        time.thread_time,
    )
    batches = {
        "CartPole-v1": _vector("CartPole-v1"),
        "LAIM-v0 queueing": _vector("coinfer_gym/LAIM-v0"),
        "LAIM-v0 one_at_a_time": _vector("coinfer_gym/LAIM-v0", arrivals="one_at_a_time"),
    }
    with tempfile.TemporaryDirectory() as folder:
        for network in ("alexnet", "regnet"):
            file = Path(folder) / f"{network}.json"
            file.write_text(_predictor(network).to_json(), encoding="utf-8")
            world: dict[str, Any] = {"scenario": f"{network}-rpi4b-4g", "predictor": str(file)}
            batches[f"Layerwise-v0 {network} queueing"] = _vector("coinfer_gym/Layerwise-v0", **world)
            batches[f"Layerwise-v0 {network} one_at_a_time"] = _vector(
                "coinfer_gym/Layerwise-v0", arrivals="one_at_a_time", **world
            )
    cells = {}
    for devices in DEVICES:
        world = {"scenario": "cell-16", "devices": devices, "tasks": _TASKS}
        cells[f"Cell-v0 of {devices} devices"] = _vector("coinfer_gym/Cell-v0", CELLS, devices * _TASKS, **world)
    vector = interleave({**batches, **cells}, _TURNS * repetitions, time.thread_time)
    cart = min(vector["CartPole-v1"])
    on_cores = {"one core": batches["CartPole-v1"], "all cores": _vector("coinfer_gym/LAIM-v0", parallel=True)}
    cores = interleave(on_cores, _TURNS * repetitions)
    figures = {
        "single: LAIM-v0, us/step": median(single["LAIM-v0"]) * 1e6,
        "single: Pendulum-v1, us/step": median(single["Pendulum-v1"]) * 1e6,
        "single: rate of LAIM-v0 to Pendulum-v1": median(single["Pendulum-v1"]) / median(single["LAIM-v0"]),
        "vector 4096: CartPole-v1 native, M steps/s": 1e-6 / cart,
    }
    for name in [*list(batches)[1:], *cells]:
        lanes = CELLS if name in cells else LANES
        figures[f"vector {lanes}: {name}, M steps/s"] = 1e-6 / min(vector[name])
        figures[f"vector {lanes}: rate of {name} to CartPole-v1"] = cart / min(vector[name])
    figures["vector 4096: LAIM-v0 queueing, all cores, M steps/s"] = 1e-6 / min(cores["all cores"])
    figures["vector 4096: rate of LAIM-v0 queueing, all cores to CartPole-v1"] = min(cores["one core"]) / min(
        cores["all cores"]
    )
    figures["vector 4096: peak memory of the process, MB"] = _peak_memory()
    return figures


def _predictor(network: str) -> RegressionPredictor:
    """Full trees of random tests: what a prediction takes depends on their number and depth alone."""
    generator, groups = np.random.default_rng(0), [group.name for group in load_network(network).groups]
    features = feature_names(groups, noisy=False)
    tree = [True]
    for _ in range(DEPTH):  # in preorder: a test, what is below its first child, what is below its second
        tree = [False, *tree, *tree]
    is_leaf = np.array(tree * TREES)
    tests = np.where(is_leaf, LEAF, generator.integers(0, len(features), is_leaf.size))
    numbers = np.where(is_leaf, generator.normal(0.0, 1e-3, is_leaf.size), generator.random(is_leaf.size))
    return RegressionPredictor(
        "random", network, 0.85, features, "Trees", {}, 0.85, np.zeros(len(features)), tests, numbers
    )


def _single(name: str) -> Callable[[], None]:
    env = gym.make(name)
    actions = _actions(env.action_space, _STEPS)
    env.reset(seed=0)

    def run() -> None:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    return run


def _vector(name: str, lanes: int = LANES, batches: int = _BATCHES, **options: Any) -> tuple[Callable[[], None], int]:
    """Some batches of steps of a native vector environment, and how many steps of lanes they are."""
    envs = gym.make_vec(name, num_envs=lanes, vectorization_mode="vector_entry_point", **options)
    actions = _actions(envs.single_action_space, lanes)
    envs.reset(seed=0)

    def run() -> None:
        for _ in range(batches):
            envs.step(actions)

    return run, lanes * batches


def _actions(space: gym.Space[Any], count: int) -> Any:
    generator = np.random.default_rng(0)
    if isinstance(space, gym.spaces.Discrete):
        return generator.integers(0, space.n, count)
    assert isinstance(space, gym.spaces.Box)
    return generator.uniform(space.low, space.high, (count, *space.shape)).astype(np.float32)


def _peak_memory() -> float:
    """Peak resident memory in MB of a process of its own that steps the 4096 lanes."""
    program = "import resource, benchmarks.environment as e; e._vector('coinfer_gym/LAIM-v0')[0](); "
    program += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout) / 1024.0
