"""Buffers, their geometry, and one arena for all of them.

An activation tensor is stored as planes: for every image and channel, `lead` zeros, then `height` rows of `row`
elements, of which the first `width` are values and the rest zeros, then zeros up to `plane` elements. The zeros are
the padding of whoever reads the tensor: row y's slack is the right padding of row y and the left padding of row
y + 1, so a tap of a convolution is a constant offset. A zero is stored as `fill`, not always 0 in 8-bit tensors.

A batch of vectors (N, K) is one image of K channels whose width is the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

Type = Literal["f32", "i8", "s1", "b1"]
"""b1: packed signs, whose buffers are `bits_buffer.Bits`."""

LINE = 64
"""Every buffer starts on a cache line."""
GUARD = 4096
"""Readable bytes before and after all buffers: a vector may start at the last element of a plane."""
LANES = 16
"""Writers of planes store this many elements at a time."""


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple that is not less than value."""
    return -(-value // multiple) * multiple


@dataclass(eq=False)
class Buffer:
    """One tensor of the plan, or something in between.

    images, channels, height, width: sizes. type: element type. vectors: whether the columns are a batch of vectors.
    pads: zeros that readers want on each side (top, left, bottom, right). rows: the class of buffers that share their
    row stride with this one. fill: what padding is stored as. first, last: steps that use it.
    """

    name: str
    type: Type
    images: int
    channels: int
    height: int
    width: int
    vectors: bool = False
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    rows: RowClass = field(default_factory=lambda: RowClass())
    fill: int = 0
    first: int = -1
    last: int = -1
    offset: int = -1

    def __post_init__(self) -> None:
        self.rows.members.append(self)

    def want_pads(self, pads: tuple[int, int, int, int]) -> None:
        """Make room for the padding of one more reader."""
        top, left, bottom, right = map(max, self.pads, pads)
        self.pads = (top, left, bottom, right)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return 4 if self.type == "f32" else 1

    @property
    def row(self) -> int:
        """Elements from one row to the next."""
        return self.rows.stride

    @property
    def positions(self) -> int:
        """Elements from the first value to the end of the last row."""
        return self.height * self.row

    @property
    def lead(self) -> int:
        """Zeros before the first value of a plane."""
        return self.pads[0] * self.row + self.pads[1]

    @property
    def plane(self) -> int:
        """Elements from one channel to the next: what is stored in whole vectors, and the bottom padding."""
        tail = max(round_up(self.positions, LANES), self.positions + self.pads[2] * self.row)
        return round_up(self.lead + tail, LANES)

    @property
    def image(self) -> int:
        """Elements from one image to the next."""
        return self.channels * self.plane

    @property
    def bytes(self) -> int:
        """Size of the whole buffer."""
        return self.images * self.image * self.itemsize


class RowClass:
    """Buffers whose row strides are one number, so that a position is the same offset in each."""

    def __init__(self) -> None:
        self.members: list[Buffer] = []

    @cached_property
    def stride(self) -> int:
        """The row stride: each member's width and its padding fit. Asked for only when all members are known."""
        return max(member.width + max(member.pads[1], member.pads[3]) for member in self.members)

    @staticmethod
    def join(a: Buffer, b: Buffer) -> None:
        """Make the classes of two buffers one."""
        if a.rows is not b.rows:
            gone = b.rows
            for member in gone.members:
                member.rows = a.rows
            a.rows.members += gone.members


def place(buffers: list[Buffer], *, reuse: bool) -> int:
    """Give every buffer an offset so that no two that live at once overlap; returns the bytes of all.

    Greedy, largest first, each into the lowest gap. reuse: whether a dead buffer's place may be taken.
    """
    sizes = {id(buffer): round_up(buffer.bytes, LINE) for buffer in buffers}
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda b: -sizes[id(b)]):
        alive = [
            p for p in placed if not reuse or (p.first <= buffer.last and buffer.first <= p.last)
        ]
        buffer.offset = 0
        for other in sorted(alive, key=lambda b: b.offset):
            if other.offset - buffer.offset >= sizes[id(buffer)]:
                break
            buffer.offset = max(buffer.offset, other.offset + sizes[id(other)])
        placed.append(buffer)
    return max(buffer.offset + sizes[id(buffer)] for buffer in buffers)


def arena(size: int, beyond: int = 0) -> npt.NDArray[np.uint8]:
    """`size` zero bytes that start on a cache line, with GUARD readable bytes on both sides and `beyond` more after."""
    room = np.zeros(size + 2 * GUARD + LINE + beyond, np.uint8)
    start = GUARD + (-(room.ctypes.data + GUARD) % LINE)
    return room[start : start + size]
