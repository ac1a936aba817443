"""The file of a trained agent: the actor's weights in safetensors, and what they belong to as its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.actors import ACTIVATIONS, actor_weights, find_actor
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.files import read_json, write_bytes

__all__ = ["AGENT_FILE", "read_agent", "save_agent"]

AGENT_FILE = "agent.safetensors"
"""Name of an agent's file in the folder of its run."""

_FORMAT = 2  # since then the digest covers the metadata, too
_CARD = "card.json"


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
        "config": dict(config),
    }
    about["sha256"] = _digest(actor, about)
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
        If there is no such file, it is damaged or of another kind, or a card beside it is that of another file.
    """
    from safetensors.numpy import load

    file = Path(path) / AGENT_FILE if Path(path).is_dir() else Path(path)
    remedy = "Train the agent again, or take it from its checkpoint by --resume."
    try:
        content = file.read_bytes()
    except OSError as error:
        hint = "There is no such file." if not file.exists() else f"It cannot be read: {error.strerror}."
        raise InvalidInputError("file", str(file), f"{hint} {remedy}") from error
    try:
        weights = load(content)
        length = int.from_bytes(content[:8], "little")
        about = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["agent"])
        version = about["format"]
    except Exception as error:  # a damaged file can raise anything in its readers
        raise InvalidInputError("file", str(file), f"It is damaged or of another kind. {remedy}") from error
    if version != _FORMAT:
        raise InvalidInputError("file", str(file), f"It is not of format {_FORMAT}. {remedy}")
    if about.get("sha256") != _digest(weights, about):
        raise InvalidInputError("file", str(file), f"It is damaged: its digest does not match. {remedy}")
    _check_about(str(file), about)
    for name, values in weights.items():
        if not np.isfinite(values).all():
            raise InvalidInputError(f"{file}: {name}", "NaN or infinity", f"Its training diverged. {remedy}")
    _check_card(file, content)
    return weights, about


def _check_about(file: str, about: Mapping[str, Any]) -> None:
    find_actor(str(about.get("algo")))
    activation, timesteps, config = (about.get(name) for name in ("activation", "timesteps", "config"))
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise InvalidInputError(f"{file}: activation", activation, nearest(str(activation), ACTIVATIONS))
    if not isinstance(timesteps, int) or isinstance(timesteps, bool) or timesteps < 0:
        raise InvalidInputError(f"{file}: timesteps", timesteps, "It must be a whole number.")
    if not isinstance(config, dict) or not isinstance(config.get("env_kwargs", {}), dict):
        raise InvalidInputError(f"{file}: config", config, "It must be a mapping, and so must its env_kwargs.")


def _check_card(file: Path, content: bytes) -> None:
    """Raise `InvalidInputError` if the card beside a shipped agent describes another file."""
    card = file.with_name(_CARD)
    if not card.is_file():
        return
    told = read_json(card, "card")
    if not isinstance(told, dict) or told.get("sha256") != hashlib.sha256(content).hexdigest():
        raise InvalidInputError("file", str(file), f"It is not the agent that {_CARD} beside it describes.")


def _digest(weights: Mapping[str, NDArray[np.float32]], about: Mapping[str, Any]) -> str:
    """Digest of all tensors and of the metadata, which safetensors itself does not have."""
    found = hashlib.sha256()
    found.update(json.dumps({name: about[name] for name in sorted(about) if name != "sha256"}, sort_keys=True).encode())
    for name in sorted(weights):
        found.update(f"{name} {weights[name].dtype} {weights[name].shape}".encode())
        found.update(weights[name].tobytes())
    return found.hexdigest()
