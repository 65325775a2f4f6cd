"""`bwn compile`: what it prints, and what it refuses before anything is compiled."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from bwn.cli.main import bwn
from bwn.compile import library
from bwn.compile.c_header import LibraryReport, comment, header
from bwn.compile.library import identifier
from bwn.format import read
from bwn.kernels.aot.archive import static_library
from bwn.kernels.aot.c_spec import ERRORS

MODEL = Path(__file__).resolve().parents[2] / "models" / "mnist-lenet.bwn"
REPORT = LibraryReport(
    name="net", target="aarch64", cpu="cortex-a53", machine="aarch64", batch=1,
    input_shape=(1, 28, 28), output_shape=(10,), classes=("a", "b"), arena_bytes=2048,
    constant_bytes=100, static_bytes=4096, shared_bytes=3072, kernels=("clear",),
    model_sha256="0" * 64, versions={"bwn": "0.1.0"},
)  # fmt: skip


def run(*arguments: object) -> Result:
    return CliRunner().invoke(bwn, ["compile", *map(str, arguments)])


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "compile_library", lambda *_args, **_options: REPORT)


@pytest.mark.usefixtures("compiled")
def test_it_says_what_was_written_and_what_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(MODEL, "-o", "out")
    assert result.exit_code == 0, result.output
    assert "out/libnet.so for aarch64: 3.0 KiB with weights, 2.0 KiB a thread" in result.stdout
    for machine, compiler in (("aarch64", "cc"), ("x86_64", "aarch64-linux-gnu-gcc")):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        shown = run(MODEL, "-o", "out").stdout
        assert f'#include "net.h" and {compiler} main.c -Iout out/libnet.a -lm' in shown


@pytest.mark.usefixtures("compiled")
def test_json_is_the_report() -> None:
    printed = json.loads(run(MODEL, "-o", "out", "--json").stdout)
    assert printed["kernels"] == ["clear"]
    assert printed["arena_bytes"] == 2048


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "arm"], "no target 'arm'; there are native, x86-64-amx,"),
        (["--target", "arm64"], "no target 'arm64' (did you mean aarch64?); there are native"),
        (["--target", "x86_64"], "(did you mean x86-64 or x86-64-any?)"),
        (["--name", "2net"], "e.g. model_2net"),
        (["--name", "my-net"], "e.g. my_net"),
        (["--name", "_net"], "e.g. model__net"),
        (["--name", "n" * 64], "up to 63 letters"),
        (["--name", "näht"], "e.g. n_ht"),
        (["--name", ""], "e.g. model_"),
        (["--page"], "a page needs target wasm32, not native"),
        (["--page", "--target", "wasm32", "--batch", "2"], "not a batch of 2"),
        (["--batch", "0"], "'--batch': 0 is not in the range 1 to 4,096"),
    ],
)
def test_wrong_arguments_are_refused(options: list[str], message: str, tmp_path: Path) -> None:
    result = run(MODEL, "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_a_folder_to_write_to_is_needed() -> None:
    assert run(MODEL).exit_code == 2


def test_native_is_for_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    result = run(MODEL, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "name a target other than native" in result.output


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bwn").write_bytes(b"GIF89a" * 10)
    for model in (tmp_path / "a.bwn", tmp_path / "none.bwn"):
        result = run(model, "-o", tmp_path / "out")
        assert result.exit_code == 3
        assert str(model) in result.output
    (tmp_path / "file").write_text("")
    result = run(MODEL, "-o", tmp_path / "file" / "out")
    assert result.exit_code == 3
    assert "file/out: cannot be made: Not a directory" in result.output


def test_without_numba_the_version_to_install_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    for package in ("numba", "llvmlite"):
        monkeypatch.setitem(sys.modules, package, None)
    result = run(MODEL, "-o", tmp_path)
    assert result.exit_code == 1
    assert "numba 0.68.1, here it is not installed: pip install numba==0.68.1" in result.output


def test_without_binutils_the_package_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    result = run(MODEL, "-o", tmp_path, "--target", "aarch64")
    assert result.exit_code == 1
    assert "no ld for aarch64: apt-get install binutils-aarch64-linux-gnu" in result.output


@pytest.mark.parametrize(
    ("code", "stderr", "exit_code", "message"),
    [
        (
            1,
            b"Traceback\nNameError: x\n",
            70,
            "internal: RuntimeError: NameError: x (set BWN_DEBUG",
        ),
        (3, b"a run of 4096 takes 9.0 GiB\n", 1, "a run of 4096 takes 9.0 GiB\n"),
        (-9, b"", 1, "the process that compiles was killed: it may need more memory\n"),
        (-11, b"", 70, "internal: RuntimeError: the process that compiles ended with -11"),
    ],
)
def test_what_the_compiler_says_is_passed_on(
    code: int,
    stderr: bytes,
    exit_code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = subprocess.CompletedProcess([], code, b"", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_options: done)
    monkeypatch.setattr(library.linker, "tool", lambda *_args: "ld")
    result = run(MODEL, "-o", tmp_path)
    assert result.exit_code == exit_code
    assert result.stderr.startswith(f"Error: {message}")


@pytest.mark.parametrize(
    ("stem", "name"),
    [("mnist-lenet", "mnist_lenet"), ("2 nets", "model_2_nets"), ("Ä", "model__"), ("a" * 99, "a" * 63)],
)  # fmt: skip
def test_the_default_name_is_the_files(stem: str, name: str) -> None:
    assert identifier(stem) == name
    library.check_name(name)


def test_a_header_of_a_batch_has_no_classify() -> None:
    spec = read(MODEL)
    reports = (msgspec.structs.replace(REPORT, name="n", batch=batch) for batch in (1, 8))
    one, many = (header(spec, report) for report in reports)
    assert " n_classify(" in one
    assert " n_classify(" not in many
    assert " n_prepare(" in many
    assert "#define N_BATCH 8\n" in many
    assert max(map(len, one.splitlines())) <= 100
    assert "#define N_ERROR_PROCESSOR 4\n" in one
    for code, text in enumerate(ERRORS[1:], 1):
        assert re.search(rf"#define N_ERROR_[A-Z]+ {code}\n    /\* {text[:20]}", one)
    assert len(comment("a word " * 100).splitlines()) > 5


def test_an_archive_is_the_same_bytes_each_time() -> None:
    members = [(b"first", ["a_run", "a_init"]), (b"second", ["b"])]
    archive = static_library(members)
    assert archive == static_library(members)
    assert archive.startswith(b"!<arch>\n/ ")
    assert len(archive) % 2 == 0
    count, *places = (int.from_bytes(archive[at : at + 4], "big") for at in range(68, 84, 4))
    assert count == 3
    assert [archive[place : place + 6] for place in places] == [b"bwn0.o", b"bwn0.o", b"bwn1.o"]
    assert archive[84:99] == b"a_run\0a_init\0b\0"
