"""Ship the agent of a run with this repository: ``python -m studies.agents.ship RUN_FOLDER --name bert-multimodal``.

The folder ``agents/trained/NAME`` gets ``agent.safetensors``, ``card.json`` and ``card.md``. The card says what the
agent is, how it was trained, and its result on frozen worlds beside reference policies and the bounds of the
clairvoyant optimum. It also has the checksum of the agent's file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml

from agents.agent_file import AGENT_FILE, read_agent
from agents.evaluate import AGENT, TRAINED, evaluate, plain
from baselines.bootstrap import paired_bootstrap
from baselines.compare import CompareConfig
from baselines.family import digest_scenario, family_of, scenario_of
from baselines.report import Comparison
from coinfer_gym.command import command
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import lock_folder, paths_from, read_json, read_yaml, write_bytes
from studies.agents.bounds import clairvoyant_bounds

LIMIT = 1_000_000
"""Bytes of a shipped file, at most."""

_LAST = "card.md"  # it is written after all others
_KEPT = Path("runs", "ship")
_LINE = 112  # columns that are left for the call


def ship(folder: Path, name: str, worlds: int = 200, seed: int = 0, jobs: int = 1, overwrite: bool = False) -> Path:
    """Copy the agent of a run into the folder of shipped agents, write its card, and return the new folder.

    The agent is evaluated as by `agents.evaluate.evaluate`. `InvalidInputError` is raised if the run has no agent or
    does not tell how it was trained, the name is taken or not usable, training began in one of the evaluation's worlds,
    or a file would be too large.
    """
    target = TRAINED / name
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise InvalidInputError("name", name, "Use small letters, digits and hyphens.")
    if (target / _LAST).exists() and not overwrite:
        raise InvalidInputError("name", name, "An agent of this name is shipped: give another name, or --overwrite.")
    _, about = read_agent(folder)
    content = (folder / AGENT_FILE).read_bytes()
    training = read_training(folder)
    _check_worlds(training, range(seed, seed + worlds))
    evaluation = evaluate(folder, worlds=worlds, seed=seed, jobs=jobs)
    scenario = scenario_of(gym.make(evaluation.config["environment"], **evaluation.config["env"]))
    bounds = _bounds(evaluation, jobs)
    card = {
        "name": name,
        "file": AGENT_FILE,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "scenario": scenario.name,
        "scenario_digest": digest_scenario(scenario),
        "description": scenario.description,
        **{key: about[key] for key in ("algo", "activation", "timesteps")},
        "wrapper": about["config"].get("wrapper") or [],
        "training": training,
        "evaluation": plain(evaluation) | {"clairvoyant": bounds},
    }
    files = {
        AGENT_FILE: content,
        "card.json": (json.dumps(card, indent=1) + "\n").encode(),
        _LAST: _describe(card, evaluation, family_of(scenario).bounds is not None).encode(),
    }
    for file, part in files.items():
        if len(part) > LIMIT:
            raise InvalidInputError(f"{file}: bytes", len(part), f"At most {LIMIT}: train a smaller network.")
    for path in set(target.glob("*")) - {target / file for file in files}:
        path.unlink()
    for file, part in files.items():
        write_bytes(target / file, part)
    return target


def read_training(folder: Path) -> list[dict[str, Any]]:
    """Steps of a training: the last one first, then those of the agent that it started from.

    The folder is that of a run of `agents.train` or `agents.imitate`, or of a shipped agent.
    """
    if (folder / "card.json").is_file():
        return list(read_json(folder / "card.json", "card")["training"])
    if (folder / "imitation.json").is_file():
        found = read_json(folder / "imitation.json", "file")
        return [_portable({key: found[key] for key in ("command", "config", "git_revision", "versions")})]
    if not (folder / "config.yaml").is_file() or not (folder / "origin.yaml").is_file():
        remedy = "It must hold config.yaml and origin.yaml, imitation.json or card.json, which describe the training."
        raise InvalidInputError("folder", str(folder), remedy)
    config, origin = (read_yaml(folder / file, "run") for file in ("config.yaml", "origin.yaml"))
    noted = {key: origin.get(key) for key in ("git_revision", "versions")}
    step = _portable({"command": shlex.join(origin["command"]), "config": config} | noted)
    start = paths_from(config, folder).get("start")
    if not start:
        return [step]
    return [step, *read_training(Path(start) if Path(start).is_dir() else Path(start).parent)]


def _portable(step: dict[str, Any]) -> dict[str, Any]:
    """The same with paths relative to the checkout."""
    text = json.dumps(step, default=str)
    return dict(json.loads(text.replace(json.dumps(f"{TRAINED.parents[1]}{os.sep}")[1:-1], "")))


def _check_worlds(training: Sequence[dict[str, Any]], frozen: range) -> None:
    """Raise `InvalidInputError` if a training step began in one of the frozen worlds."""
    for step in training:
        config = step["config"]
        if "first_world" in config:
            seen = range(config["first_world"], config["first_world"] + config["worlds"])
        else:
            seen = range(config["seed"], config["seed"] + config["hyperparams"].get("n_envs", 1))
        if seen.start < frozen.stop and frozen.start < seen.stop:
            remedy = f"Training began in worlds {seen.start} to {seen.stop - 1}: give --seed {seen.stop} or more."
            raise InvalidInputError("seed", frozen.start, remedy)


def _bounds(evaluation: Comparison, jobs: int) -> dict[str, Any]:
    """Bounds of the clairvoyant optimum: what knowing the future can deliver for sure, and at most."""
    values = clairvoyant_bounds(CompareConfig.model_validate(evaluation.config), _KEPT, jobs)
    estimate, _ = paired_bootstrap(values[:, :, None])
    return {
        name: {part: float(value[i, 0]) for part, value in estimate._asdict().items()}
        for i, name in enumerate(("lower", "upper"))
    }


def _write_call(env: str, env_kwargs: Mapping[str, Any]) -> str:
    """The call that makes the environment, in the style of the sources."""
    arguments = [f'"coinfer_gym:{env}"']
    for key, value in env_kwargs.items():
        arguments.append(f"{key}={json.dumps(value) if isinstance(value, str) else repr(value)}")
    line = f"gym.make({', '.join(arguments)})"
    if len(line) <= _LINE:
        return line
    return "gym.make(\n" + "".join(f"    {argument},\n" for argument in arguments) + ")"


def _describe(card: dict[str, Any], evaluation: Comparison, bounded: bool) -> str:
    """Text of ``card.md``."""
    wrappers = ", ".join(f"`{json.dumps(layer)}`" for layer in card["wrapper"]) or "none"
    config, bounds = evaluation.config, card["evaluation"]["clairvoyant"]
    share = float(evaluation.intervals[0].mean[evaluation.labels.index(AGENT), 0]) / bounds["upper"]["mean"]
    titles, *rows = ([f"{text} {interval}".strip() for text, interval in row] for row in evaluation.rows())
    bound = f" No policy can exceed the clairvoyant's upper bound; the agent delivers {share:.1%} of it."
    for name in ("lower", "upper") if bounded else ():
        text = "{mean:.4f} [{low:.4f}, {high:.4f}]".format(**bounds[name])
        rows.append([f"clairvoyant, {name} bound", text, *[""] * (len(titles) - 2)])
    table = [f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles), *rows)]
    first, last = config["seed"], config["seed"] + config["worlds"] - 1
    parts = [
        f"# {card['name']}",
        f"{card['description']}",
        f"An agent of {card['algo'].upper()} for `{config['environment']}`, scenario `{card['scenario']}`, kept after "
        f"{card['timesteps']:,} decisions of training. Wrappers, innermost first: {wrappers}; `bind` adds them.",
        "```python\nimport gymnasium as gym\n\nfrom agents.policy import load_agent\n\n"
        f"env = {_write_call(config['environment'], config['env'])}\n"
        f'agent = load_agent("agents/trained/{card["name"]}").bind(env)\n'
        "observation, info = env.reset(seed=0)\naction, _ = agent.predict(observation, deterministic=True)\n```",
        "## Result",
        f"Means over the fixed worlds `reset(seed={first})` to `reset(seed={last})`, in which no training "
        f"started, with 95 % intervals by the paired bootstrap over worlds.{bound if bounded else ''}",
        "\n".join(table),
        *evaluation.notes,
        f"Evaluated at revision `{card['evaluation']['git_revision']}`.",
        "## Training",
        *_describe_training(card["training"]),
        "## File",
        f"`{card['file']}`, {card['bytes']:,} bytes, weights only.\nSHA-256 `{card['sha256']}`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _describe_training(training: Sequence[dict[str, Any]]) -> list[str]:
    parts = []
    for k, step in enumerate(training):
        what = (
            "It started from the agent that this command made:" if k else "Command, run in the root of the repository:"
        )
        config = yaml.safe_dump(step["config"], sort_keys=False).rstrip()
        parts.append(f"{what}\n\n```bash\n{step['command']}\n```")
        parts.append(f"Seed {step['config']['seed']}, revision `{step['git_revision']}`; full configuration:")
        parts.append(f"```yaml\n{config}\n```")
    return parts


@command("studies.agents.ship", "interrupted; the same command goes on where it stopped")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        "python -m studies.agents.ship", description="Add the agent of a run to the shipped agents of this repository."
    )
    parser.add_argument("folder", type=Path, help="folder of the run")
    parser.add_argument("--name", required=True, help="name of the shipped agent, such as bert-multimodal")
    parser.add_argument("--worlds", type=int, default=200, help="number of worlds of the evaluation (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first world (default: 0)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="number of processes (default: one per core)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a shipped agent of this name")
    options = parser.parse_args(arguments)
    with lock_folder(_KEPT):
        target = ship(options.folder, options.name, options.worlds, options.seed, options.jobs, options.overwrite)
    print(f"shipped as {target.name}; its card is {target / 'card.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
