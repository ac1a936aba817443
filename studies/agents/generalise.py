"""How agents do outside their training: ``python -m studies.agents.generalise configs/generalise/queueing.yaml``.

A configuration names the players, and the axes along which the world changes::

    title: BERT in other queues than those of training
    env: {scenario: bert-multimodal}        # keywords of all points
    worlds: 100                             # world k of a point is env.reset(seed=seed + k)
    agents: {agent: bert-multimodal}        # label: a shipped agent, or the folder of a run
    policies:                               # label: policy and its options, as in a comparison
      stochastic DP: {policy: stochastic_dp}
    target: stochastic DP                   # the policy that differences refer to
    clairvoyant: true                       # add the upper bound of every point (default: false)
    axes:                                   # title: points (numbers or names), each with its own keywords
      Doppler spread (Hz):
        trained: 0.25                       # the point that is marked
        log: true
        points: {0.1: {doppler: 0.1}, 0.25: {}, 1: {doppler: 1.0}}

All players meet the same worlds at a point. Policies that plan are made anew for it. Agents know only their
observation, on the scale of their training (`agents.rescaled.RescaledAgent`). ``${COINFER_DATA}`` in a keyword stands
for the folder of recorded data: the environment variable of this name, or ``../shared/data``.

Played worlds are kept in ``runs/generalise/NAME``, as by `baselines.compare`: the next run continues from there.
"""

from __future__ import annotations

from agents.evaluate import find_agent  # isort: skip  # first: it names the extra

import argparse
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from rich.table import Table
from tqdm import tqdm

from agents.rescaled import RescaledAgent
from baselines import compare
from baselines.bootstrap import Estimate, paired_bootstrap
from baselines.checks import Checked, check_model, naming
from baselines.family import digest_scenario, scenario_of
from baselines.output import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION, git_revision, open_console, render, style
from baselines.rules import LAIM
from coinfer_gym.command import command, command_line
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.files import csv_text, lock_folder, versions, write_bytes, write_text
from studies.agents.bounds import clairvoyant_bounds
from studies.drawing import legend_below, panels

PUBLISHED = compare.ROOT / "docs" / "results" / "generalise"
BOUND = "clairvoyant bound"  # no policy exceeds it
METRICS = ("delivered", "violated", "dropped")  # of a player at a point

_COLORS = (BLUE, VERMILION, GREEN, ORANGE)
_DASHES: tuple[Any, ...] = ((0, (4, 1.5)), (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (8, 2)))
_MARKERS = "sDv^"
_Name = Annotated[float | str, Field(union_mode="left_to_right")]  # JSON has no numbers as keys


class Axis(Checked):
    """One way in which the world changes."""

    points: dict[_Name, dict[str, Any]] = Field(min_length=1)
    trained: _Name | None = None
    log: bool = False


class GeneraliseConfig(Checked):
    """What a configuration file says; `load_config` reads and checks one."""

    title: str
    environment: str = LAIM
    env: dict[str, Any] = Field(default_factory=dict)
    worlds: int = Field(ge=1)
    seed: int = Field(0, ge=0)
    agents: dict[str, str] = Field(min_length=1)
    policies: dict[str, compare.PolicyConfig] = Field(min_length=1)
    target: str
    clairvoyant: bool = False
    axes: dict[str, Axis] = Field(min_length=1)

    @property
    def players(self) -> list[str]:
        """Agents, policies and the bound."""
        return [*self.agents, *self.policies, *([BOUND] if self.clairvoyant else [])]

    def comparison(self, axis: str, point: float | str) -> compare.CompareConfig:
        """Who plays at a point of an axis, and where."""
        files = {label: os.path.relpath(find_agent(path)) for label, path in self.agents.items()}
        agents = {label: {"policy": "agents.rescaled:RescaledAgent", "path": file} for label, file in files.items()}
        content = {
            "title": self.title,
            "environment": self.environment,
            "env": compare.expand_data(self.env | self.axes[axis].points[point]),
            "worlds": self.worlds,
            "seed": self.seed,
            "policies": agents | {label: entry.model_dump() for label, entry in self.policies.items()},
        }
        return compare.load_config(content)


@dataclass(frozen=True)
class Point:
    """Results of all players at a point of an axis, in the order of `GeneraliseConfig.players`."""

    # the axis, the point, and the point's keywords
    axis: str
    name: float | str
    env: dict[str, Any]
    # shape (players,): mean quality, and its lead over the target's, with 95 % intervals
    delivered: Estimate
    difference: Estimate
    means: NDArray[np.float64]  # shape (players, metrics): the `METRICS`; NaN for those that the bound lacks


