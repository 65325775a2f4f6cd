"""The built-in networks, with seeded random weights: what `bwn bench` measures without a model.

Their scales keep activations near 1, so that what is timed are ordinary numbers. Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from bwn.ir.graph import Graph, Topology
from bwn.ir.model_spec import ModelSpec
from bwn.ir.node import Array, Node, Pair, Shape
from bwn.kernels import bits
from bwn.ops.add import Add
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign


class NetworkBuilder:
    """Adds one layer after another.

    Attributes:
        last: Name of the newest tensor, which the next layer reads.
    """

    def __init__(self, shape: Shape, seed: int) -> None:
        """Begin a network.

        Args:
            shape: Shape of one example.
            seed: Seed of the weights.
        """
        self.last = "input"
        self._random = np.random.default_rng(seed)
        self._shape = shape
        self._nodes: list[Node] = []
        self._tensors: dict[str, Array] = {}

    def conv(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        relu: bool = True,
        high: float | None = None,
        binary: bool = True,
        reads_signs: bool = False,
        source: str | None = None,
    ) -> str:
        """Add a convolution with the padding that keeps the size at stride 1.

        Args:
            inputs: Input channels.
            outputs: Output channels.
            size: Height and width of the window.
            stride: Rows and columns from one window to the next.
            groups: Groups of channels, each with filters of its own.
            relu: Whether a ReLU follows.
            high: Largest output, such as ReLU6's.
            binary: Whether its weights are one bit each.
            reads_signs: Whether its input is signs.
            source: The tensor that it reads; default the newest.

        Returns:
            Name of its output.
        """
        name, pad = self._name("conv"), size // 2
        return self._add(
            Conv(
                input=source or self.last,
                output=name,
                kernel=(size, size),
                stride=(stride, stride),
                pads=(pad, pad, pad, pad),
                groups=groups,
                low=0.0 if relu else None,
                high=high,
                activations="binary" if reads_signs else "float32",
                **self._weights(name, (outputs, inputs // groups, size, size), binary),
            )
        )

    def dense(
        self,
        inputs: int,
        outputs: int,
        *,
        relu: bool = True,
        binary: bool = True,
        reads_signs: bool = False,
    ) -> str:
        """Add a fully connected layer; the arguments are those of `conv`."""
        name = self._name("dense")
        return self._add(
            Dense(
                input=self.last,
                output=name,
                low=0.0 if relu else None,
                activations="binary" if reads_signs else "float32",
                **self._weights(name, (outputs, inputs), binary),
            )
        )

    def max_pool(self, size: int, stride: int, pad: int = 0) -> str:
        """Add a maximum over square windows."""
        return self._add(
            Pool(
                input=self.last,
                output=self._name("pool"),
                kind="max",
                kernel=(size, size),
                stride=(stride, stride),
                pads=(pad, pad, pad, pad),
            )
        )

    def average_pool(self, kernel: Pair) -> str:
        """Add the average of whole planes of this height and width."""
        output = self._name("pool")
        return self._add(Pool(input=self.last, output=output, kind="average", kernel=kernel))

    def sign(self) -> str:
        """Add a sign."""
        return self._add(Sign(input=self.last, output=self._name("sign")))

    def relu(self) -> str:
        """Add a ReLU of its own, as after the sum of a residual block."""
        return self._add(Clamp(input=self.last, output=self._name("relu"), low=0.0))

    def add(self, input: str, other: str) -> str:
        """Add the sum of two tensors."""
        return self._add(Add(input=input, other=other, output=self._name("add")))

    def flatten(self) -> str:
        """Add a step from planes to vectors."""
        return self._add(Flatten(input=self.last, output=self._name("flatten")))

    def spec(self) -> ModelSpec:
        """The network."""
        topology = Topology(
            input="input", input_shape=self._shape, output=self.last, nodes=tuple(self._nodes)
        )
        graph = Graph(topology=topology, tensors=self._tensors)
        return ModelSpec(graph=graph, producer="bwn built-in")

    def _name(self, kind: str) -> str:
        return f"{kind}{len(self._nodes)}"

    def _add(self, node: Node) -> str:
        self._nodes.append(node)
        self.last = node.output
        return node.output

    def _weights(self, name: str, shape: Shape, binary: bool) -> dict[str, Any]:
        """Store weights, scale and bias of a layer, and give the fields that name them."""
        random, outputs, depth = self._random, shape[0], prod(shape[1:])
        scale = np.sqrt(2 / depth) * random.uniform(0.8, 1.2, outputs)
        bias = random.normal(0, 0.1, outputs)
        weight: Array
        if binary:
            # Drawn as signs, and packed: less work than a large tensor of normal numbers.
            weight = bits.pack(random.integers(-1, 1, (outputs, depth), np.int8))
        else:
            weight = random.standard_normal(shape, np.float32)
        names = {
            "weight": f"{name}.{'words' if binary else 'weight'}",
            "scale": f"{name}.scale",
            "bias": f"{name}.bias",
        }
        arrays = (weight, scale.astype(np.float32), bias.astype(np.float32))
        self._tensors |= dict(zip(names.values(), arrays, strict=True))
        return names


def mlp(seed: int = 0) -> ModelSpec:
    """784-1024-1024-1024-10 on 28 x 28 digits; every layer binary."""
    net = NetworkBuilder((1, 28, 28), seed)
    net.flatten()
    for inputs in (784, 1024, 1024):
        net.dense(inputs, 1024)
    net.dense(1024, 10, relu=False)
    return net.spec()


def vgg(seed: int = 0) -> ModelSpec:
    """The BinaryConnect CIFAR-10 network (Courbariaux et al., 2015); every layer binary."""
    return _vgg(seed, signs=False)


def vgg_sign(seed: int = 0) -> ModelSpec:
    """The same with sign activations; its first and last layers are float32."""
    return _vgg(seed, signs=True)


def _vgg(seed: int, *, signs: bool) -> ModelSpec:
    net = NetworkBuilder((3, 32, 32), seed)
    inputs = 3
    for outputs in (128, 256, 512):
        binary = not signs or inputs != 3
        net.conv(inputs, outputs, 3, relu=not signs, binary=binary, reads_signs=signs and binary)
        if signs:
            net.sign()
        net.conv(outputs, outputs, 3, relu=not signs, reads_signs=signs)
        net.max_pool(2, 2)
        if signs:
            net.sign()
        inputs = outputs
    net.flatten()
    for inputs in (8192, 1024):
        net.dense(inputs, 1024, relu=not signs, reads_signs=signs)
        if signs:
            net.sign()
    net.dense(1024, 10, relu=False, binary=not signs)
    return net.spec()


def resnet18(seed: int = 0) -> ModelSpec:
    """ResNet-18 at 224 x 224; all layers binary but the first and the last."""
    net = NetworkBuilder((3, 224, 224), seed)
    net.conv(3, 64, 7, stride=2, binary=False)
    net.max_pool(3, 2, pad=1)
    inputs = 64
    for outputs in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if block == 0 and outputs != 64 else 1
            source = skip = net.last
            if stride == 2:
                skip = net.conv(inputs, outputs, 1, stride=2, relu=False)
            net.conv(inputs, outputs, 3, stride=stride, source=source)
            net.conv(outputs, outputs, 3, relu=False)
            net.add(skip, net.last)
            net.relu()
            inputs = outputs
    net.average_pool((7, 7))
    net.flatten()
    net.dense(512, 1000, relu=False, binary=False)
    return net.spec()


def mobilenetv2(seed: int = 0) -> ModelSpec:
    """MobileNetV2 at 224 x 224; all layers binary but the first and the last.

    Source: Sandler et al., arXiv:1801.04381, table 2.
    """
    net = NetworkBuilder((3, 224, 224), seed)
    net.conv(3, 32, 3, stride=2, high=6.0, binary=False)
    inputs = 32
    for factor, outputs, blocks, first_stride in MOBILENETV2:
        for block in range(blocks):
            stride, hidden, source = first_stride if block == 0 else 1, factor * inputs, net.last
            if factor > 1:
                net.conv(inputs, hidden, 1, high=6.0)
            net.conv(hidden, hidden, 3, stride=stride, groups=hidden, high=6.0)
            net.conv(hidden, outputs, 1, relu=False)
            if block > 0:
                net.add(source, net.last)
            inputs = outputs
    net.conv(inputs, 1280, 1, high=6.0)
    net.average_pool((7, 7))
    net.flatten()
    net.dense(1280, 1000, relu=False, binary=False)
    return net.spec()


MOBILENETV2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Stages: expansion, output channels, blocks, stride of the first block."""

NETWORKS: dict[str, Callable[[int], ModelSpec]] = {
    "mlp": mlp,
    "vgg": vgg,
    "vgg-sign": vgg_sign,
    "resnet18": resnet18,
    "mobilenetv2": mobilenetv2,
}
"""Built-in networks by name; each takes a seed."""
