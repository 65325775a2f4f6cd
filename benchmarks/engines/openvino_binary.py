"""A network with sign activations as OpenVINO's BinaryConvolution.

Its fast kernel wants bits from a FakeQuantize of two levels, 0 and 1. A sign of scale * sum + bias with scale > 0 is a
threshold on the sum, per channel, so scale and bias cost nothing. A fully connected layer is a convolution whose kernel
covers the whole plane. Zero padding adds nothing to the sum, as in bwn (pad_value 0).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from openvino import opset15 as op

from bwn.ir.node import Array, Node
from bwn.kernels import bits
from bwn.ops import Conv, Dense, Flatten, Pool, Sign
from engines.case import Case, UnsuitedError


def sign_network(case: Case) -> Any:
    """An openvino.Model with static shapes. Raises UnsuitedError where some node has no such form."""
    built = SignNetwork(case)
    parameter = op.parameter([case.batch, *case.shape], np.float32)
    last = parameter
    for node in case.spec.graph.nodes:
        last = built.add(node, last)
    return openvino.Model([op.reshape(last, [case.batch, -1], False)], [parameter])


class SignNetwork:
    """Adds a chain of nodes; every tensor has four axes."""

    def __init__(self, case: Case) -> None:
        self.case, self.graph = case, case.spec.graph
        self.threshold: Array | None = (
            None  # (out,) of the sums that the next Sign reads; None: they are real scores
        )

    def add(self, node: Node, x: Any) -> Any:
        """`node` after `x`."""
        if isinstance(node, (Conv, Dense)):
            return self.binary(node, x) if self.graph.is_packed(node) else self.real(node, x)
        if isinstance(node, Pool) and node.kind == "max":
            return op.max_pool(
                x, node.stride, [1, 1], node.pads[:2], node.pads[2:], node.kernel
            ).output(0)
        if isinstance(node, Sign):
            return self.sign(x)
        if isinstance(node, Flatten):
            return x  # the next kernel covers the plane
        raise UnsuitedError(f"{type(node).__name__} among signs is not written here")

    def sign(self, x: Any) -> Any:
        """Bits: 1 above the threshold, per channel."""
        levels = (
            np.float32(-1e-30) if self.threshold is None else self.threshold.reshape(1, -1, 1, 1)
        )
        level = op.constant(np.broadcast_to(levels, (1, levels.size, 1, 1)).astype(np.float32))
        self.threshold = None
        return op.fake_quantize(x, level, level, plain(0), plain(1), 2)

    def window(self, node: Conv | Dense, x: Any) -> tuple[tuple[int, ...], list[Any]]:
        """Shape of the weights, (out, C, KH, KW), and what follows them in a convolution's call."""
        rows = self.graph.tensors[node.weight].shape[0]
        channels, *plane = (
            x.get_shape()[1:] if hasattr(x, "get_shape") else x.output(0).get_shape()[1:]
        )
        if isinstance(node, Dense):
            return (rows, channels, *plane), [[1, 1], [0, 0], [0, 0], [1, 1]]
        if node.groups != 1:
            raise UnsuitedError("BinaryConvolution knows no groups")
        return (rows, channels, *node.kernel), [
            node.stride,
            node.pads[:2],
            node.pads[2:],
            node.dilation,
        ]

    def binary(self, node: Conv | Dense, x: Any) -> Any:
        """BinaryConvolution; its scale and bias wait as a threshold."""
        shape, rest = self.window(node, x)
        length = node.depth(self.case.shapes[node.input])
        signs = bits.unpack(self.graph.tensors[node.weight].astype(np.uint64, copy=False), length)
        if isinstance(node, Conv):  # bwn's words run over the channels innermost
            signs = signs.reshape(shape[0], *shape[2:], shape[1]).transpose(0, 3, 1, 2)
        spec = np.packbits(signs.reshape(-1) > 0, bitorder="little")
        # Not shared: the array is gone by the time the model is compiled.
        words = openvino.op.Constant(
            openvino.Tensor(spec, list(shape), openvino.Type.u1), shared_memory=False
        )
        self.threshold = self.as_threshold(node)
        return op.binary_convolution(x, words, *rest, "xnor-popcount", 0.0, "explicit")

    def as_threshold(self, node: Conv | Dense) -> Array:
        """Sum that scale * sum + bias >= 0 must exceed, (out,) float32."""
        scale = (
            np.ones(1) if node.scale is None else self.graph.tensors[node.scale].astype(np.float64)
        )
        bias = (
            np.zeros(1) if node.bias is None else self.graph.tensors[node.bias].astype(np.float64)
        )
        if not (scale > 0).all() or node.low is not None or node.high is not None:
            raise UnsuitedError("a scale that is not positive, or a clamp before a sign")
        return np.nextafter(-(bias / scale).astype(np.float32), np.float32(-np.inf))

    def real(self, node: Conv | Dense, x: Any) -> Any:
        """A float32 layer: real sums; signs that it reads become +-1 again."""
        shape, rest = self.window(node, x)
        weights = node.float_weights(self.graph.tensors, self.case.shapes[node.input]).reshape(
            shape
        )
        bias = (
            np.zeros(shape[0], np.float32) if node.bias is None else self.graph.tensors[node.bias]
        )
        if node.input != self.graph.topology.input:
            # w . (2 b - 1) = 2 w . b - sum w, for bits b
            bias, weights = bias - weights.sum(axis=(1, 2, 3)), 2 * weights
        product = op.convolution(x, op.constant(weights.astype(np.float32)), *rest)
        self.threshold = None
        return op.add(product, op.constant(bias.astype(np.float32).reshape(1, -1, 1, 1)))


def plain(value: float) -> Any:
    """A constant for all channels."""
    return op.constant(np.full((1, 1, 1, 1), value, np.float32))
