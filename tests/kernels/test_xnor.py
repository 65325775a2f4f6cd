"""Products of packed signs against the plain reference: every edge of sizes, padding, stride, dilation and groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bwn.kernels import bits, reference, registry, tiles, xnor_tables
from bwn.kernels.xnor_tables import Axis

Pair = tuple[int, int]


@dataclass(frozen=True)
class Case:
    channels: int
    outputs: int
    size: Pair
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    images: int = 1
    around: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Zeros around the output."""

    def __str__(self) -> str:
        return f"c{self.channels}-n{self.outputs}-{self.size}-k{self.kernel}-s{self.stride}-p{self.pads}-d{self.dilation}-g{self.groups}-i{self.images}"  # noqa: E501


def stored(signs: np.ndarray, pads: tuple[int, int, int, int]) -> np.ndarray:
    """Packed positions with zeros around, as kernels store them: (N, rows, columns, words)."""
    images, channels, height, width = signs.shape
    words = bits.pack(signs.transpose(0, 2, 3, 1).reshape(-1, channels)).reshape(images, height, width, -1)
    words = words ^ (words << np.uint64(32))
    return np.pad(words, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)))


class Call:
    """One product with random signs, scales and biases; `run` writes into memory that was full of ones."""

    def __init__(self, case: Case, seed: int = 0, low: float | None = -3.5, high: float | None = 40.0) -> None:
        self.case, rng = case, np.random.default_rng(seed)
        inputs = case.channels // case.groups
        self.x = rng.choice(np.array([-1, 1], np.int8), (case.images, case.channels, *case.size))
        self.w = rng.choice(np.array([-1, 1], np.int8), (case.outputs, inputs, *case.kernel))
        self.sums = reference.conv(self.x, self.w, stride=case.stride, pads=case.pads, dilation=case.dilation,
                                   groups=case.groups)  # fmt: skip
        self.scale = rng.normal(0, 1, case.outputs).astype(np.float32)
        self.scale[rng.random(case.outputs) < 0.1] = 0
        # Halves of sums, so that some results are exactly zero.
        self.bias = (self.scale * rng.integers(-9, 10, case.outputs)).astype(np.float32)
        self.low, self.high = low, high

    def block(self, compares: bool, scratch: np.ndarray) -> np.ndarray:
        case = self.case
        self.packed = stored(self.x, case.pads)
        signs = np.ascontiguousarray(self.w.transpose(0, 2, 3, 1)).reshape(case.outputs, -1, self.w.shape[1])
        (height, width), (kh, kw) = self.sums.shape[2:], case.kernel
        rows, self.class_y = Axis(case.size[0], height, kh, case.stride[0], case.pads[0], case.dilation[0]).classes()
        columns, class_x = Axis(case.size[1], width, kw, case.stride[1], case.pads[1], case.dilation[1]).classes()
        position, line = self.packed.shape[3] * 8, self.packed.shape[2] * self.packed.shape[3] * 8
        self.runs = np.array([y * case.dilation[0] * line + x * case.dilation[1] * position
                              for y in range(kh) for x in range(kw)], np.int64)  # fmt: skip
        base = xnor_tables.base(signs, rows, columns)
        flips = np.zeros(case.outputs, bool)
        if compares:
            depth = signs.shape[1] * signs.shape[2]
            least, flips = xnor_tables.thresholds(self.scale, self.bias, self.low, self.high, depth)
            self.limits = xnor_tables.limits(base, least)
        else:
            self.limits = xnor_tables.in_blocks(base, 0)
        bounds = [-np.inf if self.low is None else self.low, np.inf if self.high is None else self.high]
        self.row = width + 3
        padded = -(-height * self.row // 16) * 16
        top, left, bottom, right = case.around
        if compares:
            grid = (top + height + bottom, left + width + right, bits.words_for(case.outputs))
            self.out = np.full((case.images, *grid), 2**64 - 1, np.uint64)
            places = {"out_image": self.out[0].nbytes, "out_row": self.out[0, 0].nbytes, "out_position": grid[2] * 8}
        else:
            self.out = np.full((case.images, case.outputs, 5 + padded + 16), np.nan, np.float32)
            places = {"out_image": self.out[0].size, "out_row": 0, "out_position": 0}
            grid = (0, 0, 0)
        mask = np.zeros(padded, np.int32)
        mask[: height * self.row].reshape(height, self.row)[:, :width] = -1
        self.kept = [xnor_tables.lay_out(signs), self.class_y * len(columns), class_x,
                     bits.pack(np.where(flips, 1, -1)[None]), mask, np.array(bounds, np.float32)]  # fmt: skip
        words, class_y, classes_x, flip, masks, ends = (array.ctypes.data for array in self.kept)
        kernel = registry.XNOR_SIGNS if compares else registry.XNOR_PLANES
        return kernel.block(
            x=self.packed.ctypes.data, x_image=self.packed[0].nbytes, x_row=line * case.stride[0],
            x_position=position * case.stride[1], x_group=position // case.groups, words=words,
            runs=self.runs.ctypes.data, run_count=len(self.runs), run_pairs=self.packed.shape[3] // case.groups,
            images=case.images, groups=case.groups, blocks=-(-case.outputs // case.groups // 64), height=height,
            width=width, limits=self.limits.ctypes.data, limits_row=self.limits[0].nbytes, class_y=class_y,
            class_x=classes_x, flips=flip, out=self.out.ctypes.data, **places, top=top, left=left, rows=grid[0],
            columns=grid[1], out_plane=5 + padded + 16, out_lead=5, plane_row=self.row, positions=height * self.row,
            outputs=case.outputs, mask=masks, scale=self.scale.ctypes.data, bias=self.bias.ctypes.data, bounds=ends,
            added=0, added_image=0, added_plane=0, added_lead=0, out_step=0, scratch=scratch.ctypes.data,
            scratch_part=tiles.xnor_scratch(),
        )  # fmt: skip

    def run(self, compares: bool, parts: int = 1, only: int | None = None) -> np.ndarray:
        scratch = np.zeros(tiles.xnor_scratch() * parts, np.uint8)
        block = self.block(compares, scratch)
        chunks = self.sums.shape[2] if compares else -(-self.sums.shape[2] * self.row // 16)
        units = chunks * self.case.images * -(-self.case.outputs // 64)
        entry = (registry.XNOR_SIGNS if compares else registry.XNOR_PLANES).entry()
        for part in range(parts) if only is None else [only]:
            entry(block.ctypes.data, units * part // parts, units * (part + 1) // parts, part)
        return self.out

    def expected(self) -> np.ndarray:
        """Outputs as float32 makes them: scale * sum + bias rounded once, then clamped."""
        once = self.sums * self.scale[:, None, None].astype(np.float64) + self.bias[:, None, None]
        return np.clip(once.astype(np.float32), self.low, self.high)

    def check_signs(self, parts: int = 1) -> None:
        signs = np.where(self.expected() >= 0, 1, -1)
        assert np.array_equal(self.run(True, parts), stored(signs, self.case.around)), str(self.case)

    def check_planes(self, parts: int = 1) -> None:
        out = self.run(False, parts)
        height, width = self.sums.shape[2:]
        values = out[:, :, 5 : 5 + height * self.row].reshape(*out.shape[:2], height, self.row)
        # float64 rounds scale * sum + bias a first time, which can differ by one last bit of float32 from rounding once
        np.testing.assert_array_max_ulp(values[..., :width], self.expected(), 1)
        assert not values[..., width:].any()
        assert not out[:, :, :5].any()
        assert not out[:, :, 5 + height * self.row :].any()


CASES = [
    *(Case(channels, 70, (3, 5), (3, 3), pads=(1, 1, 1, 1)) for channels in (1, 31, 32, 33, 63, 64, 65, 127, 128, 129)),
    *(Case(70, outputs, (2, 3), (2, 2)) for outputs in (1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129)),
    *(Case(64, 16, (height, width), (1, 1)) for height in (1, 2) for width in (1, 2, 3, 15, 16, 17, 33)),
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


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_are_exact(case: Case) -> None:
    call = Call(case, 1, None, None)
    call.scale[:], call.bias[:] = 1, 0
    out = call.run(False)
    height, width = call.sums.shape[2:]
    values = out[:, :, 5 : 5 + height * call.row].reshape(*out.shape[:2], height, call.row)[..., :width]
    assert np.array_equal(values, call.sums)


@pytest.mark.parametrize("compares", [True, False])
def test_parts_cover_all_work_and_write_nothing_of_each_other(compares: bool) -> None:
    case = Case(70, 130, (5, 7), (3, 3), pads=(1, 1, 1, 1), images=2, around=(1, 1, 1, 1) if compares else (0,) * 4)
    for parts in (2, 3, 5):
        call = Call(case)
        (call.check_signs if compares else call.check_planes)(parts)
        empty = call.out.dtype.type(2**64 - 1 if compares else np.nan)
        written = np.zeros(call.out.shape, int)
        for part in range(parts):
            out = call.run(compares, parts, part)
            written += (out != empty) if compares else ~np.isnan(out)
        assert (written == 1).all()


@pytest.mark.parametrize("case", [Case(65_601, 3, (1, 2)), Case(7300, 3, (3, 3), (3, 3), pads=(1, 1, 1, 1)),
                                  Case(40, 65_601, (1, 1)), Case(40, 3, (2, 32_801))], ids=str)  # fmt: skip
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
    least, flip = xnor_tables.thresholds(a, b, low, high, depth)
    for total in range(-depth, depth + 1):
        # Exact rational arithmetic: Python's own fractions of the float32 numbers.
        assert ((total >= least[0]) != flip[0]) == sign_is_plus(total, scale, bias, low, high)


def sign_is_plus(total: int, scale: float, bias: float, low: float | None, high: float | None) -> bool:
    from fractions import Fraction

    y = total * Fraction(scale) + Fraction(bias)
    y = y if low is None else max(y, Fraction(low))
    return (y if high is None else min(y, Fraction(high))) >= 0


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_random_windows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernel, dilation, stride = (tuple(int(i) for i in rng.integers(1, most, 2)) for most in (5, 3, 4))
    reach = [dilation[axis % 2] * (kernel[axis % 2] - 1) + 1 for axis in range(4)]
    pads = tuple(int(rng.integers(0, most)) for most in reach)
    size = tuple(int(rng.integers(max(1, reach[axis] - pads[axis] - pads[axis + 2]), 12)) if
                 reach[axis] - pads[axis] - pads[axis + 2] < 12 else 12 for axis in (0, 1))  # fmt: skip
    case = Case(int(rng.integers(1, 200)), int(rng.integers(1, 100)), size, kernel, stride, pads, dilation,
                images=int(rng.integers(1, 3)), around=tuple(int(i) for i in rng.integers(0, 3, 4)))  # fmt: skip
    call = Call(case, seed)
    call.check_signs()
    call.check_planes()
