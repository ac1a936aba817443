"""What a measurement leaves behind: files written whole, tables, and what made them."""

from __future__ import annotations

import csv
import io
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from coinfer_gym._version import __version__

PACKAGES = ("numpy", "safetensors", "scikit-learn", "scipy", "torch", "transformers")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and the folder that it stands in where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same keys as the text of a CSV file with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV file with a header, every value as text."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def versions() -> dict[str, str]:
    """Versions of what a measurement depends on, as far as it is installed."""
    found = {"python": platform.python_version(), "coinfer_gym": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Processor and number of cores, as a measured time depends on them."""
    return f"{platform.machine()}, {os.cpu_count()} cores"
