"""The graph: what a network computes, as frozen values.

It knows nothing of ONNX, files or kernels. `Topology` is also the schema of the graph in a .bwn
file (bwn/format/SPEC.md), where `bwn.ops.NODES` lists what a node may be.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

import msgspec

from bwn.ir.node import Array, Node, Shape
from bwn.kernels.lazy import lazy


class Topology(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a graph that is not tensors.

    Attributes:
        input: Name of the input tensor.
        input_shape: Shape of one example, (C, H, W) or (K,).
        output: Name of the output tensor.
        nodes: The nodes, in an order in which they can run.
    """

    input: str
    input_shape: tuple[int, ...]
    output: str
    nodes: tuple[Node, ...]


class Graph(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A topology and its stored tensors (weights, scales, biases) by name."""

    topology: Topology
    tensors: Mapping[str, Array]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, in an order in which they can run."""
        return self.topology.nodes

    @lazy
    def producers(self) -> Mapping[str, Node]:
        """The node that makes each activation tensor."""
        return {node.output: node for node in self.nodes}

    @lazy
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each activation tensor, once for each time that they read it."""
        lists: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                lists.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in lists.items()}

    def sole_consumer(self, name: str) -> Node | None:
        """The node that alone reads tensor `name`, once; None also where it is the output."""
        readers = self.consumers.get(name, ())
        return readers[0] if len(readers) == 1 and name != self.topology.output else None

    @lazy
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of every activation tensor, by name.

        Raises:
            GraphError: A node cannot run on what it is given.
        """
        known: dict[str, Shape] = {self.topology.input: tuple(self.topology.input_shape)}
        for node in self.nodes:
            known[node.output] = node.output_shape(input_shapes(node, known), self.tensors)
        return known

    @property
    def is_quantized(self) -> bool:
        """Whether some node rounds activations, so that scores have no tolerance."""
        return any(node.rounds for node in self.nodes)

    @property
    def output_shape(self) -> Shape:
        """Shape of the output of one example."""
        return self.shapes[self.topology.output]

    def free_name(self, name: str, *more: Container[str]) -> str:
        """`name`, or `name` with marks added where a tensor of the graph or of `more` has it."""
        taken = ((self.topology.input,), self.producers, self.tensors, *more)
        while any(name in names for names in taken):
            name += "'"
        return name

    def replace(self, nodes: Iterable[Node], tensors: Mapping[str, Array] | None = None) -> Graph:
        """The same input and output with other nodes, without stored tensors that none reads.

        Args:
            nodes: The new nodes.
            tensors: Stored tensors to choose from; default those of this graph.
        """
        topology = msgspec.structs.replace(self.topology, nodes=tuple(nodes))
        read = {name for node in topology.nodes for name in node.constants}
        kept = self.tensors if tensors is None else tensors
        return Graph(
            topology=topology,
            tensors={name: array for name, array in kept.items() if name in read},
        )


def input_shapes(node: Node, known: Mapping[str, Shape]) -> tuple[Shape, ...]:
    """Shapes of what a node reads. Raises GraphError where nothing before it makes one of them."""
    for name in node.inputs:
        if name not in known:
            raise node.refuse(f"reads '{name}', which nothing before it makes")
    return tuple(known[name] for name in node.inputs)
