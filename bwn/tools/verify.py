"""Does a .bwn file compute what the network does that it was packed from?

Layer by layer with the reference interpreter and ONNX Runtime (`verify_layers.py`), and end to end
with the scores of ONNX Runtime (`verify_scores.py`). `bwn/ir/tolerance.py` says what counts as
equal.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bwn._arguments import check_counts, check_range
from bwn._file_types import CHECKPOINT, HEAD, ONNX, SOURCES, looks_like, mismatch
from bwn._files import read_limited
from bwn._text import count_noun, three_digits
from bwn._types import Floats, StrPath
from bwn.data.datasets import no_progress
from bwn.errors import ArgumentError, FileError
from bwn.ir.graph import Graph
from bwn.model import Model, load
from bwn.passes.pack_weights import departures
from bwn.tools.verify_inputs import load_samples, noise
from bwn.tools.verify_layers import LayerCheck, check_layers
from bwn.tools.verify_scores import Scores, SupportsTrace, compare_scores, reference_scores

if TYPE_CHECKING:
    from bwn.onnx.session import Session

LAYER_IMAGES = 4
"""Inputs on which layers are compared one by one; the reference interpreter is slow."""

FLOAT_AGREEMENT = 1.0
ROUNDED_AGREEMENT = 0.99
MAX_LOSS = 0.3
"""Percentage points of accuracy that 8-bit activations may lose."""


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
    skip_bad: bool = False,
    output_name: str | None = None,
    progress: Callable[[str], None] | None = None,
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
        max_loss: Percentage points of accuracy that may be lost on labeled images; None: 0.3 with
            8-bit activations.
        skip_bad: Whether images that cannot be read are left out, with a warning; otherwise they
            are an error that lists them.
        output_name: Which output of an ONNX file the model computes; None: the one that has the
            name of the model's output.
        progress: Called with a line of text at each step, and with "" at the end, if given.

    Returns:
        The report; `agrees` is its result.

    Raises:
        FileError: A file is refused, or the arrays of the two networks have different shapes.
        DataError: Images cannot be read.
        ArgumentError: A number is out of range, or `max_loss` is given and labels are unknown.
        NotPreparedError: `images` is given and the model does not say how images are prepared.

    Example:
        >>> import bwn
        >>> report = bwn.verify("model.bwn", "model.onnx", "mnist-sample", samples=100)
        >>> report.agrees, report.verdict
        (True, 'every layer within tolerance, same top-1 on all 100 inputs')
    """
    check_options(samples, seed, batch_size, min_agreement, max_loss)
    progress = progress or no_progress
    loaded = model if isinstance(model, Model) else load(model, threads)
    end = loaded.spec.graph.topology.output
    session = open_reference(reference, loaded.threads, output_name, end)
    name = "model" if isinstance(model, Model) else os.fspath(model)
    check_fit(loaded, session, noise(loaded.spec, 1, seed).batch(0, 1), os.fspath(reference), name)
    inputs = load_samples(loaded.spec, images, samples, seed, skip_bad=skip_bad, progress=progress)
    if max_loss is not None and inputs.labels is None:
        raise ArgumentError(f"max_loss needs labeled images; {inputs.name} has no labels")
    session.departures = rounded_weights(session, loaded.spec.graph)
    layers = tuple(check_layers(loaded, session, inputs.batch(0, LAYER_IMAGES), progress))
    scores = compare_scores(loaded, session, inputs, batch_size, progress)
    min_agreement, max_loss = limits(scores, min_agreement, max_loss)
    fault = layer_fault(layers, name, os.fspath(reference))
    fault = fault or score_fault(scores, min_agreement, max_loss)
    return VerifyReport(
        model=name,
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


def check_options(
    samples: int | None,
    seed: int,
    batch_size: int,
    min_agreement: float | None,
    max_loss: float | None,
) -> None:
    """Raise ArgumentError where a number is out of range."""
    check_counts(samples=1 if samples is None else samples, batch_size=batch_size)
    check_counts(0, seed=seed)
    check_range(0, 1, min_agreement=0 if min_agreement is None else min_agreement)
    check_range(0, 100, max_loss=0 if max_loss is None else max_loss)


def limits(
    scores: Scores, min_agreement: float | None, max_loss: float | None
) -> tuple[float, float | None]:
    """The two limits, with their defaults in place of None."""
    if min_agreement is None:
        min_agreement = ROUNDED_AGREEMENT if scores.rounded else FLOAT_AGREEMENT
    if max_loss is None and scores.rounded and scores.loss is not None:
        max_loss = MAX_LOSS
    return min_agreement, max_loss


def open_reference(
    path: StrPath, threads: int, output: str | None = None, fallback: str | None = None
) -> Session:
    """ONNX Runtime on an ONNX file, or on the export of a checkpoint.

    Args:
        path: The file.
        threads: Threads inside an operation.
        output: See `bwn.onnx.loading.load`.
        fallback: See there.

    Raises:
        FileError: The file is refused.
        MissingPackageError: ONNX Runtime, or torch for a checkpoint, is not installed.
    """
    from bwn.onnx.loading import MAX_BYTES
    from bwn.onnx.session import Session
    from bwn.tools.pack import exported

    data = read_limited(path, MAX_BYTES, SOURCES)
    name, kind = os.fspath(path), looks_like(data[:HEAD])
    if kind == CHECKPOINT:
        data = exported(name)
    elif kind != ONNX and not name.endswith(".onnx"):
        raise FileError(f"{name}: {mismatch(SOURCES, data[:HEAD])}; name the file that was packed")
    try:
        folder = os.path.dirname(name) or "."
        session = Session(data, threads, folder=folder, output=output, fallback=fallback)
    except FileError as error:
        raise type(error)(f"{name}: {error}") from None
    session.name = name
    return session


def rounded_weights(session: Session, packed: Graph) -> dict[str, float]:
    """How far weights of the reference are from the +-alpha of the packed network, by name."""
    from bwn.onnx.importer import from_bytes

    size = tuple(packed.topology.input_shape[1:]) or None
    try:
        source = from_bytes(session.model.SerializeToString(), size=size).spec.graph
    except FileError:
        return {}  # ONNX Runtime runs it, so that the layers can be compared
    return departures(source, packed)


def check_fit(model: SupportsTrace, session: Session, x: Floats, reference: str, name: str) -> None:
    """Refuse a reference that takes or gives arrays of other shapes than the model.

    Args:
        model: The packed network.
        session: The reference.
        x: One input, (1, *input_shape) float32.
        reference: Path of the reference.
        name: Path of the model.
    """
    axes = session.session.get_inputs()[0].shape
    sizes = [size if isinstance(size, int) else None for size in axes[1:]]
    own = list(session.fed(x).shape[1:])
    if len(sizes) != len(own) or any(
        size not in (None, own_size) for size, own_size in zip(sizes, own, strict=True)
    ):
        theirs = ", ".join("?" if size is None else str(size) for size in sizes)
        ours = ", ".join(map(str, own))
        raise FileError(
            f"{reference} takes inputs of shape ({theirs}) but {name} of shape ({ours}): "
            f"{name} was not packed from it"
        )
    try:
        shape = reference_scores(session, x).shape[1:]
    except Exception as error:  # onnxruntime's errors have no common class
        raise FileError(f"{reference}: does not run on an input of {tuple(own)}: {error}") from None
    expected = model.spec.graph.output_shape
    if session.signals:  # (C, L) and (C, 1, L) are the same
        shape, expected = (tuple(size for size in sizes if size > 1) for sizes in (shape, expected))
    if shape != expected:
        raise FileError(
            f"{reference} gives scores of shape {shape} but {name} gives {expected}: "
            f"{name} was not packed from it"
        )


def layer_fault(layers: tuple[LayerCheck, ...], model: str, reference: str) -> str | None:
    """Which layers differ, as one line, or None.

    Args:
        layers: All layers.
        model: Path of the model.
        reference: Path of the reference.
    """
    wrong = [layer for layer in layers if not layer.agrees]
    if not wrong:
        return None
    first = wrong[0]
    interpreted = first.reference > 1
    error = first.reference if interpreted else first.runtime
    size = ""
    if error is not None and not np.isinf(error):
        size = f" ({three_digits(error)} times the tolerance)"
    where = f"from layer '{first.name}' on" if len(wrong) > 1 else f"in layer '{first.name}'"
    if interpreted:
        return f"differs {where}{size}: kernels and interpreter disagree; please report it"
    return f"differs {where}{size}; was {model} packed from {reference}?"


def score_fault(scores: Scores, min_agreement: float, max_loss: float | None) -> str | None:
    """The first thing that is wrong with the scores, as one line, or None."""
    if scores.departing:
        count, first = len(scores.departing), scores.departing[0]
        return (
            f"scores of {count_noun(count, 'input')} differ (the first is {first}), by up to "
            f"{three_digits(scores.error)} times the tolerance"
        )
    if scores.agreement < min_agreement:
        wrong = count_noun(len(scores.disagreements), "input")
        return (
            f"top-1 differs on {wrong}: {scores.agreement:.2%} agree, "
            f"{min_agreement:.2%} are required"
        )
    if max_loss is not None and scores.loss is not None and scores.loss > max_loss:
        return (
            f"accuracy is {scores.loss:.2f} points below the reference's; "
            f"at most {max_loss:g} are allowed"
        )
    return None


def success(scores: Scores, count: int) -> str:
    """One line that says what is equal."""
    ties = f", {count_noun(len(scores.ties), 'tie')} left out" if scores.ties else ""
    share = f"{scores.agreement:.2%} of " if scores.agreement < 1 else "all " if count > 1 else ""
    return f"every layer within tolerance, same top-1 on {share}{count_noun(count, 'input')}{ties}"
