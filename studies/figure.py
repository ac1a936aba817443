"""The frame around every figure: compute, judge the claims, draw, and write the table, the verdict and the picture."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.family import digest_shipped
from baselines.output import render, style
from coinfer_gym import InvalidInputError
from coinfer_gym.files import csv_text, versions, write_bytes, write_text
from studies.catalogue import CATALOGUE

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rows = Iterable[Sequence[Any] | Mapping[str, Any]]
Pictures = Mapping[str, Any]
"""Matplotlib figures by the suffix of their file's name: usually one, under ``""``."""

PUBLISHED = Path(__file__).resolve().parent.parent / "docs" / "figures"
"""Folder of the published figures."""


class Study(NamedTuple):
    """One figure of the catalogue, as four functions that are its own; `make` is what all figures share."""

    name: str  # key of `CATALOGUE`, and the stem of the files
    # makes the data, on which all the others depend. Its keyword arguments are the options of `make`.
    compute: Callable[..., Any]
    table: Callable[[Any], Rows]  # rows of the CSV file: mappings, or sequences of which the first is the header
    # what the data say: ``holds``, a truth value for each statement, and anything else for the reader of the JSON file
    verdict: Callable[[Any], dict[str, Any]]
    draw: Callable[[Any], Pictures]  # pictures of the data

    def make(self, folder: Path, **options: Any) -> dict[str, bool]:
        """Compute the figure and write ``NAME.csv``, ``NAME.json`` and ``NAME.png``; returns what holds."""
        given = inspect.signature(self.compute).bind(**options)
        given.apply_defaults()
        data = self.compute(**given.arguments)
        judged = self.verdict(data)
        entry = CATALOGUE[self.name]
        about = {"claims": list(entry.claims), "scenario_digests": digest_shipped(entry.scenarios)}
        kept = {key: value for key, value in given.arguments.items() if isinstance(value, (int, float, str, tuple))}
        summary = plain({**about, **judged, "options": kept, "versions": versions()})
        write_text(folder / f"{self.name}.csv", csv_text(map(_cells, self.table(data))))
        write_text(folder / f"{self.name}.json", json.dumps(summary, indent=2) + "\n")
        with style():
            for suffix, picture in self.draw(data).items():
                write_bytes(folder / f"{self.name}{suffix}.png", render(picture))
        holds: dict[str, bool] = judged["holds"]
        return holds


def _cells(row: Sequence[Any] | Mapping[str, Any]) -> list[Any] | dict[str, Any]:
    """A row with its numbers to nine digits, and nothing for NaN."""
    if isinstance(row, Mapping):
        return dict(zip(row, _cells(list(row.values())), strict=True))
    return [("" if math.isnan(x) else f"{x:.9g}") if isinstance(x, float) else x for x in row]


def require(files: Iterable[Path], command: str) -> None:
    """Raise `InvalidInputError` unless all files are there; it names the command that makes them."""
    for file in files:
        if not file.is_file():
            raise InvalidInputError("file", str(file), f"There is no such file. Make it with: {command}")


def plain(value: Any) -> Any:
    """A value as strict JSON can hold it: what is infinite or no number becomes null."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
