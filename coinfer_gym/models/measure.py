"""Measures a network cut, pruned and sent over a link, fits an accuracy predictor, and writes a scenario.

``python -m coinfer_gym.models.measure --model FOLDER --task squad --data squad_eval.json.gz --output FOLDER`` writes
``measurements.csv`` (one row a configuration), ``measurements.json`` (what made them), and from these, by
`coinfer_gym.models.fit`, predictors, the workload and a scenario for ``gym.make``. It goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from coinfer_gym.command import command, command_line
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import csv_text, lock_folder, machine, read_csv, read_json, versions, write_text
from coinfer_gym.models.build import workload_from_model
from coinfer_gym.models.fit import Measurements, write_scenario
from coinfer_gym.models.inputs import check_positive, check_seed
from coinfer_gym.models.link import VALUE_BITS
from coinfer_gym.models.load import source_digests
from coinfer_gym.models.prune import METHODS, prune_split
from coinfer_gym.models.regress import FOLDS
from coinfer_gym.models.split import Activations, check_cut
from coinfer_gym.models.tables import design_groups
from coinfer_gym.models.tasks import ARITHMETIC, METRICS, TASKS, Link, Task, load_task
from coinfer_gym.parallel import run_parallel

GRID = {"magnitude": (0.4, 0.6, 0.8, 1.0), "random": (0.7, 0.85, 0.95, 1.0)}
"""Retained ratios of the grid: random pruning does its damage sooner."""

SHARED = 3
"""Configurations of the random design that share what the device computes."""


@dataclass(frozen=True)
class Configuration:
    """One thing to measure."""

    cut: int  # blocks on the device
    retained_device: float
    retained_server: float  # 1 for a side without blocks
    method: str  # of pruning: "magnitude" or "random"
    precision: str  # of the activation on the link: "fp32", "fp16" or "int8"
    seed: int = 0  # of random pruning

    @property
    def on_device(self) -> tuple[int, float, str, int]:
        """What the device's computation depends on."""
        return self.cut, self.retained_device, self.method, self.seed


def grid_design(
    cuts: int, methods: Sequence[str], precision: str = "fp16", only: Sequence[int] = ()
) -> list[Configuration]:
    """Every cut, or only those given, with every pair of ratios of `GRID`; the unpruned network once."""
    found = {Configuration(0, 1.0, 1.0, methods[0], precision)}
    for method, cut in product(methods, only or range(cuts)):
        for device, server in product(GRID[method], repeat=2):
            pair = (1.0 if cut == 0 else device, 1.0 if cut == cuts - 1 else server)
            if pair != (1.0, 1.0):
                found.add(Configuration(cut, *pair, method, precision))
    return sorted(found, key=_order)


def random_design(
    cuts: int,
    methods: Sequence[str],
    count: int,
    seed: int = 0,
    only: Sequence[int] = (),
    ratios: Sequence[float] = (),
) -> list[Configuration]:
    """Different configurations drawn at random, up to `SHARED` of them on each draw of cut, method, seed and device.

    Cuts are any, or of those given. Ratios are uniform between the two given, such as the ends of a cliff. Without
    these, four in five lie where the grid of the method lies, as below it little is left to measure.
    """
    generator = np.random.default_rng(seed)

    def ratio(method: str) -> float:
        least = GRID[method][0]
        low, high = ratios or ((least, 1.0) if generator.random() < 0.8 else (0.05, least))
        return round(float(generator.uniform(low, high)), 4)

    found: list[Configuration] = []
    while len(found) < count:
        method, cut = str(generator.choice(methods)), int(generator.choice(only or range(cuts)))
        device, own_seed = ratio(method), int(generator.integers(1, 2**31 - 1))
        # At the last cut they would all be the same: the server has nothing to prune, and no activation is sent.
        for _ in range(min(1 if cut == cuts - 1 else SHARED, count - len(found))):
            server, precision = ratio(method), str(generator.choice(list(VALUE_BITS)))
            pair = (1.0 if cut == 0 else device, 1.0 if cut == cuts - 1 else server)
            found.append(Configuration(cut, *pair, method, precision, own_seed))
    return sorted(found, key=_order)


