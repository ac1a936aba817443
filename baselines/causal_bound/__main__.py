"""What share of the causal bound policies are proven to have: ``python -m baselines.causal_bound CONFIG``.

The configuration is one of `baselines.compare`. Written are ``summary.json`` and ``worlds.csv`` beside what the
comparison notes. The mean of the bound over worlds is what holds for every policy that does not know the future. A
policy that plays fewer worlds has no share.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from baselines.bootstrap import paired_bootstrap, shares
from baselines.causal_bound.bound import causal_bounds
from baselines.compare import compare, load_config
from coinfer_gym.command import command, command_line
from coinfer_gym.files import csv_text, lock_folder, write_text


@command("baselines.causal_bound")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser("python -m baselines.causal_bound", description="Bound every causal policy.")
    parser.add_argument("config", help="YAML file, such as configs/compare/causal.yaml")
    parser.add_argument("--out", type=Path, help="folder of the results (default: runs/causal/NAME OF THE CONFIG)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    options = parser.parse_args(given)
    folder = options.out or Path("runs", "causal", Path(options.config).stem)
    config = load_config(options.config)
    with lock_folder(folder):
        played = compare(config, folder, options.jobs)
        seeds = range(config.seed, config.seed + config.worlds)
        bounds = causal_bounds(config.environment, config.keywords, seeds, options.jobs)
        whole = [i for i, worlds in enumerate(played.worlds) if worlds == config.worlds]
        delivered = played.values[whole, :, list(played.metrics).index("delivered")]
        rows = np.vstack([delivered, bounds])
        means, _ = paired_bootstrap(rows[:, :, None])
        proven = shares(delivered, bounds)
        labels = [*(played.labels[i] for i in whole), "causal bound"]
        summary = played.summary(command_line("baselines.causal_bound", given))
        summary["delivered"] = {label: means.at(i, 0) for i, label in enumerate(labels)}
        summary["proven_share"] = {label: proven.at(i) for i, label in enumerate(labels[:-1])}
        write_text(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
        table = [[seed, *map(repr, rows[:, k].tolist())] for k, seed in enumerate(seeds)]
        write_text(folder / "worlds.csv", csv_text([["seed", *labels], *table]))
    for label in labels:
        mean, low, high = summary["delivered"][label].values()
        line = f"{label:24s} {mean:.4f} [{low:.4f}, {high:.4f}]"
        if label in summary["proven_share"]:
            share, least, most = (100.0 * part for part in summary["proven_share"][label].values())
            line += f"   proven share {share:.1f} % [{least:.1f}, {most:.1f}]"
        print(line)
    print(f"written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
