"""Functions of an ONNX file, put in place of the nodes that call them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import onnx
import onnx.inliner

from bwn._text import brief
from bwn.errors import GraphError
from bwn.onnx.onnx_node import STANDARD
from bwn.onnx.tensors import subgraphs

DEEPEST = 64
"""Functions that call one another; the inliner is recursive."""
EXPANDED = frozenset([
    "Attention", "CastLike", "MeanVarianceNormalization", "RMSNormalization", "ReduceLogSum",
    "RotaryEmbedding", "Shrink", "SwiGLU",
])  # fmt: skip
"""ONNX's own operations that are read as the functions of other operations that define them."""
MOST_CALLS = 1000
"""Of these; one becomes up to a hundred nodes."""
Key = tuple[str, str, str]


class Cost(NamedTuple):
    """What a call becomes.

    Attributes:
        nodes: How many nodes, also those in subgraphs.
        size: Their bytes.
        depth: How deep functions call one another.
    """

    nodes: int
    size: int
    depth: int


def inline_functions(model: onnx.ModelProto, most_nodes: int, most_bytes: int) -> onnx.ModelProto:
    """The model with functions inlined.

    Args:
        model: Not changed.
        most_nodes: How many nodes the result may have.
        most_bytes: How many bytes they may take.

    Raises:
        GraphError: They call themselves, become too large, or are illegal.
    """
    if not model.functions:
        return model
    check_calls(model, most_nodes, most_bytes)
    try:
        return onnx.inliner.inline_local_functions(model, convert_version=True)
    except Exception as error:  # the inliner's errors have no common class
        raise GraphError(f"its functions cannot be inlined: {brief(error, 200)}") from None


def check_calls(model: onnx.ModelProto, most_nodes: int, most_bytes: int) -> None:
    """Raise GraphError where inlining would not end, or take too much memory."""
    bodies: dict[Key, onnx.FunctionProto] = {}
    for function in model.functions:
        key = function.domain, function.name, function.overload
        if key in bodies:
            raise GraphError(f"two functions are named '{function.name}'")
        bodies[key] = function
    costs: dict[Key, Cost] = {}

    def cost(nodes: Iterable[onnx.NodeProto], callers: tuple[Key, ...]) -> Cost:
        count, size, depth = 0, 0, 0
        for node in every_node(nodes):
            key = node.domain, node.op_type, node.overload
            if key not in bodies:
                count, size = count + 1, size + node.ByteSize()
                continue
            if key in callers:
                raise GraphError(f"function '{node.op_type}' calls itself")
            if key not in costs and len(callers) < DEEPEST:
                costs[key] = cost(bodies[key].node, (*callers, key))
            called = costs.get(key, Cost(0, 0, DEEPEST))
            count, size = count + called.nodes, size + called.size
            depth = max(depth, called.depth + 1)
            if depth > DEEPEST:
                raise GraphError(f"functions call one another more than {DEEPEST} deep")
        if count > most_nodes or size > most_bytes:
            raise GraphError(
                f"its functions become more than {most_nodes:,} nodes or {most_bytes:,} bytes"
            )
        return Cost(count, size, depth)

    cost(model.graph.node, ())


def every_node(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes, and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in subgraphs(attribute):
                yield from every_node(graph.node)


def expand_operations(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the operations of `EXPANDED` as their functions; itself where it has none.

    Raises:
        GraphError: They cannot be expanded.
    """
    before = None
    while model.graph.node != before:  # those of an old opset may have no function
        before = list(model.graph.node)
        calls = [
            node.op_type for node in before if node.op_type in EXPANDED and node.domain in STANDARD
        ]
        if not calls:
            break
        if len(calls) > MOST_CALLS:
            raise GraphError(
                f"{len(calls):,} operations are functions, at most {MOST_CALLS:,} are read"
            )
        model = expand_once(model, sorted(set(calls)))
    return model


def expand_once(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The model with operations of these names as their functions. Raises GraphError."""
    try:
        typed = onnx.shape_inference.infer_shapes(model)
        for tensor in typed.graph.initializer:  # the inliner wants their types, too
            typed.graph.value_info.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
        result = onnx.inliner.inline_selected_functions(
            typed, [("", name) for name in names], inline_schema_functions=True
        )
    except Exception as error:  # neither's errors have a common class
        raise GraphError(f"{names} cannot be expanded: {brief(error, 200)}") from None
    del result.graph.value_info[:]
    return result
