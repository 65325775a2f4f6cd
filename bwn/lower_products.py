"""Lowering of Conv and Dense: quantization, phases of a strided convolution, offsets, and the product itself.

A convolution of stride 1 reads its input's planes where they are: input k of position p lies at offset[k] + p. One of
stride s reads phases: planes that hold every s-th row and column, so that the same holds again.
"""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np

from bwn import lower_signs, lower_xnor
from bwn.bits_buffer import Bits
from bwn.errors import GraphError
from bwn.graph import Activations, Array, Conv, Dense, Graph, Sign
from bwn.kernels import multiply_signs as kernels
from bwn.kernels import registry
from bwn.kernels.registry import Element, Product
from bwn.lowering import Ends, Lowering, Step, strides_of
from bwn.memory import LANES, Buffer, RowClass, round_up
from bwn.shapes import depth, where

ELEMENTS: dict[Activations, Element] = {"float32": "f32", "int8": "i8", "binary": "s1"}
SPEED = 60_000
"""Multiply-accumulates a microsecond of a float convolution on one thread, roughly."""
"""The type that a node's activations are read in, as kernels name it."""


def lower_product(lower: Lowering, node: Conv | Dense) -> None:
    """Make the buffers and tasks of one product."""
    bits = lower.tensors[node.input]
    if isinstance(bits, Bits) and lower_signs.reads_bits(lower.graph, node, lower.shapes):
        lower_xnor.product(lower, node, bits)
        return
    source = prepared(lower, node)
    steps = 0
    if node.activations == "int8":
        source, steps = quantize(lower, node, source)
    if isinstance(node, Conv) and node.stride != (1, 1):
        source = phases(lower, node, source)
    elif isinstance(node, Conv):
        source.want_pads(node.pads)
    if isinstance(node, Conv) and compares(lower, node):
        multiply_signs(lower, node, source)
        return
    out = lower.output(node, "f32", like=source)
    multiply(lower, node, source, out, steps)


def prepared(lower: Lowering, node: Conv | Dense) -> Buffer:
    """The node's input in the type that it is read in."""
    if node.activations == "binary":
        source = lower.tensors[node.input]
        if isinstance(source, Bits):
            return lower_signs.unpack(lower, node.input, "s1")
        assert source.type == "s1", "the checker lets only signs through"
        return source
    return lower_signs.float_tensor(lower, node.input)


def quantize(lower: Lowering, node: Conv | Dense, source: Buffer) -> tuple[Buffer, int]:
    """8-bit integers of a float tensor, and the address of their quantization steps."""
    out = lower.buffer(f"{node.output}:i8", "i8", lower.shapes[node.input], like=source)
    fixed = node.step
    count = round_up(lower.batch, 16)
    steps = lower.constant(("steps", node.output), lambda: np.full(count, fixed or 1.0, np.float32))
    if fixed is None:
        kernel = registry.STEPS_LANES if source.vectors else registry.STEPS
        lower.map(kernel, source, source, units=lower.batch, steps=steps)
    lower.map(registry.QUANTIZE, source, out, steps=steps)
    return out, steps


def phases_read(node: Conv) -> tuple[list[int], list[int]]:
    """The phases of rows and of columns (coordinates modulo stride) that some tap reads."""
    rows, columns = (
        sorted({tap * node.dilation[axis] % node.stride[axis] for tap in range(node.kernel[axis])}) for axis in (0, 1)
    )
    return rows, columns


