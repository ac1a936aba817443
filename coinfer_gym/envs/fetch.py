"""A hint to the processor to fetch memory before it is read: lanes read at scattered places, one after the other."""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir  # what numba stands on
from numba.core import cgutils
from numba.extending import intrinsic


def _fetch(typing_context: Any, array: Any, row: Any, column: Any) -> Any:
    """Ask for ``array[row, column]``, both indices at least 0. Nothing is waited for, read or changed."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        record = context.make_array(signature.args[0])(context, builder, arguments[0])
        indices = arguments[1:]
        place = cgutils.get_item_pointer(  # type: ignore[no-untyped-call]
            context, builder, signature.args[0], record, indices, wraparound=False
        )
        address, number = cgutils.voidptr_t, ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [address], kind)
        read, keep, data = number(0), number(3), number(1)
        builder.call(prefetch, [builder.bitcast(place, address), read, keep, data])
        return context.get_dummy_value()

    return numba.types.void(array, numba.types.intp, numba.types.intp), generate


def _ignore(array: Any, row: int, column: int) -> None:
    """What is left of the hint in plain Python."""


fetch: Any = _ignore if numba.config.DISABLE_JIT else intrinsic(_fetch)  # type: ignore[attr-defined]
