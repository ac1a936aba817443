"""Read files with clear errors, write them atomically, lock folders, and record versions and machine."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from coinfer_gym._version import __version__
from coinfer_gym.errors import InvalidInputError, nearest

PACKAGES = (
    *("gymnasium", "numba", "numpy", "scipy", "cvxpy", "clarabel", "stable-baselines3"),
    *("safetensors", "scikit-learn", "torch", "transformers"),
)

LARGEST_FILE = 64_000_000
"""Largest file that is read, in bytes."""

LARGEST_YAML = 1_000_000
"""Longest YAML text that is read, in characters."""

MOST_VALUES = 200_000
"""Largest number of values in a YAML text, with aliases expanded."""


def shipped_names(folder: Traversable, suffix: str) -> list[str]:
    """Names of the files of a folder in the package that end in `suffix`, sorted, without it."""
    return sorted(file.name.removesuffix(suffix) for file in folder.iterdir() if file.name.endswith(suffix))


def is_path(source: object) -> bool:
    """Whether this means a file and not a name: a `Path`, or text with a folder or a suffix, as ``sub/net.txt``."""
    if not isinstance(source, str):
        return isinstance(source, os.PathLike)
    return os.path.dirname(source) != "" or os.path.splitext(source)[1] != ""


def paths_from(content: Any, folder: str | Path) -> Any:
    """Content of a configuration in `folder`, whose paths count from there, with paths that can be opened from here.

    Paths are the values of the keys ``path``, ``start`` and ``..._trace``, and where `is_path` takes them for one also
    those of ``scenario``, ``workload``, ``network``, ``predictor``, ``conf_file`` and ``agents``. What begins with
    ``${`` and absolute paths stay as they are.
    """
    return _map_paths(content, lambda path: os.path.normpath(os.path.join(folder, path)))


def paths_to(content: Any, folder: str | Path) -> Any:
    """The inverse of `paths_from`: the content to write into a file of that folder."""
    return _map_paths(content, lambda path: path if os.path.isabs(path) else os.path.relpath(path, folder))


def _map_paths(content: Any, change: Callable[[str], str], key: object = None) -> Any:
    """A nested value with its paths changed; `key` is that of the value."""
    if isinstance(content, Mapping):
        inner = {name: key if key == "agents" else name for name in content}
        return {name: _map_paths(value, change, inner[name]) for name, value in content.items()}
    if isinstance(content, list):
        return [_map_paths(value, change, key) for value in content]
    if not isinstance(content, str) or not content or content.startswith("${"):
        return content
    always = key in ("path", "start") or str(key).endswith("_trace")
    named = key in ("scenario", "workload", "network", "predictor", "conf_file", "agents")
    if not always and not (named and is_path(content)):
        return content
    changed = change(content)
    return changed if always or is_path(changed) else os.path.join(os.curdir, changed)  # no name of something shipped


def find_file(source: str | Path, field: str, folder: Traversable, suffix: str) -> Traversable:
    """Find a file of the package by its name, or your own file by its path.

    Parameters
    ----------
    source : str or Path
        Name of a file in `folder` without its suffix, or the path of your own, see `is_path`.
    field : str
        Kind of the file in error messages, such as ``"workload"``.
    folder : Traversable
        Folder in the package, from `importlib.resources.files`.
    suffix : str
        Suffix of the files in `folder`.

    Raises
    ------
    InvalidInputError
        If the package ships no such file.
    """
    if is_path(source):
        return Path(source)
    known = shipped_names(folder, suffix)
    if source not in known:
        hint = nearest(str(source), known)
        raise InvalidInputError(field, source, f"{hint} A file of your own has a suffix, as my{suffix}.")
    return folder.joinpath(f"{source}{suffix}")


def read_text(path: Traversable, field: str) -> str:
    """Text of a file in UTF-8, with or without a byte order mark.

    Raises
    ------
    InvalidInputError
        If there is no such file, it cannot be read, it is larger than `LARGEST_FILE`, or it is in another encoding.
    """
    try:
        if not path.is_file():  # as a pipe or a device, which could be read without end
            cause = "This is a folder, not a file." if path.is_dir() else "There is no such file."
            raise InvalidInputError(field, str(path), cause)
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InvalidInputError(field, str(path), f"The file cannot be read: {error.strerror}.") from error
    if len(content) > LARGEST_FILE:
        raise InvalidInputError(field, str(path), f"The file must be smaller than {LARGEST_FILE:,} bytes.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(field, str(path), "The file must be text in UTF-8.") from error


def read_json(path: Traversable, field: str) -> Any:
    """Content of a JSON file.

    Raises
    ------
    InvalidInputError
        If `read_text` cannot read it, or it is not valid JSON.
    """
    text = read_text(path, field)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a ValueError also of a whole number with thousands of digits
        raise InvalidInputError(field, str(path), f"The file is not valid JSON: {error}.") from error


def read_yaml(path: Traversable, field: str) -> dict[str, Any]:
    """Content of a YAML file that holds a mapping, as `parse_yaml` reads it.

    Parameters
    ----------
    path : Path or Traversable
    field : str
        Kind of the file in error messages, such as ``"scenario"``.

    Raises
    ------
    InvalidInputError
        If there is no such file, or it is not UTF-8, longer than `LARGEST_YAML`, not valid YAML, or not a mapping.
    """
    text = read_text(path, field)
    if len(text) > LARGEST_YAML:
        raise InvalidInputError(field, str(path), f"The file must be shorter than {LARGEST_YAML:,} characters.")
    try:
        data = parse_yaml(text)
    except ValueError as error:
        raise InvalidInputError(field, str(path), f"The file is not valid YAML: {error}.") from error
    if not isinstance(data, dict):
        raise InvalidInputError(field, str(path), "The file must hold a mapping, lines of the form `key: value`.")
    return data


def parse_yaml(text: str) -> Any:
    """Value of a YAML text, read safely.

    Numbers follow YAML 1.2: ``1e9`` is a number; ``1:30`` and ``010``, in YAML 1.1 the numbers 90 and 8, are text.

    Raises
    ------
    ValueError
        If the text is not valid YAML, gives a key twice, or holds more than `MOST_VALUES` values.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count_values(node, {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise ValueError(f"{line}{error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (AttributeError, LookupError) as error:
        raise ValueError("a value does not fit its tag") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the numbers of YAML 1.2."""


_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INT, _FLOAT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INT, re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
        r"|\.(inf|Inf|INF))$|\.(nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)


def _count_values(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Number of values below a node; an alias counts as all that it stands for, those in `known` were counted."""
    if node in known:
        count = known[node]
    else:
        known[node] = MOST_VALUES + 1  # should the node stand inside itself
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            _check_duplicates(node)
            children = [child for pair in node.value for child in pair]
        count = known[node] = 1 + sum(_count_values(child, known) for child in children)
    if count > MOST_VALUES:
        raise ValueError(f"with its aliases written out it holds more than {MOST_VALUES:,} values")
    return count


def _check_duplicates(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if (key.tag, key.value) in seen:
                raise ValueError(f"line {key.start_mark.line + 1}: the key {key.value!r} is given twice")
            seen.add((key.tag, key.value))


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; create its folder if needed.

    Raises
    ------
    InvalidInputError
        If it cannot be written: a full disk, or a folder that must not be changed. What was there stays as it was.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(content)
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _unwritable(path, error) from error


def append_text(path: Path, text: str) -> None:
    """Append to a file; errors as in `write_bytes`, but what was written until then stays."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other commands out of a folder; create it, and delete the drafts that a killed command left there.

    The lock ends with the process that holds it, also when that is killed. Subfolders that are locked on their own are
    left alone.

    Raises
    ------
    InvalidInputError
        If another command works there, or the folder cannot be written.
    """
    path = folder / _LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise _unwritable(folder, error) from error
    with file:
        try:
            _lock(file.fileno())
        except OSError as error:
            remedy = "Another command works there: wait until it has ended, or give another folder."
            raise InvalidInputError("folder", str(folder), remedy) from error
        for place, inner, names in os.walk(folder):
            inner[:] = [name for name in inner if not Path(place, name, _LOCK).exists()]
            for name in filter(_DRAFT.fullmatch, names):
                Path(place, name).unlink(missing_ok=True)
        yield


_LOCK = ".lock"
_DRAFT = re.compile(r"\..+\.\d+\.tmp")

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unwritable(path: Path, error: OSError) -> InvalidInputError:
    return InvalidInputError("file", str(path), f"It cannot be written: {error.strerror or error}.")


def csv_text(rows: Iterable[Sequence[Any] | Mapping[str, Any]]) -> str:
    """Text of a CSV file from rows: sequences, the first one the header, or mappings with the same keys."""
    lines: list[Any] = list(rows)
    if isinstance(lines[0], Mapping):
        lines = [list(lines[0]), *([row[name] for name in lines[0]] for row in lines)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def read_csv(path: Path, field: str = "file") -> list[dict[str, Any]]:
    """Rows of a CSV file with a header, every value as text.

    Raises
    ------
    InvalidInputError
        If `read_text` cannot read it, or it is not valid CSV.
    """
    text = read_text(path, field)
    try:
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise InvalidInputError(field, str(path), f"The file is not valid CSV: {error}.") from error


def versions() -> dict[str, str]:
    """Versions of the installed packages that a result depends on."""
    found = {"python": platform.python_version(), "coinfer_gym": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Processor and number of cores, to state beside measured times."""
    return f"{platform.machine()}, {os.cpu_count()} cores"
