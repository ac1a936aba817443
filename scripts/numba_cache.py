"""Print the folder for numba's on-disk cache: one per state of the source that may hold compiled functions.

Numba checks only the file of the cached function itself, so a change in a file it calls into would go
unnoticed. The Makefile and ``tests/conftest.py`` therefore set ``NUMBA_CACHE_DIR`` to a folder named
after a hash of that source. Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("coinfer_gym", "baselines")  # the floors that compile


def cache_folder(root: Path = ROOT) -> Path:
    """Return ``.numba_cache/<hash>`` under `root`; any change of a path or its content gives another hash."""
    digest = hashlib.sha256()
    for source in SOURCES:
        for path in sorted((root / source).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return root / ".numba_cache" / digest.hexdigest()[:16]


if __name__ == "__main__":
    print(cache_folder())
