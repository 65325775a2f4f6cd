"""ncnn's files of a network in 8 bits, as its tool ncnn2int8 writes them.

Weights are int8 with a scale per output, by largest magnitude; inputs of a layer with weights are
int8 with one scale, by largest magnitude over the calibration images. A convolution that is read by
one convolution and nothing else writes int8; every other layer writes float32. The first and last
layers of a network with signs stay float32, as in bwn.
"""

from __future__ import annotations

import numpy as np

from bwn._types import Floats
from bwn.ir.graph import Graph
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.sign import Sign
from bwn.ops.weighted import Weighted
from bwn.tools.ncnn_network import NcnnWriter
from engines.ranges import Ranges

INT8_WEIGHTS = np.uint32(0x000D4B38).tobytes()
LARGEST, LARGEST_OF_WINOGRAD = 127, 31
"""Of a weight; 3 x 3 convolutions at stride 1 run by Winograd's method, whose sums would overflow
with more than 6 bits."""
INT8_INPUT, DEPTHWISE_INPUT, AND_OUTPUT = 2, 1, 100
"""Values of ncnn's parameter int8_scale_term."""


class Int8Writer(NcnnWriter):
    """Layers and weights of a network with 8-bit products."""

    def __init__(self, graph: Graph, ranges: Ranges) -> None:
        super().__init__(graph)
        self.scales = {
            name: np.float32(LARGEST / max(-low, high)) for name, (low, high) in ranges.items()
        }
        weighted = [node.output for node in graph.nodes if isinstance(node, Weighted)]
        has_signs = any(isinstance(node, Sign) for node in graph.nodes)
        self.floats = {weighted[0], weighted[-1]} if has_signs else set()

    def conv(self, node: Conv) -> None:
        """Convolution; one that only another convolution reads writes int8."""
        if node.output in self.floats:
            super().conv(node)
            return
        stored = self.store_int8(node)
        reader = self.graph.sole_consumer(node.output)
        term = INT8_INPUT if node.groups == 1 else DEPTHWISE_INPUT
        if isinstance(reader, Conv) and reader.output not in self.floats:
            term += AND_OUTPUT
            self.weights.append(self.scales[node.output].tobytes())
        self.convolution(node, stored | {"_8": term})

    def dense(self, node: Dense) -> None:
        """InnerProduct."""
        if node.output in self.floats:
            super().dense(node)
            return
        self.inner_product(node, self.store_int8(node) | {"_8": INT8_INPUT})

    def store_int8(self, node: Weighted) -> dict[str, object]:
        """Store weights as int8, bias, scales of the weights and of the input."""
        weights: Floats = node.float_weights(
            self.graph.tensors, self.graph.shapes[node.input]
        ).astype(np.float32)
        rows = weights.reshape(len(weights), -1)
        scales = largest(node) / np.abs(rows).max(axis=1)
        content = np.rint(rows * scales[:, None]).astype(np.int8).tobytes()
        self.weights += [INT8_WEIGHTS, content + bytes(-len(content) % 4)]
        stored = self.described(node, weights)
        if isinstance(node, Conv) and node.groups > 1:
            scales = scales.reshape(node.groups, -1)[:, 0]  # ncnn has one for each group
        self.weights += [scales.astype("<f4").tobytes(), self.scales[node.input].tobytes()]
        return stored


def largest(node: Weighted) -> int:
    """The largest magnitude of a layer's weights."""
    if not isinstance(node, Conv) or node.groups > 1:
        return LARGEST
    by_winograd = (node.kernel, node.stride, node.dilation) == ((3, 3), (1, 1), (1, 1))
    return LARGEST_OF_WINOGRAD if by_winograd else LARGEST
