"""Vector operations, one by one, against numpy."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import pytest

from bwn.kernels.simd.arithmetic import (
    fma,
    greatest,
    keep,
    magnitude,
    maximum,
    minimum,
    nearest,
    share,
    sign_of,
    to_int,
    widen,
)
from bwn.kernels.simd.bit_lanes import signed
from bwn.kernels.simd.scalars import get_f32, get_u64, popcount, put_f32
from bwn.kernels.simd.shuffles import (
    first_lane,
    halves,
    load_second,
    sum_of_lanes,
    take_value,
    top_lane,
    top_of_lanes,
    total,
    transpose,
)
from bwn.kernels.simd.vectors import (
    F32,
    F32_4,
    F32_HALF,
    I8,
    I8_4,
    I8_16,
    I16,
    I32,
    load,
    load_bytes,
    marker,
    splat,
    store,
    store_bytes,
    zero,
)
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import intrinsic

I32_HALF = marker(numba.types.int32, 8)


@intrinsic
def take(table, indices):
    """take(table, indices): what kernels do by `take_value`, of a tuple of vectors."""

    def gen(builder, args):
        parts = [builder.extract_value(args[0], part) for part in range(table.count)]
        return take_value(builder, table.dtype, parts, args[1])

    return table.dtype(table, indices), gen


SPECIAL = [
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    1e-40,
    3e38,
    np.inf,
    -np.inf,
    127.4,
    -127.6,
    1.0,
    -1.0,
    7.0,
]
FLOATS = np.array(SPECIAL, np.float32)
OTHERS = np.roll(FLOATS, 3)


def apply(function: Callable[..., None], out: np.ndarray, *arrays: np.ndarray) -> np.ndarray:
    # Addresses are off by one element, so that nothing rests on alignment.
    shifted = [np.concatenate([array[:1], array]) for array in arrays]
    room = np.zeros(len(out) + 1, out.dtype)
    addresses = [array.ctypes.data + array.itemsize for array in shifted]
    numba.njit(function)(room.ctypes.data + room.itemsize, *addresses)
    return room[1:]


def same(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_float_arithmetic() -> None:
    def add(out, a, b):
        store(out, 0, load(F32, a, 0) + load(F32, b, 0))

    def sub(out, a, b):
        store(out, 0, load(F32, a, 0) - load(F32, b, 0))

    def mul(out, a, b):
        store(out, 0, load(F32, a, 0) * load(F32, b, 0))

    def div(out, a, b):
        store(out, 0, load(F32, a, 0) / load(F32, b, 0))

    def low(out, a, b):
        store(out, 0, minimum(load(F32, a, 0), load(F32, b, 0)))

    def high(out, a, b):
        store(out, 0, maximum(load(F32, a, 0), load(F32, b, 0)))

    for ours, theirs in (
        (add, np.add), (sub, np.subtract), (mul, np.multiply), (div, np.divide),
        (low, np.minimum), (high, np.maximum),
    ):  # fmt: skip
        same(apply(ours, FLOATS, FLOATS, OTHERS), theirs(FLOATS, OTHERS))


def test_float_functions() -> None:
    def absolute(out, a):
        store(out, 0, magnitude(load(F32, a, 0)))

    def rounded(out, a):
        store(out, 0, nearest(load(F32, a, 0)))

    same(apply(absolute, FLOATS, FLOATS), np.abs(FLOATS))
    same(apply(rounded, FLOATS, FLOATS), np.rint(FLOATS))


def test_fused_multiply_add_rounds_once() -> None:
    def fused(out, a, b, c):
        store(out, 0, fma(load(F32, a, 0), load(F32, b, 0), load(F32, c, 0)))

    x = np.full(16, 1 + 2**-12, np.float32)
    expected = (x.astype(np.float64) ** 2 - 1).astype(np.float32)
    same(apply(fused, x, x, x, np.full(16, -1, np.float32)), expected)


def test_masks_and_signs() -> None:
    mask = np.array([-1, 0] * 8, np.int32)
    values = FLOATS.copy()
    values[1] = np.nan

    def kept(out, a, m):
        store(out, 0, keep(load(F32, a, 0), load(I32, m, 0)))

    def signs(out, a):
        store(out, 0, sign_of(load(F32, a, 0)))

    def octets(out, a, m):
        store_bytes(out, 0, sign_of(load(F32, a, 0)), load(I32, m, 0))

    same(apply(kept, FLOATS, values, mask), np.where(mask, FLOATS, 0))
    expected = np.where(values >= 0, 1, -1).astype(np.int32)
    same(apply(signs, expected, values), expected)
    same(apply(octets, np.zeros(16, np.int8), values, mask), (expected & mask).astype(np.int8))


def test_conversions() -> None:
    integers = np.arange(-8, 8, dtype=np.int32) * 100_003
    octets = np.arange(-8, 8, dtype=np.int8)

    def whole(out, a):
        store(out, 0, to_int(load(F32, a, 0)))

    def from_bytes(out, a):
        store(out, 0, load_bytes(a, 0))

    small = np.array([*np.linspace(-130, 130, 15), np.nan], np.float32)
    same(apply(whole, integers, small), np.trunc(np.nan_to_num(small)).astype(np.int32))
    same(apply(from_bytes, FLOATS, octets), octets.astype(np.float32))


def test_halves_and_widening() -> None:
    octets = np.arange(-64, 64, 2).astype(np.int8)
    shorts = np.arange(-32, 32, 2).astype(np.int16) * 900

    def wide8(out, a):
        low, high = halves(load(I8, a, 0))
        store(out, 0, widen(low))
        store(out, 32, widen(high))

    def wide16(out, a):
        low, high = halves(load(I16, a, 0))
        store(out, 0, widen(low))
        store(out, 16, widen(high))

    same(apply(wide8, np.zeros(64, np.int16), octets), octets.astype(np.int16))
    same(apply(wide16, np.zeros(32, np.int32), shorts), shorts.astype(np.int32))


def test_signs_from_bits() -> None:
    rng = np.random.default_rng(0)
    word = rng.integers(0, 2**64, 1, dtype=np.uint64)
    bits = np.unpackbits(word.view(np.uint8), bitorder="little").astype(bool)
    octets = rng.integers(-127, 128, 64).astype(np.int8)

    def floats(out, a, w):
        store(out, 0, signed(load(F32, a, 0), get_u64(w, 0)))

    def bytes_(out, a, w):
        store(out, 0, signed(load(I8, a, 0), get_u64(w, 0)))

    same(apply(floats, FLOATS, FLOATS, word), np.where(bits[:16], FLOATS, -FLOATS))
    same(apply(bytes_, octets, octets, word), np.where(bits, octets, -octets))


def test_reductions_and_constants() -> None:
    values = np.arange(16, dtype=np.float32) ** 2
    values[3] = np.nan

    def largest(out, a):
        store(out, 0, splat(F32, top_lane(load(F32, a, 0))))

    def sums(out, a):
        store(out, 0, splat(I32, total(load(I32, a, 0))))

    def nothing(out):
        store(out, 0, zero(F32))

    same(apply(largest, FLOATS, values), np.full(16, 225, np.float32))
    integers = np.arange(16, dtype=np.int32) * 1000
    same(apply(sums, integers, integers), np.full(16, 120_000, np.int32))
    same(apply(nothing, FLOATS), np.zeros(16, np.float32))


def test_all_lanes_combined_in_every_lane() -> None:
    numbers = np.arange(16, dtype=np.float32) - 3
    poisoned = numbers.copy()
    poisoned[5] = np.nan

    def whole(out, a):
        store(out, 0, sum_of_lanes(load(F32, a, 0)))

    def top(out, a):
        store(out, 0, top_of_lanes(load(F32, a, 0)))

    def first(out, a):
        put_f32(out, 0, first_lane(load(F32, a, 0)))

    same(apply(whole, FLOATS, numbers), np.full(16, 72, np.float32))
    same(apply(top, FLOATS, numbers), np.full(16, 12, np.float32))
    same(apply(top, FLOATS, -np.roll(numbers, 7)), np.full(16, 3, np.float32))
    same(apply(top, FLOATS, poisoned), np.full(16, np.nan, np.float32))
    same(apply(first, FLOATS[:1], numbers), numbers[:1])


@pytest.mark.parametrize("value", [0, 1, 2**63, 2**64 - 1, 0x0123456789ABCDEF])
def test_popcount(value: int) -> None:
    count = numba.njit(lambda word: popcount(word))
    assert count(np.uint64(value)) == value.bit_count()


def test_every_second_element() -> None:
    octets = np.arange(-31, 0, dtype=np.int8)

    def floats(out, a):
        store(out, 0, load_second(F32, a, 0))

    def four(out, a):
        store(out, 0, load_second(F32_4, a, 3))

    def bytes_(out, a):
        store(out, 0, load_second(I8_16, a, 0))

    def four_bytes(out, a):
        store(out, 0, load_second(I8_4, a, 2))

    numbers = np.arange(31, dtype=np.float32)
    same(apply(floats, np.zeros(16, np.float32), numbers), numbers[::2])
    same(apply(four, np.zeros(4, np.float32), numbers), numbers[3:10:2])
    same(apply(bytes_, np.zeros(16, np.int8), octets), octets[::2])
    same(apply(four_bytes, np.zeros(4, np.int8), octets), octets[2:9:2])


def test_the_greatest_is_a_nan_where_either_is() -> None:
    a, b = FLOATS.copy(), OTHERS.copy()
    a[[1, 5]], b[[2, 5]] = np.nan, np.nan
    rng = np.random.default_rng(0)
    x, y = rng.integers(-128, 128, (2, 64)).astype(np.int8)

    def floats(out, a, b):
        store(out, 0, greatest(load(F32, a, 0), load(F32, b, 0)))

    def one_by_one(out, a, b):
        for i in range(16):
            put_f32(out, i, greatest(get_f32(a, i), get_f32(b, i)))

    def octets(out, a, b):
        store(out, 0, greatest(load(I8, a, 0), load(I8, b, 0)))

    same(apply(floats, FLOATS, a, b), np.maximum(a, b))
    same(apply(one_by_one, FLOATS, a, b), np.maximum(a, b))
    same(apply(octets, x, x, y), np.maximum(x, y))


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_division_by_a_number() -> None:
    def lanes(out, a):
        store(out, 0, share(load(F32, a, 0), np.float32(3.0)))

    def number(out, a):
        put_f32(out, 0, share(get_f32(a, 0), np.float32(3.0)))

    same(apply(lanes, FLOATS, FLOATS), FLOATS / np.float32(3))
    same(apply(number, FLOATS[:1], FLOATS[6:7]), FLOATS[6:7] / np.float32(3))


@pytest.mark.skipif(
    "avx2" not in features(), reason="only x86 takes from a table of float32 in one instruction"
)
def test_taking_from_a_table() -> None:
    numbers = np.random.default_rng(1).integers(0, 2**31, 32).astype(np.int32)

    def eight(out, table, numbers):
        store(out, 0, take((load(F32_HALF, table, 0),), load(I32_HALF, numbers, 0)))

    def sixteen(out, table, numbers):
        store(out, 0, take((load(F32, table, 0),), load(I32, numbers, 0)))

    def two_registers(out, table, numbers):
        store(out, 0, take((load(F32, table, 0), load(F32, table, 16)), load(I32, numbers, 0)))

    def thirty_two(out, table, numbers):
        store(out, 0, take((load(I16, table, 0),), load(I16, numbers, 0)))

    same(apply(eight, FLOATS[:8], FLOATS, numbers), FLOATS[numbers[:8] % 8])
    if "avx512bw" in features():
        same(apply(sixteen, FLOATS, FLOATS, numbers), FLOATS[numbers[:16] % 16])
        both = np.arange(32, dtype=np.float32)
        same(apply(two_registers, FLOATS, both, numbers), both[numbers[:16] % 32])
        short, table = numbers.astype(np.int16), np.arange(32, dtype=np.int16) * 999
        same(apply(thirty_two, table, table, short), table[short % 32])


def test_transposing() -> None:
    numbers = np.arange(16 * 20, dtype=np.int32).reshape(16, 20)

    def turn(out, a):
        transpose(out, a, 20 * 4)

    same(apply(turn, np.zeros(256, np.int32), numbers.ravel()), numbers[:, :16].T.ravel())
