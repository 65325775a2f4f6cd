"""Buffers, their geometry, and one arena for all of them.

An activation tensor is stored as planes: for every image and channel, `lead` zeros, then `height`
rows of `row` elements, of which the first `width` are values and the rest zeros, then zeros up to
`plane` elements. The zeros are the padding of whoever reads the tensor: the slack of row y is the
right padding of row y and the left padding of row y + 1, so a tap of a convolution is a constant
offset. A zero is stored as `fill`, which is not 0 in every 8-bit tensor.

A batch of vectors (N, K) is one image of K channels whose width is the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import msgspec
import numpy as np
import numpy.typing as npt

from bwn.ir.node import Shape
from bwn.ops.window import Pads

Type = Literal["f32", "i8", "s1", "b1"]
"""Of elements: float32; 8-bit integers; signs +-1 in bytes; bitpacked signs (`BitBuffer`)."""

LINE = 64
"""Every buffer starts on a cache line."""
GUARD = 4096
"""Readable bytes before and after all buffers: a vector may start at a plane's last element."""
STORE = 16
"""Writers of planes store this many elements at a time."""


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple that is not less than value."""
    return -(-value // multiple) * multiple


class SharedRows:
    """Buffers whose row strides are one number, so that a position is the same offset in each."""

    def __init__(self) -> None:
        self.members: list[Buffer] = []
        self._stride = 0

    @property
    def stride(self) -> int:
        """The row stride: each member's width and its padding fit."""
        if not self._stride:
            self._stride = max(
                member.width + max(member.pads[1], member.pads[3]) for member in self.members
            )
        return self._stride

    def forget(self) -> None:
        """A member's width or padding has changed."""
        self._stride = 0

    def join(self, other: SharedRows) -> None:
        """Make two classes one."""
        if other is self:
            return
        kept, merged = (self, other) if len(self.members) >= len(other.members) else (other, self)
        for member in merged.members:
            member.rows = kept
        kept.members += merged.members
        kept.forget()


class Buffer(msgspec.Struct, eq=False):
    """One tensor of the plan, or an intermediate form of one.

    Attributes:
        name: Name of the tensor.
        type: Type of the elements.
        images: Images of the batch; 1 for vectors.
        channels: Channels of an image.
        height: Rows.
        width: Columns; the batch for vectors.
        vectors: Whether the columns are a batch of vectors.
        pads: Zeros that readers need on each side.
        fill: How padding is stored.
        parent: The buffer that holds this one's planes among its own, or None.
        channel: The parent's channel that is this one's first.
        rows: The buffers that share a row stride with this one.
        first: First step that uses it.
        last: Last step that uses it.
        offset: Its place in the arena, in bytes.
    """

    name: str
    type: Type
    images: int
    channels: int
    height: int
    width: int
    vectors: bool = False
    pads: Pads = (0, 0, 0, 0)
    fill: int = 0
    parent: Buffer | None = None
    channel: int = 0
    first: int = -1
    last: int = -1
    offset: int = -1
    rows: SharedRows = msgspec.field(default_factory=SharedRows)

    @classmethod
    def of(cls, name: str, type: Type, shape: Shape, batch: int) -> Self:
        """A new buffer for a tensor of one example's `shape`."""
        if len(shape) == 3:
            return cls(name, type, batch, *shape)
        return cls(name, type, 1, shape[0], 1, batch, vectors=True)

    def __post_init__(self) -> None:
        self.rows.members.append(self)

    def reserve_padding(self, pads: Pads) -> None:
        """Make room for the padding of one more reader."""
        if self.parent is not None:
            self.parent.reserve_padding(pads)
            return
        top, left, bottom, right = map(max, self.pads, pads)
        self.pads = (top, left, bottom, right)
        self.rows.forget()

    def share_rows(self, other: Buffer) -> None:
        """Give this buffer and another the same row stride."""
        self.root.rows.join(other.root.rows)

    def resize(self, batch: int) -> None:
        """Change the batch."""
        if self.vectors:
            self.width = batch
            self.rows.forget()
        else:
            self.images = batch

    @property
    def root(self) -> Buffer:
        """The buffer that has its own place in the arena: this one, or what it is a view of."""
        return self if self.parent is None else self.parent.root

    @property
    def root_channel(self) -> int:
        """The root's channel that is this buffer's first."""
        return 0 if self.parent is None else self.parent.root_channel + self.channel

    def lies_in(self, whole: Buffer, channel: int) -> bool:
        """Whether this buffer is the part of another that begins with one of its channels."""
        return self.root is whole.root and self.root_channel == whole.root_channel + channel

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return 4 if self.type == "f32" else 1

    @property
    def row(self) -> int:
        """Elements from one row to the next."""
        return self.root.rows.stride

    @property
    def positions(self) -> int:
        """Elements from the first value to the end of the last row."""
        return self.height * self.row

    @property
    def lead(self) -> int:
        """Zeros before the first value of a plane."""
        pads = self.root.pads
        return pads[0] * self.row + pads[1]

    @property
    def plane(self) -> int:
        """Elements from one channel to the next: whole vectors, and the bottom padding."""
        root = self.root
        row, (top, left, bottom, _) = root.rows.stride, root.pads
        positions = self.height * row
        values = max(round_up(positions, STORE), positions + bottom * row)
        return round_up(top * row + left + values, STORE)

    @property
    def image(self) -> int:
        """Elements from one image to the next."""
        return self.root.channels * self.plane

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """Elements between images, channels, rows and columns."""
        return self.image, self.plane, self.row, 1

    @property
    def start(self) -> int:
        """Place in the arena of its first element, padding included, in bytes."""
        if self.parent is None:
            return self.offset
        return self.parent.start + self.channel * self.plane * self.itemsize

    @property
    def bytes(self) -> int:
        """Size of the whole buffer; of a view, 0."""
        return 0 if self.parent is not None else self.images * self.image * self.itemsize


