"""Output against parameter distortion of pruned networks (Lyu et al., Thm III.1, Prop. III.2, Fig. 3; claims L2, L3).

"The parameter distortion bounds the output distortion" is judged three ways (derived in docs/mathematics.md):

- with the constant of Theorem III.1, ``max_l prod_(i != l) ||W_i||_F`` (fully connected networks);
- with the constant of Proposition III.2, the largest Frobenius norm `G` of the output's gradient by the pruned weights
  (first order in the change, so no certain bound where many weights go);
- with the constant 1, ``||w - w_hat||_1`` alone, as Fig. 3 of the paper shows it.

Output distortion is the Euclidean distance of the outputs, its largest value over the inputs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from baselines.output import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY
from coinfer_gym.models.prune import METHODS, prunable, prune
from studies.drawing import label_columns, legend_below, panels
from studies.figure import Floats, Pictures, Study
from studies.lyu.autoencoder import layer_bound, theorem_constant
from studies.lyu.networks import Network, networks

RATIOS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Retained ratios; at 1 both distortions are 0."""

PROBES = 16
"""Random directions for the norm of the gradient."""

SMALL = {"L2": 0.5, "L3": 0.7}
"""Ratio above which the paper finds the gap small."""

_LINEAR_GAP = {"L2": 0.2, "L3": 0.1}  # of the distortion of keeping nothing; the paper gives no number
_FACTOR = 10.0
_CLAIMS = {
    "L2": (
        *(SMALL["L2"], "Theorem III.1 and its form by layers bound"),
        ("theorem", "layers_frobenius", "layers_spectral"),
    ),
    "L3": (SMALL["L3"], "Proposition III.2 bounds", ("proposition",)),
}
_COLUMNS = ("parameter", "euclidean", "output_max", "output_mean", "theorem", "layers_frobenius", "layers_spectral")


class Distortions(NamedTuple):
    """Distortions of a network over `RATIOS`."""

    pretrained: bool  # whether claim L3 speaks of it, or else L2
    ratio: Floats  # shape (ratios,)
    # shape (ratios,): ``||w - w_hat||`` in the l1 and the l2 norm
    parameter: Floats
    euclidean: Floats
    # shape (ratios,): of the inputs
    output_max: Floats
    output_mean: Floats
    # shape (ratios,): bound of Theorem III.1, and the tighter ones before one constant is taken for all layers; NaN
    # where the network is not fully connected
    theorem: Floats
    layers_frobenius: Floats
    layers_spectral: Floats
    nothing: float  # ``||w||_1``, the parameter distortion of keeping nothing
    gradient: float  # `G` of Proposition III.2
    output_size: float  # mean Euclidean norm of the unpruned outputs


Key = tuple[str, str]
"""Network and pruning method."""


def compute(measured: Sequence[Network] | None = None, ratios: Sequence[float] = RATIOS) -> dict[Key, Distortions]:
    """Measure networks at retained ratios: those of `networks` when left out."""
    return {
        (network.title, method): part
        for network in measured or networks()
        for method, part in measure(network, ratios).items()
    }


@torch.no_grad()
def measure(network: Network, ratios: Sequence[float] = RATIOS) -> dict[str, Distortions]:
    """Prune copies of a network, over all its weights together, and measure what moves."""
    model = network.model
    before = network.outputs(model, slice(None))
    weights = [weight.detach() for weight in prunable(model)]
    nothing = sum(float(weight.abs().sum(dtype=torch.float64)) for weight in weights)
    gradient = gradient_norm(network)
    # Theorem III.1 is about fully connected networks alone.
    constant = theorem_constant(model) if isinstance(model, nn.Sequential) else np.nan
    found = {}
    for method in METHODS:
        rows = []
        for ratio in ratios:
            pruned = copy.deepcopy(model)
            parameter = prune(pruned, ratio, method=method).distortion
            moves = zip(weights, prunable(pruned), strict=True)
            euclidean = sum(float((old - new).square().sum(dtype=torch.float64)) for old, new in moves) ** 0.5
            moved = torch.linalg.vector_norm(network.outputs(pruned, slice(None)) - before, dim=1)
            layers = [np.nan, np.nan]
            if isinstance(model, nn.Sequential) and isinstance(pruned, nn.Sequential):
                layers = [layer_bound(model, pruned, norm) for norm in ("frobenius", "spectral")]
            rows.append([parameter, euclidean, float(moved.max()), float(moved.mean()), constant * parameter, *layers])
        size = float(torch.linalg.vector_norm(before, dim=1).mean())
        columns = dict(zip(_COLUMNS, np.array(rows).T, strict=True))
        found[method] = Distortions(
            network.pretrained, np.array(ratios), nothing=nothing, gradient=gradient, output_size=size, **columns
        )
    return found


