"""Prunes weight matrices by magnitude or at random, with an exact share kept, and says how far the weights moved.

Prunable are the weights of `Linear` and convolution layers (and of the `Conv1D` of `transformers`). Embeddings, norms
and biases are left alone, and so are a matrix that an embedding lends to a head, and the convolutions of BiT, which
shift and scale their weights at every call, so that a zero does not stay one.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import is_pruned
from transformers import PreTrainedModel
from transformers.models.bit.modeling_bit import WeightStandardizedConv2d
from transformers.pytorch_utils import Conv1D

from coinfer_gym.checks import is_number
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.blocks import copy_network, find_blocks, raw_sample, trace_blocks, weights_by_block
from coinfer_gym.models.inputs import check_choice, check_seed
from coinfer_gym.models.split import LENT, Halves, check_cut, split

METHODS = ("magnitude", "random")

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv1D)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Pruned:
    """What was done: weights kept of how many, and how far they moved."""

    kept: int
    total: int
    distortion: float  # ``||w - w_hat||_1``: Lyu et al., eq. 20


class PrunedHalves(NamedTuple):
    """The halves of a pruned and cut network, and what was done to each."""

    halves: Halves
    on_device: Pruned
    on_server: Pruned


def prunable(modules: nn.Module | Iterable[nn.Module]) -> dict[nn.Parameter, nn.Module]:
    """Prunable weights of one or several modules, each once, with their layers."""
    parts = [named for root in _roots(modules) for named in root.named_modules()]
    lent = {id(part.weight) for _, part in parts if isinstance(part, nn.Embedding)}
    lent |= {id(weight) for _, part in parts for weight in vars(part).get(LENT, ())}
    found: dict[nn.Parameter, nn.Module] = {}
    for name, part in parts:
        if isinstance(part, _LAYERS) and not isinstance(part, WeightStandardizedConv2d) and id(part.weight) not in lent:
            found.setdefault(_plain_weight(name, part), part)
    return found


def _plain_weight(name: str, layer: Any) -> nn.Parameter:
    """Weight of a layer; InvalidInputError if zeros written into it would be lost, or mean something else."""
    weight, kind = layer.weight, type(layer).__name__
    if not isinstance(weight, nn.Parameter):
        value = f"a weight of {kind} that is computed anew at every call"
        remedy = f"Make it plain, by torch.nn.utils.{_plain_by(layer)}."
    elif weight.dtype not in _FLOATS:
        value, remedy = f"a weight of {kind} in {weight.dtype}", "Load the network in floats of 16 bits or more."
    else:
        return weight
    raise InvalidInputError(f"modules: {name}.weight" if name else "modules: weight", value, remedy)


def _plain_by(layer: nn.Module) -> str:
    """What undoes a reparametrisation of torch."""
    if is_parametrized(layer, "weight"):
        return "parametrize.remove_parametrizations(layer, 'weight')"
    if is_pruned(layer):
        return "prune.remove(layer, 'weight')"
    return "remove_weight_norm(layer) or remove_spectral_norm(layer)"


def _roots(modules: object) -> list[nn.Module]:
    roots = list(modules) if isinstance(modules, Iterable) and not isinstance(modules, nn.Module) else [modules]
    found = [root for root in roots if isinstance(root, nn.Module)]
    if len(found) < len(roots):
        raise InvalidInputError("modules", modules, "Give a torch.nn.Module, or several in a list.")
    return found


def prune(
    modules: nn.Module | Iterable[nn.Module],
    retained: float,
    *,
    method: str = "magnitude",
    seed: int = 0,
) -> Pruned:
    """Set weights to zero, in place and for good.

    Parameters
    ----------
    modules : nn.Module or iterable of nn.Module
        A network, one of its halves (which share their weights with it), or some of its blocks.
    retained : float
        Share to keep, `rho` in [0, 1]: of all `n` weights together exactly ``round(retained * n)``.
    method : {"magnitude", "random"}
        Keep the largest, or keep at random.
    seed : int
        Seed of random pruning.

    Returns
    -------
    Pruned

    Raises
    ------
    InvalidInputError
        If an argument is out of range, there is nothing to prune, or a weight is computed from others (weight norm,
        spectral norm, ``torch.nn.utils.prune``) or quantised.
    """
    roots = _roots(modules)
    return _prune(prunable(roots), retained, method, seed)


def prune_split(
    model: PreTrainedModel | nn.Sequential,
    cut: int,
    retained_device: float,
    retained_server: float,
    *,
    method: str = "magnitude",
    seed: int = 0,
) -> PrunedHalves:
    """Prune a copy of a network, each side by its own share over all its weights together, and cut it.

    A matrix belongs to the side whose blocks the forward pass meets first with it, as the parameters of a workload do,
    so that one that both sides use is the same on both. A side without weights is left as it is.

    Parameters
    ----------
    model : PreTrainedModel or nn.Sequential
        It is not changed.
    cut : int
        As in `split`.
    retained_device, retained_server : float
        Share of each side to keep, in [0, 1].
    method, seed
        As in `prune`; the server's seed is one more.

    Returns
    -------
    PrunedHalves

    Raises
    ------
    InvalidInputError
        As in `split` and `prune`.
    """
    if not isinstance(model, (PreTrainedModel, nn.Sequential)):
        raise InvalidInputError("model", type(model).__name__, "Give a transformers model or a torch.nn.Sequential.")
    check_seed(seed)
    network = copy_network(model, lambda tensor: copy.deepcopy(tensor) if tensor.is_leaf else tensor.detach())
    owned = weights_of_blocks(network)
    check_cut(cut, len(owned))
    everything = prunable(network)
    reports: list[Pruned] = []
    for side, retained in ((owned[:cut], retained_device), (owned[cut:], retained_server)):
        ids = {id(weight) for weights in side for weight in weights}
        weights = [weight for weight in everything if id(weight) in ids]
        if weights:
            reports.append(_prune(weights, retained, method, seed + len(reports)))
        else:
            reports.append(Pruned(0, 0, 0.0))
    return PrunedHalves(split(network, cut), *reports)


def weights_of_blocks(network: PreTrainedModel | nn.Sequential) -> list[list[nn.Parameter]]:
    """Parameters of each block, those that the forward pass meets first with it, as a workload counts them."""
    if isinstance(network, nn.Sequential):
        return [list(block.parameters()) for block in network]
    names = find_blocks(network)
    # As short as it can be: which block owns a weight does not depend on the input.
    trace = trace_blocks(network, names, raw_sample(network, 1, None))
    return weights_by_block(network, len(names), trace.first_turn)


@torch.no_grad()
def _prune(weights: Collection[nn.Parameter], retained: float, method: str, seed: int) -> Pruned:
    if not is_number(retained) or not 0.0 <= retained <= 1.0:
        raise InvalidInputError("retained", retained, "Give a share from 0 to 1.")
    check_choice("method", method, METHODS)
    check_seed(seed)
    if not weights:
        remedy = "There is nothing to prune: give Linear or convolution layers."
        raise InvalidInputError("modules", "no prunable weights", remedy)
    counts = [weight.numel() for weight in weights]
    total, kept = sum(counts), round(retained * sum(counts))
    if method == "random":
        # Not torch's generator: weights drawn with the same seed would be correlated with what is dropped.
        scores = torch.from_numpy(np.random.default_rng(seed).random(total, dtype=np.float32))
    else:
        scores = torch.cat([weight.abs().flatten().float().cpu() for weight in weights])
    keep = torch.ones(total, dtype=torch.bool)
    keep[torch.topk(scores, total - kept, largest=False, sorted=False).indices] = False
    distortion = 0.0
    for weight, mask in zip(weights, torch.split(keep, counts), strict=True):
        dropped = ~mask.to(weight.device).view(weight.shape)
        distortion += float((weight.abs() * dropped).sum(dtype=torch.float64))
        weight.masked_fill_(dropped, 0.0)
    return Pruned(kept, total, distortion)
