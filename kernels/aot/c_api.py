"""The public functions of a C library, as LLVM code around entries. `docs/c-library.md` has them.

There is a call for each step of the plan, with all its units: one thread needs no table of steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from bwn.kernels.aot.c_cpu import lacks
from bwn.kernels.aot.c_image import ImageParams
from bwn.kernels.aot.c_install import InstallParams
from bwn.kernels.aot.c_scores import ScoresParams
from bwn.kernels.aot.c_spec import (
    ALIGNMENT,
    ARENA,
    ERRORS,
    IMAGE,
    INSTALL,
    LACKS,
    MAX_SIDE,
    PREPARE,
    PROBABILITIES,
    SCORE,
    UNINITIALIZED,
    UNKNOWN,
    Library,
)

BYTE, INT, WORD = ir.IntType(8), ir.IntType(32), ir.IntType(64)
POINTER, FLOATS = BYTE.as_pointer(), ir.FloatType().as_pointer()
VOID = ir.VoidType()
PIXELS = (POINTER, INT, INT, INT, WORD)
"""An image: pixels, width, height, channels, stride."""
SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "arena_size": (WORD, ()),
    "init": (INT, (POINTER,)),
    "run": (VOID, (POINTER, FLOATS, FLOATS)),
    "probabilities": (INT, (FLOATS, FLOATS)),
    "class": (POINTER, (INT,)),
    "error": (POINTER, (INT,)),
    "prepare": (INT, (POINTER, *PIXELS, FLOATS)),
    "classify": (INT, (POINTER, *PIXELS, FLOATS)),
}
"""What each function returns and takes."""


class _Module:
    """A module to which the functions of a library are added."""

    def __init__(self, module: ir.Module, library: Library) -> None:
        self.module, self.library = module, library
        self.public: list[str] = []

    def data(self, name: str, content: bytes) -> ir.GlobalVariable:
        """A private array of bytes that is never written."""
        kind = ir.ArrayType(BYTE, len(content))
        data = ir.GlobalVariable(self.module, kind, name)
        data.initializer = ir.Constant(kind, bytearray(content))
        data.global_constant, data.linkage, data.align = True, "internal", ALIGNMENT
        return data

    def function(self, name: str) -> tuple[Any, ir.IRBuilder]:
        """A public function, empty, and a builder in it."""
        kind = ir.FunctionType(*SIGNATURES[name])
        function = ir.Function(self.module, kind, f"{self.library.name}_{name}")
        self.public.append(function.name)
        return function, ir.IRBuilder(function.append_basic_block())

    def call(self, builder: ir.IRBuilder, entry: str, p: Any, end: int = 1) -> None:
        """Call an entry for units 0..end-1."""
        zero = ir.Constant(WORD, 0)
        builder.call(self.module.globals[entry], [p, zero, ir.Constant(WORD, end), zero])

    def block(self, builder: ir.IRBuilder, params: Any, values: Mapping[str, Any]) -> Any:
        """A parameter block on the stack. values: pointers or integers, by field."""
        block = builder.alloca(ir.ArrayType(WORD, len(params._fields)))
        for index, field in enumerate(params._fields):
            value = values[field]
            if isinstance(value, int):
                value = ir.Constant(WORD, value)
            elif isinstance(value.type, ir.PointerType):
                value = builder.ptrtoint(value, WORD)
            elif value.type.width < WORD.width:
                value = builder.sext(value, WORD)
            place = [ir.Constant(INT, 0), ir.Constant(INT, index)]
            builder.store(value, builder.gep(block, place, inbounds=True))
        return block


def refuse(builder: ir.IRBuilder, wrong: Any, code: int) -> None:
    """Return an error code where a condition is true."""
    with builder.if_then(wrong, likely=False):
        builder.ret(ir.Constant(INT, code))


def refuse_arena(builder: ir.IRBuilder, arena: Any) -> None:
    """Return an error code where an arena is NULL or not aligned."""
    address, zero = builder.ptrtoint(arena, WORD), ir.Constant(WORD, 0)
    odd = builder.and_(address, ir.Constant(WORD, ALIGNMENT - 1))
    refuse(builder, builder.icmp_unsigned("==", address, zero), ARENA)
    refuse(builder, builder.icmp_unsigned("!=", odd, zero), ARENA)


def place_in(builder: ir.IRBuilder, arena: Any, offset: int) -> Any:
    """A pointer into an arena."""
    return builder.gep(arena, [ir.Constant(WORD, offset)], inbounds=True)


def define(module: ir.Module, library: Library) -> list[str]:
    """Add the library's functions to a module that has its entries. Returns their names."""
    own = _Module(module, library)
    _add_init(own)
    _add_run(own)
    _add_texts(own)
    _add_probabilities(own)
    if library.prepares:
        _add_prepare(own)
    if library.classifies:
        _add_classify(own)
    return own.public


