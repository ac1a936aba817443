"""Regenerates the layer tables of coinfer_gym/layerwise/networks from the networks that are trained on CIFAR-10."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from coinfer_gym.command import command
from coinfer_gym.files import write_text
from coinfer_gym.layerwise.network import Block, Group, Layer, Network
from studies.mu.cifar.data import SIDE
from studies.mu.cifar.networks import GROUPS, NAMES, Chain, make_network

FOLDER = Path(__file__).resolve().parents[2] / "coinfer_gym" / "layerwise" / "networks"
COLOURS = 3
DESCRIPTIONS = {
    "alexnet": (
        "AlexNet for images of 32 x 32: five convolutions of 3 x 3, the first with stride 2, three poolings of 2 x 2, "
        "1024 neurons in both hidden layers."
    ),
    "regnet": (
        "RegNetX-400MF (depths 1-2-7-12, widths 32-64-160-400, groups of 16 channels) for images of 32 x 32: the stem "
        "halves them, the first stage does not. Residual blocks are cut between, not inside."
    ),
}
_HEADER = "# Made by: python -m studies.mu.build_networks (change that script, not this file). Layers as in Table I.\n"


def layer_table(network: Chain) -> Network:
    """The layer table of a network, by running it once and looking at each of its layers."""
    groups = tuple(Group(group.name, group.channels, group.step) for group in GROUPS[network.name])
    feature, width = torch.zeros(1, COLOURS, SIDE, SIDE), _Width(COLOURS)
    blocks = []
    for name, module in network.units.items():
        table = _Table(name, groups, width)
        feature = table.look(module, feature)
        width = table.last
        vector = feature.ndim == 2
        blocks.append(Block(name, tuple(table.layers), width.name, 1 if vector else feature[0, 0].numel(), vector))
    return Network(network.name, groups, tuple(blocks), COLOURS * SIDE * SIDE, DESCRIPTIONS[network.name])


class _Width:
    """Channels of a feature by the name of their group, and the positions of a channel that became neurons."""

    def __init__(self, name: str | int, area: int = 1) -> None:
        self.name, self.area = name, area


class _Table:
    """The layers of one unit, gathered while a feature runs through it."""

    def __init__(self, unit: str, groups: Sequence[Group], inputs: _Width) -> None:
        stage = unit.split("_")[0]
        names = [group.name for group in groups]
        own = "stage1" if unit == "stem" else stage
        self._group: str | None = own if own in names else None
        self.first = self.last = inputs
        self.layers: list[Layer] = []

    @torch.inference_mode()
    def look(self, module: Any, feature: Tensor) -> Tensor:
        """Run a module, noting its layers in the order of their computation."""
        if hasattr(module, "shortcut"):  # a residual block
            entered, width = feature, self.last
            feature = self.look(module.layer, feature)
            inner, self.last = self.last, width
            shortcut = self.look(module.shortcut, entered)
            self.last = inner
            self._note("add", feature)
            return self.look(module.activation, feature + shortcut)
        if next(module.children(), None) is not None:
            for child in module.children():
                feature = self.look(child, feature)
            return feature
        output: Tensor = module.eval()(feature)
        self._note_layer(module, feature, output)
        return output

    def _note_layer(self, module: Any, feature: Tensor, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            fan_in = None if module.groups == 1 else module.in_channels // module.groups
            inputs, self.last = self.last, _Width(self._group or module.out_channels)
            self._note("conv", output, inputs, module.kernel_size[0], fan_in)
        elif isinstance(module, nn.Linear):
            inputs, self.last = self.last, _Width(self._group or module.out_features)
            self.layers.append(Layer("fc", inputs.name, self.last.name, area=inputs.area))
        elif isinstance(module, nn.Flatten):
            self.last = _Width(self.last.name, feature[0, 0].numel())
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            self._note("avgpool", feature)
        elif isinstance(module, nn.MaxPool2d):
            self._note("maxpool", output, kernel=int(module.kernel_size))  # type: ignore[arg-type]
        elif isinstance(module, nn.ReLU):
            self._note("relu", output)
        elif isinstance(module, nn.Dropout):
            self._note("dropout", feature)
        elif not isinstance(module, nn.BatchNorm2d | nn.Identity):
            raise TypeError(f"Table I has no {type(module).__name__}")

    def _note(
        self, kind: str, feature: Tensor, inputs: _Width | None = None, kernel: int = 1, fan_in: int | None = None
    ) -> None:
        height, width = feature.shape[2:] if feature.ndim == 4 else (self.last.area, 1)
        source = self.last if inputs is None else inputs
        self.layers.append(Layer(kind, source.name, self.last.name, int(height), int(width), kernel, fan_in))


@command("studies.mu.build_networks")
def main(arguments: Sequence[str] | None = None) -> int:
    """Write the YAML files."""
    argparse.ArgumentParser("python -m studies.mu.build_networks", description="Make the layer tables.").parse_args(
        arguments
    )
    for name in NAMES:
        content = layer_table(make_network(name)).to_dict()
        text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=118)
        write_text(FOLDER / f"{name}.yaml", _HEADER + text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
