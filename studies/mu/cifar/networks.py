"""AlexNet and RegNetX-400MF for images of 32 x 32, as chains of units that can be cut between any two.

A convolution with its norm and ReLU is one unit, so are a pooling, a fully connected layer with its ReLU, and a whole
residual block: inside a block two tensors would have to be sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.layerwise.network import Group
from studies.mu.cifar.data import CLASSES

NAMES = ("alexnet", "regnet")
DROPOUT = 0.2
_ALEXNET_CONVOLUTIONS = (3, 64, 192, 384, 256, 256)  # channels, Krizhevsky's single-column network
_ALEXNET_POOLED = (1, 2, 5)  # convolutions that a pooling follows
_ALEXNET_NEURONS = 1024
_REGNET_WIDTHS, _REGNET_DEPTHS, _REGNET_GROUP = (32, 64, 160, 400), (1, 2, 7, 12), 16

GROUPS: dict[str, tuple[Group, ...]] = {
    "alexnet": (
        *(Group(f"conv{number}", width) for number, width in enumerate(_ALEXNET_CONVOLUTIONS[1:], start=1)),
        Group("fc1", _ALEXNET_NEURONS),
        Group("fc2", _ALEXNET_NEURONS),
    ),
    "regnet": tuple(Group(f"stage{s}", width, _REGNET_GROUP) for s, width in enumerate(_REGNET_WIDTHS, start=1)),
}
"""Layers that are pruned to one retained ratio: of RegNet whole stages, whose shortcuts tie their blocks together; the
identity shortcut of its first block ties the stem to stage 1."""


class Chain(nn.Module):
    """A network as a chain of units: cut ``c`` leaves the first ``c`` of them to the device."""

    def __init__(self, name: str, units: Iterable[tuple[str, nn.Module]]) -> None:
        super().__init__()
        self.name = name
        self.units = nn.ModuleDict(dict(units))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of scaled images."""
        return self.run(images, 0, len(self.units))

    def run(self, feature: Tensor, first: int, last: int) -> Tensor:
        """What units ``first`` to ``last - 1`` make of a feature."""
        for unit in list(self.units.values())[first:last]:
            feature = unit(feature)
        return feature


def make_network(name: str, seed: int = 0) -> Chain:
    """An untrained network."""
    if name not in NAMES:
        raise InvalidInputError("network", name, nearest(name, NAMES))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        units = _alexnet() if name == "alexnet" else _regnet()
        chain = Chain(name, units)
        chain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return chain


def _alexnet() -> list[tuple[str, nn.Module]]:
    units: list[tuple[str, nn.Module]] = []
    for number, (inputs, outputs) in enumerate(pairwise(_ALEXNET_CONVOLUTIONS), start=1):
        units.append((f"conv{number}", _convolution(inputs, outputs, stride=2 if number == 1 else 1)))
        if number in _ALEXNET_POOLED:
            units.append((f"pool{number}", nn.MaxPool2d(2)))
    feature = _ALEXNET_CONVOLUTIONS[-1] * 2 * 2
    neurons = _ALEXNET_NEURONS
    return [
        *units,
        ("fc1", nn.Sequential(nn.Flatten(), nn.Dropout(DROPOUT), nn.Linear(feature, neurons), nn.ReLU())),
        ("fc2", nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(neurons, neurons), nn.ReLU())),
        ("fc3", nn.Sequential(nn.Linear(neurons, CLASSES))),
    ]


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def _regnet() -> list[tuple[str, nn.Module]]:
    """Units of transformers' RegNetX-400MF, whose first stage does not halve the image a second time."""
    from transformers import RegNetConfig, RegNetForImageClassification

    whole: Any = RegNetForImageClassification(
        RegNetConfig(
            embedding_size=_REGNET_WIDTHS[0],
            hidden_sizes=list(_REGNET_WIDTHS),
            depths=list(_REGNET_DEPTHS),
            groups_width=_REGNET_GROUP,
            layer_type="x",
            downsample_in_first_stage=False,
            num_labels=CLASSES,  # type: ignore[call-arg]
        )
    )
    units: list[tuple[str, nn.Module]] = [("stem", whole.regnet.embedder.embedder)]
    for number, stage in enumerate(whole.regnet.encoder.stages, start=1):
        units += [(f"stage{number}_{block}", layer) for block, layer in enumerate(stage.layers, start=1)]
    return [*units, ("pool", whole.regnet.pooler), ("fc", whole.classifier)]
