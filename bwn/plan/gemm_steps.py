"""Lowering of Conv and Dense: quantization, phases of a strided convolution, offsets, and the product itself.

A convolution of stride 1 reads its input's planes where they are: input k of position p lies at offset[k] + p. One of
stride s reads phases: planes that hold every s-th row and column, so that the same holds again.
"""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np

from bwn.errors import GraphError
from bwn.ir.graph import QUANT_RANGES, Array, Conv, Dense
from bwn.ir.shapes import where
from bwn.kernels import registry
from bwn.kernels.registry import GemmSpec, IndirectGemm, LutPermuteGemm
from bwn.plan import bit_steps, sign_steps, xnor_steps
from bwn.plan.bit_buffers import Bits
from bwn.plan.buffers import Buffer
from bwn.plan.builder import Ends, Lowering, Step, strides_of
from bwn.plan.gemm_job import Job, eight_bits, ended, steps_of, taps
from bwn.plan.permute_steps import permute_block, permute_scratch


def lower_product(lower: Lowering, node: Conv | Dense) -> None:
    """Make the buffers and tasks of one product."""
    bits = lower.tensors.get(node.input)  # none where the step before has rounded it
    if isinstance(bits, Bits) and bit_steps.reads_bits(lower.graph, node, lower.shapes):
        xnor_steps.product(lower, node, bits)
        return
    source = lower.rounded[node.output] if node.output in lower.rounded else prepared(lower, node)
    steps = steps_of(lower, node) if node.is_quantized else 0
    if isinstance(node, Conv) and node.stride != (1, 1):
        source = phases(lower, node, source)
    elif isinstance(node, Conv):
        source.want_pads(node.pads)
    way = None
    if isinstance(node, Conv) and sign_steps.becomes_signs(lower, node):
        if lower.fuse:
            sign_steps.product(lower, node, source, offsets)
            return
        way = "multiply"
    end, added, out = ended(lower, node, source)
    multiply(Job(lower, node, source, out, steps, lower.node, end, added), way)


def prepared(lower: Lowering, node: Conv | Dense) -> Buffer:
    """The node's input in the type that it is read in."""
    if node.activations == "binary":
        source = lower.tensors[node.input]
        if isinstance(source, Bits):
            return bit_steps.unpack(lower, node.input, "s1")
        assert source.type == "s1", "the checker lets only signs through"
        return source
    source = bit_steps.float_tensor(lower, node.input)
    return quantize(lower, node, source) if node.is_quantized else source


def quantize(lower: Lowering, node: Conv | Dense, source: Buffer) -> Buffer:
    """8-bit integers of a float tensor."""
    out, steps, (least, most) = (
        eight_bits(lower, node, source),
        steps_of(lower, node),
        QUANT_RANGES[node.activations],
    )
    if node.step is None:
        kernel = registry.STEPS_LANES if source.vectors else registry.STEPS
        lower.map(kernel, source, source, units=lower.batch, steps=steps, high=most)
    lower.map(registry.QUANTIZE, source, out, steps=steps, low=least, high=most)
    return out


def phases_read(node: Conv) -> tuple[list[int], list[int]]:
    """The phases of rows and of columns (coordinates modulo stride) that some tap reads."""
    rows, columns = (
        sorted({tap * node.dilation[axis] % node.stride[axis] for tap in range(node.kernel[axis])})
        for axis in (0, 1)
    )
    return rows, columns


