"""What the demo has of its own: digits as image files, and the figures at its end. Its steps are the commands."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from bwn.data.datasets import SAMPLE, load_dataset
from bwn.data.images import prepare
from bwn.model import load

WARM_UP, REPETITIONS = 50, 500


@dataclass(frozen=True)
class Figures:
    """What one packed network is worth beside its float original.

    images: how many test images. right, float_right: how many of them the packed and the float network class rightly.
    agree: on how many both say the same. bytes, float_bytes: of the two files.
    milliseconds, float_milliseconds: median latency of one image on one thread, packed and in ONNX Runtime.
    """

    images: int
    right: int
    float_right: int
    agree: int
    bytes: int
    float_bytes: int
    milliseconds: float
    float_milliseconds: float


def write_digits(folder: Path, each: int = 2) -> int:
    """Write the first `each` test images of every class of the sample as DIGIT/NUMBER.png; returns how many."""
    data = load_dataset(SAMPLE, "test")
    for label, name in enumerate(data.classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in np.flatnonzero(data.labels == label)[:each]:
            Image.fromarray(data.images[index]).save(folder / name / f"{index:04}.png")
    return each * len(data.classes)


def measure(packed: Path, exported: Path) -> Figures:
    """Run both networks on the sample's test images. packed: the .bwn file. exported: its .onnx file."""
    from bwn.onnx.session import Session

    model, session = load(packed, threads=1), Session(str(exported), threads=1)
    preprocess = model.spec.preprocess
    assert preprocess is not None, "a network trained by bwn carries its preprocessing"
    data = load_dataset(SAMPLE, "test")
    x = np.stack(
        [prepare(Image.fromarray(image), preprocess) for image in data.images]
    )  # (N, 1, 28, 28)
    x = x.reshape(len(x), *model.input_shape)
    ours, theirs = model.run(x).argmax(1), session.run(x).argmax(1)
    return Figures(
        images=len(x),
        right=int((ours == data.labels).sum()),
        float_right=int((theirs == data.labels).sum()),
        agree=int((ours == theirs).sum()),
        bytes=packed.stat().st_size,
        float_bytes=exported.stat().st_size,
        milliseconds=_latency(lambda: model.run(x[:1])),
        float_milliseconds=_latency(lambda: session.run(x[:1])),
    )


def _latency(call: Callable[[], object]) -> float:
    times = []
    for _ in range(WARM_UP + REPETITIONS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * median(times[WARM_UP:])
