"""Hand each batch to the kernel for its size, in machine code.

Asked in Python, a row that is scored in 0.5 µs waits 0.08 µs for it; here it waits 0.015. A single row keeps
Python's lock: to let go of it and take it back costs another 0.04 µs, and after a row's few microseconds
hardly another thread would have woken up.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from kernels.compiler import address_of_code, entry, object_kernel
from kernels.forests.simd import pointer_at
from kernels.forests.tabulated import Tabulated
from kernels.parts import over_arrays

BATCH_ROWS = (1, 32, 64, 256)
"""The sizes from which on a batch may have another kernel. Blends, for one, take as long for 33 rows as for
64."""
N_ROWS, CODE, MODEL = range(3)
"""A route: from how many rows on it is taken, where the kernel's machine code lies, where the model does."""
ROUTES = len(BATCH_ROWS) + 1, 3
"""A route for each size, and one at the end that no batch takes; the words of each."""
NEVER = np.iinfo(np.int64).max


@intrinsic
def call_at(typingctx: Any, code: Any, model: Any, X: Any, out: Any, unlocked: Any) -> Any:
    """Call the kernel with machine code at ``code``, without Python's lock meanwhile if ``unlocked``."""
    takes = (model, X, out)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code, *theirs, unlocked = arguments
        python, convention = context.get_python_api(builder), context.call_conv
        kind = convention.get_function_type(types.none, takes)
        thread = cgutils.alloca_once(builder, python.voidptr)
        with builder.if_then(unlocked):
            builder.store(python.save_thread(), thread)
        function = builder.inttoptr(code, kind.as_pointer())
        status, _ = convention.call_function(builder, function, types.none, takes, theirs)
        with builder.if_then(unlocked):
            python.restore_thread(builder.load(thread))
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.none(code, *takes, types.boolean), emit


@object_kernel
def score_rows(address: int, X: NDArray[Any], out: NDArray[Any]) -> None:
    """Write the margins of ``X`` to ``out``.

    Args:
        address: Of the routes, int64[ROUTES], from the one for the fewest rows up.
        X: C-order [n, F] of the type the kernels were made for.
        out: C-order [n, K] of the type of the sums.
    """
    routes = carray(pointer_at(address), ROUTES, np.int64)
    route = 0
    while len(out) >= routes[route + 1, N_ROWS]:
        route += 1
    call_at(routes[route, CODE], routes[route, MODEL], X, out, len(out) > 1)


def by_size(kernels: Mapping[int, Tabulated]) -> Callable[..., None]:
    """One ``score_rows`` for the kernels of a forest, one for each of BATCH_ROWS."""
    routes = np.full(ROUTES, NEVER, np.int64)
    for route, n_rows in enumerate(BATCH_ROWS):
        tabulated = kernels[n_rows]
        code = address_of_code(type(tabulated).rows_kernel, *tabulated.examples)
        routes[route] = n_rows, code, tabulated.model.ctypes.data
    machine_code = entry(score_rows, *kernels[BATCH_ROWS[0]].examples)
    return over_arrays(machine_code, routes, list(kernels.values()))
