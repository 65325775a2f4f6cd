"""Give the rounding of 8-bit layers to nodes of its own, as an ONNX file says it.

1. A layer that reads 8-bit integers of a fixed scale reads float32 numbers behind a `Quantize` of
   that scale and range. Layers that read a tensor alike share one.
2. A layer that measures the scale of each image reads float32; no ONNX operation measures so.
3. A layer that reads signs as bits reads float32.
4. Int8 weights become the same numbers in float32.

set_activations chooses 1, 3 and 4 again: it is the inverse.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.node import Node
from bwn.ir.quantization import QUANT_RANGES
from bwn.ops.quantize import Quantize
from bwn.ops.weighted import Weighted


def separate_quantize(graph: Graph) -> Graph:
    """`graph` with every layer reading float32."""
    separate: dict[tuple[str, str, float], str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Weighted):
            if node.is_quantized and node.input_scale is not None:
                key = (node.input, node.activations, node.input_scale)
                if key not in separate:
                    low, high = map(float, QUANT_RANGES[node.activations])
                    output = graph.free_name(f"{node.input}.rounded", separate.values())
                    separate[key] = output
                    nodes.append(
                        Quantize(
                            input=node.input,
                            output=output,
                            scale=node.input_scale,
                            low=low,
                            high=high,
                        )
                    )
                node = replace(node, input=separate[key])
            node = replace(node, activations="float32", input_scale=None)
        nodes.append(node)
    tensors = {
        name: array.astype(np.float32) if array.dtype == np.int8 else array
        for name, array in graph.tensors.items()
    }
    return graph.replace(nodes, tensors)
