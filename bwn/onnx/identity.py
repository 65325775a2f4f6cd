"""ONNX operations that change nothing at inference; they make no node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bwn.ops.onnx_reading import BATCH, reads

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState, OnnxNode


@reads("Identity")
def read_identity(state: ImportState, node: OnnxNode) -> None:
    """Another name for its input."""
    state.alias(node)


@reads("Cast")
def read_cast(state: ImportState, node: OnnxNode) -> None:
    """To float32 only, which changes nothing."""
    if node.attrs.get("to") != np.float32:
        raise node.refuse(
            "of activations to another type is not supported; export the model in float32"
        )
    state.alias(node)


@reads("Dropout")
def read_dropout(state: ImportState, node: OnnxNode) -> None:
    """Has no effect at inference."""
    training = node.has(2) and state.constant(node, 2).any()
    if training or any(node.outputs[1:]):
        raise node.refuse("is in training mode; export the model for inference")
    state.alias(node)


@reads("Shape")
def read_shape(state: ImportState, node: OnnxNode) -> None:
    """A constant, with BATCH for the size of the batch."""
    shape = np.asarray((BATCH, *state.activation(node)[1]), np.int64)
    start, end = node.attrs.get("start", 0), node.attrs.get("end", len(shape))
    state.constants[node.output] = shape[start:end]
