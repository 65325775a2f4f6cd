"""Pooling against the reference, over windows, strides, padding and widths around every edge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bwn.kernels import reference
from bwn.kernels.registry import AVERAGE, MAX_F32, MAX_I8, Kernel

EPSILON = np.finfo(np.float32).eps
Pair = tuple[int, int]


@dataclass(frozen=True)
class Case:
    height: int
    width: int
    kernel: Pair
    stride: Pair
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    images: int = 1
    channels: int = 2
    count_pads: bool = False
    nans: int = 0

    @property
    def fits(self) -> bool:
        return (
            self.height + self.pads[0] + self.pads[2] >= self.kernel[0]
            and self.width + self.pads[1] + self.pads[3] >= self.kernel[1]
        )


def run(kernel: Kernel, case: Case, parts: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Output planes, with what should be zero, and the values of the input."""
    rng = np.random.default_rng([case.height, case.width, *case.kernel, *case.stride, case.nans])
    kind, rest = (np.int8, 127) if kernel is MAX_I8 else (np.float32, np.nan)
    row, lead = case.width + 3, 2 * case.width + 5
    plane = -(-(lead + case.height * row) // 16) * 16
    # What lies around the values must not be seen at all: it is larger than any of them, or a NaN.
    room = np.full((case.images, case.channels, plane), rest, kind)
    planes = room[:, :, lead : lead + case.height * row].reshape(
        case.images, case.channels, case.height, row
    )
    values = rng.normal(0, 1, (case.images, case.channels, case.height, case.width)) - 2
    values = (
        (values * 20).clip(-128, 0).astype(np.int8)
        if kind == np.int8
        else values.astype(np.float32)
    )
    for _ in range(case.nans):
        values[tuple(rng.integers(0, size) for size in values.shape)] = np.nan
    planes[..., : case.width] = values
    expected = wanted(kernel, case, values)
    out_row, out_lead = expected.shape[3] + 2, 7
    out_plane = -(-(out_lead + expected.shape[2] * out_row) // 16) * 16 + 16
    out = np.full((case.images, case.channels, out_plane), 77, kind)
    block = kernel.block(
        x=room.ctypes.data, x_image=room[0].size, x_plane=plane, x_lead=lead, x_row=row,
        height=case.height, width=case.width, out=out.ctypes.data, out_image=out[0].size,
        out_plane=out_plane, out_lead=out_lead, out_row=out_row, out_height=expected.shape[2],
        out_width=expected.shape[3],
        channels=case.channels, kernel_y=case.kernel[0], kernel_x=case.kernel[1],
        stride_y=case.stride[0], stride_x=case.stride[1], top=case.pads[0], left=case.pads[1],
        window=case.kernel[0] * case.kernel[1] if case.count_pads else 0,
    )  # fmt: skip
    units = case.images * case.channels
    for part in range(parts):
        kernel.entry()(block.ctypes.data, units * part // parts, units * (part + 1) // parts, part)
    size = expected.shape[2] * out_row
    rows = out[:, :, out_lead : out_lead + size].reshape(*expected.shape[:3], out_row)
    margins = np.delete(out, np.s_[out_lead : out_lead + size], axis=2)
    assert not margins.any(), "margins are not zero"
    assert not rows[..., expected.shape[3] :].any(), "slack is not zero"
    return rows[..., : expected.shape[3]], expected


def wanted(kernel: Kernel, case: Case, values: np.ndarray) -> np.ndarray:
    return reference.pool(
        values, "average" if kernel is AVERAGE else "max",
        kernel=case.kernel, stride=case.stride, pads=case.pads, count_pads=case.count_pads,
    )  # fmt: skip


def check(kernel: Kernel, case: Case, parts: int = 1) -> None:
    actual, expected = run(kernel, case, parts)
    if kernel is not AVERAGE:
        np.testing.assert_array_equal(actual, expected, err_msg=str(case))
        return
    allowed = (
        EPSILON
        * (case.kernel[0] * case.kernel[1] + 8)
        * max(1, np.nanmax(np.abs(expected), initial=0))
    )
    np.testing.assert_allclose(actual, expected, rtol=0, atol=allowed, err_msg=str(case))


KERNELS = pytest.mark.parametrize(
    "kernel", [MAX_F32, MAX_I8, AVERAGE], ids=lambda kernel: kernel.name
)


@KERNELS
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_width(kernel: Kernel, stride: int, size: int) -> None:
    for width, pad in product([*range(size, 24), 31, 32, 33, 64, 65, 70], range(size)):
        check(kernel, Case(5, width, (size, size), (stride, stride), (pad, pad, pad, pad)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kernel = draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    pads = tuple(draw(st.integers(0, kernel[axis % 2] - 1)) for axis in range(4))
    return Case(
        height=draw(st.integers(1, 20)), width=draw(st.integers(1, 80)), kernel=kernel,
        stride=draw(st.tuples(st.integers(1, 4), st.integers(1, 4))), pads=pads,
        images=draw(st.integers(1, 2)),
        channels=draw(st.integers(1, 3)), count_pads=draw(st.booleans()),
    )  # fmt: skip


@KERNELS
@settings(max_examples=150, deadline=None, derandomize=True)
@given(case=cases().filter(lambda case: case.fits))
def test_any_window(kernel: Kernel, case: Case) -> None:
    check(kernel, case, parts=min(2, case.images * case.channels))


@pytest.mark.parametrize("kernel", [MAX_F32, AVERAGE], ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_nan_makes_its_windows_nan_and_no_other(kernel: Kernel, size: int, stride: int) -> None:
    for width in (9, 13, 40, 41):
        case = Case(11, width, (size, size), (stride, stride), (1, 1, 1, 1), nans=4)
        assert np.isnan(run(kernel, case)[1]).any()
        check(kernel, case)


@KERNELS
def test_a_whole_map_is_one_window(kernel: Kernel) -> None:
    check(kernel, Case(7, 7, (7, 7), (1, 1), images=2, channels=5))
    check(kernel, Case(8, 64, (8, 64), (1, 1)))
    for width in (1, 3, 15, 16, 17, 31, 33):
        nans = int(kernel is AVERAGE and width % 2 == 0)
        check(kernel, Case(5, width, (5, width), (1, 1), images=2, nans=nans), parts=2)
        padded = Case(5, width, (6, width + 2), (1, 1), pads=(1, 1, 0, 1))
        check(kernel, padded)
        check(kernel, replace(padded, count_pads=True))


@KERNELS
def test_more_than_65536_columns(kernel: Kernel) -> None:
    for stride in (1, 2, 3):
        check(kernel, Case(2, 65_601, (2, 2), (stride, stride)))