def _text(name: float | str) -> str:
    return name if isinstance(name, str) else f"{name:g}"


def load_config(source: str | Path | Mapping[str, Any]) -> GeneraliseConfig:
    """Read and check a configuration: the path of a YAML file, or its content."""
    config = check_model(GeneraliseConfig, source, "config")
    if config.target not in config.policies:
        raise InvalidInputError("config: target", config.target, nearest(config.target, config.policies))
    for label in config.policies:
        if label in config.agents or label == BOUND:
            raise InvalidInputError("config: policies", label, "An agent or the bound has this label: give another.")
    for title, axis in config.axes.items():
        if axis.trained is not None and axis.trained not in axis.points:
            hint = nearest(_text(axis.trained), map(_text, axis.points))
            raise InvalidInputError(f"axis {title!r}: trained", axis.trained, hint)
        for point in axis.points:
            _rehearse(config, title, point)
    return config


def _rehearse(config: GeneraliseConfig, axis: str, point: float | str) -> None:
    """Raise `InvalidInputError` unless the agents can act at a point: mistakes show before anything is played."""
    with naming(f"axis {axis!r}, point {_text(point)}"):
        comparison = config.comparison(axis, point)
        env = gym.make(comparison.environment, **comparison.env)
        for label in config.agents:
            RescaledAgent(**comparison.policies[label].options).bind(env)


def generalise(config: GeneraliseConfig, work: Path, jobs: int = 1) -> list[Point]:
    """Have all players play at all points on `jobs` processes, except for the worlds that the folder `work` keeps."""
    places = [(axis, point) for axis, entry in config.axes.items() for point in entry.points]
    return [_play(config, *place, work, jobs) for place in tqdm(places, unit="point", disable=None)]


def _play(config: GeneraliseConfig, axis: str, name: float | str, work: Path, jobs: int) -> Point:
    comparison = config.comparison(axis, name)
    values = compare.compare(comparison, work, jobs).only(METRICS).values
    if config.clairvoyant:
        bound = np.full((1, *values.shape[1:]), np.nan)
        bound[0, :, 0] = clairvoyant_bounds(comparison, work, jobs)[1]
        values = np.concatenate([values, bound])
    estimate, difference = paired_bootstrap(values[:, :, :1], config.players.index(config.target))
    assert difference is not None, "there is a target"
    delivered, less_target = (Estimate(*(part[:, 0] for part in found)) for found in (estimate, difference))
    return Point(axis, name, config.axes[axis].points[name], delivered, less_target, values.mean(axis=1))


def _rows(config: GeneraliseConfig, points: Sequence[Point]) -> list[list[Any]]:
    """Rows of ``points.csv``, the header first: a row per point and player."""
    names = [f"{what}{part}" for what in ("", "less_target_") for part in Estimate._fields]
    rows: list[list[Any]] = [["axis", "point", "player", *names, "share_of_target", *METRICS[1:], "env"]]
    for point in points:
        shares = point.delivered.mean / point.delivered.mean[config.players.index(config.target)]
        numbers = np.column_stack([*point.delivered, *point.difference, shares, point.means[:, 1:]])
        for label, row in zip(config.players, numbers, strict=True):
            cells = ["" if math.isnan(value) else f"{value:.6f}" for value in row]
            rows.append([point.axis, _text(point.name), label, *cells, json.dumps(point.env)])
    return rows


def write(config: GeneraliseConfig, points: Sequence[Point], folder: Path, command: str) -> None:
    """Write ``points.csv``, ``summary.json`` and ``generalise.png``."""
    made = {"command": command, "git_revision": git_revision(), "versions": versions()}  # before a tracked file changes
    write_text(folder / "points.csv", csv_text(_rows(config, points)))
    digest = digest_scenario(scenario_of(gym.make(config.environment, **compare.expand_data(config.env))))
    content = made | {"config": config.model_dump(mode="json"), "scenario_digest": digest}
    write_text(folder / "summary.json", json.dumps(content, indent=1) + "\n")
    with style():
        write_bytes(folder / "generalise.png", render(_draw(config, points)))


def _show(config: GeneraliseConfig, points: Sequence[Point]) -> None:
    """Print the quality of all players, the agents' lead over the target, and how often they miss a budget."""
    table = Table(title=f"{config.title}: {config.worlds} worlds a point", title_justify="left")
    less = [title for label in config.agents for title in (f"{label} relative to {config.target}", "violated %")]
    for k, title in enumerate(("axis", "point", *config.players, *less)):
        table.add_column(title, justify="right" if k else "left")
    for point in points:
        cells = [f"{mean:.4f}" for mean in point.delivered.mean]
        for i in range(len(config.agents)):
            mean, low, high = (f"{part[i]:+z.4f}" for part in point.difference)
            cells += [f"{mean} \\[{low}, {high}]", f"{100.0 * point.means[i, 1]:.1f}"]
        last = point.name == list(config.axes[point.axis].points)[-1]
        table.add_row(point.axis, _text(point.name), *cells, end_section=last)
    console = open_console()
    console.print(table)
    console.print("95 % intervals: paired bootstrap over worlds", style="dim")


