"""Tiles of AMX: exact, on a processor that has them or on an emulation of its instructions."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import gemm_cases
import pytest

from bwn.kernels.target import targets
from bwn.kernels.target.targets import machine_features, permitted, usable

HERE = sys.platform.startswith("linux") and platform.machine() == "x86_64"
EMULATOR = Path(__file__).with_name("amx_emulator.c")
SCRIPT = """
import ctypes, sys
emulator, middle, *folders = sys.argv[1:]
library = ctypes.CDLL(emulator)
assert library.emulate() == 0
from bwn.kernels.target import cpu
from bwn.kernels.target.targets import machine_features
machine_features()  # asks the system for the tiles, if there are any
# Inputs are unsigned where `vpdpbusd` exists, which these kernels do not use.
cpu.OVERRIDE = frozenset({"avx2", "fma", "amx-int8", *(["avxvnni"] if middle == "128" else [])})
sys.path += folders
from test_every_gemm import EDGES
from test_golden import FILE, digest, json
from gemm_cases import Case, check, check_quantized
from bwn.kernels.gemm.i8_tile import MIDDLE
from bwn.kernels.registry import GEMMS
rows = [row for row in GEMMS if row.variant == "tiles"]
assert (MIDDLE, len(rows)) == (int(middle), 2)
for row in rows:
    deep = Case(min(132_104, row.max_depth), 9, 3, extreme=-1)
    # Blocks of 16 and 32 channels that overlap, columns of 16 and 32 positions, several chunks.
    sizes = [(64, 15, 31), (65, 16, 32), (63, 31, 48), (128, 33, 49), (4608, 70, 97), (9000, 32, 70)]
    for case in (*EDGES, *(Case(*size, images=2, lead=5) for size in sizes), Case(5, 2, 65_601), deep):
        check(row, case)
    for outputs, positions in ((9, 70), (16, 3), (40, 33)):
        check_quantized(row, Case(70, outputs, positions, images=2, lead=5, groups=2))
    for parts in (2, 3, 5):
        check(row, Case(100, 13, 150, images=2, groups=3, lead=3), parts)
    assert digest(row) == json.loads(FILE.read_text())[row.name]
library.emulated_products.restype = ctypes.c_long
print(library.emulated_products())
"""


@pytest.mark.skipif(not HERE, reason="AMX is of x86-64; the request for it is Linux's")
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("middle", [0, 128])
def test_tiles_compute_exactly(middle: int, tmp_path: Path) -> None:
    emulator = tmp_path / "amx_emulator.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", emulator, EMULATOR], check=True)
    import llvmlite.binding as llvm

    features = f"{llvm.get_host_cpu_features().flatten()},+amx-tile,+amx-int8"
    folders = [Path(gemm_cases.__file__).parent, Path(__file__).parent]
    # A cache of its own: that of this CPU must not hold another's code.
    environment = {"BWN_CACHE_DIR": str(tmp_path), "NUMBA_CPU_FEATURES": features}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, emulator, str(middle), *map(str, folders)],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (int(done.stdout) > 10_000) == ("amx_int8" not in machine_features())


def test_features_that_the_system_does_not_grant_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the names of Linux and of LLVM; nothing is asked of a system without them."""
    names = frozenset({"avx2", "amx_tile", "amx_int8", "amx-tile", "amx-int8"})
    monkeypatch.setattr(targets, "permitted", lambda: False)
    assert usable(names) == {"avx2"}
    monkeypatch.setattr(targets, "permitted", lambda: True)
    assert usable(names) == names
    monkeypatch.delattr(targets, "permitted")
    assert usable({"avx2"}) == {"avx2"}


@pytest.mark.skipif(not HERE, reason="the request for AMX is Linux's")
def test_a_processor_without_tiles_grants_none() -> None:
    if "amx_tile" not in Path("/proc/cpuinfo").read_text():
        assert not permitted()
