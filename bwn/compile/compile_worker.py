"""The process that compiles a library: python -m bwn.compile.compile_worker, then NAME TARGET
BATCH FOLDER

The model is read from standard input. It writes NAME.o and facts.json to the folder. Numba's target
is changed for good, so this process does nothing else.
"""

from __future__ import annotations

import sys
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bwn.errors import BwnError
from bwn.format import read
from bwn.kernels.target.loader import load_function, symbol
from bwn.kernels.target.targets import TARGETS, WASM

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwn.ir.model_spec import ModelSpec, Preprocess
    from bwn.kernels.aot.c_image import ImageRule
    from bwn.kernels.target.targets import Target
    from bwn.plan.planner import Plan

REFUSED = 3
"""Exit code where the last line on standard error is meant for users."""


class Facts(msgspec.Struct, frozen=True):
    """Facts about a compiled library.

    Attributes:
        arena_bytes: Size of an arena.
        constant_bytes: Weights and other constants.
        kernels: Names of the kernels that it contains.
        symbols: Names of the public functions.
        cpu: LLVM's name of the processor that it is compiled for.
    """

    arena_bytes: int
    constant_bytes: int
    kernels: tuple[str, ...]
    symbols: tuple[str, ...]
    cpu: str


def compile_model(data: bytes, target: Target, name: str, batch: int, folder: Path) -> None:
    """Write the object file and the facts.

    Args:
        data: A .bwn file.
        target: This process's target.
        name: Prefix of the names of the functions.
        batch: Examples per run.
        folder: Folder to write to.
    """
    from bwn.compile.layout import lay_out
    from bwn.kernels.aot import c_api, c_spec
    from bwn.kernels.aot.cross import compile_object
    from bwn.predict import class_names

    spec = read(data)
    plan, twin = _plan(spec, batch), _plan(spec, batch)
    entries = {symbol(step.kernel.code): load_function(step.kernel.code) for step in plan.steps}
    functions, work = _other_entries(spec)
    prepares = c_spec.PREPARE in functions
    classifies = prepares and batch == 1
    inputs, outputs = prod(spec.graph.topology.input_shape), prod(spec.graph.output_shape)
    hidden = 4 if classifies else 0
    layout = lay_out(plan, twin, inputs=hidden * inputs, outputs=hidden * outputs, work=work)
    library = c_spec.Library(
        name=name,
        steps=[
            c_spec.StepCall(symbol(step.kernel.code), block, step.units)
            for step, block in zip(plan.steps, layout.blocks, strict=True)
        ],
        layout=layout,
        classes=class_names(spec),
        machine=target.machine,
        needs=target.needs,
        prepares=prepares,
        classifies=classifies,
    )
    symbols: list[str] = []

    def define(module: Any) -> list[str]:
        symbols.extend(c_api.define(module, library))
        return symbols

    compiled = compile_object(target, entries | functions, define)
    (folder / f"{name}.o").write_bytes(compiled.emit_native_object())
    kernels = tuple(dict.fromkeys(step.kernel.name for step in plan.steps))
    facts = Facts(layout.size, len(layout.constants), kernels, tuple(symbols), target.cpu)
    (folder / "facts.json").write_bytes(msgspec.json.encode(facts))


def _plan(spec: ModelSpec, batch: int) -> Plan:
    """The plan for one thread, by the default costs: `bwn tune` on this machine has no effect."""
    from bwn.compile.layout import OwnConstants
    from bwn.kernels import costs
    from bwn.plan.planner import make_plan

    table = costs.Table(costs.defaults(), "default", Path())
    return make_plan(spec.graph, batch, 1, table=table, builder=OwnConstants)


def _other_entries(spec: ModelSpec) -> tuple[dict[str, Callable[..., None]], int]:
    """The entries besides kernels, by name, and the bytes that preparing an image works in."""
    from bwn.kernels.aot import c_spec
    from bwn.kernels.aot.c_install import install
    from bwn.kernels.aot.c_scores import make_probabilities
    from bwn.predict import ends_in_softmax

    outputs = prod(spec.graph.output_shape)
    entries: dict[str, Callable[..., None]] = {
        c_spec.INSTALL: install,
        c_spec.PROBABILITIES: make_probabilities(outputs, not ends_in_softmax(spec)),
    }
    if spec.preprocess is None:
        return entries, 0
    from bwn.kernels.aot.c_prepare import make_prepare
    from bwn.kernels.aot.c_resample import work_bytes

    rule = _image_rule(spec.preprocess)
    entries[c_spec.PREPARE] = make_prepare(rule)
    return entries, work_bytes(rule)


def _image_rule(preprocess: Preprocess) -> ImageRule:
    from bwn.data import resizing
    from bwn.kernels.aot.c_geometry import make_axis
    from bwn.kernels.aot.c_image import ImageRule

    return ImageRule(
        preprocess.size,
        preprocess.color,
        preprocess.mean,
        preprocess.std,
        preprocess.scale,
        preprocess.interpolation,
        make_axis(preprocess.resize, resizing.MAX_RESIZED),
    )


def main(name: str, target: str, batch: str, folder: str) -> None:
    """Compile the model on standard input."""
    from bwn.kernels.aot.build import check_compiler
    from bwn.kernels.target import cpu

    try:
        check_compiler()
        from bwn.kernels.aot.cross import native_target

        chosen = {t.name: t for t in (*TARGETS, WASM)}.get(target) or native_target()
        cpu.OVERRIDE = chosen.offers
        compile_model(sys.stdin.buffer.read(), chosen, name, int(batch), Path(folder))
    except BwnError as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)


if __name__ == "__main__":
    main(*sys.argv[1:])
