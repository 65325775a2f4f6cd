"""One tensor with several readers of different padding, stride and type.

No reader may keep what a later one changes: row lengths, windows and places are known only when
every reader has been seen. Each seed is a tensor of signs, floats or rounded floats with two to
five random readers in random order, all of which the output depends on.
"""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from graphs import make_graph
from plan_checks import agree

from bwn.ir.checker import check
from bwn.ir.graph import Graph
from bwn.ir.model_spec import ModelSpec
from bwn.ir.node import Array, Node, Shape
from bwn.kernels import bits
from bwn.onnx.exporter import to_onnx_bytes
from bwn.onnx.session import Session
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.concat import Concat
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.plan import bit_steps
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

SEEDS = 120


class Readers:
    """A graph of one tensor, `t`, and its readers.

    Args:
        seed: Of all that is random.
        quantized: Whether layers may read 8 bits.
    """

    def __init__(self, seed: int, *, quantized: bool) -> None:
        self.random = np.random.default_rng(seed)
        self.quantized = quantized
        self.numbers = count()
        self.nodes: list[Node] = []
        self.tensors: dict[str, Array] = {}
        channels = self.one_of([1, 3, 64, 64, 96, 128])
        self.shape: Shape = (channels, self.integer(1, 7), self.integer(1, 20))
        self.signs = bool(self.random.random() < 0.6)
        source = "x"
        if self.integer(0, 1):  # made by a layer, so that its maker may write in any form
            source = self.conv("x", channels, kernel=(1, 1), activations="float32")
        self.kind = Sign if self.signs else Clamp
        bounds = {} if self.signs else {"low": self.one_of([0.0, None]), "high": 1.0}
        self.nodes.append(self.kind(input=source, output="t", **bounds))

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.random.integers(low, high + 1))

    def one_of(self, choices):
        return choices[self.integer(0, len(choices) - 1)]

    def name(self) -> str:
        return f"n{next(self.numbers)}"

    def add(self, node: Node) -> str:
        self.nodes.append(node)
        return node.output

    def size(self, name: str) -> Shape:
        return make_graph(*self.nodes, shape=self.shape, **self.tensors).shapes[name]

    def vector(self, size: int) -> str:
        name = self.name()
        self.tensors[name] = self.random.standard_normal(size).astype(np.float32)
        return name

    def weight(self, outputs: int, depth: int) -> str:
        name = self.name()
        self.tensors[name] = bits.pack(self.random.standard_normal((outputs, depth)))
        return name

    def how(self) -> str:
        kinds = ["binary"] * 4 if self.signs else []
        return self.one_of([*kinds, "float32", *(["int8", "uint8"] * self.quantized)])

    def pads(self, reach: tuple[int, int]) -> tuple[int, int, int, int]:
        top, left, bottom, right = (self.integer(0, reach[axis % 2] - 1) for axis in range(4))
        return top, left, bottom, right

    def conv(self, source: str, outputs: int, kernel=None, activations: str | None = None) -> str:
        shape = self.size(source) if self.nodes else self.shape
        dilation = (self.integer(1, 2), self.integer(1, 2))
        kernel = kernel or (
            self.integer(1, min(3, shape[1])),
            self.integer(1, min(3, shape[2])),
        )
        reach = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
        pads = self.pads(reach)
        if reach[0] > shape[1] + pads[0] + pads[2] or reach[1] > shape[2] + pads[1] + pads[3]:
            dilation, pads = (1, 1), (0, 0, 0, 0)
        activations = activations or self.how()
        fixed = activations in ("int8", "uint8") and self.integer(0, 1)
        return self.add(
            Conv(
                input=source,
                output=self.name(),
                weight=self.weight(outputs, shape[0] * kernel[0] * kernel[1]),
                kernel=kernel,
                stride=self.one_of([(1, 1), (1, 1), (2, 2), (1, 2)])
                if kernel != (1, 1)
                else (1, 1),
                pads=pads,
                dilation=dilation,
                activations=activations,
                bias=self.vector(outputs) if self.integer(0, 1) else None,
                input_scale=0.05 if fixed else None,
            )
        )

    def pool(self, source: str, kind: str) -> str:
        _, height, width = self.size(source)
        kernel = (self.integer(1, min(3, height)), self.integer(1, min(3, width)))
        return self.add(
            Pool(
                input=source,
                output=self.name(),
                kind=kind,
                kernel=kernel,
                pads=self.pads(kernel),
                stride=self.one_of([(1, 1), (2, 2)]),
            )
        )

    def vectors(self, source: str) -> str:
        """Numbers of a tensor that the output is made of: its mean over the image."""
        _, height, width = self.size(source)
        pooled = self.add(
            Pool(input=source, output=self.name(), kind="average", kernel=(height, width))
        )
        return self.add(Flatten(input=pooled, output=self.name()))

    def dense(self, source: str) -> str:
        flat = self.add(Flatten(input=source, output=self.name()))
        activations = self.how()
        weight = self.weight(5, self.size(flat)[0])
        node = Dense(input=flat, output=self.name(), weight=weight, activations=activations)
        return self.add(node)

    def reader(self) -> str:
        """One more reader of `t`; the name of the vectors that it leads to."""
        kind = self.one_of(["conv", "conv", "conv", "pool", "average", "dense", "add", "concat"])
        if kind == "conv":
            return self.vectors(self.conv("t", self.one_of([3, 64])))
        if kind == "pool":
            pooled = self.pool("t", "max")
            return self.vectors(self.conv(pooled, 4)) if self.integer(0, 1) else self.dense(pooled)
        if kind == "average":
            return self.vectors(self.pool("t", "average"))
        if kind == "dense":
            return self.dense("t")
        if kind == "add":
            return self.vectors(self.add(Add(input="t", other=self.beside(), output=self.name())))
        joined = Concat(input="t", others=(self.beside(), "t"), output=self.name())
        return self.vectors(self.conv(self.add(joined), 3, activations="float32"))

    def beside(self) -> str:
        """A tensor of the shape of `t`."""
        if self.integer(0, 1):
            return "t"
        channels = self.shape[0]
        if self.integer(0, 1):
            return self.conv("t", channels, kernel=(1, 1))
        return self.add(
            Affine(
                input="t",
                output=self.name(),
                scale=self.vector(channels),
                bias=self.vector(channels),
            )
        )

    def graph(self) -> Graph:
        parts = [self.reader() for _ in range(self.integer(2, 5))]
        self.nodes.append(Concat(input=parts[0], others=tuple(parts[1:]), output="y"))
        graph = make_graph(*self.nodes, shape=self.shape, **self.tensors)
        check(graph)
        return graph


@pytest.mark.parametrize("least_full", [0.0, bit_steps.LEAST_FULL])
@pytest.mark.parametrize("quantized", [False, True])
def test_each_reader_is_near_the_reference(monkeypatch, least_full, quantized):
    # At 0 signs are bitpacked for any number of channels.
    monkeypatch.setattr(bit_steps, "LEAST_FULL", least_full)
    for seed in range(SEEDS):
        graph = Readers(seed, quantized=quantized).graph()
        agree(graph, 1 + seed % 3, (1 + seed % 2,))


def test_whole_networks_are_near_onnx_runtime():
    for seed in range(SEEDS):
        graph = Readers(seed, quantized=False).graph()
        x = np.random.default_rng(seed).integers(-8, 9, (2, *graph.topology.input_shape))
        x = x.astype(np.float32)  # sums before the signs are exact, so that no sign is near 0
        scores = Session(to_onnx_bytes(ModelSpec(graph=graph))).run(x)
        actual = Runner(make_plan(graph, len(x), 1)).run(x)
        scale = max(1.0, float(np.abs(scores).max()))
        np.testing.assert_allclose(actual, scores, atol=2e-5 * scale, err_msg=f"seed {seed}")
