"""Does a network that is about to be written compute what ONNX Runtime computes from its source?

What can be wrong is how the source was read and rewritten. So the reference interpreter runs a
small network, which takes less time than to load the kernels. The kernels run a large one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from bwn._text import brief, three_digits
from bwn._types import Floats, StrPath
from bwn.data.datasets import no_progress
from bwn.errors import BwnError, FileError, MissingPackageError
from bwn.ir.interpreter import evaluate
from bwn.ir.model_spec import ModelSpec
from bwn.kernels.target.limits import available_threads
from bwn.model import Model
from bwn.ops.sign import Sign
from bwn.tools.inspect import layer_rows
from bwn.tools.verify_inputs import noise
from bwn.tools.verify_layers import check_layers
from bwn.tools.verify_scores import SupportsTrace, compare_batch, reference_scores

if TYPE_CHECKING:
    from bwn.onnx.session import Session

INPUTS = 8
INTERPRETED = 10**8
"""Multiply-accumulates up to which the interpreter is fast enough."""
BEYOND = np.float32(16)
"""So much larger is half of an input, so that activations reach the bounds to which they are
rounded."""
SECONDS = 1.0
"""No further input where it would end after that time."""
ROUNDING = 4
"""How many times as far as float32 moves the scores ours and ONNX Runtime's may lie apart."""
ZEROS = 1e-3
"""Share of the numbers of a tensor that are exactly 0 by chance at most."""


class InterpretedModel:
    """A network that the reference interpreter runs; it keeps the tensors of the last input."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._x: Floats | None = None
        self._tensors: dict[str, Floats] = {}

    @property
    def spec(self) -> ModelSpec:
        """The network."""
        return self._spec

    def run(self, x: Floats) -> Floats:
        """Scores (N, ...) of x."""
        return self.trace(x)[self.spec.graph.topology.output]

    def trace(self, x: Floats) -> dict[str, Floats]:
        """Every activation tensor of x, by name."""
        if x is not self._x:
            with np.errstate(all="ignore"):  # kernels do not warn either
                tensors = evaluate(self.spec.graph, x)
                self._tensors = {key: array.astype(np.float32) for key, array in tensors.items()}
            self._x = x
        return self._tensors


def compare_source(
    spec: ModelSpec,
    data: bytes,
    departures: Mapping[str, float],
    source: StrPath,
    output_name: str | None = None,
) -> tuple[int, list[str]]:
    """Compare a packed network with its source on random inputs, for about a second.

    Args:
        spec: The network, with the activations of its source.
        data: The source, an ONNX model.
        departures: How far rounded weights were from +-alpha, by name.
        source: The source's file.
        output_name: Which of its outputs the network computes; None: the only one.

    Returns:
        On how many inputs they agree, and a note where they could not be compared.

    Raises:
        BwnError: They differ.
    """
    try:
        from bwn.onnx.session import Session

        folder = Path(source).parent
        session = Session(data, available_threads(), folder=folder, output=output_name)
    except (FileError, MissingPackageError) as error:
        return 0, [f"not compared: {str(error).removeprefix('model: ')}"]
    session.departures = dict(departures)
    small = sum(row.multiplications for row in layer_rows(spec.graph)) <= INTERPRETED
    model: SupportsTrace = InterpretedModel(spec) if small else Model(spec)
    start = perf_counter()
    for number in range(INPUTS):
        x = random_input(spec, number)
        if spec.graph.is_quantized:
            x[..., x.shape[-1] // 2 :] *= BEYOND
        try:
            theirs = reference_scores(session, x)
        except Exception as error:  # onnxruntime's errors have no common class
            return 0, [f"not compared: ONNX Runtime does not run it: {brief(error, 200)}"]
        if not np.isfinite(theirs).all():
            return number, ["on random inputs its scores are not finite, in ONNX Runtime too"]
        if fault := difference(model, session, x, theirs):
            raise BwnError(
                f"{source}: packed, it would not compute what ONNX Runtime does: {fault}; nothing "
                "was written: please report it, or pack without this check"
            )
        if (perf_counter() - start) * (number + 2) / (number + 1) > SECONDS:
            return number + 1, []
    return INPUTS, []


def random_input(spec: ModelSpec, number: int) -> Floats:
    """A random image as the preprocessing would give it, or noise without preprocessing.

    Returns:
        (1, *input_shape) float32, always the same for a number.
    """
    rule, shape = spec.preprocess, spec.graph.topology.input_shape
    if rule is None:
        return noise(spec, number + 1, 0).batch(number, number + 1)
    pixels = np.random.default_rng((0, number)).random((len(rule.mean), *rule.size), np.float32)
    pixels *= np.float32(255 / rule.scale)
    mean, std = (np.reshape(numbers, (-1, 1, 1)) for numbers in (rule.mean, rule.std))
    x: Floats = ((pixels - mean) / std).astype(np.float32)
    return x.reshape(1, *shape)


def difference(model: SupportsTrace, session: Session, x: Floats, theirs: Floats) -> str | None:
    """What differs on an input, or None.

    Args:
        model: The packed network.
        session: Its source.
        x: (1, *input_shape) float32.
        theirs: Scores of the source.
    """
    rounded, ours = model.spec.graph.is_quantized, model.run(x)
    if ours.size != theirs.size:
        return f"scores of shape {ours.shape[1:]}, expected {theirs.shape[1:]}"
    scores = compare_batch(model, session, x, rounded)
    if scores.excused[0] and (name := zero_sign(model, session, x)):
        return (
            f"'{name}' is ONNX Sign and often 0, which one bit cannot hold (in torch, write "
            "torch.where(x >= 0, 1.0, -1.0))"
        )
    departs = not (scores.difference <= scores.allowed)[0] and not scores.excused[0]
    if not rounded and not departs:
        return None
    # Rounded activations move scores by more than any tolerance; layers have one.
    try:
        for layer in check_layers(model, session, x, no_progress):
            if not layer.agrees:
                size = max(layer.reference, layer.runtime or 0)
                return f"layer '{layer.name}' differs ({three_digits(size)} times the tolerance)"
    except FileError as error:
        if rounded:
            return None
        return f"scores differ, and {error}"
    if rounded or scores.difference[0] <= ROUNDING * rounding(model.spec, x):
        return None
    return f"scores differ by {scores.difference[0]:.3g}, {scores.allowed[0]:.3g} is the tolerance"


def rounding(spec: ModelSpec, x: Floats) -> float:
    """How far float32 moves the scores of a network.

    A network with steep slopes, as one that is barely trained may have, multiplies each rounding by
    more than a tolerance of layers says.
    """
    single, double = Model(spec).run(x), InterpretedModel(spec).run(x)
    return float(np.abs(single - double).max())


def zero_sign(model: SupportsTrace, session: Session, x: Floats) -> str | None:
    """A Sign of the network that is 0 in ONNX Runtime for more numbers than by chance, or None."""
    signs = {node.output for node in model.spec.graph.nodes if isinstance(node, Sign)}
    known = {name for node in session.model.graph.node for name in node.output}
    for name, array in session.tensors(x, signs & known).items():
        if (array == 0).mean() > ZEROS:
            return name
    return None
