"""What a comparison remembers: the worlds that were played, under digests of all that their results depend on."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import append_text, write_text

__all__ = ["ROOT", "Journal", "digest", "digest_files", "digest_module", "digest_source"]

ROOT = Path(__file__).resolve().parent.parent
_SHOWN_ONLY = ("bootstrap.py", "output.py", "report.py")  # a change there leaves what was played as it was


class Journal:
    """The finished worlds, one JSON object per line, each with a digest of itself.

    A record holds the `metrics`. Without a path nothing is written; `fresh` begins with an empty file. Lines that are
    not whole are ignored, as an interrupted command may have left one; one that was changed is an `InvalidInputError`.
    """

    def __init__(self, path: Path | None, metrics: Collection[str], fresh: bool = False) -> None:
        self._path, self._metrics = path, set(metrics)
        self.worlds: dict[tuple[str, int], dict[str, Any]] = {}  # records by digest of the policy and seed
        self.tuned: dict[str, dict[str, Any]] = {}  # options that were searched for, by digest of the policy
        if path is not None:
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
            lines = "" if fresh or text is None else text
            whole = [line for number, line in enumerate(lines.splitlines(), start=1) if self._take(line, number)]
            kept = "".join(f"{line}\n" for line in whole)
            if kept != text:  # an interrupted run may have left half a line, to which the next one would be glued
                write_text(path, kept)

    def note(self, records: Iterable[dict[str, Any]]) -> None:
        """Append records, and have them on disk before the next ones are played."""
        lines = [json.dumps(record | {"digest": digest(record)}) for record in records]
        if self._path is not None:
            append_text(self._path, "".join(f"{line}\n" for line in lines))
        for line in lines:
            self._take(line)

    def _take(self, line: str, number: int = 0) -> bool:
        """Read a line; whether it is whole."""
        try:
            record = json.loads(line)
            changed = record.pop("digest") != digest(record)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            return False
        if changed:
            remedy = "It was changed after it was written: delete this line, and its world is played again."
            raise InvalidInputError(f"{self._path}, line {number}", line, remedy)
        if "tuned" in record:
            self.tuned[record["key"]] = record["tuned"]
        elif not self._metrics <= record["metrics"].keys():
            return False
        else:
            metrics = {name: float(record["metrics"][name]) for name in self._metrics}
            self.worlds[record["key"], record["seed"]] = {"world": record["world"], "metrics": metrics}
        return True


def digest(content: Any) -> str:
    """Sixteen letters that follow the content, plain values or what has a text."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def digest_files(values: Iterable[Any]) -> list[str]:
    """Digests of the files and folders among some values."""
    paths = [Path(value) for value in values if isinstance(value, str) and value and os.path.exists(value)]
    return [_digest_paths(path, [path] if path.is_file() else path.rglob("*")) for path in paths]


@cache
def digest_source(floor: str) -> str:
    """Digest of a floor's code and data; agents are digested by their files, their cards tell of results."""
    files = (path for path in (ROOT / floor).rglob("*") if path.suffix in (".py", ".yaml", ".json"))
    return _digest_paths(ROOT, (path for path in files if path.name not in _SHOWN_ONLY and "trained" not in path.parts))


def digest_module(name: str) -> str:
    """Digest of the file of a user's module, or of the sources of the package that it is in."""
    spec = importlib.util.find_spec(name.split(".")[0])
    if spec is None or spec.origin is None:
        return name
    file = Path(spec.origin)
    return _digest_paths(file.parent, file.parent.rglob("*.py") if spec.submodule_search_locations else [file])


def _digest_paths(base: Path, paths: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in sorted(path for path in paths if path.is_file()):
        found.update(path.relative_to(base).as_posix().encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()
