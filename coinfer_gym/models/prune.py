"""Prunes weight matrices by magnitude or at random, with an exact share kept, and says how far the weights moved.

Prunable are the weights of `Linear` and convolution layers (and of the `Conv1D` of `transformers`). Embeddings, norms
and biases are left alone, and so are a matrix that an embedding lends to a head, and the convolutions of BiT, which
shift and scale their weights at every call, so that a zero does not stay one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
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
SCOPES = ("global", "layerwise")
STRUCTURES = ("rows", "heads")

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv1D)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_HEAD_COUNTS = ("num_attention_heads", "num_heads", "n_heads")
_PROJECTIONS = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("q", "k", "v"),
    ("c_attn",),
)


@dataclass(frozen=True)
class Pruned:
    """What was done: units (weights, rows or heads) kept of how many, the same in weights, and ``||w - w_hat||_1``."""

    kept: int
    total: int
    weights_kept: int
    weights_total: int
    distortion: float  # how far the weights moved: Lyu et al., eq. 20


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
    scope: str = "global",
    structured: str | None = None,
    seed: int = 0,
) -> Pruned:
    """Set weights to zero, in place and for good.

    Parameters
    ----------
    modules : nn.Module or iterable of nn.Module
        A network, one of its halves (which share their weights with it), or some of its blocks. A head alone does not
        tell that its matrix is an embedding's: give it together with the embedding, or the network, to keep it whole.
    retained : float
        Share to keep, `rho` in [0, 1]: of `n` units exactly ``round(retained * n)``.
    method : {"magnitude", "random"}
        Keep the largest (of rows and heads, those of the largest mean ``|w|``), or keep at random.
    scope : {"global", "layerwise"}
        Whether the share holds over all weights together, or in each layer.
    structured : {"rows", "heads"}, optional
        Units that are kept or dropped as a whole: single weights when left out; rows, the weights of one output of a
        layer; or attention heads, their queries, keys, values and their columns of the output projection.
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
    return _prune(roots, prunable(roots), retained, method, scope, structured, seed)


