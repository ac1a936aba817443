"""Workloads: a neural network as a chain of blocks that can be cut between any two of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from coinfer_gym.checks import check_keys, check_number, check_text, is_number
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import find_file, read_yaml, shipped_names, write_text

_FOLDER = resources.files("coinfer_gym.laim") / "workloads"

_BLOCK_KEYS = ("name", "flops", "parameters", "activation_bits", "laplacian_rate")
_OPTIONAL_BLOCK_KEYS = ("prunable", "reads", "step_flops", "cache_bits", "cache_read_bits")
_RANGES = (
    ("flops", 0.0, 1e30, "FLOP"),
    ("parameters", 0.0, 1e18, ""),
    ("activation_bits", 0.0, 1e18, "bit"),
    ("laplacian_rate", 1e-12, 1e12, "= 1 / mean(|weight|)"),
    ("prunable", 0.0, 1e18, ""),
    ("reads", 0.0, 1e12, ""),
    ("step_flops", 0.0, 1e30, "FLOP"),
    ("cache_bits", 0.0, 1e18, "bit"),
    ("cache_read_bits", 0.0, 1e24, "bit"),
)
"""Least and largest values of a block's numbers, and their units."""
_OPTIONAL_WORKLOAD_KEYS = ("value_bits", "parameter_bits", "steps", "tied")
_WORKLOAD_KEYS = ("name", "description", "input_bits", *_OPTIONAL_WORKLOAD_KEYS, "flops", "parameters", "blocks")

MOST_VALUE_BITS = 64
"""Widest value of an activation, and widest parameter."""


