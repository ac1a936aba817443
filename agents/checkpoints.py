"""What a checkpoint of a training run holds, and how a run goes on from it."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from agents.actors import actor_weights, find_actor
from agents.agent_file import read_agent
from agents.tensor_files import FORMAT
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.sb3_rewards import find_lagrangian, native_env

__all__ = ["find_checkpoints", "restore_training", "start_from", "training_state"]

_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_n_calls", "exploration_rate")  # the last two: DQN


def find_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a folder, the newest first."""
    return sorted(folder.glob("step_*.pt"), reverse=True)


def training_state(model: BaseAlgorithm, elapsed: float) -> dict[str, Any]:
    """Everything that a run needs to go on as if it had never stopped; the model must be between two rollouts."""
    _, variables = model._get_torch_save_params()
    state = {
        "format": FORMAT,
        "algorithm": type(model).__name__,
        "elapsed": elapsed,
        "counters": {name: getattr(model, name) for name in _COUNTERS if hasattr(model, name)},
        "parameters": model.get_parameters(),
        "variables": {name: getattr(model, name).data for name in variables or ()},
        "random": _random_state(model),
        "episodes": _episodes(model),
    }
    if isinstance(model, RecurrentPPO):
        memory: Any = model._last_lstm_states
        state["memory"] = [tuple(part) for part in memory]
    penalties = find_lagrangian(model.env)
    if penalties is not None:
        state["multiplier"] = penalties.multiplier
    if isinstance(model, OffPolicyAlgorithm) and isinstance(model.replay_buffer, ReplayBuffer):
        state["replay"] = _replay_state(model.replay_buffer)
    return state


def restore_training(model: BaseAlgorithm, state: Mapping[str, Any]) -> float:
    """Bring a freshly built model to a `training_state`; returns the seconds trained so far.

    `InvalidInputError` is raised if the state is of another algorithm, or of networks of another shape.
    """
    if state["algorithm"] != type(model).__name__:
        raise InvalidInputError("checkpoint: algorithm", state["algorithm"], f"This run is of {type(model).__name__}.")
    try:
        model.set_parameters(dict(state["parameters"]), exact_match=True, device=model.device)
    except (RuntimeError, ValueError, KeyError) as error:
        raise InvalidInputError("checkpoint", "other networks", f"It does not fit config.yaml: {error}") from error
    for name, value in state["variables"].items():
        getattr(model, name).data.copy_(value)
    for name, value in state["counters"].items():
        setattr(model, name, value)
    if "replay" in state and isinstance(model, OffPolicyAlgorithm) and isinstance(model.replay_buffer, ReplayBuffer):
        _restore_replay(model.replay_buffer, state["replay"])
    if isinstance(model, RecurrentPPO):
        memory: Any = RNNStates(*state["memory"])
        model._last_lstm_states = memory
    penalties = find_lagrangian(model.env)
    if penalties is not None:
        penalties.multiplier = state["multiplier"]
    _restore_episodes(model, state["episodes"])
    _restore_random(model, state["random"])
    return float(state["elapsed"])


def start_from(model: BaseAlgorithm, algo: str, activation: str, path: str) -> None:
    """Give a new model the actor of an agent's file, or of the folder of its run: one trained before, or a clone.

    `InvalidInputError` is raised if the file cannot be read, or its actor is another in names, shapes or activation.
    """
    weights, about = read_agent(path)
    if find_actor(about["algo"]) is not find_actor(algo):
        raise InvalidInputError("start", path, f"It is an actor of {about['algo']}, and {algo} has another form.")
    state = model.policy.state_dict()
    own = actor_weights(algo, state)
    for name in sorted({*own, *weights}):
        here, there = (tensors[name].shape if name in tensors else None for tensors in (own, weights))
        if here != there:
            raise InvalidInputError(f"start: {name}", there, f"The actor of this run has {here}: name another file.")
    if about["activation"] != activation:
        raise InvalidInputError("start: activation_fn", about["activation"], f"This run has {activation!r}.")
    for name, value in weights.items():
        prefix, dot, rest = name.partition(".")
        for target in (name, f"{prefix}_target{dot}{rest}"):  # TD3, DDPG and DQN follow themselves slowly
            if target in state:
                state[target].copy_(torch.from_numpy(value))


def _episodes(model: BaseAlgorithm) -> dict[str, Any] | None:
    """Running episodes; None where the environment cannot tell, so that a resumed run starts new ones."""
    snapshot = native_env(model.env).snapshot()
    if snapshot is None or model._last_obs is None:
        return None
    return snapshot | {"starts": np.asarray(model._last_episode_starts)}


def _restore_episodes(model: BaseAlgorithm, episodes: Mapping[str, Any] | None) -> None:
    if episodes is not None:
        model._last_obs = native_env(model.env).restore(dict(episodes))
        model._last_episode_starts = episodes["starts"]


def _random_state(model: BaseAlgorithm) -> dict[str, Any]:
    """States of the generators that stable-baselines3 draws from, the global ones among them."""
    return {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(legacy=True),  # noqa: NPY002  the replay buffer draws from it
        "python": random.getstate(),
        "actions": json.dumps(model.action_space.np_random.bit_generator.state),
    }


def _restore_random(model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])
    model.action_space.np_random.bit_generator.state = json.loads(state["actions"])


def _replay_state(buffer: ReplayBuffer) -> dict[str, Any]:
    """The filled part of a replay buffer."""
    filled = buffer.size()
    arrays = {name: getattr(buffer, name)[:filled] for name in _BUFFER if hasattr(buffer, name)}
    return {"arrays": arrays, "pos": buffer.pos, "full": buffer.full}


def _restore_replay(buffer: ReplayBuffer, state: Mapping[str, Any]) -> None:
    for name, saved in state["arrays"].items():
        getattr(buffer, name)[: len(saved)] = saved
    buffer.pos, buffer.full = state["pos"], state["full"]
