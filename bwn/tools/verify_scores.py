"""The whole network compared with ONNX Runtime: scores and top-1 of every input."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from bwn._types import Floats, Labels
from bwn.ir.tolerance import chain_tolerance
from bwn.ops.sign import Sign
from bwn.predict import SupportsRun, class_scores
from bwn.tools.verify_inputs import Samples

if TYPE_CHECKING:
    from bwn.onnx.session import Session

Flags = npt.NDArray[np.bool_]

TRACED = 4
"""Inputs whose every tensor is held at once."""


class SupportsTrace(SupportsRun, Protocol):
    """What is asked of a model; bwn.model.Model has it."""

    def trace(self, x: Floats) -> dict[str, Floats]:
        """Every activation tensor of x, by name."""


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """Scores and top-1 of all inputs.

    Attributes:
        rounded: Whether activations are quantized to 8 bits, so that scores have no tolerance.
        error: Largest difference of a score in tolerances, sign ties left out.
        difference: The same as a number.
        departing: Inputs whose scores differ by more than the tolerance.
        sign_ties: Inputs that differ only because a number within tolerance of 0 fell on the other
            side of a Sign.
        agreement: Share of inputs with the same top-1, ties left out.
        disagreements: The other inputs.
        ties: Inputs of another top-1 whose two scores are within tolerance, or that are sign ties.
        accuracy: Share of correct top-1 of the model, where labels are known.
        reference_accuracy: The same of the reference.
    """

    rounded: bool
    error: float
    difference: float
    departing: tuple[int, ...]
    sign_ties: tuple[int, ...]
    agreement: float
    disagreements: tuple[int, ...]
    ties: tuple[int, ...]
    accuracy: float | None
    reference_accuracy: float | None

    @property
    def loss(self) -> float | None:
        """Percentage points by which the model's accuracy is below the reference's, if known."""
        if self.accuracy is None or self.reference_accuracy is None:
            return None
        # Rounded, or 3 of 1,000 images would be a bit more than 0.3.
        return round(100 * (self.reference_accuracy - self.accuracy), 9)


class Comparisons(NamedTuple):
    """How inputs compare, an element for each.

    Attributes:
        difference: (N,) largest difference of a score.
        allowed: (N,) its tolerance.
        excused: (N,) whether the input is a sign tie.
        predicted: (N,) top-1 of the model.
        expected: (N,) top-1 of the reference.
        close: (N,) whether the reference's scores of the two are within tolerance.
    """

    difference: Floats
    allowed: Floats
    excused: Flags
    predicted: Labels
    expected: Labels
    close: Flags


def compare_scores(
    model: SupportsTrace,
    session: Session,
    samples: Samples,
    batch_size: int,
    progress: Callable[[str], None],
) -> Scores:
    """Run every input through both networks."""
    rounded = model.spec.graph.is_quantized
    parts: list[Comparisons] = []
    for start in range(0, samples.count, batch_size):
        progress(f"scores: {start:,} of {samples.count:,}")
        x = samples.batch(start, start + batch_size)
        parts.append(compare_batch(model, session, x, rounded))
    progress("")
    whole = Comparisons(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return _summary(whole, samples.labels, rounded)


def compare_batch(model: SupportsTrace, session: Session, x: Floats, rounded: bool) -> Comparisons:
    """Run a batch through both networks.

    Args:
        model: The packed network.
        session: The reference.
        x: (N, *input_shape) float32.
        rounded: Whether activations are quantized, so that sign ties are not looked for.
    """
    graph = model.spec.graph
    ours, theirs = (
        class_scores(_flat(scores)) for scores in (model.run(x), reference_scores(session, x))
    )
    with np.errstate(invalid="ignore", over="ignore"):  # scores that are not finite differ
        difference = np.nan_to_num(np.abs(ours - theirs).max(axis=1), nan=np.inf)
        largest = np.abs(theirs).max(axis=1)
        allowed = chain_tolerance(graph, graph.shapes, departures=session.departures) * largest
        allowed = np.nan_to_num(allowed, nan=0.0, posinf=0.0)
        over = ~(difference <= allowed)
        excused = np.zeros(len(x), bool)
        if over.any() and not rounded:
            excused[over] = sign_ties(model, session, x[over])
        expected, predicted = theirs.argmax(axis=1), ours.argmax(axis=1)
        rows = np.arange(len(x))
        close = excused | (theirs[rows, expected] - theirs[rows, predicted] <= 2 * allowed)
    return Comparisons(difference, allowed, excused, predicted, expected, close)


def _summary(inputs: Comparisons, labels: Labels | None, rounded: bool) -> Scores:
    another = inputs.predicted != inputs.expected
    tied, wrong = another & inputs.close, another & ~inputs.close
    judged = ~inputs.excused
    departing = ~(inputs.difference <= inputs.allowed) & judged
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(inputs.difference == 0, 0.0, inputs.difference / inputs.allowed)
    counted = len(another) - int(tied.sum())
    return Scores(
        rounded=rounded,
        error=float(error[judged].max(initial=0)),
        difference=float(inputs.difference[judged].max(initial=0)),
        departing=() if rounded else _indices(departing),
        sign_ties=_indices(inputs.excused),
        agreement=1 - int(wrong.sum()) / counted if counted else 1.0,
        disagreements=_indices(wrong),
        ties=_indices(tied),
        accuracy=None if labels is None else float((inputs.predicted == labels).mean()),
        reference_accuracy=None if labels is None else float((inputs.expected == labels).mean()),
    )


def reference_scores(session: Session, x: Floats) -> Floats:
    """Scores of ONNX Runtime; a network whose batch size is fixed to 1 gets one input at a time."""
    if one_at_a_time(session):
        return np.concatenate([session.run(x[index : index + 1]) for index in range(len(x))])
    return session.run(x)


def one_at_a_time(session: Session) -> bool:
    """Whether the reference's batch size is fixed to 1."""
    return bool(session.session.get_inputs()[0].shape[:1] == [1])


