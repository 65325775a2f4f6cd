"""Compiled kernels are cached on disk, and never outlive their sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bwn.kernels
from bwn.kernels import costs, registry
from bwn.kernels.target import jit

SCRIPT = """
import importlib.util, sys, pathlib
folder = pathlib.Path(sys.argv[1])
spec = importlib.util.spec_from_file_location(
    "bwn.kernels", folder / "__init__.py", submodule_search_locations=[str(folder)]
)
import bwn
module = importlib.util.module_from_spec(spec)
sys.modules["bwn.kernels"] = module
spec.loader.exec_module(module)
import numpy as np
from bwn.kernels import registry
from bwn.kernels.tensor import broadcast
assert broadcast.__file__.startswith(str(folder))
kernel = registry.BINARY["add"]
a, out, mask = np.ones(16, np.float32), np.zeros(16, np.float32), np.full(16, -1, np.int32)
bounds = np.array([-9, 9], np.float32)
values = dict.fromkeys(kernel.params.fields, 0)
values |= dict(x=a.ctypes.data, other=a.ctypes.data, out=out.ctypes.data)
values |= dict(mask=mask.ctypes.data, bounds=bounds.ctypes.data)
values |= dict(channels=1, height=1, positions=16, out_row=16, out_plane=16)
values |= dict(x_row=16, x_column=1, other_row=16, other_column=1)
kernel.entry()(kernel.block(**values).ctypes.data, 0, 1, 0)
print(out[0], int(kernel.entry().loaded))
"""


def answer(kernels: Path, cache: Path) -> tuple[float, int]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(kernels)],
        env={**os.environ, "BWN_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    value, hits = done.stdout.split()
    return float(value), int(hits)


def test_an_edited_helper_is_seen(tmp_path: Path) -> None:
    kernels, cache = tmp_path / "kernels", tmp_path / "cache"
    shutil.copytree(
        Path(bwn.kernels.__file__).parent, kernels, ignore=shutil.ignore_patterns("__pycache__")
    )
    assert answer(kernels, cache) == (2.0, 0)
    assert answer(kernels, cache) == (2.0, 1)
    vectors = kernels / "simd" / "vectors.py"
    # The helper lies in another file than the kernel: numba alone would not notice.
    text = vectors.read_text()
    changed = text.replace("builder.fadd(a, b)", "builder.fsub(a, b)")
    assert changed != text
    vectors.write_text(changed)
    assert answer(kernels, cache) == (0.0, 0)


@pytest.mark.parametrize("size", [0, 5, 100])
def test_a_damaged_cache_is_replaced(tmp_path: Path, size: int) -> None:
    kernels, cache = Path(bwn.kernels.__file__).parent, tmp_path / "cache"
    assert answer(kernels, cache) == (2.0, 0)
    for path in [path for path in cache.rglob("*") if path.is_file()]:
        path.write_bytes(path.read_bytes()[:size])
    assert answer(kernels, cache) == (2.0, 0)  # compiled, not cached
    assert answer(kernels, cache) == (2.0, 0)  # compiled and cached
    assert answer(kernels, cache) == (2.0, 1)


COMPILE = """
from bwn.kernels import registry
from bwn.kernels.target.cache import cache_folder
registry.BINARY["add"].entry(), registry.BINARY["mul"].entry()
print(cache_folder())
"""


def compile_two(**environment: str) -> tuple[str, list[str]]:
    """The cache folder of a process that needs two kernels, and what it says on standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMPILE],
        env={**os.environ, "BWN_KERNELS": "jit", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.splitlines()


def test_compiling_is_announced_once_and_loading_is_not(tmp_path: Path) -> None:
    folder, lines = compile_two(BWN_CACHE_DIR=str(tmp_path))
    assert lines == [
        "compiling kernels for this CPU, which takes up to a minute; later runs load them from"
        f" {folder}"
    ]
    assert compile_two(BWN_CACHE_DIR=str(tmp_path)) == (folder, [])
    for path in Path(folder).rglob("*mul*"):
        path.unlink()
    _, lines = compile_two(BWN_CACHE_DIR=str(tmp_path))
    assert [line.partition(" for ")[0] for line in lines] == ["compiling more kernels"]


def test_where_no_cache_can_be_written_every_run_says_that_it_compiles(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    for _ in range(2):
        _, lines = compile_two(BWN_CACHE_DIR=str(blocked), TMPDIR=str(tmp_path))
        assert lines == [
            "compiling kernels for this CPU, which takes up to a minute; they cannot be cached: set"
            " BWN_CACHE_DIR to a folder that can be written"
        ]


def test_an_unwritable_cache_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jit.cache_folder.cache_clear()
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("BWN_CACHE_DIR", str(blocked))
    folder = jit.cache_folder()
    assert folder.is_dir()
    assert os.access(folder, os.W_OK)
    jit.cache_folder.cache_clear()


def test_a_user_without_a_home_gets_no_folder_named_like_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BWN_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        os.path, "expanduser", lambda path: path
    )  # as it answers where nobody knows the user
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    jit.cache_folder.cache_clear()
    try:
        assert jit.cache_folder().is_relative_to(tmp_path / "temporary")
        assert not (tmp_path / "~").exists()
    finally:
        jit.cache_folder.cache_clear()


def test_where_nothing_can_be_written_default_costs_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("BWN_CACHE_DIR", str(blocked))

    def nowhere(*_: object, **__: object) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.mkdtemp", nowhere)
    jit.cache_folder.cache_clear()
    try:
        folder = jit.cache_folder()
        assert not folder.exists()
        table = costs.load(folder / "costs.json")
        assert (table.origin, table.problem) == ("default", "")
    finally:
        jit.cache_folder.cache_clear()


def test_every_kernel_loads_in_a_process_that_compiled_nothing() -> None:
    for kernel in registry.KERNELS.values():
        kernel.entry()
    load = """
from bwn.kernels.registry import KERNELS
print(all([kernel.entry().loaded for kernel in KERNELS.values()]))
"""
    done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


OUTLINED = """
from bwn.kernels.simd.scalars import put_i64
from bwn.kernels.target.jit import outlined, stay_outlined
def make(number):
    @outlined(str(number))
    def write(p):
        stay_outlined()
        put_i64(p, 0, number)
    return write
write_1, write_2 = make(1), make(2)
def first(p, begin, end, part):
    write_1(p)
def second(p, begin, end, part):
    write_2(p)
"""
CALL = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, outlined_loops
from bwn.kernels.target.jit import compile_entry
out = np.zeros(1, np.int64)
for name in sys.argv[2:]:
    entry = compile_entry(getattr(outlined_loops, name))
    entry(out.ctypes.data, 0, 1, 0)
    print(out[0], entry.loaded)
"""


def test_kernels_that_were_cached_apart_keep_their_own_loops(tmp_path: Path) -> None:
    """Numba gives the loops of both the same number, as each is the first of its process."""
    (tmp_path / "outlined_loops.py").write_text(OUTLINED)
    shown = []
    for names in (["first"], ["second"], ["first", "second"]):
        done = subprocess.run(
            [sys.executable, "-c", CALL, tmp_path, *names],
            env=os.environ | {"BWN_CACHE_DIR": str(tmp_path), "BWN_KERNELS": "jit"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        shown.append(done.stdout.split())
    assert shown == [["1", "False"], ["2", "False"], ["1", "True", "2", "True"]]


def test_loops_of_one_name_are_refused() -> None:
    def make() -> None:
        @jit.outlined("tag")
        def loop() -> None:
            pass

    make()
    with pytest.raises(ValueError, match="two functions of the name"):
        make()


TWICE = """
import numpy as np
from bwn.kernels.target.jit import compiled
@compiled("void(float32[::1])")
def twice(x):
    for i in range(x.size):
        x[i] = x[i] + x[i]
x = np.ones(3, np.float32)
twice(x)
print(x.sum(), sum(twice.stats.cache_hits.values()))
"""


def test_a_function_of_arrays_is_cached_too_and_compiled_again_where_the_cache_is_damaged(
    tmp_path: Path,
) -> None:
    cache = tmp_path / "cache"
    (tmp_path / "doubling.py").write_text(TWICE)

    def run() -> str:
        environment = {**os.environ, "BWN_CACHE_DIR": str(cache), "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", "import doubling"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert run() == "6.0 0"
    assert run() == "6.0 1"
    cached = [path for path in cache.rglob("*twice*") if path.is_file()]
    assert cached
    for path in cached:
        path.write_bytes(path.read_bytes()[:20])
    assert [run(), run(), run()] == ["6.0 0", "6.0 0", "6.0 1"], (
        "compiled; compiled and cached; loaded"
    )
