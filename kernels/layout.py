"""Moving tensors between layouts: a four-axis strided copy, and clearing.

Everything that is not arithmetic is one or more of these copies: the user's array into padded planes, the phases of
a strided convolution, flattening, a batch into the lanes and back.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
from __future__ import annotations

from bwn.kernels.finish import clear_bytes
from bwn.kernels.memory import fields, get_f32, get_i8, put_f32, put_i8
from bwn.kernels.vectors import F32, load, store

COPY_FIELDS = (
    "x", "x0", "x1", "x2", "x3", "out", "out0", "out1", "out2", "out3", "n0", "n1", "n2", "n3",
)  # fmt: skip
"""Fields of a copy: addresses of the first elements, strides in elements of the axes, lengths of the axes. A unit of
work is one index of axes 0 and 1."""
COPY_COUNT = len(COPY_FIELDS)

CLEAR_FIELDS = ("out", "chunk", "size")
"""Fields of clearing: address, bytes of one unit of work, bytes in all."""
CLEAR_COUNT = len(CLEAR_FIELDS)


def f32_f32_copy(p, begin, end, part):
    """out[a, b, c, d] = x[a, b, c, d] of float32."""
    x, x0, x1, x2, x3, out, out0, out1, out2, out3, n0, n1, n2, n3 = fields(p, COPY_COUNT)
    for unit in range(begin, end):
        a, b = unit // n1, unit % n1
        for c in range(n2):
            source = x + (a * x0 + b * x1 + c * x2) * 4
            target = out + (a * out0 + b * out1 + c * out2) * 4
            d = 0
            if x3 == 1 and out3 == 1:
                while d + 16 <= n3:
                    store(target, d, load(F32, source, d))
                    d += 16
            while d < n3:
                put_f32(target, d * out3, get_f32(source, d * x3))
                d += 1


def i8_i8_copy(p, begin, end, part):
    """out[a, b, c, d] = x[a, b, c, d] of int8."""
    x, x0, x1, x2, x3, out, out0, out1, out2, out3, n0, n1, n2, n3 = fields(p, COPY_COUNT)
    for unit in range(begin, end):
        a, b = unit // n1, unit % n1
        for c in range(n2):
            source = x + a * x0 + b * x1 + c * x2
            target = out + a * out0 + b * out1 + c * out2
            for d in range(n3):
                put_i8(target, d * out3, get_i8(source, d * x3))


def clear(p, begin, end, part):
    """Zero bytes."""
    out, chunk, size = fields(p, CLEAR_COUNT)
    for unit in range(begin, end):
        clear_bytes(out + unit * chunk, min(chunk, size - unit * chunk))
