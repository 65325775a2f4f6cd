"""The constants of an import: arrays, and arrays that depend on the size of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bwn.ir.node import Array
from bwn.onnx.onnx_node import Allowance, OnnxNode
from bwn.onnx.views import Size

BATCHES = (1, 2, 3, 5)
"""The sizes of the batch for which varying constants are computed."""
Varying = tuple[Array, ...]
"""A constant for each of BATCHES."""


class Constants:
    """The known arrays by name, and the stored tensors of the graph.

    Args:
        file: Bytes of the model.

    Attributes:
        constants: The known arrays.
        varying: Arrays that depend on the size of the batch.
        repeated: Those of them that are (N, ...) and the same for every example, as (1, ...).
        allowance: The bytes that constants may still take.
        tensors: The stored tensors so far.
    """

    def __init__(self, file: int) -> None:
        self.allowance = Allowance(file)
        self.constants: dict[str, Array] = {}
        self.varying: dict[str, Varying] = {}
        self.repeated: dict[str, Array] = {}
        self.tensors: dict[str, Array] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def is_constant(self, node: OnnxNode, index: int) -> bool:
        """Whether an input of a node is a constant."""
        return node.has(index) and node.inputs[index] in self.constants

    def constant(self, node: OnnxNode, index: int) -> Array:
        """Value of an input that must be a constant. Raises GraphError where it is not."""
        name = self._input(node, index)
        if name in self.varying:
            raise node.refuse(f"input '{name}' depends on the size of the batch")
        if name not in self.constants:
            raise node.refuse(
                f"input '{name}' is computed from the network's input, expected a constant"
            )
        return self.constants[name]

    def optional(self, node: OnnxNode, index: int) -> Array | None:
        """As `constant`; None where the node lacks that input."""
        return self.constant(node, index) if node.has(index) else None

    def int_list(self, node: OnnxNode, index: int) -> list[int]:
        """As `constant`, of integers in a list; none where the node lacks that input."""
        array = self.optional(node, index)
        if array is None:
            return []
        if array.dtype.kind not in "iu":
            raise node.refuse(f"'{node.inputs[index]}' is {array.dtype}, expected integers")
        return [int(number) for number in array.ravel()]

    def is_array(self, node: OnnxNode, index: int) -> bool:
        """Whether an input of a node is a constant, or one that is repeated for every example."""
        return self.is_constant(node, index) or (
            node.has(index) and node.inputs[index] in self.repeated
        )

    def weights(
        self, node: OnnxNode, index: int, *, rank: int | None = None
    ) -> npt.NDArray[np.float32]:
        """As `constant`, of float32 numbers.

        rank: Of the activations that it meets, whose first axis is the batch; then it may be one
            that is repeated for every example, as (1, ...).
        """
        repeated = self.repeated.get(node.inputs[index]) if node.has(index) else None
        if repeated is None or repeated.ndim != rank:
            array = self.constant(node, index)
        else:
            array = repeated
        if array.dtype != np.float32:
            raise node.refuse(
                f"'{node.inputs[index]}' is {array.dtype}, expected float32; "
                "export the model in float32"
            )
        return array.astype(np.float32, copy=False)

    def sizes(self, node: OnnxNode, index: int) -> tuple[Size, ...]:
        """Value of an input that holds sizes of axes, of which some may depend on the batch."""
        name = self._input(node, index)
        if name not in self.varying:
            return tuple(Size(int(size)) for size in np.ravel(self.constant(node, index)))
        samples = self.varying[name]
        if len({array.size for array in samples}) > 1:
            raise node.refuse(f"input '{name}' has a size that depends on the batch")
        return tuple(
            self._size(node, name, column) for column in zip(*map(np.ravel, samples), strict=True)
        )

    def _size(self, node: OnnxNode, name: str, samples: Sequence[Any]) -> Size:
        numbers = [int(number) for number in samples]
        if len(set(numbers)) == 1:
            return Size(numbers[0])
        if numbers != [numbers[0] * batch for batch in BATCHES]:
            raise node.refuse(
                f"input '{name}' depends on the size of the batch, and is no multiple of it"
            )
        return Size(numbers[0], batch=True)

    def store(self, name: str, array: Array) -> str:
        """Store a float32 tensor under `name`, with marks added where another tensor has it.

        Returns:
            The name under which it is stored.
        """
        self.allowance.take(None, array.size * 4)
        array = np.ascontiguousarray(array, np.float32)
        while name in self.shapes or (
            name in self.tensors and not np.array_equal(self.tensors[name], array)
        ):
            name += "'"
        self.tensors[name] = array
        return name

    def set_constant(self, name: str, samples: Varying) -> None:
        """Set a constant, given for each of BATCHES, or once."""
        first = samples[0]
        if all(same(array, first) for array in samples[1:]):
            self.constants[name] = first
        else:
            self.varying[name] = samples
            if all(
                array.shape == (batch, *first.shape[1:]) and same(array, np.repeat(first, batch, 0))
                for batch, array in zip(BATCHES, samples, strict=True)
            ):
                self.repeated[name] = first
                self.varying[name] = tuple(
                    np.broadcast_to(first, (batch, *first.shape[1:])) for batch in BATCHES
                )

    def _input(self, node: OnnxNode, index: int) -> str:
        if not node.has(index):
            raise node.refuse(f"has no input {index}")
        return node.inputs[index]


def same(first: Array, second: Array) -> bool:
    """Whether two arrays have the same bits."""
    return first.shape == second.shape and first.tobytes() == second.tobytes()
