"""A network in ncnn, the peer on ARM boards that `bwn bench` compares with where it is installed.

float32: Winograd, packed layouts and sgemm on, 16-bit storage off. ncnn has no batch axis, so the
images of a batch run one after another.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bwn._types import Floats
from bwn.errors import BwnError
from bwn.ir.graph import Graph
from bwn.ir.node import Node
from bwn.ops.add import Add
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.ops.weighted import Weighted

MAGIC = "7767517"
HUGE = 1e30
FLOAT32_WEIGHTS = bytes(4)
MULTIPLY, VALID = 2, 1
ACTIVATIONS: dict[tuple[float | None, float | None], dict[str, Any]] = {
    (None, None): {"_9": 0},
    (0, None): {"_9": 1},
    (0, 6): {"_9": 3, "_-23310": "2,0,6"},
}
"""Parameters of the activation that ends a layer; -23310 is how ncnn numbers an array 10."""


def runner(graph: Graph, threads: int) -> Callable[[Floats], Floats]:
    """A function from (N, *input shape) float32 to scores, (N, classes) float32.

    Raises:
        BwnError: An operation of the network has no form here; the message names it.
    """
    return run_writer(NcnnWriter(graph), threads)


def run_writer(writer: NcnnWriter, threads: int) -> Callable[[Floats], Floats]:
    """What `runner` returns, of the files that `writer` makes."""
    topology = writer.graph.topology
    with tempfile.TemporaryDirectory() as folder:
        paths = write_files(writer, Path(folder))
        return load(paths, topology.input, topology.output, threads)


def write_files(writer: NcnnWriter, folder: Path) -> list[Path]:
    """Write ncnn's two files of a network: its layers as text, its weights as bytes."""
    param, weights = writer.content()
    paths = [folder / "net.param", folder / "net.bin"]
    paths[0].write_text(param, encoding="ascii")
    paths[1].write_bytes(weights)
    return paths


def load(paths: list[Path], input: str, output: str, threads: int) -> Callable[[Floats], Floats]:
    """Load ncnn's two files of a network whose input and output have these names."""
    ncnn = import_module("ncnn")
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(str(paths[0])) or net.load_model(str(paths[1])):
        raise BwnError(f"ncnn cannot load {paths[0]} and {paths[1]}")

    def scores(image: Floats) -> Floats:
        extractor = net.create_extractor()
        extractor.input(input, ncnn.Mat(image))
        return np.array(extractor.extract(output)[1]).reshape(-1)

    return lambda x: np.stack([scores(image) for image in x])


