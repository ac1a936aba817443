"""Tune the parameters of rules on worlds that no comparison uses: ``python -m baselines.tune CONFIG.yaml``.

A configuration says where, on how many worlds, and which values to try::

    title: Far-sighted rules in the default queue
    environment: coinfer_gym/LAIM-v0        # the default
    env: {scenario: bert-multimodal}
    worlds: 100                             # world k is env.reset(seed=seed + k)
    seed: 10000000                          # the least: comparisons use smaller seeds
    metric: delivered                       # the larger the better; the default
    rules:                                  # label: policy, fixed options, and the values to try of the others
      queue budget:
        policy: "baselines.farsighted:QueueBudget"
        options: {}
        search: {share: [0.2, 0.3, 0.4], least: [0.05, 0.1]}

The search starts in the middle of each list and improves one parameter after the other, until none improves any more.
Every trial plays the same worlds. The result, with all trials and the command, goes to ``runs/tune/NAME/tuned.json``,
or with ``--publish`` to ``configs/tuned/NAME.json``, which is tracked. ``runs/tune/NAME`` keeps what was played, as in
a comparison: the same command goes on after an interruption. The command reports a value at the end of its list,
because there may be a better one beyond it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from baselines.checks import Checked, check_model, naming
from baselines.compare import ROOT, compare
from baselines.family import digest_scenario, family_of, scenario_of
from baselines.registry import check_environment, check_options, find_policy
from baselines.rules import LAIM
from coinfer_gym import InvalidInputError
from coinfer_gym.command import command, command_line
from coinfer_gym.errors import nearest
from coinfer_gym.files import lock_folder, write_text

__all__ = ["Rule", "TuneConfig", "improve", "load_config", "tune"]

PUBLISHED = ROOT / "configs" / "tuned"

FIRST_SEED = 10_000_000
"""Least seed of a world that is tuned on."""


class Rule(Checked):
    """A policy, the options that are fixed, and the values to try of the others."""

    policy: str
    options: dict[str, Any] = Field(default_factory=dict)
    search: dict[str, list[Any]] = Field(min_length=1)


class TuneConfig(Checked):
    """A configuration; `load_config` reads and checks one."""

    title: str
    environment: str = LAIM
    env: dict[str, Any] = Field(default_factory=dict)
    worlds: int = Field(ge=1, le=FIRST_SEED)
    seed: int = Field(FIRST_SEED, ge=FIRST_SEED)
    metric: str = "delivered"
    rules: dict[str, Rule] = Field(min_length=1)


def load_config(source: str | Path | Mapping[str, Any]) -> TuneConfig:
    """Read and check a configuration: the path of a YAML file, or its content."""
    config = check_model(TuneConfig, source, "config")
    check_environment(config.environment)
    known = family_of(scenario_of(gym.make(config.environment, **config.env))).metrics
    if config.metric not in known:
        raise InvalidInputError("config: metric", config.metric, nearest(config.metric, known))
    for label, rule in config.rules.items():
        for name, values in rule.search.items():
            if not values:
                raise InvalidInputError(f"config: rules.{label}.search.{name}", values, "Give a value to try.")
        with naming(f"rules: {label}"):
            check_options(rule.policy, find_policy(rule.policy), {**rule.options, **_middle(rule.search)})
    return config


def _middle(search: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    return {name: values[len(values) // 2] for name, values in search.items()}


def _at_ends(search: Mapping[str, Sequence[Any]], best: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Tuned values at either end of their lists, where these have three values or more."""
    long = {name: values for name, values in search.items() if len(values) > 2}
    return [(name, best[name]) for name, values in long.items() if best[name] in (values[0], values[-1])]


