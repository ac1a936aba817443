"""Time of a decision in the default queue: three forwards of the shipped agent, beside the optimizers' policies."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, cast

import gymnasium as gym
import numpy as np
import onnxruntime  # type: ignore[import-untyped]

import coinfer_gym  # noqa: F401  registers the ids
from agents.evaluate import find_agent
from agents.export import build_graph
from agents.policy import load_agent
from agents.runs import RunConfig, build_model
from baselines.compare import load_config
from baselines.registry import make_policy
from baselines.rollout import measure as measure_world
from benchmarks.measure import interleave

_AGENT = "bert-multimodal"
_RULES = (
    "myopic exact",
    "queue budget",
    "predictive control",
    "stochastic DP",
    "SCA at the fixed cut",
    "quantum-inspired search",
)


def measure(repetitions: int = 5) -> dict[str, float]:
    """Microseconds per decision: of an actor alone, of the agent with its exact optimum, and of other policies."""
    forwards = interleave(_forwards(), repetitions)
    figures = {f"forward, {name}, us": statistics.median(times) * 1e6 for name, times in forwards.items()}
    config = load_config("configs/compare/full.yaml")
    env = gym.make(config.environment, **config.env)
    policies: dict[str, Any] = {"agent with its exact optimum": load_agent(find_agent(_AGENT))}
    policies |= {name: make_policy(config.policies[name].policy, config.policies[name].options) for name in _RULES}
    for name, policy in policies.items():
        policy.bind(env)
        times = [measure_world(env, policy, seed)["decision_us"] for seed in range(repetitions)]
        figures[f"decision, {name}, us"] = statistics.median(times)
    return figures


def _forwards() -> dict[str, tuple[Callable[[], object], int]]:
    """The deterministic actor in NumPy, in onnxruntime, and a model of its form in stable-baselines3."""
    agent = load_agent(find_agent(_AGENT))
    run = RunConfig(algo=agent.algo, env_kwargs=agent.config["env_kwargs"], wrapper=agent.config["wrapper"])
    model = build_model(run, run.load_hyperparameters())
    observed = cast("tuple[int, ...]", model.observation_space.shape)
    rows = np.random.default_rng(0).uniform(-1.0, 1.0, (1000, *observed)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a network this small loses more by waiting for a second one
    session = onnxruntime.InferenceSession(build_graph(_AGENT).SerializeToString(), options)
    return {
        "NumPy": (lambda: [agent.predict(row, deterministic=True) for row in rows], len(rows)),
        "onnxruntime": (lambda: [session.run(None, {"observation": row[None]}) for row in rows], len(rows)),
        "SB3 predict": (lambda: [model.predict(row, deterministic=True) for row in rows], len(rows)),
    }
