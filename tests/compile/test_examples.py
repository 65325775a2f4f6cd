"""The examples of C libraries, in examples/ and in the documents, build and run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from c_library import run
from PIL import Image

import bwn
from bwn.compile.library import compile_library

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
DIGIT = EXAMPLES / "c" / "digit.pgm"
ANSWER = "7"


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"no {program}")


def code(document: str, language: str) -> str:
    """The block of a language that a document has."""
    text = (ROOT / document).read_text(encoding="utf-8")
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return str(block)


@needs("gcc")
@pytest.mark.parametrize(
    ("page", "start"), [("README.md", "In a C program"), ("docs/tutorial.md", "## In a C program")]
)
def test_the_lines_of_the_pages(folder: Path, tmp_path: Path, page: str, start: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    section = text[text.index(start) :]
    compiling, *others = section.split("```\n")[1].splitlines()
    assert compiling == "bwn compile models/mnist-lenet.bwn -o net --name net"
    (tmp_path / "net").symlink_to(folder)
    (tmp_path / "examples").symlink_to(EXAMPLES)
    built, ran = (run(*line.split(), cwd=tmp_path).stdout for line in others)
    best = bwn.load(ROOT / "models" / "mnist-lenet.bwn", threads=1).predict(DIGIT)
    percent = f"{100 * best.probability:.1f}"
    assert (built, ran) == ("", f"examples/c/digit.pgm: {ANSWER} ({percent} %)\n")


@needs("make")
@needs("gcc")
def test_the_makefile(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "c", tmp_path, dirs_exist_ok=True)
    shutil.copytree(folder, tmp_path / "net")
    run("make", "MODEL=", "BWN=false", cwd=tmp_path)
    assert run("./classify", DIGIT, cwd=tmp_path).stdout.startswith(f"{DIGIT}: {ANSWER} (")
    (tmp_path / "text.pgm").write_text("P2 1 1 255\n7\n" + " " * 99)  # numbers as text
    done = run("./classify", "text.pgm", cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert "not a binary PPM or PGM image" in done.stderr
    done = run("./classify", "none.pgm", cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (3, "none.pgm: No such file or directory\n")


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Raw frames of 56 x 40: a digit twice, black, the digit, and the beginning of another."""
    image = Image.open(DIGIT).convert("RGB").resize((56, 40)).tobytes()
    path = tmp_path / "frames.rgb"
    path.write_bytes(image * 2 + bytes(3 * 56 * 40) + image + b"rest")
    return path


@needs("g++")
def test_frames_from_a_pipe(folder: Path, frames: Path, tmp_path: Path) -> None:
    built, source = tmp_path / "frames", EXAMPLES / "cpp" / "frames.cc"
    options = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{folder}")
    run("g++", *options, source, folder / "libnet.a", "-lm", "-o", built)
    with frames.open("rb") as pipe:
        lines = run(built, 56, 40, stdin=pipe).stdout.splitlines()
    assert len(lines) == 3  # a line where the class changes
    assert lines[0] == lines[2]
    assert lines[0].startswith(f"{ANSWER} (")
    assert run(built, 0, 40, check=False).returncode == 2


CORES = {"cortex-a53": "aarch64", "cortex-a72": "aarch64", "cortex-a76": "aarch64-dotprod"}


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both examples, built with the library of each ARM target."""
    for program in ("qemu-aarch64", "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}")
    work = tmp_path_factory.mktemp("arm")
    for target in set(CORES.values()):
        folder = work / target
        compile_library(ROOT / "models" / "mnist-lenet.bwn", folder, target=target, name="net")
        library = (folder / "libnet.a", "-lm", "-static", "-o")
        options = ("-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{folder}")
        source = EXAMPLES / "c" / "classify.c"
        run("aarch64-linux-gnu-gcc", "-std=c11", *options, source, *library, folder / "classify")
        source = EXAMPLES / "cpp" / "frames.cc"
        run("aarch64-linux-gnu-g++", "-std=c++17", *options, source, *library, folder / "frames")
    return work


@pytest.mark.parametrize("core", CORES)
def test_both_examples_on_emulated_arm(core: str, arm: Path, frames: Path) -> None:
    folder = arm / CORES[core]
    emulate = ("qemu-aarch64", "-cpu", core)
    best = bwn.load(ROOT / "models" / "mnist-lenet.bwn", threads=1).predict(DIGIT)
    answer = f"{ANSWER} ({100 * best.probability:.1f} %)"
    assert run(*emulate, folder / "classify", DIGIT).stdout == f"{DIGIT}: {answer}\n"
    with frames.open("rb") as pipe:
        lines = run(*emulate, folder / "frames", 56, 40, stdin=pipe).stdout.splitlines()
    assert [line[0] for line in (lines[0], lines[2])] == [ANSWER] * 2
    assert len(lines) == 3


def test_code_for_a_newer_core_is_refused_on_an_older_one(arm: Path) -> None:
    program = arm / "aarch64-dotprod" / "classify"
    done = run("qemu-aarch64", "-cpu", "cortex-a53", program, DIGIT, check=False)
    assert done.returncode == 1
    assert "lacks" in done.stderr


@needs("cmake")
@needs("gcc")
def test_cmake(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "net").symlink_to(folder)
    shutil.copy(EXAMPLES / "c" / "classify.c", tmp_path)
    (tmp_path / "CMakeLists.txt").write_text(code("docs/c-library.md", "cmake"))
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build")
    run("cmake", "--build", tmp_path / "build")
    assert f": {ANSWER} (" in run(tmp_path / "build" / "classify", DIGIT).stdout


@needs("rustc")
def test_rust(folder: Path, tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(DIGIT)).ravel().tolist()
    source = code("docs/c-library.md", "rust").replace("[0u8; 28 * 28]", f"{pixels}")
    (tmp_path / "main.rs").write_text(source)
    (tmp_path / "net").symlink_to(folder)
    done = run("rustc", "-O", "main.rs", "-L", "native=net", cwd=tmp_path, check=False)
    if "no default" in done.stderr or "no override" in done.stderr:
        pytest.skip("rustc without a toolchain")
    assert done.returncode == 0, done.stderr
    assert run("./main", cwd=tmp_path).stdout == f"{ANSWER}\n"
