"""The state of an import: what is known about each ONNX tensor while the nodes are read in order.

An ONNX tensor is a constant (an array), a varying constant (an array that depends on the size of
the batch), an activation (a view of a tensor of the graph), or pending: half of a pattern, such as
a comparison, that only the node completing it can read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from bwn.ir.checker import check_node
from bwn.ir.graph import Topology
from bwn.ir.node import Node, Shape, elements
from bwn.ir.quantization import Quantization
from bwn.onnx.alignment import aligned, widened
from bwn.onnx.constants import Constants
from bwn.onnx.exact_zeros import ExactZeros
from bwn.onnx.onnx_node import OnnxNode
from bwn.onnx.views import BATCH, Factor, Size, View, arranged, merged, row_major
from bwn.ops.flatten import Flatten
from bwn.ops.onnx_reading import Pending
from bwn.ops.rearrange import Rearrange

Value = TypeVar("Value")

EXPLAINED = {
    "compare": "a comparison is read only by Where, Cast, Not, And and Or",
    "choice": "its two integers are read only with constants; cast them to float32",
    "surrounded": "padding with -inf is read only by MaxPool of four explicit pads",
    "raised": "Sign(x) + c is read only by another Sign",
    "quantized": "its integers stand for numbers; put DequantizeLinear before it",
}


class ImportState(Constants):
    """Collects the nodes and stored tensors of the graph.

    Attributes:
        opset: Version of ONNX's operations in the file.
        single: Whether the model was exported for a batch of 1, so that an axis of 1 is the batch.
        pending: The halves of patterns.
        views: The activations.
        integers: Activations of integers, which stand for the numbers that their views hold.
        rounded: The `Quantize` of each activation that was asked for.
        shapes: Shapes of the graph's tensors.
        nodes: The nodes so far.
        notes: Lines for the user, besides errors.
        nonnegative: Tensors of the graph that are 0 or more.
        zeros: Which of them are often exactly 0.
        unknown: Tensors that nothing is known of, for a node before them cannot be read.
        branches: How many branches of If have been read.
    """

    def __init__(
        self, graph_input: str, shape: Shape, opset: int, *, single: bool = False, file: int = 0
    ) -> None:
        super().__init__(file)
        self.opset, self.single = opset, single
        self.pending: dict[str, Pending] = {}
        self.views: dict[str, View] = {graph_input: View.of(graph_input, shape)}
        self.integers: dict[str, Quantization] = {}
        self.rounded: dict[tuple[object, ...], View] = {}
        self.shapes[graph_input] = shape
        self.nodes: list[Node] = []
        self.notes: list[str] = []
        self.unknown: set[str] = set()
        self.branches = 0
        self.nonnegative: set[str] = set()
        self.zeros = ExactZeros()
        self.topology = Topology(input=graph_input, input_shape=shape, output="", nodes=())
        self._copies: dict[tuple[object, ...], str] = {}
        self._rank = 0
        self._like: View | None = None

    def note(self, text: str) -> None:
        """Say something to the user, once."""
        if text not in self.notes:
            self.notes.append(text)

    def placeholder(self, name: str, sizes: Sequence[int | None]) -> None:
        """Go on without the node that makes `name`, to find what else cannot be read.

        sizes: Of its axes, (N, C, H, W) or (N, K), as far as known; otherwise it stays unknown.
        """
        shape = tuple(size for size in sizes[1:] if size)
        if len(sizes) in (2, 3, 4) and len(shape) == len(sizes) - 1:
            shape = (shape[0], 1, shape[1]) if len(shape) == 2 else shape
            self.shapes[name] = shape
            self.views[name] = canonical(name, shape, len(sizes))
        else:
            self.unknown.add(name)

    # Activations

    def weights_like(self, node: OnnxNode, index: int, view: View) -> npt.NDArray[np.float32]:
        """As `weights`, in the order of a whole view's source, with axes of 1 where it repeats.

        Raises:
            GraphError: It does not fit the view, or would make it larger.
        """
        rank = view.rank if view.axes[:1] == ((BATCH,),) else None
        array, layout = self.weights(node, index, rank=rank), view.layout
        padded = (1,) * (view.rank - array.ndim) + array.shape
        if (
            layout is None
            or len(padded) != view.rank
            or any(
                size != 1 and Size(size) != most
                for size, most in zip(padded, view.sizes, strict=True)
            )
        ):
            raise node.refuse(
                f"'{node.inputs[index]}' has shape {array.shape}, which does not fit {view}"
            )
        if array.size == 1:
            return array.reshape((1,) * len(view.shape))
        self.allowance.check(None, 4 * elements(view.shape))
        return arranged(array.reshape(padded), view, layout)

    def view(self, node: OnnxNode, index: int = 0) -> View:
        """An input that must be an activation. Raises GraphError where it is not."""
        name = self._input(node, index)
        self.complete(name)
        if name in self.pending:
            raise node.refuse(f"reads '{name}': {EXPLAINED[self.pending[name].kind]}")
        if name not in self.views:
            raise node.refuse(
                f"input '{name}' is a constant, expected a tensor that depends on the network's "
                "input"
            )
        return self.views[name]

    def complete(self, name: str) -> None:
        """Emit a pending tensor that can be had alone."""
        if name in self.pending:
            half = self.pending[name]
            if half.complete is not None:
                half.complete(self, name)

    def activation(self, node: OnnxNode, index: int = 0) -> tuple[str, Shape]:
        """Name and shape of an input that must be (N, C, H, W), (N, C, L) or (N, K).

        (N, C, L) becomes (C, 1, L). Where the input is a view in another order, a node that copies
        it is emitted. Arguments and errors are those of `view`.
        """
        view = self.view(node, index)
        name = self.planes(node, view, node.inputs[index])
        self._rank = view.rank
        return name, self.shapes[name]

    def planes(self, node: OnnxNode, view: View, name: str) -> str:
        """Name of a tensor with the elements of (N, C, H, W), (N, C, L) or (N, K) in order."""
        if not view.is_ordinary:
            raise node.refuse(f"'{name}' is {view}; supported: (N, C, H, W), (N, C, L), (N, K)")
        return self.ordered(view, name)

    def ordered(self, view: View, name: str) -> str:
        """As `planes`, of a view that is ordinary."""
        counts = [size.count for size in view.sizes[1:]]
        shape = tuple(counts) if len(counts) != 2 else (counts[0], 1, counts[1])
        return self.copied(view, view.factors, shape, name)

    def whole(self, node: OnnxNode, index: int = 0) -> View:
        """An input as a view of all of a tensor, whatever the order of its axes."""
        return self.whole_of(self.view(node, index), node.inputs[index])

    def whole_of(self, view: View, name: str) -> View:
        """As `whole`, of a view; `name`: of the copy that it may need."""
        if view.layout is not None:
            return view
        if view.is_ordinary:
            source = self.ordered(view, name)
            return canonical(source, self.shapes[source], view.rank)
        counts = [size.count for size in view.sizes]
        shape = (prod(counts[:-2]), *[1, *counts][-2:])
        source = self.copied(view, view.factors, shape, f"{name}.planes")
        return View.over(source, shape, view.axes, range(view.rank))

    def channels_last(self, node: OnnxNode, index: int = 0, *, axis: int = -1) -> View:
        """An input as a whole view of a (K, H, W) or (K,) tensor; K, outermost there, is `axis`."""
        view = self.view(node, index)
        if view.sizes[axis].batch:
            why = f"'{node.inputs[index]}' is {view}, of which axis {axis} holds the batch"
            raise node.refuse(f"{why}; examples must stay independent")
        order = [number for number in range(view.rank) if number != axis % view.rank]
        order.append(axis % view.rank)
        last = self._outermost(node, index, view.transpose(order))
        return last.transpose(np.argsort(order).tolist())

    def _outermost(self, node: OnnxNode, index: int, view: View) -> View:
        """A view (N, ..., K) of an input as one of a tensor in which K is outermost."""
        layout = view.layout or ()
        last, rest = view.axes[-1], [f for axis in view.axes[:-1] for f in axis if f != BATCH]
        outer = [[part.axis == view.rank - 1 for part in dim] for dim in layout]
        if layout and all(outer[0]) and not any(map(any, outer[1:])):
            return view
        counts = [size.count for size in view.sizes]
        if view.axes[0] != (BATCH,) or view.rank > 4:
            order = (view.rank - 1, *range(view.rank - 1))
            factors = [factor for number in order for factor in view.axes[number]]
            shape: Shape = (counts[-1], 1, prod(counts[:-1]))
            source = self.copied(
                view,
                [factor for factor in factors if factor != BATCH],
                shape,
                f"{node.inputs[index]}.planes",
            )
            return View.over(source, shape, view.axes, order)
        shape = (counts[-1], *((1, *counts[1:-1])[-2:] if view.rank > 2 else ()))
        source = self.copied(view, (*last, *rest), shape, f"{node.inputs[index]}.planes")
        whole = View.of(source, shape).transpose((0, *range(2, len(shape) + 1), 1))
        return whole.squeeze([1]) if view.rank == 3 else whole

    def features(self, node: OnnxNode, index: int = 0) -> tuple[str, npt.NDArray[np.int64] | None]:
        """An input (N, K) as a vector, in any order.

        Returns:
            Name of the vector, and which of the K elements each of its own is; None: in order. So
            a flattening after channels last orders the weights that read it, and copies nothing.
        """
        view, name = self.view(node, index), node.inputs[index]
        layout = view.layout if view.rank == 2 and view.axes[0] == (BATCH,) else None
        if layout is None or merged(view.factors) == merged(row_major(view.shape)):
            return self.activation(node, index)[0], None
        self._rank = view.rank
        order = arranged(np.arange(elements(view.shape)).reshape(1, -1), view, layout)
        factors = row_major(view.shape)
        return self.copied(view, factors, (elements(view.shape),), f"{name}.planes"), order.ravel()

    def copied(self, view: View, factors: Sequence[Factor], shape: Shape, name: str) -> str:
        """Name of a tensor of `shape` with these elements of a view's source, in this order."""
        if view.is_whole and merged(factors) == merged(row_major(view.shape)):
            if shape == view.shape:
                return view.source
            if len(shape) == 1:
                return self._copy(Flatten(input=view.source, output=name), (view.source, shape))
        sizes, strides = (
            (tuple(part) for part in zip(*factors, strict=True)) if factors else ((), ())
        )
        node = Rearrange(
            input=view.source,
            output=name,
            shape=shape,
            sizes=sizes,
            strides=strides,
            offset=view.offset,
        )
        return self._copy(node, (view.source, shape, sizes, strides, view.offset))

    def in_one_order(
        self, node: OnnxNode, inputs: Sequence[int], constants: Sequence[Shape] = ()
    ) -> tuple[View | None, dict[int, str]]:
        """Activations that are broadcast to one shape, in one order of axes.

        Args:
            node: The node that reads them.
            inputs: Which of its inputs.
            constants: Shapes of constants that they are broadcast with.

        Returns:
            The view that their result is, None for (N, C, H, W), (N, C, L) or (N, K) in order; and
            the tensor of each input.
        """
        views = [self.view(node, index) for index in inputs]
        sizes = [*(view.sizes for view in views), *(tuple(map(Size, shape)) for shape in constants)]
        for view in views[:2] if len(views) <= 2 else ():
            if view.is_plain:
                break
            if all(aligned(view, other) for other in views) and widened(view, sizes) == view:
                return view, self._aligned(node, inputs, view)
        if not all(view.is_ordinary for view in views):
            largest = max(views, key=lambda view: prod(size.count for size in view.sizes))
            largest = widened(largest, sizes)
            whole = self.whole_of(largest, node.inputs[inputs[0]])
            if not all(aligned(whole, other) for other in views):
                raise node.refuse(f"broadcasts {', '.join(map(str, views))}")
            return whole, self._aligned(node, inputs, whole)
        return None, {index: self.activation(node, index)[0] for index in inputs}

    def _aligned(self, node: OnnxNode, inputs: Sequence[int], view: View) -> dict[int, str]:
        """Tensors of inputs that can be aligned with a whole view, in its order."""
        fits = {index: aligned(view, self.view(node, index)) for index in inputs}
        return {
            index: self.copied(
                self.view(node, index), fit.factors, fit.shape, f"{node.inputs[index]}.planes"
            )
            for index, fit in fits.items()
            if fit is not None
        }

    def matching(self, node: OnnxNode, index: int, view: View) -> str:
        """Name of an activation in the order of a whole view, which it has the shape of."""
        other = self.view(node, index)
        fit = aligned(view, other)
        if fit is None or fit.shape != view.shape:
            raise node.refuse(f"reads {other}, expected {view}")
        return self.copied(other, fit.factors, fit.shape, f"{node.inputs[index]}.planes")

    @contextmanager
    def keeping(self, view: View | None) -> Iterator[None]:
        """Emitted nodes make views of the same axes as `view`, meanwhile."""
        before, self._like = self._like, view
        try:
            yield
        finally:
            self._like = before

    def _copy(self, node: Node, key: tuple[object, ...]) -> str:
        """Emit a node that copies, once."""
        if key not in self._copies:
            while node.output in self.shapes:
                node = replace(node, output=f"{node.output}'")
            self._add(node)
            self._copies[key] = node.output
        return self._copies[key]

    def emit(self, node: Node, *, like: View | None = None) -> None:
        """Append a node of the graph.

        Its output is (N, *shape); (N, C, L) where the last input read by `activation` was; or a
        view of the same axes as `like`.

        Raises:
            GraphError: It is not legal.
        """
        output, like = node.output, like or self._like
        if like is None:
            self._add(node)
            self.views[output] = canonical(output, self.shapes[output], self._rank)
            return
        if (
            not like.is_plain or like.rank == 3
        ):  # not the ONNX tensor of that name, element for element
            node = replace(node, output=f"{output}.planes")
        self._add(node)
        self.views[output] = like._replace(source=node.output, shape=self.shapes[node.output])

    def _add(self, node: Node) -> None:
        self.shapes[node.output] = check_node(node, self.tensors, self.shapes, set())
        if node.makes_nonnegative(self.nonnegative, self.tensors):
            self.nonnegative.add(node.output)
        self.zeros.add(node, self.tensors, self.shapes)
        self.nodes.append(node)

    def movable(self, node: OnnxNode) -> View:
        """The first input, for a reader that moves elements alone: a batch of 1 is no axis."""
        view = self.view(node)
        return view.without_batch() if self.single else view

    def set_view(self, node: OnnxNode, view: View, *, output: int = 0) -> None:
        """Make an output of a node a view."""
        if self.single:
            view = self.legal(node, lambda: view.without_batch().with_batch())
        self.views[node.outputs[output]] = view

    def alias(self, node: OnnxNode) -> None:
        """Make the output of a node that changes nothing another name for its input."""
        if node.inputs[0] in self.pending:
            self.pending[node.output] = self.pending[node.inputs[0]]
        else:
            self.set_view(node, self.view(node))

    def legal(self, node: OnnxNode, compute: Callable[[], Value]) -> Value:
        """What `compute` returns; its ValueError becomes a refusal of the node."""
        try:
            return compute()
        except ValueError as error:
            raise node.refuse(str(error)) from None


def canonical(name: str, shape: Shape, rank: int) -> View:
    """A tensor of the graph as the ONNX tensor that it is: with three axes (N, C, L)."""
    kept = (0, 2) if rank == 3 and len(shape) == 3 and shape[1] == 1 else None
    return View.of(name, shape, kept)