def measure(
    task_name: str,
    model_name: str,
    data: Path,
    configurations: Iterable[Configuration],
    output: Path,
    *,
    samples: int,
    seed: int = 0,
    jobs: int = 1,
    arithmetic: str = "float32",
) -> list[dict[str, Any]]:
    """Measure configurations, and keep every result as soon as it is there.

    Parameters
    ----------
    task_name : str
        A key of `TASKS`.
    model_name : str
        As in `coinfer_gym.models.load.load_model`.
    data : Path
        The data of the task.
    configurations : iterable of Configuration
        What to measure; those that the file has for as many samples are not measured again.
    output : Path
        CSV file of the results.
    samples : int
        Size of the fixed subset; 0 takes all.
    seed : int
        Of the subset.
    jobs : int
        Processes, each with one thread.
    arithmetic : str
        A key of `ARITHMETIC`, the type in which the halves compute.

    Returns
    -------
    list of dict
        All rows of the file, in its order: the configuration, ``samples``, each metric's mean and its standard error
        (``..._error``, clustered by paragraph), shares of weights kept, distortion ``||w - w_hat||_1`` of both sides
        together, mean payload in bits, and seconds.

    Raises
    ------
    InvalidInputError
        If the task is unknown, its network or data cannot be read, or the file holds something else.
    """
    count = len(load_task(task_name, model_name, data, samples, seed, arithmetic).groups)
    rows = _read_rows(output, METRICS[task_name])
    seen = {_key(row) for row in rows}
    left = [each for each in configurations if _key({**asdict(each), "samples": count}) not in seen]
    groups = [list(group) for _, group in groupby(sorted(left, key=_order), key=lambda each: each.on_device)]
    calls = [(task_name, model_name, data, samples, seed, arithmetic, group) for group in groups]
    with tqdm(total=len(left), desc="measuring", unit="configuration") as bar:
        for results in run_parallel(_measure_group, calls, jobs):
            rows = sorted([*rows, *results], key=_row_order)
            write_text(output, csv_text(rows))
            bar.update(len(results))
    return rows


def clustered_error(values: np.ndarray, groups: Sequence[str]) -> float:
    """Standard error of a mean over samples of which those of a group, such as a paragraph's questions, are alike."""
    residuals = values - values.mean()
    _, number = np.unique(np.array(groups), return_inverse=True)
    sums = np.bincount(number, weights=residuals)
    clusters = len(sums)
    return float(np.sqrt(clusters / max(1, clusters - 1) * (sums**2).sum()) / len(values))


def _measure_group(
    task_name: str,
    model_name: str,
    data: Path,
    samples: int,
    seed: int,
    arithmetic: str,
    group: Sequence[Configuration],
) -> list[dict[str, Any]]:
    """Rows of configurations that share what the device computes."""
    torch.set_num_threads(1)
    task = load_task(task_name, model_name, data, samples, seed, arithmetic)
    computed: dict[bytes, Activations] = {}
    rows = []
    for each in group:
        start = time.perf_counter()
        halves, on_device, on_server = prune_split(
            task.model, each.cut, each.retained_device, each.retained_server, method=each.method, seed=each.seed
        )
        for half in halves:  # copies already
            half.to(ARITHMETIC[arithmetic])
        # Where nothing is left to the server, the device sends its answer, not an activation: it is not rounded.
        link = Link(halves, each.precision if on_server.weights_total else "fp32", computed)
        with torch.inference_mode():
            metrics = task.measure(link)
        row: dict[str, Any] = {**asdict(each), "samples": len(task.groups)}
        for name, values in metrics.items():
            row[name] = round(float(values.mean()), 6)
            row[f"{name}_error"] = round(clustered_error(values, task.groups), 6)
        row["kept_device"] = _share(on_device.weights_kept, on_device.weights_total)
        row["kept_server"] = _share(on_server.weights_kept, on_server.weights_total)
        row["distortion"] = round(on_device.distortion + on_server.distortion, 1)
        row["payload_bits"] = round(float(np.mean(link.bits))) if link.bits else ""
        row["seconds"] = round(time.perf_counter() - start, 2)
        rows.append(row)
    return rows


