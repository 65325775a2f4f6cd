"""Does a .bwn file compute what the network did that it was packed from?

Layer by layer: every node is fed the model's own tensors, and its output compared with the plain reference and with
ONNX Runtime fed the same. So a departure is charged to the layer where it arises. End to end: the scores of every
input against ONNX Runtime on the whole network. What counts as equal is said in `tolerance.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bwn._file_types import HEAD, looks_like, read_limited
from bwn.errors import DataError, FileError
from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate_node
from bwn.ir.node import Node
from bwn.ir.tolerance import EPSILON, ROUNDINGS, in_tolerances, tolerance
from bwn.ops import Sign, Weighted
from bwn.tools.verify_inputs import choose
from bwn.tools.verify_scores import (
    Floats,
    Scores,
    Traces,
    compare_scores,
    one_at_a_time,
    reference_scores,
)

if TYPE_CHECKING:
    from bwn.model import Model
    from bwn.onnx.session import Session

Say = Callable[[str], None]

LAYER_IMAGES = 4
"""Inputs on which layers are compared one by one; the plain reference is slow."""

FLOAT_AGREEMENT = 1.0
ROUNDED_AGREEMENT = 0.99
MAX_LOSS = 0.3
"""Points of accuracy that 8-bit activations may lose."""


class LayerCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One layer beside the plain reference and ONNX Runtime.

    kind: how it reads weights and activations. depth: products that each output sums (K). reference, runtime: largest
    error in tolerances, infinite where it must be exact and is not; runtime is None where ONNX Runtime has no such
    tensor. judged: whether ONNX Runtime is held against it (not where activations are rounded to 8 bits).
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
    """What `verify` found.

    first_departure: the first layer that departs. loss: points of accuracy lost, None where labels are unknown.
    max_loss: how many may be, None where that is not judged. verdict: one line.
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
    model: str | os.PathLike[str] | Model,
    reference: str | os.PathLike[str],
    images: str | Path | None = None,
    *,
    samples: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    threads: int | None = None,
    min_agreement: float | None = None,
    max_loss: float | None = None,
    progress: Say = lambda text: None,
) -> VerifyReport:
    """Compare a packed model with the network it was packed from.

    reference: a checkpoint (.pt) or an ONNX file. images, samples, seed: see `bwn.tools.verify_inputs.choose`.
    min_agreement: share of equal top-1 answers that is asked for; None: 1, or 0.99 with 8-bit activations.
    max_loss: points of accuracy that may be lost on labelled images; None: 0.3 with 8-bit activations.
    Raises FileError where a file is refused, or the two networks take or give arrays of different shapes; DataError
    where `max_loss` is given and labels are unknown.
    """
    from bwn.model import Model, load

    loaded = model if isinstance(model, Model) else load(os.fspath(model), threads)
    session = open_reference(reference, loaded.threads)
    inputs = choose(loaded.spec, images, samples, seed)
    if max_loss is not None and inputs.labels is None:
        raise DataError(
            f"the loss of accuracy cannot be told: the right classes of {inputs.name} are not known"
        )
    check_fit(loaded, session, inputs.batch(0, 1), os.fspath(reference))
    layers = tuple(check_layers(loaded, session, inputs.batch(0, LAYER_IMAGES), progress))
    scores = compare_scores(loaded, session, inputs, batch_size, progress)
    wanted = min_agreement
    if wanted is None:
        wanted = ROUNDED_AGREEMENT if scores.rounded else FLOAT_AGREEMENT
    limit = (
        MAX_LOSS if max_loss is None and scores.rounded and inputs.labels is not None else max_loss
    )
    fault = find_fault(layers, scores, wanted, limit)
    return VerifyReport(
        model="model" if isinstance(model, Model) else os.fspath(model),
        reference=os.fspath(reference),
        inputs=inputs.name,
        count=inputs.count,
        layers=layers,
        first_departure=next((layer.name for layer in layers if not layer.agrees), None),
        scores=scores,
        min_agreement=wanted,
        loss=scores.loss,
        max_loss=limit,
        agrees=fault is None,
        verdict=fault or success(scores, inputs.count),
    )


def open_reference(path: str | os.PathLike[str], threads: int) -> Session:
    """ONNX Runtime on an ONNX file, or on the export of a checkpoint. Raises FileError, MissingPackageError."""
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
            f"{name}: {kind}; the reference is the .pt checkpoint or the ONNX file that was packed"
        )
    try:
        session = Session(data, threads)
    except FileError as error:
        raise type(error)(f"{name}: {error}") from None
    session.name = name
    return session


