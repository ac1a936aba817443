"""Networks layer by layer: FLOPs and output sizes after pruning (Mu et al., Table I), and where they can be cut."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from coinfer_gym._compile import merged_kernel
from coinfer_gym.checks import check_keys, check_text, check_whole
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.files import find_file, read_yaml, shipped_names, write_text
from coinfer_gym.records import Records, record_type

LAYER_TYPES = ("conv", "relu", "maxpool", "avgpool", "dropout", "fc", "add")

GROUP = record_type("channels", "step")

CUT = record_type(group=np.int64, area=np.float64, vector=np.int64)
"""The feature that leaves a cut: `area` positions of each channel that `group` keeps. Group 0 is the constant 1; its
area is the number of the image's values at cut 0 and 0 at the last cut. `vector` is 1 after a fully connected layer."""

_MOST = 10**9
"""Largest count of channels, positions or values."""

_FOLDER = resources.files("coinfer_gym.layerwise") / "networks"


@dataclass(frozen=True)
class Group:
    """Layers that share one retained ratio.

    Attributes
    ----------
    name : str
        Name of the group in its network.
    channels : int
        Filters or neurons of each of its layers, unpruned.
    step : int
        The number of kept channels is a multiple of this: the group width of a grouped convolution, otherwise 1.
    """

    name: str
    channels: int
    step: int = 1

    def __post_init__(self) -> None:
        check_text("group: name", self.name)
        _check_counts(self, f"group {self.name!r}", "channels", "step")
        if self.channels % self.step:
            field = f"group {self.name!r}: step"
            raise InvalidInputError(field, self.step, f"It must divide {self.channels} channels.")


@dataclass(frozen=True)
class Layer:
    """One layer, as Table I counts it.

    Attributes
    ----------
    type : str
        One of `LAYER_TYPES`; ``add`` is the sum at the end of a residual block.
    inputs, outputs : str or int
        Input and output channels: the name of a group, or a number that pruning does not change.
    height, width : int
        Size of the output; for average pooling, that of the input.
    kernel : int
        Side of the window of a convolution or pooling.
    fan_in : int, optional
        Input channels that a filter of a grouped convolution sees.
    area : int
        Positions of each input channel that a fully connected layer sees.
    """

    type: str
    inputs: str | int
    outputs: str | int
    height: int = 1
    width: int = 1
    kernel: int = 1
    fan_in: int | None = None
    area: int = 1

    def __post_init__(self) -> None:
        if self.type not in LAYER_TYPES:
            check_text("layer: type", self.type)
            raise InvalidInputError("layer: type", self.type, nearest(self.type, LAYER_TYPES))
        where = f"layer {self.type!r}"
        _check_counts(self, where, "height", "width", "kernel", "area", *([] if self.fan_in is None else ["fan_in"]))
        _check_widths(self, where, "inputs", "outputs")

    @property
    def terms(self) -> list[tuple[float, str | int, str | int]]:
        """Table I as a sum of products ``coefficient * first * second`` of channels.

        Convolutions have ``2 H_o W_o (C_i K^2 + 1) C_o``, fully connected layers ``(2 C_i - 1) C_o``, maximum poolings
        ``K^2 H_o W_o C_o``, average poolings, ReLU, dropout and sums one operation for each value. Batch normalisation
        is folded into the convolution before it.
        """
        positions = self.height * self.width
        if self.type == "conv":
            taps = 2.0 * positions * self.kernel**2
            weights = (taps, self.inputs, self.outputs) if self.fan_in is None else (taps, self.fan_in, self.outputs)
            return [weights, (2.0 * positions, 1, self.outputs)]
        if self.type == "fc":
            return [(2.0 * self.area, self.inputs, self.outputs), (-1.0, 1, self.outputs)]
        return [(float(positions * (self.kernel**2 if self.type == "maxpool" else 1)), 1, self.outputs)]


@dataclass(frozen=True)
class Block:
    """One block of the chain: the layers between two neighbouring cuts.

    Attributes
    ----------
    name : str
        Name of the block in its network.
    layers : tuple of Layer
    outputs : str or int
        Channels of the block's output: the name of a group or a number.
    area : int
        Positions of each of these channels.
    vector : bool
        Whether the output is a vector of neurons, which a linear encoder compresses, and not feature maps.
    """

    name: str
    layers: tuple[Layer, ...]
    outputs: str | int
    area: int = 1
    vector: bool = False

    def __post_init__(self) -> None:
        check_text("block: name", self.name)
        if not self.layers:
            raise InvalidInputError(f"block {self.name!r}: layers", self.layers, "Give at least one layer.")
        if not isinstance(self.vector, bool):
            raise InvalidInputError(f"block {self.name!r}: vector", self.vector, "Give true or false.")
        _check_counts(self, f"block {self.name!r}", "area")
        _check_widths(self, f"block {self.name!r}", "outputs")


