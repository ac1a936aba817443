"""Small fully connected networks of the papers' theory: symmetric ReLU auto-encoders, trained here (Fig. 3, L2).

They meet the assumptions of Theorem III.1 of Lyu et al.: no biases, 1-Lipschitz activations that map 0 to 0, inputs of
Euclidean norm 1. The paper gives neither its widths nor its data. The widths below, and images of handwritten digits
(scikit-learn's, 8 x 8) or of CIFAR-10 in grey (32 x 32), are used instead.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from coinfer_gym.errors import InvalidInputError, nearest
from studies.mu.cifar.data import read_jpegs

WIDTHS = {"FCDNN-8": (256, 128, 64, 32), "FCDNN-16": (256, 224, 192, 160, 128, 96, 64, 32)}
"""Outputs of the encoder's layers; the decoder mirrors them."""


@dataclass(frozen=True)
class Training:
    """How an auto-encoder is trained."""

    epochs: int = 30  # passes over the images
    batch: int = 64  # images an update
    learning_rate: float = 1e-3  # Adam's first rate; it falls to 0 along half a cosine
    seed: int = 0  # of the first weights and the order of the images


def make_autoencoder(name: str, pixels: int, seed: int = 0) -> nn.Sequential:
    """Auto-encoder with random weights, Gaussian with variance 2 over the number of inputs (He).

    Its members are the blocks, each a ``Linear`` without bias and a ``ReLU``; the last has no ``ReLU``, under which
    pixels that begin negative would never learn.
    """
    if name not in WIDTHS:
        raise InvalidInputError("network", name, nearest(name, WIDTHS))
    half = WIDTHS[name]
    widths = (pixels, *half, *half[-2::-1], pixels)
    generator = torch.Generator().manual_seed(seed)
    blocks = []
    for inputs, outputs in itertools.pairwise(widths):
        # Made empty, so that nothing is drawn from torch's own generator.
        layer = nn.Linear(inputs, outputs, bias=False, device="meta").to_empty(device="cpu")
        nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / inputs), generator=generator)
        blocks.append(nn.Sequential(layer, nn.ReLU()))
    return nn.Sequential(*blocks[:-1], blocks[-1][:1])


def train(network: nn.Sequential, images: Tensor, training: Training | None = None) -> list[float]:
    """Train an auto-encoder in place to give back its images, rows of norm 1.

    Returns the mean over each epoch of the squared Euclidean distance of output and image; 1 for an output of 0.
    """
    plan = training or Training()
    generator = torch.Generator().manual_seed(plan.seed)
    optimizer = torch.optim.Adam(network.parameters(), plan.learning_rate)
    updates = plan.epochs * math.ceil(len(images) / plan.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    losses = []
    network.train()
    for _ in range(plan.epochs):
        total = 0.0
        for batch in torch.split(torch.randperm(len(images), generator=generator), plan.batch):
            loss = (network(images[batch]) - images[batch]).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(batch)
        losses.append(total / len(images))
    network.eval()
    return losses


def normalize(images: Tensor) -> Tensor:
    """Rows scaled to Euclidean norm 1 (Assumption 1); shape (images, pixels)."""
    rows: Tensor = images / torch.linalg.vector_norm(images, dim=1, keepdim=True)
    return rows


def read_digits() -> Tensor:
    """Handwritten digits of scikit-learn, 8 x 8, as rows of norm 1; shape (1797, 64)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InvalidInputError("data", "digits", "They come with scikit-learn: pip install scikit-learn") from error
    return normalize(torch.from_numpy(load_digits().data.astype(np.float32)))


def read_cifar10_grey(path: Path, count: int) -> Tensor:
    """Images of a file of CIFAR-10, evenly spread over it, in grey (luma of ITU-R 601) as rows of norm 1."""
    pixels, _ = read_jpegs(path, "L", count)
    rows = pixels.reshape(count, -1).astype(np.float32)
    # A black image has no direction; the floor keeps its norm above 0.
    return normalize(torch.from_numpy(np.maximum(rows, 1.0)))


def theorem_constant(network: nn.Sequential) -> float:
    """Constant of Theorem III.1: ``max_l prod_(i != l) ||W_i||_F`` over the layers of a fully connected network.

    For every input of norm 1 the output of a pruned network moves by at most this times ``||w - w_hat||_1``; the
    derivation is in docs/mathematics.md.
    """
    logs = [math.log(float(torch.linalg.matrix_norm(weight))) for weight in _matrices(network)]
    return math.exp(sum(logs) - min(logs))


def layer_bound(network: nn.Sequential, pruned: nn.Sequential, norm: str = "frobenius") -> float:
    """Bound on the output distortion before Theorem III.1 takes one constant for all layers.

    ``sum_l prod_(i<l) ||W_i|| ||W_l - W_hat_l|| prod_(i>l) max(||W_i||, ||W_hat_i||)``, in the paper's Frobenius
    norm or in the spectral one, which is never larger.
    """
    order = "fro" if norm == "frobenius" else 2

    def size(weight: Tensor) -> float:
        return float(torch.linalg.matrix_norm(weight, order))

    before, after = _matrices(network), _matrices(pruned)
    below = 0.0
    reach = 1.0
    # From input to output: what has moved so far passes the layer, and the layer's own move is added.
    for old, new in zip(before, after, strict=True):
        below = below * max(size(old), size(new)) + size(old - new) * reach
        reach *= size(old)
    return below


def _matrices(network: nn.Sequential) -> list[Tensor]:
    return [weight.detach() for block in network for weight in block.parameters()]
