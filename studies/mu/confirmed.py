"""Whether chosen designs are as accurate as predicted: they are built, tuned and tested on CIFAR-10.

``python -m studies.mu.confirmed NETWORK DESIGNS.csv`` writes the choices of the schemes and of branch and bound;
`studies.mu.cifar.sweep` with ``--designs DESIGNS.csv`` measures them. The figure reads both files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from baselines.layerwise.rivals import fpgm_predictor
from baselines.output import BLUE, GREY, VERMILION
from coinfer_gym import InvalidInputError
from coinfer_gym.command import command
from coinfer_gym.files import csv_text, read_csv, write_text
from coinfer_gym.layerwise.optimum import solve_exact
from coinfer_gym.layerwise.problem import LayerwiseDecision
from studies.drawing import legend_below, panels
from studies.figure import Pictures, Study, require
from studies.mu.accuracy import MARGIN, MEASUREMENTS
from studies.mu.schemes import ALL, LINKS, NETWORKS, OWN, choose, problem_at

METHODS = ("Prune_Partition", "2_Step Pruning", "FPGM", "BottleNet++", OWN)
"""Schemes whose designs are pruned or compressed; the accuracy of the others' is measured already."""

OPTIMUM = "optimum"
DEVICES = ("rpi3b", "rpi4b", "tk1")
LINK = "4g"
LONG = "_long"
"""Ending of a curve's name after the longer tuning, see `studies.mu.cifar.sweep.chosen_designs`."""

TUNINGS = {"": "short tuning", LONG: "longer tuning"}


class Confirmed(NamedTuple):
    """Designs of one network."""

    names: tuple[str, ...]  # the first who chose each
    predicted: Any  # shape (n,): accuracy
    measured: dict[str, Any]  # shape (n,): accuracy by tuning
    least: float  # accuracy that each was to have


def compute(measurements: Path = MEASUREMENTS, networks: Sequence[str] = tuple(NETWORKS)) -> dict[str, Confirmed]:
    """Read what was measured and stored in a folder; an error says how to measure what is missing."""
    return {network: read(measurements, network) for network in networks}


def choose_designs(network: str, devices: Sequence[str] = DEVICES, seed: int = 0) -> list[list[Any]]:
    """Designs of schemes and optimum on some devices, each once, the header first.

    The columns are ``curve`` (who chose it first), ``chosen_by``, ``cut``, ``retained_<group>``, ``compression``,
    ``criterion``, ``predicted`` accuracy and ``delay`` in s.
    """
    found: dict[tuple[float, ...], list[Any]] = {}
    places = [(device, method) for device in devices for method in (*METHODS, OPTIMUM)]
    for device, method in tqdm(places, desc=network, unit="design", disable=None):
        problem = problem_at(network, device, LINKS[LINK], LINK, ALL)
        if method == OPTIMUM:
            best = solve_exact(problem)
            row, accuracy, delay = tuple(problem.row(best).tolist()), best.accuracy, best.delay
        else:
            choice = choose(problem, method, seed)
            row, accuracy, delay = choice.design, choice.accuracy, choice.delay
        decision = problem.decision(np.array(row))
        ratios = (*decision.retained, decision.compression)
        if min(ratios) == 1.0:
            continue
        criterion = "geometric_median" if method == "FPGM" else "l1"
        name = f"{method}, {device}"
        if (key := (*row[:-2], criterion == "l1")) in found:
            found[key][1] += f"; {name}"
        else:
            found[key] = [name, name, decision.cut, *ratios, criterion, accuracy, delay]
    retained = [f"retained_{group.name}" for group in problem.network.groups]
    return [["curve", "chosen_by", "cut", *retained, "compression", "criterion", "predicted", "delay"], *found.values()]


def read(folder: Path, network: str) -> Confirmed:
    """Predictions and measurements of a network's chosen designs."""
    designs, results = folder / f"{network}-chosen-designs.csv", folder / f"{network}-chosen.csv"
    choose = f"python -m studies.mu.confirmed {network} {designs.name}"
    sweep = f"python -m studies.mu.cifar.sweep --weights FOLDER --designs {designs.name} --output {results.name}"
    require([designs, results], f"{choose}; {sweep}")
    try:
        made_by = json.loads(results.with_suffix(".json").read_text(encoding="utf-8"))
        if hashlib.sha256(designs.read_bytes()).hexdigest() not in made_by["designs"]:
            raise ValueError("the designs have changed since")
        chosen = read_csv(designs)
        by_name = {row["curve"]: float(row["accuracy"]) for row in read_csv(results)}
        names = tuple(row["curve"] for row in chosen)
        predicted = np.array([predict(network, row) for row in chosen])
        measured = {tuning: np.array([by_name[name + tuning] for name in names]) for tuning in TUNINGS}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            "measurements", str(results), f"It does not fit {designs.name}, measure these: {error!r}"
        ) from error
    return Confirmed(names, predicted, measured, problem_at(network, DEVICES[0], LINKS[LINK], LINK).accuracy_min)


