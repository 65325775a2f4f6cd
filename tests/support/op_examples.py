"""A small graph for every operation; the tests in tests/ops loop over them.

An operation whose only fields are an input and an output has examples without being named here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np
from graphs import floats, make_graph, words
from msgspec.structs import replace

from bwn.errors import GraphError
from bwn.ir.graph import Graph
from bwn.ir.node import Array, Node, Shape
from bwn.ops import node_types
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.broadcasting import FUNCTIONS, Arithmetic
from bwn.ops.clamp import Clamp
from bwn.ops.concat import Concat
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.formulas import FUNCTIONS as UNARY_FUNCTIONS
from bwn.ops.gather import Gather
from bwn.ops.matmul import MatMul
from bwn.ops.mul import Mul
from bwn.ops.normalize import LocalResponse, Normalize
from bwn.ops.pad import Pad
from bwn.ops.pool import Pool
from bwn.ops.quantize import Quantize
from bwn.ops.rearrange import Rearrange
from bwn.ops.reduce import Reduce
from bwn.ops.resize import Resize
from bwn.ops.sign import Sign
from bwn.ops.softmax import ChannelSoftmax
from bwn.ops.unary import Unary

PLANES, NARROW, VECTOR = (3, 7, 20), (5, 1, 1), (37,)
SHAPES = (PLANES, NARROW, VECTOR)


@dataclass
class Example:
    """A graph whose last node is an example of its operation."""

    nodes: tuple[Node, ...]
    shape: Shape
    tensors: dict[str, Array] = field(default_factory=dict)

    @property
    def node(self) -> Node:
        return self.nodes[-1]

    @property
    def graph(self) -> Graph:
        return make_graph(*self.nodes, shape=self.shape, **self.tensors)

    def __str__(self) -> str:
        return f"{'-'.join(node.op for node in self.nodes)}-{'x'.join(map(str, self.shape))}"


def layers() -> Iterator[Example]:
    """Convolutions and fully connected layers: float32, one bit, 8 bits, signs."""
    window = {"kernel": (3, 2), "stride": (2, 1), "pads": (1, 0, 2, 1), "dilation": (1, 2)}
    conv = {"input": "x", "output": "y", "weight": "w", "bias": "b"}
    bias, scale = {"b": floats(6)}, {"s": floats(6, seed=1)}
    yield Example((Conv(**conv, **window),), PLANES, {"w": floats(6, 3, 3, 2), **bias})
    for fields in ({}, {"activations": "int8"}, {"activations": "uint8", "input_scale": 0.02}):
        node = Conv(**conv, scale="s", low=-1.0, high=2.5, kernel=(3, 2), **fields)
        yield Example((node,), PLANES, {"w": words(6, 18), **bias, **scale})
    grouped = Conv(**conv, kernel=(3, 3), pads=(1, 1, 1, 1), groups=3)
    yield Example((grouped,), PLANES, {"w": floats(6, 1, 3, 3), **bias})
    dense = Dense(input="x", output="y", weight="w", bias="b", scale="s", low=0.0)
    for weights in (floats(6, 37), words(6, 37)):
        yield Example((dense,), VECTOR, {"w": weights, **bias, **scale})
    sign = Sign(input="x", output="signs")
    binary = Dense(input="signs", output="y", weight="w", activations="binary")
    yield Example((sign, binary), VECTOR, {"w": words(6, 37)})


def pools() -> Iterator[Example]:
    for kind in ("max", "average"):
        for count_pads in (False, True):
            window = {"kernel": (3, 2), "stride": (2, 1), "pads": (1, 0, 2, 1)}
            node = Pool(input="x", output="y", kind=kind, count_pads=count_pads, **window)
            yield Example((node,), PLANES)


def pairs() -> Iterator[Example]:
    """Operations of two tensors."""
    for shape in SHAPES:
        other = Clamp(input="x", output="o", low=-0.5)
        yield Example((other, Add(input="x", other="o", output="y")), shape)
        yield Example((other, Mul(input="o", other="x", output="y")), shape)
        yield Example((Mul(input="x", other="x", output="y"),), shape)
    gate = Pool(input="x", output="g", kind="average", kernel=PLANES[1:])
    yield Example((gate, Mul(input="x", other="g", output="y")), PLANES)


def broadcasts() -> Iterator[Example]:
    """Each function of two operands; every axis of either is repeated."""
    for shape in SHAPES:
        above = Clamp(input="x", output="o", low=0.25)
        for function in FUNCTIONS:
            fields = {"input": "o", "output": "y", "function": function}
            yield Example((above, Arithmetic(other="o", **fields)), shape)
            if function != "prelu":
                first = Arithmetic(constant="c", constant_first=True, **fields)
                stored = np.abs(floats(*shape)) + np.float32(0.5)
                yield Example((above, first), shape, {"c": stored})
    for first in REPEATED:
        for second in REPEATED:
            pools = [
                Pool(input="x", output=name, kind="average", kernel=kernel, stride=(1, 1))
                for name, kernel in (("f", first), ("s", second))
            ]
            node = Arithmetic(input="f", other="s", output="y", function="sub")
            yield Example((*pools, node), PLANES)
    for constant in ((1, 7, 20), (3, 1, 20), (3, 7, 1), (1, 1, 20), (1, 7, 1), (3, 1, 1)):
        for function in ("add", "prelu", "div"):
            node = Arithmetic(input="x", constant="c", output="y", function=function)
            yield Example((node,), PLANES, {"c": np.abs(floats(*constant)) + np.float32(0.5)})
        node = Arithmetic(input="m", constant="c", output="y", function="sub", constant_first=True)
        mean = Pool(input="x", output="m", kind="average", kernel=PLANES[1:])
        yield Example((mean, node), PLANES, {"c": floats(*constant)})
    gate = Dense(input="x", output="g", weight="w")
    node = Arithmetic(input="x", other="g", output="y", function="min")
    yield Example((gate, node), VECTOR, {"w": floats(1, *VECTOR)})
    yield Example(
        (gate, Arithmetic(input="g", constant="c", output="y", function="max")),
        VECTOR,
        {"w": floats(1, *VECTOR), "c": floats(5)},
    )


REPEATED = ((1, 1), (7, 1), (1, 20), (7, 20))
"""Windows of averages that leave all rows and columns, or one."""


def joins() -> Iterator[Example]:
    for shape in SHAPES:
        low, high = Clamp(input="x", output="l", low=0.0), Clamp(input="x", output="h", high=0.0)
        signs = Sign(input="x", output="s")
        yield Example((low, high, Concat(input="l", others=("h", "l"), output="y")), shape)
        yield Example((low, Concat(input="x", others=("x", "l"), output="y")), shape)
        yield Example((signs, Concat(input="s", others=("s",), output="y")), shape)
    for axis in (1, 2):
        other = Pool(input="x", output="o", kind="max", kernel=(3, 1) if axis == 1 else (1, 5))
        join = Concat(input="x", others=("o", "x"), output="y", axis=axis)
        yield Example((other, join), PLANES)


def functions() -> Iterator[Example]:
    """Functions of each element; those of positive numbers only, and those that jump, of such."""
    parameters = {"silu": (1.7,), "selu": (1.67, 1.05), "leaky_relu": (-0.3,)}
    for name, known in UNARY_FUNCTIONS.items():
        values = parameters.get(name, (0.7,) * len(known.parameters))
        fields = dict(zip(known.parameters, values, strict=True))
        node = Unary(input="c", output="y", function=name, **fields)
        positive = name in ("log", "reciprocal", "sqrt")
        clamp = Clamp(input="x", output="c", low=0.25 if positive else None, high=3.0)
        yield Example((clamp, node), PLANES)
        if known.exact or name == "gelu":
            y = Clamp(input="f", output="y", low=-0.1, high=0.6)
            yield Example((replace(node, input="x", output="f"), y), PLANES)
        if not positive:
            yield from (Example((replace(node, input="x"),), shape) for shape in SHAPES)


def moves() -> Iterator[Example]:
    """Transposes, reshapes, slices, repeats and reversals."""
    for shape, sizes, strides, offset in (
        ((7, 20, 3), (7, 20, 3), (20, 1, 140), 0),  # axes in another order
        ((20, 3, 7), (20, 3, 7), (1, 140, 20), 0),
        ((60, 7, 1), (420,), (1,), 0),
        ((5, 4, 21), (420,), (1,), 0),  # rows that do not divide each other
        ((420,), (140, 3), (1, 140), 0),
        ((2, 7, 20), (280,), (1,), 140),  # a range of channels
        ((3, 7, 20), (420,), (1,), 0),  # nothing
        ((3, 3, 10), (3, 3, 10), (140, 40, 2), 21),  # every second
        ((3, 7, 20), (420,), (-1,), 419),
        ((3, 7, 20), (3, 7, 20), (140, 20, 0), 4),  # one column, repeated
        ((3, 14, 40), (3, 7, 2, 20, 2), (140, 20, 0, 1, 0), 0),
        ((12, 3, 10), (3, 2, 2, 3, 10), (140, 20, 1, 40, 2), 0),  # blocks to channels
        ((6,), (6,), (21,), 3),
        ((6, 7, 20), (2, 3, 140), (0, 140, 1), 0),  # whole planes
        ((2, 7, 20), (2, 7, 20), (-140, 20, 1), 280),
    ):
        node = Rearrange(
            input="x", output="y", shape=shape, sizes=sizes, strides=strides, offset=offset
        )
        yield Example((node,), PLANES)
    for shape, stride in (((37,), -1), ((1, 37, 1), 1), ((37,), 0)):
        offset = 36 * (stride < 0)
        node = Rearrange(
            input="x", output="y", shape=shape, sizes=(37,), strides=(stride,), offset=offset
        )
        yield Example((node,), VECTOR)
    part = Rearrange(
        input="x", output="p", shape=(2, 7, 20), sizes=(280,), strides=(1,), offset=140
    )
    yield Example((part, Concat(input="x", others=("p", "x"), output="y")), PLANES)


def picks() -> Iterator[Example]:
    """Index lists, with a constant where an index is -1."""
    rows, zeros = (6, 0, 3, 3), tuple(column // 2 if column % 2 else -1 for column in range(39))
    reflected = (2, 1, *range(20), 18, 17)
    for lists in (
        ((2, 0, 0), (), ()),
        ((), rows, reflected),
        ((), (-1, *range(7), -1), (-1, -1, *range(20))),
        ((1, -1), (0,), zeros),
        ((-1, 1), (3, -1, 3), (4, -1, 2, 4, 2, 6, -1, -1, 2, 4)),
        ((), (), tuple(range(0, 20, 2)) + tuple(range(1, 20, 2))),
        ((), (), tuple((column * column) % 20 for column in range(50))),
    ):
        for value in (0.0, -2.5):
            yield Example((Gather(input="x", output="y", indices=lists, value=value),), PLANES)
    for mode in ("constant", "reflect", "edge", "wrap"):
        fields = {"input": "x", "output": "y", "mode": mode}
        value = 1.5 if mode == "constant" else 0.0
        yield Example((Pad(pads=(0, 1, 2, 1, 0, 5), value=value, **fields),), PLANES)
        yield Example((Pad(pads=(1, 0, 0, 2, 0, 0), **fields),), PLANES)
        yield Example((Pad(pads=(3, 2), value=value, **fields),), VECTOR)
    yield Example((Gather(input="x", output="y", indices=((-1, 36, 4),), value=1.0),), VECTOR)


def group_counts(shape: Shape) -> list[int]:
    """Groups of channels, and 0 for a norm over channels."""
    return [0, *(n for n in (1, 2, shape[0]) if len(shape) > 1 and shape[0] % n == 0)]


def reductions() -> Iterator[Example]:
    """Over every subset of axes, of rows longer and shorter than vectors; norms of channels."""
    for kind in ("mean", "sum", "max", "min", "l1", "l2", "sum_square"):
        for axes in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
            yield Example((Reduce(input="x", output="y", kind=kind, axes=axes),), PLANES)
        for shape in (NARROW, VECTOR, (2, 5, 16), (2, 3, 33)):
            axes = (0,) if len(shape) == 1 else (0, 2)
            yield Example((Reduce(input="x", output="y", kind=kind, axes=axes),), shape)
    for log in (False, True):
        for shape in SHAPES:
            yield Example((ChannelSoftmax(input="x", output="y", log=log),), shape)
    for shape in (PLANES, NARROW, (6, 5, 7), VECTOR):
        vectors = {"s": floats(shape[0], seed=2), "b": floats(shape[0], seed=3)}
        for fields in ({}, {"scale": "s", "bias": "b", "epsilon": 0.01}):
            stored = vectors if fields else {}
            for groups in group_counts(shape):
                over = {"over": "group", "groups": groups} if groups else {"over": "channels"}
                yield Example((Normalize(input="x", output="y", **over, **fields),), shape, stored)
    for size in (1, 3, 7):  # ONNX Runtime refuses even ones
        fields = {"size": size, "alpha": 0.3, "k": 2.0}
        for shape in (PLANES, (9, 4, 4)):
            yield Example((LocalResponse(input="x", output="y", **fields),), shape)


def products() -> Iterator[Example]:
    """Of matrices with rows longer and shorter than vectors, in blocks of rows and single ones."""
    for height, depth, width in ((7, 7, 20), (16, 5, 5), (9, 3, 16), (13, 4, 33), (5, 1, 1)):
        matrix = height * depth
        step = (matrix - depth) // max(width - 1, 1)
        spread = Rearrange(
            input="x",
            output="o",
            shape=(2, depth, width),
            sizes=(2, depth, width),
            strides=(-matrix, -1, -step),
            offset=2 * matrix - 1,
        )
        product = MatMul(input="x", other="o", output="y")
        yield Example((spread, product), (2, height, depth))
    yield Example((MatMul(input="x", other="x", output="y"),), (3, 6, 6))


def sizes() -> Iterator[Example]:
    """Linear interpolation to larger and smaller images."""
    for coordinates in (
        "half_pixel",
        "pytorch_half_pixel",
        "half_pixel_symmetric",
        "asymmetric",
        "align_corners",
    ):
        for scales in ((2.0, 2.0), (0.75, 1.65), (0.15, 0.05)):
            if coordinates == "align_corners" and scales != (2.0, 2.0):
                continue  # of a product that is not whole: the ONNX reader refuses it
            fields = {"scales": scales, "coordinates": coordinates}
            yield Example((Resize(input="x", output="y", **fields),), PLANES)


def quantizations() -> Iterator[Example]:
    for shape in SHAPES:
        for fields in (
            {"scale": 0.02, "low": -127.0, "high": 127.0},
            {"scale": 0.11, "low": 0.0, "high": 15.0},
            {"scale": 0.03, "low": -100.0, "high": 155.0},
            {},
        ):
            yield Example((Quantize(input="x", output="y", **fields),), shape)


def simple(kind: type[Node]) -> Iterator[Example]:
    """An operation without fields of its own, on each shape that it accepts."""
    for shape in SHAPES:
        example = Example((kind(input="x", output="y"),), shape)
        try:
            assert example.graph.shapes
        except GraphError:
            continue
        yield example


def examples_of(kind: type[Node]) -> list[Example]:
    """Examples of an operation. Raises KeyError where it has fields and no example here."""
    affine = Affine(input="x", output="y", scale="s", bias="b")
    clamp = Clamp(input="x", output="y", low=-0.5, high=1.0)
    vectors = [{"s": floats(shape[0]), "b": floats(shape[0], seed=1)} for shape in SHAPES]
    examples: dict[type[Node], list[Example]] = {
        Affine: [Example((affine,), *row) for row in zip(SHAPES, vectors, strict=True)],
        Clamp: [Example((clamp,), shape) for shape in SHAPES],
        Flatten: [Example((Flatten(input="x", output="y"),), shape) for shape in SHAPES[:2]],
    }
    for example in (
        *layers(), *pools(), *pairs(), *broadcasts(), *joins(), *functions(), *moves(), *picks(),
        *reductions(), *products(), *sizes(), *quantizations(),
    ):  # fmt: skip
        examples.setdefault(type(example.node), []).append(example)
    fields = {field.name for field in msgspec.structs.fields(kind)}
    if kind not in examples and fields == {"input", "output"}:
        return list(simple(kind))
    return examples[kind]


EXAMPLES: list[Example] = [example for kind in node_types() for example in examples_of(kind)]
