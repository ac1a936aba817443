"""Measures the accuracy of compressed networks on CIFAR-10, for an accuracy predictor to learn from.

``python -m studies.mu.cifar.sweep --weights FOLDER --output NAME.csv --count 300`` draws designs at random,
compresses the network by each of them, and writes a row with its accuracy on all test images as soon as it is known.
``NAME.json`` notes what made the rows. An interrupted run continues, and a larger count adds to a smaller one.
"""

from __future__ import annotations

import argparse
import csv
import functools
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from coinfer_gym.command import command, command_line
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import csv_text, machine, read_csv, versions, write_text
from coinfer_gym.layerwise.network import Network
from coinfer_gym.layerwise.network import load_network as load_network_table
from coinfer_gym.models.inputs import check_positive
from coinfer_gym.parallel import run_parallel
from studies.mu.cifar.compress import Design, Tuning, compress
from studies.mu.cifar.data import TEST, TRAIN, Images, data_folder, read_cifar10
from studies.mu.cifar.filters import CRITERIA
from studies.mu.cifar.networks import GROUPS, Chain
from studies.mu.cifar.training import WEIGHTS, Recipe, accuracy, load_network

LEAST_RETAINED = 0.1
UNPRUNED = 0.3  # share of the retained ratios that are 1
UNCOMPRESSED = 0.3  # share of the designs without a codec
HIGHEST_SNR = 50.0  # dB, as in Fig. 11

CONV2_RETAINED = (0.05, 0.08, 0.11, 0.15, 0.2, 0.26, 0.35, 0.5, 0.7, 1.0)
FC1_COMPRESSION = (1 / 1024, 0.002, 0.005, 0.01, 0.02, 0.04, 0.065, 0.1, 0.2, 0.5)
LONGER = 4
"""Times as many updates in the second tuning of every point of `layer_designs` and of every chosen design."""


class Work(NamedTuple):
    """One row to measure."""

    number: int  # of the design, from 0; also of the seed of its tuning
    design: Design  # what to measure
    curve: str = ""  # name of its curve; empty for random designs
    longer: int = 1  # times as many updates in both steps of tuning


@dataclass(frozen=True)
class Source:
    """Network, images and tuning that the designs are measured with."""

    weights: Path  # folder of a trained network
    data: Path  # folder of the images
    tuning: Tuning  # how a compressed network is tuned; the seeds are those of design 0


def draw_design(network: Network, number: int, *, noise: bool = False, criterion: str = "l1", seed: int = 0) -> Design:
    """A random design, which depends on its number and the seed alone; with noise only inner cuts are drawn."""
    generator = np.random.default_rng([seed, number])
    groups, blocks = len(network.groups), len(network.blocks)
    # Each design has its own severity: designs that lose little are the ones that get chosen, and must not be rare.
    severity = generator.random()
    ratios = 1.0 - severity * generator.uniform(0.0, 1.0 - LEAST_RETAINED, groups)
    ratios[generator.random(groups) < UNPRUNED] = 1.0
    cut = int(generator.integers(1, blocks)) if noise else int(generator.integers(blocks + 1))
    exponent, uncompressed = generator.random(2)
    compression = 1.0
    if 0 < cut < blocks and uncompressed >= UNCOMPRESSED:
        channels = network.groups[network.tables.cuts["group"][cut] - 1].channels
        compression = round(float(channels ** (-severity * exponent)), 5)
    snr_db = round(float(generator.uniform(0.0, HIGHEST_SNR)), 2) if noise else None
    return Design(cut, tuple(round(float(ratio), 4) for ratio in ratios), compression, snr_db, criterion)


def layer_designs(network: Chain, criterion: str = "l1") -> list[Work]:
    """AlexNet with its second convolution pruned alone, and with its first fully connected layer compressed alone."""
    if network.name != "alexnet":
        raise InvalidInputError("layers", network.name, "The single-layer curves are those of alexnet.")
    names = [group.name for group in GROUPS[network.name]]
    whole = (1.0,) * len(names)
    second, after_fc1 = names.index("conv2"), list(network.units).index("fc1") + 1
    pruned = [(*whole[:second], ratio, *whole[second + 1 :]) for ratio in CONV2_RETAINED]
    points = [("conv2", Design(len(network.units), ratios, criterion=criterion)) for ratios in pruned]
    points += [("fc1", Design(after_fc1, whole, share, criterion=criterion)) for share in FC1_COMPRESSION]
    return _twice(points)


def uniform_designs(network: Chain, count: int, criterion: str = "l1") -> list[Work]:
    """One retained ratio for all groups, from the least to 1 in equal steps, without a cut."""
    units, groups = len(network.units), len(GROUPS[network.name])
    ratios = np.linspace(LEAST_RETAINED, 1.0, count).round(4).tolist()
    return [Work(number, Design(units, (ratio,) * groups, criterion=criterion)) for number, ratio in enumerate(ratios)]


