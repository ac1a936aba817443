"""Structured pruning: networks with fewer filters and neurons, in layers that are really smaller.

Which filters stay is decided on the unpruned weights of every layer, before any other layer has lost an input.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.layerwise.network import kept_channels
from studies.mu.cifar.networks import GROUPS, Chain

Score = Callable[[Tensor], Tensor]


def prune_filters(network: Chain, retained: Sequence[float], criterion: str = "l1") -> Chain:
    """Copy of a network without some of its filters and neurons, at retained ratios of its groups in (0, 1].

    Those filters stay that have the largest L1 norm of weights (``l1``, Li et al. 2017), or the largest sum of
    distances to the others (``geometric_median``, He et al. 2019). In RegNet the residual channels of a stage are
    ranked by the scores summed over all layers that write them, and inside a block whole groups stay.
    """
    if criterion not in CRITERIA:
        raise InvalidInputError("criterion", criterion, nearest(criterion, CRITERIA))
    groups = GROUPS[network.name]
    if len(retained) != len(groups):
        names = ", ".join(group.name for group in groups)
        raise InvalidInputError("retained", retained, f"Give {len(groups)} ratios: {names}.")
    for group, ratio in zip(groups, retained, strict=True):
        if not 0.0 < ratio <= 1.0:
            raise InvalidInputError(f"retained[{group.name}]", ratio, "Give a ratio in (0, 1].")
    kept = {
        group.name: int(kept_channels(ratio, group.channels, group.step))
        for group, ratio in zip(groups, retained, strict=True)
    }
    pruned = copy.deepcopy(network)
    prune = _prune_alexnet if network.name == "alexnet" else _prune_regnet
    with torch.no_grad():
        prune(pruned, kept, CRITERIA[criterion])
    return pruned.train(network.training)


def _l1_norms(weight: Tensor) -> Tensor:
    return weight.flatten(1).abs().sum(dim=1)


def _distances(weight: Tensor) -> Tensor:
    filters = weight.flatten(1)
    # By differences: the usual detour over scalar products loses the small distances to rounding.
    return torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist").sum(dim=1)


CRITERIA: dict[str, Score] = {"l1": _l1_norms, "geometric_median": _distances}
"""Scores of a layer's filters: those with the largest stay."""


def _best(scores: Tensor, count: int) -> Tensor:
    """Numbers of the highest scores in rising order; of equal ones the first."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values


def _prune_alexnet(network: Chain, kept: Mapping[str, int], score: Score) -> None:
    inputs, channels = torch.arange(3), 3
    for name, unit in network.units.items():
        outputs = torch.arange(0)
        for place, layer in unit.named_children():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                filters = len(layer.weight)
                outputs = _best(score(layer.weight), kept.get(name, filters))
                if isinstance(layer, nn.Conv2d):
                    smaller: nn.Module = _convolution(layer, outputs, inputs)
                else:
                    pixels = layer.in_features // channels  # of a map that was flattened, channel by channel
                    smaller = _linear(layer, outputs, _spread(inputs, pixels))
                setattr(unit, place, smaller)
                inputs, channels = outputs, filters
            elif isinstance(layer, nn.BatchNorm2d):
                setattr(unit, place, _norm(layer, outputs))


def _prune_regnet(network: Chain, kept: Mapping[str, int], score: Score) -> None:
    units: Mapping[str, Any] = dict(network.units.items())
    inputs = torch.arange(3)
    for group in GROUPS[network.name]:
        blocks = [unit for name, unit in units.items() if name.startswith(f"{group.name}_")]
        # A shortcut without weights passes on the channels of the layer before, which are then among these writers.
        writers = [units["stem"]] if isinstance(blocks[0].shortcut, nn.Identity) else [blocks[0].shortcut]
        writers += [block.layer[2] for block in blocks]
        scores = torch.stack([score(writer.convolution.weight) for writer in writers]).sum(dim=0)
        outputs = _best(scores, kept[group.name])
        if writers[0] is units["stem"]:
            _shrink(units["stem"], outputs, inputs)
            inputs = outputs
        for block in blocks:
            scores = score(block.layer[0].convolution.weight) + score(block.layer[1].convolution.weight)
            whole = _best(scores.reshape(-1, group.step).sum(dim=1), kept[group.name] // group.step)
            inner = _spread(whole, group.step)
            _shrink(block.layer[0], inner, inputs)
            _shrink(block.layer[1], inner, None)
            _shrink(block.layer[2], outputs, inner)
            if not isinstance(block.shortcut, nn.Identity):
                _shrink(block.shortcut, outputs, inputs)
            inputs = outputs
    classifier = units["fc"]
    classifier[1] = _linear(classifier[1], torch.arange(classifier[1].out_features), inputs)


def _spread(numbers: Tensor, each: int) -> Tensor:
    """Places of what comes in runs of `each`, for the runs that stay."""
    return (numbers[:, None] * each + torch.arange(each)).flatten()


def _shrink(layer: Any, outputs: Tensor, inputs: Tensor | None) -> None:
    """Replace the convolution and the norm of a layer of transformers' RegNet."""
    layer.convolution = _convolution(layer.convolution, outputs, inputs)
    layer.normalization = _norm(layer.normalization, outputs)


def _convolution(layer: nn.Conv2d, outputs: Tensor, inputs: Tensor | None) -> nn.Conv2d:
    """Convolution with some of its filters, on some inputs or, without `inputs`, on those of the groups that stay."""
    weight = layer.weight[outputs] if inputs is None else layer.weight[outputs][:, inputs]
    groups = layer.groups * len(outputs) // layer.out_channels if inputs is None else 1
    geometry: Any = {"kernel_size": layer.kernel_size, "stride": layer.stride, "padding": layer.padding}
    smaller = nn.Conv2d(groups * weight.shape[1], len(outputs), **geometry, groups=groups, bias=False, device="meta")
    smaller.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
    return smaller


def _norm(layer: nn.BatchNorm2d, outputs: Tensor) -> nn.BatchNorm2d:
    smaller = nn.BatchNorm2d(len(outputs), layer.eps, layer.momentum)
    smaller.load_state_dict(
        {name: value[outputs] if value.dim() else value for name, value in layer.state_dict().items()}
    )
    return smaller


def _linear(layer: nn.Linear, outputs: Tensor, inputs: Tensor) -> nn.Linear:
    smaller = nn.Linear(len(inputs), len(outputs), device="meta")  # draws no first weights, which would change a seed
    smaller.weight = nn.Parameter(layer.weight[outputs][:, inputs])
    smaller.bias = nn.Parameter(layer.bias[outputs])
    return smaller
