"""ONNX import: what is refused, and with which message."""

from __future__ import annotations

import json

import numpy as np
import pytest
from graphs import floats
from onnx import TensorProto, helper
from onnx_models import BN, FLAT, SIGN, f32, i64, model, op

from bwn.errors import FileError, GraphError
from bwn.onnx.importer import from_bytes
from bwn.tools.pack import load

PREPROCESS = {"size": [7, 6], "resize": "crop", "color": "RGB", "mean": [0, 0, 0], "std": [1, 1, 1]}
REFUSED = {
    "unknown op": (
        model(op("Hardmax", "x")),
        "Hardmax node 'Hardmax of y': Hardmax is not supported",
    ),
    "unknown op without inputs": (
        model(helper.make_node("RandomNormal", [], ["r"], shape=[4, 1, 1]), op("Add", "x r")),
        "RandomNormal is not supported",
    ),
    "another domain": (model(op("Conv", "x", domain="other")), "other::Conv is not supported"),
    "loop": (
        model(
            helper.make_node("Loop", ["", "c"], ["y"], body=helper.make_graph([], "b", [], [])),
            c=np.asarray(True),
        ),
        "Loop node 'y': has a subgraph; control flow is not supported",
    ),
    "branch without outputs": (
        model(
            helper.make_node(
                "If",
                ["c"],
                ["y"],
                then_branch=helper.make_graph([], "t", [], []),
                else_branch=helper.make_graph([], "e", [], []),
            ),
            c=np.asarray(True),
        ),
        "If node 'y': has 1 outputs, its then_branch 0",
    ),
    "1-D weights": (
        model(op("Conv", "x w"), shape=FLAT, w=floats(5, 4, 3)),
        "only convolutions of",
    ),
    "3-D weights": (model(op("Conv", "x w"), w=floats(5, 4, 3, 3, 3)), "weights have 5 axes"),
    "computed weights": (
        model(op("Conv", "x x")),
        "'x' is computed from the network's input, expected a constant",
    ),
    "constant input": (
        model(op("Conv", "w w"), w=floats(64, 64, 64, 64)),
        "is a constant, expected a tensor that depends",
    ),
    "kernel_shape differs": (
        model(op("Conv", "x w", kernel_shape=[2, 2]), w=floats(5, 4, 3, 3)),
        "its weights say (3, 3)",
    ),
    "integer weights": (
        model(op("Conv", "x w"), w=floats(5, 4, 3, 3).astype(np.int32)),
        "int32, expected float32",
    ),
    "wrong channels": (
        model(op("Conv", "x w"), w=floats(5, 3, 3, 3)),
        "expected float32 (5, 4, 3, 3)",
    ),
    "wrong bias": (model(op("Conv", "x w b"), w=floats(5, 4, 3, 3), b=floats(4)), "expected (5,)"),
    "pads larger than the window": (
        model(op("Conv", "x w", pads=[1, 1, 1, 1]), w=floats(5, 4, 1, 1)),
        "pads are",
    ),
    "gemm transposed input": (
        model(op("Gemm", "x w", transA=1), shape=FLAT, w=floats(6, 3)),
        "reads (6, N), expected (N, K)",
    ),
    "gemm of images": (
        model(op("Gemm", "x w"), w=floats(6, 3)),
        "reads (N, 4, 7, 6), expected (N, K)",
    ),
    "matmul of three axes": (
        model(op("MatMul", "x w"), shape=FLAT, w=floats(2, 6, 3)),
        "multiplies (N, 6) by (2, 6, 3)",
    ),
    "training batch norm": (
        model(
            helper.make_node(
                "BatchNormalization", ["x", *"gbmv"], ["y", "q", "r"], training_mode=1
            ),
            **BN,
        ),
        "training mode",
    ),
    "negative variance": (
        model(op("BatchNormalization", "x g b m v"), **{**BN, "v": -BN["v"]}),
        "not finite",
    ),
    "gemm bias per example": (
        model(op("Gemm", "x w b"), shape=FLAT, w=floats(6, 3), b=floats(3, 1)),
        "'b' has shape (3, 1), expected (3,)",
    ),
    "constant without elements": (
        model(op("Max", "x c"), shape=(1,), c=floats(0)),
        "'y.constant' is float32 (0,), expected float32 with 1 axes of at least 1",
    ),
    "threshold that widens x": (
        model(
            op("GreaterOrEqual", "x z", "c"),
            op("Where", "c p n"),
            shape=(1,),
            **{**SIGN, "z": f32(0, 0)},
        ),
        "has shape (2,), which does not fit",
    ),
    "per example": (model(op("Mul", "x c"), c=floats(3, 1, 1, 1)), "that of the batch, is 1"),
    "one more axis": (model(op("Mul", "x c"), c=floats(1, 1, 4, 7, 6)), "expected at most 4 axes"),
    "sizes that do not fit": (
        model(op("Max", "x c"), c=floats(7, 5)),
        "operands of shapes (4, 7, 6) and (1, 7, 5)",
    ),
    "vectors and planes": (
        model(op("Flatten", "x", "f"), op("Add", "f x")),
        "operands of shapes (168,) and (4, 7, 6)",
    ),
    "slopes that make x larger": (
        model(op("PRelu", "x c"), shape=(1, 7, 6), c=floats(4, 1, 1)),
        "slopes of shape (4, 1, 1) do not fit (1, 7, 6)",
    ),
    "div by 0": (model(op("Div", "x c"), c=f32(0.0)), "divides by 0"),
    "clip NaN": (model(op("Clip", "x l"), l=f32(np.nan)), "low is nan"),
    "clip crossed": (
        model(op("Clip", "x l h"), l=f32(1.0), h=f32(0.0)),
        "low 1.0 is above high 0.0",
    ),
    "clip per channel": (model(op("Clip", "x l"), l=floats(4)), "expected one number"),
    "compared with NaN": (
        model(op("Less", "x c", "b"), op("Where", "b p n"), c=f32(np.nan), **SIGN),
        "compares with NaN",
    ),
    "comparison alone": (
        model(op("Less", "x z", "b"), op("Relu", "b"), **SIGN),
        "a comparison is read only by Where",
    ),
    "not of numbers": (
        model(op("Where", "x p n"), **SIGN),
        "supported only for comparisons",
    ),
    "places chosen": (
        model(op("Less", "x z", "b"), op("Where", "b w n"), w=floats(4, 7, 6), **SIGN),
        "differ from place to place",
    ),
    "sign raised alone": (
        model(op("Sign", "x", "s"), op("Add", "s c"), c=f32(0.1)),
        "read only by another Sign",
    ),
    "dilated average": (
        model(
            op("AveragePool", "x", kernel_shape=[2, 2], dilations=[2, 2], pads=[1] * 4), opset=19
        ),
        "dilations of an average over padded windows",
    ),
    "pool stride 0": (
        model(op("MaxPool", "x", kernel_shape=[2, 2], strides=[0, 1], ceil_mode=1)),
        "expected each at least",
    ),
    "mean of all": (model(op("ReduceMean", "x")), "goes over the batch"),
    "norm of a third power": (
        model(op("LpNormalization", "x", p=3)),
        "p is 3, expected 1 or 2",
    ),
    "log sum exp of all": (model(op("ReduceLogSumExp", "x")), "goes over the batch"),
    "norm of another axis": (
        model(op("LayerNormalization", "x s", axis=2), s=floats(7, 6)),
        "goes over the axes of (N, 4, 7, 6) from 2 on; supported: the last, all",
    ),
    "flatten of the batch": (model(op("Flatten", "x", axis=0)), "'y' is (1, N * 168); supported"),
    "reshape of the batch": (
        model(op("Reshape", "x s"), s=i64(-1, 42)),
        "'y' is (N * 4, 42); supported",
    ),
    "reshape to one": (
        model(op("Reshape", "x s"), s=i64(1, -1)),
        "'y' is (1, N * 168); supported",
    ),
    "reshape of other elements": (
        model(op("Reshape", "x s"), shape=(6,), s=i64(-1, 4, 2, 1)),
        "cannot turn (N, 6) into",
    ),
    "reshape without the batch": (
        model(op("Reshape", "x s"), shape=(6,), s=i64(2, 3)),
        "turns (N, 6) into (2, 3), which mixes examples",
    ),
    "squeeze of the batch": (
        model(op("Squeeze", "x a"), a=i64(0)),
        "removes an axis whose size is not 1",
    ),
    "softmax of several axes": (
        model(op("Softmax", "x"), opset=12),
        "goes over several axes of (N, 4, 7, 6); export with opset 13",
    ),
    "cast to integers": (model(op("Cast", "x", to=TensorProto.INT32)), "to another type"),
    "dropout that drops": (
        model(op("Dropout", "x r t"), r=f32(0.5), t=np.asarray(True)),
        "training mode",
    ),
    "fixed batch": (
        model(op("Relu", "x"), batch=2),
        "a fixed batch of 2; export with a dynamic first axis",
    ),
    "dynamic height": (
        model(op("Relu", "x"), shape=(3, "H", 8)),
        "sizes that are not fixed, (N, 3, H, 8); only the batch may be dynamic; choose height",
    ),
    "size 0": (
        model(op("Relu", "x"), shape=(3, 0, 8)),
        "input 'x' is ('N', 3, 0, 8); no size may be 0",
    ),
    "integer input": (model(op("Relu", "x"), kind=TensorProto.INT32), "is not float32"),
    "an empty image": (
        model(op("ReduceMax", "x", axes=[1]), shape=(0, 1, 4)),
        "input 'x' is ('N', 0, 1, 4); no size may be 0",
    ),
    "old opset": (model(op("Relu", "x"), opset=6), "opset 6; opsets 11 to"),
    "no activation": (model(op("Relu", "c"), c=f32(1.0)), "does not depend on the input"),
    "output is the input": (
        model(op("Relu", "x", "a"), output="x"),
        "no node makes the output 'x'",
    ),
    "huge gather": (
        model(
            op("Gather", "w i", "g"),
            op("Add", "x g"),
            w=np.zeros((1, 70_000), np.float32),
            i=np.zeros(5000, np.int64),
        ),
        "makes a constant of 2,800,000,000 bytes",
    ),
    "huge broadcast": (
        model(
            op("Add", "a b", "c"),
            op("Add", "x c"),
            a=np.zeros((20_000, 1), np.float32),
            b=np.zeros(20_000, np.float32),
        ),
        "makes a constant of 3,200,000,000 bytes",
    ),
    "huge concat": (
        model(
            op("Concat", " ".join(["w"] * 300), "c", axis=0),
            op("Add", "x c"),
            w=np.zeros(2**20, np.uint8),
        ),
        "makes a constant of 2,516,582,400 bytes",
    ),
    "constants that do not fit": (
        model(op("Add", "a b", "c"), op("Add", "x c"), a=floats(3), b=floats(4)),
        "cannot be computed",
    ),
    "preprocess that does not fit": (
        model(op("Relu", "x"), notes={"bwn.preprocess": json.dumps(PREPROCESS)}),
        "images become arrays of shape (3, 7, 6)",
    ),
    "metadata of another kind": (
        model(op("Relu", "x"), notes={"bwn.classes": "{}"}),
        "metadata 'bwn.classes' cannot",
    ),
    "metadata that is no text": (
        model(op("Relu", "x"), notes={"bwn.classes": '["flip"]'}).replace(
            b"flip", b"\xff\xfe\xf2p"
        ),
        "metadata 'bwn.classes' cannot be read",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name, tmp_path):
    data, message = REFUSED[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(FileError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_reasons_that_differ_in_names_and_shapes_are_one_kind():
    nodes = [op("MatMul", f"x w{count}", f"t{count}") for count in (5, 6, 7)]
    nodes.append(op("Sum", "t5 t6 t7"))
    weights = {f"w{count}": floats(count, 3) for count in (5, 6, 7)}
    with pytest.raises(GraphError) as caught:
        from_bytes(model(*nodes, shape=(8,), **weights))
    assert str(caught.value) == (
        "3 nodes cannot be read: 3 x MatMul ('MatMul of t5', 'MatMul of t6', 'MatMul of t7'): "
        "multiplies axis -1 of (N, 8) by a matrix of 5, and alike"
    )


def test_the_onnx_checker_is_asked():
    data = model(op("Relu", "x", wrong=1))
    with pytest.raises(FileError, match="the ONNX checker refuses it"):
        from_bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty, expected an ONNX model"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "not an ONNX model: it looks like a PNG image"),
        (b"PK\x03\x04" + bytes(50), "not an ONNX model: it looks like a zip archive"),
        (b"not a model at all\n", "not an ONNX model: it looks like a text file"),
        (bytes(64), "not an ONNX model: unrecognized contents"),
    ],
)
def test_files_of_other_types_are_named(data, message):
    with pytest.raises(FileError, match=f"^{message}$"):
        from_bytes(data)


def test_a_damaged_onnx_file_is_not_called_foreign():
    data = model(op("Relu", "x"))
    for broken in (data[:-5], data[:20]):
        with pytest.raises(
            FileError, match=r"^truncated or damaged ONNX model; copy it again, or export it again$"
        ):
            from_bytes(broken)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match=r"^no such file: .*none.onnx$"):
        load(tmp_path / "none.onnx")
