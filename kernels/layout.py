"""Moving tensors between layouts: a four-axis strided copy, and clearing.

Everything that is not arithmetic is one or more of these copies: the user's array into padded planes, the phases of
a strided convolution, flattening, a batch into the lanes and back.
"""

from __future__ import annotations

from typing import NamedTuple

from bwn.kernels.finish import clear_bytes
from bwn.kernels.memory import get_f32, get_i8, put_f32, put_i8, reader
from bwn.kernels.vectors import F32, load, store


class CopyFields(NamedTuple):
    """Fields of a copy: addresses of the first elements, strides of four axes in elements, lengths of axes 1 to 3.

    A unit of work is one index of axes 0 and 1.
    """

    x: int
    x0: int
    x1: int
    x2: int
    x3: int
    out: int
    out0: int
    out1: int
    out2: int
    out3: int
    n1: int
    n2: int
    n3: int


class ClearFields(NamedTuple):
    """Fields of clearing: address, bytes of one unit of work, bytes in all."""

    out: int
    chunk: int
    size: int


copy_fields = reader(CopyFields)
clear_fields = reader(ClearFields)


def f32_f32_copy(p: int, begin: int, end: int, part: int) -> None:
    """out[a, b, c, d] = x[a, b, c, d] of float32."""
    f = copy_fields(p)
    for unit in range(begin, end):
        a, b = unit // f.n1, unit % f.n1
        for c in range(f.n2):
            source = f.x + (a * f.x0 + b * f.x1 + c * f.x2) * 4
            target = f.out + (a * f.out0 + b * f.out1 + c * f.out2) * 4
            d = 0
            if f.x3 == 1 and f.out3 == 1:
                while d + 16 <= f.n3:
                    store(target, d, load(F32, source, d))
                    d += 16
            while d < f.n3:
                put_f32(target, d * f.out3, get_f32(source, d * f.x3))
                d += 1


def i8_i8_copy(p: int, begin: int, end: int, part: int) -> None:
    """out[a, b, c, d] = x[a, b, c, d] of int8."""
    f = copy_fields(p)
    for unit in range(begin, end):
        a, b = unit // f.n1, unit % f.n1
        for c in range(f.n2):
            source = f.x + a * f.x0 + b * f.x1 + c * f.x2
            target = f.out + a * f.out0 + b * f.out1 + c * f.out2
            for d in range(f.n3):
                put_i8(target, d * f.out3, get_i8(source, d * f.x3))


def clear(p: int, begin: int, end: int, part: int) -> None:
    """Zero bytes."""
    f = clear_fields(p)
    for unit in range(begin, end):
        clear_bytes(f.out + unit * f.chunk, min(f.chunk, f.size - unit * f.chunk))
