"""How every compiled function of the package is compiled, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])

# No kernel allocates, so that none needs numba's reference counts: left on, lanes on two cores fight over the counters
# of the arrays they share, and one core spends a fifth of a step on them. Division by zero follows IEEE, as in numpy.
_OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": False}


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