def gradient_norm(network: Network, probes: int = PROBES, seed: int = 0) -> float:
    """Constant `G` of Proposition III.2: the largest Frobenius norm of the output's gradient over the measured inputs.

    For a random `v` of independent signs, ``E ||J^T v||^2 = ||J||_F^2`` with the Jacobian `J` of the output by all
    pruned weights, so that it is estimated without `J` itself, from `probes` random `v` for every input.
    """
    weights = list(prunable(network.model))
    generator = torch.Generator().manual_seed(seed)
    largest = 0.0
    with torch.enable_grad():
        for number in range(network.inputs):
            output = network.outputs(network.model, slice(number, number + 1))
            total = 0.0
            for _ in range(probes):
                signs = torch.randint(0, 2, output.shape, generator=generator) * 2.0 - 1.0
                parts = torch.autograd.grad((output * signs).sum(), weights, retain_graph=True)
                total += sum(float(part.square().sum(dtype=torch.float64)) for part in parts)
            largest = max(largest, total / probes)
    return float(np.sqrt(largest))


def verdict(curves: Mapping[Key, Distortions]) -> dict[str, Any]:
    """What the curves say about claims L2 and L3."""
    measured = {key: _measure(part) for key, part in curves.items()}
    holds: dict[str, bool] = {}
    missed, found = [], []
    for claim, (start, statement, bounds) in _CLAIMS.items():
        mine = {key: measured[key] for key, part in curves.items() if part.pretrained == (claim == "L3")}
        if not mine:
            continue
        least = [part["smallest_factor"] for part in mine.values()]
        gap = max((part["linear_gap"] for key, part in mine.items() if key[1] == "magnitude"), default=0.0)
        holds |= {
            f"{claim}: {statement} the output distortion at every ratio, both prunings": all(
                part[name] >= 1.0 for part in least for name in bounds
            ),
            f"{claim}: the parameter distortion alone bounds it too": all(part["alone"] >= 1.0 for part in least),
            f"{claim}: magnitude, from ratio {start}: the gap is at most {_LINEAR_GAP[claim]} of the parameter "
            "distortion of keeping nothing": gap <= _LINEAR_GAP[claim],
        }
        for (title, method), part in mine.items():
            factors = ", ".join(f"{value:.3g} at {ratio}" for ratio, value in part["factor_by_ratio"].items())
            found.append(
                f"{claim}: {title}, {method}: parameter distortion over output distortion {factors}"
                f"; with the least constant that bounds at every ratio, {part['least_constant']:.3g}, at most "
                f"{part['factor_with_least_constant']:.3g} from ratio {start}."
            )
            if part["smallest_factor_from"] > _FACTOR:
                missed.append(
                    f"{claim}: {title}, {method}: as a factor the gap is not small from ratio {start}: the "
                    f"parameter distortion is at least {part['smallest_factor_from']:.3g} times the output distortion."
                )
    if len({part.pretrained for part in curves.values()}) == 2:
        claim = "L3: the gap, as a factor and its geometric mean over the ratios, is wider than for L2's networks"
        holds[claim], exceptions = _wider(curves)
        missed += exceptions
    return {
        "holds": holds,
        "not_reproduced": missed,
        "found": found,
        "measured": {", ".join(key): part for key, part in measured.items()},
        "limits": {"linear_gap": _LINEAR_GAP, "from_ratio": SMALL, "factor": _FACTOR},
        "settings": {"probes": PROBES},
    }


def _bounds(part: Distortions) -> dict[str, Floats]:
    return {
        "alone": part.parameter,
        "proposition": part.gradient * part.parameter,
        "proposition_euclidean": part.gradient * part.euclidean,
        "theorem": part.theorem,
        "layers_frobenius": part.layers_frobenius,
        "layers_spectral": part.layers_spectral,
    }


def least_constant(part: Distortions) -> float:
    """Least constant by which the parameter distortion bounds the largest output distortion at every ratio."""
    return float((part.output_max / part.parameter).max())


