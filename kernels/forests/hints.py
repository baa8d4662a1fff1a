"""Hints to the compiler and to the memory, which change speed and nothing else."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LINE_BYTES = 64
_READ, _NEAR, _DATA = 0, 1, 1


@intrinsic
def wide_vectors(typingctx: Any) -> Any:
    """Let loops of the kernel that says so use vectors of 512 bits, which LLVM avoids on some processors."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # llvmlite checks names against a list that lacks this one; LLVM takes any.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), emit


@intrinsic
def prefetch(typingctx: Any, address: Any) -> Any:
    """Start loading the cache line at ``address`` (an integer; any will do)."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.inttoptr(arguments[0], pointer)
        builder.call(function, [place, number(_READ), number(_NEAR), number(_DATA)])
        return context.get_dummy_value()

    return types.none(types.intp), emit
