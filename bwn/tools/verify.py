"""Does a .bwn file compute what the network does that it was packed from?

Layer by layer: every node gets the model's own tensors, and its output is compared with the
reference interpreter and with ONNX Runtime on the same inputs. So a difference is charged to the
layer where it arises. End to end: the scores of every input are compared with ONNX Runtime on the
whole network. `bwn/ir/tolerance.py` says what counts as equal.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bwn._file_types import HEAD, looks_like
from bwn._files import read_limited
from bwn._types import Floats, StrPath
from bwn.errors import ArgumentError, FileError
from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate_node
from bwn.ir.node import Node
from bwn.ir.tolerance import EPSILON, ROUNDINGS, in_tolerances, tolerance
from bwn.ops import Sign, Weighted
from bwn.tools.verify_inputs import choose
from bwn.tools.verify_scores import (
    Scores,
    SupportsTrace,
    compare_scores,
    one_at_a_time,
    reference_scores,
)

if TYPE_CHECKING:
    from bwn.model import Model
    from bwn.onnx.session import Session

LAYER_IMAGES = 4
"""Inputs on which layers are compared one by one; the reference interpreter is slow."""

FLOAT_AGREEMENT = 1.0
ROUNDED_AGREEMENT = 0.99
MAX_LOSS = 0.3
"""Percentage points of accuracy that 8-bit activations may lose."""


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
        judged: Whether `runtime` counts: not where activations are quantized to 8 bits here only.
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


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a model compares with the network that it was packed from.

    Attributes:
        model: Path of the model.
        reference: Path of the network.
        inputs: What both were run on.
        count: How many inputs.
        layers: The comparison of each layer.
        first_departure: The first layer that differs, or None.
        scores: The comparison of the scores.
        min_agreement: Share of equal top-1 that is required.
        loss: Percentage points of accuracy lost, None where labels are unknown.
        max_loss: How many may be lost, None where that is not checked.
        agrees: Whether all is well.
        verdict: One line that says why, or why not.
    """

    model: str
    reference: str
    inputs: str
    count: int
    layers: tuple[LayerCheck, ...]
    first_departure: str | None
    scores: Scores
    min_agreement: float
    loss: float | None
    max_loss: float | None
    agrees: bool
    verdict: str