class NcnnWriter:
    """Layers and weights of a network, as ncnn's files have them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        for node in graph.nodes:
            if type(node) not in FORMS:
                raise BwnError(f"{node.op} is not implemented for ncnn")
        self.lines: list[str] = []
        self.weights: list[bytes] = []
        self.blobs = 0
        self.readers = Counter(name for node in self.graph.nodes for name in node.inputs)
        self.copies: dict[str, list[str]] = {}

    def content(self) -> tuple[str, bytes]:
        """Text of the layers and bytes of the weights."""
        self.layer("Input", [], self.graph.topology.input)
        for node in self.graph.nodes:
            getattr(self, FORMS[type(node)])(node)
        counts = f"{len(self.lines)} {self.blobs}"
        return "\n".join([MAGIC, counts, *self.lines, ""]), b"".join(self.weights)

    def layer(self, kind: str, inputs: list[str], output: str, **values: object) -> None:
        """One layer, and a Split where its output has several readers.

        Args:
            kind: ncnn's name of the layer.
            inputs: Tensors that it reads.
            output: The tensor that it makes.
            values: Its parameters: `_3` is the one that ncnn numbers 3.
        """
        read = [self.copies[name].pop() if name in self.copies else name for name in inputs]
        self._line(kind, read, [output], values)
        if (count := self.readers[output]) > 1:
            copies = [f"{output}_{index}" for index in range(count)]
            self._line("Split", [output], copies, {})
            self.copies[output] = copies

    def _line(
        self, kind: str, inputs: list[str], outputs: list[str], values: dict[str, object]
    ) -> None:
        counts = (str(len(inputs)), str(len(outputs)))
        parameters = (f"{key[1:]}={value}" for key, value in values.items())
        name = f"{kind}{len(self.lines)}"
        self.lines.append(" ".join([kind, name, *counts, *inputs, *outputs, *parameters]))
        self.blobs += len(outputs)

    def conv(self, node: Conv) -> None:
        """Convolution with its activation."""
        self.convolution(node, self.store(node))

    def convolution(self, node: Conv, stored: dict[str, object]) -> None:
        """A convolution whose weights are stored."""
        top, left, bottom, right = node.pads
        kind, groups = "Convolution", {}
        if node.groups > 1:
            kind, groups = "ConvolutionDepthWise", {"_7": node.groups}
        self.layer(
            kind, [node.input], node.output, _1=node.kernel[1], _11=node.kernel[0],
            _2=node.dilation[1], _12=node.dilation[0], _3=node.stride[1], _13=node.stride[0],
            _4=left, _15=right, _14=top, _16=bottom, _5=stored.pop("bias"),
            _6=stored.pop("size"), **stored, **groups,
        )  # fmt: skip

    def dense(self, node: Dense) -> None:
        """InnerProduct with its activation."""
        self.inner_product(node, self.store(node))

    def inner_product(self, node: Dense, stored: dict[str, object]) -> None:
        """A fully connected layer whose weights are stored."""
        bias, size = stored.pop("bias"), stored.pop("size")
        self.layer("InnerProduct", [node.input], node.output, _1=bias, _2=size, **stored)

    def store(self, node: Weighted) -> dict[str, object]:
        """Store weights and bias as float32.

        Returns:
            Parameters that describe them: `bias` and `size` have other numbers in each layer.
        """
        weights = node.float_weights(self.graph.tensors, self.graph.shapes[node.input])
        self.weights += [FLOAT32_WEIGHTS, weights.astype("<f4").tobytes()]
        return self.described(node, weights)

    def described(self, node: Weighted, weights: Floats) -> dict[str, object]:
        """Store the bias. Returns what `store` does."""
        if (node.low, node.high) not in ACTIVATIONS:
            raise BwnError("a clamp other than ReLU and ReLU6 is not implemented for ncnn")
        has_bias = node.bias is not None
        if node.bias is not None:
            self.weights.append(self.graph.tensors[node.bias].astype("<f4").tobytes())
        counts = {"_0": len(weights), "bias": int(has_bias), "size": weights.size}
        return counts | ACTIVATIONS[node.low, node.high]

    def pool(self, node: Pool) -> None:
        """Pooling; a window over all of an unpadded plane is a global one."""
        top, left, bottom, right = node.pads
        whole = self.graph.shapes[node.input][1:] == node.kernel and not any(node.pads)
        self.layer(
            "Pooling", [node.input], node.output, _0=int(node.kind == "average"),
            _1=node.kernel[1], _11=node.kernel[0], _2=node.stride[1], _12=node.stride[0],
            _3=left, _14=right, _13=top, _15=bottom, _4=int(whole), _5=VALID,
            _6=int(node.count_pads),
        )  # fmt: skip

    def sign(self, node: Sign) -> None:
        """A large multiple, clipped: exact except for numbers below 1e-30."""
        scaled = f"{node.output}_scaled"
        self.layer("BinaryOp", [node.input], scaled, _0=MULTIPLY, _1=1, _2=HUGE)
        self.layer("Clip", [scaled], node.output, _0=-1, _1=1)

    def add(self, node: Add) -> None:
        """The sum of two tensors."""
        self.layer("BinaryOp", list(node.inputs), node.output, _0=0)

    def clamp(self, node: Clamp) -> None:
        """Clip, or ReLU."""
        if (node.low, node.high) == (0, None):
            self.layer("ReLU", [node.input], node.output)
        else:
            low = -HUGE if node.low is None else node.low
            high = HUGE if node.high is None else node.high
            self.layer("Clip", [node.input], node.output, _0=low, _1=high)

    def flatten(self, node: Flatten) -> None:
        """Planes to a vector."""
        self.layer("Flatten", [node.input], node.output)


FORMS: dict[type[Node], str] = {
    Conv: "conv",
    Dense: "dense",
    Pool: "pool",
    Sign: "sign",
    Add: "add",
    Clamp: "clamp",
    Flatten: "flatten",
}
"""The method that writes each operation, by its name, as writers of other precisions override it.
Other operations are refused."""