class NetworkTables(NamedTuple):
    """A network as compiled code reads it.

    Attributes
    ----------
    groups : ndarray of `GROUP`, shape (G,)
    pairs : ndarray of unsigned int, shape (P, 2)
        Pairs of widths whose products make up the FLOPs; width 0 is the constant 1, width ``g + 1`` that of group g.
    prefix : ndarray, shape (N + 1, P)
        FLOPs of the blocks before each cut, by pair.
    cuts : ndarray of `CUT`, shape (N + 1,)
    """

    groups: Records
    pairs: NDArray[np.uint64]
    prefix: NDArray[np.float64]
    cuts: Records


@dataclass(frozen=True, eq=False)
class Network:
    """A network of `N` blocks; cut `c` in `0..N` puts blocks `1..c` on the device.

    Attributes
    ----------
    name : str
        Name of the network.
    groups : tuple of Group
        Layers that are pruned together.
    blocks : tuple of Block
        The blocks in the order of the forward pass.
    input_values : int
        Number of values of an image, which cut 0 sends.
    description : str
        Where the numbers come from.

    Raises
    ------
    InvalidInputError
        If a number is out of range or a layer names an unknown group.
    """

    name: str
    groups: tuple[Group, ...]
    blocks: tuple[Block, ...]
    input_values: int
    description: str = ""

    def __post_init__(self) -> None:
        check_text("network: name", self.name)
        check_text(f"network {self.name!r}: description", self.description)
        _check_counts(self, f"network {self.name!r}", "input_values")
        if not self.blocks or not self.groups:
            raise InvalidInputError(f"network {self.name!r}: blocks", self.blocks, "Give at least one block and group.")
        names = [group.name for group in self.groups]
        if len(set(names)) < len(names):
            raise InvalidInputError(f"network {self.name!r}: groups", names, "Give each group a name of its own.")
        for block in self.blocks:
            for width in (block.outputs, *(side for each in block.layers for side in (each.inputs, each.outputs))):
                if isinstance(width, str) and width not in names:
                    field = f"network {self.name!r}, block {block.name!r}"
                    raise InvalidInputError(field, width, nearest(width, names))

    @property
    def cuts(self) -> int:
        """Number of cuts, `N + 1`: 0 sends the image itself. Mu et al., eq. 7, counts from 1, without that cut."""
        return len(self.blocks) + 1

    @cached_property
    def tables(self) -> NetworkTables:
        """The network as compiled code reads it; read-only."""
        place = {group.name: number for number, group in enumerate(self.groups, start=1)}
        sums: dict[tuple[int, int], NDArray[np.float64]] = {}
        for number, block in enumerate(self.blocks, start=1):
            for coefficient, *channels in (term for layer in block.layers for term in layer.terms):
                constant = coefficient * math.prod(width for width in channels if not isinstance(width, str))
                pair = sorted(place[width] if isinstance(width, str) else 0 for width in channels)
                sums.setdefault((pair[0], pair[1]), np.zeros(self.cuts))[number:] += constant
        cuts = [(0, self.input_values, 0)]
        for block in self.blocks[:-1]:
            width, area = block.outputs, block.area
            cuts.append(
                (place[width], area, block.vector) if isinstance(width, str) else (0, area * width, block.vector)
            )
        tables = NetworkTables(
            np.array([(group.channels, group.step) for group in self.groups], GROUP),
            np.array(sorted(sums), np.uint64),
            np.ascontiguousarray(np.stack([sums[pair] for pair in sorted(sums)], axis=1)),
            np.array([*cuts, (0, 0, 1)], CUT),
        )
        for table in tables:
            table.flags.writeable = False
        return tables

    def kept(self, retained: ArrayLike) -> NDArray[np.int64]:
        """Channels that each group keeps.

        Parameters
        ----------
        retained : array_like, shape (G,)
            Retained ratios in (0, 1].

        Returns
        -------
        ndarray of int, shape (G,)

        Raises
        ------
        InvalidInputError
            If there is not one ratio per group, or one is out of range.
        """
        ratios = np.asarray(retained, np.float64)
        names = ", ".join(group.name for group in self.groups)
        if ratios.shape != (len(self.groups),):
            raise InvalidInputError("retained", ratios.shape, f"Give one ratio for each of {names}.")
        if not ((ratios > 0.0) & (ratios <= 1.0)).all():
            raise InvalidInputError("retained", ratios, "Give a retained ratio in (0, 1].")
        pairs = zip(ratios.tolist(), self.groups, strict=True)
        return np.array([kept_channels(ratio, group.channels, group.step) for ratio, group in pairs], np.int64)

    def block_flops(self, retained: ArrayLike | None = None) -> NDArray[np.float64]:
        """FLOPs of every block, shape (N,), at the given retained ratios or unpruned."""
        widths = self._widths(retained)
        products = widths[self.tables.pairs[:, 0]] * widths[self.tables.pairs[:, 1]]
        return np.diff(self.tables.prefix @ products)

    def upload_values(self, retained: ArrayLike | None = None) -> NDArray[np.float64]:
        """Values sent at every cut without compression, shape (N + 1,): the image at cut 0, none at the last."""
        cuts = self.tables.cuts
        return np.asarray(self._widths(retained)[cuts["group"]] * cuts["area"])

    def _widths(self, retained: ArrayLike | None) -> NDArray[np.float64]:
        kept = self.kept(np.ones(len(self.groups)) if retained is None else retained)
        return np.concatenate([[1.0], kept])

    def to_dict(self) -> dict[str, Any]:
        """Mapping of the form that the YAML files have; fields with default values are left out."""
        plain = {"name": self.name, "description": self.description}
        return plain | {
            "input_values": self.input_values,
            "groups": [_plain(group) for group in self.groups],
            "blocks": [_plain(block) | {"layers": [_plain(layer) for layer in block.layers]} for block in self.blocks],
        }

    def save(self, path: str | Path) -> None:
        """Write the network to a YAML file that `load_network` and the scenario field ``network`` read."""
        write_text(Path(path), yaml.safe_dump(self.to_dict(), sort_keys=False))


