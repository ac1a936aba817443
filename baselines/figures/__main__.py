"""Compute and draw every figure: ``python -m baselines.figures [--out FOLDER]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from baselines.figures.sca_convergence import make

FIGURES = {"sca_convergence": make}
"""Makers by figure: each writes its files into a folder and says which claims hold."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make all figures.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line where None.

    Returns
    -------
    int
        0 where every claim holds, else 1; the files are written either way.
    """
    parser = argparse.ArgumentParser(prog="python -m baselines.figures", description="Compute and draw every figure.")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"), help="folder for the files (%(default)s)")
    folder = parser.parse_args(arguments).out
    failed = False
    for name, maker in FIGURES.items():
        for claim, holds in maker(folder).items():
            print(f"{name}: {claim}: {'holds' if holds else 'FAILS'}")
            failed |= not holds
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
