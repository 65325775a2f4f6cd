"""Lowering: each node of a graph becomes steps over buffers."""

from __future__ import annotations

from math import prod

from bwn.ir.graph import (
    Add,
    Affine,
    AnyNode,
    Clamp,
    Conv,
    Dense,
    Flatten,
    Pool,
    Shape,
    Sign,
    Softmax,
)
from bwn.kernels import registry
from bwn.kernels.simd.widths import NARROW
from bwn.plan import bit_steps
from bwn.plan.bit_buffers import Bits
from bwn.plan.buffers import RowClass
from bwn.plan.builder import Lowering, Step, slowly, strides_of
from bwn.plan.fusion import clamped
from bwn.plan.gemm_steps import lower_product


def lower_graph(lower: Lowering) -> None:
    """Make all buffers and tasks."""
    lower.wanted = bit_steps.wanted(lower.graph)
    load_input(lower)
    for node in lower.graph.nodes:
        lower.node += 1
        if node.output not in lower.absorbed:
            lower_node(lower, node)
    lower.node += 1
    store_output(lower)


def lower_node(lower: Lowering, node: AnyNode) -> None:
    """Make the buffers and tasks of one node."""
    if isinstance(node, (Conv, Dense)):
        lower_product(lower, node)
    elif isinstance(node, Pool):
        pool(lower, node)
    elif isinstance(node, Flatten):
        flatten(lower, node)
    else:
        elementwise(lower, node)


def elementwise(lower: Lowering, node: Affine | Clamp | Sign | Add | Softmax) -> None:
    """Nodes whose output has the shape of their input."""
    if isinstance(node, Sign) and (
        node.output in lower.wanted or isinstance(lower.tensors[node.input], Bits)
    ):
        bit_steps.sign(lower, node)
        return
    source = bit_steps.float_tensor(lower, node.input)
    if isinstance(node, Add):
        end, other = clamped(lower, node.output), bit_steps.float_tensor(lower, node.other)
        RowClass.join(source, other)
        out = lower.output(end.output, "f32", like=source)
        lower.map(
            registry.ADD, source, out, other=other, low=end.low, high=end.high, why=end.reason()
        )
        return
    out = lower.output(node.output, "s1" if isinstance(node, Sign) else "f32", like=source)
    if isinstance(node, Sign):
        lower.map(registry.SIGN, source, out)
    elif isinstance(node, Affine):
        lower.map(registry.AFFINE, source, out, scale=node.scale, bias=node.bias)
    elif isinstance(node, Clamp):
        lower.map(registry.AFFINE, source, out, low=node.low, high=node.high)
    else:
        lower.map(registry.SOFTMAX, source, out, units=lower.batch)


def callers_layout(batch: int, shape: Shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Lengths and strides of the axes of the caller's array, as a copy from or to a buffer goes over them."""
    if len(shape) == 3:
        return (batch, *shape), (prod(shape), shape[1] * shape[2], shape[2], 1)
    return (1, shape[0], 1, batch), (
        0,
        1,
        0,
        shape[0],
    )  # vectors: the batch is the innermost axis of the buffer


def load_input(lower: Lowering) -> None:
    """Copy the caller's array, (N, C, H, W) or (N, K), into a buffer."""
    name = lower.graph.topology.input
    shape = lower.shapes[name]
    out = lower.tensors[name] = lower.buffer(name, "f32", shape)
    lengths, strides = callers_layout(lower.batch, shape)
    lower.clear(out)
    lower.copy(
        (out,), lengths, lambda: ((0, strides), (lower.start(out), strides_of(out))), external="x"
    )


def store_output(lower: Lowering) -> None:
    """Copy the last tensor into the caller's array."""
    name = lower.graph.topology.output
    source = bit_steps.float_tensor(lower, name)
    lengths, strides = callers_layout(lower.batch, lower.shapes[name])
    lower.copy(
        (source,),
        lengths,
        lambda: ((lower.start(source), strides_of(source)), (0, strides)),
        external="out",
    )


def flatten(lower: Lowering, node: Flatten) -> None:
    """Planes to vectors: the images become the columns."""
    source = lower.tensors[node.input]
    if source.vectors:
        lower.tensors[node.output] = source
        return
    if isinstance(source, Bits):
        bit_steps.same(lower, node, source)
        return
    bit_steps.flat(lower, source, lower.output(node.output, source.type))


def pool(lower: Lowering, node: Pool) -> None:
    """Windows over planes; a maximum of signs stays a sign."""
    source = (
        lower.tensors[node.input]
        if node.kind == "max"
        else bit_steps.float_tensor(lower, node.input)
    )
    if isinstance(source, Bits):
        bit_steps.pool(lower, node, source)
        return
    out = lower.output(node.output, source.type)
    index = lower.node
    if node.kind == "average":
        kernel = registry.AVERAGE
    else:
        kernel = registry.MAX_F32 if source.type == "f32" else registry.MAX_I8

    def make() -> Step:
        units = source.images * source.channels
        block = kernel.block(
            x=lower.address(source), x_image=source.image, x_plane=source.plane, x_lead=source.lead,
            x_row=source.row, height=source.height, width=source.width,
            out=lower.address(out), out_image=out.image, out_plane=out.plane, out_lead=out.lead,
            out_row=out.row, out_height=out.height, out_width=out.width,
            channels=source.channels, kernel_y=node.kernel[0], kernel_x=node.kernel[1],
            stride_y=node.stride[0], stride_x=node.stride[1], top=node.pads[0], left=node.pads[1],
            window=prod(node.kernel) if node.count_pads else 0,
        )  # fmt: skip
        work = units * out.height * out.width * prod(node.kernel)
        why = slowly(work) if node.stride[1] > 2 or out.width < NARROW else ""
        return Step(kernel, block, units, lower.parts(units, work), index, why)

    lower.task((source, out), make)
