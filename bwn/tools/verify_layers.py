"""Each layer compared with the reference interpreter and with ONNX Runtime.

Every node gets the model's own tensors, so a difference is charged to the layer where it arises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bwn._types import Floats
from bwn.errors import FileError
from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate_node
from bwn.ir.node import Node
from bwn.ir.tolerance import EPSILON, ROUNDINGS, in_tolerances, tolerance
from bwn.ops.sign import Sign
from bwn.ops.weighted import Weighted, layer_names
from bwn.tools.verify_scores import SupportsTrace, one_at_a_time

if TYPE_CHECKING:
    from bwn.onnx.session import Session


class LayerCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One layer compared with the reference interpreter and ONNX Runtime.

    Attributes:
        name: Name of the layer.
        op: Its operation.
        kind: How it reads weights and activations.
        depth: Products that each output sums (K).
        reference: Largest difference from the reference in tolerances; infinite where it must be
            exact and is not.
        runtime: The same from ONNX Runtime; None where that has no such tensor.
        judged: Whether `runtime` counts: not where activations or weights are quantized to 8 bits
            here only.
        agrees: Whether all that counts is within tolerance.
    """

    name: str
    op: str
    kind: str
    depth: int
    reference: float
    runtime: float | None
    judged: bool
    agrees: bool


def check_layers(
    model: SupportsTrace, session: Session, x: Floats, progress: Callable[[str], None]
) -> Iterator[LayerCheck]:
    """Compare every node with the reference and ONNX Runtime, all on the model's own tensors."""
    graph = model.spec.graph
    if one_at_a_time(session):
        x = x[:1]
    tensors, names = model.trace(x), layer_names(graph)
    for number, node in enumerate(graph.nodes, 1):
        name = names[node.output]
        progress(f"layer {number:,} of {len(graph.nodes):,}: {name}")
        inputs = [tensors[name] for name in node.inputs]
        output, expected = tensors[node.output], evaluate_node(graph, node, inputs)
        reference = in_tolerances(output, expected, tolerance(graph, node, inputs))
        runtime = compare_runtime(session, graph, node, inputs, output)
        rounded = isinstance(node, Weighted) and node.weight_type(graph.tensors) == "int8"
        quantized_here = rounded or (
            node.is_quantized and not session.quantizes(node.inputs, node.output)
        )
        yield LayerCheck(
            name=name,
            op=node.op,
            kind=kind_of(graph, node),
            depth=node.float_terms(inputs[0].shape[1:], floats=True) or 0,
            reference=reference,
            runtime=runtime,
            judged=not quantized_here,
            agrees=reference <= 1 and (runtime is None or quantized_here or runtime <= 1),
        )
    progress("")


def compare_runtime(
    session: Session, graph: Graph, node: Node, inputs: list[Floats], output: Floats
) -> float | None:
    """Largest difference of `output` from ONNX Runtime, in tolerances; None without such a tensor.

    Signs of numbers within tolerance of 0 are ties: ONNX Runtime need not compute that very number.

    Raises:
        FileError: The model's tensors do not fit the layer of ONNX Runtime.
    """
    if not any(node.output in other.output for other in session.model.graph.node):
        return None
    try:
        theirs = run_layer(session, node, inputs)
    except FileError:
        return None  # it also depends on tensors that the passes have folded away
    except Exception:  # onnxruntime's errors have no common class
        if session.signals:
            return None  # the model has that tensor with other axes
        shapes = " and ".join(str(array.shape[1:]) for array in inputs)
        raise FileError(
            f"{session.name}: tensor '{node.output}' does not fit {shapes}: not the same network"
        ) from None
    same_but_for_ones = np.squeeze(theirs).shape == np.squeeze(output).shape
    if same_but_for_ones or (session.signals and theirs.size == output.size):
        theirs = theirs.reshape(output.shape)
    if theirs.shape != output.shape:
        raise FileError(
            f"{session.name}: tensor '{node.output}' has shape {theirs.shape[1:]}, in the model "
            f"{output.shape[1:]}: not the same network"
        )
    if isinstance(node, Sign):
        size = np.abs(inputs[0])
        theirs = np.where(size <= EPSILON * ROUNDINGS * size.max(initial=0), output, theirs)
    allowed = tolerance(graph, node, inputs, floats=True)
    if isinstance(node, Weighted) and node.weight in session.departures:
        allowed += session.departures[node.weight] * node.absolute_sum(inputs[0], graph.tensors)
    return in_tolerances(output, theirs, allowed)


def run_layer(session: Session, node: Node, inputs: list[Floats]) -> Floats:
    """A layer's output by ONNX Runtime; its signals (N, C, 1, L) may be (N, C, L) there."""
    try:
        return session.layer(dict(zip(node.inputs, inputs, strict=True)), node.output)
    except FileError:
        raise
    except Exception:  # onnxruntime's errors have no common class
        signals = [x[:, :, 0] if x.ndim == 4 and x.shape[2] == 1 else x for x in inputs]
        return session.layer(dict(zip(node.inputs, signals, strict=True)), node.output)


def kind_of(graph: Graph, node: Node) -> str:
    """How a weighted node reads weights and activations; empty for other nodes."""
    if not isinstance(node, Weighted):
        return ""
    return f"{node.weight_type(graph.tensors)} x {node.activations}"
