"""How good a trained agent is on frozen worlds, beside what needs no learning: ``python -m agents.evaluate PATH``.

``PATH`` is the folder of a run, an agent's file, or the name of a shipped agent. World `k` is ``env.reset(seed=seed +
k)`` of the environment that the agent was trained for; ``--env-kwargs arrival_rate=4 csi_delay=0.1`` changes keywords,
and so asks how far the agent generalises. The references play the same worlds; what they earned is kept in
``runs/references`` as by `baselines.compare`, so that the next agent in these worlds does not wait for them again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import coinfer_gym  # noqa: F401  registers the ids
from agents.agent_file import AGENT_FILE
from agents.policy import load_agent
from agents.rescaled import RescaledAgent
from baselines import compare
from baselines.bootstrap import Estimate, paired_bootstrap
from baselines.clairvoyant import clairvoyant_optimum
from baselines.output import git_revision, versions, write_text
from baselines.report import COLUMNS
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.scenario import WorldScenario
from coinfer_gym.world import World

if TYPE_CHECKING:
    from coinfer_gym.sb3 import NativeVecEnv

__all__ = [
    "AGENT",
    "METRICS",
    "TRAINED",
    "Evaluation",
    "quality_bounds",
    "evaluate",
    "find_agent",
    "main",
    "play_worlds",
]

METRICS = ("delivered", "violated", "dropped", "delay_s", "energy_j")
"""What is measured in a world, as `baselines.compare.play` does."""

TRAINED = Path(__file__).resolve().parent / "trained"
"""Where the shipped agents are, a folder each."""

AGENT = "agent"
REFERENCES: dict[str, dict[str, Any]] = {
    "myopic exact": {"policy": "myopic_exact"},
    "stochastic DP": {"policy": "stochastic_dp"},
}
"""Policies beside the agent, by label; one that cannot act in an environment is left out."""

LAYERWISE_REFERENCES: dict[str, dict[str, Any]] = {
    "layerwise static": {"policy": "layerwise_static"},
    "layerwise menu": {"policy": "layerwise_menu"},
}
"""Those in Layerwise-v0."""

_KEPT = Path("runs", "references")


@dataclass(frozen=True)
class Evaluation:
    """What an agent and the references earned in the same worlds.

    Attributes
    ----------
    env : str
        Environment id.
    env_kwargs : dict
        Its keywords.
    seed : int
        Of the first world.
    labels : list of str
        The agent, then the references.
    values : ndarray, shape (policies, worlds, metrics)
        The `METRICS` in every world.
    estimate, difference : Estimate of shape (policies, metrics)
        Means over worlds, and those of what the agent has more than a policy, with 95 % intervals.
    notes : list of str
        What else is to be said.
    """

    env: str
    env_kwargs: dict[str, Any]
    seed: int
    labels: list[str]
    values: NDArray[np.float64]
    estimate: Estimate
    difference: Estimate
    notes: list[str]

    @property
    def worlds(self) -> int:
        """Number of worlds."""
        return int(self.values.shape[1])

    def plain(self) -> dict[str, Any]:
        """Everything as plain values; ``delivered`` world by world."""
        return {
            "env": self.env,
            "env_kwargs": self.env_kwargs,
            "worlds": self.worlds,
            "seed": self.seed,
            "policies": {label: _plain(self.estimate, i) for i, label in enumerate(self.labels)},
            "agent_less": {label: _plain(self.difference, i) for i, label in enumerate(self.labels) if i > 0},
            "delivered": {label: row[:, 0].tolist() for label, row in zip(self.labels, self.values, strict=True)},
            "notes": self.notes,
            "git_revision": git_revision(),
            "versions": versions(),
        }

    def rows(self) -> list[list[str]]:
        """The results as text, a row per policy below one of titles."""
        titles = ["policy", "delivered quality", "agent less it", *(COLUMNS[name].title for name in METRICS[1:])]
        rows = [titles]
        for i, label in enumerate(self.labels):
            cells = [_interval(self.estimate, i), _interval(self.difference, i, "+") if i > 0 else ""]
            rows.append([label, *cells, *(_margin(self.estimate, i, k) for k in range(1, len(METRICS)))])
        return rows

    def show(self) -> None:
        """Print the table."""
        console = Console()
        if not console.is_terminal:
            console = Console(width=200)  # a file has no edge to wrap at
        place = " ".join([self.env, *(f"{key}={value}" for key, value in self.env_kwargs.items())])
        table = Table(title=f"{place}: {self.worlds} worlds from seed {self.seed}", title_justify="left")
        titles, *rows = self.rows()
        for k, title in enumerate(titles):
            table.add_column(title, justify="right" if k else "left")
        for row in rows:
            table.add_row(*(cell.replace("[", "\\[") for cell in row))
        console.print(table)
        for note in ("95 % intervals: paired bootstrap over worlds; ± is the longer side of one", *self.notes):
            console.print(note, style="dim", markup=False)


def evaluate(
    path: str | Path, env_kwargs: Mapping[str, Any] | None = None, worlds: int = 200, seed: int = 0, jobs: int = 1
) -> Evaluation:
    """Have an agent and the references play frozen worlds.

    Parameters
    ----------
    path : str or Path
        As for `find_agent`.
    env_kwargs : mapping, optional
        Keywords of the environment that differ from those the agent was trained with.
    worlds : int
        Number of worlds.
    seed : int
        Of the first.
    jobs : int
        Processes that the references play on.

    Returns
    -------
    Evaluation

    Raises
    ------
    InvalidInputError
        If there is no such agent, a keyword cannot be used, or the agent cannot act in the changed environment.
    """
    from agents.held_out import deterministic  # here, for finding an agent needs no stable-baselines3
    from coinfer_gym.sb3 import make_native

    file = find_agent(path)
    agent = load_agent(file)
    env, keywords = agent.trained_for
    keywords |= env_kwargs or {}
    common = {"title": "references", "environment": env, "env": keywords, "worlds": worlds, "seed": seed}
    single = gym.make(env, **keywords)
    references = LAYERWISE_REFERENCES if compare.is_layerwise(single) else REFERENCES
    metrics = compare.metrics_of(single)
    configs = {label: compare.load_config(common | {"policies": {label: who}}) for label, who in references.items()}
    scaled = RescaledAgent(file).bind(single)  # tells at once if it cannot act there
    lanes = make_native(env, worlds, agent.config.get("wrapper") or (), **keywords)
    act = deterministic(agent, lanes)
    played = {AGENT: play_worlds(lanes, lambda observations: act(scaled.rescale(observations)), seed)}
    lanes.close()
    notes = []
    began = -1 if "teacher" in agent.config else agent.config.get("seed", -1)  # a clone's seed is that of its networks
    if seed <= began < seed + worlds:
        notes.append("The first episodes of its training may be among these worlds: choose another seed to be sure.")
    for label, config in configs.items():
        try:
            found = compare.compare(config, _KEPT, jobs).values[0]
        except InvalidInputError as error:
            notes.append(f"Without {label}: {error.remedy}")
            continue
        played[label] = found[:, [metrics.index(name) for name in METRICS]]
    values = np.array(list(played.values()))
    estimate, less_agent = paired_bootstrap(values, reference=0)
    assert less_agent is not None, "there is a reference"
    difference = Estimate(-less_agent.mean, -less_agent.high, -less_agent.low)
    return Evaluation(env, keywords, seed, list(played), values, estimate, difference, notes)


def play_worlds(
    env: NativeVecEnv, act: Callable[[NDArray[np.float32]], NDArray[Any]], seed: int
) -> NDArray[np.float64]:
    """Play one episode in every lane.

    Parameters
    ----------
    env : NativeVecEnv
    act : callable
        Actions of a batch of observations.
    seed : int
        Lane `i` plays the world of ``reset(seed=seed + i)``.

    Returns
    -------
    ndarray, shape (lanes, metrics)
        The `METRICS`.
    """
    env.seed(seed)
    observations: Any = env.reset()
    running = np.ones(env.num_envs, np.bool_)
    sums, decisions = np.zeros((env.num_envs, len(METRICS))), np.zeros(env.num_envs)
    while running.any():
        observations, _, dones, _ = env.step(act(observations))
        found = env.decisions
        served = {"delay_s": found["wait_s"] + found["delay_s"]}
        columns = np.column_stack([served.get(name, found[name]) for name in METRICS])
        sums[running] += columns[running]
        decisions += running
        running &= ~dones
    tasks = decisions + sums[:, METRICS.index("dropped")]
    per_task = [name in ("delivered", "dropped") for name in METRICS]
    return sums / np.where(per_task, tasks[:, None], decisions[:, None])


def quality_bounds(scenario: WorldScenario, world: World) -> tuple[float, float]:
    """Bounds of what knowing a world's future could deliver per task, the lower one attainable.

    In Layerwise-v0, whose clairvoyant optimum no solver finds, they are the ends of what can be delivered at all.
    """
    if not isinstance(scenario, Scenario):
        return 0.0, 1.0
    result = clairvoyant_optimum(scenario, world)
    return result.lower, result.upper


def find_agent(path: str | Path) -> Path:
    """File of an agent.

    Parameters
    ----------
    path : str or Path
        The file, the folder of a run, or the name of a shipped agent.

    Returns
    -------
    Path

    Raises
    ------
    InvalidInputError
        If there is none.
    """
    for place in (Path(path), TRAINED / path):
        file = place / AGENT_FILE if place.is_dir() else place
        if file.is_file():
            return file
    shipped = sorted(file.parent.name for file in TRAINED.glob(f"[!.]*/{AGENT_FILE}"))
    hint = nearest(str(path), shipped) if shipped else "No agent is shipped."
    raise InvalidInputError("agent", str(path), f"Give the folder of a run, a file, or a shipped agent. {hint}")


def _plain(estimate: Estimate, i: int) -> dict[str, dict[str, float]]:
    """Means and intervals of policy `i` by metric."""
    return {
        name: {part: float(value[i, k]) for part, value in estimate._asdict().items()} for k, name in enumerate(METRICS)
    }


def _interval(estimate: Estimate, i: int, sign: str = "") -> str:
    """Delivered quality of policy `i` with its interval."""
    mean, low, high = (format(part[i, 0], f"{sign}z.4f") for part in estimate)
    return f"{mean} [{low}, {high}]"


def _margin(estimate: Estimate, i: int, k: int) -> str:
    """Metric `k` of policy `i`, and how far its interval reaches at most to a side."""
    column = COLUMNS[METRICS[k]]
    mean, low, high = (column.factor * part[i, k] for part in estimate)
    return f"{mean:{column.form}} ±{max(mean - low, high - mean):{column.form}}"


def _pair(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"give KEY=VALUE, not {text!r}")
    return key, yaml.safe_load(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser("python -m agents.evaluate", description="A trained agent on frozen worlds.")
    parser.add_argument("path", help="folder of a run, agent's file, or name of a shipped agent")
    parser.add_argument(
        "--env-kwargs", nargs="+", type=_pair, default=[], metavar="KEY=VALUE", help="keywords other than in training"
    )
    parser.add_argument("--worlds", type=int, default=200, help="number of worlds (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first world (default: 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write everything to this file")
    options = parser.parse_args(arguments)
    try:
        found = evaluate(options.path, dict(options.env_kwargs), options.worlds, options.seed, options.jobs)
    except InvalidInputError as error:
        print(f"agents.evaluate: {error}", file=sys.stderr)
        return 2
    found.show()
    if options.out is not None:
        write_text(options.out, json.dumps({"agent": options.path} | found.plain(), indent=1) + "\n")
        print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
