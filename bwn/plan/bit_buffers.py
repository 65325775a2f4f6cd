"""A bitpacked tensor of signs in a plan: all channels of a position in consecutive words.

Around every image lie positions of zero words, as many as the tensor's readers need; whoever writes
the tensor writes them too. `kernels/gemm/xnor.py` says how a word is stored.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bwn.kernels import bits
from bwn.kernels.simd.widths import xor_halves
from bwn.ops.window import Pads
from bwn.plan.buffers import Buffer

WORD_BYTES = 8


class BitBuffer(Buffer, eq=False):
    """A buffer of type b1; strides are bytes. A batch of vectors is one row of positions."""

    @property
    def words(self) -> int:
        """Words of a position."""
        return bits.words_for(self.channels)

    @property
    def position(self) -> int:
        """From one position to the next."""
        return self.words * WORD_BYTES

    @property
    def line(self) -> int:
        """From one row to the next."""
        return self.columns * self.position

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of positions, zeros around included."""
        return self.pads[0] + self.height + self.pads[2], self.columns

    @property
    def columns(self) -> int:
        """Positions of a row, zeros included."""
        return self.pads[1] + self.width + self.pads[3]

    @property
    def image(self) -> int:
        """From one image to the next."""
        return self.grid[0] * self.line

    @property
    def bytes(self) -> int:
        """Size of the whole buffer."""
        return self.images * self.image

    def offset_of(self, pads: Pads) -> int:
        """Bytes from the corner to the first position that a window with these pads reads."""
        return (self.pads[0] - pads[0]) * self.line + (self.pads[1] - pads[1]) * self.position

    def unpack(self, memory: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The tensor as (N, C, H, W) float32, out of the plan's memory."""
        top, left = self.pads[:2]
        words = memory[self.offset : self.offset + self.bytes].view(np.uint64)
        words = words.reshape(self.images, *self.grid, -1)
        words = words[:, top : top + self.height, left : left + self.width]
        signs = bits.unpack(xor_halves(words).reshape(-1, words.shape[-1]), self.channels)
        planes = signs.reshape(self.images, self.height, self.width, self.channels)
        return planes.transpose(0, 3, 1, 2).astype(np.float32)
