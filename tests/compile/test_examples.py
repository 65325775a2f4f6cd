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
def test_the_lines_of_the_tutorial(folder: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    section = text[text.index("## In a C program") :]
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


@needs("g++")
def test_frames_from_a_pipe(folder: Path, tmp_path: Path) -> None:
    built, source = tmp_path / "frames", EXAMPLES / "cpp" / "frames.cc"
    options = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{folder}")
    run("g++", *options, source, folder / "libnet.a", "-lm", "-o", built)
    image = Image.open(DIGIT).convert("RGB").resize((56, 40))
    black = bytes(3 * 56 * 40)
    (tmp_path / "frames.rgb").write_bytes(image.tobytes() * 2 + black + image.tobytes() + b"rest")
    with (tmp_path / "frames.rgb").open("rb") as frames:
        lines = run(built, 56, 40, stdin=frames).stdout.splitlines()
    assert len(lines) == 3  # a line where the class changes
    assert lines[0] == lines[2]
    assert lines[0].startswith(f"{ANSWER} (")
    assert run(built, 0, 40, check=False).returncode == 2


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
