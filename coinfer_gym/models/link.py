"""Activations as bytes and back: safetensors, in 32-, 16- or 8-bit values."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.inputs import check_choice

VALUE_BITS = {"fp32": 32, "fp16": 16, "int8": 8}
"""Bits of one activation value at each precision."""

_FLOATS = {"fp32": torch.float32, "fp16": torch.float16}
_LARGEST_FP16 = torch.finfo(torch.float16).max
_INT8_MAX = 127
_LENGTH_BYTES = 8


def pack(activations: Mapping[str, Tensor], precision: str = "fp32") -> bytes:
    """Activations as one message.

    Parameters
    ----------
    activations : mapping of str to Tensor
        What the device half of a cut network returns.
    precision : {"fp32", "fp16", "int8"}
        Of floating-point tensors: as they are up to 32 bits, rounded to 16, or to 8 with one symmetric scale each,
        ``max |x| / 127``. Whole numbers (token ids, masks, shapes) are exact: 16 bits each where all fit, else 32,
        else 64.

    Returns
    -------
    bytes
        In the safetensors format: 8 bytes, the header (names, shapes, types, scales, layouts), and the payload. The
        payload of the hidden state has exactly the bits that `Workload.upload_bits` says of this cut, for a workload
        made with the same ``bits_per_value``; likewise the token ids of cut 0, and the pixels of cut 0 in ``int8``.

    Raises
    ------
    InvalidInputError
        If the precision is unknown, or ``int8`` meets an infinite value.
    """
    check_choice("precision", precision, VALUE_BITS)
    given: object = activations
    if not isinstance(given, Mapping) or not all(isinstance(value, Tensor) for value in given.values()):
        raise InvalidInputError("activations", given, "Give a mapping of names to tensors.")
    tensors, notes = {}, {}
    for name, value in activations.items():
        # As it lies in memory, since sums over a tensor that lies there otherwise may round otherwise.
        order = sorted(range(value.dim()), key=value.stride, reverse=True)
        # A copy: safetensors takes no tensors that share memory, as outputs that are views of one another do.
        copied = value.detach().cpu().permute(order).clone(memory_format=torch.contiguous_format)
        tensors[name], scale = _narrow(name, copied, precision)
        notes[name] = f"{str(value.dtype).removeprefix('torch.')} {scale.hex()} {','.join(map(str, order))}"
    return save(tensors, metadata=notes)


def unpack(message: bytes) -> dict[str, Tensor]:
    """Activations from a message of `pack`, in their original types and layouts in memory.

    Raises
    ------
    InvalidInputError
        If the message is not one of `pack`, or was cut short.
    """
    if not isinstance(message, bytes):
        raise InvalidInputError("message", message, "Give bytes made by pack.")
    try:
        header = json.loads(message[_LENGTH_BYTES : _LENGTH_BYTES + _header_bytes(message)])
        notes = {name: note.split() for name, note in header["__metadata__"].items()}
        tensors = load(message)
        return {name: _widen(tensors[name], *note) for name, note in notes.items()}
    except (SafetensorError, ValueError, LookupError, RuntimeError, AttributeError, TypeError, struct.error) as error:
        raise InvalidInputError(
            "message", f"{len(message)} bytes", f"Give a whole message made by pack: {error}"
        ) from error


def payload_bits(message: bytes) -> int:
    """Bits of the tensors in a message, without its header."""
    return 8 * (len(message) - _LENGTH_BYTES - _header_bytes(message))


def _header_bytes(message: bytes) -> int:
    return int(struct.unpack("<Q", message[:_LENGTH_BYTES])[0])


def _narrow(name: str, value: Tensor, precision: str) -> tuple[Tensor, float]:
    """Tensor in the type of the link, and the scale that takes it back."""
    if not value.is_floating_point():
        return _narrow_whole(value), 1.0
    if precision != "int8":
        if precision == "fp16" and value.dtype != torch.float16:
            # What is too large for 16 bits becomes the largest number instead of infinity.
            value = value.clamp(-_LARGEST_FP16, _LARGEST_FP16)
        return value.to(_FLOATS[precision]).contiguous(), 1.0
    largest = float(value.abs().max()) if value.numel() else 0.0
    if not math.isfinite(largest):
        raise InvalidInputError(f"activations: {name}", largest, "int8 takes finite values only: use fp32.")
    scale = largest / _INT8_MAX or 1.0
    return (value / scale).round().clamp(-_INT8_MAX, _INT8_MAX).to(torch.int8).contiguous(), scale


def _narrow_whole(value: Tensor) -> Tensor:
    if value.dtype != torch.int64:
        return value.contiguous()
    lowest, highest = (int(value.min()), int(value.max())) if value.numel() else (0, 0)
    if lowest >= 0 and highest < 2**16:
        return value.to(torch.uint16).contiguous()
    return value.to(torch.int32).contiguous() if lowest >= -(2**31) and highest < 2**31 else value.contiguous()


def _widen(value: Tensor, dtype_name: str, scale: str, order: str = "") -> Tensor:
    dtype: Any = getattr(torch, dtype_name)
    factor = float.fromhex(scale)
    # A copy: the tensor as loaded lies in the message, wherever the header happens to end.
    wide = (
        value.to(dtype) * factor if value.dtype == torch.int8 and dtype.is_floating_point else value.to(dtype).clone()
    )
    places = [int(place) for place in order.split(",")] if order else []
    return wide.permute(sorted(range(len(places)), key=places.__getitem__))