def _read_rows(path: Path, metric: str) -> list[dict[str, Any]]:
    try:
        rows = read_csv(path) if path.is_file() else []
        for row in rows:
            _row_order(row)
            int(row["seed"]), float(row[metric]), float(row["seconds"])
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise InvalidInputError(
            "output", str(path), f"The file holds no measurements of this command, give another: {error!r}"
        ) from error
    return rows


def _share(kept: int, total: int) -> float:
    return round(kept / total, 6) if total else 1.0


def _order(each: Configuration) -> tuple[Any, ...]:
    return (*each.on_device, -each.retained_server, each.precision)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    numbers = (row["cut"], row["retained_device"], row["retained_server"], row["seed"], row["samples"])
    return (*(float(value) for value in numbers), row["method"], row["precision"])


def _row_order(row: dict[str, Any]) -> tuple[Any, ...]:
    return (-int(row["samples"]), row["method"], *_key(row))


@command(
    "coinfer_gym.models.measure",
    "interrupted; the same command goes on where it stopped",
    errors=(TerminatedWorkerError,),
)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        "python -m coinfer_gym.models.measure", description="Cut and prune a network in many ways, and measure it."
    )
    parser.add_argument("--model", required=True, help="a folder, or a name that load_model takes")
    parser.add_argument("--task", choices=TASKS, default="squad", help="what is measured (default: squad)")
    parser.add_argument("--data", type=Path, required=True, help="data set of the task")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--name", help="name of predictor and scenario (default: that of the output folder)")
    parser.add_argument("--samples", type=int, default=200, help="samples per configuration, 0 for all (default: 200)")
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS), help="pruning methods (default: both)"
    )
    parser.add_argument(
        "--precision",
        choices=VALUE_BITS,
        default="fp16",
        help="precision of the upload in grid and predictor (default: fp16)",
    )
    parser.add_argument("--random", type=int, default=150, help="number of random configurations (default: 150)")
    parser.add_argument(
        "--cuts", type=int, nargs="+", default=[], help="cuts of the grid and of random configurations (default: all)"
    )
    parser.add_argument(
        "--ratios",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        default=[],
        help="range of the random configurations' retained ratios, such as the ends of a cliff (default: mostly that "
        "of the grid)",
    )
    parser.add_argument(
        "--arithmetic",
        choices=ARITHMETIC,
        default="float32",
        help="type in which the network computes; bfloat16 is twice as fast on processors that have it "
        "(default: float32)",
    )
    parser.add_argument("--no-grid", action="store_true", help="leave out the grid of configurations")
    parser.add_argument("--seed", type=int, default=0, help="seed of samples and random configurations (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes (default: 1)")
    given = list(sys.argv[1:] if arguments is None else arguments)
    _run(parser.parse_args(given), command_line("coinfer_gym.models.measure", given))
    return 0


def _run(options: argparse.Namespace, command_line: str) -> None:
    for field in ("samples", "random"):
        if getattr(options, field) < 0:
            raise InvalidInputError(field, getattr(options, field), "Give a whole number of at least 0.")
    check_positive("jobs", options.jobs)
    check_seed(options.seed)
    if options.ratios and not 0.0 <= options.ratios[0] <= options.ratios[1] <= 1.0:
        raise InvalidInputError("ratios", options.ratios, "Give two shares from 0 to 1, the smaller one first.")
    if options.output.exists() and not options.output.is_dir():
        raise InvalidInputError("output", str(options.output), "It is a file: give a folder.")
    task = load_task(options.task, options.model, options.data, options.samples, options.seed, options.arithmetic)
    with lock_folder(options.output):
        _measure_and_fit(options, command_line, task)


