"""The reference against formulations that share nothing with it: nested loops, ONNX Runtime."""

from __future__ import annotations

from itertools import product as every

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from bwn.kernels import bits, reference

SETTINGS = [
    {},
    {"stride": (2, 1), "pads": (1, 0, 2, 1)},
    {"dilation": (2, 3), "pads": (2, 3, 1, 0)},
    {"groups": 2, "pads": (1, 1, 1, 1)},
    {"groups": 4, "stride": (3, 2), "dilation": (1, 2), "pads": (0, 2, 1, 1)},
]


def loops(x, w, stride=(1, 1), pads=(0, 0, 0, 0), dilation=(1, 1), groups=1):
    """Convolution, one product at a time, in Python's own numbers."""
    (n, _, h, wd), (o, cg, kh, kw) = x.shape, w.shape
    ho = (h + pads[0] + pads[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    wo = (wd + pads[1] + pads[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((n, o, ho, wo), object)
    for b, f, i, j in np.ndindex(y.shape):
        for k, u, v in every(range(cg), range(kh), range(kw)):
            row = i * stride[0] + u * dilation[0] - pads[0]
            column = j * stride[1] + v * dilation[1] - pads[1]
            if 0 <= row < h and 0 <= column < wd:
                y[b, f, i, j] += (
                    x[b, f // (o // groups) * cg + k, row, column].item() * w[f, k, u, v].item()
                )
    return y


def runtime(op, feeds, shape, **attributes):
    """One ONNX node through ONNX Runtime."""
    values = [
        helper.make_tensor_value_info(k, TensorProto.FLOAT, v.shape) for k, v in feeds.items()
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph(
        [helper.make_node(op, list(feeds), ["y"], **attributes)], "g", values, [out]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)[0]


def tensors(seed, groups, integer):
    rng = np.random.default_rng(seed)
    x = rng.integers(-127, 128, (2, 4, 7, 8)) if integer else rng.normal(size=(2, 4, 7, 8))
    w = (
        rng.integers(-9, 10, (8, 4 // groups, 2, 3))
        if integer
        else rng.normal(size=(8, 4 // groups, 2, 3))
    )
    kind = np.int8 if integer else np.float32
    return x.astype(kind), w.astype(kind)


@pytest.mark.parametrize("settings", SETTINGS)
def test_integer_convolution_equals_nested_loops(settings):
    x, w = tensors(1, settings.get("groups", 1), integer=True)
    y = reference.conv(x, w, **settings)
    assert y.dtype == np.int64
    assert (y == loops(x, w, **settings)).all()


@pytest.mark.parametrize("settings", SETTINGS)
def test_float_convolution_agrees_with_loops_and_onnxruntime(settings):
    x, w = tensors(2, settings.get("groups", 1), integer=False)
    y = reference.conv(x, w, **settings)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, loops(x, w, **settings).astype(float), rtol=0, atol=1e-13)
    names = {"stride": "strides", "dilation": "dilations", "groups": "group", "pads": "pads"}
    attributes = {names[k]: v if k == "groups" else list(v) for k, v in settings.items()}
    theirs = runtime("Conv", {"x": x, "w": w}, y.shape, **attributes)
    np.testing.assert_allclose(
        theirs, y, rtol=0, atol=24 * np.finfo(np.float32).eps * np.abs(y).max()
    )


def test_integers_past_float64_stay_exact():
    x = np.array([[2**40 + 1, 1]])
    assert reference.dense(x, np.array([[2**20, 3]])).tolist() == [[(2**40 + 1) * 2**20 + 3]]
    assert reference.dense(np.array([[-128]], np.int8), np.array([[-128]], np.int8)).tolist() == [
        [16384]
    ]


def test_dense_of_mixed_kinds_is_float64():
    y = reference.dense(np.float32([[0.5, 2.0]]), np.int8([[1, -1], [-1, -1]]))
    assert y.dtype == np.float64
    assert y.tolist() == [[-1.5, -2.5]]


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("count_pads", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "pads"),
    [
        ((2, 2), (2, 2), (0, 0, 0, 0)),
        ((3, 2), (2, 1), (1, 0, 2, 1)),
        ((7, 8), (1, 1), (0, 0, 0, 0)),
    ],
)
def test_pool_agrees_with_onnxruntime(kind, count_pads, kernel, stride, pads):
    x = (
        np.random.default_rng(3).normal(size=(2, 3, 7, 8)).astype(np.float32) - 3
    )  # so that a padded 0 would win
    y = reference.pool(x, kind, kernel=kernel, stride=stride, pads=pads, count_pads=count_pads)
    attributes = {"kernel_shape": kernel, "strides": stride, "pads": pads}
    if kind == "average":
        attributes["count_include_pad"] = int(count_pads)
    theirs = runtime("MaxPool" if kind == "max" else "AveragePool", {"x": x}, y.shape, **attributes)
    np.testing.assert_allclose(theirs, y, rtol=0, atol=0 if kind == "max" else 1e-5)


def test_epilogue_scales_shifts_then_clamps():
    acc = np.arange(-3, 3).reshape(1, 2, 3)
    y = reference.epilogue(acc, np.float32([2, -1]), np.float32([0.5, 0]), -4, 1)
    assert y.tolist() == [[[-4, -3.5, -1.5], [0, -1, -2]]]
    assert reference.epilogue(acc).tolist() == acc.tolist()


def test_epilogue_takes_one_scale_per_image():
    acc = np.ones((2, 2, 1, 1))
    assert reference.epilogue(acc, np.array([[1, 2], [3, 4]])).ravel().tolist() == [1, 2, 3, 4]


def test_affine_and_clamp():
    x = np.float32([[1, -2]])
    assert reference.affine(x, np.float32([3, 2]), np.float32([1, 1])).tolist() == [[4, -3]]
    assert reference.clamp(x, 0).tolist() == [[1, 0]]
    assert reference.clamp(x, None, 0.5).tolist() == [[0.5, -2]]


def test_sign_counts_zeros_as_plus_and_nan_as_minus():
    y = reference.sign(np.array([0.0, -0.0, np.nan, 1e-300, -1e-300, np.inf, -np.inf]))
    assert y.dtype == np.int8
    assert y.tolist() == [1, 1, -1, 1, -1, 1, -1]


def test_softmax_of_large_scores():
    y = reference.softmax(np.float32([[1000, 1000], [0, np.log(3)]]))
    np.testing.assert_allclose(y, [[0.5, 0.5], [0.25, 0.75]], atol=1e-7)


def test_quantize_rounds_halves_to_even_and_clips():
    q, scales = reference.quantize(np.float32([[0.5, 1.5, -2.5, 200, -200]]), 1.0)
    assert q.tolist() == [[0, 2, -2, 127, -127]]
    assert (scales.dtype, scales.tolist()) == (np.float32, [1.0])


def test_quantize_from_0_up_has_steps_half_as_long():
    q, scales = reference.quantize(
        np.float32([[254, 1.5, -3], [0, 0, 0], [1, 0.5, -0.0]]), None, 0, 254
    )
    assert q.tolist() == [[254, 2, 0], [0, 0, 0], [254, 127, 0]]
    assert scales.tolist() == [1, 1, float(np.float32(1) / np.float32(127)) / 2]


def test_quantize_takes_the_step_of_each_image():
    q, scales = reference.quantize(np.float32([[-254, 1, 3], [0, 0, 0], [1, 0.5, 0]]))
    assert q.tolist() == [[-127, 0, 2], [0, 0, 0], [127, 64, 0]]
    assert scales.tolist() == [2, 1, float(np.float32(1) / np.float32(127))]


def test_packed_weights_come_back_in_k_order():
    rng = np.random.default_rng(4)
    w = rng.choice(np.int8([-1, 1]), (5, 3, 2, 7))
    rows = np.stack([w[:, c, y, x] for y in range(2) for x in range(7) for c in range(3)], axis=1)
    assert (reference.conv_weights(bits.pack(rows), (2, 7), 3) == w).all()
    assert (bits.unpack(bits.pack(rows), 42) == rows).all()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_sums_of_packed_signs(count):
    signs = np.random.default_rng(count).choice(np.int8([-1, 1]), (5, count))
    signs[1:3] = [[1], [-1]]
    assert bits.sums(bits.pack(signs), count).tolist() == signs.sum(axis=1, dtype=int).tolist()
