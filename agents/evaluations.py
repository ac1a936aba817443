"""The evaluations of a run: their file, and which agent was the best so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tqdm import tqdm

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import csv_text, read_csv, write_text

__all__ = ["Evaluations", "read_evaluations"]


class Evaluations:
    """Rows of ``evaluations.csv``; `keep` is called with the number of decisions when an agent is the best so far.

    The best agent is the one that delivers the most quality among those that miss a budget in at most the share
    `violations` of the decisions, or else the one that misses the fewest.
    """

    def __init__(self, file: Path, violations: float, keep: Callable[[int], None]) -> None:
        self._file, self._violations, self._keep = file, violations, keep
        self._rows: list[dict[str, float]] = []

    @property
    def last(self) -> int | None:
        """Decisions until the last evaluation."""
        return int(self._rows[-1]["timesteps"]) if self._rows else None

    def resume(self, timesteps: int) -> None:
        """Continue from a checkpoint: forget the rows after it."""
        self._rows = [row for row in read_evaluations(self._file) if row["timesteps"] <= timesteps]

    def add(self, timesteps: int, score: Mapping[str, float]) -> None:
        """Note an evaluation, after the agent was kept if it is the best."""
        rank = self._rank(score)
        better = all(rank > self._rank(row) for row in self._rows)
        if better:
            self._keep(timesteps)
        self._rows.append({"timesteps": float(timesteps)} | dict(score))
        write_text(self._file, csv_text(self._rows))
        tqdm.write(
            f"{timesteps:>10} decisions: quality {score['delivered']:.4f}, "
            f"violations {score['violated']:.2%}{', the best so far' if better else ''}"
        )

    def _rank(self, score: Mapping[str, float]) -> tuple[float, float]:
        delivered, violated = score["delivered"], score["violated"]
        return (0.0, delivered) if violated <= self._violations else (-violated, delivered)


def read_evaluations(path: Path) -> list[dict[str, float]]:
    """Rows of ``evaluations.csv``; none where there is no such file."""
    rows = read_csv(path) if path.is_file() else []
    try:
        return [{name: float(value) for name, value in row.items()} for row in rows]
    except (TypeError, ValueError) as error:
        raise InvalidInputError("file", str(path), "It is damaged: delete it, and evaluations begin anew.") from error