def phases(lower: Lowering, node: Conv, source: Buffer) -> Buffer:
    """Planes of every stride-th row and column of the padded input, phase after phase."""
    read = list(product(*phases_read(node)))
    (sy, sx), (top, left, bottom, right) = node.stride, node.pads
    height, width = source.height + top + bottom, source.width + left + right
    shape = (len(read) * source.channels, -(-height // sy), -(-width // sx))
    out = lower.buffer(f"{node.output}:phases", source.type, shape)
    lower.clear(out)
    for number, phase in enumerate(read):
        copy_phase(lower, source, out, node, number, phase)
    return out


def copy_phase(lower: Lowering, source: Buffer, out: Buffer, node: Conv, number: int, phase: tuple[int, int]) -> None:
    """Copy phase `number`: rows and columns whose padded coordinate is `phase` modulo stride."""
    # Smallest source coordinate y >= 0 with (y + pad) % stride == phase; it lands in row (y + pad) // stride.
    y0, x0 = ((phase[axis] - node.pads[axis]) % node.stride[axis] for axis in (0, 1))
    sy, sx = node.stride
    rows, columns = -(-(source.height - y0) // sy), -(-(source.width - x0) // sx)
    if rows <= 0 or columns <= 0:
        return
    to_y, to_x = (y0 + node.pads[0]) // sy, (x0 + node.pads[1]) // sx

    def ends() -> Ends:
        x = lower.start(source) + (y0 * source.row + x0) * source.itemsize
        target = number * source.channels * out.plane + to_y * out.row + to_x
        strides = (source.image, source.plane, source.row * sy, sx)
        return (x, strides), (lower.start(out) + target * source.itemsize, strides_of(out))

    lower.copy((source, out), (lower.batch, source.channels, rows, columns), ends)


def offsets(node: Conv | Dense, source: Buffer, channels: int, packed: bool) -> Array:
    """Where input k of position 0 lies, from position 0 of the group's first channel: (K,) int64.

    Packed rows go tap by tap, channels innermost; float32 rows as stored, channel by channel.
    """
    if isinstance(node, Dense):
        return np.arange(channels, dtype=np.int64) * source.plane
    (kh, kw), (dy, dx), (sy, sx) = node.kernel, node.dilation, node.stride
    y, x = np.arange(kh)[:, None] * dy, np.arange(kw)[None, :] * dx  # (KH, 1), (1, KW)
    if node.stride == (1, 1):
        taps = (y - node.pads[0]) * source.row + (x - node.pads[1])
    else:
        rows, columns = phases_read(node)
        number = np.searchsorted(rows, y % sy) * len(columns) + np.searchsorted(columns, x % sx)
        block = source.image // (len(rows) * len(columns))  # the planes of one phase
        taps = number * block + (y // sy) * source.row + x // sx
    planes = np.arange(channels) * source.plane
    both = taps[:, :, None] + planes if packed else planes[:, None, None] + taps
    return both.astype(np.int64).ravel()


def choose(graph: Graph, node: Conv | Dense, count: int, positions: int) -> tuple[Product, str]:
    """The kernel that sums `count` products at each of `positions`, and why."""
    selected = registry.select(ELEMENTS[node.activations], "b1" if graph.packed(node) else "f32", count, positions)
    if selected is None:
        raise GraphError(f"{where(node)}: sums {count} products, too many for {node.activations} activations")
    return selected


def splits(kernel: Product, units: int, outputs: int, threads: int) -> int:
    """How many times to divide the output channels so that the threads get even shares of few blocks."""
    if kernel.lanes == 0 or units >= 8 * threads or units % threads == 0 or outputs % threads:
        return 1
    return threads


def multiply(lower: Lowering, node: Conv | Dense, source: Buffer, out: Buffer, steps: int) -> None:
    """The product step itself."""
    index, graph = lower.node, lower.graph
    weight = graph.tensors[node.weight]
    groups = node.groups if isinstance(node, Conv) else 1
    count = depth(node, lower.shapes[node.input])
    channels = lower.shapes[node.input][0] // groups
    outputs = out.channels // groups
    valid = out.height * out.width
    kernel, why = choose(graph, node, count, valid)
    macs = out.images * valid * out.channels * count
    parts = lower.threads if lower.worth_splitting(macs / kernel.speed) else 1
    lower.scratch = max(lower.scratch, round_up(kernel.scratch(outputs, count), 64))

    def make() -> Step:
        blocks = -(-out.positions // kernel.lanes) if kernel.lanes else 0
        share = splits(kernel, blocks * groups * out.images, outputs, parts) if groups == 1 else 1
        units = blocks * groups * share * out.images if kernel.lanes else out.channels
        words = lower.constant(node.weight, lambda: weight.reshape(len(weight), -1))
        block = kernel.block(
            x=lower.start(source), x_image=source.image,
            x_group=channels * source.plane if share == 1 else 0,
            words=words, row_words=prod(weight.shape[1:]), depth=count,
            offsets=lower.constant(("offsets", index), lambda: offsets(node, source, channels, graph.packed(node))),
            images=out.images, groups=groups * share, outputs=outputs // share, positions=out.positions,
            out=lower.address(out), out_image=out.image, out_plane=out.plane, out_lead=out.lead, mask=lower.mask(out),
            scale=lower.vector(node.scale, out.channels, 1.0), bias=lower.vector(node.bias, out.channels, 0.0),
            bounds=lower.bounds(node.low, node.high), steps=steps or lower.vector(None, out.images, 1.0),
            steps_per_lane=int(out.vectors) if steps else 0,
            scratch=lower.scratch_address, scratch_part=lower.scratch,
        )  # fmt: skip
        return Step(kernel, block, units, max(1, min(parts, units)), index, why)

    lower.task((source, out), make)


def compares(lower: Lowering, node: Conv) -> bool:
    """Whether a float convolution is read as signs alone, and would be summed in the order that `multiply_signs` has.

    No maximum may stand between as with integer sums: these can be NaN, which a maximum keeps and a sign does not.
    """
    readers = [reader for reader in lower.graph.nodes if node.output in reader.inputs]
    if not lower.fuse or lower.graph.packed(node) or node.groups > 1 or node.output == lower.graph.topology.output:
        return False
    positions = prod(lower.shapes[node.output][1:])
    kernel, _ = choose(lower.graph, node, depth(node, lower.shapes[node.input]), positions)
    signs = len(readers) == 1 and isinstance(readers[0], Sign) and readers[0].output in lower.wanted
    return signs and kernel.name == "f32_f32_f32_planes_multiply"


def multiply_signs(lower: Lowering, node: Conv, source: Buffer) -> None:
    """A float convolution straight to bits."""
    out, index, kernel = lower_signs.bits_buffer(lower, node.output), lower.node, registry.FLOAT_SIGNS
    channels, weight = lower.shapes[node.input][0], lower.graph.tensors[node.weight]
    count = depth(node, lower.shapes[node.input])
    RowClass.join(source, out)  # outputs are counted in the rows of the planes that are read
    lower.scratch = max(lower.scratch, kernels.scratch_bytes())

    def make() -> Step:
        positions = (out.height - 1) * source.row + out.width
        units = -(-positions // (kernels.VECTORS * LANES)) * out.images
        macs = out.images * out.height * out.width * out.channels * count
        block = kernel.block(
            x=lower.start(source), x_image=source.image, depth=count, positions=positions, plane_row=source.row,
            words=lower.constant(node.weight, lambda: weight.reshape(len(weight), -1)), row_words=count,
            offsets=lower.constant(("offsets", index), lambda: offsets(node, source, channels, False)),
            images=out.images, outputs=out.channels, height=out.height, width=out.width,
            scale=lower.vector(node.scale, out.channels, 1.0), bias=lower.vector(node.bias, out.channels, 0.0),
            bounds=lower.bounds(node.low, node.high), **lower_signs.written(lower, out),
            scratch=lower.scratch_address, scratch_part=lower.scratch,
        )  # fmt: skip
        parts = lower.threads if lower.worth_splitting(macs / SPEED) else 1
        return Step(kernel, block, units, max(1, min(parts, units)), index, "float sums, written as signs")

    lower.task((source, out), make)
