"""Reads and checks the file of a sweep, and lists its runs; `studies.agents.sweep` documents the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from agents.agent_file import read_agent
from agents.evaluate import METRICS as PLAYED
from agents.held_out import SELECTION_SEED
from agents.runs import RunConfig, read_config
from baselines import compare
from baselines.checks import Checked, check_model
from baselines.compare import CompareConfig, PolicyConfig
from baselines.rules import LAIM
from coinfer_gym.errors import InvalidInputError, nearest

METRICS = PLAYED[:3]
"""What is measured in a frozen world: quality per task, misses per decision, losses per task."""

BOUNDS = ("clairvoyant lower", "clairvoyant upper")
"""Labels of the bounds of the clairvoyant optimum among the references."""

_STRIDE = 10_000  # between the seeds of two runs; more than lanes or frozen worlds

_MOST_RUNS = 900  # seeds of tuning and of held-out worlds come after them

_OF_THE_SWEEP = ("env", "env_kwargs", "seed", "out")


class Evaluation(Checked):
    """The frozen worlds."""

    worlds: int = Field(200, ge=2, le=_STRIDE)
    seed: int = Field(0, ge=0)


class SweepConfig(Checked):
    """What the file of a sweep says; `load_sweep` reads and checks one."""

    title: str
    env: str = LAIM
    env_kwargs: dict[str, Any] = Field(default_factory=dict)
    seeds: int = Field(ge=1, le=_MOST_RUNS)
    evaluation: Evaluation
    target: str
    references: dict[str, PolicyConfig] = Field(min_length=1)
    common: dict[str, Any] = Field(default_factory=dict)
    entries: dict[str, dict[str, Any]] = Field(min_length=1)

    @property
    def frozen(self) -> range:
        """Seeds of the frozen worlds."""
        return range(self.evaluation.seed, self.evaluation.seed + self.evaluation.worlds)

    def comparison(self, worlds: range) -> CompareConfig:
        """The references in some worlds."""
        content = {
            "title": self.title,
            "environment": self.env,
            "env": self.env_kwargs,
            "worlds": len(worlds),
            "seed": worlds.start,
            "policies": {label: {"policy": entry.policy, **entry.options} for label, entry in self.references.items()},
        }
        return compare.load_config(content)


@dataclass(frozen=True)
class Run:
    """One run of a sweep."""

    label: str  # of its entry
    config: RunConfig  # with the folder of the run

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.label}, seed {self.config.seed}"


def load_sweep(path: str | Path) -> SweepConfig:
    """Read and check the file of a sweep."""
    config = check_model(SweepConfig, path, str(path))
    if config.target not in config.references:
        raise InvalidInputError(f"{path}: target", config.target, nearest(config.target, config.references))
    if config.frozen.stop > _STRIDE:
        remedy = f"Frozen worlds end before {_STRIDE}, where the seeds of training begin."
        raise InvalidInputError(f"{path}: evaluation: seed", config.evaluation.seed, remedy)
    for label in (*config.references, *config.entries):
        if label in BOUNDS or not label.replace("_", "").replace("-", "").replace(" ", "").isalnum():
            raise InvalidInputError(f"{path}: label", label, "Use letters, digits, spaces, '-' and '_'.")
    folders: dict[str, str] = {}
    for label in config.entries:
        other = folders.setdefault(folder_name(label).lower(), label)
        if other != label:
            raise InvalidInputError(f"{path}: label", label, f"Its folder would be that of {other!r}: give another.")
    twice = config.references.keys() & config.entries.keys()
    if twice:
        raise InvalidInputError(f"{path}: label", min(twice), "An entry and a reference need different labels.")
    config.comparison(config.frozen)
    for run in list_runs(config, Path(), str(path)):
        run.config.load_hyperparameters()
        if run.config.start:
            read_agent(run.config.start)
    return config


def folder_name(label: str) -> str:
    """Name of the folder that holds the runs of an entry."""
    return label.replace(" ", "_")


def list_runs(config: SweepConfig, folder: Path, origin: str = "sweep") -> list[Run]:
    """Runs of a sweep, the first ones of all entries before the second ones."""
    for label, entry in config.entries.items():
        fields = config.common | entry
        if "algo" not in fields:
            raise InvalidInputError(f"{origin}: {label}: algo", None, "It must be given.")
        for name in _OF_THE_SWEEP:
            if name in fields:
                raise InvalidInputError(f"{origin}: {label}: {name}", fields[name], "The sweep sets it for all runs.")
        if "eval_lanes" in entry:
            remedy = "Set it under 'common': all runs are evaluated in the same worlds."
            raise InvalidInputError(f"{origin}: {label}: eval_lanes", entry["eval_lanes"], remedy)
    seeds = [_STRIDE * (k + 1) for k in range(config.seeds)]
    return [_make_run(config, folder, label, seed, origin) for seed in seeds for label in config.entries]


def selection_worlds(config: SweepConfig) -> range:
    """Seeds of the worlds in which training chooses the best agent of a run, see ``evaluations.csv``."""
    lanes = list_runs(config, Path())[0].config.eval_lanes
    return range(SELECTION_SEED, SELECTION_SEED + lanes)


def _make_run(config: SweepConfig, folder: Path, label: str, seed: int, origin: str) -> Run:
    fields = config.common | config.entries[label]
    out = (folder / folder_name(label) / f"seed_{seed}").as_posix()
    own = {"env": config.env, "env_kwargs": config.env_kwargs, "seed": seed, "out": out}
    return Run(label, read_config(fields | own, f"{origin}: {label}"))
