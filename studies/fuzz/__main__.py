"""Command line: try random inputs of all kinds, and count clear errors, right answers and faults."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from baselines.output import open_console
from coinfer_gym.checks import check_whole
from coinfer_gym.command import command
from studies.fuzz.attempt import BAD, GOOD, attempt_all
from studies.fuzz.inputs import KINDS


@command("studies.fuzz")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status, 1 if there was any fault."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.fuzz",
        description="Try random inputs: each must end in one clear error, or be accepted and give finite numbers.",
    )
    parser.add_argument(
        "--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), help="kinds of input to try (default: all)"
    )
    parser.add_argument("--tries", type=int, default=250, help="tries of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="number of the first try (default: %(default)s)")
    parser.add_argument(
        "--limit",
        type=float,
        default=120.0,
        help="seconds until a try counts as a hang; compiling takes some (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    check_whole("tries", options.tries, 1)
    check_whole("seed", options.seed, 0)
    table, faults = Table("kind", *(f"{outcome}s" for outcome in GOOD[:1]), *GOOD[1:], *BAD), 0
    for kind in options.kinds:
        counts: Counter[str] = Counter()
        for each in attempt_all(kind, range(options.seed, options.seed + options.tries), options.limit):
            counts[each.outcome] += 1
            if each.outcome in BAD:
                print(f"{kind} {each.seed}: {each.text} -> {each.outcome}: {each.detail}", flush=True)
        table.add_row(kind, *(str(counts[outcome]) for outcome in (*GOOD, *BAD)))
        faults += sum(counts[outcome] for outcome in BAD)
    open_console().print(table)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
