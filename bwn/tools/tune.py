"""Measuring what products cost on this machine, and fitting the model of `kernels/costs.py` to it.

Each kernel runs on shapes that tell its coefficients apart: shallow and deep, narrow and wide, one pass and many. The
fit is of least relative squares, no coefficient below 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import combinations
from statistics import median
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bwn._files import write_atomically
from bwn.errors import BwnError
from bwn.kernels import bits, costs
from bwn.kernels.costs import Cost, Work
from bwn.kernels.gemm import lut_permute_packing
from bwn.kernels.registry import GEMMS, GemmSpec, IndirectGemm, LutPermuteGemm

SHAPES = (
    (27, 64, 16), (64, 8, 1), (64, 512, 2), (256, 64, 4), (576, 16, 8), (576, 128, 8), (1024, 1024, 1),
    (1152, 256, 4), (2304, 256, 1), (2304, 32, 4), (4608, 512, 2),
)  # fmt: skip
"""K, N and passes that every kernel is measured on."""
ROUNDS, ROUND_SECONDS = 40, 0.001
WINDOW_PASSES = 64
"""Positions of a pass of products by permutes, so that a window's edges weigh little."""
BAND = 384
"""Positions of a unit of work of products by permutes, as the planner makes them."""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel's measurement.

    cost: call, gather, sums, end, nanoseconds. shapes: (K, N, P) measured. measured, predicted: microseconds of each.
    """

    kernel: str
    cost: Cost
    shapes: list[tuple[int, int, int]]
    measured: list[float]
    predicted: list[float]

    @property
    def ratios(self) -> list[float]:
        """How many times too much or too little each prediction is, 1 or more."""
        return [max(a / b, b / a) for a, b in zip(self.measured, self.predicted, strict=True)]


class Trial:
    """A product on random planes and weights; keeps everything that its parameter block points to."""

    def __init__(
        self, row: GemmSpec, depth: int, outputs: int, positions: int, taps: int = 1
    ) -> None:
        """taps: of a window in a row, for kernels that share work between them; depth counts the inputs of all."""
        rng = np.random.default_rng(0)
        plane = (
            -(-positions // 16) * 16 + 16
        )  # as padding does: strides of a power of two would share cache sets
        self.taps = taps
        top = {"f32": 0, "i8": 127, "s1": 1}[row.activations]
        size = (depth // taps, plane)
        x = rng.integers(-top, top + 1, size).astype(np.int8) if top else rng.normal(0, 1, size)
        if row.activations == "s1":
            x = np.where(x < 0, -1, 1).astype(np.int8)
        self.x = x if top else x.astype(np.float32)
        self.signs = rng.integers(0, 2, (outputs, depth), np.int8) * 2 - 1
        weights: npt.NDArray[Any] = (
            bits.pack(self.signs) if row.weights == "b1" else self.signs.astype(np.float32)
        )
        self.out = np.zeros((outputs, plane), np.float32)
        self.positions = positions
        self.kept: list[object] = [weights]
        out, fill = self.out, np.zeros(max(outputs, plane) + 64, np.float32)
        block = {
            "x": self._at(np.concatenate([self.x.ravel(), np.zeros(4096, self.x.dtype)])), "x_image": 0, "x_group": 0,
            "images": 1, "groups": 1, "outputs": outputs,
            "out": self._at(out), "out_image": 0, "out_plane": plane, "out_lead": 0,
            "mask": self._at(np.where(np.arange(plane) < positions, -1, 0).astype(np.int32)),
            "scale": self._at(fill + 1), "bias": self._at(fill), "correction": self._at(fill),
            "x_scales": self._at(fill + 1), "scale_per_position": 0,
            "bounds": self._at(np.array([-np.inf, np.inf] * 3, np.float32)),
            "added": 0, "added_image": 0, "added_plane": 0, "added_lead": 0, "out_scale": 0, "activation": 0,
        }  # fmt: skip
        if isinstance(row, IndirectGemm):
            self.units, share = (
                -(-positions // row.lanes) if row.lanes else outputs,
                row.scratch(outputs, depth),
            )
            offsets = self._at(np.arange(depth, dtype=np.int64) * plane)
            block |= {
                "words": self._at(row.pack(weights)),
                "row_words": weights.shape[1],
                "depth": depth,
            }
            block |= {"offsets": offsets, "positions": positions}
        elif isinstance(row, LutPermuteGemm):
            band = -(-min(positions, BAND) // lut_permute_packing.TILE)
            channels, span = depth // taps, band * lut_permute_packing.TILE + taps - 1
            more, kept = lut_permute_packing.in_a_row(
                row.layout, weights, 1, channels, taps, positions, plane, band
            )
            self.kept.append(kept)
            self.units = -(-more["blocks"] // band)
            share = row.layout.scratch_bytes(outputs, channels, span, band)
            block |= more | {"x_plane": plane}
        room = self._at(np.zeros(share + 128, np.uint8))
        self.block = row.block(**block, scratch=room + (-room % 64), scratch_part=share)
        self.entry, self.address = row.entry(), self.block.ctypes.data

    def _at(self, array: npt.NDArray[Any]) -> int:
        self.kept.append(array)
        return array.ctypes.data

    def __call__(self) -> None:
        """Run it on one thread."""
        self.entry(self.address, 0, self.units, 0)

    def idle(self) -> None:
        """Call it for no work: what Python adds, and a plan's run does not."""
        self.entry(self.address, 0, 0, 0)

    def check(self) -> None:
        """The result is numpy's."""
        self()
        seen = [self.x[:, tap : tap + self.positions] for tap in range(self.taps)]
        expected = self.signs.astype(np.float64) @ np.concatenate(seen).astype(np.float64)
        apart = np.abs(self.out[:, : self.positions] - expected).max()
        assert apart <= 1e-3 * max(1, np.abs(expected).max()), apart


