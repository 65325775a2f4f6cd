"""Products of bytes: every byte, and the forms of CPUs other than this one."""

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

NAMES = ("i8_b1_f32_planes_multiply", "i8_i8_f32_planes_multiply")
ROWS = [row for row in GEMMS if row.name in NAMES]
BYTES = np.iinfo(np.int8)
OTHER = """
import sys
from bwn.kernels.target import cpu
form, tile, *folders = sys.argv[1:]
OFFERED = {"vpdpbusd": {"avx2", "fma", "avxvnni"}, "vpmaddubsw": {"avx2", "fma"}, "portable": set()}
cpu.OVERRIDE = frozenset(OFFERED[form])  # as of the libraries of x86-64
sys.path += folders
from test_every_gemm import EDGES
from test_golden import FILE, digest, json
from gemm_cases import Case, check
from bwn.kernels.gemm.byte_products import FORM
from bwn.kernels.gemm.i8 import TILE
from bwn.kernels.registry import GEMMS
ends = ("planes_multiply", "planes_runs")
rows = [row for row in GEMMS if row.activations == "i8" and row.name.endswith(ends)]
assert (FORM, TILE, len(rows)) == (form, int(tile), 4 if form == "vpdpbusd" else 1)
for row in rows:
    assert row.lanes == 16
    deep = Case(min(132_104, row.max_depth), 9, 3, extreme=-1)
    for case in (*EDGES, Case(4608, 64, 49), Case(5, 65_601, 2), deep):
        check(row, case)
    for parts in (2, 3, 5):
        check(row, Case(100, 13, 150, images=2, groups=3, lead=3), parts)
    assert digest(row) == json.loads(FILE.read_text())[row.name]
"""


def needs(features: set[str]) -> pytest.MarkDecorator:
    """Skip where this machine has none of the features, as Linux names them."""
    return pytest.mark.skipif(machine_features().isdisjoint(features), reason=f"no {features}")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("low", [BYTES.min, BYTES.max, None])
@pytest.mark.parametrize("depth", [1, 6, 27, 64, 577])
def test_sums_of_all_bytes_are_exact(row, low, depth, monkeypatch: pytest.MonkeyPatch) -> None:
    """-128 too with one-bit weights, though no layer's input is; sums do not saturate."""
    least = BYTES.min if row.weights == "b1" else -BYTES.max

    def inputs(spec, rng, shape, extreme):
        if low is not None:
            return np.full(shape, max(low, least), np.int8)
        return rng.integers(least, BYTES.max + 1, shape).astype(np.int8)

    monkeypatch.setattr(gemm_cases, "inputs", inputs)
    for outputs, positions, extreme in ((17, 70, 0), (8, 32, 1), (8, 32, -1), (3, 33, 1)):
        check(row, Case(depth, outputs, positions, groups=2, extreme=extreme))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("positions", [31, 32, 33, 48, 49, 64, 4097])
def test_chunks_of_columns_meet(row, positions: int) -> None:
    """Inputs of several chunks, and of less than one; the last column may have half its vectors."""
    for depth, outputs in ((9, 8), (4100, 10), (9000, 7)):
        check(row, Case(depth, outputs, min(positions, 2**18 // depth), images=2, lead=5))


@pytest.mark.parametrize(
    ("form", "tile"),
    [
        # With AVX-512 the instructions of 256 bits are encoded otherwise, and are the same.
        pytest.param("vpdpbusd", 6, marks=needs({"avx_vnni", "avx512_vnni"})),
        pytest.param("vpmaddubsw", 4, marks=needs({"avx2"})),
        pytest.param("portable", 2),
    ],
)
def test_other_forms_compute_the_same(form: str, tile: int, tmp_path: Path) -> None:
    folders = [Path(gemm_cases.__file__).parent, Path(__file__).parent]
    # A cache of its own: that of this CPU must not hold another's code.
    environment = {"BWN_CACHE_DIR": str(tmp_path), "BWN_KERNELS": "jit"}
    done = subprocess.run(
        [sys.executable, "-c", OTHER, form, str(tile), *map(str, folders)],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
