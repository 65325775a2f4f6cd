"""Inputs of type uint8: the packed network gives what ONNX Runtime gives for the same pixels."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto
from onnx_models import f32, i64, model, op
from PIL import Image

import bwn
from bwn.errors import ArgumentError, FileError
from bwn.model import Model
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.predict import to_input
from bwn.tools.pack import pack

MEAN, STD = f32(0.485, 0.456, 0.406).reshape(3, 1, 1), f32(0.229, 0.224, 0.225).reshape(3, 1, 1)
RNG = np.random.default_rng(8)
PIXELS = RNG.integers(0, 256, (6, 5, 3), np.uint8)
NORMALIZE = [
    op("Div", "f a", "d"),
    op("Sub", "d m", "e"),
    op("Div", "e s", "n"),
    op("Conv", "n w", "c", kernel_shape=[3, 3]),
    op("GlobalAveragePool", "c", "p"),
    op("Flatten", "p"),
]
STORED = {
    "a": f32(255.0),
    "m": MEAN,
    "s": STD,
    "w": np.where(RNG.random((4, 3, 3, 3)) < 0.5, f32(-0.5), f32(0.5)),
}
CAST = op("Cast", "x", "f", to=TensorProto.FLOAT)


def network(*first, shape=(3, 6, 5), **stored):
    return model(*first, *NORMALIZE, shape=shape, kind=TensorProto.UINT8, **STORED, **stored)


def scores(data, x):
    (y,) = onnxruntime.InferenceSession(data).run(None, {"x": x})
    return y


FORMS = {
    "cast": [CAST],
    "cast to float16 and back": [
        op("Cast", "x", "h", to=TensorProto.FLOAT16),
        op("Cast", "h", "f", to=TensorProto.FLOAT),
    ],
    "channels turned round": [
        op("Gather", "x turn", "g", axis=1),
        op("Cast", "g", "f", to=TensorProto.FLOAT),
    ],
    "channels split and joined": [
        op("Split", "x", "r g b", axis=1),
        op("Concat", "b g r", "j", axis=1),
        op("Cast", "j", "f", to=TensorProto.FLOAT),
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_scores_are_those_of_onnx_runtime(form, tmp_path):
    stored = {"turn": i64(2, 1, 0)} if form == "channels turned round" else {}
    data = network(*FORMS[form], **stored)
    (tmp_path / "a.onnx").write_bytes(data)
    report = pack(tmp_path / "a.onnx", tmp_path / "a.bwn")
    assert report.compared
    assert any("takes pixels from 0 to 255 and normalizes them itself" in n for n in report.notes)
    assert str(report.preprocess) == "RGB, stretched to 6 x 5, pixels 0 to 255"
    packed = bwn.load(tmp_path / "a.bwn")
    x = to_input(packed.spec, Image.fromarray(PIXELS))[None]
    assert (x == PIXELS.transpose(2, 0, 1)).all()
    expected = scores(data, PIXELS.transpose(2, 0, 1)[None])
    np.testing.assert_allclose(packed.run(x), expected, atol=1e-5)
    np.testing.assert_array_equal(Session(data).run(x), expected)


def test_a_gray_image():
    nodes = [CAST, op("Div", "f a", "d"), op("Flatten", "d", "v"), op("Gemm", "v w")]
    weights = RNG.standard_normal((30, 2)).astype(np.float32)
    data = model(*nodes, shape=(1, 6, 5), kind=TensorProto.UINT8, a=f32(255.0), w=weights)
    spec = from_bytes(data).spec
    assert str(spec.preprocess) == "grayscale, stretched to 6 x 5, pixels 0 to 255"
    x = to_input(spec, Image.fromarray(PIXELS[..., 0]))[None]
    expected = scores(data, PIXELS[None, None, :, :, 0])
    np.testing.assert_allclose(Model(spec, 1).run(x), expected, rtol=1e-5)


def test_a_preset_says_how_it_is_resized_and_no_more(tmp_path):
    (tmp_path / "a.onnx").write_bytes(network(CAST))
    report = pack(tmp_path / "a.onnx", tmp_path / "a.bwn", preprocess={"preset": "imagenet"})
    assert (report.preprocess.resize, report.preprocess.scale) == (6, 1)
    assert any("mean and std of preset 'imagenet' are left out" in note for note in report.notes)
    with pytest.raises(ArgumentError, match="takes pixels from 0 to 255; leave out mean and std"):
        pack(tmp_path / "a.onnx", tmp_path / "b.bwn", preprocess={"mean": (0.5,) * 3})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            network(op("Div", "x two", "h"), op("Cast", "h", "f", to=1), two=np.uint8(2)),
            "Div node 'Div of h': reads the input as uint8; cast it to float32 first",
        ),
        (network(op("Cast", "x", "h", to=6), op("Cast", "h", "f", to=1)), "Cast node 'Cast of h'"),
        (
            network(op("Concat", "x k", "h", axis=1), op("Cast", "h", "f", to=1), k=PIXELS[None]),
            "Concat node 'Concat of h': reads the input as uint8",
        ),
        (model(op("Identity", "x"), kind=TensorProto.UINT8), "the output is the input as uint8"),
        (
            model(CAST, op("Relu", "f"), shape=(4, 6, 5), kind=TensorProto.UINT8),
            "uint8 of shape (4, 6, 5), expected images of 1 or 3 channels",
        ),
        (model(op("Cast", "x", to=1), kind=TensorProto.INT32), "input 'x' is not float32"),
    ],
)
def test_other_arithmetic_is_refused(data, message):
    with pytest.raises(FileError) as caught:
        from_bytes(data)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "first",
    [
        [op("Cast", "x", "q", to=TensorProto.FLOAT), op("Transpose", "q", "f", perm=[0, 3, 1, 2])],
        [op("Transpose", "x", "t", perm=[0, 3, 1, 2]), op("Cast", "t", "f", to=TensorProto.FLOAT)],
    ],
)
def test_images_with_channels_last(first, tmp_path):
    data = network(*first, shape=(6, 5, 3))
    (tmp_path / "a.onnx").write_bytes(data)
    report = pack(tmp_path / "a.onnx", tmp_path / "a.bwn")
    assert report.compared
    packed = bwn.load(tmp_path / "a.bwn")
    x = to_input(packed.spec, Image.fromarray(PIXELS))[None]
    np.testing.assert_allclose(packed.run(x), scores(data, PIXELS[None]), atol=1e-5)
