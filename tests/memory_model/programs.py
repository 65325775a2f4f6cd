"""The thread pool's own source, as generators that stop at every access to shared memory.

`run_loop.py` is parsed, and each call of an atomic operation, a plain access, or a kernel becomes a
`yield` of what it does. So what is explored is the code itself, not a copy that could differ.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Generator
from typing import Any

from bwn.kernels.threads import run_loop, shared_state

ATOMIC = {"read", "write", "add", "replace"}
PLAIN = {"get_i64", "put_i64", "step_params", "run_params"}
LOCAL = {"cpu_relax", "yield_core", "now"}
"""Waiting and the clock: neither changes what a thread may see."""
HELPERS = {"take", "lead"}
PROGRAMS = {"run", "work", "wait"} | HELPERS

Event = tuple[Any, ...]
Program = Generator[Event, Any, Any]


class _Yielding(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in HELPERS:
            return ast.YieldFrom(node)
        if name in ATOMIC | PLAIN | {"call"}:
            event = ast.Tuple([ast.Constant(name), *node.args], ast.Load())
            return ast.Yield(event)
        return node


def programs(edit: Callable[[str], str] = str) -> dict[str, Callable[..., Program]]:
    """`run` and `work` as generators. edit: changes the source first, to break it on purpose."""
    tree = ast.parse(edit(inspect.getsource(run_loop)))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert {function.name for function in functions} == PROGRAMS, (
        "teach this module the new function"
    )
    for function in functions:
        function.decorator_list = []
        if function.name != "wait":
            _Yielding().visit(function)
    # A turn of a waiting loop changes nothing, so the state before and after it is one state.
    names = {name: getattr(shared_state, name) for name in dir(shared_state) if name.isupper()}
    names |= {"wait": lambda spins: spins, "cpu_relax": lambda: None, "now": lambda: 0}
    kept = [function for function in functions if function.name != "wait"]
    module = ast.fix_missing_locations(ast.Module(kept, []))
    names |= {"StepParams": shared_state.StepParams}
    exec(compile(module, run_loop.__file__, "exec", 0, dont_inherit=True), names)
    return {name: names[name] for name in ("run", "work")}


def accesses(name: str) -> list[tuple[str, str]]:
    """Operation and word of every access of a function, in the order of the source."""
    tree = ast.parse(inspect.getsource(run_loop))
    (function,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)
    calls = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ATOMIC | {"get_i64", "put_i64", "call"}
    ]
    calls.sort(key=lambda node: (node.lineno, node.col_offset))
    return [(node.func.id, _word(node.args[0])) for node in calls]  # type: ignore[attr-defined]


def _word(address: ast.AST) -> str:
    words = [n.id for n in ast.walk(address) if isinstance(n, ast.Name) and n.id.isupper()]
    return words[0] if words else ""
