"""The built-in networks, as graphs with seeded random weights: what `bwn bench` runs without a model.

Their scales keep activations near 1, so that timings see ordinary numbers. Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from bwn.ir.graph import Graph, Topology
from bwn.ir.model_spec import ModelSpec
from bwn.ir.node import Array, Node, Pair, Shape
from bwn.kernels import bits
from bwn.ops import Add, Clamp, Conv, Dense, Flatten, Pool, Sign


class Builder:
    """Adds layers one after another; `last` names the newest tensor."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.shape = shape
        self.nodes: list[Node] = []
        self.tensors: dict[str, Array] = {}
        self.last = "input"

    def _name(self, kind: str) -> str:
        return f"{kind}{len(self.nodes)}"

    def _weights(self, name: str, shape: Shape, binary: bool) -> dict[str, Any]:
        outputs, depth = shape[0], int(np.prod(shape[1:]))
        gain = np.sqrt(2 / depth) * self.random.uniform(0.8, 1.2, outputs)
        bias = self.random.normal(0, 0.1, outputs)
        if binary:
            # Random bits, so that a large network is made at once; the row's unused bits are cleared by the packing.
            self.tensors[f"{name}.words"] = bits.pack(
                self.random.integers(-1, 1, (outputs, depth), np.int8)
            )
        else:
            self.tensors[f"{name}.weight"] = self.random.standard_normal(shape, np.float32)
        self.tensors[f"{name}.scale"] = gain.astype(np.float32)
        self.tensors[f"{name}.bias"] = bias.astype(np.float32)
        return {
            "weight": f"{name}.{'words' if binary else 'weight'}",
            "scale": f"{name}.scale",
            "bias": f"{name}.bias",
        }

    def conv(
        self, inputs: int, outputs: int, size: int, *, stride: int = 1, relu: bool = True, binary: bool = True,
        signs: bool = False, source: str | None = None,
    ) -> str:  # fmt: skip
        """A convolution with the padding that keeps the size at stride 1."""
        name, pad = self._name("conv"), size // 2
        self.nodes.append(
            Conv(
                input=source or self.last,
                output=name,
                kernel=(size, size),
                stride=(stride, stride),
                pads=(pad, pad, pad, pad),
                low=0.0 if relu else None,
                activations="binary" if signs else "float32",
                **self._weights(name, (outputs, inputs, size, size), binary),
            )
        )
        self.last = name
        return name

    def dense(
        self,
        inputs: int,
        outputs: int,
        *,
        relu: bool = True,
        binary: bool = True,
        signs: bool = False,
    ) -> None:
        """A fully connected layer."""
        name = self._name("dense")
        node = Dense(
            input=self.last, output=name, low=0.0 if relu else None, activations="binary" if signs else "float32",
            **self._weights(name, (outputs, inputs), binary),
        )  # fmt: skip
        self.nodes.append(node)
        self.last = name

    def pool(self, size: Pair, stride: Pair, *, pad: int = 0, average: bool = False) -> None:
        """Pooling; `average` over the whole map is a global pool."""
        name = self._name("pool")
        kind: Literal["average", "max"] = "average" if average else "max"
        self.nodes.append(
            Pool(
                input=self.last,
                output=name,
                kind=kind,
                kernel=size,
                stride=stride,
                pads=(pad, pad, pad, pad),
            )
        )
        self.last = name

    def sign(self) -> None:
        """Sign activations."""
        name = self._name("sign")
        self.nodes.append(Sign(input=self.last, output=name))
        self.last = name

    def relu(self) -> None:
        """ReLU of its own, after a residual sum."""
        name = self._name("relu")
        self.nodes.append(Clamp(input=self.last, output=name, low=0.0))
        self.last = name

    def add(self, a: str, b: str) -> None:
        """A residual sum."""
        name = self._name("add")
        self.nodes.append(Add(input=a, other=b, output=name))
        self.last = name

    def flatten(self) -> None:
        """Planes to vectors."""
        name = self._name("flatten")
        self.nodes.append(Flatten(input=self.last, output=name))
        self.last = name

    def done(self) -> ModelSpec:
        """The network."""
        topology = Topology(
            input="input", input_shape=self.shape, output=self.last, nodes=tuple(self.nodes)
        )
        return ModelSpec(
            graph=Graph(topology=topology, tensors=self.tensors), producer="bwn built-in"
        )


def mlp(seed: int = 0) -> ModelSpec:
    """784-1024-1024-1024-10 on 28 x 28 digits; every layer binary."""
    net = Builder((1, 28, 28), seed)
    net.flatten()
    for inputs, outputs in ((784, 1024), (1024, 1024), (1024, 1024)):
        net.dense(inputs, outputs)
    net.dense(1024, 10, relu=False)
    return net.done()


def _vgg(seed: int, signs: bool) -> ModelSpec:
    net = Builder((3, 32, 32), seed)
    channels = 3
    for width in (128, 256, 512):
        for place in range(2):
            first = channels == 3
            net.conv(
                channels,
                width,
                3,
                relu=not signs,
                binary=not (signs and first),
                signs=signs and not first,
            )
            channels = width
            if place == 1:
                net.pool((2, 2), (2, 2))
            if signs:
                net.sign()
    net.flatten()
    for inputs in (8192, 1024):
        net.dense(inputs, 1024, relu=not signs, signs=signs)
        if signs:
            net.sign()
    net.dense(1024, 10, relu=False, binary=not signs)
    return net.done()


def vgg(seed: int = 0) -> ModelSpec:
    """The BinaryConnect CIFAR-10 network, float32 activations; every layer binary (Courbariaux et al., 2015)."""
    return _vgg(seed, signs=False)


def vgg_sign(seed: int = 0) -> ModelSpec:
    """The same with sign activations; first and last layers float32."""
    return _vgg(seed, signs=True)


def resnet18(seed: int = 0) -> ModelSpec:
    """ResNet-18 at 224 x 224, float32 activations; all layers binary but the first and the last."""
    net = Builder((3, 224, 224), seed)
    net.conv(3, 64, 7, stride=2, binary=False)
    net.pool((3, 3), (2, 2), pad=1)
    channels = 64
    for width in (64, 128, 256, 512):
        for place in range(2):
            stride = 2 if place == 0 and width != 64 else 1
            before = net.last
            skip = before if stride == 1 else net.conv(channels, width, 1, stride=2, relu=False)
            net.conv(channels, width, 3, stride=stride, source=before)
            net.conv(width, width, 3, relu=False)
            net.add(skip, net.last)
            net.relu()
            channels = width
    net.pool((7, 7), (1, 1), average=True)
    net.flatten()
    net.dense(512, 1000, relu=False, binary=False)
    return net.done()


NETWORKS: dict[str, Callable[[int], ModelSpec]] = {
    "mlp": mlp,
    "vgg": vgg,
    "vgg-sign": vgg_sign,
    "resnet18": resnet18,
}
"""Built-in networks by name; each takes a seed."""
