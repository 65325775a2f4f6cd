"""Operations of tensors of any axes: of five, and of axes that are merged with the batch."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats
from onnx import helper
from onnx_models import f32, i64, model, op

from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.passes import pipeline
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

SHAPE = (4, 6, 5)
FIVE = op("Reshape", "x five", "f")  # (N, 2, 2, 6, 5)
MERGED = op("Reshape", "x merged", "m")  # (N * 4, 6, 5)
WINDOWS = op("Reshape", "x windows", "m")  # (N * 2, 2, 6, 5)
STORED = {
    "around": i64(0, 0, 1, 2, 0, 0, 0, 1),
    "infinity": f32(-np.inf),
    "matrix": floats(3, 5, seed=30),
    "third": floats(6, 3, 5, seed=31),
    "square5": floats(5, 2, seed=32),
    "windows": i64(-1, 2, 6, 5),
    "windows2": i64(-1, 2, 4, 6, 5),
    "windowed": floats(4, 1, 3, 3, seed=21),
    "windowed2": floats(4, 2, 3, 3, seed=22),
    "pointwise": floats(4, 2, 1, 1, seed=23),
    "transposed": floats(2, 4, 3, 3, seed=24),
    "split": i64(-1, 2, 2, 6, 5),
    "two": i64(-1, 2, 6, 5),
    "back": i64(2, -1, 4, 6, 5),
    "pooled": i64(-1, 2, 2, 5, 4),
    "two_gammas": floats(2, seed=25),
    "two_betas": floats(2, seed=26),
    "volume": i64(-1, 2, 2, 6, 5),
    "flat3": floats(4, 2, 3, 1, 3, seed=27),
    "column": floats(7, 1, seed=28),
    "fifth": floats(1, 2, 1, 1, 1, seed=29),
    "five": i64(-1, 2, 2, 6, 5),
    "merged": i64(-1, 6, 5),
    "one": i64(1),
    "scales": f32(1, 1, 1, 1, 2),
    "pads": i64(0, 0, 1, 0, 2, 0, 0, 0, 3, 0),
    "repeats": i64(1, 2, 1, 3, 1),
    "token": floats(1, 2, 1, 6, 5, seed=1),
    "row": floats(1, 4, 3, 5, seed=2),
    "gamma": floats(6, seed=3),
    "beta": floats(6, seed=4),
    "mean": floats(6, seed=5),
    "var": np.abs(floats(6, seed=6)) + 0.5,
    "left": floats(7, 6, seed=7),
    "batched": floats(4, 5, 3, seed=8),
    "before": floats(1, 1, 3, 6, seed=9),
    "vector": floats(5, seed=10),
    "firsts": floats(6, seed=11),
    "square": floats(3, 4, seed=12),
    "grid": floats(1, 4, 6, 5, seed=13),
    "weight": floats(4, 4, 3, 3, seed=14),
}


def flatten(*nodes):
    return [*nodes, op("Flatten", "r")]


def einsum(equation, inputs):
    return op("Einsum", inputs, "r", equation=equation)


CASES = {
    "a concatenation of five axes": flatten(
        FIVE, op("Relu", "f", "g"), op("Concat", "f g f", "r", axis=2)
    ),
    "a concatenation of rows of the batch": [
        MERGED, op("Relu", "m", "g"), op("Concat", "m g", "c", axis=1),
        op("Reshape", "c end4", "r"), op("Flatten", "r"),
    ],
    "constants between five axes": flatten(FIVE, op("Concat", "token f token f", "r", axis=2)),
    "constants between rows": flatten(op("Concat", "x row x row row", "r", axis=2)),
    "pads of five axes": flatten(FIVE, op("Pad", "f pads", "r")),
    "mirrored pads of five axes": flatten(FIVE, op("Pad", "f mirror", "r", mode="reflect")),
    "crops and pads of five axes": flatten(FIVE, op("Pad", "f crop", "r", mode="edge")),
    "pads of rows of the batch": [
        MERGED, op("Pad", "m rowpads", "p"), op("Reshape", "p end4", "r"), op("Flatten", "r"),
    ],
    "a resize of one of five axes": flatten(
        FIVE, helper.make_node("Resize", ["f", "", "scales"], ["r"], mode="nearest")
    ),
    "a sum over one of five axes": flatten(FIVE, op("ReduceSum", "f one", "r", keepdims=0)),
    "a norm over two of five axes": flatten(FIVE, op("ReduceL2", "f", "r", axes=[1, 3])),
    "a maximum of rows of the batch": [
        MERGED, op("ReduceMax", "m", "p", axes=[1], keepdims=0), op("Sub", "p p0", "q"),
        op("Reshape", "q end4", "r"), op("Flatten", "r"),
    ],
    "a mean of merged tokens": [
        MERGED, op("ReduceMean", "m", "p", axes=[2]), op("Mul", "m p", "q"),
        op("Reshape", "q end4", "r"), op("Flatten", "r"),
    ],
    "batch norm of rows of the batch": [
        op("Transpose", "x", "t", perm=[0, 1, 3, 2]), op("Reshape", "t rows", "m"),
        op("BatchNormalization", "m gamma beta mean var", "n"),
        op("Reshape", "n all", "r"), op("Flatten", "r"),
    ],
    "batch norm of five axes": [
        op("Reshape", "x last", "f"), op("BatchNormalization", "f gamma beta mean var", "r"),
        op("Flatten", "r"),
    ],
    "a tile of five axes": flatten(FIVE, op("Tile", "f repeats", "r")),
    "a convolution of each window": [
        WINDOWS, op("Conv", "m windowed bias", "c", pads=[1, 1, 1, 1], group=2),
        op("Reshape", "c windows2", "r"), op("Flatten", "r"),
    ],
    "a matrix of each window": [
        WINDOWS, op("Conv", "m pointwise bias", "c"),
        op("Reshape", "c windows2", "r"), op("Flatten", "r"),
    ],
    "a transposed convolution of each window": [
        WINDOWS, op("ConvTranspose", "m transposed bias", "c", pads=[1, 1, 1, 1]),
        op("Reshape", "c windows2", "r"), op("Flatten", "r"),
    ],
    "windows inside and outside the batch": [
        op("Reshape", "x split", "s"), op("Transpose", "s", "t", perm=[1, 0, 2, 3, 4]),
        op("Reshape", "t two", "m"), op("Conv", "m windowed2 bias", "c", pads=[1, 1, 1, 1]),
        op("MaxPool", "c", "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        op("Reshape", "p back", "b"), op("Transpose", "b", "r", perm=[1, 0, 2, 3, 4]),
        op("Flatten", "r"),
    ],
    "pools of windows": [
        WINDOWS, op("AveragePool", "m", "a", kernel_shape=[2, 2]), op("GlobalMaxPool", "m", "g"),
        op("Add", "a g", "c"), op("Reshape", "c pooled", "r"), op("Flatten", "r"),
    ],
    "norms of windows": [
        WINDOWS, op("InstanceNormalization", "m two_gammas two_betas", "c"),
        op("Reshape", "c five", "r"), op("Flatten", "r"),
    ],
    "a convolution of two of three axes": flatten(
        op("Reshape", "x volume", "v"), op("Conv", "v flat3 bias", "r", pads=[1, 0, 1, 1, 0, 1]),
    ),
    "a constant that widens rows of the batch": [
        MERGED, op("ReduceMax", "m", "p", axes=[1], keepdims=1), op("Add", "p column", "q"),
        op("Reshape", "q end4", "r"), op("Flatten", "r"),
    ],
    "activations that widen each other": flatten(
        FIVE, op("ReduceMax", "f", "p", axes=[2]), op("ReduceMin", "f", "q", axes=[3]),
        op("Sub", "p q", "r"),
    ),
    "Einsum with a matrix": flatten(einsum("nchw,kw->nhkc", "x matrix")),
    "Einsum with a matrix first": flatten(einsum("kw,nchw->nchk", "matrix x")),
    "Einsum with matrices of rows": flatten(einsum("bchw,hkw->bchk", "x third")),
    "Einsum of two activations": flatten(einsum("bchw,bdhw->bcd", "x x")),
    "Einsum of heads": flatten(FIVE, einsum("bghqd,bghkd->bqghk", "f f")),
    "Einsum with a sum and an ellipsis": flatten(einsum("nc...,nchw->nc...", "x x")),
    "Einsum of one operand": flatten(einsum("nchw->nwc", "x")),
    "Einsum without an arrow": flatten(einsum("abcd,de", "x square5")),
    "an outer product": flatten(einsum("nchw,nkhw->nckhw", "x x")),
    "a maximum of what -inf surrounds": flatten(
        op("Pad", "x around infinity", "p"),
        op("MaxPool", "p", "r", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 0]),
    ),
    "a tile that is added": flatten(op("Tile", "x twice", "t"), op("Concat", "x x", "c", axis=1),
        op("Add", "t c", "r")),
    "a constant times an activation": flatten(op("MatMul", "left x", "r")),
    "a constant times five axes": flatten(FIVE, op("MatMul", "left f", "r")),
    "a constant times merged axes": [
        MERGED, op("MatMul", "left m", "p"), op("Reshape", "p end4", "r"), op("Flatten", "r"),
    ],
    "a matrix of each channel": flatten(op("MatMul", "x batched", "r")),
    "matrices that are repeated, first": flatten(op("MatMul", "before x", "r")),
    "matrices of each channel, first": flatten(op("MatMul", "many x", "r")),
    "a vector": flatten(op("MatMul", "x vector", "r")),
    "a vector first": flatten(op("MatMul", "firsts x", "r")),
    "a product with one head": flatten(
        op("ReduceMax", "x", "k", axes=[1]), op("Transpose", "k", "t", perm=[0, 1, 3, 2]),
        op("MatMul", "x t", "r"),
    ),
    "a product of heads and groups": flatten(
        FIVE, op("ReduceMax", "f", "k", axes=[1]), op("Transpose", "k", "t", perm=[0, 1, 2, 4, 3]),
        op("MatMul", "f t", "r"),
    ),
    "a product of fewer axes": flatten(
        FIVE, op("MatMul", "f batch2", "r"),
    ),
    "a transposed Gemm": flatten(
        op("GlobalAveragePool", "x", "g"), op("Flatten", "g", "v"), op("Transpose", "v", "t"),
        op("Gemm", "t square", "r", transA=1, transB=1, alpha=0.5),
    ),
    "a convolution of constants": flatten(
        op("Conv", "grid weight bias", "c", pads=[1, 1, 1, 1]), op("Add", "x c", "r")
    ),
    "a transposed convolution of constants": flatten(
        op("ConvTranspose", "grid weight", "c", pads=[1, 1, 1, 1]), op("Add", "x c", "r")
    ),
    "a convolution of signals of constants": flatten(
        op("Conv", "line kernel", "c", pads=[1, 1]), op("Add", "x c", "r")
    ),
}  # fmt: skip
STORED |= {
    "mirror": i64(0, 1, 0, 3, 2, 0, 0, 1, 0, 0),
    "crop": i64(0, 1, 0, -2, 2, 0, 0, 1, 0, -1),
    "rowpads": i64(0, 2, 0, 0, 0, 1),
    "rows": i64(-1, 6),
    "all": i64(-1, 4, 5, 6),
    "last": i64(-1, 6, 2, 2, 5),
    "twice": i64(1, 2, 1, 1),
    "many": floats(1, 4, 3, 6, seed=15),
    "batch2": floats(2, 5, 3, seed=16),
    "bias": floats(4, seed=17),
    "line": floats(1, 6, 5, seed=18),
    "kernel": floats(6, 6, 3, seed=19),
    "p0": f32(0.5),
}
# Where the last reshape is to other sizes.
SIZES = {
    "pads of rows of the batch": (8, 6),
    "a concatenation of rows of the batch": (12, 5),
    "a maximum of rows of the batch": (1, 5),
    "a constant times merged axes": (7, 5),
    "a constant that widens rows of the batch": (7, 5),
}
SINGLE = ("constants between five axes", "constants between rows")
"""Constants of a batch of 1."""


def data_of(name: str) -> bytes:
    stored = {**STORED, "end4": i64(-1, 4, *SIZES.get(name, (6, 5)))}
    used = {part for node in CASES[name] for part in node.input}
    stored = {key: array for key, array in stored.items() if key in used}
    return model(*CASES[name], shape=SHAPE, batch=1 if name in SINGLE else "N", **stored)


@pytest.mark.parametrize("name", CASES)
def test_computes_what_onnx_runtime_does(name: str) -> None:
    data, x = data_of(name), floats(3, *SHAPE, seed=20)
    graph = from_bytes(data).spec.graph
    for imported in (graph, pipeline.run(graph)):
        for batch in (1,) if name in SINGLE else (1, 3):
            y = Runner(make_plan(imported, batch, 2)).run(x[:batch])
            expected = Session(data).run(x[:batch])
            np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-4, atol=2e-5)
