"""Weights of real networks against a Laplacian and a Gaussian (Lyu et al., Fig. 2 and Remark IV.2; claim L1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from baselines.output import BLACK, BLUE, GREY, SKY, VERMILION
from coinfer_gym.models.load import load_model
from coinfer_gym.models.prune import prunable, weights_of_blocks
from studies.drawing import legend_below, panels
from studies.figure import Floats, Pictures, Study
from studies.lyu.laplacian import WeightFit, fit_blocks, fit_weights
from studies.lyu.networks import ENCODERS

_BINS = 201
_REACH = 6.0  # half of a histogram's width, in standard deviations


class Fits(NamedTuple):
    """Fits of one network."""

    # all matrices, and those that pruning touches: all but embeddings
    whole: WeightFit
    pruned: WeightFit
    blocks: list[WeightFit]  # of every block, what pruning touches
    matrices: list[dict[str, WeightFit]]  # every matrix that pruning touches, by block and name
    # histogram of the matrices that pruning touches
    edges: Floats
    density: Floats


def compute(measured: Mapping[str, PreTrainedModel | nn.Sequential] | None = None) -> dict[str, Fits]:
    """Fit all parts of networks, by their titles: of `ENCODERS` when left out."""
    found = measured or {title: load_model(name) for title, name in ENCODERS.items()}
    return {title: fit_network(model) for title, model in found.items()}


def fit_network(model: PreTrainedModel | nn.Sequential) -> Fits:
    """Fit all parts of a network."""
    touched = prunable(model)
    names = {weight: name for name, weight in model.named_parameters()}
    pruned = fit_weights(list(touched))
    half = _REACH * pruned.gaussian_deviation
    edges = np.linspace(-half, half, _BINS + 1)
    counts = sum(np.histogram(weight.detach().float().numpy(), edges)[0] for weight in touched)
    density = np.asarray(counts, dtype=np.float64) / (pruned.values * (edges[1] - edges[0]))
    return Fits(
        fit_weights([weight for weight in model.parameters() if weight.ndim >= 2]),
        pruned,
        fit_blocks(model),
        [
            {names[weight]: fit_weights(weight) for weight in block if weight in touched}
            for block in weights_of_blocks(model)
        ],
        edges,
        density,
    )


def lead(fit: WeightFit) -> float:
    """By how much the log-likelihood of the Laplacian exceeds that of the Gaussian, in nats per weight."""
    return (fit.laplacian.log_likelihood - fit.gaussian.log_likelihood) / fit.values


def verdict(fits: Mapping[str, Fits]) -> dict[str, Any]:
    """What the fits say about claim L1."""
    holds, missed, found = {}, [], []
    for title, part in fits.items():
        spoken_of = {
            "over all weights": [part.whole],
            "without the embeddings": [part.pruned],
            "in every block": part.blocks,
        }
        for where, parts in spoken_of.items():
            claim = f"L1: {title}, {where}: the Laplacian is more likely than the Gaussian, and nearer by KS"
            holds[claim] = all(fit.laplacian_is_better and fit.laplacian.ks < fit.gaussian.ks for fit in parts)
        single = [fit for block in part.matrices for fit in block.values()]
        gaussian = sum(not fit.laplacian_is_better for fit in single)
        found.append(
            f"{title}: the Laplacian leads the Gaussian by {lead(part.whole):+.4f} nats per weight as a whole (KS "
            f"{part.whole.laplacian.ks:.4f} against {part.whole.gaussian.ks:.4f}), {lead(part.pruned):+.4f} without "
            f"embeddings (KS {part.pruned.laplacian.ks:.4f} against {part.pruned.gaussian.ks:.4f}); single matrices: "
            f"the Gaussian is more likely in {gaussian} of {len(single)}. By block the lead is "
            f"{min(map(lead, part.blocks)):+.4f} to {max(map(lead, part.blocks)):+.4f}, the rate "
            f"{min(fit.laplacian_rate for fit in part.blocks):.1f} to "
            f"{max(fit.laplacian_rate for fit in part.blocks):.1f}."
        )
        if gaussian:
            missed.append(f"{title}: {gaussian} of {len(single)} single matrices fit a Gaussian better.")
        if not part.whole.laplacian_is_better:
            missed.append(f"{title}: as a whole, with embeddings, a Gaussian is more likely.")
    measured = {
        title: {
            "whole": _numbers(part.whole),
            "without_embeddings": _numbers(part.pruned),
            "blocks_without_embeddings": [_numbers(block) for block in part.blocks],
        }
        for title, part in fits.items()
    }
    return {"holds": holds, "not_reproduced": missed, "found": found, "measured": measured}


def _numbers(fit: WeightFit) -> dict[str, Any]:
    return {**asdict(fit), "lead_nats_a_weight": lead(fit)}


def table(fits: Mapping[str, Fits]) -> list[dict[str, Any]]:
    """Every fit."""
    rows = []
    for title, part in fits.items():
        everything = {
            "whole": part.whole,
            "without embeddings": part.pruned,
            **{f"block {number} without embeddings": block for number, block in enumerate(part.blocks, 1)},
            **{name: fit for block in part.matrices for name, fit in block.items()},
        }
        for name, fit in everything.items():
            row = asdict(fit)
            pair = {kind: row.pop(kind) for kind in ("laplacian", "gaussian")}
            goodness = {f"{kind}_{key}": value for kind, of in pair.items() for key, value in of.items()}
            rows.append({"network": title, "part": name, **row, **goodness})
    return rows


def draw(fits: Mapping[str, Fits]) -> Pictures:
    """Histograms with both fits, as in the paper and on a logarithmic axis; below, the lead of the Laplacian."""
    title = "Weights and the distributions fitted to them (after Lyu et al., Fig. 2)"
    figure, axes = panels(title, (1.0 + 3.6 * len(fits), 8.6), 3, len(fits), sharey="row")
    for (network, part), (linear, logarithmic, below) in zip(fits.items(), axes.T, strict=True):
        for axis in (linear, logarithmic):
            _histogram(axis, part)
            axis.set_xlabel("weight, in standard deviations", fontsize=9)
        linear.set_title(network, fontsize=10)
        linear.set_ylim(0.0, 0.9)
        logarithmic.set(yscale="log", ylim=(1e-5, 2.0))
        _leads(below, part)
        below.set_xlabel("block", fontsize=9)
    for axis in axes[:2, 0]:
        axis.set_ylabel("density of the pruned matrices\n(1 / standard deviation)", fontsize=9)
    axes[2, 0].set_ylabel("log-likelihood: lead of the\nLaplacian (nats per weight)", fontsize=9)
    legend_below(figure, axes[1:, 0], 6)
    return {"": figure}


def _histogram(axis: Any, part: Fits) -> None:
    fit = part.pruned
    x = np.linspace(-_REACH, _REACH, 401)
    rate = fit.laplacian_rate * fit.gaussian_deviation
    axis.stairs(
        part.density * fit.gaussian_deviation,
        part.edges / fit.gaussian_deviation,
        fill=True,
        color=SKY,
        alpha=0.6,
        label="weights",
    )
    axis.plot(x, rate / 2.0 * np.exp(-rate * np.abs(x)), color=BLUE, label="Laplacian")
    axis.plot(x, np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi), color=VERMILION, linestyle=(0, (5, 2)), label="Gaussian")


def _leads(axis: Any, part: Fits) -> None:
    blocks = np.arange(1, len(part.blocks) + 1)
    places = np.repeat(blocks, [len(block) for block in part.matrices])
    leads = [lead(fit) for block in part.matrices for fit in block.values()]
    axis.axhline(0.0, color=GREY, linewidth=0.9)
    axis.plot(places, leads, ".", color=GREY, markersize=5, label="single matrix")
    axis.plot(blocks, [lead(fit) for fit in part.blocks], "o", color=BLUE, markersize=5, label="block")
    axis.axhline(lead(part.whole), color=BLACK, linestyle=(0, (1, 2)), linewidth=1.1, label="whole network")
    axis.set_xticks(blocks)


STUDIES = (Study("weights", compute, table, verdict, draw),)
