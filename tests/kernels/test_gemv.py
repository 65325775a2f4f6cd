"""GEMV: weights packed for channels in the lanes; 16 outputs written at once; counted bits."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwn.kernels import bits
from bwn.kernels.gemm.epilogue import gemm_params, write_channels, write_one
from bwn.kernels.gemm.gemm_params import GemmParams
from bwn.kernels.gemm.gemv_packing import (
    AVX2_FLOAT_LAYOUT,
    AVX512_FLOAT_LAYOUT,
    BYTE_SAFE_WORDS,
    BYTES_OF_4_LAYOUT,
    BYTES_OF_5_LAYOUT,
    SHORT_LAYOUT,
    SIGNS_LAYOUT,
    SPLIT_LAYOUT,
    GemvLayout,
    pack_bytes,
    pack_dots,
)
from bwn.kernels.gemm.gemv_xnor import subtract_differences
from bwn.kernels.params import Activation
from bwn.kernels.simd.scalars import get_f32
from bwn.kernels.simd.vectors import F32, I8, I64, load, zeros
from bwn.plan.reciprocal_rounding import rounding

LAYOUTS = [
    (AVX512_FLOAT_LAYOUT, 16, 30, np.uint32),
    (AVX2_FLOAT_LAYOUT, 8, 30, np.uint32),
    (SHORT_LAYOUT, 32, 15, np.uint16),
    (SPLIT_LAYOUT, 16, 8, np.uint8),
    (SIGNS_LAYOUT, 8, 64, np.uint64),
]


@given(st.integers(1, 70), st.integers(1, 200), st.sampled_from(LAYOUTS), st.integers(0, 2**32))
def test_lanes_hold_the_rows_in_order(
    count: int, depth: int, case: tuple[GemvLayout, int, int, type], seed: int
) -> None:
    layout, lanes, inputs, element = case
    signs = np.random.default_rng(seed).integers(0, 2, (count, depth)) * 2 - 1
    packed = layout.pack(bits.pack(signs))
    assert packed.dtype == element
    assert packed.shape[2] == lanes
    for row, block, lane in ((0, 0, 0), (count - 1, (count - 1) // lanes, (count - 1) % lanes)):
        row_bits = [int(packed[block, k // inputs, lane]) >> k % inputs & 1 for k in range(depth)]
        assert row_bits == [int(sign > 0) for sign in signs[row]]
    assert sum(map(int.bit_count, map(int, packed.ravel()))) == (signs > 0).sum()


@given(
    st.integers(1, 70),
    st.integers(1, 200),
    st.sampled_from([BYTES_OF_4_LAYOUT, BYTES_OF_5_LAYOUT]),
    st.integers(0, 2**32),
)
def test_bytes_hold_each_bit_of_a_piece_where_the_kernel_finds_it(
    count: int, depth: int, layout: GemvLayout, seed: int
) -> None:
    signs = np.random.default_rng(seed).integers(0, 2, (count, depth)) * 2 - 1
    packed = pack_bytes(bits.pack(signs), layout)
    assert packed.flags.c_contiguous
    assert packed.dtype == np.uint8
    assert packed.shape[2:] == (4, 32)
    places = list(range(32)) if layout.group == 4 else [*range(13), 14, 15, *range(16, 29), 30, 31]
    for row in (0, count // 2, count - 1):
        octets = packed[row // 32, :, :, row % 32].reshape(-1, 4)
        pieces = np.unpackbits(octets, axis=1, bitorder="little")[:, places]
        assert pieces.ravel()[:depth].tolist() == (signs[row] > 0).tolist()
    assert np.bitwise_count(packed).sum() == (signs > 0).sum()


@given(st.integers(1, 70), st.integers(1, 200), st.integers(0, 2**32))
def test_dots_find_the_weights_of_32_rows_in_each_register(
    count: int, depth: int, seed: int
) -> None:
    signs = np.random.default_rng(seed).integers(0, 2, (count, depth)) * 2 - 1
    packed = pack_dots(bits.pack(signs))
    assert packed.flags.c_contiguous
    assert packed.shape[1:] == (-(-depth // 64) * 4, 4, 4, 4)
    for row in (0, count // 2, count - 1):
        block, (j, c) = row // 32, divmod(row % 32, 4)
        row_bits = [
            int(packed[block, k // 16, k // 4 % 4, c, k % 4]) >> j & 1 for k in range(depth)
        ]
        assert row_bits == [int(sign > 0) for sign in signs[row]]
    assert sum(map(int.bit_count, map(int, packed.ravel()))) == (signs > 0).sum()


@numba.njit
def write_each(p: int, totals: int, n: int, step: float) -> None:
    f = gemm_params(p)
    for channel in range(n, n + 16):
        write_one(f, get_f32(totals, channel), 1, channel, 2, step)


@numba.njit
def write_all(p: int, totals: int, n: int, step: float) -> None:
    write_channels(gemm_params(p), load(F32, totals, n), 1, n, 2, step)


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("activation", list(Activation))
def test_sixteen_channels_at_once_end_in_the_bits_of_each_alone(
    added: bool, quantized: bool, activation: Activation
) -> None:
    rng = np.random.default_rng(0)
    totals, scale, bias = rng.normal(0, 9, (3, 20)).astype(np.float32)
    totals[[3, 5, 7]] = np.nan, np.inf, -np.inf
    totals[8], bias[8] = 0, 0  # rounds a half
    bounds = np.array([-40, 50, -30, np.inf, 0, 254], np.float32)
    others = rng.normal(0, 9, (2, 20, 7)).astype(np.float32)
    rounded = rounding(0.25, (0, 254), (-40.0, 50.0))
    outputs = []
    for write in (write_each, write_all):
        out = np.full((2, 20, 9), 7, np.int8 if quantized else np.float32)
        values = dict.fromkeys(GemmParams.fields, 0) | {
            "scale": scale.ctypes.data, "bias": bias.ctypes.data, "bounds": bounds.ctypes.data,
            "out": out.ctypes.data, "out_image": 20 * 9, "out_plane": 9, "out_lead": 3,
            "rounding": rounded.ctypes.data if quantized else 0, "activation": activation,
            "added": others.ctypes.data if added else 0, "added_image": 20 * 7, "added_plane": 7,
            "added_lead": 1,
        }  # fmt: skip
        block = np.array(GemmParams(**values), np.int64)
        write(block.ctypes.data, totals.ctypes.data, 2, np.float32(0.5))
        outputs.append(out)
    assert (outputs[0][1, 2:18, 5] != 7).all()
    assert (outputs[0] == 7).sum() == outputs[0].size - 16
    assert outputs[0].tobytes() == outputs[1].tobytes()


counts_in_bytes = numba.njit(
    lambda b, w, t, n: subtract_differences(zeros(I8, 2), BYTE_SAFE_WORDS, n, b, w, t)
)
counts_in_words = numba.njit(
    lambda b, w, t, n: subtract_differences(zeros(I64, 2), 2**31, n, b, w, t)
)


@pytest.mark.parametrize("count", [counts_in_bytes, counts_in_words], ids=["bytes", "words"])
@pytest.mark.parametrize("words", [1, 2, 30, 31, 32, 62, 63, 200])
def test_differing_bits_are_counted_at_any_depth(count, words: int) -> None:
    # Both ways of counting, whichever this CPU would take; row 0 differs everywhere.
    rng = np.random.default_rng(words)
    bits, mask = rng.integers(0, 2**64, (2, words), np.uint64)
    mask[: words // 2] = 2**64 - 1
    rows = rng.integers(0, 2**64, (16, words), np.uint64)
    rows[0] = ~bits
    block = np.concatenate([bits, mask])
    packed = np.ascontiguousarray(rows.reshape(2, 8, words).transpose(0, 2, 1))
    totals = np.full(16, 7, np.int32)
    count(block.ctypes.data, packed.ctypes.data, totals.ctypes.data, words)
    np.testing.assert_array_equal(
        totals, 7 - 2 * np.bitwise_count((rows ^ bits) & mask).sum(1, dtype=np.int64)
    )