def chosen_designs(network: Chain, path: Path) -> list[Work]:
    """Designs of a CSV file of `studies.mu.confirmed`, each to be measured with the usual tuning and a longer one."""
    if not path.is_file():
        raise InvalidInputError("designs", str(path), "There is no such file.")
    points = []
    try:
        for row in read_csv(path):
            retained = tuple(float(row[f"retained_{group.name}"]) for group in GROUPS[network.name])
            design = Design(int(row["cut"]), retained, float(row["compression"]), criterion=row["criterion"])
            points.append((row["curve"], design))
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise InvalidInputError("designs", str(path), f"It holds no designs of {network.name}: {error!r}") from error
    if not points:
        raise InvalidInputError("designs", str(path), "Give at least one design.")
    return _twice(points)


def _twice(points: Sequence[tuple[str, Design]]) -> list[Work]:
    """Every point with the usual tuning and, under another name, with the longer one."""
    long = [(f"{curve}_long", design) for curve, design in points]
    return [
        Work(number, design, curve, LONGER if number >= len(points) else 1)
        for number, (curve, design) in enumerate([*points, *long])
    ]


def sweep(source: Source, work: Sequence[Work], output: Path, *, jobs: int = 1) -> list[dict[str, Any]]:
    """Measure designs whose numbers are not in the file yet, and write every result as soon as it is known.

    Returns all rows of the file by number; ``sent_values`` are those of one image, ``seconds`` of the processor.
    """
    rows = _read_rows(output, work, _network(source.weights).name)
    done = {int(row["design"]) for row in rows}
    left = [each for each in work if each.number not in done]
    with tqdm(total=len(left), desc=output.stem, unit="design") as bar:
        for row in run_parallel(_measure, [(source, each) for each in left], jobs):
            rows = sorted([*rows, row], key=lambda each: int(each["design"]))
            write_text(output, csv_text(rows))
            bar.update()
    return rows


def _measure(source: Source, work: Work) -> dict[str, Any]:
    # One thread, so that the number of processes does not change a result by the order of its sums.
    torch.set_num_threads(1)
    network, images = _network(source.weights), _images(source.data / TRAIN)
    test = _images(source.data / TEST)
    start = time.process_time()
    tuning = Tuning(_own(source.tuning.prune, work, step=0), _own(source.tuning.codec, work, step=1))
    compressed = compress(network, work.design, images, tuning)
    right = accuracy(compressed, test)
    sent = compressed.sent_shape(test)
    return _columns(work, network.name) | {
        "sent_channels": sent[0] if sent else 0,
        "sent_values": int(np.prod(sent)) if sent else 0,
        "snr_db": "" if work.design.snr_db is None else work.design.snr_db,
        "accuracy": round(right, 6),
        "seconds": round(time.process_time() - start, 2),
    }


def _own(recipe: Recipe, work: Work, step: int) -> Recipe:
    """Recipe with its own seed for every design and step, and the number of updates of its curve."""
    return replace(recipe, updates=work.longer * recipe.updates, seed=recipe.seed + 2 * work.number + step)


def _columns(work: Work, name: str) -> dict[str, Any]:
    """Columns of a row that are known before its design is measured."""
    row: dict[str, Any] = {"curve": work.curve} if work.curve else {}
    row |= {"design": work.number, "cut": work.design.cut}
    row |= {f"retained_{group.name}": ratio for group, ratio in zip(GROUPS[name], work.design.retained, strict=True)}
    return row | {"compression": work.design.compression}


def _read_rows(path: Path, work: Sequence[Work], name: str) -> list[dict[str, Any]]:
    by_number = {each.number: each for each in work}
    try:
        rows = read_csv(path) if path.is_file() else []
        for row in rows:
            measured = [float(row[key]) for key in ("sent_channels", "sent_values", "accuracy", "seconds")]
            if not (0.0 <= measured[2] <= 1.0 and None not in row and None not in row.values()):
                raise ValueError(f"row {row}")
            planned = by_number.get(int(row["design"]))
            for key, value in _columns(planned, name).items() if planned else ():
                if row[key] != str(value):
                    raise ValueError(f"{key} of design {row['design']} is {row[key]}, not {value}")
        if len({row["design"] for row in rows}) < len(rows):
            raise ValueError("a design is listed twice")
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise InvalidInputError(
            "output", str(path), f"The file is damaged or holds other designs, give another: {error!r}"
        ) from error
    return rows


@functools.cache
def _network(weights: Path) -> Chain:
    return load_network(weights)


@functools.cache
def _images(path: Path) -> Images:
    return read_cifar10(path)