def _add_init(own: _Module) -> None:
    library = own.library
    _, size = own.function("arena_size")
    size.ret(ir.Constant(WORD, library.layout.size))
    init, builder = own.function("init")
    (arena,) = init.args
    refuse_arena(builder, arena)
    missing = lacks(builder, library.machine, library.needs)
    if missing is not None:
        refuse(builder, missing, LACKS)
    values = {
        "arena": arena,
        "image": own.data("image", library.layout.image.tobytes()),
        "image_words": library.layout.image.size,
        "own": own.data("own", library.layout.own.tobytes()),
        "own_count": library.layout.own.size,
        "fixed": own.data("fixed", library.layout.fixed.tobytes()),
        "fixed_count": library.layout.fixed.size,
        "constants": own.data("constants", library.layout.constants),
    }
    block = own.block(builder, InstallParams, values)
    own.call(builder, INSTALL, builder.ptrtoint(block, WORD))
    builder.ret(ir.Constant(INT, 0))


def _add_run(own: _Module) -> None:
    library = own.library
    run, builder = own.function("run")
    arena, x, scores = run.args
    for value, offset in ((x, library.layout.x_word), (scores, library.layout.out_word)):
        word = builder.bitcast(place_in(builder, arena, offset), WORD.as_pointer())
        builder.store(builder.ptrtoint(value, WORD), word)
    for step in library.steps:
        block = builder.ptrtoint(place_in(builder, arena, step.block), WORD)
        own.call(builder, step.entry, block, step.units)
    builder.ret_void()


def _add_probabilities(own: _Module) -> None:
    function, builder = own.function("probabilities")
    scores, probabilities = function.args
    finite = builder.alloca(WORD)
    values = {"scores": scores, "probabilities": probabilities, "finite": finite}
    block = own.block(builder, ScoresParams, values)
    own.call(builder, PROBABILITIES, builder.ptrtoint(block, WORD))
    bad = builder.icmp_unsigned("==", builder.load(finite), ir.Constant(WORD, 0))
    refuse(builder, bad, SCORE)
    builder.ret(ir.Constant(INT, 0))


def _add_prepare(own: _Module) -> None:
    library = own.library
    function, builder = own.function("prepare")
    arena, pixels, width, height, channels, stride, x = function.args
    refuse_arena(builder, arena)
    seal = builder.bitcast(place_in(builder, arena, library.layout.seal), WORD.as_pointer())
    here = builder.ptrtoint(arena, WORD)
    refuse(builder, builder.icmp_unsigned("!=", builder.load(seal), here), UNINITIALIZED)
    wrong = builder.icmp_unsigned("==", pixels, ir.Constant(pixels.type, None))
    for side in (width, height):
        less = builder.sub(side, ir.Constant(INT, 1))
        bad = builder.icmp_unsigned(">=", less, ir.Constant(INT, MAX_SIDE))
        wrong = builder.or_(wrong, bad)
    known = [builder.icmp_unsigned("==", channels, ir.Constant(INT, n)) for n in (1, 3, 4)]
    wrong = builder.or_(wrong, builder.not_(builder.or_(builder.or_(*known[:2]), known[2])))
    refuse(builder, wrong, IMAGE)
    work, size = library.layout.work
    values = {
        "pixels": pixels, "width": width, "height": height, "channels": channels,
        "stride": stride, "x": x, "work": place_in(builder, arena, work), "work_bytes": size,
    }  # fmt: skip
    block = own.block(builder, ImageParams, values)
    own.call(builder, PREPARE, builder.ptrtoint(block, WORD))
    builder.ret(ir.Constant(INT, 0))


def _add_classify(own: _Module) -> None:
    library = own.library
    prepare, run, probabilities = (
        own.module.globals[f"{library.name}_{name}"] for name in ("prepare", "run", "probabilities")
    )
    function, builder = own.function("classify")
    arena, *image, out = function.args
    x, scores = (
        builder.bitcast(place_in(builder, arena, place), FLOATS)
        for place in (library.layout.x, library.layout.scores)
    )
    code = builder.call(prepare, [arena, *image, x])
    bad = builder.icmp_unsigned("!=", code, ir.Constant(INT, 0))
    with builder.if_then(bad, likely=False):
        builder.ret(code)
    builder.call(run, [arena, x, scores])
    builder.ret(builder.call(probabilities, [scores, out]))


def _add_texts(own: _Module) -> None:
    _add_text(own, "class", own.library.classes, None)
    _add_text(own, "error", ERRORS, UNKNOWN)


def _add_text(own: _Module, name: str, texts: Sequence[str], other: str | None) -> None:
    """A function from an index to a text: without pointers in memory, which a loader would write.

    other: what it returns for an index that has none; NULL if None.
    """
    strings = [*texts, *([] if other is None else [other])]
    encoded = [text.encode() + b"\0" for text in strings]
    starts = np.cumsum([0, *map(len, encoded)])[:-1].astype(np.int32)
    content = own.data(f"{name}_text", b"".join(encoded))
    places = own.data(f"{name}_places", starts.tobytes())
    function, builder = own.function(name)
    (index,) = function.args
    outside = builder.icmp_unsigned(">=", index, ir.Constant(INT, len(texts)))
    first = builder.bitcast(content, POINTER)
    if other is None:
        with builder.if_then(outside, likely=False):
            builder.ret(ir.Constant(POINTER, None))
    else:
        index = builder.select(outside, ir.Constant(INT, len(texts)), index)
    place = builder.gep(builder.bitcast(places, INT.as_pointer()), [builder.zext(index, WORD)])
    builder.ret(builder.gep(first, [builder.sext(builder.load(place), WORD)]))
