"""The buffers of a plan's tensors: in which forms a tensor exists, and where it is made.

An operation reads a tensor in the type that its kernels take. The first reader of a type has it
converted.
"""

from __future__ import annotations

from bwn.ir.node import Node
from bwn.kernels import registry
from bwn.kernels.lazy import lazy
from bwn.plan import bit_steps, tensor_steps
from bwn.plan.bit_buffers import BitBuffer
from bwn.plan.buffers import Buffer, Type
from bwn.plan.homes import homes
from bwn.plan.state import PlanState


class TensorForms(PlanState):
    """A plan being built: its tensors."""

    @lazy
    def wanted_as_bits(self) -> frozenset[str]:
        """Names of the tensors of signs that some layer reads as bits, or that lead to one."""
        # GEMM kernels read planes: a plan for a certain one bitpacks nothing.
        return bit_steps.wanted_as_bits(self.graph) if self.only is None else frozenset()

    @lazy
    def homes(self) -> dict[str, tuple[str, int]]:
        """Where tensors are made in place: the Concat they are part of, and their channel there."""
        return homes(self.graph)

    def read(self, name: str, type: Type) -> Buffer:
        """The buffer of a tensor in an element type; converted once if it was made in another."""
        buffer = self.form(name, type)
        return buffer if buffer is not None else self._convert(name, type)

    def write(self, name: str, type: Type, *, like: Buffer | None = None) -> Buffer:
        """A new buffer for a tensor that a step is about to make.

        Args:
            name: Name of the tensor.
            type: Type of its elements.
            like: A buffer to share the row stride with.
        """
        if type == "f32" and name in self.homes:
            buffer = self._view(name)
            if like is not None:
                buffer.share_rows(like)
        else:
            buffer = self.buffer(name, type, self.shape(name), like=like)
        return self.set_form(name, buffer)

    def write_bits(self, name: str) -> BitBuffer:
        """As `write`, of bits."""
        return self.set_form(
            name, self.keep(BitBuffer.of(name, "b1", self.shape(name), self.batch))
        )

    def bits(self, name: str) -> BitBuffer:
        """As `read`, of bits."""
        buffer = self.read(name, "b1")
        assert isinstance(buffer, BitBuffer)
        return buffer

    def _convert(self, name: str, type: Type) -> Buffer:
        source = self.form(name)
        assert source is not None, f"'{name}' is read before it is made"
        if type == "b1":
            planes = self.read(name, "f32")
            packed = self.keep(BitBuffer.of(f"{name}:b1", "b1", self.shape(name), self.batch))
            bit_steps.pack(self, planes, packed)
            return self.set_form(name, packed)
        out = self.buffer(f"{name}:{type}", type, self.shape(name))
        if name in self._flattened:
            tensor_steps.flatten(self, self.read(self._flattened[name], type), out)
        elif isinstance(source, BitBuffer):
            bit_steps.unpack(self, source, out)
        else:
            out.share_rows(source)
            kernel = registry.FLOAT if type == "f32" else registry.SIGN
            tensor_steps.elementwise(self, kernel, source, out)
        return self.set_form(name, out)

    def same(self, node: Node, source: Buffer) -> None:
        """The output is the input, in the buffer that it is in."""
        self.set_form(node.output, source)
        if len(self.shape(node.output)) == 1 and not source.vectors:
            self._flattened[node.output] = self._flattened.get(node.input, node.input)

    def whole(self, name: str) -> Buffer:
        """The buffer of a Concat's output, of which its inputs are parts."""
        buffer = self.form(name)
        return buffer if buffer is not None else self.write(name, "f32")

    def _view(self, name: str) -> Buffer:
        home, channel = self.homes[name]
        while home in self.homes:  # the outermost: in a dense block each lies in the next
            home, offset = self.homes[home]
            channel += offset
        return self.view_of(self.whole(home), name, channel)

    def view_of(self, whole: Buffer, name: str, channel: int) -> Buffer:
        """A tensor's buffer that is some channels of another."""
        view = self.buffer(name, "f32", self.shape(name))
        view.parent, view.channel = whole, channel
        return view

    def __contains__(self, name: object) -> bool:
        """Whether a tensor exists already."""
        return isinstance(name, str) and self.form(name) is not None