def place(buffers: Sequence[Buffer], *, reuse: bool) -> int:
    """Give every buffer an offset so that no two that live at once overlap.

    Greedy: largest first, each into the lowest gap.

    Args:
        buffers: All buffers; views have no place of their own.
        reuse: Whether a dead buffer's place may be taken.

    Returns:
        Bytes of all.
    """
    roots = [buffer for buffer in buffers if buffer.parent is None]
    sizes = {id(buffer): round_up(buffer.bytes, LINE) for buffer in roots}
    # First step, last step, offset and end of each buffer that has its place.
    placed = np.zeros((4, len(roots)), np.int64)
    end = 0
    for count, buffer in enumerate(sorted(roots, key=lambda b: -sizes[id(b)])):
        size = sizes[id(buffer)]
        if reuse:
            firsts, lasts = placed[0, :count], placed[1, :count]
            alive = (firsts <= buffer.last) & (lasts >= buffer.first)
            buffer.offset = lowest_gap(placed[2, :count][alive], placed[3, :count][alive], size)
        else:
            buffer.offset = end
        stop = buffer.offset + size
        placed[:, count] = buffer.first, buffer.last, buffer.offset, stop
        end = max(end, stop)
    return end


def lowest_gap(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], size: int) -> int:
    """The lowest offset from which `size` bytes are free between these places."""
    if not len(starts):
        return 0
    order = np.argsort(starts, kind="stable")  # as predictions are: one sort in memory
    taken = np.maximum.accumulate(ends[order])  # up to where there is no gap
    before = np.concatenate(([0], taken[:-1]))
    gaps = np.flatnonzero(starts[order] - before >= size)
    return int(before[gaps[0]]) if len(gaps) else int(taken[-1])


def arena(size: int, beyond: int = 0) -> npt.NDArray[np.uint8]:
    """Zero bytes that start on a cache line, with GUARD readable bytes on both sides.

    Args:
        size: Bytes.
        beyond: Readable bytes after them besides the guard.
    """
    memory = np.zeros(size + 2 * GUARD + LINE + beyond, np.uint8)
    start = GUARD + (-(memory.ctypes.data + GUARD) % LINE)
    return memory[start : start + size]
