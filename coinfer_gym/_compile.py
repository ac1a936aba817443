"""How every compiled function of the package is compiled, in one place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])

# No kernel allocates, so that none needs numba's reference counts: left on, lanes on two cores fight over the counters
# of the arrays they share, and one core spends a fifth of a step on them. Division by zero follows IEEE, as in numpy.
_OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": False}


def _forget_stale_code() -> None:
    """Remove the machine code on disk if any source of the package has changed since it was written.

    Numba itself looks at the file of the compiled function alone, not at those of the functions that it calls.
    """
    package = Path(__file__).parent
    sources = sorted(package.rglob("*.py"))
    state = "\n".join(
        f"{path.relative_to(package)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in sources
    )
    stamp = package / "__pycache__" / "compiled-from.txt"
    with contextlib.suppress(OSError):  # where nothing can be written, numba caches elsewhere
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == state:
            return
        for folder in {path.parent / "__pycache__" for path in sources}:
            for code in folder.glob("*.nb[ic]"):
                code.unlink(missing_ok=True)
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(state, encoding="utf-8")


_forget_stale_code()


def kernel(function: _Function) -> _Function:
    """Compile a scalar or array function at its first call, and keep the machine code on disk."""
    compiled: _Function = numba.njit(**_OPTIONS)(function)
    return compiled


def inlined_kernel(function: _Function) -> _Function:
    """`kernel` whose code is pasted into its callers: for small functions of the innermost loop."""
    compiled: _Function = numba.njit(inline="always", **_OPTIONS)(function)
    return compiled


def parallel_kernel(function: _Function) -> _Function:
    """`kernel` whose ``prange`` loops run on all cores."""
    compiled: _Function = numba.njit(parallel=True, **_OPTIONS)(function)
    return compiled
