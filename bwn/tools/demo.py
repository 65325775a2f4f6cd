"""What the demo needs besides the commands: digits as image files, and accuracy at its end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bwn.data.datasets import SAMPLE, load_dataset
from bwn.model import load
from bwn.tools.verify_inputs import load_samples


@dataclass(frozen=True)
class Figures:
    """A packed network next to its float32 original, on the test images of the sample.

    Attributes:
        images: Number of test images.
        correct: Images that the packed network classifies correctly.
        float_correct: Images that the float32 network classifies correctly.
        agreements: Images that both give the same class.
        bytes: Size of the .bwn file.
        float_bytes: Size of the ONNX file.
    """

    images: int
    correct: int
    float_correct: int
    agreements: int
    bytes: int
    float_bytes: int


def write_digits(folder: Path, count: int = 2) -> int:
    """Write the first `count` test images of every class of the sample as DIGIT/NUMBER.png.

    Returns:
        How many were written.
    """
    data = load_dataset(SAMPLE, "test")
    for label, name in enumerate(data.classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in np.flatnonzero(data.labels == label)[:count]:
            Image.fromarray(data.images[index]).save(folder / name / f"{index:04}.png")
    return count * len(data.classes)


def measure(packed: Path, exported: Path) -> Figures:
    """Classify the test images of the sample with both networks.

    Args:
        packed: The .bwn file.
        exported: The ONNX file that it was packed from, or its equal.
    """
    from bwn.onnx.session import Session

    model, session = load(packed, threads=1), Session(str(exported), threads=1)
    samples = load_samples(model.spec, SAMPLE)
    x = samples.batch(0, samples.count)
    answers, float_answers = model.run(x).argmax(1), session.run(x).argmax(1)
    return Figures(
        images=len(x),
        correct=int((answers == samples.labels).sum()),
        float_correct=int((float_answers == samples.labels).sum()),
        agreements=int((answers == float_answers).sum()),
        bytes=packed.stat().st_size,
        float_bytes=exported.stat().st_size,
    )
