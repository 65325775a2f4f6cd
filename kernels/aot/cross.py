"""Numba's own front end and passes, with the code generator of another machine.

Entries and helpers compile as in `bwn.kernels.target.jit`, with the same options, to one object
file. It uses numba's private parts, so the build pins numba; and it changes numba's CPU target for
good, so it has a process of its own.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils, codegen
from numba.core.compiler import Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from bwn.kernels.target.targets import Target, runnable, usable

ARGUMENTS = (types.intp,) * 4
ENVIRONMENT = "_ZN08NumbaEnv"
"""How the names of variables start that compiled functions would find Python's globals by."""
WHOLE = "bwn"
"""Name of the library that everything is linked into."""


def native_target() -> Target:
    """This machine's processor, with all that it offers."""
    features = llvm.get_host_cpu_features()
    offers = usable(name for name, offered in features.items() if offered)
    cpu = llvm.get_host_cpu_name()
    # Of what it needs the part that has a name.
    needs: frozenset[str] = next((target.needs for target in runnable()), frozenset())
    if "amx-int8" in offers:
        needs |= {"amx_tile", "amx_int8"}
    return Target("native", platform.machine(), cpu, features.flatten(), offers, needs)


class _Library(codegen.AOTCodeLibrary):
    # Helpers are inlined into entries: passes over each alone are wasted, and take most time.
    def _optimize_functions(self, ll_module: Any) -> None:
        pass

    def _optimize_final_module(self) -> None:
        if self.name == WHOLE:
            for variable in self._final_module.global_variables:
                if variable.name.startswith(ENVIRONMENT):
                    variable.linkage = "internal"  # so that it goes: nothing reads it
            super()._optimize_final_module()

    def get_pointer_to_function(self, name: str) -> int:
        return 1  # this machine never calls it


class _Codegen(codegen.AOTCPUCodegen):
    """Makes LLVM modules and machine code of a target."""

    _library_class = _Library

    def __init__(self, target: Target) -> None:
        self._for = target
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        super().__init__("ahead")

    def _create_empty_module(self, name: str) -> Any:
        module = ir.Module(cgutils.normalize_ir_text(name))
        module.triple = self._for.triple
        if self._data_layout:
            module.data_layout = self._data_layout
        return module

    def _init(self, llvm_module: Any) -> None:
        machine = llvm.Target.from_triple(self._for.triple).create_target_machine(
            cpu=self._for.cpu, features=self._for.features, opt=3, reloc="pic", codemodel="default"
        )
        self._tm, self._tm_features = machine, self._for.features
        self._target_data = machine.target_data
        self._data_layout = str(machine.target_data)
        self._loopvect, self._opt_level = True, 3
        self._engine = None  # type: ignore[assignment]  # nothing runs here

    @property
    def target_data(self) -> Any:
        return self._target_data

    def magic_tuple(self) -> tuple[str, str, str]:
        return self._for.triple, self._for.cpu, self._for.features

    def set_env(self, name: str, env: Any) -> None:
        pass

    def _scan_and_fix_unresolved_refs(self, module: Any) -> None:
        pass

    def _get_host_cpu_name(self) -> str:
        return self._for.cpu

    def _get_host_cpu_features(self) -> str:
        return self._for.features


def _flags() -> Any:
    flags: Any = Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.nrt = flags.boundscheck = False  # an array would be a compile error
    flags.error_model = "numpy"
    flags.release_gil = True
    return flags


def _add_entry(
    context: Any, library: Any, wrappers: ir.Module, name: str, function: Callable[..., None]
) -> None:
    """Compile an entry, and make a C function of that name that calls it."""
    compiled = compile_extra(
        cpu_target.typing_context,
        context,
        function,
        ARGUMENTS,
        types.void,
        _flags(),
        locals={},
        library=library,
    )
    returns, arguments = compiled.fndesc.restype, compiled.fndesc.argtypes
    kind = context.call_conv.get_function_type(returns, arguments)
    callee = ir.Function(wrappers, kind, compiled.fndesc.llvm_func_name)
    entry = ir.Function(
        wrappers, ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * len(ARGUMENTS)), name
    )
    builder = ir.IRBuilder(entry.append_basic_block())
    context.call_conv.call_function(builder, callee, returns, arguments, entry.args)
    builder.ret_void()


def define_string(module: ir.Module, name: str, content: str) -> None:
    """Add a C string that is visible from outside."""
    text = bytearray(content.encode() + b"\0")
    constant = ir.GlobalVariable(module, ir.ArrayType(ir.IntType(8), len(text)), name)
    constant.initializer, constant.global_constant = ir.Constant(constant.value_type, text), True


@global_compiler_lock
def compile_object(
    target: Target,
    entries: Mapping[str, Callable[..., None]],
    define: Callable[[ir.Module], Iterable[str]],
) -> Any:
    """Compile entries for a target.

    Args:
        target: What to compile for.
        entries: By the name that each has in the library; C functions of four int64.
        define: Adds what else the library has to a module, which has the entries, and returns the
            names that are visible from outside.

    Returns:
        Numba's finished code library.
    """
    context = cpu_target.target_context
    context._internal_codegen = _Codegen(target)
    library = context.codegen().create_library(WHOLE)
    wrappers = library.create_ir_module("entries")
    for name, function in entries.items():
        _add_entry(context, library, wrappers, name, function)
    visible = {*define(wrappers)}
    library.add_ir_module(wrappers)
    # Passes then drop what is inlined everywhere.
    for function in library._final_module.functions:
        if not function.is_declaration and function.name not in visible:
            function.linkage = "internal"
    library.finalize()
    return library
