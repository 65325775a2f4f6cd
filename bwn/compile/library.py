"""`bwn compile`: the files of a C library, from names and arguments to what is written."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from bwn._files import read_limited, write_atomically
from bwn._text import __version__
from bwn.compile.c_header import header
from bwn.compile.compile_worker import Facts
from bwn.errors import ArgumentError, FileError
from bwn.format import read
from bwn.format.header import MAX_FILE
from bwn.kernels.aot import linker
from bwn.kernels.aot.archive import static_library
from bwn.kernels.aot.build import PINNED, check_compiler
from bwn.kernels.target.targets import TARGETS, Target
from bwn.predict import class_names

NATIVE = "native"
NAMES = (NATIVE, *(target.name for target in TARGETS))
"""The targets that a library can be compiled for."""
LONGEST = 63
"""Characters of a name: as many as C compilers tell apart."""


class LibraryReport(msgspec.Struct, frozen=True):
    """What was compiled: the content of NAME.json.

    Attributes:
        name: What the names of the functions begin with.
        target: What it is compiled for.
        cpu: LLVM's name of that processor.
        machine: `x86_64` or `aarch64`.
        batch: Examples of a run.
        input_shape: Of one example.
        output_shape: Of one example.
        classes: Names of the classes.
        arena_bytes: Memory that each thread needs.
        constant_bytes: Weights, and all else that is only read.
        static_bytes: Size of libNAME.a.
        shared_bytes: Size of libNAME.so.
        kernels: The kernels that are in it.
        model_sha256: Digest of the .bwn file.
        versions: Of bwn and of what compiled it.
    """

    name: str
    target: str
    cpu: str
    machine: str
    batch: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    classes: tuple[str, ...]
    arena_bytes: int
    constant_bytes: int
    static_bytes: int
    shared_bytes: int
    kernels: tuple[str, ...]
    model_sha256: str
    versions: dict[str, str]


def identifier(stem: str) -> str:
    """A C identifier of the name of a file: `mnist-lenet` is `mnist_lenet`."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", stem)[:LONGEST]
    return name if re.match("[A-Za-z]", name) else f"model_{name}"[:LONGEST]


def check_name(name: str) -> None:
    """Raise ArgumentError where a name cannot begin the names of functions."""
    if not re.fullmatch(rf"[A-Za-z][A-Za-z0-9_]{{0,{LONGEST - 1}}}", name):
        raise ArgumentError(
            f"the name {name!r} cannot begin names in C: use up to {LONGEST} letters A-Z, digits "
            f"and underscores, a letter first, e.g. {identifier(name)}"
        )


def find_target(name: str) -> Target:
    """The target of a name; of `native` what the linker needs to know."""
    known = {target.name: target for target in TARGETS}
    if name in known:
        return known[name]
    if name != NATIVE:
        raise ArgumentError(f"no target {name!r}; there are {', '.join(NAMES)}")
    machine = platform.machine()
    if not sys.platform.startswith("linux") or machine not in {t.machine for t in TARGETS}:
        raise ArgumentError(
            "libraries are for Linux on x86-64 and 64-bit ARM: name a target other than native"
        )
    return Target(NATIVE, machine, "", "", frozenset(), frozenset())


def compile_library(
    model: Path, folder: Path, *, target: str = NATIVE, name: str | None = None, batch: int = 1
) -> LibraryReport:
    """Write NAME.h, libNAME.a, libNAME.so and NAME.json.

    Args:
        model: A .bwn file.
        folder: Where to write; it is made where it is missing.
        target: One of NAMES.
        name: What the names of files and functions begin with; default the model's name.
        batch: Examples of a run.

    Raises:
        ArgumentError: There is no such target, or the name is not one in C.
        FileError: The model cannot be read, or a file cannot be written.
        KernelsError: The compiler or the linker is missing.
    """
    name = identifier(model.stem) if name is None else name
    check_name(name)
    chosen = find_target(target)
    data = read_limited(model, MAX_FILE, "a .bwn file")
    spec = read(model)
    check_compiler()
    for program in ("ld", "as", "nm", "readelf"):
        linker.tool(chosen, program)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be made: {error.strerror}") from None
    with tempfile.TemporaryDirectory() as scratch:
        facts = _compile(data, name, chosen, batch, scratch)
        objects, shared = Path(scratch, f"{name}.o"), Path(scratch, f"lib{name}.so")
        linker.link(chosen, objects, shared, f"{name}_*")
        problems = linker.check(chosen, shared)
        if problems:
            raise RuntimeError(f"{name}: {'; '.join(problems)}")
        libraries = {
            f"lib{name}.a": static_library(objects.read_bytes(), facts.symbols),
            f"lib{name}.so": shared.read_bytes(),
        }
    digest = hashlib.sha256(data).hexdigest()
    static_bytes, shared_bytes = map(len, libraries.values())
    report = LibraryReport(
        name, target, facts.cpu, chosen.machine, batch,
        spec.graph.topology.input_shape, spec.graph.output_shape, tuple(class_names(spec)),
        facts.arena_bytes, facts.constant_bytes, static_bytes, shared_bytes, facts.kernels,
        digest, {"bwn": __version__, **PINNED},
    )  # fmt: skip
    processor = target if target == facts.cpu else f"{target} ({facts.cpu})"
    arena = facts.arena_bytes
    text = header(name, spec, batch, digest=digest, target=processor, arena=arena)
    files = libraries | {
        f"{name}.h": text.encode(),
        f"{name}.json": msgspec.json.format(msgspec.json.encode(report)) + b"\n",
    }
    for file, content in files.items():
        write_atomically(folder / file, content)
    return report


def _compile(data: bytes, name: str, target: Target, batch: int, folder: str) -> Facts:
    """Compile in a process of its own, which writes the object file to a folder."""
    arguments = [name, target.name, str(batch), folder]
    cpu = {key: "" for key in os.environ if key.startswith("NUMBA_CPU_")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bwn.compile.compile_worker", *arguments],
        input=data,
        capture_output=True,
        check=False,
        env={**os.environ, **cpu, "BWN_KERNELS": "jit"},
    )
    if done.returncode:
        error = done.stderr.decode(errors="replace").strip()
        raise RuntimeError(error.splitlines()[-1] if error else f"exit {done.returncode}")
    return msgspec.json.decode(Path(folder, "facts.json").read_bytes(), type=Facts)
