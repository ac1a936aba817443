"""Which decisions matter in a world: ``python -m studies.lyu.decisions SCENARIO`` tells what its exact optima choose.

The tasks are those that the optimum of each task alone meets in the queue, so that waiting has used up some of their
time. A scenario asks a question where no cut is nearly always best and no control is nearly always at an end of its
range. What other policies deliver there is a comparison (`baselines.compare`), such as ``configs/compare/full.yaml``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NamedTuple

import gymnasium as gym
import numpy as np

from baselines.rollout import join, play
from baselines.rules import LAIM, MyopicExact
from coinfer_gym import solve_exact_batch
from coinfer_gym.checks import check_whole
from coinfer_gym.command import command
from coinfer_gym.laim.decision import CONTROLS
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.physics import from_db
from studies.figure import Floats

_KEYS = ("retained_device", "retained_server", "power_w", "frequency_device_hz", "frequency_server_hz")
"""Keys of ``info``, in the order of `CONTROLS`."""

_INSIDE = 1e-4  # relative distance from an end: an action has single precision


class Survey(NamedTuple):
    """What the exact optima of a world's tasks choose, over the tasks whose budgets can be met."""

    feasible: float  # share of such tasks
    cuts: Floats  # shape (J + 1,): share of the tasks in which each cut is best
    inside: dict[str, float]  # share of the tasks in which each control is strictly inside its range
    fixed: Floats  # shape (J + 1,): quality if one cut served the same tasks, relative to the best cut of each


def survey(scenario: Scenario, worlds: int, seed: int = 0) -> Survey:
    """Play the optimum of each task alone in worlds from `seed` on, and count what it chooses."""
    env = gym.make(LAIM, scenario=scenario.model_dump(by_alias=True))
    tasks = join(play(env, MyopicExact(env), range(seed, seed + worlds)))
    kept = tasks["violated"] == 0.0
    counts = np.bincount(tasks["cut"][kept].astype(np.int64), minlength=scenario.cuts)
    inside = {}
    for name, key, low, high in zip(CONTROLS, _KEYS, *scenario.problem(1.0).bounds(), strict=True):
        between = (tasks[key] > low * (1.0 + _INSIDE)) & (tasks[key] < high * (1.0 - _INSIDE))
        inside[name] = float(between[kept].mean())
    posed = from_db(tasks["gain_db"][kept]), tasks["delay_budget_s"][kept], tasks["energy_budget_j"][kept]
    rows = np.array([solve_exact_batch(scenario.problem(1.0), *posed, cut=cut) for cut in range(scenario.cuts)])
    quality = np.where(rows["reason"] == 0, rows["quality"], 0.0)
    fixed = quality.mean(axis=1) / quality.max(axis=0).mean()
    return Survey(float(kept.mean()), counts / counts.sum(), inside, fixed)


@command("studies.lyu.decisions")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        "python -m studies.lyu.decisions", description="Tell which decisions matter in a world of LAIM-v0."
    )
    parser.add_argument("scenario", help="a shipped scenario, or the path of a YAML file")
    parser.add_argument("--worlds", type=int, default=200, help="number of worlds (default: 200)")
    options = parser.parse_args(arguments)
    env = gym.make(LAIM, scenario=options.scenario)
    found = survey(env.unwrapped.scenario, check_whole("worlds", options.worlds, 1))  # type: ignore[attr-defined]
    print(f"budgets that can be met: {found.feasible:.1%} of the tasks; of these:")
    print("cut   best in   alone, relative to the optimum")
    for cut, (share, alone) in enumerate(zip(found.cuts, found.fixed, strict=True)):
        print(f"{cut:3d} {share:9.1%}   {alone:.3f}")
    for name, share in found.inside.items():
        print(f"{name:18} strictly inside its range in {share:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
