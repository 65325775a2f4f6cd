"""Images prepared by the code of C libraries: the numbers of `bwn.data.resizing`."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bwn.compile.compile_worker import _image_rule
from bwn.data import resizing
from bwn.data.resizing import prepare
from bwn.ir.model_spec import Preprocess
from bwn.kernels.aot.c_image import ImageParams
from bwn.kernels.aot.c_prepare import make_prepare
from bwn.kernels.aot.c_resample import work_bytes
from bwn.kernels.aot.c_spec import MAX_SIDE
from bwn.kernels.target.jit import CompiledEntry

RULES = [
    Preprocess(size=(28, 28), color="L", mean=(0.13,), std=(0.31,)),
    Preprocess(size=(14, 9), color="BGR", mean=(1, 2, 3), std=(1, 1, 1), resize=17, scale=1),
    Preprocess(
        size=(11, 8), color="RGB", mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), resize="crop",
        interpolation="bicubic",
    ),
    Preprocess(size=(8, 8), color="L", mean=(0,), std=(1,), resize=9, interpolation="nearest"),
    Preprocess(size=(12, 8), color="L", mean=(0,), std=(1,), interpolation="lanczos"),
    Preprocess(size=(3, 5), color="L", mean=(0,), std=(1,), interpolation="hamming", resize="crop"),
    Preprocess(size=(13, 4), color="L", mean=(0,), std=(1,), interpolation="box"),
]  # fmt: skip


class Prepared:
    """The entry for a rule."""

    def __init__(self, preprocess: Preprocess) -> None:
        rule = _image_rule(preprocess)
        self.preprocess = preprocess
        self.entry = CompiledEntry(make_prepare(rule), cache=False)
        self.work = np.zeros(-(-work_bytes(rule) // 8), np.int64)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        (height, width), channels = pixels.shape[:2], pixels[0, 0].size
        stride = width * channels + 5
        memory = np.zeros((height, stride), np.uint8)
        memory[:, : width * channels] = pixels.reshape(height, -1)
        x = np.full((len(self.preprocess.mean), *self.preprocess.size), np.nan, np.float32)
        values = (memory.ctypes.data, width, height, channels, stride, x.ctypes.data)
        block = np.array(ImageParams(*values, self.work.ctypes.data, self.work.nbytes), np.int64)
        self.entry(block.ctypes.data, 0, 1, 0)
        return x


def horizontally_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resize rows first, as all versions of Pillow before 13 do. That one may take columns first."""
    own = Image.Image.resize

    def resize(image, size, method=None, box=None):  # type: ignore[no-untyped-def]
        if method == Image.Resampling.NEAREST:
            return own(image, size, method, box=box)
        left, top, right, bottom = box or (0, 0, *image.size)
        narrow = own(image, (size[0], image.height), method, box=(left, 0, right, image.height))
        return own(narrow, size, method, box=(0, top, size[0], bottom))

    monkeypatch.setattr(Image.Image, "resize", resize)


def images(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Noise, gray and RGB, of all sorts of sizes."""
    largest = [(1, MAX_SIDE), (MAX_SIDE, 1), (2, 30000)]  # columns' weights do not fit at once
    sizes = [
        (1, 1),
        (1, 300),
        (300, 1),
        (28, 28),
        *largest,
        *rng.integers(1, 90, (count, 2)).tolist(),
    ]
    shapes = [(*size, 3) if i % 2 else size for i, size in enumerate(sizes)]
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


@pytest.mark.parametrize("preprocess", RULES, ids=str)
def test_inputs_are_those_of_bwn(preprocess: Preprocess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resizing, "MAX_RESIZED", 5000)
    prepared, rng = Prepared(preprocess), np.random.default_rng(3)
    step = 1.001 / preprocess.scale / min(preprocess.std)
    pixels = images(rng, 60)
    results = [prepared(image) for image in pixels]
    if preprocess.interpolation in ("bicubic", "lanczos"):
        step *= 20  # clipped between the two passes, whose order then counts
    for image, x in zip(pixels, results, strict=True):
        assert np.abs(x - prepare(Image.fromarray(image), preprocess)).max() <= step
    horizontally_first(monkeypatch)
    for image, x in zip(pixels, results, strict=True):
        assert x.tobytes() == prepare(Image.fromarray(image), preprocess).tobytes(), image.shape
