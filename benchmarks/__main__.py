"""Run the benchmarks, all or those named, print the figures and store them: `python -m benchmarks [PART ...]`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

PARTS = ("environment", "optimizers", "training", "decisions")
RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    """Measure the chosen parts; the others keep the figures of their last run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure speed, print the figures and store them."
    )
    parser.add_argument("parts", nargs="*", help=f"parts to run, of {', '.join(PARTS)} (default: all)")
    chosen = parser.parse_args().parts or PARTS
    if not set(chosen) <= set(PARTS):
        parser.error(f"unknown part, choose from {', '.join(PARTS)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for part in chosen:
        figures = importlib.import_module(f"benchmarks.{part}").measure()
        results[part] = {"machine": _machine(), "figures": figures}
        print(f"\n{part}")
        for name, value in figures.items():
            print(f"  {name:<85} {value:12.4g}")
        temporary = RESULTS.with_suffix(".tmp")
        temporary.write_text(json.dumps(results, indent=2) + "\n")
        os.replace(temporary, RESULTS)


def _machine() -> dict[str, str | int | None]:
    packages = ("numpy", "numba", "gymnasium", "stable-baselines3", "torch", "cvxpy", "clarabel")
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


if __name__ == "__main__":
    main()
