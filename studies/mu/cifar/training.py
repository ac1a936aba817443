"""Trains the networks on CIFAR-10, and tunes compressed ones.

``python -m studies.mu.cifar.training --network alexnet --output FOLDER``
writes the weights, the log of the training (``log.csv``), and its settings with the accuracy (``training.json``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from coinfer_gym.command import command
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import csv_text, machine, read_csv, versions, write_bytes, write_text
from coinfer_gym.models.inputs import check_positive, check_recipe
from coinfer_gym.models.progress import resume, save_progress
from studies.mu.cifar.data import TEST, TRAIN, Images, augmented, data_folder, read_cifar10, scaled
from studies.mu.cifar.networks import NAMES, Chain, make_network

_WARM = 0.15  # share of the updates in which the learning rate rises
_SMOOTHING = 0.1  # of the labels
_TEST_BATCH = 500
WEIGHTS, DESCRIPTION, LOG, PROGRESS = "model.safetensors", "training.json", "log.csv", "progress.safetensors"


_MEANINGS = {
    "updates": "steps of stochastic gradient descent with Nesterov's momentum 0.9",
    "batch": "images per update",
    "learning_rate": "peak rate, reached after 15 %% of the updates; it then falls linearly to 0",
    "weight_decay": "weight decay of every weight",
    "seed": "seed of the first weights, the order of the images, their shifts, and dropout",
}


@dataclass(frozen=True)
class Recipe:
    """How a network is trained or tuned."""

    updates: int = 9750  # in 16-bit brain floats
    batch: int = 128
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    seed: int = 0

    def __post_init__(self) -> None:
        check_recipe(self, ("updates", "batch"))


def tune(
    network: nn.Module, images: Images, recipe: Recipe, momentum: Sequence[Tensor] | None = None, first: int = 0
) -> Iterator[float]:
    """Train a network in place; yields the loss of every update.

    To resume a training, give its momentum, one buffer per parameter (updated in place, zeros at the start), and its
    first update. The random draws of an update depend on its number alone.
    """
    parameters = list(network.parameters())
    buffers = [torch.zeros_like(weight) for weight in parameters] if momentum is None else list(momentum)
    optimizer = torch.optim.SGD(parameters, momentum=0.9, weight_decay=recipe.weight_decay, nesterov=True)
    for weight, buffer in zip(parameters, buffers, strict=True):
        optimizer.state[weight]["momentum_buffer"] = buffer
    each = min(recipe.batch, len(images.labels))
    turns = len(images.labels) // each
    network.train()
    for update in range(first, recipe.updates):
        generator = np.random.default_rng([recipe.seed, update])
        order = np.random.default_rng([recipe.seed, 0, update // turns]).permutation(len(images.labels))
        batch = images[torch.from_numpy(order[update % turns * each :][:each])]
        rise = (update + 1) / max(_WARM * recipe.updates, 1.0)
        fall = (recipe.updates - update) / ((1.0 - _WARM) * recipe.updates)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(rise, fall, 1.0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator.integers(2**63)))  # dropout and the noise of a channel
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = network(scaled(augmented(batch.pixels, generator)))
        loss = cross_entropy(logits.float(), batch.labels, label_smoothing=_SMOOTHING)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield float(loss.detach())
    network.eval()


@torch.inference_mode()
def accuracy(network: nn.Module, images: Images, seed: int = 0) -> float:
    """Share of images that a network classifies correctly, in the precision of its training."""
    network.eval()
    right = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for first in range(0, len(images.labels), _TEST_BATCH):
            batch = images[slice(first, first + _TEST_BATCH)]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = network(scaled(batch.pixels))
            right += int((logits.argmax(dim=1) == batch.labels).sum())
    return right / len(images.labels)


def load_network(folder: Path) -> Chain:
    """A network that `train` has written."""
    if not (folder / WEIGHTS).is_file():
        raise InvalidInputError(
            "weights",
            str(folder),
            f"There is no {WEIGHTS}: python -m studies.mu.cifar.training --output {folder} trains the network.",
        )
    try:
        name = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["network"]
        network = make_network(name)
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InvalidInputError("weights", str(folder), f"The training is damaged, repeat it: {error!r}") from error
    return network.eval()


def train(name: str, data: Path, output: Path, recipe: Recipe, threads: int) -> dict[str, Any]:
    """Train a network and write it with its log; an interrupted training continues, and a finished one is not repeated.

    Returns the settings, and the ``accuracy`` on the test images.
    """
    made_by = {"network": name, **asdict(recipe), "threads": threads, "versions": versions(), "machine": machine()}
    description, log, progress = output / DESCRIPTION, output / LOG, output / PROGRESS
    before = _description(description)
    for key in ("network", *(field.name for field in fields(Recipe))):
        if before and before.get(key) != made_by[key]:
            raise InvalidInputError(
                "output", str(output), f"It holds a training with {key} {before.get(key)!r}: give another folder."
            )
    if "accuracy" in before and (output / WEIGHTS).is_file():
        print(f"{output} holds this training, finished: nothing is done again.")
        return before
    torch.set_num_threads(threads)
    network = make_network(name, recipe.seed)
    images, test = read_cifar10(data / TRAIN), read_cifar10(data / TEST)
    momentum = [torch.zeros_like(weight) for weight in network.parameters()]
    tensors = {**network.state_dict(), **{f"momentum.{number}": buffer for number, buffer in enumerate(momentum)}}
    first = resume(progress, tensors) if progress.is_file() else 0
    rows = [row for row in read_csv(log) if int(row["update"]) < first] if first else []
    write_text(description, json.dumps(made_by, indent=1) + "\n")
    start, period = time.perf_counter(), len(images.labels) // recipe.batch
    losses = tune(network, images, recipe, momentum, first)
    for update, loss in enumerate(tqdm(losses, name, recipe.updates, unit="update", initial=first), start=first):
        rows.append({"update": update, "loss": round(loss, 5), "seconds": round(time.perf_counter() - start, 1)})
        if (update + 1) % period == 0:
            save_progress(progress, tensors, update + 1)
            write_text(log, csv_text(rows))
    made_by["accuracy"] = accuracy(network, test)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_bytes(output / WEIGHTS, save(weights))
    write_text(log, csv_text(rows))
    write_text(description, json.dumps(made_by, indent=1) + "\n")
    progress.unlink(missing_ok=True)
    return made_by


def _description(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return dict(content)
    except (ValueError, TypeError) as error:
        raise InvalidInputError("output", str(path), f"The file is damaged, remove it: {error!r}") from error


@command("studies.mu.cifar.training", "interrupted; the same command goes on where it stopped")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser("python -m studies.mu.cifar.training", description="Train a network on CIFAR-10.")
    parser.add_argument("--network", choices=NAMES, required=True, help="network to train")
    parser.add_argument("--data", type=Path, default=data_folder(), help=f"folder of {TRAIN} and {TEST}")
    parser.add_argument("--output", type=Path, required=True, help="folder of the result")
    for field in fields(Recipe):
        option, text = f"--{field.name.replace('_', '-')}", f"{_MEANINGS[field.name]} (default: {field.default})"
        parser.add_argument(option, type=type(field.default), default=field.default, help=text)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    options = vars(parser.parse_args(arguments))
    check_positive("threads", options["threads"])
    recipe = Recipe(**{field.name: options[field.name] for field in fields(Recipe)})
    made_by = train(options["network"], options["data"], options["output"], recipe, options["threads"])
    print(f"wrote {options['output']}: {100 * made_by['accuracy']:.2f} % of the test images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
