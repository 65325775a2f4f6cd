"""The checker: for each rule an illegal graph and its message."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from graphs import make_graph, words
from msgspec.structs import replace

from bwn.errors import GraphError
from bwn.ir import checker as rules
from bwn.ir.analysis import signs_of
from bwn.ir.checker import check, check_spec
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.broadcasting import Arithmetic
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.ops.softmax import Softmax

NAN, INF = float("nan"), float("inf")
make = partial(make_graph, shape=(3, 6, 6))


def ones(*shape):
    return np.ones(shape, np.float32)


def conv(**changes) -> Conv:
    return replace(Conv(input="x", output="y", weight="w", kernel=(3, 3)), **changes)


def dense(**changes) -> Dense:
    return replace(Dense(input="x", output="y", weight="w"), **changes)


def test_a_legal_graph_of_every_node_passes():
    nodes = (
        conv(output="a", pads=(1, 1, 1, 1), scale="s", bias="s", low=0.0),
        Affine(input="a", output="b", scale="s", bias="s"),
        Sign(input="b", output="c"),
        Pool(input="c", output="d", kind="max", kernel=(2, 2), stride=(2, 2), pads=(1, 1, 1, 1)),
        Conv(input="d", output="e", weight="v", kernel=(1, 1), groups=2, activations="binary"),
        Add(input="e", output="f", other="d"),
        Clamp(input="f", output="g", low=-1.0, high=1.0),
        Flatten(input="g", output="h"),
        Dense(input="h", output="i", weight="u", activations="int8", input_scale=0.5),
        Softmax(input="i", output="j"),
    )
    check(make(*nodes, w=ones(4, 3, 3, 3), s=ones(4), v=words(4, 2), u=words(10, 64)))


def test_only_max_pools_and_flatten_keep_signs():
    nodes = (
        Sign(input="x", output="a"),
        Pool(input="a", output="b", kind="max", kernel=(2, 2), pads=(1, 1, 1, 1)),
        Flatten(input="b", output="c"),
        Pool(input="a", output="d", kind="average", kernel=(2, 2)),
        Clamp(input="a", output="e", low=0.0),
        Flatten(input="e", output="f"),
    )
    assert signs_of(make(*nodes)) == {"a", "b", "c"}


arithmetic = partial(Arithmetic, input="x", output="y", function="sub")

ILLEGAL = {
    "input of two axes": (
        make(Sign(input="x", output="y"), shape=(3, 6)),
        "expected (channels, height, width)",
    ),
    "input of size 0": (make(Sign(input="x", output="y"), shape=(3, 0, 6)), "shape is (3, 0, 6)"),
    "input too large": (
        make(Sign(input="x", output="y"), shape=(2**29,)),
        "more than 268,435,456 elements",
    ),
    "no nodes": (make(output="x"), "no node makes the output 'x'"),
    "output unknown": (
        make(Sign(input="x", output="y"), output="z"),
        "no node makes the output 'z'",
    ),
    "name twice": (
        make(Sign(input="x", output="y"), Sign(input="y", output="y")),
        "sign 'y': the name 'y' is taken",
    ),
    "name of the input": (make(Sign(input="x", output="x"), output="x"), "'x' is taken"),
    "name of a tensor": (
        make(conv(output="w"), w=ones(4, 3, 3, 3)),
        "conv 'w': the name 'w' is taken",
    ),
    "tensor named as the input": (
        make(conv(weight="x"), x=ones(4, 3, 3, 3)),
        "a stored tensor has the same name",
    ),
    "name empty": (make(Sign(input="x", output="")), "name '': expected 1 to 1024"),
    "name of two lines": (make(Sign(input="x", output="a\nb")), r"name 'a\nb'"),
    "name too long": (make(Sign(input="x", output="a" * 1025)), "expected 1 to 1024"),
    "reads the future": (
        make(Sign(input="b", output="a"), Sign(input="a", output="b")),
        "sign 'a': reads 'b', which nothing before it makes",
    ),
    "reads itself": (
        make(Add(input="x", other="y", output="y")),
        "reads 'y', which nothing before it makes",
    ),
    "kernel 0": (make(conv(kernel=(0, 3)), w=ones(4, 3, 3, 3)), "kernel is (0, 3), expected 1 to"),
    "kernel too large": (
        make(conv(kernel=(3, 2**21)), w=ones(4, 3, 3, 3)),
        "kernel is (3, 2097152)",
    ),
    "stride 0": (make(conv(stride=(1, 0)), w=ones(4, 3, 3, 3)), "stride is (1, 0)"),
    "dilation 0": (make(conv(dilation=(0, 1)), w=ones(4, 3, 3, 3)), "dilation is (0, 1)"),
    "groups 0": (make(conv(groups=0), w=ones(4, 3, 3, 3)), "groups is (0, 0)"),
    "groups do not divide inputs": (
        make(conv(groups=2), w=ones(4, 1, 3, 3)),
        "2 groups do not divide 3 inputs",
    ),
    "groups do not divide outputs": (
        make(conv(groups=3), w=ones(4, 1, 3, 3)),
        "3 groups do not divide",
    ),
    "negative pads": (make(conv(pads=(0, -1, 0, 0)), w=ones(4, 3, 3, 3)), "pads are (0, -1, 0, 0)"),
    "pads of a window": (
        make(conv(pads=(0, 0, 3, 0)), w=ones(4, 3, 3, 3)),
        "less than the window (3, 3)",
    ),
    "pool pads": (
        make(Pool(input="x", output="y", kind="max", kernel=(2, 2), pads=(2, 0, 0, 0))),
        "pads are",
    ),
    "window does not fit": (
        make(conv(kernel=(7, 7)), w=ones(4, 3, 7, 7)),
        "does not fit an input of (6, 6)",
    ),
    "low is NaN": (make(Clamp(input="x", output="y", low=NAN)), "clamp 'y': low is nan"),
    "high is infinite": (make(conv(high=INF), w=ones(4, 3, 3, 3)), "high is inf"),
    "high overflows float32": (make(Clamp(input="x", output="y", high=1e39)), "high is 1e+39"),
    "low above high": (
        make(Clamp(input="x", output="y", low=2.0, high=1.0)),
        "low 2.0 is above high 1.0",
    ),
    "weights missing": (make(conv()), "reads the stored tensor 'w', which is missing"),
    "scale missing": (make(conv(scale="s"), w=ones(4, 3, 3, 3)), "'s', which is missing"),
    "weights of a wrong shape": (make(conv(), w=ones(4, 3, 3, 2)), "expected float32 (4, 3, 3, 3)"),
    "weights float64": (make(conv(), w=np.ones((4, 3, 3, 3))), "are float64 (4, 3, 3, 3)"),
    "weights int16": (make(dense(), shape=(9,), w=np.ones((4, 9), np.int16)), "are int16"),
    "weights int8": (
        make(dense(), shape=(9,), w=np.ones((4, 9), np.int8)),
        "int8 weights need int8 or uint8 activations, these are float32",
    ),
    "weights of one axis": (make(dense(), shape=(9,), w=ones(9)), "weights have shape (9,)"),
    "weights of no outputs": (make(dense(), shape=(9,), w=ones(0, 9)), "weights have shape (0, 9)"),
    "too few words": (make(dense(), shape=(65,), w=words(4, 64)), "expected uint64 (4, 2)"),
    "too many words": (make(dense(), shape=(64,), w=words(4, 65)), "expected uint64 (4, 1)"),
    "pad bits set": (
        make(dense(), shape=(63,), w=words(4, 64) | np.uint64(2**63)),
        "have bits set after the last of 63 signs of a row",
    ),
    "weights not finite": (
        make(dense(), shape=(9,), w=ones(4, 9) * NAN),
        "'w' holds a number that is not finite",
    ),
    "bias not finite": (
        make(dense(bias="b"), shape=(9,), w=ones(4, 9), b=ones(4) * INF),
        "'b' holds a number",
    ),
    "bias of a wrong length": (
        make(dense(bias="b"), shape=(9,), w=ones(4, 9), b=ones(3)),
        "expected float32 (4,)",
    ),
    "bias float64": (
        make(dense(bias="b"), shape=(9,), w=ones(4, 9), b=np.ones(4)),
        "'b' is float64 (4,)",
    ),
    "affine of a wrong length": (
        make(Affine(input="x", output="y", scale="s", bias="s"), s=ones(4)),
        "float32 (3,)",
    ),
    "conv of features": (
        make(conv(), shape=(9,), w=ones(4, 3, 3, 3)),
        "expected (channels, height, width)",
    ),
    "dense of images": (make(dense(), w=ones(4, 3)), "expected (features,)"),
    "softmax of images": (make(Softmax(input="x", output="y")), "expected (features,)"),
    "add of other shapes": (
        make(Flatten(input="x", output="a"), Add(input="a", other="x", output="y")),
        "adds (108,) and (3, 6, 6)",
    ),
    "int8 on floats": (
        make(dense(activations="int8"), shape=(9,), w=ones(4, 9)),
        "int8 activations need one-bit",
    ),
    "binary on floats": (
        make(
            Sign(input="x", output="a"),
            dense(input="a", activations="binary"),
            shape=(9,),
            w=ones(4, 9),
        ),
        "binary activations need one-bit weights",
    ),
    "binary on no signs": (
        make(dense(activations="binary"), shape=(9,), w=words(4, 9)),
        "binary activations need an input of signs, 'x' is not one",
    ),
    "step without int8": (
        make(dense(input_scale=0.1), shape=(9,), w=words(4, 9)),
        "a step needs int8",
    ),
    "uint8 on floats": (
        make(dense(activations="uint8"), shape=(9,), w=ones(4, 9)),
        "uint8 activations need one-bit",
    ),
    "uint8 too deep": (
        make(dense(activations="uint8"), shape=(131_073,), w=words(1, 131_073)),
        "sums 131,073 products; uint8 activations allow at most 131,072: use int8",
    ),
    "step 0": (
        make(dense(input_scale=0.0, activations="int8"), shape=(9,), w=words(4, 9)),
        "step is 0.0",
    ),
    "step vanishes": (
        make(dense(input_scale=1e-60, activations="int8"), shape=(9,), w=words(4, 9)),
        "step is 1e-60",
    ),
    "step NaN": (
        make(dense(input_scale=NAN, activations="int8"), shape=(9,), w=words(4, 9)),
        "step is nan",
    ),
    "scale times step overflows": (
        make(
            dense(input_scale=3e38, activations="int8", scale="s"),
            shape=(9,),
            w=words(4, 9),
            s=np.float32([1, 2, 3e38, 4]),
        ),
        "dense 'y': output channel 2 reaches 1.03e+80, which float32 cannot hold",
    ),
    "step times depth overflows": (
        make(dense(input_scale=1e36, activations="uint8"), shape=(9,), w=words(4, 9)),
        "its scale is 1, its bias 0, its step 1e+36",
    ),
    "sums of signs overflow": (
        make(
            Sign(input="x", output="signs"),
            dense(input="signs", activations="binary", scale="s"),
            shape=(9,),
            w=words(4, 9),
            s=np.float32([0, 0, 0, 1e38]),
        ),
        "output channel 3 reaches",
    ),
    "no second operand": (make(arithmetic()), "expected either another tensor or a constant"),
    "three operands": (
        make(arithmetic(other="x", constant="c"), c=ones(3, 1, 1)),
        "expected either another tensor or a constant",
    ),
    "first of two tensors": (
        make(arithmetic(other="x", constant_first=True)),
        "only a constant can be first",
    ),
    "a constant as the input of a prelu": (
        make(arithmetic(function="prelu", constant="c", constant_first=True), c=ones(3, 6, 6)),
        "not as the input of a prelu",
    ),
    "constant of other axes": (
        make(arithmetic(constant="c"), c=ones(3)),
        "'c' is float32 (3,), expected float32 with 3 axes",
    ),
    "constant of other sizes": (
        make(arithmetic(constant="c"), c=ones(2, 6, 6)),
        "operands of shapes (3, 6, 6) and (2, 6, 6)",
    ),
    "constant not finite": (
        make(arithmetic(constant="c"), c=np.full((3, 1, 1), np.inf, np.float32)),
        "'c' holds a number that is not finite",
    ),
    "tensor unused": (
        make(Sign(input="x", output="y"), w=ones(4)),
        "no node reads the stored tensor 'w'",
    ),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_an_illegal_graph_is_refused_in_one_line(name):
    graph, message = ILLEGAL[name]
    with pytest.raises(GraphError) as caught:
        check(graph)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_sizes_are_capped(monkeypatch):
    sign = Sign(input="x", output="y")
    wide = Pool(input="x", output="y", kind="max", kernel=(6, 6), pads=(5, 5, 5, 5))
    for cap, value, graph, message in (
        ("MAX_NODES", 1, make(sign, Sign(input="y", output="z")), "2 nodes, at most 1"),
        ("MAX_TOTAL", 200, make(sign), "288 elements together, at most 200"),
        ("MAX_WORK", 999, make(wide), "more than 999 operations"),
        ("MAX_ELEMENTS", 200, make(wide), "makes (3, 11, 11), which takes more than 200"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(rules, cap, value)
            with pytest.raises(GraphError, match=message.replace("(", r"\(").replace(")", r"\)")):
                check(graph)


def spec(shape=(3, 6, 6), **changes) -> ModelSpec:
    nodes = (Flatten(input="x", output="y"), dense(input="y", output="z"))
    graph = make(*nodes, shape=shape, w=ones(4, np.prod(shape)))
    legal = ModelSpec(
        graph=graph, preprocess=preprocess(), classes=("a", "b", "c", "d"), producer="p"
    )
    return replace(legal, **changes)


def preprocess(**changes) -> Preprocess:
    legal = Preprocess(size=(6, 6), color="RGB", mean=(0.0,) * 3, std=(1.0,) * 3)
    return replace(legal, **changes)


def test_a_model_passes_with_and_without_optional_parts():
    check_spec(spec())
    check_spec(spec(preprocess=None, classes=None, producer=""))
    check_spec(spec(shape=(108,)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("a", "b")}, "2 names given, but the network's output has shape (4,)"),
        ({"classes": ("a", "b", "c", "")}, "name ''"),
        ({"classes": ("a", "b", "c", "\x1b[2J")}, "no control characters"),
        ({"producer": "a\nb"}, "producer: expected"),
        (
            {"preprocess": preprocess(size=(6, 7))},
            "arrays of shape (3, 6, 7), but the network takes (3, 6, 6)",
        ),
        ({"preprocess": preprocess(size=(-6, -6)), "shape": (108,)}, "arrays of shape (3, -6, -6)"),
        ({"preprocess": preprocess(color="L")}, "arrays of shape (1, 6, 6)"),
        ({"preprocess": preprocess(mean=(0.0,))}, "need 3 numbers each"),
        ({"preprocess": preprocess(mean=(0.0, 0.0, NAN))}, "mean is"),
        ({"preprocess": preprocess(std=(1.0, 1.0, 0.0))}, "std is"),
        ({"preprocess": preprocess(std=(1.0, 1.0, -1.0))}, "std is"),
        ({"preprocess": preprocess(std=(1.0, 1.0, INF))}, "std is"),
        ({"preprocess": preprocess(std=(1.0, 1.0, 1e-45))}, "make pixels that float32 cannot hold"),
        (
            {"preprocess": preprocess(mean=(0.0, 0.0, 3e38), std=(1.0, 1.0, 0.1))},
            "make pixels that float32 cannot hold",
        ),
    ],
)
def test_an_illegal_model_is_refused(changes, message):
    with pytest.raises(GraphError) as caught:
        check_spec(spec(**changes))
    assert message in str(caught.value)
