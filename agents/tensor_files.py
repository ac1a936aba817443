"""Files of tensors, arrays and plain values: written atomically, read without unpickling, damage recognised."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import write_bytes

__all__ = ["FORMAT", "load_tensors", "save_tensors"]

FORMAT = 1
"""Version of what the files hold, their entry ``format``."""


def save_tensors(content: Mapping[str, Any], path: Path) -> None:
    """Write tensors, arrays and plain values, nested in dictionaries, lists and tuples, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(_pack(dict(content)), buffer)
    write_bytes(path, buffer.getvalue())


def load_tensors(path: Path, remedy: str) -> dict[str, Any]:
    """Read what `save_tensors` wrote; nothing is unpickled but tensors and plain values.

    `InvalidInputError` with the `remedy` is raised if the file is missing, damaged or of another kind.
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
