"""A C library of several processors: its functions call those of the part that `init` has chosen.

The choice is the first word of the arena; the part's own arena comes after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir

from bwn.kernels.aot.c_api import INT, SIGNATURES, WORD, place_in, refuse_arena
from bwn.kernels.aot.c_spec import ALIGNMENT, LACKS
from bwn.kernels.target.targets import Target

WITHOUT_ARENA = ("probabilities", "class", "error")


class Part(NamedTuple):
    """A library of one processor.

    Attributes:
        name: What the names of its functions begin with.
        arena_bytes: Size of its arena.
    """

    name: str
    arena_bytes: int


def arena_bytes(parts: Sequence[Part]) -> int:
    """Size of an arena that any of the parts can use."""
    return ALIGNMENT + max(part.arena_bytes for part in parts)


def dispatcher(name: str, functions: Sequence[str], parts: Sequence[Part], target: Target) -> bytes:
    """The object file of the functions that choose.

    Args:
        name: What the names of the functions begin with.
        functions: What the parts have, e.g. `run`.
        parts: The best first; the last one runs on every processor.
        target: What to compile for: that of the last part.
    """
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = ir.Module(name)
    module.triple = target.triple
    for function in functions:
        kind = ir.FunctionType(*SIGNATURES[function])
        callees = [ir.Function(module, kind, f"{part.name}_{function}") for part in parts]
        public = ir.Function(module, kind, f"{name}_{function}")
        builder = ir.IRBuilder(public.append_basic_block())
        if function == "arena_size":
            builder.ret(ir.Constant(WORD, arena_bytes(parts)))
        elif function == "init":
            _choose(builder, public.args[0], callees)
        elif function in WITHOUT_ARENA:
            _call(builder, callees[-1], public.args)
        else:
            _call_chosen(builder, public.args, callees)
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic"
    )
    return bytes(machine.emit_object(llvm.parse_assembly(str(module))))


def _choice(builder: ir.IRBuilder, arena: Any) -> Any:
    """The word that holds the choice."""
    return builder.bitcast(arena, WORD.as_pointer())


def _call(builder: ir.IRBuilder, callee: Any, arguments: Sequence[Any]) -> None:
    """Return what a function returns."""
    result = builder.call(callee, arguments)
    if isinstance(callee.function_type.return_type, ir.VoidType):
        builder.ret_void()
    else:
        builder.ret(result)


def _choose(builder: ir.IRBuilder, arena: Any, callees: Sequence[Any]) -> None:
    """The first part that does not refuse the processor."""
    refuse_arena(builder, arena)
    own = place_in(builder, arena, ALIGNMENT)
    for index, callee in enumerate(callees):
        code = builder.call(callee, [own])
        with builder.if_then(builder.icmp_signed("!=", code, ir.Constant(INT, LACKS))):
            builder.store(ir.Constant(WORD, index), _choice(builder, arena))
            builder.ret(code)
    builder.ret(ir.Constant(INT, LACKS))


def _call_chosen(builder: ir.IRBuilder, arguments: Sequence[Any], callees: Sequence[Any]) -> None:
    arena, *others = arguments
    if builder.function.function_type.return_type == INT:  # it can return a code
        refuse_arena(builder, arena)
    own = place_in(builder, arena, ALIGNMENT)
    blocks = [builder.append_basic_block() for _ in callees]
    switch = builder.switch(builder.load(_choice(builder, arena)), blocks[-1])
    for index, (block, callee) in enumerate(zip(blocks, callees, strict=True)):
        if block is not blocks[-1]:
            switch.add_case(ir.Constant(WORD, index), block)
        builder.position_at_end(block)
        _call(builder, callee, [own, *others])
