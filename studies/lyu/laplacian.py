"""Which distribution the weights of a network follow: a Laplacian or a Gaussian, by block and as a whole (Fig. 2, L1).

Both have mean 0 and one parameter, so that neither gains by freedom: the papers' theory takes weights as
``Laplacian(0, 1/lambda)``, and a pruned weight moves to 0, not to a mean. The fit reports the mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.prune import prunable, weights_of_blocks


@dataclass(frozen=True)
class Goodness:
    """How well a distribution fits."""

    log_likelihood: float  # in nats, of all weights together, at the most likely parameter
    ks: float  # Kolmogorov-Smirnov distance, the largest difference of the distribution functions, in [0, 1]
    aic: float  # Akaike's criterion ``2 - 2 ln L`` with one parameter; smaller is better


@dataclass(frozen=True)
class WeightFit:
    """Weights and the two distributions fitted to them."""

    values: int  # number of weights
    mean: float  # their mean; both distributions have 0
    excess_kurtosis: float  # fourth moment about 0 over the squared second, less 3: 0 for a Gaussian, 3 for a Laplacian
    laplacian_rate: float  # most likely ``lambda = 1 / E|w|``
    gaussian_deviation: float  # most likely ``sigma = sqrt(E w^2)``
    # differential entropy of a weight in bits, measured without either distribution (`entropy_bits`)
    entropy_bits: float
    # how well each fits
    laplacian: Goodness
    gaussian: Goodness

    @property
    def laplacian_is_better(self) -> bool:
        """Whether the Laplacian is the more likely of the two; with one parameter each AIC says the same."""
        return self.laplacian.log_likelihood > self.gaussian.log_likelihood


def fit_weights(weights: Tensor | Iterable[Tensor]) -> WeightFit:
    """Fit a Laplacian and a Gaussian of mean 0 by maximum likelihood to weights of any shapes.

    ``ln L`` is ``n (ln(lambda/2) - 1)`` for the Laplacian and ``-n/2 (ln(2 pi sigma^2) + 1)`` for the Gaussian.
    """
    parts = [weights] if isinstance(weights, Tensor) else list(weights)
    # In 32 bits at least: numpy knows no brain floats.
    flat = [part.detach().flatten().to(torch.promote_types(part.dtype, torch.float32)) for part in parts]
    values = torch.cat(flat) if flat else torch.empty(0)
    if len(values) < 2 or not bool(values.isfinite().all()) or not bool(values.any()):
        raise InvalidInputError(
            "weights", f"{len(values)} values", "Give at least two finite weights that are not all 0."
        )
    # numpy sorts several times faster than torch.
    values = torch.from_numpy(np.sort(values.numpy())).double()
    rate = 1.0 / float(values.abs().mean())
    square = float(values.square().mean())
    deviation = math.sqrt(square)
    laplacian = len(values) * (math.log(rate / 2.0) - 1.0)
    gaussian = -len(values) / 2.0 * (math.log(2.0 * math.pi * square) + 1.0)
    tails = torch.exp(-rate * values.abs()) / 2.0
    return WeightFit(
        len(values),
        float(values.mean()),
        float(values.pow(4).mean()) / square**2 - 3.0,
        rate,
        deviation,
        entropy_bits(values),
        _goodness(laplacian, values, torch.where(values < 0.0, tails, 1.0 - tails)),
        _goodness(gaussian, values, torch.special.ndtr(values / deviation)),
    )


def fit_blocks(network: PreTrainedModel | nn.Sequential) -> list[WeightFit]:
    """Fit the prunable weights of every block of a network, in order; the members of a ``Sequential`` are its blocks.

    Their ``laplacian_rate`` are those that `coinfer_gym.models.build.workload_from_model` writes into a workload.
    """
    touched = prunable(network)
    return [fit_weights([weight for weight in block if weight in touched]) for block in weights_of_blocks(network)]


def entropy_bits(values: Tensor) -> float:
    """Differential entropy of at least two sorted weights in bits, from their spacing (Vasicek's estimate).

    The mean of ``log2(n/(2m) (w_(i+m) - w_(i-m)))`` with ``m = floor(sqrt(n) + 1/2)``, the ends repeated. Minus
    infinity where more than `2m` values are equal.
    """
    count = len(values)
    # At most half of the values may lie to each side.
    window = min(math.floor(math.sqrt(count) + 0.5), (count - 1) // 2 or 1)
    padded = torch.cat([values[:1].expand(window), values, values[-1:].expand(window)])
    spacing = padded[2 * window :] - padded[: -2 * window]
    return float(torch.log2(spacing * (count / (2.0 * window))).mean())


def _goodness(log_likelihood: float, values: Tensor, expected: Tensor) -> Goodness:
    """From sorted values and a distribution function at them: the empirical one steps there from below to above."""
    count = len(values)
    steps = torch.arange(count + 1, dtype=torch.float64) / count
    ks = float(torch.maximum(steps[1:] - expected, expected - steps[:-1]).max())
    return Goodness(log_likelihood, ks, 2.0 - 2.0 * log_likelihood)
