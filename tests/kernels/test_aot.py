"""Kernels compiled ahead of time: one is run; the checks find faults; wheels are complete."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bwn.kernels.aot import build, linker, wheels
from bwn.kernels.gemm.specs import SPECS
from bwn.kernels.registry import OTHERS
from bwn.kernels.target.kernel import Kernel
from bwn.kernels.target.loader import KernelsError, symbol
from bwn.kernels.target.targets import TARGETS, Target

EVERY: tuple[Kernel, ...] = (*SPECS, *OTHERS)
"""The kernels of all machines."""
BASELINE = {"x86_64": "x86-64", "aarch64": "aarch64"}.get(platform.machine(), "")
SCRIPT = """
import sys
from pathlib import Path
from bwn.kernels.target import cpu, targets
(target,) = (t for t in targets.TARGETS if t.name == sys.argv[1])
cpu.OVERRIDE = target.offers
from bwn.kernels.tensor import broadcast
from bwn.kernels.aot.cross import compile_object, define_string
from bwn.kernels.target.cache import sources_digest
from bwn.kernels.target.loader import DIGEST, symbol
entries = {symbol("tensor.broadcast.f32_f32_add"): broadcast.f32_f32_add}
def define(module):
    define_string(module, DIGEST, sources_digest())
    return entries
library = compile_object(target, entries, define)
Path(sys.argv[2], target.name + ".o").write_bytes(library.emit_native_object())
"""
USE = """
import numpy as np
from bwn.kernels import registry
from bwn.kernels.target import loader
assert loader.library() is not None
a, out, mask = np.ones(16, np.float32), np.zeros(16, np.float32), np.full(16, -1, np.int32)
bounds = np.array([-9, 9], np.float32)
add = registry.BINARY["add"]
values = dict.fromkeys(add.params.fields, 0)
values |= dict(x=a.ctypes.data, other=a.ctypes.data, out=out.ctypes.data, mask=mask.ctypes.data)
values |= dict(bounds=bounds.ctypes.data, channels=1, positions=16)
values |= dict(out_plane=16, x_plane=16, x_column=1, other_plane=16, other_column=1)
add.entry()(add.block(**values).ctypes.data, 0, 1, 0)
print(out.tolist() == [2.0] * 16)
"""


def python(script: str, *arguments: object, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not BASELINE, reason="libraries are for Linux"
)
@pytest.mark.skipif(shutil.which("ld") is None or shutil.which("as") is None, reason="no binutils")
def test_a_kernel_compiled_ahead_of_time_computes_the_same(tmp_path: Path) -> None:
    (target,) = (target for target in TARGETS if target.name == BASELINE)
    python(SCRIPT, target.name, tmp_path, BWN_KERNELS="jit")
    library = tmp_path / f"{BASELINE}.so"
    linker.link(target, [tmp_path / f"{BASELINE}.o"], library, ["bwn_*"])
    assert linker.check(target, library) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{BASELINE}.o", f"{BASELINE}.so"]
    assert python(USE, BWN_LIBRARIES=str(tmp_path), BWN_KERNELS=BASELINE) == "True"


@pytest.mark.skipif(shutil.which("cc") is None or not BASELINE, reason="no C compiler")
def test_a_library_that_asks_for_more_than_the_system_has_is_refused(tmp_path: Path) -> None:
    (target,) = (target for target in TARGETS if target.name == BASELINE)
    (tmp_path / "a.c").write_text("void NRT_Free(void*); void bwn_a(void) { NRT_Free(0); }")
    library = tmp_path / "a.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-Wl,-z,max-page-size=1024", "-o", library, tmp_path / "a.c"],
        check=True,
    )
    problems = linker.check(target, library)
    assert "asks the system for NRT_Free" in problems
    assert any(problem.startswith("segments are aligned to") for problem in problems)


def assembly(target: Target, scalar: Kernel | None = None) -> str:
    """A listing in which all kernels but `scalar` have each instruction expected of them."""
    lines = []
    for kernel in EVERY:
        if kernel.runs_on(target.offers):
            patterns = () if kernel is scalar else kernel.expected_on(target)
            lines += [f"{symbol(kernel.code)}:", *(f"\t{example(each)} x" for each in patterns)]
    return "\n".join(lines)


def example(pattern: str) -> str:
    """An instruction that a pattern finds."""
    pattern = pattern.partition("|")[0]
    for sign, text in (
        (r"\b", ""), (r"\s+", " "), (r"\s*", ""), (r"\s", " "), (r"\d+", "1"), (".*", ""),
        ("[yz]", "z"), ("[it]", "i"), ("[qd]", "d"), ("p?s", "ps"),
    ):  # fmt: skip
        pattern = pattern.replace(sign, text)
    return pattern.replace("\\", "")


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_lost_vectorization_is_found(target: Target) -> None:
    assert build.missing_instructions(target, assembly(target)) == []
    for kernel in EVERY:
        patterns = kernel.expected_on(target) if kernel.runs_on(target.offers) else ()
        assert build.missing_instructions(target, assembly(target, scalar=kernel)) == [
            f"{kernel.name} has no '{pattern}'" for pattern in patterns
        ]


def test_a_scalar_loop_is_found() -> None:
    (target,) = (target for target in TARGETS if target.name == "aarch64")
    scalar = assembly(target).replace("fadd v1.4s", "fadd s1")
    addition = r"fadd\s+v\d+\.4s"
    adding = [k.name for k in EVERY if addition in k.expected.get(target.name, ())]
    assert "f32_b1_f32_planes_lookup" in adding
    assert build.missing_instructions(target, scalar) == [
        f"{name} has no '{addition}'" for name in adding
    ]


@pytest.mark.parametrize("kernel", EVERY, ids=lambda kernel: kernel.name)
def test_instructions_are_expected_on_targets_that_have_the_kernel(kernel: Kernel) -> None:
    offers = {target.name: target.offers for target in TARGETS}
    for name, patterns in kernel.expected.items():
        assert patterns
        assert kernel.runs_on(offers[name]), f"{name} does not run {kernel.name}"


def test_a_target_expects_what_the_one_below_it_does() -> None:
    by_name = {target.name: target for target in TARGETS}
    kernel = Kernel("a.b", None, expected={"x86-64": ["one"], "x86-64-avx512": ["two"]})
    assert kernel.expected_on(by_name["x86-64"]) == ["one"]
    assert kernel.expected_on(by_name["x86-64-avx2"]) == ["one"]
    assert kernel.expected_on(by_name["x86-64-avx512"]) == ["two"]
    assert kernel.expected_on(by_name["aarch64"]) == ()


def test_without_binutils_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    for target in TARGETS:
        with pytest.raises(
            KernelsError, match=r"apt-get install binutils-(x86-64|aarch64)-linux-gnu"
        ):
            linker.tool(target, "ld")


METADATA = """Metadata-Version: 2.4
Name: bwn
Requires-Dist: numba>=0.61
Requires-Dist: numpy
Requires-Dist: numba>=0.61; extra == "jit"