def prune_split(
    model: PreTrainedModel | nn.Sequential,
    cut: int,
    retained_device: float,
    retained_server: float,
    *,
    method: str = "magnitude",
    scope: str = "global",
    structured: str | None = None,
    seed: int = 0,
) -> PrunedHalves:
    """Prune a copy of a network, each side by its own share, and cut it.

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
    method, scope, structured, seed
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
        weights = {weight: layer for weight, layer in everything.items() if id(weight) in ids}
        if weights:
            reports.append(_prune([network], weights, retained, method, scope, structured, seed + len(reports)))
        else:
            reports.append(Pruned(0, 0, 0, 0, 0.0))
    return PrunedHalves(split(network, cut), *reports)


def weights_of_blocks(network: PreTrainedModel | nn.Sequential) -> list[list[nn.Parameter]]:
    """Parameters of each block, those that the forward pass meets first with it, as a workload counts them."""
    if isinstance(network, nn.Sequential):
        return [list(block.parameters()) for block in network]
    names = find_blocks(network)
    # As short as it can be: which block owns a weight does not depend on the input.
    trace = trace_blocks(network, names, raw_sample(network, 1, None))
    return weights_by_block(network, len(names), trace.first_turn)


def _prune(
    roots: Iterable[nn.Module],
    weights: dict[nn.Parameter, nn.Module],
    retained: float,
    method: str,
    scope: str,
    structured: str | None,
    seed: int,
) -> Pruned:
    _check(retained, method, scope, structured, seed)
    layers = list(_layers_of_units(roots, weights, structured))
    if not layers:
        found = "heads of equal queries, keys and values" if structured == "heads" else "Linear or convolution layers"
        raise InvalidInputError("modules", structured or "weights", f"There is nothing to prune: give {found}.")
    # Not torch's generator: weights drawn with the same seed would be correlated with what is dropped.
    generator = np.random.default_rng(seed)
    groups = [layers] if scope == "global" else [[layer] for layer in layers]
    reports = [astuple(_prune_group(group, retained, method, generator)) for group in groups]
    return Pruned(*map(sum, zip(*reports, strict=True)))


@torch.no_grad()
def _prune_group(group: list[list[Tensor]], retained: float, method: str, generator: np.random.Generator) -> Pruned:
    """Prune layers together, each given by its views of shape (units, ...)."""
    counts = [len(views[0]) for views in group]
    sizes = [sum(view[0].numel() for view in views) for views in group]
    total, kept = sum(counts), round(retained * sum(counts))
    if method == "random":
        scores = torch.from_numpy(generator.random(total, dtype=np.float32))
    else:
        # The mean, so that a long row or head is not large by its length alone.
        sums = [sum(view.abs().flatten(1).sum(1, dtype=torch.float32).cpu() for view in views) for views in group]
        scores = torch.cat([torch.as_tensor(units / size) for units, size in zip(sums, sizes, strict=True)])
    keep = _largest(scores, kept)
    distortion, weights_kept = 0.0, 0
    for views, size, mask in zip(group, sizes, torch.split(keep, counts), strict=True):
        weights_kept += size * int(mask.sum())
        for view in views:
            dropped = ~mask.to(view.device).view(-1, *[1] * (view.dim() - 1))
            distortion += float((view.abs() * dropped).sum(dtype=torch.float64))
            view.masked_fill_(dropped, 0.0)
    weights_total = sum(count * size for count, size in zip(counts, sizes, strict=True))
    return Pruned(kept, total, weights_kept, weights_total, distortion)


def _largest(scores: Tensor, kept: int) -> Tensor:
    """Mask of the largest scores, exactly so many; of equal ones the last stay. Eight times as fast as `torch.topk`."""
    dropped = len(scores) - kept
    if dropped == 0:
        return torch.ones(len(scores), dtype=torch.bool)
    threshold = float(np.partition(scores.numpy(), dropped - 1)[dropped - 1])
    keep = scores > threshold
    equal = torch.nonzero(scores == threshold).flatten()
    keep[equal[len(equal) - kept + int(keep.sum()) :]] = True
    return keep


def _layers_of_units(
    roots: Iterable[nn.Module], weights: dict[nn.Parameter, nn.Module], structured: str | None
) -> Iterator[list[Tensor]]:
    """Every layer (of heads: every attention) as views that share its memory, of shape (units, ...)."""
    if structured == "heads":
        yield from _heads(roots, weights)
    for weight, layer in weights.items():
        if structured == "rows":
            yield [_by_output(layer)]
        elif structured is None:
            yield [weight.detach().view(-1, 1)]


def _heads(roots: Iterable[nn.Module], weights: dict[nn.Parameter, nn.Module]) -> Iterator[list[Tensor]]:
    for root in roots:
        for parent in root.modules():
            for attention in parent.children():
                layers = _projections(attention, parent)
                if layers and all(layer.weight in weights for layer in layers):
                    heads = _head_count(attention)
                    *incoming, outgoing = (_by_output(layer) for layer in layers)
                    # Outputs of a fused projection count parts, heads, width of a head: the heads come to the front.
                    parts = 3 if len(incoming) == 1 else 1
                    views = [view.view(parts, heads, -1, view.shape[1]).transpose(0, 1) for view in incoming]
                    yield [*views, outgoing.view(len(outgoing), heads, -1).transpose(0, 1)]


def _projections(attention: nn.Module, parent: nn.Module) -> list[Any]:
    """Layers of queries, keys and values, and the one that takes all heads together; none if this is no attention."""
    children, heads = dict(attention.named_children()), _head_count(attention)
    names = next((names for names in _PROJECTIONS if all(name in children for name in names)), None)
    if names is None or heads is None:
        return []
    incoming = [children[name] for name in names]
    if not all(isinstance(layer, (nn.Linear, Conv1D)) for layer in incoming):
        return []
    widths = {len(_by_output(layer)) for layer in incoming}
    # Keys shared by several heads cannot be dropped with one of them.
    if len(widths) != 1:
        return []
    width = widths.pop() // (3 if len(incoming) == 1 else 1)
    for part in (*attention.modules(), *parent.modules()):
        if isinstance(part, (nn.Linear, Conv1D)) and part not in incoming and _by_output(part).shape[1] == width:
            return [*incoming, part]
    return []


def _head_count(attention: nn.Module) -> Any:
    return next((getattr(attention, name) for name in _HEAD_COUNTS if hasattr(attention, name)), None)


def _by_output(layer: Any) -> Tensor:
    """View of a layer's weight of shape (outputs, ...)."""
    weight: Tensor = layer.weight.detach()
    return weight.t() if isinstance(layer, Conv1D) else weight


def _check(retained: object, method: str, scope: str, structured: str | None, seed: int) -> None:
    if not is_number(retained) or not 0.0 <= float(retained) <= 1.0:  # type: ignore[arg-type]
        raise InvalidInputError("retained", retained, "Give a share from 0 to 1.")
    check_choice("method", method, METHODS)
    check_choice("scope", scope, SCOPES)
    if structured is not None:
        check_choice("structured", structured, STRUCTURES)
    check_seed(seed)
