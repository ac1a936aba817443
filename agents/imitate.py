"""Clone a policy into the actor of an agent: ``python -m agents.imitate CONFIG.yaml``, as a start for training.

A configuration says which policy is cloned (the teacher), into which agent, and how the agent is fitted::

    title: Stochastic dynamic programming in the default queue
    teacher: {policy: stochastic_dp}        # a policy of `baselines.registry`, and its options
    run:                                    # fields of `agents.runs.RunConfig`: environment, wrappers, networks
      algo: ppo
      env_kwargs: {scenario: bert-multimodal}
      wrapper: [BudgetShareAction]
      hyperparams: {policy_kwargs: {net_arch: [128, 128], activation_fn: relu}}
    worlds: 1000                            # world k is env.reset(seed=first_world + k)
    epochs: 12

The agent learns one of three things:

- With the wrapper `coinfer_gym.laim.wrappers.BudgetShareAction` it learns the shares of the budgets that the teacher's
  decisions use; the wrapper finds the best decision within them. A teacher that also says what every service time would
  deliver (`baselines.stochastic.StochasticDP` does) teaches more: the agent learns to lose little of that, and need not
  copy a choice between times that are equally good.
- In LAIM-v0 without that wrapper it learns the exact optimum within the same shares, less a `margin`: such an agent
  never hits a budget exactly.
- In Layerwise-v0 it learns the teacher's actions. A teacher that tunes itself to the channel does so once.

Recorded worlds stay in the output folder, under a digest of all that they depend on. A second fit uses them, and an
interrupted recording continues. The clone is written to ``agent.safetensors``, which ``start`` of a training run takes,
and its comparison with the teacher to ``imitation.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.agent_file import AGENT_FILE, save_agent
from agents.cloning import Loss, fit
from agents.demonstrations import ImitationConfig, Samples, load_config, prepare_teacher, record
from agents.held_out import TEST_SEED, play
from agents.policy import load_agent
from agents.runs import build_env, read_config
from baselines.output import git_revision
from coinfer_gym.checks import check_whole
from coinfer_gym.command import command, command_line
from coinfer_gym.files import lock_folder, versions, write_text

__all__ = ["imitate", "main"]


def imitate(config: ImitationConfig, folder: Path, command: str = "", jobs: int = 1) -> dict[str, Any]:
    """Record a teacher, fit a clone to it, compare the two in held-out worlds; returns what ``imitation.json`` holds.

    Parameters
    ----------
    config : ImitationConfig
    folder : Path
        For the samples, the clone and ``imitation.json``.
    command : str
        Command line to write down.
    jobs : int
        Processes that record.
    """
    resolved = config.target.resolve().model_dump(include={*config.run, "conf_file", "hyperparams", "wrapper"})
    config = config.model_copy(update={"run": resolved})  # once: the file of hyperparameters may change meanwhile
    with lock_folder(folder):
        config = prepare_teacher(config, folder)
        run = config.target
        samples = record(config, folder, config.seeds, jobs)
        held_out = record(config, folder, range(TEST_SEED, TEST_SEED + config.held_out_worlds), jobs)
        begin = time.monotonic()
        policy, loss = fit(config, samples)
        seconds = time.monotonic() - begin
        about = {"env": run.env, "env_kwargs": run.env_kwargs, "wrapper": run.wrappers, "seed": config.seed}
        about |= {"teacher": config.teacher.model_dump()}
        activation = run.load_hyperparameters().policy_kwargs.get("activation_fn")
        save_agent(folder / AGENT_FILE, run.algo, policy.state_dict(), about, activation)
        result = {
            "title": config.title,
            "command": command,
            "config": config.model_dump(mode="json"),
            "samples": {"training": len(samples), "held_out": len(held_out)},
            "loss": {"training": loss, "held_out": Loss(config, held_out).mean(policy)},
            "scores": _compare(config, folder, held_out),
            "seconds": seconds,
            "git_revision": git_revision(),
            "versions": versions(),
        }
        write_text(folder / "imitation.json", json.dumps(result, indent=1) + "\n")
        return result


def _compare(config: ImitationConfig, folder: Path, held_out: Samples) -> dict[str, dict[str, float]]:
    """Teacher and clone in the same held-out worlds; a clone that can miss budgets is also played in KeepBudgets."""
    run = config.target
    played = {"clone": run.wrappers}
    if run.family.keeps_budgets and not config.wrappers:
        played["clone, budgets kept"] = [{"coinfer_gym.laim.wrappers.KeepBudgets": {}}]
    scores = {"teacher": held_out.score}
    for name, wrapper in played.items():
        env = build_env(read_config(config.run | {"wrapper": wrapper}, "config: run"), config.held_out_worlds)
        scores[name] = play(env, load_agent(folder), TEST_SEED)
    return scores


@command("agents.imitate", "interrupted; the same command goes on where it stopped")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m agents.imitate",
        description="Clone a policy into the actor of an agent.",
    )
    parser.add_argument("config", help="YAML file, such as configs/imitation/queueing.yaml")
    parser.add_argument("--out", type=Path, help="output folder (default: runs/imitation/NAME OF THE CONFIG)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that record the teacher (default: 1)")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    folder = options.out or Path("runs", "imitation", Path(options.config).stem)
    check_whole("jobs", options.jobs, 1, 10_000)
    config = load_config(options.config)
    result = imitate(config, folder, command_line("agents.imitate", given), options.jobs)
    best = result["scores"]["teacher"]["delivered"]
    for name, score in result["scores"].items():
        share = score["delivered"] / best if best > 0.0 else float("nan")
        print(f"{name:20} quality {score['delivered']:.4f} ({share:.2%}), violations {score['violated']:.2%}")
    print(f"written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
