"""How every kernel is compiled: the flags live here, each with its reason.

Machine code is cached on disk, in ``NUMBA_CACHE_DIR``, beside the source or in the user's cache
directory, whichever can be written; where none can, each process compiles for itself. Numba's cache
looks at a function's own file only, but kernels call kernels of other files: so a digest of all files
that take part becomes part of a function's name, and an edit leaves no stale machine code in use.
"""

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, typeof, types
from numba.core.caching import NullCache
from numba.core.runtime import rtsys
from numba.np import linalg
from numba.np.numpy_support import from_dtype

from kernels.borrowed import Borrowed

FLAGS: dict[str, Any] = {
    "nogil": True,  # a kernel touches no Python object, so other threads may run
    "error_model": "numpy",  # x / 0 is inf or NaN as in NumPy; no branch that raises
    # No fastmath: NaN means missing, and sums keep their order.
}
ROOT = Path(__file__).parents[1]
LOCK = ".lock"
OUR_IMPORT = re.compile(r"^from (kernels[.\w]*) import", re.MULTILINE)


def _believe_in_blas() -> None:
    """Keep Numba from importing SciPy at once to learn whether it has a BLAS: a quarter of a start's time.

    A function that multiplies matrices still imports it, when it is compiled.
    """
    ensure_blas = linalg.ensure_blas
    if importlib.util.find_spec("scipy"):
        linalg.ensure_blas = lambda: None
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = ensure_blas


_believe_in_blas()


def kernel(function: Callable[..., Any]) -> Any:
    """Compile ``function`` at its first call and keep the machine code on disk if possible."""
    return _ready_at_once(kept(function, njit, **FLAGS))


def object_kernel(function: Callable[..., Any]) -> Any:
    """The same for a function that keeps Python's lock: it touches objects, or lets go of it by itself."""
    return _ready_at_once(kept(function, njit, **{**FLAGS, "nogil": False}))


def kept(function: Callable[..., Any], jit: Callable[..., Any], **flags: Any) -> Any:
    """``function`` compiled by Numba's ``jit``, its machine code on disk if possible.

    A full disk is no error: the machine code is there, if not on disk.
    """
    function.__qualname__ = f"{function.__qualname__}_{sources_digest(inspect.getfile(function))}"
    try:
        dispatcher = jit(cache=True, **flags)(function)
    except RuntimeError:  # Numba: "no locator available", that is, no directory can be written
        return jit(**flags)(function)
    keep = dispatcher._cache.save_overload

    def try_to_keep(signature: Any, code: Any) -> None:
        with contextlib.suppress(OSError), _alone_in(Path(dispatcher._cache.cache_path)):
            keep(signature, code)

    dispatcher._cache.save_overload = try_to_keep
    return dispatcher


def _ready_at_once(dispatcher: Any) -> Any:
    """``dispatcher``, without what a process's first kernel does that no kernel of ours needs."""
    # Before a first call, Numba searches all installed packages for extensions: 25 ms.
    dispatcher._compilation_chain_init_hook = lambda: None
    if not isinstance(dispatcher._cache, NullCache):
        dispatcher._cache.load_overload = functools.partial(_load_kept, dispatcher._cache)
    return dispatcher


def _load_kept(cache: Any, signature: Any, target: Any) -> Any:
    """The machine code that a cache has for a signature, or None.

    Numba first makes its target ready to compile: 0.2 s for all functions it knows, at a process's first
    kernel. Machine code from disk needs nothing of that but the allocator; what is not there is compiled, and
    then Numba makes the target ready again.
    """
    rtsys.initialize(target)
    return cache._load_overload(signature, target)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time add to a cache.

    Numba reads a function's index, gives the new machine code the first name that is free in it, and
    writes both. Two processes at once may choose one name for the code of two signatures, and then every
    later process gets the code of the wrong one, and fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.cache
def sources_digest(file: str) -> str:
    """A digest of the source at ``file`` and of all kernel modules it imports, however indirectly."""
    found = {Path(file)}
    waiting = [Path(file)]
    while waiting:
        imported = _source(waiting.pop())[1] - found
        found |= imported
        waiting += imported
    return hashlib.sha256(b"".join(_source(path)[0] for path in sorted(found))).hexdigest()[:12]


@functools.cache
def _source(path: Path) -> tuple[bytes, frozenset[Path]]:
    """What is in a file, and the kernel modules that it imports."""
    text = path.read_bytes()
    modules = (name.split(".") for name in OUR_IMPORT.findall(text.decode()))
    return text, frozenset(ROOT.joinpath(*module).with_suffix(".py") for module in modules)


def entry(function: Any, *examples: Any) -> Callable[..., Any]:
    """A kernel's machine code for arguments of the examples' types, without the dispatcher before it.

    Numba looks at the type of each argument in each call, which takes a quarter of the time of a call
    with one row. Arrays are borrowed: the kernel answers none of them, and hands on to other kernels a view
    (``out[:]``), whose type is an ordinary array's, lest they be compiled for both. Whoever calls the entry
    guarantees the order of arrays in memory: another is misread, not refused.
    """
    machine_code: Callable[..., Any] = _compiled(function, examples).entry_point
    return machine_code


def address_of_code(function: Any, *examples: Any) -> int:
    """Where the machine code lies that ``entry`` enters, for other machine code to call it."""
    compiled = _compiled(function, examples)
    address: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return address


def _compiled(function: Any, examples: Sequence[Any]) -> Any:
    signature = tuple(map(_borrowed, examples))
    function.compile(signature)
    return function.overloads[signature]


def _borrowed(example: Any) -> types.Type:
    if not isinstance(example, np.ndarray):
        return typeof(example)
    # Not typeof, which imports numpy.ma to refuse its arrays: 18 ms.
    kind = from_dtype(example.dtype)
    return Borrowed(types.Array(kind, example.ndim, "C", readonly=not example.flags.writeable))


def inlined(function: Callable[..., Any]) -> Any:
    """A small function for use inside kernels, always compiled into them, so that their loops vectorise."""
    return njit(forceinline=True, **FLAGS)(function)
