"""Run the benchmarks, all or those named, and print the figures: `python -m benchmarks [PART ...] [--publish]`."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Sequence
from pathlib import Path

from coinfer_gym.command import command
from coinfer_gym.files import machine, versions, write_text

PARTS = ("environment", "optimizers", "training", "decisions")
RESULTS = Path(__file__).with_name("results.json")


@command("benchmarks")
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the chosen parts; of the others the stored figures stay."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed and print the figures.")
    parser.add_argument("parts", nargs="*", help=f"parts to run, of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--publish", action="store_true", help=f"store the figures in benchmarks/{RESULTS.name}")
    options = parser.parse_args(arguments)
    chosen = options.parts or PARTS
    if not set(chosen) <= set(PARTS):
        parser.error(f"unknown part, choose from {', '.join(PARTS)}")
    for part in chosen:
        figures = importlib.import_module(f"benchmarks.{part}").measure()
        print(f"\n{part}")
        for name, value in figures.items():
            print(f"  {name:<85} {value:12.4g}")
        if options.publish:
            results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
            results[part] = {"machine": {"machine": machine(), **versions()}, "figures": figures}
            write_text(RESULTS, json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
