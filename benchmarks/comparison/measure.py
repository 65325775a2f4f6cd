"""One cell of the comparison: every engine on one network, batch size and number of threads."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from engines.case import Case, Contender, Kind, UnsupportedError

from bwn._types import Floats
from bwn.tools.benchmark import example_input
from bwn.tools.benchmark_peers import MAX_SIGN_TIES
from bwn.tools.timing import Timing, interleave
from comparison.other_load import OtherLoad
from comparison.results import LeftOut, Result, Verdict

ENGINES: tuple[tuple[str, Kind], ...] = (
    ("onnxruntime", "float32"),
    ("openvino", "float32"),
    ("ncnn", "float32"),
    ("litert", "float32"),
    ("bwn", "float32"),
    ("onnxruntime", "int8"),
    ("openvino", "int8"),
    ("ncnn", "int8"),
    ("litert", "int8"),
    ("bwn", "int8"),
    ("openvino", "binary"),
    ("bwn", "binary"),
    ("openvino", "bfloat16"),
)
"""What is compared. The scores of the first are the reference for the others."""

IMAGES = 16
MAX_FLOAT_ERROR = 1e-4
MIN_COSINE = 0.98


class Judgment(NamedTuple):
    """How scores compare with the reference.

    Attributes:
        verdict: Whether they are right.
        error: Largest difference, relative to the largest score.
        cosine: Cosine of all scores.
        same_class: Share of the images with the same best class.
    """

    verdict: Verdict
    error: float
    cosine: float
    same_class: float


def contender(case: Case, engine: str, kind: Kind) -> Contender | LeftOut:
    """An engine ready to run the network, or the reason why it cannot."""
    try:
        ready: Contender = getattr(importlib.import_module(f"engines.{engine}_engine"), kind)(case)
    except UnsupportedError as reason:
        return LeftOut(network=case.name, engine=engine, kind=kind, reason=str(reason))
    return ready


def scores(ready: Contender, case: Case) -> Floats:
    """Scores of 16 images, a batch at a time: (16, classes) float32."""
    x = example_input(case.spec, max(IMAGES, case.batch))
    starts = range(0, len(x), case.batch)
    parts = [ready.run(x[start : start + case.batch]).copy() for start in starts]
    return np.concatenate([part.reshape(case.batch, -1) for part in parts])


def judge(kind: Kind, actual: Floats, expected: Floats, *, has_signs: bool) -> Judgment:
    """Compare scores with the reference.

    float32 and binary: within 1e-4 of the largest score and of the same class, on every image. In a
    network with signs one image in eight may differ, since a number next to 0 may have either sign.
    Others: a cosine of 0.98.

    Args:
        kind: How the engine reads activations.
        actual: Its scores, (16, classes).
        expected: The reference, (16, classes).
        has_signs: Whether the network has sign activations.
    """
    errors = np.abs(actual - expected).max(axis=1) / np.abs(expected).max()
    same = actual.argmax(axis=1) == expected.argmax(axis=1)
    lengths = np.linalg.norm(actual) * np.linalg.norm(expected)
    products = (actual.astype(np.float64) * expected).sum()
    cosine = float(products / max(lengths, np.finfo(np.float32).tiny))
    if kind in ("float32", "binary"):
        different = float((~(errors <= MAX_FLOAT_ERROR) | ~same).mean())
        correct = different <= (MAX_SIGN_TIES if has_signs else 0)
    else:
        correct = cosine >= MIN_COSINE
    verdict: Verdict = "ok" if kind != "bfloat16" else "information"
    return Judgment(
        verdict if correct else "wrong result", float(errors.max()), cosine, float(same.mean())
    )


def measure(
    case: Case, seconds: float, progress: Callable[[float], None] | None = None
) -> tuple[list[Result], list[LeftOut]]:
    """Compare the scores of every engine, then time all of them, interleaved.

    Args:
        case: The network, batch size and threads.
        seconds: Time for all engines together.
        progress: Called with the share that is done, 0 to 1.
    """
    candidates = [
        contender(case, engine, kind)
        for engine, kind in ENGINES
        if case.has_signs or kind != "binary"
    ]
    ready = [candidate for candidate in candidates if isinstance(candidate, Contender)]
    left_out = [candidate for candidate in candidates if isinstance(candidate, LeftOut)]
    expected = scores(ready[0], case)
    judgments = [judge(c.kind, scores(c, case), expected, has_signs=case.has_signs) for c in ready]
    load = OtherLoad()
    calls = {(c.engine, c.kind): partial(c.run, case.x) for c in ready}
    timings = interleave(calls, seconds, progress=progress)
    share = load.share()
    results = [
        result(case, c, judgment, timing, share)
        for c, judgment, timing in zip(ready, judgments, timings.values(), strict=True)
    ]
    return results, left_out


def result(
    case: Case, ready: Contender, judgment: Judgment, timing: Timing, others: float
) -> Result:
    """What is recorded of one engine."""
    return Result(
        network=case.name,
        batch=case.batch,
        threads=case.threads,
        engine=ready.engine,
        kind=ready.kind,
        **judgment._asdict(),
        median_ms=timing.median * 1e3,
        min_ms=timing.minimum * 1e3,
        calls=timing.calls,
        turns_ms=[turn * 1e3 for turn in timing.turns],
        others=others,
    )
