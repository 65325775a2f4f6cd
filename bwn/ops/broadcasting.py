"""Arithmetic of two tensors that are broadcast to one shape, and of a tensor and a stored one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bwn.ir.node import (
    Node,
    Reals,
    Shape,
    Tensors,
    broadcast_shape,
    check_finite,
    largest,
)
from bwn.kernels import reference as plain

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder

Function = Literal["add", "sub", "mul", "div", "max", "min", "prelu", "pow"]

FUNCTIONS: dict[Function, tuple[str, Callable[[Any, Any], Any]]] = {
    "add": ("Add", np.add),
    "sub": ("Sub", np.subtract),
    "mul": ("Mul", np.multiply),
    "div": ("Div", np.divide),
    "max": ("Max", np.maximum),
    "min": ("Min", np.minimum),
    "prelu": ("PRelu", plain.prelu),
    "pow": ("Pow", np.power),
}
"""The ONNX operation and the numpy formula of each function."""


class Arithmetic(Node, frozen=True, kw_only=True, tag="arithmetic"):
    """y = function(x, other), or with a stored tensor y = function(x, constant).

    Where sizes on an axis differ, one of them is 1 and is repeated. prelu is x where x >= 0, else
    other * x; max and min are NaN where an operand is.

    Attributes:
        function: The function.
        other: Name of the second tensor, of as many axes as x; or None.
        constant: Name of a stored float32 tensor of as many axes as an example of x; or None.
        constant_first: Whether y = function(constant, x).
    """

    since = 4

    function: Function
    other: str | None = None
    constant: str | None = None
    constant_first: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """One or two operands."""
        return (self.input,) if self.other is None else (self.input, self.other)

    @property
    def constants(self) -> tuple[str, ...]:
        """The other operand."""
        return () if self.constant is None else (self.constant,)

    @property
    def operands(self) -> tuple[str, str]:
        """Names of its operands, in order."""
        second = self.other if self.constant is None else self.constant
        assert second is not None
        return (second, self.input) if self.constant_first else (self.input, second)

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """There are two operands; a stored one holds finite float32 numbers."""
        if (self.other is None) == (self.constant is None):
            raise self.refuse("expected either another tensor or a constant")
        if self.constant_first and (self.constant is None or self.function == "prelu"):
            raise self.refuse("only a constant can be first, and not as the input of a prelu")
        if self.constant is None:
            return
        constant = tensors[self.constant]
        fits = constant.ndim == len(inputs[0]) and 0 not in constant.shape
        if constant.dtype != np.float32 or not fits:
            raise self.refuse(
                f"'{self.constant}' is {constant.dtype} {constant.shape}, expected float32 with "
                f"{len(inputs[0])} axes of at least 1"
            )
        check_finite(self, self.constant, constant)

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """The shape of both operands, broadcast."""
        shapes = (inputs[0], inputs[1] if self.constant is None else tensors[self.constant].shape)
        output = broadcast_shape(self, *shapes)
        if self.function == "prelu" and output != inputs[0]:
            raise self.refuse(f"slopes of shape {shapes[1]} do not fit {inputs[0]}")
        return output

    def _both(self, inputs: Sequence[Reals], tensors: Tensors) -> tuple[Reals, Reals]:
        """Its operands in order, float64."""
        second = inputs[1] if self.constant is None else tensors[self.constant][None]
        x, other = inputs[0].astype(np.float64), second.astype(np.float64)
        return (other, x) if self.constant_first else (x, other)

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula."""
        with np.errstate(all="ignore"):  # as float32 arithmetic: infinities and NaN
            return np.asarray(FUNCTIONS[self.function][1](*self._both(inputs, tensors)))

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If no operand is negative; for a maximum, one operand is enough."""
        known = [name in nonnegative for name in self.inputs]
        known += [bool((tensors[name].astype(np.float32) >= 0).all()) for name in self.constants]
        if self.function == "max":
            return any(known)
        if self.function == "prelu":
            return known[0]
        return self.function in ("add", "mul", "div", "min") and all(known)

    def float_terms(self, shape: Shape, *, floats: bool = False) -> int | None:
        """A maximum and a minimum are exact."""
        return None if self.function in ("max", "min") else 0

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """Both terms of a sum or difference, else the result."""
        if self.function in ("add", "sub"):
            return largest(*self._both(inputs, tensors))
        return largest(self.reference(inputs, tensors))

    def lower(self, plan: PlanBuilder) -> None:
        """One elementwise step."""
        plan.binary(self, self.function, self.operands)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """The ONNX operation, which broadcasts in the same way."""
        names = [
            name if name in self.inputs else graph.constant(name, graph.tensors[name])
            for name in self.operands
        ]
        graph.emit(FUNCTIONS[self.function][0], names, self.output)
