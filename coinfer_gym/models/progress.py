"""Keeps a training in one file, so that it goes on where it was interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import write_bytes


def save_progress(path: Path, tensors: Mapping[str, Tensor], update: int) -> None:
    """Write everything that a training changes, and the number of its next update."""
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(whole, metadata={"update": str(update)}))


@torch.no_grad()
def resume(path: Path, tensors: Mapping[str, Tensor]) -> int:
    """Fill tensors in place from a file of `save_progress`; returns the number of the next update.

    Raises
    ------
    InvalidInputError
        If the file is damaged, or holds other tensors.
    """
    try:
        with safe_open(path, framework="pt") as file:
            kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
            update = int(file.metadata()["update"])
        if {name: tensor.shape for name, tensor in kept.items()} != {
            name: tensor.shape for name, tensor in tensors.items()
        }:
            raise ValueError("it holds other weights")
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise InvalidInputError(
            "progress", str(path), f"The file is damaged or of another network, remove it: {error}"
        ) from error
    for name, tensor in tensors.items():
        tensor.copy_(kept[name])
    return update