def check_fit(model: Traces, session: Session, x: Floats, name: str) -> None:
    """Refuse a reference that takes or gives arrays of other shapes than the model. x: one input."""
    topology = model.spec.graph.topology
    takes = session.session.get_inputs()[0].shape
    sizes = [size if isinstance(size, int) else None for size in takes[1:]]
    ours = list(topology.input_shape)
    if len(sizes) != len(ours) or any(
        size not in (None, own) for size, own in zip(sizes, ours, strict=True)
    ):
        shown = tuple("?" if size is None else size for size in sizes)
        raise FileError(
            f"{name}: takes inputs of shape {shown}, the model {tuple(ours)}: not the same network"
        )
    try:
        made = reference_scores(session, x).shape[1:]
    except Exception as error:  # onnxruntime's errors have no common class
        raise FileError(f"{name}: does not run on an input of {tuple(ours)}: {error}") from None
    expected = model.spec.graph.output_shape
    if made != expected:
        raise FileError(
            f"{name}: gives scores of shape {made}, the model {expected}: not the same network"
        )


def check_layers(model: Traces, session: Session, x: Floats, progress: Say) -> Iterator[LayerCheck]:
    """Every node beside the plain reference and ONNX Runtime, each fed the model's own tensors of x."""
    graph = model.spec.graph
    if one_at_a_time(session):
        x = x[:1]
    made = model.trace(x)
    for number, node in enumerate(graph.nodes, 1):
        progress(f"layer {number} of {len(graph.nodes)}: {node.output}")
        inputs = [made[name] for name in node.inputs]
        found, truth = made[node.output], evaluate_node(graph, node, inputs)
        reference = in_tolerances(found, truth, tolerance(graph, node, inputs))
        runtime = compare_runtime(session, graph, node, inputs, found)
        rounds = node.is_quantized and not session.rounds(node.inputs, node.output)
        yield LayerCheck(
            name=node.output,
            op=node.op,
            kind=kind_of(graph, node),
            depth=node.float_terms(inputs[0].shape[1:], floats=True) or 0,
            reference=reference,
            runtime=runtime,
            judged=not rounds,
            agrees=reference <= 1 and (runtime is None or rounds or runtime <= 1),
        )
    progress("")


def compare_runtime(
    session: Session, graph: Graph, node: Node, inputs: list[Floats], found: Floats
) -> float | None:
    """Largest error of `found` in tolerances against ONNX Runtime on the same inputs; None if it cannot say.

    Signs of numbers within tolerance of 0 are ties: ONNX Runtime may not compute that very number there.
    """
    if not any(node.output in one.output for one in session.model.graph.node):
        return None
    try:
        theirs = session.layer(dict(zip(node.inputs, inputs, strict=True)), node.output)
    except FileError:
        return None  # it also depends on tensors that the passes have folded away
    except (
        Exception
    ):  # onnxruntime's errors have no common class: shapes do not fit this layer of the reference
        return np.inf
    if isinstance(node, Sign) and theirs.shape == found.shape:
        size = np.abs(inputs[0])
        theirs = np.where(size <= EPSILON * ROUNDINGS * size.max(initial=0), found, theirs)
    return in_tolerances(found, theirs, tolerance(graph, node, inputs, floats=True))


def kind_of(graph: Graph, node: Node) -> str:
    """How a product reads weights and activations; empty for the other nodes."""
    if not isinstance(node, Weighted):
        return ""
    return f"{'1 bit' if node.is_packed(graph.tensors) else 'float32'} x {node.activations}"


def find_fault(
    layers: tuple[LayerCheck, ...], scores: Scores, min_agreement: float, max_loss: float | None
) -> str | None:
    """The first thing that is wrong, as one line, or None."""
    for layer in layers:
        if layer.reference > 1:
            return f"layer '{layer.name}' departs from the plain reference by {layer.reference:.3g} tolerances"
        if not layer.agrees:
            return (
                f"layer '{layer.name}' departs from ONNX Runtime by {layer.runtime:.3g} tolerances"
            )
    if scores.departing:
        count, first = len(scores.departing), scores.departing[0]
        return f"scores of {count} inputs (first: {first}) depart by up to {scores.error:.3g} tolerances"
    if scores.agreement < min_agreement:
        wrong = len(scores.disagreements)
        hint = (
            " (8-bit activations round: --min-agreement says what is enough)"
            if scores.rounded
            else ""
        )
        return f"top-1 differs on {wrong} inputs: agreement {scores.agreement:.2%}, wanted {min_agreement:.2%}{hint}"
    if max_loss is not None and scores.loss is not None and scores.loss > max_loss:
        return f"accuracy is {scores.loss:.2f} points below the reference's, at most {max_loss:g} are allowed (--max-loss)"
    return None


def success(scores: Scores, count: int) -> str:
    """One line that says what was found equal."""
    aside = f", {len(scores.ties)} ties aside" if scores.ties else ""
    if scores.agreement == 1:
        return f"every layer within tolerance, same top-1 on all {count} inputs{aside}"
    return f"every layer within tolerance, same top-1 on {scores.agreement:.2%} of {count} inputs{aside}"
