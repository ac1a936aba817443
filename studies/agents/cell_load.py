"""Rules of a cell against load: more devices at one band and one server, under few and many tasks.

Band and server are those of ``cell-16``. The rules keep the options that were tuned there, as tuning at every load
would take hours; so a part of what they lose far from it is due to the tuning. All meet the same worlds. A rule is
*surely* better than another if the 95 % interval of their mean difference lies above 0.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.bootstrap import paired_bootstrap
from baselines.compare import ROOT, compare, load_config
from baselines.output import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILION
from coinfer_gym.cell.scenario import load_cell_scenario
from coinfer_gym.files import lock_folder
from studies.agents.load import tuned_policies
from studies.drawing import legend_below, log_ticks, panels
from studies.figure import Pictures, Study

SCENARIO = "cell-16"
DEVICES, FACTORS = (4, 8, 16, 32, 64), (0.5, 1.0, 2.0)
WORLDS, TASKS = 8, 10
BEST = "one-device dynamic programming"
METRICS = {"delivered": "delivered quality per task (1)", "dropped": "share of tasks lost (1)"}

TUNED = ROOT / "configs" / "tuned" / "cell-16.json"
_PLAIN = {"all that is free": {"policy": "cell_free"}}
RULES = {
    "all that is free": (BLACK, "v", ":"),
    "equal shares": (BLUE, "o", "-"),
    "part of what is free": (ORANGE, "s", "-"),
    "shares by queue": (GREEN, "^", "-"),
    "constant prices": (VERMILION, "D", "-"),
    "one-device dynamic programming": (PURPLE, "P", "-"),
}
"""Colour, marker and line by rule."""


class Load(NamedTuple):
    """What the rules earn at some loads."""

    devices: tuple[int, ...]
    factors: tuple[float, ...]
    # shape (metrics, rules, worlds, factors, devices): in the order of `METRICS` and `RULES`
    values: NDArray[np.float64]


def rules() -> dict[str, dict[str, Any]]:
    """The rules as a configuration names them, with the options that a tuning has found."""
    return tuned_policies(TUNED, RULES, _PLAIN)


def compute(
    devices: Sequence[int] = DEVICES,
    factors: Sequence[float] = FACTORS,
    worlds: int = WORLDS,
    tasks: int = TASKS,
    seed: int = 0,
    jobs: int | None = None,
    work: Path = Path("runs/figures/cell_load"),
) -> Load:
    """Play all rules for all numbers of devices, with both arrival rates times each factor.

    `tasks` are those of each device, and `seed` is that of the first world. The folder `work` keeps finished worlds.
    """
    scenario, policies = load_cell_scenario(SCENARIO), rules()
    values = np.empty((len(METRICS), len(policies), worlds, len(factors), len(devices)))
    with lock_folder(work):
        for i, j in np.ndindex(len(factors), len(devices)):
            rates = {name: factors[i] * getattr(scenario, name) for name in ("arrival_rate", "burst_rate")}
            env = {"scenario": SCENARIO, "devices": devices[j], "tasks": tasks, **rates}
            common = {"title": "load", "environment": "coinfer_gym/Cell-v0", "env": env}
            config = load_config({**common, "worlds": worlds, "seed": seed, "policies": policies})
            found = compare(config, work, jobs or os.cpu_count() or 1).only(list(METRICS)).values
            values[..., i, j] = found.transpose(2, 0, 1)
    return Load(tuple(devices), tuple(factors), values)


def verdict(found: Load) -> dict[str, Any]:
    """Where another rule is surely better than one-device dynamic programming."""
    labels, best = list(RULES), list(RULES).index(BEST)
    _, lead = paired_bootstrap(found.values[0].reshape(len(labels), found.values.shape[2], -1), best)
    assert lead is not None
    ahead = {
        label: [
            {"factor": found.factors[k // len(found.devices)], "devices": found.devices[k % len(found.devices)]}
            for k in np.flatnonzero(lead.low[i] > 0.0).tolist()
        ]
        for i, label in enumerate(labels)
        if i != best
    }
    return {
        "holds": {f"{label} is nowhere surely better than {BEST}": not k for label, k in ahead.items()},
        "exceptions": ahead,
        "policies": rules(),
        "settings": {"scenario": SCENARIO},
    }


def table(found: Load) -> list[dict[str, Any]]:
    """A row per load and rule, with means and 95 % intervals over worlds."""
    rows = []
    for i, j in np.ndindex(len(found.factors), len(found.devices)):
        estimate, _ = paired_bootstrap(found.values[..., i, j].transpose(1, 2, 0))
        for k, label in enumerate(RULES):
            row: dict[str, Any] = {"rate_factor": found.factors[i], "devices": found.devices[j], "rule": label}
            for m, name in enumerate(METRICS):
                row |= {f"{name}_{part}": float(value[k, m]) for part, value in estimate._asdict().items()}
            rows.append(row)
    return rows


def draw(found: Load) -> Pictures:
    """Delivered quality above, lost tasks below, a column per arrival rate."""
    worlds = found.values.shape[2]
    title = f"Rules of a cell against load: band and server of {SCENARIO}, {worlds} worlds, 95 % intervals"
    figure, axes = panels(title, (9.5, 6.0), len(METRICS), len(found.factors), sharex=True, sharey="row")
    for m, i in np.ndindex(len(METRICS), len(found.factors)):
        axis = axes[m, i]
        estimate, _ = paired_bootstrap(found.values[m, :, :, i])
        for k, (label, (colour, marker, line)) in enumerate(RULES.items()):
            axis.fill_between(found.devices, estimate.low[k], estimate.high[k], color=colour, alpha=0.15, linewidth=0)
            axis.plot(found.devices, estimate.mean[k], line, color=colour, marker=marker, markersize=4, label=label)
        log_ticks(axis, list(found.devices))
    for axis, factor in zip(axes[0], found.factors, strict=True):
        axis.set_title(f"arrival rate times {factor:g}", fontsize=10)
    for axis, name in zip(axes[:, 0], METRICS.values(), strict=True):
        axis.set_ylabel(name)
    for axis in axes[-1]:
        axis.set_xlabel("devices")
    legend_below(figure, axes[0, 0], 5)
    return {"": figure}


STUDIES = (Study("cell_load", compute, table, verdict, draw),)
