"""The file of a trained agent: the actor's weights in safetensors, and what they belong to as its metadata."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.actors import actor_weights, find_actor
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import write_bytes

__all__ = ["AGENT_FILE", "read_agent", "save_agent"]

AGENT_FILE = "agent.safetensors"
"""Name of an agent's file in the folder of its run."""

_FORMAT = 1


def save_agent(
    path: Path,
    algo: str,
    weights: Mapping[str, Any],
    config: Mapping[str, Any],
    activation: str | None = None,
    timesteps: int = 0,
) -> None:
    """Write an agent's file, whole or not at all.

    Parameters
    ----------
    path : Path
    algo : str
    weights : mapping of str to ndarray or Tensor
        ``policy.state_dict()``; only the actor's tensors are written.
    config : mapping
        Plain values. ``env``, ``env_kwargs`` and ``wrapper`` tell where the agent was trained.
    activation : str, optional
        Between the layers; by default that of the algorithm.
    timesteps : int
        Decisions that the agent was trained for.
    """
    from safetensors.numpy import save

    actor = actor_weights(algo, weights)
    about = {
        "format": _FORMAT,
        "algo": algo,
        "activation": activation or find_actor(algo).activation,
        "timesteps": timesteps,
        "crc32": _checksum(actor),
        "config": dict(config),
    }
    write_bytes(path, save(actor, {"agent": json.dumps(about)}))


def read_agent(path: str | Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """Read an agent's file. It holds no code.

    Parameters
    ----------
    path : str or Path
        The file, or the folder of its run.

    Returns
    -------
    weights : dict of ndarray
        Tensors of the actor by their names in ``policy.state_dict()``.
    about : dict
        ``algo``, ``activation``, ``timesteps`` and ``config``.

    Raises
    ------
    InvalidInputError
        If there is no such file, or it is damaged or of another kind.
    """
    from safetensors import safe_open

    file = Path(path) / AGENT_FILE if Path(path).is_dir() else Path(path)
    remedy = "Train the agent again, or take it from its checkpoint by --resume."
    try:
        with safe_open(file, framework="numpy") as content:
            about = json.loads((content.metadata() or {})["agent"])
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118  it is no mapping
        whole = about["crc32"] == _checksum(weights) and {"algo", "activation", "config"} <= set(about)
        version = about["format"]
    except FileNotFoundError as error:
        raise InvalidInputError("file", str(file), f"There is no such file. {remedy}") from error
    except Exception as error:  # a damaged file can raise anything in its readers
        raise InvalidInputError("file", str(file), f"It is damaged or of another kind. {remedy}") from error
    if version != _FORMAT:
        raise InvalidInputError("file", str(file), f"It is not of format {_FORMAT}. {remedy}")
    if not whole:
        raise InvalidInputError("file", str(file), f"It is damaged. {remedy}")
    return weights, about


def _checksum(weights: Mapping[str, NDArray[np.float32]]) -> int:
    """Checksum of all tensors, which safetensors itself does not have."""
    value = 0
    for name in sorted(weights):
        value = zlib.crc32(weights[name].tobytes(), zlib.crc32(name.encode(), value))
    return value