def tune(progress: Callable[[str], None]) -> list[Fit]:
    """Measure and fit every product, and keep the table for this machine.

    progress: told what is being measured. Raises BwnError where no lasting folder can be written.
    """
    path = costs.table_path()
    if not path.parent.name.startswith("kernels-"):
        raise BwnError(
            "no cache folder can be written, so a table would be lost: set BWN_CACHE_DIR to one that can"
        )
    fits = []
    for number, row in enumerate(GEMMS, 1):
        progress(f"{number} of {len(GEMMS)}: {row.name}")
        fits.append(measure(row))
    write_atomically(path, costs.to_json({fit.kernel: fit.cost for fit in fits}).encode())
    costs.table.cache_clear()
    return fits


def measure(row: GemmSpec) -> Fit:
    """Time one kernel on all shapes, in rounds over them, and fit it; the least time of the rounds counts."""
    blocks = WINDOW_PASSES if isinstance(row, LutPermuteGemm) else max(row.lanes, 1)
    shapes = [
        (depth, outputs, passes * blocks)
        for depth, outputs, passes in SHAPES
        if depth <= row.max_depth
    ]
    windows = [
        9 if isinstance(row, LutPermuteGemm) and shape[0] % 9 == 0 else 1 for shape in shapes
    ]
    trials = [Trial(row, *shape, taps) for shape, taps in zip(shapes, windows, strict=True)]
    best = [seconds(trial, 1) for trial in trials]
    best = [seconds(trial, 1) for trial in trials]  # the first met cold code and data
    for _ in range(ROUNDS):
        best = [
            min(b, seconds(t, int(ROUND_SECONDS / b) + 1))
            for b, t in zip(best, trials, strict=True)
        ]
    idle = min(seconds(trials[0].idle, 100) for _ in range(ROUNDS))
    best = [
        max(b - idle, b / 10) for b in best
    ]  # on a busy machine an idle call may have taken longer
    works = [Work(k, n, p, p, taps=taps) for (k, n, p), taps in zip(shapes, windows, strict=True)]
    cost = fit(np.array([row.terms(work) for work in works]), np.array(best) * 1e9)
    predicted = [row.microseconds(work, cost) for work in works]
    return Fit(
        kernel=row.name,
        cost=cost,
        shapes=shapes,
        measured=[b * 1e6 for b in best],
        predicted=predicted,
    )


def seconds(call: Callable[[], None], count: int) -> float:
    """Mean seconds of `count` calls."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def fit(terms: npt.NDArray[np.float64], nanoseconds: npt.NDArray[np.float64]) -> Cost:
    """Coefficients of 0 or more whose predictions have the least relative squared error.

    terms: (shapes, 4), how often each coefficient counts. nanoseconds: (shapes,). Of four, every set of those that are
    not 0 can be tried.
    """
    relative = terms / nanoseconds[:, None]
    best, least = np.zeros(4), np.inf
    for size in range(1, 5):
        for columns in map(list, combinations(range(4), size)):
            found = np.linalg.lstsq(relative[:, columns], np.ones(len(terms)), rcond=None)[0]
            error = float(np.square(relative[:, columns] @ found - 1).sum())
            if (found >= 0).all() and error < least:
                best, least = np.zeros(4), error
                best[columns] = found
    return Cost(*map(float, best))


def summary(fits: list[Fit]) -> dict[str, float]:
    """How far off the predictions of some kernels are: the median and the worst ratio."""
    ratios = [ratio for fit in fits for ratio in fit.ratios]
    return {"median_ratio": median(ratios), "worst_ratio": max(ratios)}