def _measure_and_fit(options: argparse.Namespace, command_line: str, task: Task) -> None:
    workload = workload_from_model(
        task.model,
        name=options.name or options.output.resolve().name,
        tokens=task.tokens,
        bits_per_value=VALUE_BITS[options.precision],
        description=f"{type(task.model).__name__}, {task.tokens} tokens, activations in {options.precision}.",
    )
    description, table = options.output / "measurements.json", options.output / "measurements.csv"
    made_by = {
        "task": options.task,
        "model": options.model,
        "data": options.data.name,
        "seed": options.seed,
        "arithmetic": options.arithmetic,
        **source_digests(task.model, options.data),
        "versions": versions(),
        "machine": machine(),
    }
    made_by["commands"] = list(dict.fromkeys([*_commands_before(description, table, made_by), command_line]))
    before = _read_rows(table, METRICS[options.task])
    for cut in options.cuts:
        check_cut(cut, workload.cuts - 1)
    write_text(description, json.dumps(made_by, indent=1) + "\n")
    # The unpruned network is the unit of all others, and at an inner cut tells what the link's rounding costs.
    unpruned = [
        Configuration(cut, 1.0, 1.0, options.methods[0], options.precision) for cut in sorted({0, *options.cuts})
    ]
    grid = grid_design(workload.cuts, options.methods, options.precision, options.cuts)
    drawn = random_design(workload.cuts, options.methods, options.random, options.seed, options.cuts, options.ratios)
    design = list(dict.fromkeys([*unpruned, *([] if options.no_grid else grid), *drawn]))
    planned = [{**asdict(each), "samples": len(task.groups)} for each in design]
    shortfall = _shortfall(
        [*planned, *(row for row in before if int(row["samples"]) == len(task.groups))], options.methods
    )
    if shortfall:
        print(shortfall)
    given = {name: getattr(options, name) for name in ("samples", "seed", "jobs", "arithmetic")}
    rows = measure(options.task, options.model, options.data, design, table, **given)
    finished = {**made_by, "rows": len(rows), "seconds": round(sum(float(row["seconds"]) for row in rows))}
    write_text(description, json.dumps(finished, indent=1) + "\n")
    own = [row for row in rows if int(row["samples"]) == len(task.groups)]
    if not _shortfall(own, options.methods):
        measured = Measurements(workload, METRICS[options.task], own, options.methods, options.precision)
        print(write_scenario(measured, options.output, options.seed))


def _shortfall(rows: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> str:
    """What is missing for a predictor, said before anything is measured; empty where nothing is."""
    for method in methods:
        groups = len(set(design_groups([row for row in rows if row["method"] == method])))
        if groups < FOLDS:
            return (
                f"No predictor will come of this: {method} pruning needs {FOLDS} groups of configurations (those that "
                f"share the device's half are one), there are {groups}. Raise --random, leave out --no-grid, or name "
                "one kind of pruning with --methods."
            )
    return ""


def _commands_before(description: Path, table: Path, made_by: Mapping[str, Any]) -> list[str]:
    """Commands that measured into this folder before, each once; InvalidInputError if they measured something else."""
    if not description.is_file():
        if table.is_file():
            raise InvalidInputError("output", str(table), f"There is no {description.name} of it: give another folder.")
        return []
    try:
        before = {"arithmetic": "float32", **read_json(description, "output")}
        same = ("task", "model", "data", "seed", "arithmetic", "weights_sha256", "data_sha256")
        differing = [key for key in same if before.get(key) != made_by[key]]
        commands = [str(each) for each in before["commands"]]
    except (AttributeError, KeyError, TypeError) as error:
        raise InvalidInputError("output", str(description), f"The file is damaged: {error!r}") from error
    for key in differing:
        raise InvalidInputError(
            "output",
            str(description.parent),
            f"It holds measurements with {key} {before.get(key)!r}: give another folder.",
        )
    return commands


if __name__ == "__main__":
    # By the module's name: the processes of --jobs look there for what they are to run, and find no __main__.
    from coinfer_gym.models.measure import main as run

    sys.exit(run())
