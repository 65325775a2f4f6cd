"""Which compiled kernels are used: the best library that the machine can run, else numba."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bwn.kernels.target import cache, loader, targets
from bwn.kernels.target.loader import DIGEST, KernelsError, Library, symbol

HERE = [target for target in targets.TARGETS if target.machine == platform.machine()]
linux = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not HERE, reason="libraries are for Linux"
)
needs_cc = pytest.mark.skipif(
    shutil.which("cc") is None, reason="no C compiler to make a small library with"
)


def fake(folder: Path, target: targets.Target, digest: str) -> None:
    """A library of one entry, which writes its last three arguments to where the first one says."""
    source = folder / "fake.c"
    source.write_text(
        f'const char {DIGEST}[] = "{digest}";\n'
        f"void {symbol('tensor.broadcast.f32_f32_add')}(long *p, long b, long e, long n) {{ p[0] = b; p[1] = e; p[2] = n; }}\n"
    )
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", str(folder / f"{target.name}.so"), str(source)], check=True
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    for name in ("BWN_KERNELS", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def choose() -> Library | None:
    return loader.library.__wrapped__()


@linux
@needs_cc
def test_the_first_runnable_library_that_is_there_is_used(folder: Path) -> None:
    import numpy as np

    *_, last = targets.runnable()
    fake(folder, last, cache.sources_digest())
    library = choose()
    assert library is not None
    assert library.target is last
    entry, fields = library.entry("tensor.broadcast.f32_f32_add"), np.zeros(3, np.int64)
    entry(fields.ctypes.data, 5, 6, 7)
    assert fields.tolist() == [5, 6, 7]
    assert entry.loaded
    assert entry.address
    best = targets.runnable()[0]
    fake(folder, best, cache.sources_digest())
    assert choose().target is best


@linux
@needs_cc
def test_a_library_of_other_sources_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    target = targets.runnable()[0]
    fake(folder, target, "0" * 16)
    assert choose() is None  # numba is here
    assert "numba compiles the kernels instead" in caplog.text
    monkeypatch.setattr(loader, "can_compile", lambda: False)
    with pytest.raises(KernelsError, match="was built from other sources"):
        choose()
    monkeypatch.setenv("BWN_KERNELS", target.name)  # asked for by name it is never passed over
    with pytest.raises(KernelsError, match="was built from other sources"):
        choose()


@linux
def test_a_broken_library_is_an_error_that_names_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = targets.runnable()[0]
    (folder / f"{target.name}.so").write_bytes(b"no library")
    monkeypatch.setattr(loader, "can_compile", lambda: False)
    with pytest.raises(KernelsError, match=rf"{target.name}\.so"):
        choose()


def test_without_library_numba_compiles_or_the_way_to_it_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose() is None
    monkeypatch.setattr(loader, "can_compile", lambda: False)
    with pytest.raises(KernelsError, match=r"pip install numba"):
        choose()


@pytest.mark.parametrize("name", ["BWN_KERNELS", "NUMBA_CPU_NAME"])
def test_to_compile_without_numba_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(loader, "can_compile", lambda: False)
    monkeypatch.setenv(name, "jit")
    with pytest.raises(KernelsError, match=r"asks .* pip install numba"):
        choose()


@linux
def test_a_library_that_did_not_come_along_is_named_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = targets.runnable()[0]
    monkeypatch.setenv("BWN_KERNELS", target.name)
    with pytest.raises(
        KernelsError, match=f"no library {target.name} is bundled with bwn"
    ) as caught:
        choose()
    assert str(caught.value).count(f"{target.name}.so") == 1


def test_a_broken_library_is_named_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = targets.TARGETS[0]
    (folder / f"{target.name}.so").write_bytes(b"no library")
    with pytest.raises(KernelsError) as caught:
        Library(target)
    assert str(caught.value).count(f"{target.name}.so") == 1


def test_the_environment_chooses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BWN_KERNELS", "jit")
    assert choose() is None
    monkeypatch.setenv("BWN_KERNELS", "z80")
    with pytest.raises(KernelsError, match="BWN_KERNELS is 'z80'; this machine can run: jit"):
        choose()


@linux
def test_a_machine_runs_only_what_it_has_the_features_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "machine_features", frozenset)
    assert [target.name for target in targets.runnable()] == (
        ["x86-64"] if platform.machine() == "x86_64" else []  # every aarch64 has `asimd`
    )
    every = frozenset().union(*(target.needs for target in HERE))
    monkeypatch.setattr(targets, "machine_features", lambda: every)
    assert targets.runnable() == HERE
    for feature in every:
        monkeypatch.setattr(targets, "machine_features", lambda feature=feature: every - {feature})
        assert all(feature not in target.needs for target in targets.runnable())


@linux
def test_the_machine_tells_its_features() -> None:
    there = targets.machine_features.__wrapped__()
    assert ("asimd" if platform.machine() == "aarch64" else "sse2") in there


def test_a_python_of_32_bits_loads_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 32-bit system with a 64-bit kernel calls its machine `aarch64` or `x86_64` too."""
    monkeypatch.setattr(targets.sys, "maxsize", 2**31 - 1)
    assert targets.runnable() == []


@linux
@needs_cc
def test_libraries_are_looked_for_where_the_process_began(tmp_path: Path) -> None:
    target = targets.runnable()[0]
    fake(tmp_path, target, cache.sources_digest())
    script = """
import os
from bwn.kernels.target import loader
os.chdir('/')
print(loader.library().path)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "BWN_LIBRARIES": ".", "BWN_KERNELS": target.name},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / target.name}.so\n"), done.stderr


def test_an_unknown_system_has_no_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.sys, "platform", "plan9")
    assert targets.runnable() == []
    assert targets.machine_features.__wrapped__() == frozenset()


def test_the_command_line_says_it_in_one_line() -> None:
    command = [sys.executable, "-m", "bwn.cli", "inspect", "--plan", "models/mnist-mlp.bwn"]
    done = subprocess.run(
        command,
        env={**os.environ, "BWN_KERNELS": "z80"},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("Error: BWN_KERNELS is 'z80'")


def test_planning_imports_no_compiler() -> None:
    """The planner knows sizes and layouts without numba; with a library nothing imports it."""
    script = (
        "import sys\n"
        "from bwn.kernels.target import cpu\n"
        "cpu.OVERRIDE = frozenset({'neon'})\n"
        "import bwn.kernels.registry, bwn.plan.planner, bwn.model\n"
        "import bwn.runtime.executor, bwn.tools.tune\n"
        "print(sorted({'numba', 'llvmlite'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
