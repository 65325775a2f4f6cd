"""A network with sign activations as OpenVINO's BinaryConvolution.

Its fast kernel wants bits from a FakeQuantize of two levels, 0 and 1. A sign of scale * sum + bias
with scale > 0 is a threshold on the sum, per channel, so scale and bias cost nothing. A fully
connected layer is a convolution whose kernel covers the whole plane. Zero padding adds nothing to
the sum, as in bwn (pad_value 0).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.ir.node import Array, Node
from bwn.kernels import bits
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.ops.weighted import Weighted
from engines.case import Case, UnsupportedError, load

ANY_NEGATIVE = np.float32(-1e-30)
"""A level below which every number is taken for negative; numbers between it and 0 count as 0."""


class SignNetwork:
    """Builds the model of a chain of layers; every tensor in it has four axes."""

    def __init__(self, case: Case) -> None:
        self.case, self.graph = case, case.spec.graph
        self.forms = case.forms(FORMS, "OpenVINO's binary convolution", chain=True)
        self.openvino = load("openvino", "openvino")
        self.op = load("openvino", "openvino.opset15")
        # What the newest tensor holds: bits; else sums that a Sign must compare with a threshold,
        # (out,) of the channels; else real numbers.
        self.is_bits = False
        self.threshold: Array | None = None

    def model(self) -> Any:
        """An openvino.Model with static shapes.

        Raises:
            UnsupportedError: A layer has no such form.
        """
        parameter = self.op.parameter([self.case.batch, *self.case.shape], np.float32)
        last = parameter.output(0)
        for node, form in self.forms:
            last = form(self, node, last).output(0)
        if self.threshold is not None or self.is_bits:
            raise UnsupportedError("scores are signs, or sums of signs without their scale")
        scores = self.op.reshape(last, [self.case.batch, -1], False)
        return self.openvino.Model([scores], [parameter])

    def sign(self, node: Sign, x: Any) -> Any:
        """Bits: 1 above the threshold of each channel."""
        if self.is_bits:
            return x.get_node()
        levels = ANY_NEGATIVE if self.threshold is None else self.threshold
        level = self.channels(np.atleast_1d(levels))
        self.threshold, self.is_bits = None, True
        low, high = (self.channels(np.full(1, value, np.float32)) for value in (0, 1))
        return self.op.fake_quantize(x, level, level, low, high, 2)

    def pool(self, node: Pool, x: Any) -> Any:
        """A maximum, of bits and sums as well."""
        if node.kind != "max":
            raise UnsupportedError("average pooling is not implemented for binary convolution")
        pads = node.pads[:2], node.pads[2:]
        return self.op.max_pool(x, node.stride, [1, 1], *pads, node.kernel)

    def flatten(self, node: Flatten, x: Any) -> Any:
        """Nothing: the kernel of the next layer covers the plane."""
        return x.get_node()

    def layer(self, node: Weighted, x: Any) -> Any:
        """A layer with weights."""
        if self.threshold is not None or node.low is not None or node.high is not None:
            raise UnsupportedError("a layer reads sums of signs, or clamps what it makes")
        if node.is_packed(self.graph.tensors):
            return self.binary(node, x)
        return self.real(node, x)

    def window(self, node: Weighted, x: Any) -> tuple[tuple[int, ...], list[Any]]:
        """Shape of the weights, (out, C, KH, KW), and what follows them in a convolution's call."""
        rows = self.graph.tensors[node.weight].shape[0]
        channels, *plane = x.get_shape()[1:]
        if node.rank == 1:
            return (rows, channels, *plane), [[1, 1], [0, 0], [0, 0], [1, 1]]
        window = node.window(self.case.shapes[node.input])
        if window.groups != 1:
            raise UnsupportedError("grouped convolution is not implemented for binary convolution")
        pads = window.pads[:2], window.pads[2:]
        return (rows, channels, *window.kernel), [window.stride, *pads, window.dilation]

    def binary(self, node: Weighted, x: Any) -> Any:
        """BinaryConvolution; its scale and bias wait for the Sign, as a threshold."""
        if not self.is_bits:
            raise UnsupportedError("a layer with one-bit weights reads real numbers")
        shape, call = self.window(node, x)
        words = self.graph.tensors[node.weight].astype(np.uint64, copy=False)
        signs = bits.unpack(words, node.depth(self.case.shapes[node.input]))
        if node.rank == 3:  # bwn's words have the channels innermost
            signs = signs.reshape(shape[0], *shape[2:], shape[1]).transpose(0, 3, 1, 2)
        packed = np.packbits(signs.reshape(-1) > 0, bitorder="little")
        tensor = self.openvino.Tensor(packed, list(shape), self.openvino.Type.u1)
        # Not shared: the array is gone by the time the model is compiled.
        constant = self.openvino.op.Constant(tensor, shared_memory=False)
        self.threshold, self.is_bits = self.as_threshold(node), False
        return self.op.binary_convolution(x, constant, *call, "xnor-popcount", 0.0, "explicit")

    def as_threshold(self, node: Weighted) -> Array:
        """The sum that must be exceeded for scale * sum + bias >= 0, (out,) float32."""
        tensors, outputs = self.graph.tensors, len(self.graph.tensors[node.weight])
        scale = np.ones(outputs) if node.scale is None else tensors[node.scale].astype(np.float64)
        bias = np.zeros(outputs) if node.bias is None else tensors[node.bias].astype(np.float64)
        if not (scale > 0).all():
            raise UnsupportedError("a scale before a sign is not positive")
        return np.nextafter(-(bias / scale).astype(np.float32), np.float32(-np.inf))

    def real(self, node: Weighted, x: Any) -> Any:
        """A float32 layer; bits that it reads become +-1 again."""
        tensors, (shape, call) = self.graph.tensors, self.window(node, x)
        weights = node.float_weights(tensors, self.case.shapes[node.input]).reshape(shape)
        bias = np.zeros(shape[0], np.float32) if node.bias is None else tensors[node.bias]
        if self.is_bits:
            # w . (2 b - 1) = 2 w . b - sum w, for bits b
            bias, weights = bias - weights.sum(axis=(1, 2, 3)), 2 * weights
        self.is_bits = False
        product = self.op.convolution(x, self.op.constant(weights.astype(np.float32)), *call)
        return self.op.add(product, self.channels(bias))

    def channels(self, values: Array) -> Any:
        """A constant for each channel, or one for all."""
        return self.op.constant(values.astype(np.float32).reshape(1, -1, 1, 1))


FORMS: dict[type[Node], Any] = {
    Conv: SignNetwork.layer,
    Dense: SignNetwork.layer,
    Pool: SignNetwork.pool,
    Sign: SignNetwork.sign,
    Flatten: SignNetwork.flatten,
}
"""How each operation is written; the others are refused."""