@dataclass(frozen=True)
class Block:
    """One block of the chain.

    Attributes
    ----------
    name : str
        Name of the block in its network.
    flops : float
        Floating-point operations of a task, `L_j`.
    parameters : int
        Number of weights that are stored.
    activation_bits : float
        Size of the block's output in bits, `S_j`.
    laplacian_rate : float
        Rate `lambda_j` of the Laplacian that fits the block's prunable weights, `1 / E|w|`.
    prunable : int, optional
        Number of weights that pruning may remove, `N_j` of every quality: not embeddings, norms and biases. By default
        all `parameters`.
    reads : float
        How often the first pass reads the block's weights from memory.
    step_flops : float
        Of the FLOPs, those of the workload's further passes.
    cache_bits : float
        Size in bits of the keys and values that the block keeps, at the end of a task.
    cache_read_bits : float
        Bits of kept keys and values that a task reads from memory.
    """

    name: str
    flops: float
    parameters: int
    activation_bits: float
    laplacian_rate: float
    prunable: int = None  # type: ignore[assignment]  # set below where not given
    reads: float = 1.0
    step_flops: float = 0.0
    cache_bits: float = 0.0
    cache_read_bits: float = 0.0

    def __post_init__(self) -> None:
        check_text("block: name", self.name)
        if self.prunable is None:
            object.__setattr__(self, "prunable", self.parameters)
        for field, low, high, unit in _RANGES:
            check_number(f"block {self.name!r}: {field}", getattr(self, field), low, high, unit)
        if self.prunable > self.parameters:
            remedy = f"Give at most its parameters, {self.parameters}."
            raise InvalidInputError(f"block {self.name!r}: prunable", self.prunable, remedy)
        if self.step_flops > self.flops:
            raise InvalidInputError(
                f"block {self.name!r}: step_flops", self.step_flops, f"Give at most its flops, {self.flops}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Mapping of the form that the YAML files have; what has its default is left out."""
        data = {key: getattr(self, key) for key in _BLOCK_KEYS}
        if self.prunable != self.parameters:
            data["prunable"] = self.prunable
        for key in _OPTIONAL_BLOCK_KEYS[1:]:
            if getattr(self, key) != getattr(Block, key):
                data[key] = getattr(self, key)
        return data


@dataclass(frozen=True)
class Workload:
    """A network of `J` blocks; cut `s` in `0..J` puts blocks `1..s` on the device.

    Attributes
    ----------
    name : str
        Name of the workload.
    input_bits : float
        Size of the raw sample in bits, `S_0`: what cut 0 uploads.
    blocks : tuple of Block
        The blocks in the order of the forward pass.
    description : str
        Where the numbers come from.
    value_bits : int
        Bits of a value of an activation, as its `activation_bits` were counted.
    parameter_bits : int
        Bits `b` of a stored parameter, unless the scenario says otherwise.
    steps : int
        Passes of one token each after the first: a language model that generates `n` tokens makes ``n - 1``. Each reads
        all weights anew, and costs an inner cut a round trip more.
    tied : int
        Weights of the first block that the last one multiplies by too, as tied embeddings: they are counted in the
        first block, stored on both sides of an inner cut, and not pruned.

    Raises
    ------
    InvalidInputError
        If there is no block, the network has no prunable weights or no FLOPs at all, or a number is out of its range.
    """

    name: str
    input_bits: float
    blocks: tuple[Block, ...]
    description: str = ""
    value_bits: int = 32
    parameter_bits: int = 32
    steps: int = 0
    tied: int = 0

    def __post_init__(self) -> None:
        check_text("workload: name", self.name)
        check_text(f"workload {self.name!r}: description", self.description)
        if not self.blocks:
            raise InvalidInputError(f"workload {self.name!r}: blocks", self.blocks, "Give at least one block.")
        check_number(f"workload {self.name!r}: input_bits", self.input_bits, 0.0, 1e18, "bit")
        for field in ("value_bits", "parameter_bits"):
            _check_bits(f"workload {self.name!r}: {field}", getattr(self, field))
        for field, largest in (("steps", 10**9), ("tied", self.blocks[0].parameters)):
            value = getattr(self, field)
            if not (is_number(value) and 0 <= value <= largest and value % 1 == 0):
                remedy = f"Give a whole number from 0 to {largest}."
                raise InvalidInputError(f"workload {self.name!r}: {field}", value, remedy)
        for field in ("flops", "parameters", "prunable"):
            if sum(getattr(block, field) for block in self.blocks) <= 0:
                raise InvalidInputError(f"workload {self.name!r}: {field}", 0, "At least one block must have some.")

    @property
    def cuts(self) -> int:
        """Number of cuts, `J + 1`."""
        return len(self.blocks) + 1

    @property
    def flops(self) -> float:
        """FLOPs of the whole network."""
        return float(self.flops_device[-1])

    @property
    def parameters(self) -> int:
        """Parameters of the whole network, `N`."""
        return sum(block.parameters for block in self.blocks)

    @cached_property
    def flops_device(self) -> NDArray[np.float64]:
        """`L_d` of every cut, shape ``(J + 1,)``."""
        return prefix_sums([block.flops for block in self.blocks])

    @cached_property
    def flops_server(self) -> NDArray[np.float64]:
        """`L_s` of every cut, shape ``(J + 1,)``."""
        return suffix_sums([block.flops for block in self.blocks])

    @cached_property
    def parameters_device(self) -> NDArray[np.float64]:
        """`N_d` of every cut, shape ``(J + 1,)``."""
        return prefix_sums([block.parameters for block in self.blocks])

    @cached_property
    def parameters_server(self) -> NDArray[np.float64]:
        """`N_s` of every cut, shape ``(J + 1,)``."""
        return suffix_sums([block.parameters for block in self.blocks])

    @cached_property
    def upload_bits(self) -> NDArray[np.float64]:
        """Bits uploaded at every cut, shape ``(J + 1,)``: `S_0, S_1, ..., S_{J-1}, 0`."""
        return _frozen(np.array([self.input_bits, *(block.activation_bits for block in self.blocks[:-1]), 0.0]))

    @cached_property
    def laplacian_rates(self) -> NDArray[np.float64]:
        """`lambda_j` of every block, shape ``(J,)``."""
        return _frozen(np.array([block.laplacian_rate for block in self.blocks], dtype=np.float64))

    def with_input_bits(self, input_bits: float) -> Workload:
        """The same network with another size of the raw sample."""
        return replace(self, input_bits=input_bits)

    def with_value_bits(self, value_bits: int) -> Workload:
        """The same network with another number of bits per sent activation; the raw sample and the cache stay."""
        _check_bits("value_bits", value_bits)
        factor = value_bits / self.value_bits
        blocks = tuple(replace(block, activation_bits=factor * block.activation_bits) for block in self.blocks)
        return replace(self, blocks=blocks, value_bits=value_bits)

    def to_dict(self) -> dict[str, Any]:
        """Mapping of the form that the YAML files have. It includes totals, so that a reader can check them."""
        return {
            "name": self.name,
            "description": self.description,
            "input_bits": self.input_bits,
            **{
                key: getattr(self, key)
                for key in _OPTIONAL_WORKLOAD_KEYS
                if getattr(self, key) != getattr(Workload, key)
            },
            "flops": self.flops,
            "parameters": self.parameters,
            "blocks": [block.to_dict() for block in self.blocks],
        }

    def save(self, path: str | Path) -> None:
        """Write the workload to a YAML file that `load_workload` and the scenario field ``workload`` read."""
        write_text(Path(path), yaml.safe_dump(self.to_dict(), sort_keys=False))


def workload_from_dict(data: Mapping[str, Any], origin: str = "workload") -> Workload:
    """Make a workload from a mapping of its fields.

    Parameters
    ----------
    data : mapping
        ``name``, ``input_bits``, ``blocks`` (a list of mappings with the fields of `Block`), and optionally
        ``description``, further fields of `Workload`, and the totals ``flops`` and ``parameters``.
    origin : str
        Name of the source in error messages.

    Returns
    -------
    Workload

    Raises
    ------
    InvalidInputError
        If a key is missing or unknown, a value is out of range, or a stated total is not the sum of the blocks.
    """
    check_keys(data, _WORKLOAD_KEYS, ("name", "input_bits", "blocks"), origin)
    if not isinstance(data["blocks"], Sequence) or isinstance(data["blocks"], str):
        raise InvalidInputError(f"{origin}: blocks", data["blocks"], "Give a list of blocks.")
    blocks = []
    for number, entry in enumerate(data["blocks"], 1):
        check_keys(entry, _BLOCK_KEYS + _OPTIONAL_BLOCK_KEYS, _BLOCK_KEYS, f"{origin}: block {number}")
        blocks.append(Block(**entry))
    further = {key: data[key] for key in _OPTIONAL_WORKLOAD_KEYS if key in data}
    workload = Workload(data["name"], data["input_bits"], tuple(blocks), data.get("description", ""), **further)
    for field in ("flops", "parameters"):
        total = getattr(workload, field)
        stated = data.get(field, total)
        if not (is_number(stated) and math.isclose(stated, total, rel_tol=1e-9)):
            raise InvalidInputError(
                f"{origin}: {field}", stated, f"The blocks sum to {total:.12g}: correct the blocks or the total."
            )
    return workload


def load_workload(source: str | Path) -> Workload:
    """Load a workload by the name of a shipped one or the path of a YAML file.

    Parameters
    ----------
    source : str or Path
        For example ``"bert-base"`` or ``"my/model.yaml"``.

    Returns
    -------
    Workload

    Raises
    ------
    InvalidInputError
        If there is no such workload or file, or its content is not a valid workload.
    """
    data = read_yaml(find_file(source, "workload", _FOLDER, ".yaml"), "workload")
    return workload_from_dict(data, origin=f"workload {str(source)!r}")


def shipped_workloads() -> list[str]:
    """Names of the workloads in the package, sorted."""
    return shipped_names(_FOLDER, ".yaml")


def _check_bits(field: str, bits: int) -> None:
    """Refuse what is no whole number of bits that a value or a parameter can have."""
    if not (is_number(bits) and 1 <= bits <= MOST_VALUE_BITS and bits % 1 == 0):
        raise InvalidInputError(field, bits, f"Give a whole number of bits from 1 to {MOST_VALUE_BITS}.")


def prefix_sums(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of the first 0, 1, ... all values, read-only."""
    return _frozen(np.concatenate(([0.0], np.cumsum(np.array(values, dtype=np.float64)))))


def suffix_sums(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of all values but the first 0, 1, ... of them, read-only."""
    return _frozen(np.concatenate((np.cumsum(np.array(values[::-1], dtype=np.float64))[::-1], [0.0])))


def _frozen(array: NDArray[np.float64]) -> NDArray[np.float64]:
    array.setflags(write=False)
    return array
