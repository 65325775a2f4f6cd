"""`bwn compile`: a network's files, from names and arguments to what is written."""

from __future__ import annotations

import difflib
import hashlib
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from bwn._files import make_folder, read_limited, write_atomically
from bwn._text import __version__
from bwn.compile import web
from bwn.compile.c_header import LibraryReport, ModuleReport, Report, header
from bwn.compile.compile_worker import REFUSED, Facts
from bwn.errors import ArgumentError, BwnError, NotPreparedError
from bwn.format import read
from bwn.format.header import MAX_FILE
from bwn.ir.model_spec import ModelSpec
from bwn.kernels.aot import linker, wasm
from bwn.kernels.aot.archive import static_library
from bwn.kernels.aot.build import PINNED, check_compiler
from bwn.kernels.target.targets import TARGETS, WASM, Target
from bwn.page import page_files
from bwn.predict import class_names

NATIVE, ANY = "native", "-any"


def _family(target: Target) -> str:
    """A target's machine, spelled as in names of targets."""
    return target.machine.replace("_", "-")


ANY_OF = tuple(dict.fromkeys(f"{_family(target)}{ANY}" for target in TARGETS))
"""Targets whose libraries hold code for every CPU of a machine type and choose at run time."""
NAMES = (NATIVE, *(target.name for target in TARGETS), *ANY_OF, WASM.name)
"""The targets that a network can be compiled for."""
LONGEST = 63
"""Longest name: as many characters as C compilers distinguish."""


