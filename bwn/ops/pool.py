"""Maximum or average over windows of (N, C, H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from bwn.ir.node import Node, Pair, Reals, Shape, Tensors, elements, largest
from bwn.kernels import reference as plain
from bwn.ops.window import Pads, Window, check_window, window_shape

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder

Kind = Literal["max", "average"]


class Pool(Node, frozen=True, kw_only=True, tag="pool"):
    """Maximum or average over windows.

    A maximum ignores padding. An average counts padding as zeros (`count_pads`), or divides by the
    number of positions inside the image.
    """

    kind: Kind
    kernel: Pair
    stride: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    count_pads: bool = False

    @property
    def window(self) -> Window:
        """The window of its attributes."""
        return Window(self.kernel, self.stride, self.pads)

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """The window is legal."""
        check_window(self, self.window)

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """(C, height, width)."""
        return window_shape(self, self.window, inputs[0], inputs[0][0])

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """Maximum or average."""
        return plain.pool(
            inputs[0],
            self.kind,
            kernel=self.kernel,
            stride=self.stride,
            pads=self.pads,
            count_pads=self.count_pads,
        )

    def makes_signs(self, signs: set[str]) -> bool:
        """If it is a maximum of signs."""
        return self.kind == "max" and self.input in signs

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If the input is not negative; padding is 0 in an average, and ignored in a maximum."""
        return self.input in nonnegative

    def float_terms(self, shape: Shape, *, floats: bool = False) -> int | None:
        """An average sums its window; a maximum is exact."""
        return self.window.taps if self.kind == "average" else None

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """The input."""
        return largest(inputs[0])

    def work(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Every element of every window."""
        return elements(output) * self.window.taps

    @property
    def moves_signs(self) -> bool:
        """The maximum of bits is their disjunction."""
        return self.kind == "max"

    @property
    def commutes_with_sign(self) -> bool:
        """A maximum is at least 0 if and only if one of its elements is."""
        return self.kind == "max"

    def lower(self, plan: PlanBuilder) -> None:
        """One pooling step."""
        plan.pool(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """MaxPool or AveragePool."""
        window = {"kernel_shape": self.kernel, "strides": self.stride, "pads": self.pads}
        if self.kind == "max":
            graph.emit("MaxPool", [self.input], self.output, **window)
        else:
            counted = int(self.count_pads)
            graph.emit(
                "AveragePool", [self.input], self.output, **window, count_include_pad=counted
            )
