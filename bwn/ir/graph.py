"""The Graph: what a network computes, as frozen values.

It knows nothing of ONNX, files or kernels. The nodes below are at the same time the schema of the graph in a .bwn
file (bwn/format/SPEC.md): msgspec checks types and refuses unknown keys, `bwn.ir.checker` refuses the rest.

A product node (Conv, Dense) computes, for output channel n,

    y[n] = clamp(scale[n] * sum_k w[n, k] * x[k] + bias[n], low, high)

with float32 weights, or with one-bit weights w = +-1 in packed uint64 words (the bit rule is in `kernels/bits.py`).
A missing scale is 1, a missing bias 0, a missing bound infinite. Zero padding adds nothing to the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Shape = tuple[int, ...]
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]
"""Top, left, bottom, right."""

Activations = Literal["float32", "int8", "uint8", "binary"]
"""How a product node reads its input: as it is; rounded to 8 bits of either sign; to 8 bits from 0 up; as signs +-1."""

QUANT_RANGES: dict[str, tuple[int, int]] = {"int8": (-127, 127), "uint8": (0, 254)}
"""Least and most q of 8-bit activations x ~ step * q, step = max|x| / most: 255 values, of uint8 half as far apart."""


class Quantization(NamedTuple):
    """How a network's source says that a product reads its input as 8 bits.

    step: x ~ step * q. whole: whether the source has a 256th value (-128 or 255), which is read as its neighbour.
    """

    activations: Literal["int8", "uint8"]
    step: float
    whole: bool = False


Quantizations = Mapping[tuple[str, str], Quantization]
"""By the names of the tensor that the product reads and of its weights, which no pass changes."""


class Node(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="op",
):
    """One operation; reads the tensor `input`, makes the tensor `output`."""

    input: str
    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the activation tensors that the node reads."""
        return (self.input,)

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the stored tensors that the node reads."""
        return ()


class Weighted(Node, frozen=True, kw_only=True):
    """What Conv and Dense share: weights, epilogue, and how the input is read.

    weight: name of float32 weights or of packed uint64 words.
    scale, bias: names of (out,) float32 vectors, or None.
    low, high: clamp bounds, or None.
    activations: how the input is read; all but `float32` need packed weights.
    step: with int8 and uint8, the fixed quantization step x ~ step * q; None: max|x| / most of each image (`QUANT_RANGES`).
    """

    weight: str
    scale: str | None = None
    bias: str | None = None
    low: float | None = None
    high: float | None = None
    activations: Activations = "float32"
    step: float | None = None

    @property
    def is_quantized(self) -> bool:
        """Whether the input is rounded to 8 bits."""
        return self.activations in QUANT_RANGES

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the stored tensors that the node reads."""
        return tuple(name for name in (self.weight, self.scale, self.bias) if name is not None)


class Conv(Weighted, frozen=True, kw_only=True, tag="conv"):
    """2-D convolution of (N, C, H, W) with zero padding.

    weight: (out, C / groups, KH, KW) float32, or (out, ceil(K / 64)) uint64 with K = KH * KW * C / groups in the
    order k = (ky * KW + kx) * (C / groups) + c.
    """

    kernel: Pair
    stride: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


class Dense(Weighted, frozen=True, kw_only=True, tag="dense"):
    """Fully connected layer of (N, K). weight: (out, K) float32, or (out, ceil(K / 64)) uint64."""


class Affine(Node, frozen=True, kw_only=True, tag="affine"):
    """y[c] = scale[c] * x[c] + bias[c] per channel. scale, bias: names of (C,) float32 vectors."""

    scale: str
    bias: str

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the stored tensors that the node reads."""
        return (self.scale, self.bias)


class Clamp(Node, frozen=True, kw_only=True, tag="clamp"):
    """y = min(max(x, low), high); ReLU is low = 0. A missing bound is infinite."""

    low: float | None = None
    high: float | None = None


class Sign(Node, frozen=True, kw_only=True, tag="sign"):
    """y = +1 where x >= 0, else -1."""


class Add(Node, frozen=True, kw_only=True, tag="add"):
    """y = x + other, of equal shapes."""

    other: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the activation tensors that the node reads."""
        return (self.input, self.other)


class Pool(Node, frozen=True, kw_only=True, tag="pool"):
    """Maximum or average over windows of (N, C, H, W).

    Padding never wins a maximum; an average counts it (`count_pads`) or divides by the positions inside the image.
    """

    kind: Literal["max", "average"]
    kernel: Pair
    stride: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    count_pads: bool = False


class Flatten(Node, frozen=True, kw_only=True, tag="flatten"):
    """(N, C, H, W) to (N, C * H * W), in that order."""


class Softmax(Node, frozen=True, kw_only=True, tag="softmax"):
    """y = exp(x - max x) / sum exp(x - max x) over the classes of (N, K)."""


AnyNode = Conv | Dense | Affine | Clamp | Sign | Add | Pool | Flatten | Softmax


class Topology(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a graph that is not tensors: what a .bwn file stores as JSON.

    input_shape: shape of one example, (C, H, W) or (K,). Nodes stand in an order in which they can run.
    """

    input: str
    input_shape: tuple[int, ...]
    output: str
    nodes: tuple[AnyNode, ...]


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """A topology and its stored tensors (weights, words, scales, biases) by name."""

    topology: Topology
    tensors: Mapping[str, Array]

    @property
    def nodes(self) -> tuple[AnyNode, ...]:
        """The nodes, in an order in which they can run."""
        return self.topology.nodes

    def is_packed(self, node: AnyNode) -> bool:
        """Whether `node` is a product whose weights are one bit each."""
        return isinstance(node, Weighted) and self.tensors[node.weight].dtype == np.uint64

    def sole_reader(self, name: str) -> AnyNode | None:
        """The one node that reads tensor `name`, once; None where there are others, or it is the output."""
        readers = [node for node in self.nodes for tensor in node.inputs if tensor == name]
        return readers[0] if len(readers) == 1 and name != self.topology.output else None

    def replace(
        self, *, nodes: tuple[AnyNode, ...], tensors: Mapping[str, Array] | None = None
    ) -> Graph:
        """The same input and output with other nodes and, if given, other tensors."""
        topology = msgspec.structs.replace(self.topology, nodes=nodes)
        return Graph(topology=topology, tensors=self.tensors if tensors is None else tensors)


class Preprocess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an image becomes the network's input: x = (pixel / 255 - mean) / std, channels first.

    size: (H, W). resize: `stretch` to the size, or `crop`: shorter side to the size, then the centre.
    color: `L` (one channel) or `RGB`. mean, std: one number per channel.
    """

    size: Pair
    resize: Literal["stretch", "crop"] = "stretch"
    color: Literal["L", "RGB"]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that a .bwn file says: the graph, how images are prepared, and the names of the classes.

    preprocess: None where the producer did not say. classes: None likewise. producer: e.g. `bwn 0.1.0`.
    """

    graph: Graph
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] | None = None
    producer: str = ""
