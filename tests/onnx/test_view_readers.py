"""Operations that move elements: what ONNX Runtime gives, or a refusal by name."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import floats
from onnx import TensorProto, helper, numpy_helper
from onnx_compare import compare
from onnx_models import f32, i64, model, op

from bwn.errors import GraphError
from bwn.onnx.importer import from_bytes

SHAPE = [op("Shape", "x", "s"), op("Cast", "s", "t", to=TensorProto.INT32)]
BATCH_TWICE = [
    *SHAPE,
    op("Gather", "t i", "n", axis=0),
    op("Mul", "n two", "m"),
    op("Unsqueeze", "m a", "u"),
    op("Concat", "u rest", "c", axis=0),
    op("Cast", "c", "d", to=TensorProto.INT64),
]
BATCH_TWICE_STORED = {
    "i": np.int64(0), "two": np.int32(2), "a": i64(0), "rest": np.array([-1], np.int32)
}  # fmt: skip
SIGN_OF = [op("GreaterOrEqual", "x z", "b"), op("Where", "b p n")]
Z, P, M = {"z": f32(0.0)}, {"p": f32(1.0)}, {"n": f32(-1.0)}
EXACT = {
    "softmax over an axis of 1": model(
        op("Transpose", "x", "p", perm=[0, 2, 3, 1]),
        op("MatMul", "p w", "m"),
        op("Unsqueeze", "m a", "u"),
        op("Squeeze", "u b", "q"),
        op("Reshape", "q s", "r"),
        op("Softmax", "r", axis=1),
        shape=(3, 2, 2),
        w=floats(3, 4), a=i64(1), b=i64(1), s=i64(0, 1, 4, 4),
    ),
    "softmax over rows": model(op("Softmax", "x", axis=2)),
    "flattened softmax after a squeeze of the batch": model(
        op("Squeeze", "x", "q"), op("Softmax", "q", "m", axis=2), op("Unsqueeze", "m a", "u"),
        op("Flatten", "u"), batch=1, a=i64(0),
    ),
    "softmax after a squeeze of the batch": model(
        op("Squeeze", "x", "q"), op("Softmax", "q", "m", axis=2), op("Unsqueeze", "m a"),
        batch=1, a=i64(0),
    ),
    "dense layer after a squeeze of the batch": model(
        op("GlobalAveragePool", "x", "g"), op("Squeeze", "g", "q"), op("Unsqueeze", "q a", "u"),
        op("Gemm", "u w"), batch=1, a=i64(0), w=floats(4, 3),
    ),
    "batch of 1 picked and put back": model(
        op("Gather", "x i", "g", axis=0), op("Unsqueeze", "g a", "u"), op("Relu", "u"),
        batch=1, i=np.int64(0), a=i64(0),
    ),
    "matrix of (1, N, K)": model(
        op("Unsqueeze", "x a", "u"), op("MatMul", "u w", "m"), op("Squeeze", "m a"),
        shape=(6,), a=i64(0), w=floats(6, 3),
    ),
    "matrix of (N, 1, K)": model(
        op("Unsqueeze", "x a", "u"), op("MatMul", "u w", "m"), op("Squeeze", "m a"),
        shape=(6,), a=i64(1), w=floats(6, 3),
    ),
    "axes added at the front": model(
        op("Expand", "x s", "e"), op("Squeeze", "e a", "q"), op("Relu", "q"),
        s=i64(1, 1, 4, 7, 6), a=i64(0),
    ),
    "quotient of integers": model(
        op("Div", "p q", "d"), op("Cast", "d", "f", to=TensorProto.FLOAT), op("Mul", "x f"),
        p=np.int64(-7), q=np.int64(2),
    ),
    "bias of a dense layer (1, 1)": model(
        op("Gemm", "x w c"), shape=(6,), w=floats(6, 3), c=floats(1, 1)
    ),
    "signal": model(
        op("Conv", "x w", "c", pads=[1, 1]), op("BatchNormalization", "c g b m v", "n"),
        op("MaxPool", "n", "p", kernel_shape=[2], strides=[2]), op("Flatten", "p", "f"),
        op("Gemm", "f d"),
        shape=(3, 8), w=floats(4, 3, 3), d=floats(16, 5), g=floats(4), b=floats(4, seed=1),
        m=floats(4, seed=2), v=np.abs(floats(4, seed=3)) + f32(0.1),
    ),
    "channels last": model(
        op("Transpose", "x", "t", perm=[0, 3, 1, 2]), op("Conv", "t w", "c"),
        op("Transpose", "c", "l", perm=[0, 2, 3, 1]), op("Add", "l b", "a"),
        op("Relu", "a", "r"), op("Flatten", "r", "f"), op("MatMul", "f d"),
        shape=(6, 5, 3), w=floats(4, 3, 3, 3), b=floats(4), d=floats(48, 5),
    ),
}  # fmt: skip
ANSWERS_REFUSED = {
    "comparison with more columns": (
        model(*SIGN_OF, shape=(1,), z=np.zeros((1, 5), np.float32), **P, **M)
    ),
    "comparison of more axes": (
        model(*SIGN_OF, shape=(4,), z=np.zeros((1, 1, 1, 1), np.float32), **P, **M)
    ),
    "choice of more axes": (
        model(*SIGN_OF, shape=(4,), p=np.ones((1, 1, 1), np.float32), **Z, **M)
    ),
    "bias of a row each": model(op("Gemm", "x w c"), shape=(4,), w=floats(4, 3), c=floats(3, 1)),
    "twice the batch": model(
        *BATCH_TWICE, op("Reshape", "x d"), shape=(4,), **BATCH_TWICE_STORED
    ),
    "twice the batch of images": model(
        *BATCH_TWICE, op("Reshape", "x d", "r"), op("Softmax", "r"), shape=(2, 3, 3),
        **BATCH_TWICE_STORED,
    ),
    "batch compared": model(
        op("Shape", "x", "s"), op("Gather", "s i", "n", axis=0), op("Greater", "n one", "g"),
        op("Where", "g p q", "k"), op("Mul", "x k"),
        shape=(4,), i=np.int64(0), one=np.int64(1), p=f32(2.0), q=f32(5.0),
    ),
    "times the batch": model(
        op("Shape", "x", "s"), op("Gather", "s i", "n", axis=0),
        op("Cast", "n", "f", to=TensorProto.FLOAT), op("Mul", "x f"), shape=(4,), i=np.int64(0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_computes_what_onnx_runtime_does(name: str) -> None:
    proto = onnx.load_model_from_string(EXACT[name])
    dims = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    compare(EXACT[name], floats(dims[0] or 3, *dims[1:]))


@pytest.mark.parametrize("name", ANSWERS_REFUSED)
def test_is_right_or_refused_by_name(name: str) -> None:
    """Once these gave wrong answers."""
    proto = onnx.load_model_from_string(ANSWERS_REFUSED[name])
    dims = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    try:
        compare(ANSWERS_REFUSED[name], floats(3, *dims[1:]))
    except GraphError as error:
        refused = str(error)
    else:
        return
    names = [*(node.name for node in proto.graph.node), "output node 'y'"]
    assert any(name in refused for name in names), refused


def squeezed_if(opset: int, *, inner: bool) -> bytes:
    """As torch writes a Squeeze of an axis whose size it does not know: twice, of one name each."""
    end = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
    one = numpy_helper.from_array(i64(2), "axis")
    squeeze = helper.make_graph([op("Squeeze", "v axis", "r")], "then", [], end, [one])
    keep = helper.make_graph([op("Identity", "v", "r")], "else", [], end)
    first = [
        op("Shape", "v", "s"), op("Gather", "s i", "n", axis=0), op("Equal", "n one", "c"),
        helper.make_node("If", ["c"], ["q"], name="inner", then_branch=squeeze, else_branch=keep),
    ]  # fmt: skip
    stored = {"i": np.int64(2), "one": np.int64(1)}
    if inner:
        body = [*first, op("Relu", "q", "r")]
        end_of_body = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
        never = helper.make_graph([op("Identity", "v", "r")], "else", [], end_of_body)
        outer = helper.make_graph(body, "then", [], end_of_body)
        first = [helper.make_node("If", ["yes"], ["q"], then_branch=outer, else_branch=never)]
        stored["yes"] = np.array(True)
    nodes = [
        op("GlobalAveragePool", "x", "v"), *first, op("Flatten", "q", "f"), op("Gemm", "f w"),
    ]  # fmt: skip
    return model(*nodes, opset=opset, w=floats(4, 3), **stored)


@pytest.mark.parametrize("inner", [False, True])
def test_an_if_with_a_constant_condition_is_its_branch(inner: bool) -> None:
    compare(squeezed_if(17, inner=inner), floats(3, 4, 7, 6))


def test_an_if_of_the_input_is_refused() -> None:
    end = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
    branches = [
        helper.make_graph([op(kind, "x", "r")], kind, [], end) for kind in ("Relu", "Identity")
    ]
    node = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    steps = [op("ReduceMax", "x", "m", axes=[1, 2, 3], keepdims=0), op("Greater", "m z", "c")]
    with pytest.raises(GraphError, match="expected a constant"):
        from_bytes(model(*steps, node, z=f32(0.0)))


def gray(*nodes: onnx.NodeProto, shape: tuple[int, ...] = (20, 24), **stored: np.ndarray) -> bytes:
    """Nodes that read (N, 20, 24), as Keras's first layers do."""
    return model(*nodes, shape=shape, batch="N", **stored)


@pytest.mark.parametrize(
    "data",
    [
        gray(op("Flatten", "x", "f"), op("Relu", "f")),
        gray(op("Reshape", "x s", "f"), op("Relu", "f"), s=i64(-1, 480)),
        gray(op("Unsqueeze", "x a", "f"), op("Conv", "f w"), a=i64(1), w=floats(2, 1, 3, 3)),
    ],
    ids=["Flatten", "Reshape", "Unsqueeze"],
)
def test_an_input_that_is_reshaped_is_a_gray_image(data: bytes) -> None:
    assert from_bytes(data).spec.graph.topology.input_shape == (1, 20, 24)
    compare(data, floats(3, 20, 24))


@pytest.mark.parametrize("shape", [(20, 24), (2, 480)])
def test_another_input_of_two_axes_is_a_signal(shape: tuple[int, int]) -> None:
    flat = op("Flatten", "x") if shape[0] < 16 else op("Relu", "x")
    data = gray(flat, shape=shape)
    assert from_bytes(data).spec.graph.topology.input_shape == (shape[0], 1, shape[1])
    compare(data, floats(3, *shape))
