"""A small graph for every operation; the tests in tests/ops loop over them.

An operation whose only fields are an input and an output has examples without being named here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
from graphs import floats, make_graph, words
from msgspec.structs import replace

from bwn.errors import GraphError
from bwn.ir.graph import Graph
from bwn.ir.node import Array, Node, Shape
from bwn.ops import (
    NODES,
    Add,
    Affine,
    Clamp,
    Concat,
    Conv,
    Dense,
    Flatten,
    Mul,
    Pool,
    Sign,
    Unary,
)
from bwn.ops.functions import FUNCTIONS

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


def joins() -> Iterator[Example]:
    for shape in SHAPES:
        low, high = Clamp(input="x", output="l", low=0.0), Clamp(input="x", output="h", high=0.0)
        signs = Sign(input="x", output="s")
        yield Example((low, high, Concat(input="l", others=("h", "l"), output="y")), shape)
        yield Example((low, Concat(input="x", others=("x", "l"), output="y")), shape)
        yield Example((signs, Concat(input="s", others=("s",), output="y")), shape)


def functions() -> Iterator[Example]:
    """Functions of each element; those of positive numbers only, and those that jump, of such."""
    parameters = {"silu": (1.7,), "selu": (1.67, 1.05), "leaky_relu": (-0.3,)}
    for name, known in FUNCTIONS.items():
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
    for example in (*layers(), *pools(), *pairs(), *joins(), *functions()):
        examples.setdefault(type(example.node), []).append(example)
    fields = {field.name for field in msgspec.structs.fields(kind)}
    if kind not in examples and fields == {"input", "output"}:
        return list(simple(kind))
    return examples[kind]


EXAMPLES: list[Example] = [example for kind in NODES for example in examples_of(kind)]
