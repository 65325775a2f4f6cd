"""How numba compiles kernels where no library has them (`loader.py`), and caches the code.

Entries compile when first asked for. Numba keys its on-disk cache by the bytes of the function's
own file alone, so an edited helper would leave stale code running: here the cache folder is named
after a hash of every file of this package. Numba adds its own version, Python's, and the CPU's name
and features.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps
from inspect import Parameter, signature
from typing import Any, TypeVar

import numba
import numba.extending
from numba import types
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.sigutils import normalize_signature

from bwn.kernels.target.cache import cache_folder
from bwn.kernels.target.forks import compiling

SIGNATURE = types.void(types.intp, types.intp, types.intp, types.intp)
# `numpy` error model: a division by zero is a NaN, not an exception. Bounds and wrap-around never
# apply: kernels use addresses. No fastmath: NaN and infinity keep their meaning and sums keep their
# order. No array is ever allocated, so kernels do without numba's memory manager (`_nrt`), which
# `_Cache` would have to start.
OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "nogil": True,
    "boundscheck": False,
    "_nrt": False,
}

# What numba's decorators make is called from kernels only, with types that mypy does not know: Any.
helper: Any = numba.njit(forceinline=True, **OPTIONS)
"""Decorator for functions that entries call: compiled into their caller."""

Compiled = TypeVar("Compiled")
Codegen = Callable[[Any, Any], Any]
"""(builder, args) to the LLVM value of an operation."""


def intrinsic(define: Callable[..., tuple[Any, Codegen] | None]) -> Any:
    """Decorator for operations that are written as LLVM instructions.

    The function takes the types of the arguments. It returns the operation's signature, and
    gen(builder, args), which emits the instructions and returns an LLVM value; a list of them for a
    tuple, None for nothing.
    """

    @wraps(define)
    def typed(_: Any, *kinds: Any) -> Any:
        operation = define(*kinds)
        if operation is None:
            return None
        returns, gen = operation

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = gen(builder, args)
            if isinstance(value, list):
                return context.make_tuple(builder, sig.return_type, value)
            return context.get_dummy_value() if value is None else value

        return returns, emit

    # Numba passes a context first, and matches the arguments with what the signature says.
    context = Parameter("context", Parameter.POSITIONAL_ONLY)
    own = signature(define)
    typed.__signature__ = own.replace(parameters=[context, *own.parameters.values()])  # type: ignore[attr-defined]
    return numba.extending.intrinsic(typed)


_OUTLINED: set[str] = set()


def outlined(tag: str) -> Callable[[Callable[..., None]], Any]:
    """Decorator for the function of an inner loop, which begins with `stay_outlined`.

    Numba numbers the functions of a process, and a symbol that two cached kernels have means the
    code of the first: so the name must tell all that the code depends on.

    Args:
        tag: What tells this function from others of the same name.
    """

    def decorate(function: Callable[..., None]) -> Any:
        function.__qualname__ += f"_{tag}"
        name = f"{function.__module__}.{function.__qualname__}"
        if name in _OUTLINED:
            raise ValueError(f"two functions of the name {name} would be one in the cache")
        _OUTLINED.add(name)
        return numba.njit(forceinline=False, **OPTIONS)(function)

    return decorate


@intrinsic
def stay_outlined() -> tuple[Any, Codegen]:
    """stay_outlined(): this function is never compiled into its caller, whose values would take
    registers of its loop."""

    def gen(builder: Any, args: Any) -> None:
        builder.function.attributes.add("noinline")

    return types.void(), gen


@cache
def _announce() -> None:
    """Log that kernels are being compiled, once a process: without a handler, on standard error."""
    folder = cache_folder()
    if folder.name.startswith("kernels-"):
        later = f"later runs load them from {folder}"
    else:  # a temporary one
        later = "they cannot be cached: set BWN_CACHE_DIR to a folder that can be written"
    more = "more " if any(folder.glob("*/*.nbi")) else ""
    message = "compiling %skernels for this CPU, which takes up to a minute; %s"
    logging.getLogger(__name__).warning(message, more, later)


class _Cache(FunctionCache):
    """Numba's cache, loading without the imports that only compiling needs: 33 MB and 0.1 s."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        loaded = None
        with self._guard_against_spurious_io_errors():
            loaded = self._load_overload(sig, target_context)
        if loaded is None:
            _announce()
        return loaded


class CompiledEntry:
    """An entry that numba compiled.

    Attributes:
        address: Of a C function of four int64.
        loaded: Whether the cache had it.
    """

    def __init__(self, function: Callable[..., None], *, cache: bool) -> None:
        compiled: Any = CFunc(function, normalize_signature(SIGNATURE), {}, OPTIONS)
        if cache:
            compiled._cache = _Cache(function)
        else:
            _announce()
        compiled.compile()
        self._compiled = compiled
        self.address: int = compiled.address
        self.loaded = compiled.cache_hits > 0

    def __call__(self, p: int, begin: int, end: int, part: int) -> None:
        """Do units begin..end-1 as `part`."""
        self._compiled.ctypes(p, begin, end, part)


def _forget(function: Callable[..., None]) -> None:
    """Remove an entry from the cache; the next process compiles and caches it again."""
    name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}-*"
    for path in cache_folder().glob(f"*/{name}"):
        with suppress(OSError):
            path.unlink()


@cache
def compile_entry(function: Callable[..., None]) -> CompiledEntry:
    """Compile an entry, or load it from the cache; a damaged or full cache costs time only.

    function: entry(p, begin, end, part), plain Python.
    """
    return _cached(function, lambda cache: CompiledEntry(function, cache=cache))


def compiled(*signatures: str) -> Callable[[Callable[..., None]], Any]:
    """Decorator for a function of numpy arrays: compiled at once for these types, and cached.

    Multiplications and additions may be contracted, nothing else reordered.
    """

    def decorate(function: Callable[..., None]) -> Any:
        options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "fastmath": {"contract"}}
        return _cached(
            function, lambda cache: numba.njit(list(signatures), cache=cache, **options)(function)
        )

    return decorate


def _cached(function: Callable[..., None], make: Callable[[bool], Compiled]) -> Compiled:
    """make(True), with our folder as its cache; make(False), without one, where that fails."""
    with compiling:
        # Numba binds the cache folder of a function when it is decorated, from a setting of the
        # whole process.
        settings: Any = numba.config
        before = settings.CACHE_DIR
        settings.CACHE_DIR = str(cache_folder())
        try:
            return make(True)
        except Exception:  # a truncated file makes pickle raise anything; a disk may be full
            _forget(function)
            return make(False)
        finally:
            settings.CACHE_DIR = before