def _draw(config: GeneraliseConfig, points: Sequence[Point]) -> Any:
    """A pair of panels per axis: quality above, the agents' lead over the target below."""
    columns = min(3, len(config.axes))
    rows = math.ceil(len(config.axes) / columns)
    title = f"{config.title}, {config.worlds} worlds, 95 % intervals"
    size, spaces = (max(7.4, 0.8 + 3.6 * columns), 1.2 + 4.0 * rows), {"hspace": 0.04, "wspace": 0.06}
    figure, grid = panels(title, size, 2 * rows, columns, spaces, height_ratios=[2.0, 1.1] * rows)
    for k, name in enumerate(config.axes):
        row, column = divmod(k, columns)
        _panels(grid[2 * row : 2 * row + 2, column], config, [point for point in points if point.axis == name])
    for panel in grid.flat:
        panel.set_visible(panel.has_data())
    for above, below in grid[:, 0].reshape(-1, 2):
        above.set_ylabel("delivered quality per task")
        below.set_ylabel(f"relative to {config.target}")
    legend_below(figure, grid, min(2 * columns, len(config.players) + 1))
    return figure


def _panels(panels: Any, config: GeneraliseConfig, points: Sequence[Point]) -> None:
    """Both panels of an axis."""
    axis = config.axes[points[0].axis]
    named = any(isinstance(name, str) for name in axis.points)
    places: Any = list(range(len(points)) if named else axis.points)
    turned: Any = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if named else {}
    for panel, field in zip(panels, ("delivered", "difference"), strict=True):
        mean, low, high = (np.array([getattr(point, field)[k] for point in points]).T for k in range(3))
        for i, label in enumerate(config.players):
            look = _look(config, label) | ({"linestyle": "none"} if named else {})
            if label in config.agents and named:
                panel.vlines(places, low[i], high[i], color=look["color"], alpha=0.4, linewidth=5)
            elif label in config.agents:
                panel.fill_between(places, low[i], high[i], color=look["color"], alpha=0.2, linewidth=0)
            if field == "delivered" or label in (*config.agents, config.target):  # others are far off
                panel.plot(places, mean[i], label=label, markersize=4, **look)
        if axis.trained is not None:
            place = places[list(axis.points).index(axis.trained)]
            panel.axvline(place, color=BLUE, linewidth=0.9, linestyle=":", zorder=1, label="trained here")
        if axis.log:
            panel.set_xscale("log")
        panel.set_xticks(places, list(map(_text, axis.points)), **turned)
        panel.set_xticks([], minor=True)
    panels[0].tick_params(labelbottom=False)
    panels[1].set_xlabel(points[0].axis)


def _look(config: GeneraliseConfig, label: str) -> dict[str, Any]:
    """Agents are coloured, references grey dashes, the bound is black."""
    if label in config.agents:
        return {"color": _COLORS[list(config.agents).index(label) % len(_COLORS)], "marker": "o", "linewidth": 1.8}
    if label == BOUND:
        return {"color": BLACK, "linewidth": 0.9}
    k = list(config.policies).index(label)
    return {"color": GREY, "linestyle": _DASHES[k % 4], "marker": _MARKERS[k % 4], "linewidth": 1.2}


@command("studies.agents.generalise", "interrupted; the same command goes on where it stopped")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        "python -m studies.agents.generalise", description="Play agents outside their training conditions."
    )
    parser.add_argument("config", type=Path, help="YAML file, such as configs/generalise/queueing.yaml")
    parser.add_argument("--out", type=Path, help="folder of the results (default: runs/generalise/NAME)")
    parser.add_argument(
        "--publish", action="store_true", help="write to docs/results/generalise/NAME, which is tracked"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    options = parser.parse_args(given)
    work = Path("runs", "generalise", options.config.stem)
    folder = options.out or (PUBLISHED / options.config.stem if options.publish else work)
    config = load_config(options.config)  # before a folder is made
    with lock_folder(work):
        points = generalise(config, work, options.jobs)
        write(config, points, folder, command_line("studies.agents.generalise", given))
    _show(config, points)
    print(f"written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
