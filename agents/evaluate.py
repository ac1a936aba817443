"""How good a trained agent is on frozen worlds, beside what needs no learning: ``python -m agents.evaluate PATH``.

``PATH`` is the folder of a run, an agent's file, or the name of a shipped agent. World `k` is ``env.reset(seed=seed +
k)`` of the environment that the agent was trained for; ``--env-kwargs arrival_rate=4 csi_delay=0.1`` changes keywords,
and so asks how far the agent generalises. What was played is kept in ``runs/references``, as `baselines.compare` does:
the references do not play the same worlds again for the next agent. ``--bound`` also computes what any policy that does
not know the future can deliver there at most (`baselines.causal_bound`), and the agent's proven share of it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import coinfer_gym  # noqa: F401  registers the ids
from agents.agent_file import AGENT_FILE
from agents.policy import Agent, load_agent
from baselines.arguments import key_and_value
from baselines.bootstrap import shares
from baselines.compare import compare, load_config
from baselines.family import family_of, scenario_of
from baselines.output import git_revision
from baselines.report import Comparison
from baselines.tune import PUBLISHED
from coinfer_gym.checks import check_whole
from coinfer_gym.command import command
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.files import read_json, versions, write_text

__all__ = ["AGENT", "METRICS", "TRAINED", "evaluate", "find_agent", "main", "plain", "proven_shares"]

METRICS = ("delivered", "violated", "dropped", "delay_s", "energy_j")
"""What is shown, of all that `baselines.rollout.measure` measures."""

TRAINED = Path(__file__).resolve().parent / "trained"
"""Where the shipped agents are, a folder each."""

AGENT = "agent"
_KEPT = Path("runs", "references")


def evaluate(
    path: str | Path, env_kwargs: Mapping[str, Any] | None = None, worlds: int = 200, seed: int = 0, jobs: int = 1
) -> Comparison:
    """Have an agent and the references of its environment play frozen worlds.

    Parameters
    ----------
    path : str or Path
        As for `find_agent`.
    env_kwargs : mapping, optional
        Keywords of the environment that differ from those the agent was trained with.
    worlds, seed : int
        Number of worlds, and the seed of the first.
    jobs : int
        Number of processes.

    Returns
    -------
    Comparison
        The `METRICS` of the agent, then of the references that can act in its environment; differences are taken to
        the agent.

    Raises
    ------
    InvalidInputError
        If there is no such agent, a keyword cannot be used, or the agent cannot act in the changed environment.
    """
    file = find_agent(path)
    agent = load_agent(file)
    env, keywords = agent.trained_for
    keywords |= env_kwargs or {}
    common = {"title": "", "environment": env, "env": keywords, "worlds": worlds, "seed": seed}
    scenario = scenario_of(gym.make(env, **keywords))
    family = family_of(scenario)
    players: dict[str, Any] = {AGENT: {"policy": "agents.rescaled:RescaledAgent", "path": os.path.relpath(file)}}
    players |= dict(family.references) | _tuned(scenario.name, family.references)
    played, notes = {}, _overlap(agent, range(seed, seed + worlds))
    physical = common | {"environment": env.replace("Shares-", "-")}  # rules act by physical decisions
    for label, player in players.items():
        place = common if label == AGENT else physical
        try:
            played[label] = compare(load_config(place | {"policies": {label: player}}), _KEPT, jobs)
        except InvalidInputError as error:
            if label == AGENT:
                raise
            notes.append(f"Without {label}: {error.remedy}")
    config = {
        **common,
        "title": " ".join([env, *(f"{key}={value}" for key, value in keywords.items()), f"from seed {seed}"]),
        "policies": {label: found.config["policies"][label] for label, found in played.items()},
    }
    values = np.concatenate([found.values for found in played.values()])
    return Comparison(config, list(played), family.metrics, values, {}, AGENT, tuple(notes)).only(METRICS)


def _tuned(name: str, references: Mapping[str, Any]) -> dict[str, Any]:
    """Those references whose options were tuned in the scenario itself, with these options."""
    path = PUBLISHED / f"{name}.json"
    rules = read_json(path, "file")["rules"] if path.is_file() else {}
    return {
        label: {"policy": rule["policy"], **rule["options"]} for label, rule in rules.items() if label in references
    }


def _overlap(agent: Agent, worlds: range) -> list[str]:
    """A note if training may have begun in one of these worlds."""
    if "teacher" in agent.config or agent.config.get("seed") not in worlds:  # a clone's seed is that of its networks
        return []
    return [
        "The first episodes of its training may be among these worlds: "
        "choose another one to be sure, such as --seed 100000."
    ]


def proven_shares(found: Comparison, jobs: int = 1) -> dict[str, tuple[float, float, float]]:
    """Delivered quality of each policy as a share of the causal bound in the same worlds, with its 95 % interval.

    Raises
    ------
    InvalidInputError
        If there is no such bound in these worlds.
    """
    from baselines.causal_bound import causal_bounds  # only this needs it

    config = found.config
    environment = config["environment"].replace("Shares-", "-")
    seeds = range(config["seed"], config["seed"] + config["worlds"])
    bounds = causal_bounds(environment, config["env"], seeds, jobs)
    estimate = shares(found.values[:, :, list(found.metrics).index("delivered")], bounds)
    return {label: (float(m), float(a), float(b)) for label, m, a, b in zip(found.labels, *estimate, strict=True)}


def plain(found: Comparison) -> dict[str, Any]:
    """An evaluation as plain values, with the delivered quality of every world."""
    summary, quality = found.summary(""), list(found.metrics).index("delivered")
    return {
        "env": found.config["environment"],
        "env_kwargs": found.config["env"],
        "worlds": found.config["worlds"],
        "seed": found.config["seed"],
        "policies": {label: policy["metrics"] for label, policy in summary["policies"].items()},
        "relative_to_agent": {label: summary["policies"][label]["difference"] for label in found.labels[1:]},
        "delivered": {label: row[:, quality].tolist() for label, row in zip(found.labels, found.values, strict=True)},
        "notes": list(found.notes),
        "git_revision": git_revision(),
        "versions": versions(),
    }


def find_agent(path: str | Path) -> Path:
    """File of an agent: the file itself, that in the folder of a run, or that of a shipped agent by its name."""
    for place in (Path(path), TRAINED / path):
        file = place / AGENT_FILE if os.path.isdir(place) else place
        if os.path.isfile(file):  # also False for a name that is too long
            return file
    shipped = sorted(file.parent.name for file in TRAINED.glob(f"[!.]*/{AGENT_FILE}"))
    hint = nearest(str(path), shipped) if shipped else "No agent is shipped."
    raise InvalidInputError("agent", str(path), f"Give the folder of a run, a file, or a shipped agent. {hint}")


@command("agents.evaluate")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser("python -m agents.evaluate", description="Evaluate a trained agent.")
    parser.add_argument("path", help="folder of a run, agent's file, or name of a shipped agent")
    parser.add_argument(
        "--env-kwargs",
        nargs="+",
        type=key_and_value,
        default=[],
        metavar="KEY=VALUE",
        help="keywords of the environment to change, relative to training",
    )
    parser.add_argument("--worlds", type=int, default=200, help="number of worlds (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first world (default: 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--bound", action="store_true", help="also compute the proven share of the causal bound; slow")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write everything to this file")
    options = parser.parse_args(arguments)
    check_whole("jobs", options.jobs, 1, 10_000)
    found = evaluate(options.path, dict(options.env_kwargs), options.worlds, options.seed, options.jobs)
    proven = {"proven_share": proven_shares(found, options.jobs)} if options.bound else {}
    if options.out is not None:
        write_text(options.out, json.dumps({"agent": options.path} | plain(found) | proven, indent=1) + "\n")
    found.show()
    for label, (share, low, high) in proven.get("proven_share", {}).items():
        print(f"{label}: {100 * share:.1f} % of the causal bound [{100 * low:.1f}, {100 * high:.1f}]")
    if options.out is not None:
        print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