def verify(
    model: StrPath | Model,
    reference: StrPath,
    images: StrPath | None = None,
    *,
    samples: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    threads: int | None = None,
    min_agreement: float | None = None,
    max_loss: float | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> VerifyReport:
    """Compare a packed model with the network it was packed from.

    Args:
        model: A .bwn file or a loaded model.
        reference: A checkpoint (.pt) or an ONNX file.
        images: An image, a folder of images, or a data set (its test split); None: seeded noise.
        samples: At most this many inputs; None: all, or 64 of noise.
        seed: Of the noise.
        batch_size: Inputs to run at once.
        threads: Threads for a model that is loaded here; None: every core.
        min_agreement: Share of equal top-1 that is required; None: 1, or 0.99 with 8-bit
            activations.
        max_loss: Percentage points of accuracy that may be lost on labelled images; None: 0.3 with
            8-bit activations.
        progress: Called with a line of text at each step, and with "" at the end.

    Returns:
        The report; `agrees` is its result.

    Raises:
        FileError: A file is refused, or the networks take or give arrays of different shapes.
        ArgumentError: `max_loss` is given and labels are unknown.
        NotPreparedError: `images` is given and the model does not say how images are prepared.

    Example:
        >>> import bwn
        >>> report = bwn.verify("model.bwn", "model.onnx", "mnist-sample", samples=100)
        >>> report.agrees, report.verdict
        (True, 'every layer within tolerance, same top-1 on all 100 inputs')
    """
    from bwn.model import Model, load

    loaded = model if isinstance(model, Model) else load(model, threads)
    session = open_reference(reference, loaded.threads)
    inputs = choose(loaded.spec, images, samples, seed)
    if max_loss is not None and inputs.labels is None:
        raise ArgumentError(
            f"a limit of the loss of accuracy needs labelled images; {inputs.name} has no labels"
        )
    check_fit(loaded, session, inputs.batch(0, 1), os.fspath(reference))
    layers = tuple(check_layers(loaded, session, inputs.batch(0, LAYER_IMAGES), progress))
    scores = compare_scores(loaded, session, inputs, batch_size, progress)
    if min_agreement is None:
        min_agreement = ROUNDED_AGREEMENT if scores.rounded else FLOAT_AGREEMENT
    if max_loss is None and scores.rounded and inputs.labels is not None:
        max_loss = MAX_LOSS
    fault = find_fault(layers, scores, min_agreement, max_loss)
    return VerifyReport(
        model="model" if isinstance(model, Model) else os.fspath(model),
        reference=os.fspath(reference),
        inputs=inputs.name,
        count=inputs.count,
        layers=layers,
        first_departure=next((layer.name for layer in layers if not layer.agrees), None),
        scores=scores,
        min_agreement=min_agreement,
        loss=scores.loss,
        max_loss=max_loss,
        agrees=fault is None,
        verdict=fault or success(scores, inputs.count),
    )


def open_reference(path: StrPath, threads: int) -> Session:
    """ONNX Runtime on an ONNX file, or on the export of a checkpoint.

    Raises:
        FileError: The file is refused.
        MissingPackageError: ONNX Runtime, or torch for a checkpoint, is not installed.
    """
    from bwn.onnx.importer import MAX_BYTES
    from bwn.onnx.session import Session
    from bwn.tools.pack import exported

    name = os.fspath(path)
    data = read_limited(name, MAX_BYTES)
    kind = looks_like(data[:HEAD])
    if "torch" in kind:
        data = exported(name)
    elif "ONNX" not in kind and not name.endswith(".onnx"):
        raise FileError(
            f"{name}: it looks like {kind}; the reference is the .pt checkpoint or the ONNX file "
            "that was packed"
        )
    try:
        session = Session(data, threads)
    except FileError as error:
        raise type(error)(f"{name}: {error}") from None
    session.name = name
    return session


def check_fit(model: SupportsTrace, session: Session, x: Floats, name: str) -> None:
    """Refuse a reference that takes or gives arrays of other shapes than the model.

    Args:
        model: The packed network.
        session: The reference.
        x: One input, (1, *input_shape) float32.
        name: Path of the reference.
    """
    topology = model.spec.graph.topology
    axes = session.session.get_inputs()[0].shape
    sizes = [size if isinstance(size, int) else None for size in axes[1:]]
    own = list(topology.input_shape)
    if len(sizes) != len(own) or any(
        size not in (None, own_size) for size, own_size in zip(sizes, own, strict=True)
    ):
        shown = tuple("?" if size is None else size for size in sizes)
        raise FileError(
            f"{name}: takes inputs of shape {shown}, the model {tuple(own)}: not the same network"
        )
    try:
        shape = reference_scores(session, x).shape[1:]
    except Exception as error:  # onnxruntime's errors have no common class
        raise FileError(f"{name}: does not run on an input of {tuple(own)}: {error}") from None
    expected = model.spec.graph.output_shape
    if shape != expected:
        raise FileError(
            f"{name}: gives scores of shape {shape}, the model {expected}: not the same network"
        )


def check_layers(
    model: SupportsTrace, session: Session, x: Floats, progress: Callable[[str], None]
) -> Iterator[LayerCheck]:
    """Compare every node with the reference and ONNX Runtime, all on the model's own tensors."""
    graph = model.spec.graph
    if one_at_a_time(session):
        x = x[:1]
    tensors = model.trace(x)
    for number, node in enumerate(graph.nodes, 1):
        progress(f"layer {number} of {len(graph.nodes)}: {node.output}")
        inputs = [tensors[name] for name in node.inputs]
        output, expected = tensors[node.output], evaluate_node(graph, node, inputs)
        reference = in_tolerances(output, expected, tolerance(graph, node, inputs))
        runtime = compare_runtime(session, graph, node, inputs, output)
        quantized_here = node.is_quantized and not session.quantizes(node.inputs, node.output)
        yield LayerCheck(
            name=node.output,
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
    """
    if not any(node.output in other.output for other in session.model.graph.node):
        return None
    try:
        theirs = session.layer(dict(zip(node.inputs, inputs, strict=True)), node.output)
    except FileError:
        return None  # it also depends on tensors that the passes have folded away
    except Exception:  # onnxruntime's errors have no common class: shapes do not fit this layer
        return np.inf
    if isinstance(node, Sign) and theirs.shape == output.shape:
        size = np.abs(inputs[0])
        theirs = np.where(size <= EPSILON * ROUNDINGS * size.max(initial=0), output, theirs)
    return in_tolerances(output, theirs, tolerance(graph, node, inputs, floats=True))


def kind_of(graph: Graph, node: Node) -> str:
    """How a weighted node reads weights and activations; empty for other nodes."""
    if not isinstance(node, Weighted):
        return ""
    return f"{'1 bit' if node.is_packed(graph.tensors) else 'float32'} x {node.activations}"


def find_fault(
    layers: tuple[LayerCheck, ...], scores: Scores, min_agreement: float, max_loss: float | None
) -> str | None:
    """The first thing that is wrong, as one line, or None."""
    for layer in layers:
        if layer.reference > 1:
            return f"layer '{layer.name}' {differs(layer.reference)} from the reference"
        if not layer.agrees:
            return f"layer '{layer.name}' {differs(layer.runtime or np.inf)} from ONNX Runtime"
    if scores.departing:
        count, first = len(scores.departing), scores.departing[0]
        return (
            f"scores of {count} inputs differ (first: {first}), by up to {scores.error:.3g} times "
            "the tolerance"
        )
    if scores.agreement < min_agreement:
        wrong = len(scores.disagreements)
        return (
            f"top-1 differs on {wrong} inputs: agreement {scores.agreement:.2%}, "
            f"required {min_agreement:.2%}"
        )
    if max_loss is not None and scores.loss is not None and scores.loss > max_loss:
        return (
            f"accuracy is {scores.loss:.2f} points below the reference's; "
            f"at most {max_loss:g} are allowed"
        )
    return None


def differs(error: float) -> str:
    """An error in tolerances, in words."""
    return f"differs by {error:.3g} times the tolerance" if np.isfinite(error) else "differs"


def success(scores: Scores, count: int) -> str:
    """One line that says what is equal."""
    ties = f", {len(scores.ties)} ties left out" if scores.ties else ""
    share = "all" if scores.agreement == 1 else f"{scores.agreement:.2%} of"
    return f"every layer within tolerance, same top-1 on {share} {count} inputs{ties}"