def improve(
    search: Mapping[str, Sequence[Any]], score: Callable[[dict[str, Any]], float]
) -> tuple[dict[str, Any], list[tuple[dict[str, Any], float]]]:
    """Improve one parameter after the other until none improves any more.

    Parameters
    ----------
    search : mapping
        Values to try by parameter; the search begins in the middle of each list.
    score : callable
        Of the parameters, the larger the better; called once for the same ones.

    Returns
    -------
    best : dict
        Parameters with the largest score.
    trials : list of (dict, float)
        All that was tried, in order.
    """
    trials: list[tuple[dict[str, Any], float]] = []

    def judge(parameters: dict[str, Any]) -> float:
        for known, value in trials:
            if known == parameters:
                return value
        trials.append((parameters, score(parameters)))
        return trials[-1][1]

    best = _middle(search)
    record, improved = judge(best), True
    while improved:
        improved = False
        for name, values in search.items():
            for value in values:
                trial = {**best, name: value}
                if judge(trial) > record:
                    best, record, improved = trial, judge(trial), True
    return best, trials


def tune(
    config: TuneConfig, jobs: int = 1, show: Callable[[str], object] = print, folder: Path | None = None
) -> dict[str, Any]:
    """Tune every rule of a configuration.

    Parameters
    ----------
    config : TuneConfig
    jobs : int
        Number of processes.
    show : callable
        Called with a line of text for each trial, and for each tuned value at the end of its list.
    folder : Path, optional
        Keeps the worlds that were played, as for `baselines.compare.compare`.

    Returns
    -------
    dict
        By label: policy, tuned options, score with its standard error over worlds, and the trials.
    """
    return {label: _tune_rule(config, label, rule, jobs, show, folder) for label, rule in config.rules.items()}


def _tune_rule(
    config: TuneConfig, label: str, rule: Rule, jobs: int, show: Callable[[str], object], folder: Path | None
) -> dict[str, Any]:
    values: dict[str, NDArray[np.float64]] = {}

    def score(parameters: dict[str, Any]) -> float:
        found = _play(config, rule.policy, {**rule.options, **parameters}, jobs, folder)
        values[json.dumps(parameters)] = found
        show(f"{label}: {parameters} {found.mean():.5f}")
        return float(found.mean())

    best, trials = improve(rule.search, score)
    for name, value in _at_ends(rule.search, best):
        show(f"{label}: {name} {value} is at the end of its list: widen it")
    found = values[json.dumps(best)]
    return {
        "policy": rule.policy,
        "options": {**rule.options, **best},
        "score": float(found.mean()),
        "standard_error": float(found.std(ddof=1) / math.sqrt(len(found))) if len(found) > 1 else None,
        "trials": [{"options": parameters, "score": value} for parameters, value in trials],
    }


def _play(
    config: TuneConfig, policy: str, options: dict[str, Any], jobs: int, folder: Path | None
) -> NDArray[np.float64]:
    """The metric of a rule in every world."""
    content = config.model_dump(include={"title", "environment", "env", "worlds", "seed"})
    found = compare({**content, "policies": {"rule": {"policy": policy, **options}}}, folder, jobs)
    values: NDArray[np.float64] = found.only([config.metric]).values[0, :, 0]
    return values


@command("baselines.tune", "interrupted; the same command goes on where it stopped")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m baselines.tune", description="Tune the options of rules, in worlds that no comparison uses."
    )
    parser.add_argument("config", help="YAML file, such as configs/tune/queueing.yaml")
    parser.add_argument("--out", type=Path, help="file of the result (default: runs/tune/NAME/tuned.json)")
    parser.add_argument("--publish", action="store_true", help="write to configs/tuned/NAME.json, which is tracked")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="number of processes (default: one per core)"
    )
    options = parser.parse_args(arguments)
    name = Path(options.config).stem
    work = Path("runs", "tune", name)
    path = options.out or (PUBLISHED / f"{name}.json" if options.publish else work / "tuned.json")
    config = load_config(options.config)  # before a folder is made
    with lock_folder(work):
        rules = tune(config, options.jobs, folder=work)
        given = sys.argv[1:] if arguments is None else arguments
        result = {
            "command": command_line("baselines.tune", given),
            "config": config.model_dump(mode="json"),
            "scenario_digest": digest_scenario(scenario_of(gym.make(config.environment, **config.env))),
            "rules": rules,
        }
        write_text(path, json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
