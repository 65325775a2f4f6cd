"""The plan builder: the calls that operations lower themselves with.

`read` and `write` give the buffers of tensors; the rest add steps. An operation never sees whether
its neighbors keep a tensor as floats, 8-bit integers, signs in bytes or bits.

Modules of steps that few networks have are imported by the call that adds them: a program starts
faster without the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bwn.ir.node import Node
from bwn.kernels import registry
from bwn.ops.weighted import Weighted
from bwn.plan import (
    bit_steps,
    depthwise_steps,
    gemm_steps,
    sign_steps,
    tensor_steps,
)
from bwn.plan.bit_buffers import BitBuffer
from bwn.plan.buffers import Buffer
from bwn.plan.fusion import Epilogue
from bwn.plan.gemm_layer import Gemm, quantization, quantized_buffer, rounds_before
from bwn.plan.tensor_forms import TensorForms

if TYPE_CHECKING:
    from bwn.ops.concat import Concat
    from bwn.ops.flatten import Flatten
    from bwn.ops.normalize import LocalResponse, Normalize
    from bwn.ops.pool import Pool
    from bwn.ops.quantize import Quantize
    from bwn.ops.rearrange import Rearrange
    from bwn.ops.reduce import Reduce
    from bwn.ops.resize import Resize
    from bwn.ops.sign import Sign
    from bwn.ops.unary import Unary
    from bwn.plan.loop_axes import Indices


class PlanBuilder(TensorForms):
    """A plan being built, as operations see it."""

    def build(self) -> None:
        """Make all buffers and steps."""
        tensor_steps.load_input(self)
        for index, node in enumerate(self.graph.nodes):
            self.at(index)
            if node.output not in self.absorbed:
                node.lower(self)
        self.at(len(self.graph.nodes))
        tensor_steps.store_output(self, self.read(self.graph.topology.output, "f32"))

    # Elementwise

    def affine(
        self,
        node: Node,
        *,
        scale: str | None = None,
        bias: str | None = None,
        low: float | None = None,
        high: float | None = None,
        activation: str | None = None,
    ) -> None:
        """y = activation(clamp(scale[c] * x + bias[c], low, high))."""
        source = self.read(node.input, "f32")
        out = self.write(node.output, "f32", like=source)
        tensor_steps.elementwise(
            self, registry.AFFINE, source, out,
            scale=scale, bias=bias, bounds=(low, high), activation=activation,
        )  # fmt: skip

    def binary(self, node: Node, function: str, operands: tuple[str, str]) -> None:
        """A function of two tensors, of which one may be stored, with the bounds that follow it."""
        from bwn.plan import binary_steps

        epilogue = self._follow(Epilogue(node.output, gemm=False))
        x, other = (self.read(name, "f32") if name in node.inputs else name for name in operands)
        out = self.write(epilogue.output, "f32")
        binary_steps.binary(self, registry.BINARY[function], (x, other), out, epilogue)

    def fake_quantize(self, node: Quantize) -> None:
        """Elements rounded to a few numbers."""
        from bwn.plan import quantize_steps

        source = self.read(node.input, "f32")
        out = self.write(node.output, "f32", like=source)
        quantize_steps.fake_quantize(self, node, source, out)

    def unary(self, node: Unary) -> None:
        """A function of each element, with the bounds that follow it."""
        from bwn.plan import function_steps

        epilogue = self._follow(Epilogue(node.output, gemm=False))
        source = self.read(node.input, "f32")
        out = self.write(epilogue.output, "f32", like=source)
        function_steps.unary(self, node, source, out, epilogue)

    def softmax(self, node: Node, *, log: bool = False) -> None:
        """Softmax over the channels at each position, or its logarithm."""
        from bwn.plan import channel_steps

        source, out = self._alike(node)
        channel_steps.channelwise(self, registry.SOFTMAX, source, out, log=log)

    def normalize(self, node: Normalize) -> None:
        """Normalization of the channels at each position, or of groups of channels."""
        from bwn.plan import channel_steps

        source, out = self._alike(node)
        groups = node.groups if node.over == "group" else 0
        channel_steps.channelwise(
            self, registry.GROUP_NORM if groups else registry.LAYER_NORM, source, out,
            coefficients=(node.epsilon,), scale=node.scale, bias=node.bias, groups=groups,
        )  # fmt: skip

    def local_response(self, node: LocalResponse) -> None:
        """Normalization by neighboring channels."""
        from bwn.plan import channel_steps

        source, out = self._alike(node)
        coefficients = (node.k, node.alpha / node.size, -node.beta)
        channel_steps.channelwise(
            self, registry.LOCAL_RESPONSE, source, out,
            coefficients=coefficients, neighbors=node.neighbors,
        )  # fmt: skip

    def reduce(self, node: Reduce) -> None:
        """A reduction over some axes."""
        from bwn.plan import channel_steps

        source = self.read(node.input, "f32")
        keeps_columns = source.vectors or 2 not in node.axes
        out = self.write(node.output, "f32", like=source if keeps_columns else None)
        channel_steps.reduce(self, node, source, out)

    def matmul(self, node: Node) -> None:
        """A product of two tensors, a matrix for each channel."""
        from bwn.plan import matmul_steps

        x, other = (self.read(name, "f32") for name in node.inputs)
        matmul_steps.matmul(self, x, other, self.write(node.output, "f32"))

    def _alike(self, node: Node) -> tuple[Buffer, Buffer]:
        """Buffers of a node's input and output that share the stride of rows."""
        source = self.read(node.input, "f32")
        return source, self.write(node.output, "f32", like=source)

    def sign(self, node: Sign) -> None:
        """Signs: bits where a layer reads them, else bytes."""
        source = self.form(node.input)
        if isinstance(source, BitBuffer):  # signs already, or the layer before has compared
            self.same(node, source)
        elif node.output in self.wanted_as_bits:
            out = self.write_bits(node.output)
            bit_steps.pack(self, self.read(node.input, "f32"), out)
        else:
            planes = self.read(node.input, "f32")
            signs = self.write(node.output, "s1", like=planes)
            tensor_steps.elementwise(self, registry.SIGN, planes, signs)

    # Windows and shapes

    def pool(self, node: Pool) -> None:
        """Maximum or average over windows; a maximum of signs stays signs."""
        source = self.form(node.input)
        if isinstance(source, BitBuffer) and node.moves_signs:
            bit_steps.pool_bits(self, node, source, self.write_bits(node.output))
            return
        if source is None or node.kind == "average":
            source = self.read(node.input, "f32")
        maximum = registry.MAX_F32 if source.type == "f32" else registry.MAX_I8
        kernel = registry.AVERAGE if node.kind == "average" else maximum
        tensor_steps.pool(self, node, kernel, source, self.write(node.output, source.type))

    def flatten(self, node: Flatten) -> None:
        """Planes to vectors."""
        source = self.form(node.input)
        assert source is not None
        if source.vectors or isinstance(source, BitBuffer):
            self.same(node, source)
        else:
            # Not `write`: a flattening clears its buffer, which must not be a part of another.
            out = self.buffer(node.output, source.type, self.shape(node.output))
            tensor_steps.flatten(self, source, self.set_form(node.output, out))

    def rearrange(self, node: Rearrange) -> None:
        """Rows moved to where they belong; a range of channels is a view."""
        from bwn.plan import loop_axes, rearrange_steps

        shapes = self.shape(node.input), node.shape
        channel = loop_axes.channel_range(node.sizes, node.strides, node.offset, *shapes)
        source = self.read(node.input, "f32")
        if shapes[0] == node.shape and channel == 0:
            self.same(node, source)
        elif channel is not None:
            self.set_form(node.output, self.view_of(source, node.output, channel))
        else:
            # Not `write`: what is cleared must not be a part of another.
            axes = loop_axes.loop_axes(node.sizes, node.strides)
            planes = loop_axes.plane_axes(axes, node.offset, *shapes)
            like = source if planes else None
            out = self.buffer(node.output, "f32", node.shape, like=like)
            self.set_form(node.output, out)
            parts = planes or loop_axes.split_axes(axes, *shapes)
            rows = loop_axes.rows_of(parts, node.offset, planes=bool(planes))
            tensor_steps.clear(self, out)
            rearrange_steps.copy_rows(self, source, out, shapes, rows)

    def gather(self, node: Node, lists: Sequence[Indices], value: float) -> None:
        """Elements picked by an index list for each axis; indices below 0 are `value`."""
        from bwn.plan import loop_axes, rearrange_steps

        shapes = self.shape(node.input), self.shape(node.output)
        source = self.read(node.input, "f32")
        out = self.set_form(node.output, self.buffer(node.output, "f32", shapes[1]))
        tensor_steps.clear(self, out)
        if value and any((indices < 0).any() for indices in lists):
            rearrange_steps.fill(self, out, shapes[1], value)
        for rows in loop_axes.gathered(lists, shapes[0]):
            if len(rows.x):
                rearrange_steps.copy_rows(self, source, out, shapes, rows)

    def interpolate(self, node: Resize) -> None:
        """Linear interpolation."""
        from bwn.plan import resize_steps

        shape = self.shape(node.input)
        source = self.read(node.input, "f32")
        out = self.set_form(node.output, self.buffer(node.output, "f32", self.shape(node.output)))
        tensor_steps.clear(self, out)
        resize_steps.resize(self, source, out, node.grids(shape))

    def join(self, node: Concat) -> None:
        """Channels one after another: parts that were made as views of the whole are in place."""
        from bwn.plan import rearrange_steps

        if not node.joins_channels:
            whole = self.buffer(node.output, "f32", self.shape(node.output))
            tensor_steps.clear(self, self.set_form(node.output, whole))
            parts = {name: self.read(name, "f32") for name in node.inputs}
            rearrange_steps.join(self, parts, node, whole)
            return
        whole, channel = self.whole(node.output), 0
        for name in node.inputs:
            part = self.read(name, "f32")
            if not part.lies_in(whole, channel):
                view = self.view_of(whole, name, channel)
                view.share_rows(part)
                tensor_steps.elementwise(self, registry.AFFINE, part, view, why="copied")
            channel += self.shape(name)[0]

    # Layers with weights

    def gemm(self, node: Weighted) -> None:
        """The kernel that is predicted to be fastest, and its epilogue."""
        self.size.add_layer(node.depth(self.shape(node.input)), self.shape(node.output)[0])
        if self._reads_bits(node):
            self._gemm_of_bits(node)
            return
        source = self._gemm_input(node)
        in_place = depthwise_steps.reads_in_place(self, node)
        source = gemm_steps.padded(self, node, source, in_place=in_place)
        becomes_signs = sign_steps.becomes_signs(self.graph, node, self.wanted_as_bits)
        if in_place:
            depthwise_steps.multiply_strided(self._with_epilogue(node, source))
        elif becomes_signs and self.fuse:
            out = self.write_bits(node.output)
            sign_steps.multiply_to_bits(Gemm(self, node, source, out, Epilogue(node.output)))
        else:
            gemm = self._with_epilogue(node, source, like=source)
            gemm_steps.multiply(gemm, "multiply" if becomes_signs else None)

    def _reads_bits(self, node: Weighted) -> bool:
        binary = node.activations == "binary" and self.only is None
        return binary and bit_steps.reads_bits(self.graph, node)

    def _gemm_of_bits(self, node: Weighted) -> None:
        from bwn.plan import xnor_steps

        source = self.bits(node.input)
        if node.rank == 3:
            source.reserve_padding(node.window(self.shape(node.input)).pads)
        sign = bit_steps.sign_after(self.graph, node) if self.fuse else None
        # Signs in planes that nobody reads as bits are made of sums faster than of bits.
        if sign is not None and (sign in self.wanted_as_bits or node.rank == 1):
            gemm = Gemm(self, node, source, self.write_bits(node.output), Epilogue(node.output))
        else:
            gemm = self._with_epilogue(node, source)
        xnor_steps.multiply_bits(gemm)

    def _gemm_input(self, node: Weighted) -> Buffer:
        """The layer's input in the type that it is read in."""
        if node.activations == "binary":
            return self.read(node.input, "s1")
        if not node.is_quantized:
            return self.read(node.input, "f32")
        key = quantization(node)
        if key not in self._quantized:
            self._quantized[key] = gemm_steps.quantize(self, node, self.read(node.input, "f32"))
        return self._quantized[key]

    def _with_epilogue(self, node: Weighted, source: Buffer, like: Buffer | None = None) -> Gemm:
        """The layer with what follows it, and the planes that it makes."""
        epilogue = self._follow(Epilogue(node.output))
        reader = self.consumer(epilogue.output)
        if isinstance(reader, Weighted) and rounds_before(reader):
            epilogue = replace(epilogue, quantized=reader)
        added = None if epilogue.added is None else self.read(epilogue.added, "f32")
        if epilogue.quantized is None:
            out = self.write(epilogue.output, "f32", like=like)
        else:
            out = quantized_buffer(self, epilogue.quantized, like)
            self._quantized[quantization(epilogue.quantized)] = out
        if added is not None:
            out.share_rows(added)
        return Gemm(self, node, source, out, epilogue, added)

    def _follow(self, epilogue: Epilogue) -> Epilogue:
        """The epilogue with every node that can join it."""
        while (node := self.consumer(epilogue.output)) is not None:
            longer = node.fuse(epilogue, self)
            if longer is None:
                break
            self.absorbed.add(node.output)
            epilogue = longer
        return epilogue
