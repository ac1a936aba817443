"""Plain use: what agents reach with all settings at their defaults, in environments made by id alone.

    python -m studies.agents.plain_use --seeds 10 --out docs/results/plain_use

Trains PPO and SAC of Stable-Baselines3 in LAIM-v0, Layerwise-v0 and their ids with shares, and plays each agent in
worlds that it never met, beside random actions and the myopic optimum: the best decision of every task by itself. Every
finished run is a row of ``runs.csv``; the same command continues with those that are missing, and drops those of a
scenario that has changed since.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode

import coinfer_gym  # noqa: F401  registers the ids
from agents.held_out import TEST_SEED, LanePolicy
from baselines.family import digest_scenario, family_of, scenario_of
from baselines.policy import Predictor
from baselines.registry import bind, find_policy
from baselines.rollout import join, metrics, play
from coinfer_gym.files import csv_text, lock_folder, read_csv, write_text

NAMES = ("LAIM", "Layerwise", "LAIMShares", "LayerwiseShares")
STEPS = {"ppo": 200_000, "sac": 50_000}
BAR = 0.85
"""Share of the myopic optimum's delivered quality that plain use is to reach."""

_KEY = ("environment", "algo", "seed", "steps", "worlds", "scenario")


def train(name: str, algo: str, seed: int, steps: int) -> Predictor:
    """An agent trained as in the first example of Stable-Baselines3; only the seed and the processor are chosen."""
    import stable_baselines3
    import torch

    torch.set_num_threads(1)  # fastest for networks this small
    model = getattr(stable_baselines3, algo.upper())("MlpPolicy", f"coinfer_gym/{name}-v0", seed=seed, device="cpu")
    trained: Predictor = model.learn(steps)
    return trained


def measure(name: str, algo: str, policy: Predictor | None, worlds: int) -> dict[str, float]:
    """Metrics of an agent, of ``random`` actions or of the ``myopic`` optimum, in worlds that no training draws."""
    seeds = range(TEST_SEED, TEST_SEED + worlds)
    if algo == "myopic" and name == "Layerwise":  # the best of the exact optima over all rates of the channel
        menu, options = find_policy("layerwise_menu"), dict[str, Any]()
        tuned = menu.tune(options, "coinfer_gym/Layerwise-v0", {}, seeds)  # type: ignore[attr-defined]
        env: Any = gym.make("coinfer_gym/Layerwise-v0", disable_env_checker=True)
        return metrics(join(play(env, bind(menu(**tuned), env), seeds)))
    mode, kind = AutoresetMode.SAME_STEP, "vector_entry_point"
    env = gym.make_vec(f"coinfer_gym/{name}-v0", worlds, vectorization_mode=kind, autoreset_mode=mode)
    if algo == "myopic":
        policy = LanePolicy(family_of(env.unwrapped.scenario).act, env)
    elif algo == "random":
        env.action_space.seed(0)
        policy = LanePolicy(lambda _: env.action_space.sample(), env)
    assert policy is not None
    return metrics(join(play(env, policy, seeds)))


def run(
    folder: Path,
    names: Sequence[str],
    algos: Sequence[str],
    seeds: Iterable[int],
    worlds: int,
    steps: int | None = None,
) -> list[dict[str, Any]]:
    """Do what ``runs.csv`` in the folder lacks; `steps` in place of `STEPS`. Returns all its rows."""
    path = folder / "runs.csv"
    with lock_folder(folder):
        digests = {
            name: digest_scenario(scenario_of(gym.make(f"coinfer_gym/{name}-v0")), learned=True) for name in NAMES
        }
        rows = (
            [row for row in read_csv(path) if row["scenario"] == digests[row["environment"]]] if path.exists() else []
        )
        known = {tuple(row[key] for key in _KEY) for row in rows}
        for name in dict.fromkeys(name.removesuffix("Shares") for name in names):
            _note(path, rows, known, (name, "myopic", "0", "0", str(worlds), digests[name]))
        for name in names:
            _note(path, rows, known, (name, "random", "0", "0", str(worlds), digests[name]))
        for seed in seeds:
            for name in names:
                for algo in algos:
                    steps_of = str(steps or STEPS[algo])
                    _note(path, rows, known, (name, algo, str(seed), steps_of, str(worlds), digests[name]))
    return rows


def _note(path: Path, rows: list[dict[str, Any]], known: set[tuple[str, ...]], key: tuple[str, ...]) -> None:
    """Do a run and write its row, if it is not among those known."""
    if key in known:
        return
    name, algo, seed, steps, worlds, _ = key
    began = time.perf_counter()
    policy = train(name, algo, int(seed), int(steps)) if algo in STEPS else None
    found = measure(name, algo, policy, int(worlds))
    numbers = {column: f"{found[column]:.4f}" for column in ("delivered", "violated", "dropped", "return")}
    rows.append(dict(zip(_KEY, key, strict=True)) | numbers | {"seconds": f"{time.perf_counter() - began:.0f}"})
    write_text(path, csv_text(rows))
    print(*rows[-1].values(), flush=True)


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table: per environment and algorithm, what was delivered relative to the myopic optimum."""
    best = {row["environment"]: float(row["delivered"]) for row in rows if row["algo"] == "myopic"}
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        if row["algo"] != "myopic":
            share = float(row["delivered"]) / best[row["environment"].removesuffix("Shares")]
            groups.setdefault((row["environment"], row["algo"], row["steps"]), []).append(share)
    lines = ["| environment | algorithm | steps | seeds | share of the myopic optimum: mean, least | at least 85 % |"]
    lines += ["|---|---|---|---|---|---|"]
    for (name, algo, steps), shares in sorted(groups.items()):
        reached = sum(share >= BAR for share in shares)
        mean = sum(shares) / len(shares)
        label = algo.upper() if algo in STEPS else algo
        lines.append(
            f"| `{name}-v0` | {label} | {int(steps):,} | {len(shares)} | {mean:.3f}, {min(shares):.3f} "
            f"| {reached} of {len(shares)} |"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/plain_use"), help="folder of runs.csv")
    parser.add_argument("--names", nargs="+", choices=NAMES, default=NAMES, help="environments, without -v0")
    parser.add_argument("--algos", nargs="+", choices=sorted(STEPS), default=sorted(STEPS))
    parser.add_argument("--seeds", type=int, default=10, help="how many")
    parser.add_argument("--worlds", type=int, default=200, help="worlds that every agent plays at the end")
    given = parser.parse_args(arguments)
    print(*table(run(given.out, given.names, given.algos, range(given.seeds), given.worlds)), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
