"""What is left to win over the best rule of a cell: nearby rules, the agent, and a device that has all for itself.

The rule is one-device dynamic programming at tuned prices. Each nearby rule changes one thing about it. If one of them
were far ahead, a better rule would be easy to find. All meet the same worlds, which are not those of tuning.

*Alone* is what one device delivers with all of the band and the server, at no price. No cell can give a device more. So
if dynamic programming is near the best policy of a single device, no policy of a cell that does not know the future
delivers much more than this.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.bootstrap import paired_bootstrap
from baselines.cell.one_device import OneDeviceDP
from baselines.compare import ROOT, compare, load_config
from baselines.farsighted import Choice, Memory, View
from baselines.output import BLUE, GREY, VERMILION
from coinfer_gym import Problem
from coinfer_gym.files import lock_folder
from studies.agents.load import tuned_policies
from studies.drawing import panels
from studies.figure import Pictures, Study

CELLS = {"cell-4": 40, "cell-16": 20}
"""Worlds by cell, those of its comparison."""

BEST, AGENT = "one-device dynamic programming", "agent"
NEARBY: dict[str, dict[str, float]] = {
    "both prices x 0.7": {"prices": 0.7},
    "both prices x 1.4": {"prices": 1.4},
    "prices rise with the tasks that wait": {"waiting": 1.0},
    "prices fall with the tasks that wait": {"waiting": -1.0},
    "prices rise with what is taken": {"taken": 1.0},
    "prices fall with what is taken": {"taken": -1.0},
    "at most 98 % of band and server": {"most": 0.98},
    "at most 90 % of band and server": {"most": 0.9},
    "10 % less time": {"time": 0.9},
    "10 % more time": {"time": 1.1},
    "less time while tasks wait elsewhere": {"haste": 0.5},
    "more time while tasks wait elsewhere": {"haste": -0.5},
}
"""Options of `NearbyDP` by label."""


class NearbyDP(OneDeviceDP):
    """One-device dynamic programming with one thing changed.

    Parameters
    ----------
    env, band, server
        As for `baselines.cell.one_device.OneDeviceDP`. It plans the time at these prices.
    prices, time : float
        Factor on both prices, and on the time that a task may take.
    waiting, taken : float
        A price is multiplied by ``exp(waiting * w + taken * t)``, with `w` the number of tasks that wait elsewhere per
        device, and `t` the taken part of the band or the server.
    haste : float
        The time is multiplied by ``exp(-haste * w)``.
    most : float
        Largest share of band and server that a task takes.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any] | None = None,
        band: float = 0.2,
        server: float = 0.2,
        prices: float = 1.0,
        waiting: float = 0.0,
        taken: float = 0.0,
        time: float = 1.0,
        haste: float = 0.0,
        most: float = 1.0,
    ) -> None:
        super().__init__(env, band, server)
        self._factor, self._waiting, self._taken = prices, waiting, taken
        self._time, self._haste, self._most = time, haste, most

    def shares(self) -> tuple[float, float]:
        """Those of the rule, at most the largest share."""
        band, server = super().shares()
        return min(band, self._most), min(server, self._most)

    def choose(self, view: View, problem: Problem, memory: Memory) -> Choice:
        """Service time of the rule, changed."""
        choice = super().choose(view, problem, memory)
        return replace(choice, seconds=choice.seconds * self._time * math.exp(-self._haste * self._elsewhere()))

    def _bill(self, seconds: float) -> NDArray[np.float64]:
        taken = 1.0 - np.array(self._env.free)
        return super()._bill(seconds) * self._factor * np.exp(self._waiting * self._elsewhere() + self._taken * taken)

    def _elsewhere(self) -> float:
        """Tasks that wait at other devices, per device."""
        share = self.seen()["waiting_elsewhere"]
        return share / (1.0 - share)


class Headroom(NamedTuple):
    """Delivered quality per task."""

    labels: tuple[str, ...]  # the rule, its agent and the nearby rules
    played: dict[str, NDArray[np.float64]]  # by cell: shape (labels, worlds)
    alone: dict[str, NDArray[np.float64]]  # by cell: shape (worlds,)


