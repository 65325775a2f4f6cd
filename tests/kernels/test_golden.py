"""The same bits on every machine, by library and by numba: digests of outputs, made once and kept
in golden.json.

    PYTHONPATH=tests/support python tests/kernels/test_golden.py     makes them anew, where an
    answer is meant to change

A float32 sum is the same bits as long as its order is: products whose order follows the registers
have one digest for each width of their tables.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from gemm_cases import Case, run

from bwn.kernels.gemm.gemv_packing import FLOAT_LAYOUT
from bwn.kernels.gemm.specs import SPECS
from bwn.kernels.registry import GEMMS, GemmSpec, LutWindowGemm

FILE = Path(__file__).with_name("golden.json")
CASES = (
    Case(130, 9, 70, images=2, lead=5, epilogue=True),
    Case(577, 40, 35, groups=2, lead=3),
)
WIDTHS = {
    "f32_b1_f32_planes_inlane": (3, 5),
    "f32_b1_f32_planes_wide": (5, 6),
    "f32_b1_f32_planes_tall": (5, 6),
    "f32_b1_f32_planes_square": (5,),
    "f32_b1_f32_planes_7x2": (6,),
    "f32_b1_f32_planes_8x2": (6,),
}
"""Inputs of a table, on some machine."""


def key(row: GemmSpec) -> str:
    """The kernel's name, with the width of its tables where that decides the order of its sums."""
    if row.name == "f32_b1_f32_planes_inlane":
        return f"{row.name} {FLOAT_LAYOUT.group}"
    if isinstance(row, LutWindowGemm) and not row.exact:
        return f"{row.name} {row.tile.group}"
    return row.name


def digest(row: GemmSpec) -> str:
    """Of all outputs of the cases, margins included."""
    digest = hashlib.sha256()
    for case in CASES:
        out, _, _ = run(row, case)
        digest.update(np.nan_to_num(out, nan=9.0).astype("<f4").tobytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("row", GEMMS, ids=lambda row: row.name)
def test_outputs_are_the_bits_of_every_other_machine(row: GemmSpec) -> None:
    assert digest(row) == json.loads(FILE.read_text())[key(row)]


def test_the_products_of_other_machines_have_digests_too() -> None:
    every = {row.name for row in SPECS}
    for name, widths in WIDTHS.items():
        every = every - {name} | {f"{name} {width}" for width in widths}
    assert set(json.loads(FILE.read_text())) == every


if __name__ == "__main__":
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    kept |= {key(row): digest(row) for row in GEMMS}
    FILE.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
