"""A node of a graph: its fields, which the file stores, and its rules, which the rest of bwn uses.

Each operation is a subclass in `bwn/ops/`. The checker, the reference interpreter, the planner, the
ONNX exporter and `bwn verify` loop over nodes and call these methods; none of them knows an
operation by name. A rule without a safe default raises NotImplementedError until the operation
gives it.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from math import isfinite, prod
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from bwn.errors import GraphError

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder
    from bwn.plan.fusion import Epilogue

Array = npt.NDArray[np.generic]
Reals = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Shape = tuple[int, ...]
"""Shape of one example, (C, H, W) or (K,): the batch axis is never part of it."""
Pair = tuple[int, int]
Tensors = Mapping[str, Array]
"""The stored tensors of a graph by name."""
FLOAT32_MAX = float(np.finfo(np.float32).max)


class Node(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="op",
):
    """One operation: reads the tensor `input`, and perhaps others, and makes the tensor `output`.

    Attributes:
        input: Name of the first tensor that it reads.
        output: Name of the tensor that it makes.
        since: First version of the .bwn file that may hold this operation.
    """

    input: str
    output: str

    since: ClassVar[int] = 1

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the activation tensors that it reads."""
        return (self.input,)

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the stored tensors that it reads."""
        return ()

    @property
    def op(self) -> str:
        """Name of its operation, as the file has it."""
        return str(self.__struct_config__.tag)

    @property
    def where(self) -> str:
        """How messages name it: its operation and the tensor that it makes."""
        return f"{self.op} '{self.output}'"

    def refuse(self, why: str) -> GraphError:
        """An error that names the node."""
        return GraphError(f"{self.where}: {why}")

    # Every operation defines these four.

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """Shape of its output. Raises GraphError where it cannot run on inputs of these shapes."""
        raise NotImplementedError(f"{type(self).__name__} has no output shape")

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """Its output, computed plainly in float64 from arrays (N, ...): what kernels must match."""
        raise NotImplementedError(f"{type(self).__name__} has no reference")

    def lower(self, plan: PlanBuilder) -> None:
        """Add the kernel calls that compute it to a plan."""
        raise NotImplementedError(f"{type(self).__name__} cannot be planned")

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Add the ONNX nodes that compute it."""
        raise NotImplementedError(f"{type(self).__name__} has no ONNX form")

    # What may be concluded about its output. These answers are safe for any operation.

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """Raise GraphError where attributes or stored tensors are not legal.

        Args:
            inputs: Shapes of `self.inputs`.
            tensors: The stored tensors; `self.constants` are among them.
            signs: Names of the activation tensors that hold only +-1.
        """

    def makes_signs(self, signs: set[str]) -> bool:
        """Whether its output holds only +-1, given the tensors that do."""
        return False

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """Whether its output is 0 or more (or NaN) whatever the network is fed.

        Args:
            nonnegative: Names of the activation tensors that are.
            tensors: The stored tensors.
        """
        return False

    def float_terms(self, shape: Shape, *, floats: bool = False) -> int | None:
        """How many float32 numbers each output sums; None where nothing is rounded.

        Args:
            shape: Shape of the first input.
            floats: Whether sums of quantized activations count as float sums too.
        """
        return 0

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """The largest number that it meets, before bounds or cancellation make it smaller."""
        return largest(self.reference(inputs, tensors))

    def work(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Operations on one example beyond a few for each element of its output."""
        return 0

    def macs(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Multiply-accumulates on one example."""
        return 0

    def fuse(self, epilogue: Epilogue, ready: Container[str]) -> Epilogue | None:
        """The epilogue of a step that also does this node; None where it cannot.

        Args:
            epilogue: What the step that makes `epilogue.output` does so far. This node is the
                only one that reads that tensor.
            ready: Names of the tensors that exist before the step runs.
        """
        return None

    def is_packed(self, tensors: Tensors) -> bool:
        """Whether it has weights of one bit each."""
        return False

    @property
    def is_quantized(self) -> bool:
        """Whether it rounds its input to 8 bits."""
        return False

    @property
    def rounds(self) -> bool:
        """Whether it rounds, so that the smallest difference before it may become a step."""
        return self.is_quantized

    @property
    def joins_channels(self) -> bool:
        """Whether its output is the channels of its inputs, one input after another."""
        return False

    @property
    def moves_signs(self) -> bool:
        """Whether it can read a bitpacked tensor of signs and make one."""
        return False

    @property
    def commutes_with_sign(self) -> bool:
        """Whether sign(op(x)) = op(sign(x)) for every x without NaN."""
        return False


class Elementwise(Node, frozen=True, kw_only=True):
    """An operation of one input whose output has the same shape."""

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """That of the input."""
        return inputs[0]


class Rearrangement(Node, frozen=True, kw_only=True):
    """An operation that moves the numbers of its inputs and changes none."""

    def makes_signs(self, signs: set[str]) -> bool:
        """Where all inputs are signs."""
        return signs.issuperset(self.inputs)

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """Where no input is negative."""
        return nonnegative.issuperset(self.inputs)

    def float_terms(self, shape: Shape, *, floats: bool = False) -> None:
        """Exact."""


def is_float32(number: float) -> bool:
    """Whether `number` is finite, also as float32."""
    return isfinite(number) and abs(number) <= FLOAT32_MAX


def check_bounds(node: Node, low: float | None, high: float | None) -> None:
    """Raise GraphError unless clamp bounds are finite as float32 and in order."""
    for name, bound in (("low", low), ("high", high)):
        if bound is not None and not is_float32(bound):
            raise node.refuse(
                f"{name} is {bound}, expected a finite float32 (leave it out for no bound)"
            )
    if low is not None and high is not None and low > high:
        raise node.refuse(f"low {low} is above high {high}")


def check_vector(node: Node, name: str, array: Array, count: int) -> None:
    """Raise GraphError unless a stored tensor is a finite float32 vector of `count` numbers."""
    if array.dtype != np.float32 or array.shape != (count,):
        raise node.refuse(f"'{name}' is {array.dtype} {array.shape}, expected float32 ({count},)")
    check_finite(node, name, array)


def check_finite(node: Node, name: str, array: Array) -> None:
    """Raise GraphError where a stored float32 tensor holds a NaN or an infinity."""
    if array.dtype == np.float32 and not np.isfinite(array).all():
        raise node.refuse(f"'{name}' holds a number that is not finite")


def largest(*arrays: Reals | None) -> float:
    """Sum over arrays of the largest absolute value of each."""
    return sum(
        float(np.abs(array.astype(np.float64)).max(initial=0))
        for array in arrays
        if array is not None
    )


def broadcast_shape(node: Node, first: Shape, second: Shape) -> Shape:
    """Shape of two operands of as many axes; where sizes differ one is 1, and is repeated."""
    fits = len(first) == len(second) and all(
        a == b or 1 in (a, b) for a, b in zip(first, second, strict=True)
    )
    if not fits:
        raise node.refuse(
            f"operands of shapes {first} and {second}: expected as many axes, and sizes that are "
            "equal or 1"
        )
    return tuple(b if a == 1 else a for a, b in zip(first, second, strict=True))


def elements(shape: Shape) -> int:
    """Number of elements of a tensor of one example."""
    return prod(shape)
