"""Steps over planes that are not products: elementwise, pooling, copies."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING

from bwn.ir.node import Shape
from bwn.kernels import registry
from bwn.kernels.registry import Kernel
from bwn.kernels.simd.widths import NARROW
from bwn.plan.buffers import Buffer
from bwn.plan.state import PlanState, activation_code, elementwise_time, slow_note
from bwn.plan.step import Call

if TYPE_CHECKING:
    from bwn.ops.pool import Pool

CLEAR_CHUNK = 1 << 16
Strides = tuple[int, ...]
Ends = tuple[tuple[int, Strides], tuple[int, Strides]]
"""Address and strides in elements of a copy's source, and of its target."""


def elementwise(
    plan: PlanState,
    kernel: Kernel,
    source: Buffer,
    out: Buffer,
    *,
    units: Callable[[], int] | None = None,
    scale: str | None = None,
    bias: str | None = None,
    bounds: tuple[float | None, float | None] | None = None,
    activation: str | None = None,
    scales: Callable[[], int] = int,
    why: str = "",
) -> None:
    """Add an elementwise step.

    Args:
        plan: The plan being built.
        kernel: What it computes.
        source: What it reads.
        out: What it makes.
        units: Work items; default one a channel of each image.
        scale: Stored vector, one number a channel; default 1.
        bias: Likewise; default 0.
        bounds: Clamp bounds of the result.
        activation: Name of an activation function.
        scales: Address of quantization scales.
        why: What the step does besides.
    """

    def call() -> Call:
        channels, positions = source.channels, source.positions
        params = {
            **plan.planes("x", source),
            **plan.planes("out", out),
            "channels": channels,
            "positions": positions,
            "mask": plan.mask(source),
            "scale": plan.vector(scale, channels, 1.0),
            "bias": plan.vector(bias, channels, 0.0),
            "bounds": plan.bounds(bounds),
            "activation": activation_code(activation),
            "x_scales": scales(),
            "scale_per_position": int(source.vectors),
        }
        count = source.images * channels if units is None else units()
        work = source.images * channels * positions
        return Call(kernel, params, count, elementwise_time(work), why)

    plan.step((source, out), call)


def pool(plan: PlanState, node: Pool, kernel: Kernel, source: Buffer, out: Buffer) -> None:
    """Add a maximum or average over windows of planes."""
    window = node.window

    def call() -> Call:
        params = {
            **plan.planes("x", source),
            **plan.planes("out", out),
            "x_row": source.row,
            "height": source.height,
            "width": source.width,
            "out_row": out.row,
            "out_height": out.height,
            "out_width": out.width,
            "channels": source.channels,
            "kernel_y": window.kernel[0],
            "kernel_x": window.kernel[1],
            "stride_y": window.stride[0],
            "stride_x": window.stride[1],
            "top": window.pads[0],
            "left": window.pads[1],
            "window": window.taps if node.count_pads else 0,
        }
        units = source.images * source.channels
        work = units * out.height * out.width * window.taps
        one_by_one = window.stride[1] > 2 or out.width < NARROW
        if kernel is registry.AVERAGE and out.height == out.width == 1:
            one_by_one = False  # the window's columns are in the lanes
        why = slow_note(work) if one_by_one else ""
        return Call(kernel, params, units, elementwise_time(work), why)

    plan.step((source, out), call)


def copy(
    plan: PlanState,
    buffers: tuple[Buffer, ...],
    ends: Callable[[], tuple[tuple[int, ...], Ends]],
    *,
    external: str | None = None,
) -> None:
    """Add a four-axis strided copy between buffers, or between one and the caller's array.

    Args:
        plan: The plan being built.
        buffers: The buffers that it reads and writes.
        ends: Gives the lengths of the axes, and address and strides of both ends.
        external: The parameter that holds the address of the caller's array.
    """
    kernel = registry.COPY_F32 if buffers[0].type == "f32" else registry.COPY_I8

    def call() -> Call:
        lengths, ((x, theirs), (out, ours)) = ends()
        params = {"x": x, "out": out}
        params |= {f"x{axis}": stride for axis, stride in enumerate(theirs)}
        params |= {f"out{axis}": stride for axis, stride in enumerate(ours)}
        params |= {f"n{axis}": length for axis, length in enumerate(lengths) if axis}
        slow = theirs[3] > 2 or ours[3] != 1 or lengths[3] < NARROW
        work = prod(lengths)
        why = slow_note(work) if slow else ""
        return Call(kernel, params, lengths[0] * lengths[1], elementwise_time(work), why)

    plan.step(buffers, call, external=external)


def clear(plan: PlanState, buffer: Buffer) -> None:
    """Add a step that fills a buffer with padding, for a copy that leaves that alone."""

    def call() -> Call:
        size = buffer.bytes
        params = {
            "out": plan.address(buffer),
            "chunk": CLEAR_CHUNK,
            "size": size,
            "value": buffer.fill,
        }
        return Call(registry.CLEAR, params, -(-size // CLEAR_CHUNK), elementwise_time(size // 4))

    plan.step((buffer,), call)


def flatten(plan: PlanState, source: Buffer, out: Buffer) -> None:
    """Copy planes to vectors: the images become the columns."""

    def ends() -> tuple[tuple[int, ...], Ends]:
        height, width = source.height, source.width
        strides = (1, height * width * out.plane, width * out.plane, out.plane)
        lengths = (plan.batch, source.channels, height, width)
        return lengths, (
            (plan.position_0(source), source.strides),
            (plan.position_0(out), strides),
        )

    clear(plan, out)
    copy(plan, (source, out), ends)


def load_input(plan: PlanState) -> None:
    """Copy the caller's array, (N, C, H, W) or (N, K), into a buffer."""
    name = plan.graph.topology.input
    out = plan.set_form(name, plan.buffer(name, "f32", plan.shape(name)))

    def ends() -> tuple[tuple[int, ...], Ends]:
        lengths, strides = callers_layout(plan.batch, plan.shape(name))
        return lengths, ((0, strides), (plan.position_0(out), out.strides))

    clear(plan, out)
    copy(plan, (out,), ends, external="x")


def store_output(plan: PlanState, source: Buffer) -> None:
    """Copy the last tensor into the caller's array."""
    name = plan.graph.topology.output

    def ends() -> tuple[tuple[int, ...], Ends]:
        lengths, strides = callers_layout(plan.batch, plan.shape(name))
        return lengths, ((plan.position_0(source), source.strides), (0, strides))

    copy(plan, (source,), ends, external="out")


def callers_layout(batch: int, shape: Shape) -> tuple[tuple[int, ...], Strides]:
    """Lengths and strides of the axes of the caller's array, as a copy goes over them."""
    if len(shape) == 3:
        return (batch, *shape), (prod(shape), shape[1] * shape[2], shape[2], 1)
    return (1, shape[0], 1, batch), (0, 1, 0, shape[0])  # the batch is a buffer's innermost axis
