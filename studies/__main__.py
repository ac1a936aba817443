"""Compute and draw the figures: ``python -m studies [NAME ...] [--out FOLDER]``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from coinfer_gym import InvalidInputError
from coinfer_gym.errors import nearest

OF_REAL_NETWORKS = (
    "weights",
    "output_distortion",
    "pruned_weights",
    "layerwise_accuracy",
    "layerwise_confirmed",
)
"""Figures that need the extra ``models``, networks with weights and recorded data, or what is measured on them: without
these they are skipped."""

_MU = ("partition", "rates", "tradeoff", "noise", "optimizer", "accuracy", "confirmed")

FIGURES = {
    **{name: f"studies.lyu.{name}" for name in ("sca_convergence", "schemes", "cuts", "accuracy", "regimes")},
    "search": "studies.mu.search",
    **{name: f"studies.agents.{name}" for name in ("load", "decision_time")},
    **{f"layerwise_{name}": f"studies.mu.{name}" for name in _MU},
    **{name: f"studies.lyu.{name}" for name in ("weights", "output_distortion", "pruned_weights")},
}
"""Figure by name: the module whose ``make(folder)`` writes its files there and says which claims hold."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make figures.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line where None.

    Returns
    -------
    int
        0 where the files are written, whatever the verdicts on the claims: one that does not hold is a result. 2 where
        something given cannot be used. Asked for by name, a figure of real networks is not skipped: what it lacks is an
        error.
    """
    parser = argparse.ArgumentParser(prog="python -m studies", description="Compute and draw the figures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}; all by default")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"), help="folder for the files (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        for name in options.names:
            if name not in FIGURES:
                raise InvalidInputError("figure", name, nearest(name, FIGURES))
        for name in options.names or FIGURES:
            try:
                found = importlib.import_module(FIGURES[name]).make(options.out)
            except (ImportError, InvalidInputError) as error:
                if options.names or name not in OF_REAL_NETWORKS:
                    raise
                print(f"{name}: skipped: {error}")
                continue
            for claim, holds in found.items():
                print(f"{name}: {claim}: {'holds' if holds else 'does not hold'}")
    except (ImportError, InvalidInputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
