"""A network as a C library: the same bits as bwn, from C, C++ and Python, with memory of its own."""

from __future__ import annotations

import ctypes
import platform
import re
import shutil
from pathlib import Path
from typing import Literal

import llvmlite.binding as llvm
import msgspec
import numpy as np
import pytest
from c_library import CLibrary, run
from guarded import guarded
from llvmlite import ir
from PIL import Image

import bwn
from bwn.compile.c_header import LibraryReport
from bwn.data.datasets import load_dataset
from bwn.kernels.aot.c_cpu import PLACES, refused_tiles
from bwn.kernels.target.targets import HWCAP_BITS, TARGETS, permitted, runnable
from bwn.predict import probabilities, to_input

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "mnist-lenet.bwn"

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-pedantic")
IMAGES = load_dataset("mnist-sample", "test").images[:50]


@pytest.fixture(scope="module")
def model() -> bwn.Model:
    return bwn.load(MODEL, threads=1)


@pytest.fixture
def library(folder: Path) -> CLibrary:
    return CLibrary(folder, "net")


@pytest.mark.parametrize("side", ["before", "after"])
def test_scores_are_the_same_bits(
    folder: Path, model: bwn.Model, side: Literal["before", "after"]
) -> None:
    library, random = CLibrary(folder, "net", side), np.random.default_rng(1)
    for scale in (1e-30, 1.0, 1e30):
        for x in random.normal(0, scale, (200, 1, 1, 28, 28)).astype(np.float32):
            assert library.run(x, (10,)).tobytes() == model.run(x).tobytes()


def test_probabilities_are_those_of_bwn(library: CLibrary, model: bwn.Model) -> None:
    for image in IMAGES:
        expected = probabilities(model.spec, model.run(to_input(model.spec, image)[None]))[0]
        np.testing.assert_allclose(library.classify(image, 10), expected, rtol=2**-23)
        best = model.predict(image)
        assert library.call("class", int(expected.argmax())).decode() == best.label


def test_color_images_and_a_fourth_byte(library: CLibrary, model: bwn.Model) -> None:
    for seed, size in enumerate([(31, 47), (28, 28), (5, 400)]):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 4), dtype=np.uint8)
        color = np.ascontiguousarray(pixels[..., :3])
        assert library.classify(color, 10).tobytes() == library.classify(pixels, 10).tobytes()
        expected = {p.index: p.probability for p in model.predict(color, top=10)}
        np.testing.assert_allclose(
            library.classify(color, 10), [expected[i] for i in range(10)], atol=1e-3
        )  # of which Pillow's order of resizing decides


def test_two_arenas_do_not_meet(folder: Path, model: bwn.Model) -> None:
    first, second = CLibrary(folder, "net"), CLibrary(folder, "net")
    x, y = np.random.default_rng(2).normal(size=(2, 1, 1, 28, 28)).astype(np.float32)
    before = first.run(x, (10,))
    after = second.arena.copy()
    assert (first.run(x, (10,)) == before).all()
    assert (second.arena == after).all()
    assert second.run(y, (10,)).tobytes() == model.run(y).tobytes()


def test_error_codes(library: CLibrary) -> None:
    address, pixels, out = library.address, IMAGES[0], np.zeros(10, np.float32)
    assert [library.call("init", place) for place in (None, address + 1, address + 32)] == [1, 1, 1]
    for width, height, channels in [(0, 9, 1), (9, 0, 1), (-1, 9, 1), (65536, 1, 1), (9, 9, 2)]:
        image = (width, height, channels, 28)
        assert library.call("classify", address, pixels, *image, out) == 2
        assert library.call("prepare", address, pixels, *image, out) == 2
    assert library.call("classify", address, None, 28, 28, 1, 28, out) == 2
    for value in (np.nan, np.inf, -np.inf):
        scores = np.arange(10, dtype=np.float32)
        scores[7] = value
        assert library.call("probabilities", scores, out) == 3
    assert not out.any()
    texts = [library.call("error", code) for code in (0, 1, 2, 3, 6, -1)]
    assert texts[0] == b"no error"
    assert b"64 bytes" in texts[1]
    assert b"65535" in texts[2]
    assert b"not finite" in texts[3]
    assert texts[4] == texts[5] == b"unknown error"
    assert [library.call("class", index) for index in (-1, 10, 2**31 - 1)] == [None] * 3


@pytest.mark.parametrize("function", ["prepare", "classify"])
def test_an_arena_that_is_not_ready_is_refused(library: CLibrary, function: str) -> None:
    image, out = (IMAGES[0], 28, 28, 1, 28), np.zeros(28 * 28, np.float32)
    wrong = (None, library.address + 4, library.address - 64 + 1)
    assert [library.call(function, place, *image, out) for place in wrong] == [1, 1, 1]
    for fill in (0, 0x5A, 0xFF):
        other = guarded(library.arena.nbytes, "after")
        other[:] = fill
        assert library.call(function, other, *image, out) == 5
    other[:] = library.arena
    assert library.call(function, other, *image, out) == 5
    assert not out.any()
    assert b"not initialized, or was moved" in library.call("error", 5)
    assert library.call("init", other) == library.call(function, other, *image, out) == 0


