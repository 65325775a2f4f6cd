"""The taps of a window in rectangles of neighbors, which share lookup tables."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

from bwn.kernels.gemm.lut_window_packing import SPAN, Rectangle
from bwn.ops.window import Window

Piece = tuple[int, int, list[int]]
"""Neighboring taps of one axis: phase of the stride, where the first lies in the phase, taps."""


def pieces(axis: int, window: Window) -> list[Piece]:
    """The taps of an axis in runs of at most SPAN that lie side by side in one phase."""
    stride, step, pad = window.stride[axis], window.dilation[axis], window.pads[axis]
    moved = pad if window.stride == (1, 1) else 0  # phases are padded already
    phases: dict[int, list[tuple[int, int]]] = {}
    for tap in range(window.kernel[axis]):
        phases.setdefault(tap * step % stride, []).append((tap * step // stride - moved, tap))
    runs: list[Piece] = []
    for number, phase in enumerate(sorted(phases)):
        first, length = 0, 0
        for at, tap in phases[phase]:
            if not length or length == SPAN or at != first + length:
                runs.append((number, at, []))
                first, length = at, 0
            runs[-1][2].append(tap)
            length += 1
    return runs


def halves(piece: Piece) -> list[Piece]:
    """A run as runs of at most two."""
    phase, at, taps = piece
    return [(phase, at + i, taps[i : i + 2]) for i in range(0, len(taps), 2)]


@lru_cache(maxsize=256)
def rectangles(window: Window) -> tuple[Rectangle, ...]:
    """All taps in rectangles: of 3 x 3, and where that is not whole of at most 2 x 2."""
    width, x_phases = window.kernel[1], len(window.phases[1])
    found = []
    for rows, columns in product(pieces(0, window), pieces(1, window)):
        whole = len(rows[2]) == len(columns[2]) == SPAN
        downs, acrosses = ([rows], [columns]) if whole else (halves(rows), halves(columns))
        for (y_phase, y, down), (x_phase, x, across) in product(downs, acrosses):
            taps = tuple(i * width + j for i, j in product(down, across))
            phase = y_phase * x_phases + x_phase
            found.append(Rectangle(len(down), len(across), phase, y, x, taps))
    return tuple(found)
