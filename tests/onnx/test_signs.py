"""Signs in every spelling, compared with ONNX Runtime, at 0 and around every threshold too."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats
from onnx import TensorProto, helper
from onnx_models import SIGN, f32, model, op

from bwn.ir.interpreter import evaluate
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.passes import pipeline

VECTOR = floats(4, 1, 1, seed=5)
FULL = floats(4, 7, 6, seed=6)
COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
HALF = {"h": f32(0.5), "t": f32(2.0), "one": f32(1.0)}


def after(*nodes, opset=17, **tensors):
    """A model of a condition b, and what is made of it."""
    return model(*nodes, opset=opset, **SIGN, **tensors)


def cast(name="b", output="y", to=TensorProto.FLOAT):
    return helper.make_node("Cast", [name], [output], to=to)


def integers(kind, *nodes, **numbers):
    """A comparison cast to integers of a type, arithmetic on these, and back."""
    numbers = {name: np.array(value, kind) for name, value in numbers.items()}
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    return after(op("Greater", "x z", "b"), cast("b", "i", element), *nodes, cast("j"), **numbers)


def repeated(value, like="x", output="k"):
    """A number for each of x, as ones_like writes it."""
    return (
        op("Shape", like, f"{output}.shape"),
        op("Expand", f"{value} {output}.shape", output),
    )


MODELS = {
    **{
        f"{kind} {inputs} {name}": after(
            op(kind, inputs, "b"), op("Where", f"b {values}"), t=threshold, a=VECTOR, q=f32(0.25)
        )
        for kind in COMPARISONS
        for inputs in ("x t", "t x")
        for name, threshold in (("0", f32(0.0)), ("1", f32(1.0)), ("C", VECTOR), ("CHW", FULL))
        for values in ("p n", "n p", "a q", "p z")
    },
    **{f"{kind} of two": after(op("Relu", "x", "r"), op("Mul", "x r", "m"), op(kind, "x m", "b"), cast())
       for kind in COMPARISONS},
    "not": after(op("Less", "x z", "b"), op("Not", "b", "c"), op("Where", "c p n")),
    "not not": after(op("Less", "x z", "b"), op("Not", "b", "c"), op("Not", "c", "d"), cast("d")),
    "cast and arithmetic": after(
        op("Greater", "x z", "b"), cast("b", "f"), op("Mul", "f t", "g"), op("Sub", "g one"), **HALF
    ),
    "one branch": after(op("Greater", "x z", "b"), op("Where", "b x z")),
    "two branches": after(op("Relu", "x", "r"), op("Less", "x h", "b"), op("Where", "b r x"), **HALF),
    "branch and number": after(op("LessOrEqual", "x h", "b"), op("Where", "b t x"), **HALF),
    "sign of relu": after(op("Relu", "x", "r"), op("Sign", "r")),
    "sign of relu and conv": after(
        op("Relu", "x", "r"), op("Sign", "r", "s"), op("Conv", "s w"), w=np.sign(floats(5, 4, 3, 3))
    ),
    "raised": after(op("Sign", "x", "s"), op("Add", "s h", "a"), op("Sign", "a"), **HALF),
    "cast to bool": after(op("Less", "x z", "b"), cast("b", "c", TensorProto.BOOL),
                          op("Not", "c", "d"), op("Where", "d p n")),
    "int64": integers("int64", op("Mul", "i a", "h"), op("Sub", "h c", "j"), a=2, c=1),
    "int8": integers("int8", op("Add", "i i8", "h"), op("Mul", "h a", "j"), i8=[100], a=2),
    "from a table": integers("int64", op("Gather", "t i", "g"), op("Add", "g c", "j"), t=[3, 5], c=1),
    "and back to a condition": after(
        op("Greater", "x z", "b"), cast("b", "i", TensorProto.UINT8), op("Sub", "u i", "j"),
        cast("j", "c", TensorProto.BOOL), op("Where", "c t x"), u=np.uint8(1), **HALF,
    ),
    "equal": after(op("Equal", "x t", "b"), op("Where", "b p x"), **HALF),
    "equal of channels": after(op("Equal", "x v", "b"), cast(), v=VECTOR),
    "and": after(op("Greater", "x z", "a"), op("Less", "x t", "b"), op("And", "a b", "c"),
                 op("Where", "c p n"), **HALF),
    "or": after(op("Less", "x v", "a"), op("Greater", "x t", "b"), op("Or", "a b", "c"),
                op("Not", "c", "d"), cast("d"), v=VECTOR, **HALF),
    "heaviside": after(op("Greater", "x z", "g"), cast("g", "f"), op("Equal", "x z", "e"),
                       op("Where", "e h f"), **HALF),
    "repeated zeros": after(*repeated("z"), op("GreaterOrEqual", "x k", "b"), op("Where", "b p n")),
    "repeated ones": after(
        op("Less", "x z", "b"), *repeated("p"), *repeated("n", output="m"), op("Where", "b k m")
    ),
    "repeated and activation": after(
        op("Less", "x z", "b"), *repeated("t"), op("Where", "b k x"), **HALF
    ),
    "a number at each place": after(
        op("Less", "x z", "b"), op("Where", "b a t"), a=np.full((1, 4, 7, 6), 3, np.float32), **HALF
    ),
    "channels last": after(
        helper.make_node("Transpose", ["x"], ["l"], perm=[0, 2, 3, 1]),
        op("GreaterOrEqual", "l t", "b"),
        op("Where", "b p n", "s"),
        helper.make_node("Transpose", ["s"], ["y"], perm=[0, 3, 1, 2]),
        t=VECTOR.reshape(4),
    ),
}  # fmt: skip


def inputs():
    """(N, 4, 7, 6) with zeros, thresholds, and the numbers next to them."""
    x = floats(6, 4, 7, 6, seed=1)
    for image, threshold in enumerate((f32(0.0), f32(1.0), f32(0.5), VECTOR, FULL)):
        near = np.broadcast_to(threshold, x.shape[1:]).astype(np.float32)
        up, down = np.nextafter(near, f32(9.0)), np.nextafter(near, f32(-9.0))
        x[image, :, ::3], x[image, :, 1::3], x[image, :, 2::3] = (
            values[:, step::3] for step, values in enumerate((near, up, down))
        )
    x[5, :, 0] = -0.0
    return x


@pytest.mark.parametrize("name", MODELS)
def test_a_sign_is_what_onnx_runtime_computes(name):
    loaded, x = from_bytes(MODELS[name]), inputs()
    assert not loaded.notes
    expected = Session(MODELS[name]).run(x)
    for graph in (loaded.spec.graph, pipeline.run(loaded.spec.graph)):
        actual = evaluate(graph, x)[graph.topology.output]
        np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


CONV = {"w": np.sign(floats(4, 4, 3, 3, seed=7))}
OFTEN_ZERO = {
    "divided relu": ("Relu x r", "ReduceMean x m", "Abs m e", "Add e h d", "Div r d q", "Sign q y"),
    "sum of signs": ("Add x h a", "Sign a s", "Sub x h b", "Sign b u", "Add s u v", "Sign v y"),
    "convolution of signs": ("GreaterOrEqual x z c", "Where c p n s", "Conv s w v", "Sign v y"),
    "average of signs": ("GreaterOrEqual x z c", "Where c p n s", "AveragePool s v", "Sign v y"),
    "rounded": ("Round x r", "Sign r y"),
    "leaky": ("Round x r", "LeakyRelu r l", "Sign l y"),
    "shrunk": ("Abs x a", "Greater a h c", "Where c x z v", "Sign v y"),
    "product with a relu": ("Relu x r", "Mul r x m", "Neg m v", "Sign v y"),
    "padded": ("Pad x pads v", "Sign v y"),
    "difference of relus": ("Relu x r", "Neg x n1", "Relu n1 r1", "Sub r r1 v", "Sign v y"),
}


@pytest.mark.parametrize("name", OFTEN_ZERO)
def test_a_sign_of_what_is_often_zero_keeps_zero(name):
    words = [line.split() for line in OFTEN_ZERO[name]]
    attributes = {
        "ReduceMean": {"axes": [1, 2, 3]}, "AveragePool": {"kernel_shape": [2, 2]},
    }  # fmt: skip
    nodes = [
        op(kind, " ".join(names[:-1]), names[-1], **attributes.get(kind, {}))
        for kind, *names in words
    ]
    pads = np.array([0, 0, 1, 0, 0, 0, 0, 1])
    data = after(*nodes, opset=13, pads=pads, **CONV, **HALF)
    loaded, x = from_bytes(data), floats(6, 4, 7, 6, seed=1)
    x[:, :, ::3] = 0
    expected = Session(data).run(x)
    assert (expected == 0).mean() > 0.01
    for graph in (loaded.spec.graph, pipeline.run(loaded.spec.graph)):
        actual = evaluate(graph, x)[graph.topology.output]
        np.testing.assert_array_equal(actual, expected)


def test_a_plain_sign_is_plus_one_at_zero_and_says_so():
    data, x = model(op("Sign", "x")), inputs()
    loaded = from_bytes(data)
    assert any("0 counts as +1 here" in note for note in loaded.notes)
    expected = Session(data).run(x)
    actual = evaluate(loaded.spec.graph, x)[loaded.spec.graph.topology.output]
    np.testing.assert_array_equal(actual, np.where(expected == 0, 1, expected))
    assert (expected == 0).any()