Requires-Dist: numba is text here
"""
WHEEL = """Wheel-Version: 1.0
Root-Is-Purelib: true
Tag: py3-none-any
"""


@pytest.fixture
def pure_wheel(tmp_path: Path) -> Path:
    wheel = tmp_path / "bwn-0.1.0-py3-none-any.whl"
    files = {
        "bwn/__init__.py": "",
        "bwn-0.1.0.dist-info/METADATA": METADATA,
        "bwn-0.1.0.dist-info/WHEEL": WHEEL,
        "bwn-0.1.0.dist-info/RECORD": "old",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return wheel


def test_a_machine_wheel_has_the_libraries_and_no_compiler(
    pure_wheel: Path, tmp_path: Path
) -> None:
    library = tmp_path / "aarch64.so"
    library.write_bytes(b"code")
    path = wheels.machine_wheel(pure_wheel, "aarch64", [library], tmp_path)
    assert path.name == "bwn-0.1.0-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.whl"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert files["bwn/kernels/libraries/aarch64.so"] == b"code"
    metadata = files["bwn-0.1.0.dist-info/METADATA"].decode()
    assert metadata.count("numba") == 2  # the extra, and the text
    assert 'Requires-Dist: numba>=0.61; extra == "jit"\n' in metadata
    tags = files["bwn-0.1.0.dist-info/WHEEL"].decode().splitlines()
    assert tags[1:] == [
        "Root-Is-Purelib: false",
        "Tag: py3-none-manylinux_2_17_aarch64",
        "Tag: py3-none-manylinux2014_aarch64",
    ]
    *lines, last = files.pop("bwn-0.1.0.dist-info/RECORD").decode().splitlines()
    assert last == "bwn-0.1.0.dist-info/RECORD,,"
    for line, (name, content) in zip(lines, files.items(), strict=True):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        assert line == f"{name},sha256={digest},{len(content)}"


def test_the_same_wheel_is_the_same_bytes(pure_wheel: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        wheels.machine_wheel(pure_wheel, "x86_64", [], folder)
    (a,), (b,) = one.iterdir(), two.iterdir()
    assert a.read_bytes() == b.read_bytes()


def test_a_wheel_that_requires_no_compiler_is_not_taken_for_one_that_does() -> None:
    with pytest.raises(ValueError, match="requires numba 0 times"):
        wheels.without_compiler("Name: bwn\n\n")


def test_instructions_of_a_called_function_count() -> None:
    """A large kernel is no part of its entry: that calls it."""
    (target,) = (target for target in TARGETS if target.name == "x86-64-avx512")
    (kernel,) = (kernel for kernel in EVERY if kernel.name == "f32_f32_f32_planes_multiply")
    (pattern,) = kernel.expected_on(target)
    entry, code = f"{symbol(kernel.code)}:", f"_ZN3f32:\n\t{example(pattern)} x"
    others = assembly(target, scalar=kernel).replace(entry, f"{entry}\n\tcallq\t_ZN3f32")
    assert build.missing_instructions(target, f"{others}\n{code}") == []
    assert build.missing_instructions(target, others) == [f"{kernel.name} has no '{pattern}'"]
