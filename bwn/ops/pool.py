"""Maximum or average over windows of (N, C, H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from bwn.ir.node import Node, Pair, Reals, Shape, Tensors, elements, largest
from bwn.kernels import reference as plain
from bwn.ops.onnx_reading import ceil_pads, pair, reads, window_pads
from bwn.ops.window import Pads, Window, check_window, window_shape

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.onnx.import_state import ImportState, OnnxNode
    from bwn.plan.builder import PlanBuilder

Kind = Literal["max", "average"]


class Pool(Node, frozen=True, kw_only=True, tag="pool"):
    """Maximum or average over windows.

    Padding never wins a maximum. An average counts it (`count_pads`) or divides by the positions
    inside the image.
    """

    kind: Kind
    kernel: Pair
    stride: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    count_pads: bool = False

    @property
    def window(self) -> Window:
        """Its attributes."""
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
        """A maximum of signs."""
        return self.kind == "max" and self.input in signs

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """Of such a tensor; padding counts as 0 in an average and never in a maximum."""
        return self.input in nonnegative

    def float_terms(self, shape: Shape, *, floats: bool = False) -> int | None:
        """An average sums its window; a maximum is exact."""
        return self.window.taps if self.kind == "average" else None

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """Its input."""
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
        """A maximum is 0 or more where one of its elements is."""
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


@reads("MaxPool", "AveragePool")
def read_pool(state: ImportState, node: OnnxNode) -> None:
    """2-D, without dilation."""
    source, shape = _image(state, node)
    kind: Kind = "max" if node.op_type == "MaxPool" else "average"
    window = Window(pair(node, "kernel_shape"), pair(node, "strides"))
    if pair(node, "dilations") != (1, 1) or any(node.outputs[1:]):
        raise node.refuse("dilations and a second output are not supported")
    if min(*window.kernel, *window.stride) < 1:
        raise node.refuse(
            f"kernel {window.kernel}, strides {window.stride}: expected each at least 1"
        )
    size = (shape[1], shape[2])
    window = replace(window, pads=window_pads(node, size, window))
    if node.attrs.get("ceil_mode", 0):
        window = replace(window, pads=_resolve_ceil(node, kind, size, window))
    state.emit(
        Pool(
            input=source,
            output=node.output,
            kind=kind,
            kernel=window.kernel,
            stride=window.stride,
            pads=window.pads,
            count_pads=bool(node.attrs.get("count_include_pad", 0)),
        )
    )


def _resolve_ceil(node: OnnxNode, kind: Kind, size: Pair, window: Window) -> Pads:
    """Padding that makes ceil_mode's windows; an average would count it wrongly."""
    resolved = ceil_pads(size, window)
    if kind == "max" or resolved == window.pads:
        return resolved
    pads, kernel, stride = window.pads, window.kernel, window.stride
    if any((size[i] + pads[i] + pads[i + 2] - kernel[i]) % stride[i] for i in (0, 1)):
        raise node.refuse("ceil_mode = 1 is not supported for averages; export with ceil_mode off")
    return pads


def _image(state: ImportState, node: OnnxNode) -> tuple[str, Shape]:
    """Name and (C, H, W) of the first input."""
    source, shape = state.activation(node)
    if len(shape) != 3:
        raise node.refuse(f"input has shape {shape}, expected (channels, height, width)")
    return source, shape


@reads("GlobalAveragePool", "GlobalMaxPool")
def read_global_pool(state: ImportState, node: OnnxNode) -> None:
    """A window of the whole image."""
    source, shape = _image(state, node)
    kind: Kind = "max" if node.op_type == "GlobalMaxPool" else "average"
    kernel = (shape[1], shape[2])
    state.emit(Pool(input=source, output=node.output, kind=kind, kernel=kernel))
