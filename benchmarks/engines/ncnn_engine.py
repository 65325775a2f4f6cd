"""ncnn on the CPU, float32: Winograd, packed layouts and sgemm on, 16-bit storage off. It has no batch axis."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from bwn.ir.node import Array, Node
from bwn.ops import Add, Clamp, Conv, Dense, Flatten, Pool, Sign
from engines.case import Case, Contender, Floats, UnsuitedError

try:
    import ncnn
except ImportError:
    raise UnsuitedError("ncnn is not installed (pip install ncnn)") from None

MAGIC = "7767517"
HUGE = 1e30
RELU, MULTIPLY, VALID = 1, 2, 1


def float32(case: Case) -> Contender:
    """The float32 function; the images of a batch run one after another."""
    param, weights = Writer(case).written()
    net = ncnn.Net()
    net.opt.num_threads = case.threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("net.param", "net.bin")]
        files[0].write_text(param, encoding="ascii")
        files[1].write_bytes(weights)
        if net.load_param(str(files[0])) or net.load_model(str(files[1])):
            raise UnsuitedError("ncnn refuses the network written for it")
    ends = case.spec.graph.topology.input, case.spec.graph.topology.output

    def one(image: Floats) -> Floats:
        extractor = net.create_extractor()
        extractor.input(ends[0], ncnn.Mat(image))
        return np.array(extractor.extract(ends[1])[1]).reshape(-1)

    return Contender("ncnn", "float32", lambda x: np.stack([one(image) for image in x]))


class Writer:
    """ncnn's two files of a network: layers as text, weights as bytes."""

    def __init__(self, case: Case) -> None:
        self.case, self.graph = case, case.spec.graph
        self.lines: list[str] = []
        self.weights: list[bytes] = []
        self.blobs = 0
        self.readers = Counter(name for node in self.graph.nodes for name in node.inputs)
        self.copies: dict[str, list[str]] = {}

    def written(self) -> tuple[str, bytes]:
        """Text of the layers and bytes of the weights."""
        first = self.graph.topology.input
        self.layer("Input", [], first)
        for node in self.graph.nodes:
            self.add(node)
        return "\n".join([MAGIC, f"{len(self.lines)} {self.blobs}", *self.lines, ""]), b"".join(
            self.weights
        )

    def layer(self, kind: str, inputs: list[str], output: str, **values: float) -> None:
        """One line, and a Split where its output has several readers."""
        self._line(
            kind,
            [self.copies[name].pop() if name in self.copies else name for name in inputs],
            [output],
            values,
        )
        if (count := self.readers[output]) > 1:
            copies = [f"{output}_{index}" for index in range(count)]
            self._line("Split", [output], copies, {})
            self.copies[output] = copies

    def _line(
        self, kind: str, inputs: list[str], outputs: list[str], values: dict[str, float]
    ) -> None:
        settings = [
            f"{key[1:]}={value}" for key, value in values.items()
        ]  # keywords cannot be numbers: _0 is 0
        self.lines.append(" ".join(map(str, [kind, f"{kind}{len(self.lines)}", len(inputs), len(outputs), *inputs,
                                             *outputs, *settings])))  # fmt: skip
        self.blobs += len(outputs)

    def add(self, node: Node) -> None:
        """The layers of one node."""
        if isinstance(node, (Conv, Dense)):
            self.product(node)
        elif isinstance(node, Pool):
            top, left, bottom, right = node.pads
            self.layer("Pooling", [node.input], node.output, _0=int(node.kind == "average"), _1=node.kernel[1],
                       _11=node.kernel[0], _2=node.stride[1], _12=node.stride[0], _3=left, _14=right, _13=top,
                       _15=bottom, _4=int(self.case.global_pool(node)), _5=VALID, _6=int(node.count_pads))  # fmt: skip
        elif isinstance(node, Sign):  # exact but for numbers below 1e-30
            self.layer("BinaryOp", [node.input], f"{node.output}_big", _0=MULTIPLY, _1=1, _2=HUGE)
            self.layer("Clip", [f"{node.output}_big"], node.output, _0=-1, _1=1)
        elif isinstance(node, Add):
            self.layer("BinaryOp", list(node.inputs), node.output, _0=0)
        elif isinstance(node, Clamp) and (node.low, node.high) == (0, None):
            self.layer("ReLU", [node.input], node.output)
        elif isinstance(node, Flatten):
            self.layer("Flatten", [node.input], node.output)
        else:
            raise UnsuitedError(f"{type(node).__name__} is not written for ncnn here")

    def product(self, node: Conv | Dense) -> None:
        """Convolution or InnerProduct with its ReLU."""
        if (node.low, node.high) not in ((None, None), (0, None)) or (
            isinstance(node, Conv) and node.groups != 1
        ):
            raise UnsuitedError("groups, or a clamp other than ReLU: not written for ncnn here")
        weights = node.float_weights(self.graph.tensors, self.case.shapes[node.input])
        self.weights += [
            bytes(4),
            weights.astype("<f4").tobytes(),
        ]  # four zero bytes: float32 follows
        bias: Array | None = None if node.bias is None else self.graph.tensors[node.bias]
        if bias is not None:
            self.weights.append(bias.astype("<f4").tobytes())
        relu = RELU if node.low == 0 else 0
        if isinstance(node, Dense):
            self.layer("InnerProduct", [node.input], node.output, _0=len(weights), _1=int(bias is not None),
                       _2=weights.size, _9=relu)  # fmt: skip
            return
        top, left, bottom, right = node.pads
        self.layer("Convolution", [node.input], node.output, _0=len(weights), _1=node.kernel[1], _11=node.kernel[0],
                   _2=node.dilation[1], _12=node.dilation[0], _3=node.stride[1], _13=node.stride[0], _4=left,
                   _15=right, _14=top, _16=bottom, _5=int(bias is not None), _6=weights.size, _9=relu)  # fmt: skip