def _measure(part: Distortions) -> dict[str, Any]:
    """Constants, and how far the bounds are from the largest output distortion of the inputs."""
    factors = {name: bound / part.output_max for name, bound in _bounds(part).items()}
    upper = part.ratio >= SMALL["L3" if part.pretrained else "L2"]
    least = least_constant(part)
    return {
        "gradient": part.gradient,
        "theorem_constant": float(part.theorem[0] / part.parameter[0]),
        "least_constant": least,
        "smallest_factor": {name: float(factor.min()) for name, factor in factors.items()},
        "smallest_factor_from": float(factors["alone"][upper].min()),
        "factor_by_ratio": {
            f"{ratio:g}": float(factor) for ratio, factor in zip(part.ratio, factors["alone"], strict=True)
        },
        "factor_with_least_constant": float((least * factors["alone"][upper]).max()),
        "linear_gap": float(((part.parameter - part.output_max)[upper] / part.nothing).max()),
        "output_size": part.output_size,
        "parameter_nothing": part.nothing,
    }


def _wider(curves: Mapping[Key, Distortions]) -> tuple[bool, list[str]]:
    """Whether each pre-trained network's mean factor exceeds those of all others, and the exceptions by ratio."""
    factors = {key: np.log(part.parameter / part.output_max) for key, part in curves.items()}
    wider, exceptions = True, []
    for (title, method), part in curves.items():
        for (other, same), rival in curves.items():
            if not part.pretrained or rival.pretrained or method != same:
                continue
            lead = factors[title, method] - factors[other, same]
            wider &= bool(lead.mean() > 0.0)
            exceptions += [
                f"L3: {title}, {method}: the factor is below that of {other} at ratio {ratio:g}."
                for ratio in part.ratio[lead <= 0.0]
            ]
    return wider, exceptions


def table(curves: Mapping[Key, Distortions]) -> list[list[Any]]:
    """All points, the header first."""
    rows: list[list[Any]] = [["network", "method", "retained", *_COLUMNS, "proposition"]]
    for key, part in curves.items():
        columns = [getattr(part, name) for name in ("ratio", *_COLUMNS)]
        rows += [[*key, *row] for row in zip(*columns, part.gradient * part.parameter, strict=True)]
    return rows


_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "theorem": ("Theorem III.1", {"color": ORANGE, "linestyle": (0, (8, 2.5))}),
    "layers_spectral": ("its form by layers, spectral norms", {"color": PURPLE, "linestyle": (0, (5, 1.5, 1, 1.5))}),
    "proposition": ("Proposition III.2", {"color": GREEN, "linestyle": (0, (5, 2))}),
    "proposition_euclidean": ("its Euclidean form", {"color": SKY, "linestyle": (0, (1.2, 1.2))}),
    "alone": ("parameter distortion alone", {"color": BLUE}),
}


def draw(curves: Mapping[Key, Distortions]) -> Pictures:
    """Two rows of panels per pruning method, a column per network: all bounds, and what touches on a linear axis."""
    titles = list(dict.fromkeys(title for title, _ in curves))
    title = "Output distortion and what bounds it (after Lyu et al., Fig. 3)"
    size = (0.8 + 2.6 * len(titles), 11.6)
    figure, axes = panels(title, size, 2 * len(METHODS), len(titles), sharex=True)
    for method, pair in zip(METHODS, axes.reshape(len(METHODS), 2, -1), strict=True):
        for logarithmic, linear, network in zip(*pair, titles, strict=True):
            _draw_bounds(logarithmic, curves[network, method])
            _draw_touching(linear, curves[network, method])
        pair[0, 0].set_ylabel(f"{method} pruning\ndistortion of outputs and its bounds", fontsize=9)
        pair[1, 0].set_ylabel(f"{method} pruning\nthe same, scaled to touch", fontsize=9)
    label_columns(axes, titles, "retained ratio")
    legend_below(figure, axes[:2], 4)
    return {"": figure}


def _draw_bounds(axis: Any, part: Distortions) -> None:
    for name, (label, look) in _LINES.items():
        bound = _bounds(part)[name]
        if not np.isnan(bound).any():
            axis.plot(part.ratio, bound, label=label, linewidth=1.5, **look)
    _draw_outputs(axis, part)
    axis.set_yscale("log")


def _draw_touching(axis: Any, part: Distortions) -> None:
    """As in the paper's figure, on a linear axis: the parameter distortion times the least constant that bounds."""
    _, look = _LINES["alone"]
    axis.plot(part.ratio, least_constant(part) * part.parameter, linewidth=1.5, **look)
    _draw_outputs(axis, part)
    axis.set_ylim(0.0, None)


def _draw_outputs(axis: Any, part: Distortions) -> None:
    axis.plot(part.ratio, part.output_max, color=BLACK, marker="o", markersize=3.5, label="output, largest")
    axis.plot(part.ratio, part.output_mean, ":", color=BLACK, linewidth=1.1, label="output, mean")


STUDIES = (Study("output_distortion", compute, table, verdict, draw),)
