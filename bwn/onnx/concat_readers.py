"""Reads ONNX's Concat along any axis except the batch, with constants anywhere."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Array, Shape
from bwn.onnx.layouts import InLayout, in_layout_along
from bwn.ops.broadcasting import Arithmetic
from bwn.ops.concat import Concat
from bwn.ops.gather import Gather
from bwn.ops.onnx_reading import reads

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode


@reads("Concat")
def read_concat(state: ImportState, node: OnnxNode) -> None:
    """Along any axis except the batch; inputs may be constants."""
    filled = tuple(
        name
        for index, name in enumerate(node.inputs)
        if not state.is_constant(node, index) or state.constant(node, index).size
    )
    node, places = dataclasses.replace(node, inputs=filled), range(len(filled))
    activations = [index for index in places if not state.is_array(node, index)]
    if len(node.inputs) == 1:
        state.alias(node)
        return
    inner = dataclasses.replace(node, inputs=tuple(node.inputs[index] for index in activations))
    parts = in_layout_along(state, inner, node.attrs["axis"], len(activations))
    axis = parts.axis(node.attrs["axis"])
    first, *others = parts.names
    whole = len(activations) == len(places)
    if others:
        output = node.output if whole else f"{node.output}.activations"
        joined = Concat(input=first, others=tuple(others), output=output, axis=axis)
        first = parts.emit(state, joined)
    if not whole:
        add_constants(state, node, parts, axis, first)


def add_constants(
    state: ImportState, node: OnnxNode, parts: InLayout, axis: int, joined: str
) -> None:
    """Put zeros between the joined activations, where constants belong, and add the constants."""
    shape, start = state.shapes[joined], 0
    arrays: list[Array] = []
    places: list[int] = []
    for index, name in enumerate(node.inputs):
        if name in parts.node.inputs:
            size = parts.shapes[parts.node.inputs.index(name)][axis]
            arrays.append(np.zeros((*shape[:axis], size, *shape[axis + 1 :]), np.float32))
            places += range(start, start + size)
            start += size
        else:
            arrays.append(constant_in_layout(state, node, index, parts, axis, shape))
            places += [-1] * arrays[-1].shape[axis]
    indices = tuple(tuple(places) if place == axis else () for place in range(len(shape)))
    spread = Gather(input=joined, output=f"{node.output}.spread", indices=indices)
    first = parts.emit(state, spread)
    constant = state.store(f"{node.output}.constant", np.concatenate(arrays, axis))
    parts.emit(
        state, Arithmetic(input=first, output=node.output, function="add", constant=constant)
    )


def constant_in_layout(
    state: ImportState, node: OnnxNode, index: int, parts: InLayout, axis: int, shape: Shape
) -> Array:
    """A constant input in the layout of tensors of `shape`, of any length on the axis."""
    array = state.weights(node, index, rank=len(parts.order))
    moved = parts.arranged(array) if array.ndim == len(parts.order) else None
    if moved is not None and all(
        a == b or n == axis for n, (a, b) in enumerate(zip(moved.shape, shape, strict=True))
    ):
        return moved
    raise node.refuse(f"'{node.inputs[index]}' has shape {array.shape}, which does not fit")
