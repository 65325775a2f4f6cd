"""Whatever reads an image file, the network's input is that of `Model.predict`."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from graphs import make_graph
from PIL import Image

from bwn.data.images import read_image
from bwn.data.resizing import prepare
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.predict import to_input
from bwn.tools.calibrate import input_batches
from bwn.tools.verify_inputs import load_samples

RULES = {
    "center of BGR": Preprocess(
        size=(20, 20),
        resize=24,
        color="BGR",
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.4),
        interpolation="bicubic",
        background=(255, 255, 255),
    ),
    "center of gray": Preprocess(size=(20, 18), resize=22, color="L", mean=(0.5,), std=(0.5,)),
    "pixels": Preprocess(size=(20, 20), color="RGB", mean=(0.0,) * 3, std=(1.0,) * 3, scale=1),
    "crop": Preprocess(size=(20, 20), resize="crop", color="L", mean=(0.0,), std=(1.0,)),
}


@pytest.fixture(params=RULES)
def spec(request):
    rule = RULES[request.param]
    shape = (1 if rule.color == "L" else 3, *rule.size)
    weights = np.ones((2, int(np.prod(shape))), np.float32)
    nodes = Flatten(input="x", output="f"), Dense(input="f", output="y", weight="w")
    return ModelSpec(
        graph=make_graph(*nodes, shape=shape, w=weights), preprocess=rule, classes=("a", "b")
    )


@pytest.fixture
def photos(tmp_path):
    """Test images of two classes; among them some that have the network's size already."""
    rng = np.random.default_rng(3)
    for split in ("train", "test"):
        for name in "ab":
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for index, size in enumerate([(20, 20), (31, 47), (400, 320)]):
                pixels = rng.integers(0, 256, (*size, 4 if index else 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "photos"


def expected(spec, paths):
    return np.stack([prepare(read_image(p, rule=spec.preprocess), spec.preprocess) for p in paths])


def test_folders_and_data_sets_are_prepared_as_single_files(spec, photos):
    single = sorted((photos / "test" / "a").iterdir())
    x = load_samples(spec, photos / "test" / "a").batch(0, 9)
    np.testing.assert_array_equal(x, expected(spec, single))
    np.testing.assert_array_equal(x[1], to_input(spec, single[1]))
    both = [*single, *sorted((photos / "test" / "b").iterdir())]
    np.testing.assert_array_equal(load_samples(spec, photos).batch(0, 9), expected(spec, both))


def test_calibration_prepares_as_single_files(spec, photos):
    shape = spec.graph.topology.input_shape
    train = [path for name in "ab" for path in sorted((photos / "train" / name).iterdir())]
    (x,) = input_batches(photos, spec.preprocess, shape)
    np.testing.assert_array_equal(x, expected(spec, train))
    (x,) = input_batches(train, spec.preprocess, shape)
    np.testing.assert_array_equal(x, expected(spec, train))


def test_records_are_prepared_as_images(spec, tmp_path):
    digits = np.random.default_rng(4).integers(0, 256, (3, 20, 20), np.uint8)
    for name, array in (("train", digits), ("t10k", digits)):
        images = struct.pack(">4I", 2051, *array.shape) + array.tobytes()
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        labels = struct.pack(">2I", 2049, 3) + bytes([0, 1, 0])
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(labels)
    rule, shape = spec.preprocess, spec.graph.topology.input_shape
    want = np.stack([prepare(Image.fromarray(image), rule) for image in digits])
    spec = ModelSpec(graph=spec.graph, preprocess=rule)
    np.testing.assert_array_equal(load_samples(spec, tmp_path).batch(0, 3), want)
    (x,) = input_batches(tmp_path, rule, shape)
    np.testing.assert_array_equal(x, want)


def test_noise_is_like_the_inputs(spec):
    x = load_samples(spec, None, 8).batch(0, 8)
    mean, deviation = (127.5, 64) if spec.preprocess.takes_pixels else (0, 1)
    assert abs(x.mean() - mean) < 0.1 * deviation
    assert abs(x.std() - deviation) < 0.1 * deviation
