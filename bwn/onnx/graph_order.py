"""The nodes of an ONNX graph that an output needs, each after those that it reads.

torch writes some nodes before what they read, which ONNX does not allow and is easily mended.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

import onnx

from bwn._text import one_line
from bwn.errors import GraphError
from bwn.onnx.tensors import subgraphs

LISTED = 5
NOT_TEXT = "the name of a tensor is not UTF-8"
"""Protobuf gives such a name as bytes."""


def keep_needed(graph: onnx.GraphProto, output: str) -> None:
    """Keep what one output needs: nodes in order, initializers, and inputs that are not stored.

    Args:
        graph: Changed in place; `output` becomes its only output.
        output: Name of a tensor.

    Raises:
        GraphError: Two tensors have one name, a node reads a tensor that nothing makes, or nodes
            depend on each other in a cycle.
    """
    makers, stored = makers_of(graph)
    known = stored | {value.name for value in graph.input}
    nodes = list(graph.node)
    reads = needed(nodes, makers, output)
    for index in sorted(reads):
        for name in reads[index]:
            if name not in makers and name not in known:
                raise refuse(nodes[index], f"reads '{name}', which nothing in the file makes")
    if output not in makers and output not in known:
        raise GraphError(f"no node makes the output '{output}'")
    order = ordered(nodes, reads, makers)
    if order != list(range(len(nodes))):
        del graph.node[:]
        graph.node.extend(nodes[index] for index in order)
    used = {name for names in reads.values() for name in names} | {output}
    for field in (graph.initializer, graph.sparse_initializer):
        kept = [tensor for tensor in field if name_of(tensor) in used]
        if len(kept) < len(field):
            del field[:]
            field.extend(kept)
    inputs = [value for value in graph.input if value.name not in stored]
    inputs = [value for value in inputs if value.name in used] or inputs
    del graph.input[:]
    graph.input.extend(inputs)
    end = [value for value in graph.output if value.name == output][:1]
    del graph.output[:]
    graph.output.extend(end or [onnx.helper.make_tensor_value_info(output, 1, None)])


def makers_of(graph: onnx.GraphProto) -> tuple[dict[str, int], set[str]]:
    """Which node makes each tensor, and the names of the initializers; no name is there twice."""
    stored: set[str] = set()
    for tensor in (*graph.initializer, *graph.sparse_initializer):
        if name_of(tensor) in stored:
            raise GraphError(f"two stored tensors are named '{name_of(tensor)}'")
        stored.add(name_of(tensor))
    inputs = {value.name for value in graph.input}
    if len(inputs) < len(graph.input):
        raise GraphError("two inputs have the same name")
    if not all(isinstance(name, str) for name in stored | inputs):
        raise GraphError(NOT_TEXT)
    makers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in makers or name in stored or name in inputs:
                raise refuse(node, f"makes '{name}', which is the name of another tensor too")
            if not isinstance(name, str):
                raise refuse(node, NOT_TEXT)
            makers[name] = index
    return makers, stored


def name_of(tensor: onnx.TensorProto | onnx.SparseTensorProto) -> str:
    """Name of a stored tensor."""
    return str(tensor.name if isinstance(tensor, onnx.TensorProto) else tensor.values.name)


def reads_of(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors that a node reads, also those that its subgraphs read from outside."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in subgraphs(attribute):
            own = {name_of(tensor) for tensor in (*graph.initializer, *graph.sparse_initializer)}
            own |= {value.name for value in graph.input}
            own |= {name for inner in graph.node for name in inner.output}
            read = {value.name for value in graph.output}
            read = read.union(*(reads_of(inner) for inner in graph.node))
            yield from filter(None, read - own)


def needed(
    nodes: list[onnx.NodeProto], makers: dict[str, int], output: str
) -> dict[int, list[str]]:
    """Indices of the nodes that an output depends on, with the tensors that each reads."""
    waiting, reads = [output], dict[int, list[str]]()
    while waiting:
        index = makers.get(waiting.pop())
        if index is not None and index not in reads:
            reads[index] = list(reads_of(nodes[index]))
            waiting += reads[index]
    return reads


def ordered(
    nodes: list[onnx.NodeProto], reads: dict[int, list[str]], makers: dict[str, int]
) -> list[int]:
    """Indices of nodes, each after those that it reads, else in the order of the file.

    Args:
        nodes: All nodes.
        reads: Of the nodes to order.
        makers: Which node makes each tensor.

    Raises:
        GraphError: Some depend on each other in a cycle.
    """
    before = {index: {makers[name] for name in reads[index] if name in makers} for index in reads}
    after: dict[int, list[int]] = {}
    for index, earlier in before.items():
        for maker in earlier:
            after.setdefault(maker, []).append(index)
    missing = {index: len(earlier) for index, earlier in before.items()}
    ready = sorted(index for index, count in missing.items() if not count)
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in after.get(index, ()):
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(before):
        raise cycle(nodes, before, set(order))
    return order


def cycle(nodes: list[onnx.NodeProto], before: dict[int, set[int]], done: set[int]) -> GraphError:
    """The refusal of a cycle, which names nodes on it."""
    index = min(before.keys() - done)
    path: dict[int, None] = {}
    while index not in path:
        path[index] = None
        index = min(before[index] - done)
    loop = list(path)[list(path).index(index) :]
    names = listed(label(nodes[position]) for position in loop)
    return GraphError(f"nodes read each other's outputs in a cycle: {names}")


def label(node: onnx.NodeProto) -> str:
    """A node's name; that of its first output where it has none."""
    return str(node.name or (node.output[0] if node.output else ""))


def listed(names: Iterable[str]) -> str:
    """Names in quotes, on one line; the first of many."""
    every = list(names)
    shown = ", ".join(f"'{one_line(name, 60)}'" for name in every[:LISTED])
    return shown + f" and {len(every) - LISTED:,} more" * (len(every) > LISTED)


def refuse(node: onnx.NodeProto, why: str) -> GraphError:
    """An error that names the operation and the node."""
    return GraphError(f"{node.op_type} node '{label(node)}': {why}")