def phases(lower: Lowering, node: Conv, source: Buffer) -> Buffer:
    """Planes of every stride-th row and column of the padded input, phase after phase."""
    read = list(product(*phases_read(node)))
    (sy, sx), (top, left, bottom, right) = node.stride, node.pads
    height, width = source.height + top + bottom, source.width + left + right
    shape = (len(read) * source.channels, -(-height // sy), -(-width // sx))
    out = lower.buffer(f"{node.output}:phases", source.type, shape)
    out.fill = source.fill
    lower.clear(out)
    for number, phase in enumerate(read):
        copy_phase(lower, source, out, node, number, phase)
    return out


def copy_phase(
    lower: Lowering, source: Buffer, out: Buffer, node: Conv, number: int, phase: tuple[int, int]
) -> None:
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


def offsets(node: Conv | Dense, source: Buffer, channels: int, one_bit: bool) -> Array:
    """Where input k of position 0 lies, from position 0 of the group's first channel: (K,) int64.

    ModelSpec rows go tap by tap, channels innermost; float32 rows as stored, channel by channel.
    """
    phase, shift = taps(node, source)
    block = source.image // (int(phase.max()) + 1)  # the planes of one phase
    at = phase * block + shift
    planes = np.arange(channels, dtype=np.int64) * source.plane
    return (at[:, None] + planes if one_bit else planes[:, None] + at).ravel()


def splits(kernel: IndirectGemm, units: int, outputs: int, threads: int) -> int:
    """How many times to divide the output channels so that the threads get even shares of few blocks."""
    if kernel.lanes == 0 or units >= 8 * threads or units % threads == 0 or outputs % threads:
        return 1
    return threads


def multiply(job: Job, way: str | None = None) -> None:
    """The product step itself. way: the kernel that it must be, so that a plan that fuses nothing sums in the order of
    one that does."""
    lower = job.lower
    rows = registry.fitting(*job.reads, job.depth)
    if not rows:
        name = job.node.activations
        raise GraphError(
            f"{where(job.node)}: sums {job.depth} products, too many for {name} activations"
        )

    def scratch() -> int:
        return max(scratch_of(job, row) for row in rows)

    def make() -> Step:
        kernel, microseconds, why = registry.select(*job.reads, job.work, lower.table.costs)
        for row in rows:
            if row.variant == way:
                kernel, why = row, "the order of sums that signs are written from"
                microseconds = row.microseconds(job.work, lower.table.costs[row.name])
        threads = lower.threads if lower.worth_splitting(microseconds) else 1
        block, units = block_of(job, kernel, threads)
        parts = max(1, min(threads, units))
        why = job.end.reason(why)
        return Step(
            kernel, block, units, parts, job.index, why, work=job.work, microseconds=microseconds
        )

    lower.needs.append(
        scratch
    )  # which row is chosen is known when the rows' slack is: room for any
    lower.task(job.buffers, make)


def scratch_of(job: Job, kernel: GemmSpec) -> int:
    """Bytes of scratch that a part needs."""
    if isinstance(kernel, LutPermuteGemm):
        return permute_scratch(job, kernel)
    assert isinstance(kernel, IndirectGemm)
    return kernel.scratch(job.outputs, job.depth)


def block_of(job: Job, kernel: GemmSpec, threads: int) -> tuple[Array, int]:
    """Parameter block and units of work."""
    if isinstance(kernel, LutPermuteGemm):
        return permute_block(job, kernel, threads)
    assert isinstance(kernel, IndirectGemm)
    return product_block(job, kernel, threads)


def product_block(job: Job, kernel: IndirectGemm, threads: int) -> tuple[Array, int]:
    """Parameter block and units of work of a product over offsets."""
    lower, node, source, out = job.lower, job.node, job.source, job.out
    weight = lower.graph.tensors[node.weight]
    one_bit = lower.graph.is_packed(node)
    blocks = -(-out.positions // kernel.lanes) if kernel.lanes else 0
    share = (
        splits(kernel, blocks * job.groups * out.images, job.outputs, threads)
        if job.groups == 1
        else 1
    )
    block = kernel.block(
        x_group=job.channels * source.plane if share == 1 else 0,
        words=lower.constant(
            (kernel.pack, node.weight), lambda: kernel.pack(weight.reshape(len(weight), -1))
        ),
        row_words=prod(weight.shape[1:]), depth=job.depth,
        offsets=lower.constant(("offsets", job.index), lambda: offsets(node, source, job.channels, one_bit)),
        groups=job.groups * share, outputs=job.outputs // share, positions=out.positions,
        scale=lower.vector(node.scale, out.channels, 1.0), bias=lower.vector(node.bias, out.channels, 0.0),
        correction=lower.constant(("shift", job.index), lambda: job.shift),
        **job.fields(),
    )  # fmt: skip
    return block, blocks * job.groups * share * out.images if kernel.lanes else out.channels
