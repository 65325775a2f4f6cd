"""The whole network beside ONNX Runtime: scores and top-1 of every input."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from bwn.ir.model_spec import ModelSpec
from bwn.ir.tolerance import chain_tolerance
from bwn.ops import Sign
from bwn.tools.verify_inputs import Samples

if TYPE_CHECKING:
    from bwn.onnx.session import Session

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

TRACED = 4
"""Inputs whose every tensor is held at once."""


class Traces(Protocol):
    """What is asked of a model: bwn.model.Model is one."""

    @property
    def spec(self) -> ModelSpec:
        """The graph and its class names."""

    def run(self, x: Any) -> Floats:
        """Scores (N, classes) of x: (N, *input_shape)."""

    def trace(self, x: Any) -> dict[str, Floats]:
        """Every activation tensor of x, by name."""


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """Scores and answers of all inputs.

    rounded: activations are rounded to 8 bits somewhere, so the scores are not held to the tolerance.
    error: largest difference of a score in tolerances, sign ties aside. difference: the same as a number.
    departing: inputs whose scores lie further apart than the tolerance.
    sign_ties: inputs that differ only since a number within tolerance of 0 fell on the other side of a Sign.
    agreement: share of inputs with the same top-1, ties aside. disagreements: the others.
    ties: inputs of another top-1 whose two scores lie within tolerance, or that are sign ties.
    accuracy, reference_accuracy: shares of right answers, where the right ones are known.
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
        """Points (hundredths) of accuracy that the model has less than the reference; None where labels are unknown."""
        if self.accuracy is None or self.reference_accuracy is None:
            return None
        return round(
            100 * (self.reference_accuracy - self.accuracy), 9
        )  # 3 of 1,000 images are 0.3, not a bit more


def compare_scores(
    model: Traces,
    session: Session,
    samples: Samples,
    batch_size: int,
    progress: Callable[[str], None],
) -> Scores:
    """Run every input through both networks."""
    graph = model.spec.graph
    chain = chain_tolerance(graph, graph.shapes)
    rounded = graph.is_quantized
    columns: list[tuple[npt.NDArray[Any], ...]] = []
    for start in range(0, samples.count, batch_size):
        progress(f"scores: {start} of {samples.count}")
        x = samples.batch(start, start + batch_size)
        ours, theirs = _flat(model.run(x)), _flat(reference_scores(session, x))
        with np.errstate(invalid="ignore", over="ignore"):  # scores that are not finite depart
            apart = np.nan_to_num(np.abs(ours - theirs).max(axis=1), nan=np.inf)
            allowed = np.nan_to_num(chain * np.abs(theirs).max(axis=1), nan=0.0, posinf=0.0)
            over = ~(apart <= allowed)
            excused = np.zeros(len(x), bool)
            if over.any() and not rounded:
                excused[over] = sign_ties(model, session, x[over])
            best, other = theirs.argmax(axis=1), ours.argmax(axis=1)
            rows = np.arange(len(x))
            close = excused | (theirs[rows, best] - theirs[rows, other] <= 2 * allowed)
        columns.append((apart, allowed, over & ~excused, excused, best, other, close))
    progress("")
    return _summary(
        samples, rounded, [np.concatenate(column) for column in zip(*columns, strict=True)]
    )


def _summary(samples: Samples, rounded: bool, columns: list[npt.NDArray[Any]]) -> Scores:
    apart, allowed, departing, excused, best, other, close = columns
    tied, wrong = (best != other) & close, (best != other) & ~close
    judged = ~excused
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(apart == 0, 0.0, apart / allowed)
    counted = len(best) - int(tied.sum())
    right = samples.labels
    return Scores(
        rounded=rounded,
        error=float(error[judged].max(initial=0)),
        difference=float(apart[judged].max(initial=0)),
        departing=() if rounded else _numbers(departing),
        sign_ties=_numbers(excused),
        agreement=1 - int(wrong.sum()) / counted if counted else 1.0,
        disagreements=_numbers(wrong),
        ties=_numbers(tied),
        accuracy=None if right is None else float((other == right).mean()),
        reference_accuracy=None if right is None else float((best == right).mean()),
    )


def reference_scores(session: Session, x: Floats) -> Floats:
    """Scores of ONNX Runtime; a network whose batch size is fixed to 1 gets one input at a time."""
    if one_at_a_time(session):
        return np.concatenate([session.run(x[index : index + 1]) for index in range(len(x))])
    return session.run(x)


def one_at_a_time(session: Session) -> bool:
    """Whether the reference's batch size is fixed to 1."""
    return bool(session.session.get_inputs()[0].shape[:1] == [1])


def sign_ties(model: Traces, session: Session, x: Floats) -> Flags:
    """Inputs whose networks first part at a Sign, and there only on numbers within tolerance of 0.

    Rounding may put such a number on either side, and everything after it differs by whole units; neither is wrong.
    x: (N, *input_shape). Returns (N,) bool.
    """
    made = {name for node in session.model.graph.node for name in node.output}
    signs = [
        node for node in model.spec.graph.nodes if isinstance(node, Sign) and node.output in made
    ]
    if not signs:
        return np.zeros(len(x), bool)
    size = 1 if one_at_a_time(session) else TRACED
    parts = [x[start : start + size] for start in range(0, len(x), size)]
    return np.concatenate([_sign_ties(model, session, signs, part) for part in parts])


def _sign_ties(model: Traces, session: Session, signs: list[Sign], x: Floats) -> Flags:
    graph = model.spec.graph
    known = graph.shapes
    ours = model.trace(x)
    theirs = {
        **ours,
        **session.tensors(x, {name for node in signs for name in (node.input, node.output)}),
    }
    excused, open_ = np.zeros(len(x), bool), np.ones(len(x), bool)
    for node in signs:
        differ = _flat(ours[node.output]) != _flat(theirs[node.output])
        before = [np.abs(_flat(tensors[node.input])) for tensors in (ours, theirs)]
        allowed = chain_tolerance(graph, known, until=node.input) * before[1].max(
            axis=1, keepdims=True
        )
        near = (before[0] <= allowed) & (before[1] <= allowed)
        parted = differ.any(axis=1) & open_
        excused |= parted & ~(differ & ~near).any(axis=1)
        open_ &= ~parted
    return excused


def _flat(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.reshape(len(array), -1)


def _numbers(flags: Flags) -> tuple[int, ...]:
    return tuple(int(index) for index in np.flatnonzero(flags))