def sign_ties(model: SupportsTrace, session: Session, x: Floats) -> Flags:
    """Inputs on which the networks first differ at a Sign, and there only on numbers near 0.

    Rounding may put a number within tolerance of 0 on either side, and everything after it differs
    by whole units; neither is wrong.

    Args:
        model: The packed network.
        session: The reference.
        x: (N, *input_shape) float32.

    Returns:
        (N,) bool.
    """
    tensors = {name for node in session.model.graph.node for name in node.output}
    signs = [
        node for node in model.spec.graph.nodes if isinstance(node, Sign) and node.output in tensors
    ]
    if not signs:
        return np.zeros(len(x), bool)
    size = 1 if one_at_a_time(session) else TRACED
    parts = [x[start : start + size] for start in range(0, len(x), size)]
    return np.concatenate([_sign_ties(model, session, signs, part) for part in parts])


def _sign_ties(model: SupportsTrace, session: Session, signs: list[Sign], x: Floats) -> Flags:
    graph = model.spec.graph
    known = graph.shapes
    ours = model.trace(x)
    names = {name for node in signs for name in (node.input, node.output)}
    theirs = {**ours, **session.tensors(x, names)}
    excused, equal_so_far = np.zeros(len(x), bool), np.ones(len(x), bool)
    for node in signs:
        differ = _flat(ours[node.output]) != _flat(theirs[node.output])
        before = [np.abs(_flat(tensors[node.input])) for tensors in (ours, theirs)]
        largest = before[1].max(axis=1, keepdims=True)
        relative = chain_tolerance(graph, known, node.input, session.departures)
        allowed = relative * largest
        near = (before[0] <= allowed) & (before[1] <= allowed)
        first = differ.any(axis=1) & equal_so_far
        excused |= first & ~(differ & ~near).any(axis=1)
        equal_so_far &= ~first
    return excused


def _flat(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.reshape(len(array), -1)


def _indices(flags: Flags) -> tuple[int, ...]:
    return tuple(int(index) for index in np.flatnonzero(flags))
