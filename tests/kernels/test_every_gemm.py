"""Every product of the registry against the plain reference, over sizes around every edge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gemm_cases import Case, check, check_quantized, run

from bwn.kernels.params import Activation
from bwn.kernels.registry import GEMMS, IndirectGemm, LutPermuteGemm

EDGES = [
    *(
        Case(depth, 5, 17)
        for depth in (1, 2, 3, 4, 5, 15, 16, 17, 31, 63, 64, 65, 127, 128, 129, 191, 193, 257)
    ),
    *(Case(70, outputs, 16) for outputs in (1, 3, 4, 7, 8, 9, 12, 15, 16, 17)),
    *(
        Case(70, 4, positions)
        for positions in (1, 2, 15, 16, 31, 32, 33, 47, 48, 63, 64, 65, 127, 128, 130)
    ),
    Case(65, 3, 33, images=3, groups=2, lead=19),
    Case(130, 9, 70, images=2, lead=5, epilogue=True),
    Case(130, 9, 70, lead=1, epilogue=True, per_lane=True),
    Case(130, 37, 5, images=2, groups=2, lead=5, epilogue=True),
    Case(65, 16, 3, lead=1, epilogue=True, per_lane=True),
    *(Case(70, outputs, 1, images=2, alone=True) for outputs in (15, 16, 17, 40)),
    Case(130, 37, 1, images=2, groups=2, epilogue=True, alone=True),
    Case(130, 37, 16, alone=True),
    Case(4608, 2, 20),
    *(Case(depth, 2, 20, extreme=sign) for depth in (1983, 1984, 1985, 4608) for sign in (1, -1)),
]


@pytest.mark.parametrize("row", GEMMS, ids=lambda row: row.name)
@pytest.mark.parametrize("case", EDGES, ids=str)
def test_product_equals_reference(row: IndirectGemm | LutPermuteGemm, case: Case) -> None:
    check(row, replace(case, depth=min(case.depth, row.max_depth)))


@pytest.mark.parametrize("row", GEMMS, ids=lambda row: row.name)
def test_outputs_of_8_bits(row: IndirectGemm | LutPermuteGemm) -> None:
    sizes = ((1, 1), (5, 16), (9, 70), (16, 3), (37, 5), (40, 33), (3, 130))
    cases = [Case(70, outputs, positions, images=2, lead=5) for outputs, positions in sizes]
    cases += [Case(70, outputs, 1, images=2, alone=True) for outputs in (15, 16, 37)]
    for case in cases:
        check_quantized(row, case)
        check_quantized(row, replace(case, groups=2, per_lane=True))
        check_quantized(row, replace(case, activation=Activation.HARD_SWISH))


@pytest.mark.parametrize("row", GEMMS, ids=lambda row: row.name)
@pytest.mark.parametrize("activation", list(Activation)[1:])
def test_an_activation_comes_between_the_bounds_and_the_added_planes(
    row: IndirectGemm | LutPermuteGemm, activation: Activation
) -> None:
    for outputs, positions in ((1, 1), (5, 16), (9, 70), (16, 3), (37, 5), (40, 33)):
        case = Case(70, outputs, positions, images=2, lead=5, activation=activation)
        check(row, case)
        check(row, replace(case, epilogue=True))
        check(row, replace(case, images=1, epilogue=True, per_lane=True))


@pytest.mark.parametrize("row", GEMMS, ids=lambda row: row.name)
def test_parts_cover_all_work(row: IndirectGemm | LutPermuteGemm) -> None:
    for parts in (2, 3, 5):
        check(row, Case(100, 7, 50, images=2, groups=3, lead=3), parts)


@pytest.mark.parametrize("row", GEMMS, ids=lambda row: row.name)
def test_parts_write_nothing_of_each_other(row: IndirectGemm | LutPermuteGemm) -> None:
    for case in (
        Case(100, 7, 150, images=2, groups=2, lead=3),
        Case(100, 40, 1, images=2, groups=2, alone=True),
    ):
        written = sum((~np.isnan(run(row, case, 3, part)[0])).astype(int) for part in range(3))
        assert (written == 1).all()


@pytest.mark.parametrize("row", GEMMS, ids=lambda row: row.name)
def test_sizes_past_65536(row: IndirectGemm | LutPermuteGemm) -> None:
    check(row, Case(min(65_601, row.max_depth), 2, 3))
    check(row, Case(5, 65_601, 2))
    check(row, Case(5, 2, 65_601))


@pytest.mark.parametrize("row", [row for row in GEMMS if row.exact], ids=lambda row: row.name)
def test_largest_sums_do_not_overflow(row: IndirectGemm | LutPermuteGemm) -> None:
    # Past 2**24 / 127 the float32 output could round, so the depth stops there.
    check(row, Case(min(row.max_depth, 2**24 // 127), 9, 3, extreme=1))
    check(row, Case(min(row.max_depth, 2**24 // 127), 9, 3, extreme=-1))


@pytest.mark.parametrize(
    "row", [row for row in GEMMS if row.activations == "f32"], ids=lambda row: row.name
)
def test_nan_stays_in_its_position(row: IndirectGemm | LutPermuteGemm) -> None:
    out, _, mask = run(row, Case(9, 5, 20, poison=np.nan))
    assert mask[1]
    assert np.isnan(out[:, :, 1]).all()
    assert np.isfinite(np.delete(out, 1, axis=2)).all()


@pytest.mark.parametrize(
    "row", [row for row in GEMMS if row.activations == "f32"], ids=lambda row: row.name
)
@pytest.mark.parametrize("size", [np.inf, 2e38])
def test_infinity_and_what_is_near_it_stay_right(
    row: IndirectGemm | LutPermuteGemm, size: float
) -> None:
    out, expected, mask = run(row, Case(9, 5, 20, poison=size))
    assert mask[1]
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(out[:, :, 1], expected[:, :, 1].astype(np.float32))
    assert np.isfinite(np.delete(out, 1, axis=2)).all()