def network_from_dict(data: Any, origin: str = "network") -> Network:
    """Make a network from a mapping, as `Network.to_dict` returns it.

    Raises
    ------
    InvalidInputError
        If a key is missing or unknown, or a value is out of range. `origin` names the source in errors.
    """
    plain = _checked(data, Network, origin)
    groups = tuple(Group(**_checked(each, Group, f"{origin}: groups")) for each in _listed(plain, "groups", origin))
    blocks = []
    for number, each in enumerate(_listed(plain, "blocks", origin), 1):
        name = f"{origin}: block {number}"
        block = _checked(each, Block, name)
        block["layers"] = tuple(Layer(**_checked(layer, Layer, name)) for layer in _listed(block, "layers", name))
        blocks.append(Block(**block))
    return Network(**(plain | {"groups": groups, "blocks": tuple(blocks)}))


def load_network(source: str | Path) -> Network:
    """Load a network by the name of a shipped one or the path of a YAML file.

    Parameters
    ----------
    source : str or Path
        For example ``"alexnet"`` or ``"my/network.yaml"``.

    Raises
    ------
    InvalidInputError
        If there is no such network, or the file is not a valid network.
    """
    content = read_yaml(find_file(source, "network", _FOLDER, ".yaml"), "network")
    return network_from_dict(content, f"network {str(source)!r}")


def shipped_networks() -> list[str]:
    """Names of the networks in the package, sorted."""
    return shipped_names(_FOLDER, ".yaml")


def _checked(content: Any, kind: Any, origin: str) -> dict[str, Any]:
    """The mapping, if its keys are those of a dataclass."""
    known = [field.name for field in fields(kind)]
    check_keys(content, known, [field.name for field in fields(kind) if field.default is MISSING], origin)
    return dict(content)


def _listed(plain: Mapping[str, Any], key: str, origin: str) -> Sequence[Any]:
    value = plain[key]
    if not isinstance(value, list):
        raise InvalidInputError(f"{origin}: {key}", value, "Give a list.")
    return value


def _plain(record: Any) -> dict[str, Any]:
    values = {field.name: (getattr(record, field.name), field) for field in fields(record) if field.name != "layers"}
    return {name: value for name, (value, field) in values.items() if value != field.default}


def _check_counts(record: Any, where: str, *names: str) -> None:
    """Check positive whole numbers of a frozen record, and have it hold them as int."""
    for name in names:
        object.__setattr__(record, name, check_whole(f"{where}: {name}", getattr(record, name), 1, _MOST))


def _check_widths(record: Any, where: str, *names: str) -> None:
    """Check numbers that can also be the name of a group."""
    _check_counts(record, where, *(name for name in names if not isinstance(getattr(record, name), str)))


@merged_kernel
def kept_channels(retained: float, channels: float, step: float) -> float:
    """Channels that are kept: the nearest multiple of `step`, but at least one `step`."""
    return step * max(1.0, math.floor(retained * channels / step + 0.5))
