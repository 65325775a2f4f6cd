"""GEMMs of packed signs against the reference: sizes, padding, stride, dilation, groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xnor_cases import LEAD, Call, Case

from bwn.kernels.gemm import xnor_packing
from bwn.kernels.params import Activation

CASES = [
    *(
        Case(channels, 70, (3, 5), (3, 3), pads=(1, 1, 1, 1))
        for channels in (1, 31, 32, 33, 63, 64, 65, 127, 128, 129)
    ),
    *(
        Case(70, outputs, (2, 3), (2, 2))
        for outputs in (1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129)
    ),
    *(
        Case(64, 16, (height, width), (1, 1))
        for height in (1, 2)
        for width in (1, 2, 3, 15, 16, 17, 33)
    ),
    Case(40, 10, (1, 1), (3, 3), pads=(1, 1, 1, 1)),
    Case(70, 20, (7, 9), (3, 3), stride=(2, 2), pads=(1, 1, 1, 1), images=3),
    Case(70, 20, (8, 11), (4, 2), stride=(3, 1), pads=(2, 0, 3, 1), images=2),
    Case(130, 20, (9, 9), (3, 3), dilation=(2, 3), pads=(2, 3, 1, 6)),
    Case(130, 20, (9, 8), (5, 5), stride=(1, 3), dilation=(1, 2), pads=(4, 8, 0, 1)),
    Case(128, 128, (5, 4), (3, 3), pads=(1, 1, 1, 1), groups=2, images=2),
    Case(384, 192, (3, 3), (2, 3), pads=(0, 2, 1, 0), groups=3),
    Case(100, 66, (4, 5), (3, 3), pads=(1, 1, 1, 1), around=(1, 2, 0, 3), images=2),
    Case(64, 5, (1, 1), (7, 7), pads=(3, 3, 3, 3), around=(2, 2, 2, 2)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_signs_equal_the_reference(case: Case) -> None:
    for low, high in ((None, None), (-3.5, 40.0), (0.0, None), (None, -1.0)):
        Call(case, 0, low, high).check_signs()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_planes_equal_the_reference(case: Case) -> None:
    Call(case).check_planes()


@pytest.mark.parametrize("activation", list(Activation)[1:])
def test_planes_with_an_activation_equal_the_reference(activation: Activation) -> None:
    for case in CASES:
        call = Call(case)
        call.activation = activation
        call.check_planes()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_are_exact(case: Case) -> None:
    call = Call(case, 1, None, None)
    call.scale[:], call.bias[:] = 1, 0
    out = call.run(False)
    values = out[:, :, LEAD : LEAD + call.positions]
    values = values.reshape(*out.shape[:2], call.height, call.row)[..., : call.width]
    assert np.array_equal(values, call.sums)


@pytest.mark.parametrize("compares", [True, False])
def test_parts_cover_all_work_and_write_nothing_of_each_other(compares: bool) -> None:
    case = Case(
        70,
        130,
        (5, 7),
        (3, 3),
        pads=(1, 1, 1, 1),
        images=2,
        around=(1, 1, 1, 1) if compares else (0,) * 4,
    )
    for parts in (2, 3, 5):
        call = Call(case)
        (call.check_signs if compares else call.check_planes)(parts)
        empty = call.out.dtype.type(2**64 - 1 if compares else np.nan)
        written = np.zeros(call.out.shape, int)
        for part in range(parts):
            out = call.run(compares, parts, part)
            written += (out != empty) if compares else ~np.isnan(out)
        assert (written == 1).all()


LARGE = [
    Case(65_601, 3, (1, 2)),
    Case(7300, 3, (3, 3), (3, 3), pads=(1, 1, 1, 1)),
    Case(40, 65_601, (1, 1)),
    Case(40, 3, (2, 32_801)),
]


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_sizes_past_65536(case: Case) -> None:
    Call(case).check_signs()
    Call(case).check_planes()


@pytest.mark.parametrize("agree", [1, -1])
def test_largest_sums(agree: int) -> None:
    call = Call(Case(70_000, 17, (1, 3)), 0, None, None)
    call.x[:], call.w[:], call.sums = 1, agree, np.full_like(call.sums, agree * 70_000)
    call.check_planes()
    call.check_signs()


numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(numbers, numbers, st.none() | numbers, st.none() | numbers, st.integers(1, 60))
@settings(max_examples=300, deadline=None)
def test_thresholds_are_the_sign_of_the_formula(scale, bias, low, high, depth) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    a, b = np.array([scale], np.float32), np.array([bias], np.float32)
    thresholds, inverted = xnor_packing.sum_thresholds(a, b, low, high, depth)
    for total in range(-depth, depth + 1):
        # Exact rational arithmetic: Python's own fractions of the float32 numbers.
        plus = (total >= thresholds[0]) != inverted[0]
        assert plus == sign_is_plus(total, scale, bias, low, high)


def sign_is_plus(
    total: int, scale: float, bias: float, low: float | None, high: float | None
) -> bool:
    from fractions import Fraction

    y = total * Fraction(scale) + Fraction(bias)
    y = y if low is None else max(y, Fraction(low))
    return (y if high is None else min(y, Fraction(high))) >= 0


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_random_windows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernel, dilation, stride = (
        tuple(int(i) for i in rng.integers(1, limit, 2)) for limit in (5, 3, 4)
    )
    reach = [dilation[axis % 2] * (kernel[axis % 2] - 1) + 1 for axis in range(4)]
    pads = tuple(int(rng.integers(0, limit)) for limit in reach)
    smallest = [max(1, reach[axis] - pads[axis] - pads[axis + 2]) for axis in (0, 1)]
    size = tuple(int(rng.integers(least, 12)) if least < 12 else 12 for least in smallest)
    case = Case(
        int(rng.integers(1, 200)), int(rng.integers(1, 100)), size, kernel, stride, pads, dilation,
        images=int(rng.integers(1, 3)), around=tuple(int(i) for i in rng.integers(0, 3, 4)),
    )  # fmt: skip
    call = Call(case, seed)
    call.check_signs()
    call.check_planes()
