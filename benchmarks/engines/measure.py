"""One cell of the comparison: every engine on one network, batch and number of threads."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import partial
from statistics import median

import numpy as np

from bwn.tools.benchmark import example_input
from engines.case import Case, Contender, Floats, Kind, UnsuitedError
from engines.interleave import Others, take_turns
from engines.results import LeftOut, Result, Verdict

ENGINES: tuple[tuple[str, str, Kind], ...] = (
    ("onnxruntime", "engines.onnxruntime_engine", "float32"),
    ("openvino", "engines.openvino_engine", "float32"),
    ("ncnn", "engines.ncnn_engine", "float32"),
    ("litert", "engines.litert_engine", "float32"),
    ("bwn", "engines.bwn_engine", "float32"),
    ("onnxruntime", "engines.onnxruntime_engine", "int8"),
    ("openvino", "engines.openvino_engine", "int8"),
    ("litert", "engines.litert_engine", "int8"),
    ("bwn", "engines.bwn_engine", "int8"),
    ("openvino", "engines.openvino_engine", "binary"),
    ("bwn", "engines.bwn_engine", "binary"),
    ("openvino", "engines.openvino_engine", "bfloat16"),
)
"""Engine, its module and the function in it, named after the kind. The first is what the others are compared with."""

IMAGES = 16
FLOAT_ERROR = 1e-4
LEAST_COSINE = 0.98
MOST_APART = 1 / 8


def contenders(case: Case) -> Iterator[Contender | LeftOut]:
    """Every engine that can run the network, and the reasons of those that cannot."""
    for engine, module, kind in ENGINES:
        if kind == "binary" and not case.signs:
            continue
        try:
            yield getattr(importlib.import_module(module), kind)(case)
        except UnsuitedError as reason:
            yield LeftOut(network=case.name, engine=engine, kind=kind, reason=str(reason))


def scores(contender: Contender, case: Case) -> Floats:
    """Scores of 16 images, a batch at a time: (16, classes) float32."""
    x = example_input(case.spec, max(IMAGES, case.batch))
    parts = [
        contender.run(x[start : start + case.batch]).copy()
        for start in range(0, len(x), case.batch)
    ]
    return np.concatenate([part.reshape(case.batch, -1) for part in parts])


def judge(
    kind: Kind, found: Floats, expected: Floats, signs: bool
) -> tuple[Verdict, float, float, float]:
    """Verdict, relative error, cosine and share of images with the same class.

    float32 and sign activations: within 1e-4 of the largest score and of the same class, on every image; in a network
    with signs one image in eight may part, since a number next to 0 may fall on either side of a sign.
    int8: a cosine of 0.98.
    """
    errors = np.abs(found - expected).max(axis=1) / np.abs(expected).max()
    same = found.argmax(axis=1) == expected.argmax(axis=1)
    lengths = np.linalg.norm(found) * np.linalg.norm(expected)
    cosine = float(
        (found.astype(np.float64) * expected).sum() / max(lengths, np.finfo(np.float32).tiny)
    )
    apart = float((~(errors <= FLOAT_ERROR) | ~same).mean())
    right = (
        apart <= (MOST_APART if signs else 0)
        if kind in ("float32", "binary")
        else cosine >= LEAST_COSINE
    )
    verdict: Verdict = (
        "wrong result" if not right else "information" if kind == "bfloat16" else "ok"
    )
    return verdict, float(errors.max()), cosine, float(same.mean())


def measure(case: Case, seconds: float) -> tuple[list[Result], list[LeftOut]]:
    """Compare every engine's scores, then time them in turns for about `seconds` in all."""
    every = list(contenders(case))
    ready = [one for one in every if isinstance(one, Contender)]
    expected = scores(ready[0], case)
    judged = [judge(one.kind, scores(one, case), expected, case.signs) for one in ready]
    others = Others()
    times = take_turns(
        {f"{one.engine} {one.kind}": partial(one.run, case.x) for one in ready}, seconds
    )
    share = others.share()
    results = [
        Result(
            network=case.name,
            batch=case.batch,
            threads=case.threads,
            engine=one.engine,
            kind=one.kind,
            verdict=verdict,
            error=error,
            cosine=cosine,
            same_class=same,
            median_ms=median(timed.turns_ms),
            min_ms=timed.min_ms,
            calls=timed.calls,
            turns_ms=timed.turns_ms,
            others=share,
        )
        for one, (verdict, error, cosine, same), timed in zip(
            ready, judged, times.values(), strict=True
        )
    ]
    return results, [one for one in every if isinstance(one, LeftOut)]
