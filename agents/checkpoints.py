"""Checkpoints of a training run: written atomically, read without unpickling, damaged ones recognised."""

from __future__ import annotations

import json
import os
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from agents.vec_env import NativeVecEnv
from coinfer_gym.errors import InvalidInputError

__all__ = ["find_checkpoints", "load_tensors", "restore_training", "save_tensors", "training_state"]

FORMAT = 1

_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")


def save_tensors(content: Mapping[str, Any], path: Path) -> None:
    """Write tensors, arrays and plain values to a file, all of it or nothing.

    Parameters
    ----------
    content : mapping
        Nested dictionaries, lists and tuples; arrays are stored with their dtype, structured ones too.
    path : Path
        An older file of this name is replaced only once the new one is complete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(_pack(dict(content)), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_tensors(path: Path, remedy: str) -> dict[str, Any]:
    """Read what `save_tensors` wrote; nothing is unpickled but tensors and plain values.

    Parameters
    ----------
    path : Path
    remedy : str
        What to do where the file cannot be read.

    Returns
    -------
    dict

    Raises
    ------
    InvalidInputError
        If the file is missing, truncated, damaged or of another kind; it names the file and the remedy.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not verify the checksums
            broken = archive.testzip()
        if broken is not None:
            raise ValueError(f"bad checksum of {broken}")
        content = _unpack(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise InvalidInputError("file", str(path), f"There is no such file. {remedy}") from error
    except Exception as error:  # whatever a damaged archive makes the readers say
        raise InvalidInputError("file", str(path), f"It is damaged or of another kind. {remedy}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InvalidInputError("file", str(path), f"It is not of format {FORMAT}. {remedy}")
    return content


def find_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a folder, the newest first."""
    return sorted(folder.glob("step_*.pt"), reverse=True)


def training_state(model: BaseAlgorithm, elapsed: float) -> dict[str, Any]:
    """Everything that a resumed run needs to go on as if it had never stopped.

    Parameters
    ----------
    model : BaseAlgorithm
        Between two rollouts.
    elapsed : float
        Seconds of training so far.

    Returns
    -------
    dict
        Parameters of networks and optimizers, counters, all random generators, running episodes, and the replay buffer
        of SAC.
    """
    _, variables = model._get_torch_save_params()
    state = {
        "format": FORMAT,
        "algorithm": type(model).__name__,
        "elapsed": elapsed,
        "counters": {name: getattr(model, name) for name in _COUNTERS},
        "parameters": model.get_parameters(),
        "variables": {name: getattr(model, name).data for name in variables or ()},
        "random": _random_state(model),
        "episodes": _episodes(model),
    }
    if isinstance(model, OffPolicyAlgorithm) and isinstance(model.replay_buffer, ReplayBuffer):
        state["replay"] = _replay_state(model.replay_buffer)
    return state


def restore_training(model: BaseAlgorithm, state: Mapping[str, Any]) -> float:
    """Bring a freshly built model to a `training_state`; returns the seconds trained so far.

    Raises
    ------
    InvalidInputError
        If the state is of another algorithm, or of networks of another shape.
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
    _restore_episodes(model, state["episodes"])
    _restore_random(model, state["random"])
    return float(state["elapsed"])


def _episodes(model: BaseAlgorithm) -> dict[str, Any] | None:
    """Running episodes; None where the environment cannot tell, so that a resumed run starts new ones."""
    env = model.env
    snapshot = env.snapshot() if isinstance(env, NativeVecEnv) else None
    if snapshot is None or model._last_obs is None:
        return None
    return snapshot | {"starts": np.asarray(model._last_episode_starts)}


def _restore_episodes(model: BaseAlgorithm, episodes: Mapping[str, Any] | None) -> None:
    if episodes is not None and isinstance(model.env, NativeVecEnv):
        model._last_obs = model.env.restore(dict(episodes))
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


def _pack(value: Any) -> Any:
    """Arrays as tensors of bytes: the reader of weights knows no arrays."""
    if isinstance(value, np.ndarray):
        raw = torch.from_numpy(np.frombuffer(value.tobytes(), np.uint8).copy()) if value.size else torch.empty(0)
        return {"__array__": raw, "dtype": _describe(value.dtype), "shape": list(value.shape)}
    if isinstance(value, Mapping):
        return {key: _pack(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_pack(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value


def _unpack(value: Any) -> Any:
    if isinstance(value, dict) and "__array__" in value:
        return _array(value)
    if isinstance(value, dict):
        return {key: _unpack(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_unpack(item) for item in value)
    return value


def _array(packed: Mapping[str, Any]) -> NDArray[Any]:
    described = packed["dtype"]
    dtype = np.dtype(described if isinstance(described, str) else [tuple(field) for field in described])
    return np.frombuffer(packed["__array__"].numpy().tobytes(), dtype).reshape(packed["shape"]).copy()


def _describe(dtype: np.dtype[Any]) -> str | list[list[str]]:
    if dtype.names is None:
        return dtype.str
    return [[name, dtype[name].str] for name in dtype.names]