def compute(
    cells: tuple[str, ...] = tuple(CELLS),
    worlds: int | None = None,
    alone: int = 400,
    seed: int = 0,
    tasks: int | None = None,
    jobs: int | None = None,
    work: Path = Path("runs/figures/cell_headroom"),
) -> Headroom:
    """Play the rule, the shipped agent and the nearby rules in `worlds` of each cell, and one device in `alone` worlds.

    `seed` is that of the first world, and `tasks` are those of each device, where not the cell's own number. The folder
    `work` keeps finished worlds.
    """
    played, single, labels = {}, {}, (BEST, AGENT, *NEARBY)
    fewer = {} if tasks is None else {"tasks": tasks}
    nearby = f"{__name__}:{NearbyDP.__name__}"
    for cell in cells:
        rule = tuned_policies(ROOT / "configs" / "tuned" / f"{cell}.json", (BEST,), {})[BEST]
        options = {key: value for key, value in rule.items() if key != "policy"}
        agent = {"policy": "agents.policy:load_agent", "path": str(ROOT / "agents" / "trained" / cell)}
        policies = {label: {"policy": nearby, **options, **change} for label, change in NEARBY.items()}
        free = {BEST: {"policy": rule["policy"], "band": 0.0, "server": 0.0}}

        def play(policies: dict[str, Any], worlds: int, **keywords: Any) -> NDArray[np.float64]:
            common = {"title": "headroom", "environment": "coinfer_gym/Cell-v0", "seed": seed, "worlds": worlds}
            config = load_config({**common, "env": {**keywords, **fewer}, "policies": policies}, trust=[__name__])
            found = compare(config, work, jobs or os.cpu_count() or 1, trust=[__name__])
            return found.only(["delivered"]).values[:, :, 0]

        with lock_folder(work):
            played[cell] = play({BEST: rule, AGENT: agent, **policies}, worlds or CELLS[cell], scenario=cell)
            single[cell] = play(free, alone, scenario=cell, devices=1)[0]
    return Headroom(labels, played, single)


def verdict(found: Headroom) -> dict[str, Any]:
    """Which nearby rules are ahead, none by a percent; and how much one device alone delivers."""
    holds, cells = {}, {}
    for cell, rows in _leads(found).items():
        rule, nearby = rows[0]["delivered"], [row for row in rows if row["policy"] in NEARBY]
        holds[f"{cell}: no nearby rule is a percent ahead"] = all(row["lead_high"] < 0.01 * rule for row in nearby)
        alone, _ = paired_bootstrap(found.alone[cell][None, :, None])
        ahead = [row["policy"] for row in nearby if row["lead_low"] > 0.0]
        cells[cell] = {"surely ahead": ahead, "rule": rule}
        cells[cell]["alone"] = {name: value[0, 0] for name, value in alone._asdict().items()}
    return {"holds": holds, "cells": cells}


def table(found: Headroom) -> list[dict[str, Any]]:
    """A row per cell and policy, with the lead over the rule and its 95 % interval over worlds."""
    return [{"cell": cell, **row} for cell, rows in _leads(found).items() for row in rows]


def _leads(found: Headroom) -> dict[str, list[dict[str, Any]]]:
    """Delivered quality by cell and policy, and the lead over the rule."""
    leads = {}
    for cell, values in found.played.items():
        _, lead = paired_bootstrap(values[:, :, None], reference=0)
        assert lead is not None
        columns = values.mean(axis=1), lead.mean[:, 0], lead.low[:, 0], lead.high[:, 0]
        names = "policy", "delivered", "lead", "lead_low", "lead_high"
        leads[cell] = [dict(zip(names, row, strict=True)) for row in zip(found.labels, *columns, strict=True)]
    return leads


def draw(found: Headroom) -> Pictures:
    """Leads over the rule, a panel per cell."""
    title = "Nearby rules of a cell: lead over one-device dynamic programming, 95 % intervals"
    figure, axes = panels(title, (9.5, 4.5), 1, len(found.played), sharey=True)
    for axis, (cell, rows) in zip(axes[0], _leads(found).items(), strict=True):
        for k, row in enumerate(rows[1:]):
            colour = VERMILION if row["policy"] == AGENT else BLUE
            axis.plot([row["lead_low"], row["lead_high"]], [k, k], color=colour, linewidth=2)
            axis.plot(row["lead"], k, "o", color=colour, markersize=5)
        axis.axvline(0.0, color=GREY, linewidth=1)
        axis.set_title(f"{cell}, {found.played[cell].shape[1]} worlds", fontsize=10)
        axis.locator_params(axis="x", nbins=5)
        axis.set_xlabel("lead in delivered quality per task (1)")
    axes[0, 0].set_yticks(range(len(found.labels) - 1), found.labels[1:])
    axes[0, 0].invert_yaxis()
    return {"": figure}


STUDIES = (Study("cell_headroom", compute, table, verdict, draw),)
