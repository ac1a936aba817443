"""How every compiled function of the package is compiled, and when its machine code on disk is still good."""

from __future__ import annotations

import hashlib
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.dispatcher import Dispatcher

_Function = TypeVar("_Function", bound=Callable[..., Any])

# No kernel allocates, so that none needs numba's reference counts: left on, lanes on two cores fight over the counters
# of the arrays they share, and one core spends a fifth of a step on them. Division by zero follows IEEE, as in numpy.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False}


def kernel(function: _Function) -> _Function:
    """Compile a scalar or array function at its first call, and keep the machine code on disk."""
    return _compile(function)


def inlined_kernel(function: _Function) -> _Function:
    """`kernel` whose code is pasted into its callers: for small functions of the innermost loop."""
    return _compile(function, inline="always")


def merged_kernel(function: _Function) -> _Function:
    """`kernel` whose machine code is merged into its callers: for the functions of an innermost loop.

    That spares their calls, and compiles in half the time of `inlined_kernel`; functions that take all arrays of the
    lanes are slower so.
    """
    return _compile(function, forceinline=True)


def parallel_kernel(function: _Function) -> _Function:
    """`kernel` whose ``prange`` loops run on all cores."""
    return _compile(function, parallel=True)


def machine_code(function: _Function, *arguments: Any) -> _Function:
    """Compiled code of a kernel for arguments of these types, without the search for it that every call takes.

    It does not check what it is given: arguments of other types would be read as if they were of these.
    """
    if not isinstance(function, Dispatcher):
        return function
    dispatcher: Any = function
    types_given = tuple(dispatcher.typeof_pyval(argument) for argument in arguments)
    dispatcher.compile(types_given)
    code: _Function = dispatcher.get_overload(types_given)
    return code


def _compile(function: _Function, **options: Any) -> _Function:
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]  # formulas can then be stepped through in a debugger
        interpreted: _Function = np.errstate(all="ignore")(function)  # as in machine code: 1 / 0 is infinite, ...
        return interpreted
    compiled: Any = numba.njit(**_OPTIONS, **options)(function)
    try:
        compiled._cache = _KernelCache(function)
    except RuntimeError:  # numba's word for: no folder that could be written
        _warn_once()
    result: _Function = compiled
    return result


class _KernelCache(FunctionCache):
    """Machine code of one function on disk, good as long as nothing that the function calls or reads has changed.

    Numba itself looks at the file of the function alone, so that it keeps old code where a formula in another file has
    changed, and compiles anew where a comment has.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        base = self._impl.filename_base
        self._base = base.replace(f"-{self._impl.locator.get_disambiguator()}.", ".")  # a line number
        self._found: str | None = None

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        if self._found is None:  # only now are all globals of the function defined
            self._found = fingerprint(self._py_func)
            self._cache_file = _IndexFile(self._cache_path, self._base, self._found)  # type: ignore[no-untyped-call]
        return super()._index_key(sig, codegen)  # type: ignore[no-untyped-call]


class _IndexFile(IndexDataCacheFile):
    """Index of one function's machine code; one that names types which no longer exist counts as empty."""

    def _load_index(self) -> Any:
        try:
            return super()._load_index()  # type: ignore[no-untyped-call]
        except (AttributeError, ImportError):  # a named tuple has moved since
            return {}

    def _load_data(self, name: str) -> Any:
        try:
            return super()._load_data(name)  # type: ignore[no-untyped-call]
        except (AttributeError, ImportError) as error:
            raise FileNotFoundError(name) from error  # which numba takes as a reason to compile anew


def fingerprint(function: Callable[..., Any]) -> str:
    """Digest of a function's code, of all compiled functions that it calls, and of the constants that they read.

    Parameters
    ----------
    function : callable
        A Python function or a compiled one.

    Returns
    -------
    str
        Another one where any of these has changed; comments, docstrings and line numbers do not count.
    """
    digest = hashlib.sha256(repr(sorted(_OPTIONS.items())).encode())
    for text in _parts(getattr(function, "py_func", function), set()):
        digest.update(text.encode())
    return digest.hexdigest()


def _parts(function: Any, seen: set[int]) -> Iterator[str]:
    if id(function) in seen:
        return
    seen.add(id(function))
    names: list[str] = []
    for code in _codes(function.__code__):
        names += code.co_names
        constants = [each for each in code.co_consts if not isinstance(each, (types.CodeType, str))]
        yield f"{code.co_name} {code.co_code.hex()} {code.co_names} {constants!r}"
    values = [function.__globals__[name] for name in names if name in function.__globals__]
    values += [cell.cell_contents for cell in function.__closure__ or ()]
    modules = [value for value in values if isinstance(value, types.ModuleType)]
    values += [getattr(module, name) for module in modules for name in names if hasattr(module, name)]
    for value in values:
        if isinstance(value, Dispatcher):
            yield repr(sorted(value.targetoptions.items()))
            yield from _parts(value.py_func, seen)
        elif not isinstance(value, types.ModuleType) and not callable(value):
            yield repr(value)
        elif hasattr(value, "_fields"):  # a named tuple: its fields have places
            yield repr(value._fields)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _warn_once() -> None:
    global _warned
    if not _warned:
        _warned = True
        text = "No folder for compiled code can be written, so every process compiles anew: set NUMBA_CACHE_DIR."
        warnings.warn(text, RuntimeWarning, stacklevel=4)


_warned = False