def predict(network: str, row: Mapping[str, str]) -> float:
    """Accuracy that the predictor of today expects of a chosen design."""
    problem = problem_at(network, DEVICES[0], LINKS[LINK], LINK)
    own = fpgm_predictor(problem) if row["criterion"] == "geometric_median" else None
    retained = tuple(float(row[f"retained_{group.name}"]) for group in problem.network.groups)
    decision = LayerwiseDecision(
        int(row["cut"]), retained, float(row["compression"]), problem.power_max, problem.frequency_device_max
    )
    return replace(problem, predictor=own or problem.predictor).evaluate(decision).accuracy


def verdict(confirmed: Mapping[str, Confirmed]) -> dict[str, Any]:
    """What the measurements say about the predictions."""
    holds: dict[str, bool] = {}
    found, measured = [], {}
    for network, part in confirmed.items():
        title = NETWORKS[network]
        for tuning, how in TUNINGS.items():
            error = part.measured[tuning] - part.predicted
            reached = part.measured[tuning] >= part.least - MARGIN
            spread = math.sqrt(float(np.mean(error**2)))
            holds[f"{title}, {how}: every chosen design has the least accuracy, within {100 * MARGIN:g} point"] = bool(
                reached.all()
            )
            found.append(
                f"{title}, {how}: measured minus predicted {100 * error.mean():+.1f} points on average, "
                f"{100 * error.min():+.1f} to {100 * error.max():+.1f}, root mean square {100 * spread:.1f}; "
                f"{int(reached.sum())} of {len(error)} designs have the least accuracy, within {100 * MARGIN:g} point."
            )
            measured[f"{network}, {how}"] = {"mean": float(error.mean()), "rms": spread, "reached": int(reached.sum())}
    settings = {"designs": {network: len(part.names) for network, part in confirmed.items()}}
    about = {"limits": {"accuracy": MARGIN}, "settings": settings}
    return {"holds": holds, "found": found, "measured": measured, **about}


def table(confirmed: Mapping[str, Confirmed]) -> list[list[Any]]:
    """All designs, the header first."""
    rows: list[list[Any]] = [["network", "design", "least", "predicted", *TUNINGS.values()]]
    for network, part in confirmed.items():
        for name, *numbers in zip(part.names, part.predicted, *part.measured.values(), strict=True):
            rows.append([network, name, part.least, *numbers])
    return rows


def draw(confirmed: Mapping[str, Confirmed]) -> Pictures:
    """Predicted and measured accuracy of every design, a panel per network."""
    most = max(len(part.names) for part in confirmed.values())
    size = (6.4 * len(confirmed), 1.6 + 0.3 * most)
    figure, axes = panels("Chosen designs, built, tuned and tested", size, 1, len(confirmed))
    for axis, (network, part) in zip(axes[0], confirmed.items(), strict=True):
        places = np.arange(len(part.names))[::-1]
        for tuning, look in (("", {"color": BLUE, "marker": "o"}), (LONG, {"color": VERMILION, "marker": "D"})):
            values, label = 100.0 * part.measured[tuning], f"measured, {TUNINGS[tuning]}"
            axis.plot(values, places, linestyle="", label=label, **look)
        dash = {"color": "black", "markersize": 13, "markeredgewidth": 2}
        axis.plot(100.0 * part.predicted, places, "|", label="predicted", **dash)
        axis.axvline(100.0 * part.least, color=GREY, linewidth=1.0, zorder=1, label="least accuracy asked for")
        axis.set_yticks(places, part.names, fontsize=8)
        axis.set_xlabel("test accuracy (%)", fontsize=9)
        axis.set_title(NETWORKS[network], fontsize=10)
    legend_below(figure, axes[0, 0], 4, fontsize=8.5)
    return {"": figure}


STUDIES = (Study("layerwise_confirmed", compute, table, verdict, draw),)


@command("studies.mu.confirmed")
def main(arguments: Sequence[str] | None = None) -> int:
    """Write the designs that are to be measured; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m studies.mu.confirmed", description="Write the designs that the schemes choose."
    )
    parser.add_argument("network", choices=tuple(NETWORKS), help="network whose designs are chosen")
    parser.add_argument("output", type=Path, help="CSV file")
    options = parser.parse_args(arguments)
    write_text(options.output, csv_text(choose_designs(options.network)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
