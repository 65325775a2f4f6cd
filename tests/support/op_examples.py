"""A small graph for every operation: what tests/ops loops over.

An operation that needs no more than an input and an output has examples without being named here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np

from bwn.errors import GraphError
from bwn.ir.graph import Graph, Topology
from bwn.ir.node import Array, Node, Shape
from bwn.kernels import bits
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
)

PLANES, NARROW, VECTOR = (3, 7, 20), (5, 1, 1), (37,)
SHAPES = (PLANES, NARROW, VECTOR)


@dataclass
class Example:
    """A graph whose last node is of the operation in question."""

    nodes: tuple[Node, ...]
    shape: Shape
    tensors: dict[str, Array] = field(default_factory=dict)

    @property
    def node(self) -> Node:
        return self.nodes[-1]

    @property
    def graph(self) -> Graph:
        topology = Topology(
            input="x", input_shape=self.shape, output=self.node.output, nodes=self.nodes
        )
        return Graph(topology=topology, tensors=self.tensors)

    def __str__(self) -> str:
        return f"{'-'.join(node.op for node in self.nodes)}-{'x'.join(map(str, self.shape))}"


def floats(*shape: int) -> Array:
    return np.random.default_rng(shape).normal(0, 1, shape).astype(np.float32)


def words(outputs: int, depth: int) -> Array:
    return bits.pack(np.where(floats(outputs, depth) < 0, -1, 1))


def layers() -> Iterator[Example]:
    """Convolutions and fully connected layers: float32, one bit, 8 bits, signs."""
    window = {"kernel": (3, 2), "stride": (2, 1), "pads": (1, 0, 2, 1), "dilation": (1, 2)}
    conv = {"input": "x", "output": "y", "weight": "w", "bias": "b"}
    vectors = {"b": floats(6), "s": floats(6)}
    yield Example((Conv(**conv, **window),), PLANES, {"w": floats(6, 3, 3, 2), "b": floats(6)})
    packed = {"w": words(6, 18), **vectors}
    for more in ({}, {"activations": "int8"}, {"activations": "uint8", "step": 0.02}):
        more = {"input_scale" if key == "step" else key: value for key, value in more.items()}
        node = Conv(**conv, scale="s", low=-1.0, high=2.5, kernel=(3, 2), **more)
        yield Example((node,), PLANES, packed)
    grouped = Conv(**conv, kernel=(3, 3), pads=(1, 1, 1, 1), groups=3)
    yield Example((grouped,), PLANES, {"w": floats(6, 1, 3, 3), "b": floats(6)})
    dense = Dense(input="x", output="y", weight="w", bias="b", scale="s", low=0.0)
    yield Example((dense,), VECTOR, {"w": floats(6, 37), **vectors})
    yield Example((dense,), VECTOR, {"w": words(6, 37), **vectors})
    sign = Sign(input="x", output="signs")
    binary = Dense(input="signs", output="y", weight="w", activations="binary")
    yield Example((sign, binary), VECTOR, {"w": words(6, 37)})


def pools() -> Iterator[Example]:
    for kind in ("max", "average"):
        for counted in (False, True):
            node = Pool(input="x", output="y", kind=kind, kernel=(3, 2), stride=(2, 1),
                        pads=(1, 0, 2, 1), count_pads=counted)  # fmt: skip
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


def simple(kind: type[Node]) -> Iterator[Example]:
    """An operation without fields of its own, on every shape that it takes."""
    for shape in SHAPES:
        example = Example((kind(input="x", output="y"),), shape)
        try:
            assert example.graph.shapes
        except GraphError:
            continue
        yield example


def examples_of(kind: type[Node]) -> list[Example]:
    """Examples of an operation. Raises KeyError where it has fields and none are given here."""
    given = {
        Affine: [
            Example(
                (Affine(input="x", output="y", scale="s", bias="b"),),
                shape,
                {"s": floats(shape[0]), "b": floats(1, shape[0])[0]},
            )
            for shape in SHAPES
        ],
        Clamp: [Example((Clamp(input="x", output="y", low=-0.5, high=1.0),), s) for s in SHAPES],
        Flatten: [Example((Flatten(input="x", output="y"),), shape) for shape in SHAPES[:2]],
    }
    for example in (*layers(), *pools(), *pairs(), *joins()):
        given.setdefault(type(example.node), []).append(example)
    if kind not in given and {f.name for f in msgspec.structs.fields(kind)} == {"input", "output"}:
        return list(simple(kind))
    return given[kind]


EXAMPLES: list[Example] = [example for kind in NODES for example in examples_of(kind)]
