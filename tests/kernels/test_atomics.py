"""Words that threads share, one operation at a time and then all at once."""

from __future__ import annotations

import threading
import time

import numba
import numpy as np

from bwn.kernels.simd import atomics
from bwn.kernels.simd.scalars import put_i64
from bwn.kernels.target.jit import OPTIONS, SIGNATURE

compiled = numba.njit(**OPTIONS)


def test_words() -> None:
    @compiled
    def operations(word, out):
        atomics.write(word, 7)
        put_i64(out, 0, atomics.read(word))
        put_i64(out, 1, atomics.add(word, -10))
        put_i64(out, 2, atomics.replace(word, 5, 6))
        put_i64(out, 3, atomics.replace(word, -3, 1 << 62))
        put_i64(out, 4, atomics.read(word))
        atomics.cpu_relax()
        atomics.yield_core()

    word, out = np.zeros(1, np.int64), np.full(5, -1)
    operations(word.ctypes.data, out.ctypes.data)
    assert out.tolist() == [7, 7, 0, 1, 1 << 62]
    assert word[0] == 1 << 62


def test_nothing_is_lost_between_threads() -> None:
    @compiled
    def count(words, times):
        for _ in range(times):
            atomics.add(words, 1)
            while True:
                seen = atomics.read(words + 8)
                if atomics.replace(words + 8, seen, seen + 3):
                    break

    words, times = np.zeros(2, np.int64), 100_000
    count(words.ctypes.data, 0)
    threads = [threading.Thread(target=count, args=(words.ctypes.data, times)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert words.tolist() == [4 * times, 12 * times]


def test_the_clock_is_pythons() -> None:
    now = compiled(lambda: atomics.now())
    now()
    before = time.monotonic_ns()
    assert before <= now() <= time.monotonic_ns()


def test_a_call_by_address() -> None:
    @numba.cfunc(SIGNATURE, **OPTIONS)
    def note(fields, begin, end, part):
        put_i64(fields, 0, begin)
        put_i64(fields, 1, end)
        put_i64(fields, 2, part)

    @compiled
    def caller(address, fields):
        atomics.call(address, fields, 3, 1 << 40, -1)

    fields = np.zeros(3, np.int64)
    caller(note.address, fields.ctypes.data)
    assert fields.tolist() == [3, 1 << 40, -1]
