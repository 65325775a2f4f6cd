"""Products of 8-bit activations by `vpdpbusd`: every byte, and the form of 256 bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gemm_cases
import numpy as np
import pytest
from gemm_cases import Case, check

from bwn.kernels.registry import GEMMS
from bwn.kernels.target.targets import machine_features

ROWS = [row for row in GEMMS if row.name == "i8_b1_f32_planes_multiply"]
BYTES = np.iinfo(np.int8)
NARROW = """
import sys
from bwn.kernels.target import cpu
cpu.OVERRIDE = frozenset({"avx2", "fma", "avxvnni"})  # as of the library x86-64-avxvnni
sys.path += sys.argv[1:]
from test_every_gemm import EDGES
from test_golden import FILE, digest, json
from gemm_cases import Case, check
from bwn.kernels.gemm.i8 import TILE
from bwn.kernels.gemm.i8_tile import WIDE
from bwn.kernels.registry import GEMMS
(row,) = (row for row in GEMMS if row.name == "i8_b1_f32_planes_multiply")
assert (WIDE, TILE, row.lanes) == (False, 6, 16)
for case in (*EDGES, Case(4608, 64, 49), Case(5, 65_601, 2), Case(132_104, 9, 3, extreme=-1)):
    check(row, case)
for parts in (2, 3, 5):
    check(row, Case(100, 13, 150, images=2, groups=3, lead=3), parts)
assert digest(row) == json.loads(FILE.read_text())[row.name]
"""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("low", [BYTES.min, BYTES.max, None])
@pytest.mark.parametrize("depth", [1, 6, 27, 64, 577])
def test_sums_of_all_bytes_are_exact(row, low, depth, monkeypatch: pytest.MonkeyPatch) -> None:
    """-128 too, which no layer's input is; sums do not saturate."""

    def inputs(spec, rng, shape, extreme):
        if low is not None:
            return np.full(shape, low, np.int8)
        return rng.integers(BYTES.min, BYTES.max + 1, shape).astype(np.int8)

    monkeypatch.setattr(gemm_cases, "inputs", inputs)
    for outputs, positions, extreme in ((17, 70, 0), (8, 32, 1), (8, 32, -1), (3, 33, 1)):
        check(row, Case(depth, outputs, positions, groups=2, extreme=extreme))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("positions", [31, 32, 33, 48, 49, 64, 4097])
def test_chunks_of_columns_meet(row, positions: int) -> None:
    """Inputs of several chunks, and of less than one; the last column may have half its vectors."""
    for depth, outputs in ((9, 8), (4100, 10), (9000, 7)):
        check(row, Case(depth, outputs, min(positions, 2**18 // depth), images=2, lead=5))


@pytest.mark.skipif(
    machine_features().isdisjoint({"avx_vnni", "avx512_vnni"}), reason="no vpdpbusd here"
)
def test_the_form_of_256_bits_computes_the_same(tmp_path: Path) -> None:
    """With AVX-512 its instructions are encoded otherwise, and are the same."""
    folders = [Path(gemm_cases.__file__).parent, Path(__file__).parent]
    # A cache of its own: that of this CPU must not hold another's code.
    environment = {"BWN_CACHE_DIR": str(tmp_path), "BWN_KERNELS": "jit"}
    done = subprocess.run(
        [sys.executable, "-c", NARROW, *map(str, folders)],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
