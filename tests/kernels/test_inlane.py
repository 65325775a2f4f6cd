"""Weights laid out for channels in the lanes."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwn.kernels import bits
from bwn.kernels.inlane_signs import count_bits
from bwn.kernels.lanes import BYTE_SAFE_WORDS, lay_out
from bwn.kernels.lookup import no_sums
from bwn.kernels.vectors import I8, I64

FORMS = [(16, 30, np.uint32), (8, 30, np.uint32), (32, 15, np.uint16), (32, 8, np.uint8), (8, 64, np.uint64)]


@given(st.integers(1, 70), st.integers(1, 200), st.sampled_from(FORMS), st.integers(0, 2**32))
def test_lanes_hold_the_rows_in_order(count: int, depth: int, form: tuple[int, int, type], seed: int) -> None:
    lanes, inputs, element = form
    signs = np.random.default_rng(seed).integers(0, 2, (count, depth)) * 2 - 1
    laid = lay_out(bits.pack(signs), lanes, inputs, element)
    assert laid.dtype == element
    assert laid.shape[2] == lanes
    for row, block, lane in ((0, 0, 0), (count - 1, (count - 1) // lanes, (count - 1) % lanes)):
        found = [int(laid[block, k // inputs, lane]) >> k % inputs & 1 for k in range(depth)]
        assert found == [int(sign > 0) for sign in signs[row]]
    assert sum(map(int.bit_count, map(int, laid.ravel()))) == (signs > 0).sum()


counts_in_bytes = numba.njit(lambda b, w, t, n: count_bits(no_sums(I8, 2), BYTE_SAFE_WORDS, n, b, w, t))
counts_in_words = numba.njit(lambda b, w, t, n: count_bits(no_sums(I64, 2), 2**31, n, b, w, t))


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
    laid = np.ascontiguousarray(rows.reshape(2, 8, words).transpose(0, 2, 1))
    totals = np.full(16, 7, np.int32)
    count(block.ctypes.data, laid.ctypes.data, totals.ctypes.data, words)
    np.testing.assert_array_equal(totals, 7 - 2 * np.bitwise_count((rows ^ bits) & mask).sum(1, dtype=np.int64))
