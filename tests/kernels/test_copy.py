"""Copies between layouts against numpy, and the bounds that they keep."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bwn.kernels.registry import CLEAR, COPY_F32, COPY_I8, Kernel

KERNELS = pytest.mark.parametrize("kernel", [COPY_F32, COPY_I8], ids=lambda kernel: kernel.name)
Lengths = tuple[int, int, int, int]
GAP = 5


def strided(lengths: Lengths, steps: Lengths) -> tuple[int, Lengths]:
    """Elements of an array whose axis i is `steps[i]` times as long as needed, and its strides."""
    size, strides = 1, []
    for length, step in zip(reversed(lengths), reversed(steps), strict=True):
        strides.append(size * step)
        size *= length * step
    return size, tuple(reversed(strides))


def view(flat: np.ndarray, lengths: Lengths, strides: Lengths) -> np.ndarray:
    return np.lib.stride_tricks.as_strided(
        flat, lengths, [stride * flat.itemsize for stride in strides]
    )


def check(
    kernel: Kernel, lengths: Lengths, source_steps: Lengths, target_steps: Lengths, parts: int = 1
) -> None:
    kind = np.float32 if kernel is COPY_F32 else np.int8
    (source_size, x), (target_size, y) = (
        strided(lengths, source_steps),
        strided(lengths, target_steps),
    )
    rng = np.random.default_rng(lengths)
    source = rng.integers(-128, 128, source_size + GAP).astype(kind)
    target = rng.integers(-128, 128, target_size + 2 * GAP).astype(kind)
    expected = target.copy()
    view(expected[GAP:], lengths, y)[...] = view(source[GAP:], lengths, x)
    block = kernel.block(
        x=source[GAP:].ctypes.data, x0=x[0], x1=x[1], x2=x[2], x3=x[3],
        out=target[GAP:].ctypes.data, out0=y[0], out1=y[1], out2=y[2], out3=y[3],
        n1=lengths[1], n2=lengths[2], n3=lengths[3],
    )  # fmt: skip
    units = lengths[0] * lengths[1]
    for part in range(parts):
        kernel.entry()(block.ctypes.data, units * part // parts, units * (part + 1) // parts, part)
    np.testing.assert_array_equal(target, expected)


@KERNELS
@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("apart", [1, 2])
def test_every_row_length(kernel: Kernel, step: int, apart: int) -> None:
    for count in [*range(1, 40), 47, 48, 49, 63, 64, 65, 130]:
        check(kernel, (1, 2, 3, count), (1, 1, 2, step), (1, 2, 1, apart))


@KERNELS
@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    lengths=st.tuples(*[st.integers(1, 4)] * 3, st.integers(1, 70)),
    source=st.tuples(*[st.integers(1, 3)] * 4),
    target=st.tuples(*[st.integers(1, 3)] * 4),
)
def test_any_strides(kernel: Kernel, lengths: Lengths, source: Lengths, target: Lengths) -> None:
    check(kernel, lengths, source, target, parts=min(3, lengths[0] * lengths[1]))


@KERNELS
@pytest.mark.parametrize("step", [1, 2])
def test_rows_past_65536(kernel: Kernel, step: int) -> None:
    check(kernel, (1, 1, 1, 65_601), (1, 1, 1, step), (1, 1, 1, 1))
    check(kernel, (1, 65_601, 1, 3), (1, 1, 1, step), (1, 1, 1, 1))


@pytest.mark.parametrize("size", [4, 60, 64, 1000, 1024, 1028])
@pytest.mark.parametrize("value", [0, -127])
def test_clearing_stops_at_the_end(size: int, value: int) -> None:
    out = np.full(size + 8, 7, np.int8)
    block = CLEAR.block(out=out.ctypes.data, chunk=256, size=size, value=value)
    CLEAR.entry()(block.ctypes.data, 0, -(-size // 256), 0)
    np.testing.assert_array_equal(out, np.repeat([value, 7], [size, 8]))


AT_THE_EDGE = """
import ctypes
import mmap
import numpy as np
from bwn.kernels.registry import COPY_F32, COPY_I8
pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
room = np.frombuffer(pages, np.uint8)
nobodys = ctypes.c_void_p(room.ctypes.data + mmap.PAGESIZE)
assert ctypes.CDLL(None).mprotect(nobodys, mmap.PAGESIZE, 0) == 0
for kernel, size in ((COPY_F32, 4), (COPY_I8, 1)):
    for step in (1, 2, 3):
        for count in range(1, 70):
            out = np.zeros(count * size, np.uint8)
            last = nobodys.value - ((count - 1) * step + 1) * size
            block = kernel.block(x=last, x0=0, x1=0, x2=0, x3=step, out=out.ctypes.data,
                                 out0=0, out1=0, out2=0, out3=1, n1=1, n2=1, n3=count)
            kernel.entry()(block.ctypes.data, 0, 1, 0)
print("read no further")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="protects a page of memory by Linux's call")
def test_nothing_past_the_last_element_is_read() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_EDGE],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "read no further\n", (done.returncode, done.stderr)