def identifier(stem: str) -> str:
    """A C identifier from the name of a file: `mnist-lenet` becomes `mnist_lenet`."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", stem)[:LONGEST]
    return name if re.match("[A-Za-z]", name) else f"model_{name}"[:LONGEST]


def check_name(name: str) -> None:
    """Raise ArgumentError if a name cannot be the prefix of C functions."""
    if not re.fullmatch(rf"[A-Za-z][A-Za-z0-9_]{{0,{LONGEST - 1}}}", name):
        raise ArgumentError(
            f"the name '{name}' cannot begin names in C: use up to {LONGEST} letters A-Z, digits "
            f"and underscores, a letter first, e.g. {identifier(name)}"
        )


def find_targets(name: str) -> tuple[Target, ...]:
    """The targets of a name, the best first; for `native`, the facts that the linker needs.

    Raises:
        ArgumentError: There are none, or they cannot be compiled for on this machine.
    """
    machine, any_of = platform.machine(), name.removesuffix(ANY)
    if name in ANY_OF:
        if any_of == "x86-64" and machine != "x86_64":
            raise ArgumentError(f"{name} can be compiled on x86-64 only; name one of its targets")
        return tuple(target for target in TARGETS if _family(target) == any_of)
    if name == NATIVE:
        if not sys.platform.startswith("linux") or machine not in linker.PAGES:
            raise ArgumentError(
                "libraries are for Linux on x86-64 and 64-bit ARM: name a target other than native"
            )
        return (Target(NATIVE, machine, "", "", frozenset(), frozenset()),)
    matching = tuple(target for target in (*TARGETS, WASM) if target.name == name)
    if matching and matching[0].has_assembly and machine != matching[0].machine:
        raise ArgumentError(f"{name} can be compiled on x86-64 only")
    if not matching:
        near = " or ".join(difflib.get_close_matches(name, NAMES, n=2))
        hint = f" (did you mean {near}?)" if near else ""
        raise ArgumentError(f"no target '{name}'{hint}; there are {', '.join(NAMES)}")
    return matching


def compile_library(
    model: Path,
    folder: Path,
    *,
    target: str = NATIVE,
    name: str | None = None,
    batch: int = 1,
    page: bool = False,
) -> LibraryReport | ModuleReport:
    """Write NAME.h, libNAME.a and libNAME.so, or NAME.wasm, NAME.mjs and NAME.d.mts; and NAME.json.

    Args:
        model: A .bwn file.
        folder: Folder to write to; created if missing.
        target: One of NAMES.
        name: Prefix of the names of files and functions; default: from the model's name.
        batch: Examples per run.
        page: Also write a page for browsers, index.html and what it needs, for target wasm32.

    Raises:
        ArgumentError: There is no such target, or the name is not one in C, or the page cannot use
            the module.
        FileError: The model cannot be read, or a file cannot be written.
        BwnError: The network or the batch is too large for this machine.
        KernelsError: The compiler or the linker is missing.
    """
    name = identifier(model.stem) if name is None else name
    check_name(name)
    targets = find_targets(target)
    data = read_limited(model, MAX_FILE, "a .bwn file")
    spec = read(model)
    if page:
        _check_page(spec, targets[0], batch)
    check_compiler()
    _check_linker(targets[0])
    make_folder(folder)
    with tempfile.TemporaryDirectory() as scratch:
        facts, binaries = _build(data, name, targets, batch, Path(scratch))
    report = Report(
        name=name, target=target, cpu=facts.cpu, machine=targets[0].machine, batch=batch,
        input_shape=spec.graph.topology.input_shape, output_shape=spec.graph.output_shape,
        classes=tuple(class_names(spec)), arena_bytes=facts.arena_bytes,
        constant_bytes=facts.constant_bytes, kernels=facts.kernels,
        model_sha256=hashlib.sha256(data).hexdigest(), versions={"bwn": __version__, **PINNED},
    )  # fmt: skip
    full, texts = _with_texts(spec, report, binaries)
    texts[f"{name}.json"] = msgspec.json.format(msgspec.json.encode(full)).decode() + "\n"
    encoded = {file: text.encode() for file, text in texts.items()}
    for file, content in {**binaries, **encoded, **(page_files(name) if page else {})}.items():
        write_atomically(folder / file, content)
    return full


def _check_page(spec: ModelSpec, target: Target, batch: int) -> None:
    """Raise ArgumentError where the page could not classify with this module."""
    if target != WASM:
        raise ArgumentError(f"a page needs target {WASM.name}, not {target.name}")
    if batch != 1:
        raise ArgumentError(f"a page classifies one image at a time, not a batch of {batch}")
    if spec.preprocess is None:
        raise NotPreparedError


def _check_linker(target: Target) -> None:
    """Raise KernelsError where a program is missing, before anything is compiled."""
    if target == WASM:
        wasm.linker()
        return
    for program in ("ld", "as", "nm", "readelf"):
        linker.tool(target, program)


def _with_texts(
    spec: ModelSpec, report: Report, binaries: Mapping[str, bytes]
) -> tuple[LibraryReport | ModuleReport, dict[str, str]]:
    """The report with the sizes of the binaries, and the texts by the names of their files."""
    common = msgspec.structs.asdict(report)
    sizes = [len(content) for content in binaries.values()]
    if report.target == WASM.name:
        texts = {
            f"{report.name}.mjs": web.script(report),
            f"{report.name}.d.mts": web.types(report),
        }
        return ModuleReport(**common, module_bytes=sizes[0]), texts
    library = LibraryReport(**common, static_bytes=sizes[0], shared_bytes=sizes[1])
    return library, {f"{report.name}.h": header(spec, library)}


def _build(
    data: bytes, name: str, targets: Sequence[Target], batch: int, scratch: Path
) -> tuple[Facts, dict[str, bytes]]:
    """Compile and link in a temporary folder: the facts, and the binaries by their names."""
    if targets == (WASM,):
        facts, module = _compile(data, name, WASM, batch, scratch), scratch / f"{name}.wasm"
        wasm.link(scratch / f"{name}.o", module, facts.symbols)
        return facts, {module.name: module.read_bytes()}
    if len(targets) == 1:
        parts = {name: _compile(data, name, targets[0], batch, scratch)}
        facts = parts[name]
    else:
        parts = {
            (part := f"{name}_{identifier(target.name)}"): _compile(
                data, part, target, batch, scratch
            )
            for target in targets
        }
        facts = parts[name] = _dispatch(name, parts, targets[-1], scratch)
    objects, shared = [scratch / f"{part}.o" for part in parts], scratch / f"lib{name}.so"
    linker.link(targets[0], objects, shared, facts.symbols)
    problems = linker.check(targets[0], shared)
    if problems:
        raise RuntimeError(f"{name}: {'; '.join(problems)}")
    static = static_library(
        [(scratch.joinpath(f"{part}.o").read_bytes(), own.symbols) for part, own in parts.items()]
    )
    return facts, {f"lib{name}.a": static, f"lib{name}.so": shared.read_bytes()}


def _dispatch(name: str, parts: Mapping[str, Facts], last: Target, folder: Path) -> Facts:
    """Write the object file of the functions that choose among parts, the best first."""
    from bwn.kernels.aot.c_dispatch import Part, arena_bytes, dispatcher

    every = [Part(part, facts.arena_bytes) for part, facts in parts.items()]
    names = [symbol.removeprefix(f"{every[0].name}_") for symbol in parts[every[0].name].symbols]
    (folder / f"{name}.o").write_bytes(dispatcher(name, names, every, last))
    return Facts(
        arena_bytes(every),
        sum(facts.constant_bytes for facts in parts.values()),
        tuple(dict.fromkeys(kernel for facts in parts.values() for kernel in facts.kernels)),
        tuple(f"{name}_{function}" for function in names),
        ", ".join(facts.cpu for facts in parts.values()),
    )


def _compile(data: bytes, name: str, target: Target, batch: int, folder: Path) -> Facts:
    """Compile in a process of its own, which writes the object file to a folder."""
    arguments = [name, target.name, str(batch), str(folder)]
    cpu = {key: "" for key in os.environ if key.startswith("NUMBA_CPU_")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bwn.compile.compile_worker", *arguments],
        input=data,
        capture_output=True,
        check=False,
        env={**os.environ, **cpu, "BWN_KERNELS": "jit"},
    )
    if done.returncode:
        error = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        if done.returncode == REFUSED:
            raise BwnError(error)
        if done.returncode == -signal.SIGKILL:
            raise BwnError("the process that compiles was killed: it may need more memory")
        raise RuntimeError(error or f"the process that compiles ended with {done.returncode}")
    return msgspec.json.decode((folder / "facts.json").read_bytes(), type=Facts)
