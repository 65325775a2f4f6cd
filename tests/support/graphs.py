"""Small graphs and the tensors in them, for any test that needs one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from bwn.ir.checker import check
from bwn.ir.graph import Graph, Topology
from bwn.ir.model_spec import ModelSpec
from bwn.ir.node import Array, Node, Shape
from bwn.kernels import bits
from bwn.ops.conv import Conv


def make_graph(*nodes: Node, shape: Shape, output: str | None = None, **tensors: Array) -> Graph:
    """A graph, legal or not.

    Args:
        nodes: Its nodes; the input is named `x`.
        shape: Shape of one example of the input.
        output: Name of its output; default that of the last node.
        tensors: Its stored tensors.
    """
    topology = Topology(
        input="x", input_shape=shape, output=output or nodes[-1].output, nodes=nodes
    )
    return Graph(topology=topology, tensors=tensors)


def legal_graph(*nodes: Node, shape: Shape, **tensors: Array) -> Graph:
    """As `make_graph`; raises GraphError where the graph is illegal."""
    graph = make_graph(*nodes, shape=shape, **tensors)
    check(graph)
    return graph


def conv3x3(source: str, output: str, weight: str | None = None, **fields: object) -> Conv:
    """A 3 x 3 convolution that keeps the size; its weights are named `<output>.w` by default."""
    defaults = {"weight": weight or f"{output}.w", "kernel": (3, 3), "pads": (1, 1, 1, 1)}
    return Conv(input=source, output=output, **(defaults | fields))


def floats(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Normally distributed numbers, other ones for each shape and seed."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def signs(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Random numbers +1 and -1."""
    return np.where(floats(*shape, seed=seed) < 0, -1, 1).astype(np.float32)


def words(outputs: int, depth: int, seed: int = 0) -> npt.NDArray[np.uint64]:
    """Packed one-bit weights, (outputs, ceil(depth / 64)); unpacked they equal `signs`."""
    return bits.pack(signs(outputs, depth, seed=seed))


def save_onnx(spec: ModelSpec, path: str | Path) -> None:
    """Write the ONNX export of a model."""
    from bwn.onnx.exporter import to_onnx_bytes  # not at import: boards have no onnx

    Path(path).write_bytes(to_onnx_bytes(spec))
