"""A library of several processors calls the part that `init` has chosen. The parts here are C."""

from __future__ import annotations

import ctypes
import platform
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from c_library import CLibrary, run

from bwn.compile.library import find_targets
from bwn.errors import ArgumentError
from bwn.kernels.aot.c_dispatch import Part, arena_bytes, dispatcher
from bwn.kernels.target.targets import TARGETS

FUNCTIONS = (
    "arena_size", "init", "run", "probabilities", "class", "error", "prepare", "classify",
)  # fmt: skip
PART = """
#include <stddef.h>
#include <stdint.h>
int part{k}_init_code = {code};
size_t part{k}_arena_size(void) {{ return 64; }}
int part{k}_init(void *arena) {{ *(int *)arena = {k}; return part{k}_init_code; }}
void part{k}_run(void *arena, const float *x, float *scores) {{ *scores = *(int *)arena * 100 + {k} * 10 + *x; }}
int part{k}_probabilities(const float *s, float *p) {{ *p = *s + {k}; return {k}; }}
const char *part{k}_class(int i) {{ return i ? NULL : "{k}"; }}
const char *part{k}_error(int i) {{ return i ? "other {k}" : "{k}"; }}
int part{k}_prepare(void *a, const uint8_t *p, int w, int h, int c, ptrdiff_t s, float *x) {{ *x = *p + w + h + c + s; return *(int *)a; }}
int part{k}_classify(void *a, const uint8_t *p, int w, int h, int c, ptrdiff_t s, float *x) {{ return part{k}_prepare(a, p, w, h, c, s, x) + 50; }}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    machine = [target for target in TARGETS if target.machine == platform.machine()]
    if shutil.which("gcc") is None or not sys.platform.startswith("linux") or not machine:
        pytest.skip("no C compiler, or no target")
    folder = tmp_path_factory.mktemp("parts")
    parts = [Part(f"part{k}", 64 * k + 64) for k in range(3)]
    (folder / "net.o").write_bytes(dispatcher("net", FUNCTIONS, parts, machine[-1]))
    sources = [folder / f"part{k}.c" for k in range(3)]
    for k, source in enumerate(sources):
        source.write_text(PART.format(k=k, code=4 if k == 0 else 0))
    run("gcc", "-shared", "-fPIC", *sources, folder / "net.o", "-o", folder / "libnet.so")
    assert arena_bytes(parts) == 64 + 64 * 3
    return folder


def test_the_first_part_that_starts_is_called(folder: Path) -> None:
    library = CLibrary(folder, "net")
    assert library.arena.nbytes == 256
    x, out = np.array([[0.5]], np.float32), np.zeros(1, np.float32)
    assert library.run(x, (1,)) == 110.5
    pixels = np.array([7], np.uint8)
    image = (library.address, pixels, 1, 2, 3, -4, out)
    assert (library.call("prepare", *image), out[0]) == (1, 9)
    assert library.call("classify", *image) == 51
    for place in (None, library.address + 8):
        assert library.call("prepare", place, *image[1:]) == 1
        assert library.call("classify", place, *image[1:]) == 1


def test_what_needs_no_arena_is_asked_of_the_last(folder: Path) -> None:
    library, values = CLibrary(folder, "net"), np.ones(2, np.float32)
    assert library.call("probabilities", values, values[1:]) == 2
    assert values[1] == 3
    assert [library.call("class", index) for index in (0, 1)] == [b"2", None]
    assert [library.call("error", index) for index in (0, 9)] == [b"2", b"other 2"]


def test_init_refuses_what_no_part_can(folder: Path) -> None:
    library = CLibrary(folder, "net")
    assert [library.call("init", place) for place in (None, library.address + 8)] == [1, 1]
    codes = [
        ctypes.c_int.in_dll(ctypes.CDLL(str(folder / "libnet.so")), f"part{k}_init_code")
        for k in range(3)
    ]
    codes[1].value = 3
    assert library.call("init", library.address) == 3  # another error is not passed over
    codes[1].value = codes[2].value = 4
    assert library.call("init", library.address) == 4
    codes[1].value = codes[2].value = 0


def test_parts_are_the_targets_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = find_targets("aarch64-any")
    assert [target.name for target in arm][-1] == "aarch64"
    assert len(arm) > 1
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert [target.name for target in find_targets("x86-64-any")][-1] == "x86-64"
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(ArgumentError, match="on x86-64 only"):
        find_targets("x86-64-any")