def _description_before(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Description of earlier rows; empty if there is none."""
    if not path.is_file():
        return {}
    try:
        before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        differing = [key for key in settings if before[key] != settings[key]]
        float(before["accuracy"])
        list(map(str, before["commands"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError("output", str(path), f"The file is damaged: {error!r}") from error
    for key in differing:
        raise InvalidInputError(
            "output", str(path), f"It describes measurements with {key} {before[key]!r}: give another output."
        )
    return before


def _plan(options: argparse.Namespace, network: Chain) -> tuple[str, list[Work]]:
    """Kind of the designs that the command line asks for, and these."""
    if options.designs:
        work = chosen_designs(network, options.designs)
        return f"chosen, sha256 {hashlib.sha256(options.designs.read_bytes()).hexdigest()}", work
    if options.layers:
        return "layers", layer_designs(network, options.criterion)
    if options.uniform:  # the steps depend on how many they are: a larger count cannot add to a smaller one
        return f"uniform, {options.count} steps", uniform_designs(network, options.count, options.criterion)
    drawn = {"noise": options.noise, "criterion": options.criterion, "seed": options.seed}
    table = load_network_table(network.name)
    designs = [Work(number, draw_design(table, number, **drawn)) for number in range(options.count)]
    return "noise" if options.noise else "random", designs


@command("studies.mu.cifar.sweep", "interrupted; the same command goes on where it stopped")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        "python -m studies.mu.cifar.sweep", description="Measure the accuracy of compressed networks."
    )
    parser.add_argument("--weights", type=Path, required=True, help="folder of a trained network")
    parser.add_argument("--data", type=Path, default=data_folder(), help=f"folder of {TRAIN} and {TEST}")
    parser.add_argument("--output", type=Path, required=True, help="CSV file of the results")
    parser.add_argument("--count", type=int, default=300, help="number of random or uniform designs (default: 300)")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--noise", action="store_true", help="random designs with a noisy channel")
    kinds.add_argument("--layers", action="store_true", help="single layers of alexnet instead of random designs")
    kinds.add_argument("--uniform", action="store_true", help="one retained ratio for all groups, in equal steps")
    kinds.add_argument("--designs", type=Path, help="CSV file of chosen designs instead of random ones")
    parser.add_argument(
        "--criterion", choices=CRITERIA, default="l1", help="what pruning ranks filters by (default: l1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the designs (default: 0)")
    parser.add_argument(
        "--prune-updates", type=int, default=24, help="updates of the weights after pruning (default: 24)"
    )
    parser.add_argument("--codec-updates", type=int, default=12, help="updates with codec and noise (default: 12)")
    parser.add_argument("--batch", type=int, default=256, help="images per update (default: 256)")
    parser.add_argument(
        "--prune-rate", type=float, default=0.06, help="peak learning rate after pruning (default: 0.06)"
    )
    parser.add_argument(
        "--codec-rate", type=float, default=0.03, help="peak learning rate with the codec (default: 0.03)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with one thread (default: 1)")
    options = parser.parse_args(arguments)
    _run(options, list(sys.argv[1:] if arguments is None else arguments))
    return 0


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    check_positive("count", options.count)
    check_positive("jobs", options.jobs)
    if options.output.suffix != ".csv":
        raise InvalidInputError("output", str(options.output), "Give a file that ends in .csv.")
    if options.seed < 0:
        raise InvalidInputError("seed", options.seed, "Give a whole number of at least 0.")
    tuning = Tuning(
        Recipe(options.prune_updates, options.batch, options.prune_rate, seed=options.seed),
        Recipe(options.codec_updates, options.batch, options.codec_rate, seed=options.seed),
    )
    source = Source(options.weights, options.data, tuning)
    network = _network(source.weights)
    torch.set_num_threads(1)
    kind, work = _plan(options, network)
    description = options.output.with_suffix(".json")
    settings = {  # that all rows of a file share
        "network": network.name,
        "weights": hashlib.sha256((source.weights / WEIGHTS).read_bytes()).hexdigest(),
        "designs": kind,
        "criterion": options.criterion,
        "seed": options.seed,
        "tuning": asdict(source.tuning),
        "train_images": len(_images(source.data / TRAIN).labels),
        "test_images": len(_images(source.data / TEST).labels),
    }
    before = _description_before(description, settings)
    if not before and options.output.is_file():
        raise InvalidInputError("output", str(options.output), f"There is no {description.name} of it: give another.")
    command = command_line("studies.mu.cifar.sweep", arguments)
    made_by = {
        **settings,
        "accuracy": before["accuracy"] if before else accuracy(network, _images(source.data / TEST)),
        "versions": versions(),
        "machine": machine(),
        "commands": list(dict.fromkeys([*before.get("commands", []), command])),
    }
    write_text(description, json.dumps(made_by, indent=1) + "\n")
    rows = sweep(source, work, options.output, jobs=options.jobs)
    seconds = sum(float(row["seconds"]) for row in rows)
    write_text(description, json.dumps({**made_by, "rows": len(rows), "seconds": round(seconds)}, indent=1) + "\n")
    print(f"wrote {options.output}: {len(rows)} designs, {seconds / len(rows):.1f} s each")


if __name__ == "__main__":
    # By the module's name: the processes of --jobs import it from there, not from __main__.
    from studies.mu.cifar.sweep import main as run

    sys.exit(run())
