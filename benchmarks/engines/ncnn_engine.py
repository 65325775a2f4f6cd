"""ncnn on the CPU, float32: Winograd, packed layouts and sgemm on, 16-bit storage off.

It has no batch axis, so the images of a batch run one after another.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from bwn.ir.node import Node
from bwn.ops.add import Add
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.ops.weighted import Weighted
from engines.case import Case, Contender, Floats, UnsupportedError, load

MAGIC = "7767517"
HUGE = 1e30
FLOAT32_WEIGHTS = bytes(4)
RELU, MULTIPLY, VALID = 1, 2, 1


def float32(case: Case) -> Contender:
    """The float32 function."""
    ncnn = load("ncnn", "ncnn")
    net = ncnn.Net()
    net.opt.num_threads = case.threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    with tempfile.TemporaryDirectory() as folder:
        param, weights = (str(path) for path in write_files(case, Path(folder)))
        if net.load_param(param) or net.load_model(weights):
            raise UnsupportedError("ncnn cannot load the files written for it")
    topology = case.spec.graph.topology

    def scores(image: Floats) -> Floats:
        extractor = net.create_extractor()
        extractor.input(topology.input, ncnn.Mat(image))
        return np.array(extractor.extract(topology.output)[1]).reshape(-1)

    return Contender("ncnn", "float32", lambda x: np.stack([scores(image) for image in x]))


def write_files(case: Case, folder: Path) -> list[Path]:
    """Write ncnn's two files of a network: its layers as text, its weights as bytes.

    Raises:
        UnsupportedError: A layer has no form here.
    """
    param, weights = NcnnWriter(case).content()
    paths = [folder / "net.param", folder / "net.bin"]
    paths[0].write_text(param, encoding="ascii")
    paths[1].write_bytes(weights)
    return paths


class NcnnWriter:
    """Layers and weights of a network, as ncnn's files have them."""

    def __init__(self, case: Case) -> None:
        self.case, self.graph = case, case.spec.graph
        self.forms = case.forms(FORMS, "ncnn")
        self.lines: list[str] = []
        self.weights: list[bytes] = []
        self.blobs = 0
        self.readers = Counter(name for node in self.graph.nodes for name in node.inputs)
        self.copies: dict[str, list[str]] = {}

    def content(self) -> tuple[str, bytes]:
        """Text of the layers and bytes of the weights."""
        self.layer("Input", [], self.graph.topology.input)
        for node, form in self.forms:
            form(self, node)
        counts = f"{len(self.lines)} {self.blobs}"
        return "\n".join([MAGIC, counts, *self.lines, ""]), b"".join(self.weights)

    def layer(self, kind: str, inputs: list[str], output: str, **values: float) -> None:
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
        self, kind: str, inputs: list[str], outputs: list[str], values: dict[str, float]
    ) -> None:
        counts = (str(len(inputs)), str(len(outputs)))
        parameters = (f"{key[1:]}={value}" for key, value in values.items())
        name = f"{kind}{len(self.lines)}"
        self.lines.append(" ".join([kind, name, *counts, *inputs, *outputs, *parameters]))
        self.blobs += len(outputs)

    def conv(self, node: Conv) -> None:
        """Convolution with its ReLU."""
        if node.groups != 1:
            raise UnsupportedError("grouped convolution is not implemented for ncnn")
        top, left, bottom, right = node.pads
        count, size, relu, bias = self.store(node)
        self.layer(
            "Convolution", [node.input], node.output, _0=count, _1=node.kernel[1],
            _11=node.kernel[0], _2=node.dilation[1], _12=node.dilation[0], _3=node.stride[1],
            _13=node.stride[0], _4=left, _15=right, _14=top, _16=bottom, _5=bias, _6=size, _9=relu,
        )  # fmt: skip

    def dense(self, node: Dense) -> None:
        """InnerProduct with its ReLU."""
        count, size, relu, bias = self.store(node)
        self.layer(
            "InnerProduct", [node.input], node.output, _0=count, _1=bias, _2=size, _9=relu
        )  # fmt: skip

    def store(self, node: Weighted) -> tuple[int, int, int, int]:
        """Store weights and bias.

        Returns:
            Output channels, number of weights, code of the activation, whether there is a bias.
        """
        if (node.low, node.high) not in ((None, None), (0, None)):
            raise UnsupportedError("a clamp other than ReLU is not implemented for ncnn")
        weights = node.float_weights(self.graph.tensors, self.case.shapes[node.input])
        self.weights += [FLOAT32_WEIGHTS, weights.astype("<f4").tobytes()]
        if node.bias is not None:
            self.weights.append(self.graph.tensors[node.bias].astype("<f4").tobytes())
        return len(weights), weights.size, RELU * (node.low == 0), int(node.bias is not None)

    def pool(self, node: Pool) -> None:
        """Pooling; a window over all of an unpadded plane is a global one."""
        top, left, bottom, right = node.pads
        whole = self.case.shapes[node.input][1:] == node.kernel and not any(node.pads)
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
        """ReLU."""
        if (node.low, node.high) != (0, None):
            raise UnsupportedError("a clamp other than ReLU is not implemented for ncnn")
        self.layer("ReLU", [node.input], node.output)

    def flatten(self, node: Flatten) -> None:
        """Planes to a vector."""
        self.layer("Flatten", [node.input], node.output)


FORMS: dict[type[Node], Any] = {
    Conv: NcnnWriter.conv,
    Dense: NcnnWriter.dense,
    Pool: NcnnWriter.pool,
    Sign: NcnnWriter.sign,
    Add: NcnnWriter.add,
    Clamp: NcnnWriter.clamp,
    Flatten: NcnnWriter.flatten,
}
"""How each operation is written; the others are refused."""