@needs_gcc
@pytest.mark.parametrize(
    "compiler", ["gcc -std=c99", "gcc -std=c17", "g++ -std=c++11", "g++ -std=c++20"]
)
def test_the_header_has_no_warnings(folder: Path, tmp_path: Path, compiler: str) -> None:
    program = compiler.split()[0]
    if shutil.which(program) is None:
        pytest.skip(f"no {program}")
    source = tmp_path / ("main.c" if program == "gcc" else "main.cc")
    source.write_text(
        '#include "net.h"\n#include "net.h"\n'
        "int main(void) { return net_arena_size() != NET_ARENA_SIZE || NET_BATCH != 1 || "
        "NET_CHANNELS * NET_HEIGHT * NET_WIDTH != NET_INPUTS || NET_OUTPUTS != NET_CLASSES || "
        "net_init(0) != NET_ERROR_ARENA; }\n"
    )
    built = tmp_path / "main"
    run(
        *compiler.split(), *WARNINGS, f"-I{folder}", source, folder / "libnet.a", "-lm", "-o", built
    )
    run(built)


@needs_gcc
@pytest.mark.parametrize("library", ["libnet.a", "libnet.so"])
def test_the_example_classifies_a_digit(
    folder: Path, tmp_path: Path, model: bwn.Model, library: str
) -> None:
    built, source = tmp_path / "classify", ROOT / "examples" / "c" / "classify.c"
    options = ["-std=c11", "-O1", "-g", *WARNINGS, f"-I{folder}", f"-Wl,-rpath,{folder}"]
    run("gcc", *options, source, folder / library, "-lm", "-o", built)
    for number, mode in enumerate(["L", "RGB"]):
        image = Image.fromarray(IMAGES[number]).convert(mode).resize((60, 50))
        path = tmp_path / f"{mode}.pnm"
        image.save(path)
        best = model.predict(path)
        shown = f"{path}: {best.label} ({100 * best.probability:.1f} %)\n"
        assert run(built, path).stdout == shown
    (tmp_path / "short.ppm").write_bytes(b"P6 # comment\n9 9 255\n123")
    done = run(built, tmp_path / "short.ppm", check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.endswith("truncated\n")


@needs_gcc
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="no qemu-x86_64")
@pytest.mark.skipif(not runnable()[:-1] or platform.machine() != "x86_64", reason="no newer CPU")
def test_a_processor_that_lacks_instructions_is_refused(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "main.c"
    source.write_text(
        '#include <stdio.h>\n#include "net.h"\n'
        "static _Alignas(64) char arena[NET_ARENA_SIZE];\n"
        "int main(void) { puts(net_error(net_init(arena))); return 0; }\n"
    )
    built = tmp_path / "main"
    run("gcc", "-std=c11", f"-I{folder}", source, folder / "libnet.a", "-lm", "-o", built)
    assert run(built).stdout == "no error\n"
    for cpu in (
        "Nehalem",
        "SandyBridge",
        "qemu64",
    ):  # without any AVX, with AVX alone, with neither
        shown = run("qemu-x86_64", "-cpu", cpu, built).stdout
        assert shown.startswith("this processor lacks instructions"), cpu


def test_only_what_is_public_is_visible_and_little_is_asked_of_the_system(folder: Path) -> None:
    functions = ["arena_size", "class", "classify", "error", "init", "prepare", "probabilities"]
    public = [f"net_{function}" for function in [*functions, "run"]]
    for options in (["libnet.a"], ["--dynamic", "libnet.so"]):
        lines = run("nm", *options[:-1], folder / options[-1]).stdout.splitlines()
        symbols = [line.split()[-2:] for line in lines if len(line.split()) > 1]
        assert sorted(name for kind, name in symbols if kind in "TDBRVWC") == public
        assert {name for kind, name in symbols if kind == "U"} <= {"exp", "memset", "memcpy"}


def test_weights_are_read_only_without_relocations(folder: Path) -> None:
    library = folder / "libnet.so"
    report = msgspec.json.decode((folder / "net.json").read_bytes(), type=LibraryReport)
    sections = run("readelf", "-SW", library).stdout
    size, flags = re.search(r" \.rodata +PROGBITS +\S+ \S+ (\S+) \S+ +(\S+)", sections).groups()  # type: ignore[union-attr]
    assert int(size, 16) >= report.constant_bytes
    assert flags == "A"
    assert " .data" not in sections
    assert " .bss" not in sections
    relocations = run("readelf", "-rW", library).stdout
    kinds = set(re.findall(r"R_\w+", relocations))
    assert kinds <= {"R_X86_64_JUMP_SLOT", "R_X86_64_GLOB_DAT", "R_AARCH64_JUMP_SLOT"}


def test_the_report_is_written(folder: Path) -> None:
    report = msgspec.json.decode((folder / "net.json").read_bytes(), type=LibraryReport)
    assert report.static_bytes == (folder / "libnet.a").stat().st_size
    assert report.shared_bytes == (folder / "libnet.so").stat().st_size
    assert report.model_sha256 in (folder / "net.h").read_text()
    assert report.arena_bytes == CLibrary(folder, "net").arena.nbytes
    assert report.kernels[0] == "clear"


def test_every_feature_that_targets_need_can_be_asked_for() -> None:
    for target in TARGETS:
        known = PLACES if target.machine == "x86_64" else HWCAP_BITS
        assert target.needs <= known.keys(), target.name


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AMX is of x86-64")
def test_c_programs_ask_for_tiles_as_python_does() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    module = ir.Module("tiles")
    module.triple = llvm.get_default_triple()
    function = ir.Function(module, ir.FunctionType(ir.IntType(64), []), "refused")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(builder.zext(refused_tiles(builder), ir.IntType(64)))
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    refused = ctypes.CFUNCTYPE(ctypes.c_int64)(engine.get_function_address("refused"))
    assert refused() == (not permitted())


def test_lenet_is_small(folder: Path) -> None:
    assert (folder / "libnet.a").stat().st_size < 450_000
    assert (folder / "libnet.so").stat().st_size < 450_000
