"""Measuring what GEMM kernels cost on this machine, and fitting the cost model to it.

The model is in `kernels/gemm/gemm_spec.py`. Each kernel runs on shapes that separate its
coefficients: shallow and deep, narrow and wide, one pass and many. The fit has the least relative
squared error with no coefficient below 0.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from statistics import median

import msgspec
import numpy as np
import numpy.typing as npt

from bwn._files import write_atomically
from bwn.errors import BwnError
from bwn.kernels import costs
from bwn.kernels.gemm.gemm_spec import Cost, GemmSpec, LutPermuteGemm, LutWindowGemm, RunsGemm
from bwn.kernels.registry import GEMMS
from bwn.tools.gemm_trial import GemmTrial
from bwn.tools.timing import interleave

SHAPES = (
    (27, 64, 16), (64, 8, 1), (64, 512, 2), (256, 64, 4), (576, 16, 8), (576, 128, 8),
    (1024, 1024, 1), (1152, 256, 4), (2304, 256, 1), (2304, 32, 4), (4608, 512, 2), (9, 1, 16),
    (25, 1, 64), (9, 64, 4), (9, 8, 49),
)  # fmt: skip
"""K, N and passes that every kernel is measured on; the last four as of depthwise layers."""
PERMUTE_PIXELS = 64
"""Pixels of a pass of a permute kernel, so that a window's edges weigh little."""
SECONDS, TURN_SECONDS, WARM_UP_SECONDS = 0.5, 0.001, 0.005
"""Of all trials of a kernel; of a turn of one; of each before that."""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel's measurement.

    Attributes:
        kernel: Its name.
        cost: The coefficients, in nanoseconds.
        shapes: (K, N, P) measured.
        measured: Microseconds of each shape.
        predicted: Microseconds that the coefficients predict for each shape.
    """

    kernel: str
    cost: Cost
    shapes: list[tuple[int, int, int]]
    measured: list[float]
    predicted: list[float]

    @property
    def ratios(self) -> list[float]:
        """By what factor each prediction is too high or too low, 1 or more."""
        return [max(a / b, b / a) for a, b in zip(self.measured, self.predicted, strict=True)]


def tune(progress: Callable[[str], None]) -> list[Fit]:
    """Measure and fit every kernel, and keep the table for this machine.

    Args:
        progress: Called with a line on what is being measured.

    Raises:
        BwnError: No cache folder can be written, or a kernel computes a wrong result.
    """
    path = costs.table_path()
    # Where no cache folder can be written the kernels are in a temporary one, of another name.
    if not path.parent.name.startswith("kernels-"):
        raise BwnError(
            "no cache folder can be written, so the table would be lost: set BWN_CACHE_DIR to a "
            "writable folder"
        )
    fits = []
    for number, spec in enumerate(GEMMS, 1):
        progress(f"{number} of {len(GEMMS)}: {spec.name}")
        fits.append(measure(spec))
    write_atomically(path, costs.to_json({fit.kernel: fit.cost for fit in fits}).encode())
    costs.table.cache_clear()
    return fits


def shapes(spec: GemmSpec) -> list[tuple[int, int, int]]:
    """K, N and P to measure a kernel on."""
    pixels = max(spec.lanes, 1)
    if isinstance(spec, LutPermuteGemm):
        pixels = PERMUTE_PIXELS
    elif isinstance(spec, LutWindowGemm):
        pixels = spec.tile.rows * spec.tile.row_outputs
    elif isinstance(spec, RunsGemm):
        pixels = spec.step
    return [
        (depth, outputs, passes * pixels)
        for depth, outputs, passes in SHAPES
        if depth <= spec.max_depth
    ]


def measure(spec: GemmSpec) -> Fit:
    """Check and time one kernel on all sizes, interleaved, and fit it to the fastest calls."""
    trials = [GemmTrial(spec, *shape) for shape in shapes(spec)]
    for trial in trials:
        trial.check()
    nanoseconds = fastest(trials) * 1e9
    cost = fit(np.array([spec.terms(trial.work) for trial in trials]), nanoseconds)
    return Fit(
        kernel=spec.name,
        cost=cost,
        shapes=shapes(spec),
        measured=(nanoseconds / 1e3).tolist(),
        predicted=[spec.microseconds(trial.work, cost) for trial in trials],
    )


def fastest(trials: list[GemmTrial]) -> npt.NDArray[np.float64]:
    """Seconds of the fastest call of each trial, less what the call from Python takes."""
    calls: list[Callable[[], None]] = [*trials, trials[0].idle]
    timings = interleave(
        dict(enumerate(calls)), SECONDS, turn_seconds=TURN_SECONDS, warm_up_seconds=WARM_UP_SECONDS
    )
    *seconds, idle = (timing.minimum for timing in timings.values())
    # On a busy machine every idle call may have been interrupted.
    return np.array([max(trial - idle, trial / 10) for trial in seconds])


def fit(terms: npt.NDArray[np.float64], nanoseconds: npt.NDArray[np.float64]) -> Cost:
    """Coefficients of 0 or more whose predictions have the least relative squared error.

    Args:
        terms: How often each coefficient counts, (shapes, 4).
        nanoseconds: Measured times, (shapes,).
    """
    relative = terms / nanoseconds[:, None]
    best, least = np.zeros(4), np.inf
    # With four coefficients every choice of those that are not 0 can be tried.
    for size in range(1, 5):
        for columns in map(list, combinations(range(4), size)):
            solution = np.linalg.lstsq(relative[:, columns], np.ones(len(terms)), rcond=None)[0]
            error = float(np.square(relative[:, columns] @ solution - 1).sum())
            if (solution >= 0).all() and error < least:
                best, least = np.zeros(4), error
                best[columns] = solution
    return Cost(*map(float, best))


def summary(fits: list[Fit]) -> dict[str, float]:
    """How far off the predictions of some kernels are: the median and the worst factor."""
    ratios = [ratio for fit in fits for ratio in fit.ratios]
    return {"median_ratio": median(ratios), "worst_ratio": max(ratios)}
