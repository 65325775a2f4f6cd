"""What a GEMM of packed signs reads besides activations, prepared with the plan: packed weights,
and what turns a count of differing bits into a sum or into a sign, for each class of positions and
each channel.

A class is a set of taps that lie inside the image. Its sums are base - 2 * D (see `xnor.py`): base
corrects for the zeros that taps outside the image read.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bwn.kernels import bits
from bwn.kernels.simd.widths import BLOCK, BLOCK_VECTORS, LANES, VECTOR_BYTES, xor_halves

NEVER = -1
"""A threshold that no count keeps within."""

Ints = npt.NDArray[np.int64]


class Axis(NamedTuple):
    """Where taps fall along one axis: input coordinate = output * stride + tap * dilation - pad."""

    size: int
    outputs: int
    kernel: int
    stride: int = 1
    pad: int = 0
    dilation: int = 1

    def classes(self) -> tuple[npt.NDArray[np.bool_], Ints]:
        """Classes of outputs.

        Returns:
            taps: (classes, kernel) bool, which taps are inside.
            class_of: (outputs,) int64, the class of each output.
        """
        starts = np.arange(self.outputs)[:, None] * self.stride - self.pad
        coordinates = starts + np.arange(self.kernel) * self.dilation
        inside = (coordinates >= 0) & (coordinates < self.size)
        taps, class_of = np.unique(inside, axis=0, return_inverse=True)
        return taps, class_of.reshape(-1).astype(np.int64)


def pack(signs: npt.NDArray[np.int8]) -> npt.NDArray[np.uint32]:
    """Pack weights: pairs of words, first and second half as stored, the channels of a block side
    by side.

    Args:
        signs: (outputs, taps, channels) int8, +-1, taps in the order in which the runs meet them.

    Returns:
        (blocks, taps, pairs, 2, 4, 16) uint32; missing outputs and channels are zero.
    """
    outputs, taps, channels = signs.shape
    blocks, pairs = -(-outputs // BLOCK), bits.words_for(channels)
    words = np.zeros((blocks * BLOCK, taps, pairs), np.uint64)
    for first in range(0, outputs, BLOCK):  # a copy of all at once would double the memory
        rows = signs[first : first + BLOCK]
        packed = bits.pack(rows.reshape(-1, channels)).reshape(-1, taps, pairs)
        words[first : first + len(rows)] = xor_halves(packed)
    low, high = words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)
    halves = np.stack([low, high], axis=-1).astype(np.uint32)
    lanes = halves.reshape(blocks, BLOCK_VECTORS, LANES, taps, pairs, 2).transpose(0, 3, 4, 5, 1, 2)
    # A vector across two cache lines costs two loads.
    memory = np.empty(lanes.size + VECTOR_BYTES // 4, np.uint32)
    start = -memory.ctypes.data % VECTOR_BYTES // 4
    aligned = memory[start : start + lanes.size].reshape(lanes.shape)
    aligned[...] = lanes
    return aligned


def base_sums(
    signs: npt.NDArray[np.int8], rows: npt.NDArray[np.bool_], columns: npt.NDArray[np.bool_]
) -> Ints:
    """The sum of each class of positions and each output where no bit differs.

    Args:
        signs: (outputs, taps, channels) int8.
        rows: (classes of rows, kernel height) bool, taps that are inside.
        columns: (classes of columns, kernel width) bool, taps that are inside.

    Returns:
        (classes of rows * classes of columns, outputs) int64.
    """
    taps_inside = rows[:, None, :, None] & columns[None, :, None, :]
    inside = taps_inside.reshape(len(rows) * len(columns), -1)
    channels = signs.shape[2]
    ones = (signs.sum(axis=2, dtype=np.int64) + channels) // 2  # (outputs, taps)
    outside: Ints = (~inside).astype(np.int64) @ ones.T  # bits that differ from zeros
    return np.asarray(inside.sum(axis=1)[:, None] * channels + 2 * outside)


def sum_thresholds(
    scale: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    low: float | None,
    high: float | None,
    depth: int,
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """The sums from which clamp(scale * sum + bias, low, high) changes its sign, of integers within
    +-K.

    Args:
        scale: (outputs,) float32, finite.
        bias: (outputs,) float32, finite.
        low: Lower bound, or None.
        high: Upper bound, or None.
        depth: K.

    Returns:
        thresholds: (outputs,) int64.
        inverted: (outputs,) bool, so that the sign is +1 exactly where (sum >= threshold) !=
        inverted.
    """
    # float64 holds scale * sum, and rounding scale * sum + bias, to float64 or to float32, never
    # changes its sign: both are multiples of the smallest float32.
    a, b, inverted = scale.astype(np.float64), bias.astype(np.float64), scale < 0
    lower = -np.inf if low is None else np.float64(np.float32(low))
    upper = np.inf if high is None else np.float64(np.float32(high))
    below = np.full(len(a), -depth - 1)  # where the sign is still `inverted`'s
    above = np.full(len(a), depth + 1)  # where it no longer is
    while (above - below > 1).any():
        middle = (below + above) // 2
        changed = (np.minimum(np.maximum(a * middle + b, lower), upper) >= 0) != inverted
        above, below = np.where(changed, middle, above), np.where(changed, below, middle)
    return above, inverted


def max_differences(base: Ints, thresholds: Ints) -> npt.NDArray[np.int32]:
    """How many bits may differ so that base - 2 * D reaches the threshold.

    Args:
        base: (classes, outputs) int64, see `base_sums`.
        thresholds: (outputs,) int64, see `sum_thresholds`.

    Returns:
        (classes, outputs in whole blocks) int32.
    """
    return in_blocks((base - thresholds) // 2, NEVER)


def in_blocks(rows: Ints, fill: int) -> npt.NDArray[np.int32]:
    """Rows of outputs, filled up to whole blocks: (classes, blocks * 64) int32."""
    padded = np.full((len(rows), -(-rows.shape[1] // BLOCK) * BLOCK), fill, np.int32)
    padded[:, : rows.shape[1]] = rows
    return padded
