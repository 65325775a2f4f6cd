"""What a product of packed signs reads beside the activations, made once when the plan is: weights laid out for its
lanes, and per class of positions and channel what turns a count of differing bits into a sum or into a sign.

A class is a set of taps that lie inside the image. Its sums are base - 2 * D (see `xnor.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bwn.kernels import bits
from bwn.kernels.simd.widths import BLOCK, BLOCK_VECTORS, LANES, VECTOR_BYTES, xor_halves

DEEPEST = 2**24
"""Below this, float32 holds every sum."""
NEVER = -1
"""A limit that no count keeps within."""

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
        """Sets of taps inside: (classes, kernel) bool, and the class of each output: (outputs,) int64."""
        places = (
            np.arange(self.outputs)[:, None] * self.stride
            + np.arange(self.kernel) * self.dilation
            - self.pad
        )
        sets, which = np.unique((places >= 0) & (places < self.size), axis=0, return_inverse=True)
        return sets, which.reshape(-1).astype(np.int64)


def lay_out(signs: npt.NDArray[np.int8]) -> npt.NDArray[np.uint32]:
    """Weights for the lanes of a product: pairs of words, first and second half (as `xor_halves` stores them), the
    channels of a block side by side.

    signs: (outputs, taps, channels) int8, +-1, taps in the order in which the runs meet them.
    Returns (blocks, taps, pairs, 2, 4, 16) uint32; missing outputs and channels are zero.
    """
    outputs, taps, channels = signs.shape
    blocks, pairs = -(-outputs // BLOCK), bits.words_for(channels)
    words = np.zeros((blocks * BLOCK, taps, pairs), np.uint64)
    for first in range(
        0, outputs, BLOCK
    ):  # of all at once, more than one copy would stand in memory
        some = signs[first : first + BLOCK]
        words[first : first + len(some)] = xor_halves(
            bits.pack(some.reshape(-1, channels)).reshape(-1, taps, pairs)
        )
    halves = np.stack([words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)], axis=-1).astype(
        np.uint32
    )
    both = halves.reshape(blocks, BLOCK_VECTORS, LANES, taps, pairs, 2)
    made = both.transpose(0, 3, 4, 5, 1, 2)
    room = np.empty(made.size + VECTOR_BYTES // 4, np.uint32)
    start = (
        -room.ctypes.data % VECTOR_BYTES // 4
    )  # a vector that lies over two cache lines costs two loads
    aligned = room[start : start + made.size].reshape(made.shape)
    aligned[...] = made
    return aligned


def base(
    signs: npt.NDArray[np.int8], rows: npt.NDArray[np.bool_], columns: npt.NDArray[np.bool_]
) -> Ints:
    """For each class of positions and each output what a sum is where no bit differs: base - 2 * D.

    signs: (outputs, taps, channels) int8. rows: (classes of rows, kernel height) bool; columns likewise.
    Returns (classes of rows * classes of columns, outputs) int64.
    """
    inside = (rows[:, None, :, None] & columns[None, :, None, :]).reshape(
        len(rows) * len(columns), -1
    )
    ones = (signs.sum(axis=2, dtype=np.int64) + signs.shape[2]) // 2  # (outputs, taps)
    made: Ints = (
        inside.sum(axis=1)[:, None] * signs.shape[2] + 2 * (~inside).astype(np.int64) @ ones.T
    )
    return made


def thresholds(
    scale: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    low: float | None,
    high: float | None,
    depth: int,
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """The sums from which clamp(scale * sum + bias, low, high) changes its sign, of integers within +-depth.

    scale, bias: (outputs,) float32, finite. Returns t: (outputs,) int64, and flip: (outputs,) bool, so that the sign is
    +1 exactly where (sum >= t) != flip.
    """
    # float64 holds scale * sum, and rounding scale * sum + bias, to float64 or to float32, never changes its sign: both
    # are multiples of the smallest float32.
    a, b, flip = scale.astype(np.float64), bias.astype(np.float64), scale < 0
    floor = -np.inf if low is None else np.float64(np.float32(low))
    roof = np.inf if high is None else np.float64(np.float32(high))
    below = np.full(
        len(a), -depth - 1
    )  # where the answer is still `flip`, and from where it is not
    above = np.full(len(a), depth + 1)
    while (above - below > 1).any():
        middle = (below + above) // 2
        reached = (np.minimum(np.maximum(a * middle + b, floor), roof) >= 0) != flip
        above, below = np.where(reached, middle, above), np.where(reached, below, middle)
    return above, flip


def limits(base: Ints, least: Ints) -> npt.NDArray[np.int32]:
    """How many bits may differ so that base - 2 * D >= least. base: (classes, outputs). least: (outputs,).

    Returns (classes, outputs in whole blocks) int32.
    """
    return in_blocks((base - least) // 2, NEVER)


def in_blocks(rows: Ints, fill: int) -> npt.NDArray[np.int32]:
    """Rows of outputs, filled up to whole blocks: (classes, blocks * 64) int32."""
    made = np.full((len(rows), -(-rows.shape[1] // BLOCK) * BLOCK), fill, np.int32)
    made[:, : rows.shape[1]] = rows
    return made
