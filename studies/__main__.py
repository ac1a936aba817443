"""Compute and draw the figures: ``python -m studies [NAME ...] [--list] [--publish]``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from coinfer_gym import InvalidInputError
from coinfer_gym.command import command
from coinfer_gym.errors import nearest
from studies.catalogue import CATALOGUE
from studies.figure import PUBLISHED, Study

OUT = Path("runs/figures")


def find(name: str) -> Study:
    """A figure by its name; needs the packages that the figure needs."""
    if name not in CATALOGUE:
        raise InvalidInputError("figure", name, nearest(name, CATALOGUE))
    studies: tuple[Study, ...] = importlib.import_module(CATALOGUE[name].module).STUDIES
    return next(study for study in studies if study.name == name)


def make(names: Sequence[str], folder: Path) -> None:
    """Make figures and print which statements hold.

    Without names all are made; those whose networks or data are missing are skipped then, and raise
    `InvalidInputError` or `ImportError` if asked for by name.
    """
    studies = [find(name) for name in names]
    for name in names or CATALOGUE:
        try:
            study = studies.pop(0) if names else find(name)
            found = study.make(folder)
        except (ImportError, InvalidInputError) as error:
            if names or not CATALOGUE[name].needs_data:
                raise
            print(f"{name}: skipped: {error}")
            continue
        for statement, holds in found.items():
            print(f"{name}: {statement}: {'holds' if holds else 'does not hold'}")


def list_figures() -> None:
    """Print every figure with what it redoes, the claims that it judges, and its rough duration."""
    for name, entry in CATALOGUE.items():
        print(f"{name:<20} {entry.paper or '-':<32} {', '.join(entry.claims) or '-':<8} {entry.time}")


@command("studies", errors=(ImportError,))
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status.

    It is 0 if the files are written, whatever the verdicts: a claim that does not hold is a result, too.
    """
    parser = argparse.ArgumentParser(prog="python -m studies", description="Compute and draw the figures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures; all by default (see --list)")
    parser.add_argument("--list", action="store_true", help="print the figures with their claims, and stop")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the files (default: %(default)s)")
    parser.add_argument("--publish", action="store_true", help="write to docs/figures, the tracked folder")
    options = parser.parse_args(arguments)
    if options.list:
        list_figures()
        return 0
    make(options.names, PUBLISHED if options.publish else options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
