"""Lowering of float convolutions whose outputs are read as signs alone: written as bits."""

from __future__ import annotations

from collections.abc import Callable

from bwn.ir.graph import Array, Conv, Dense, Sign
from bwn.kernels import registry
from bwn.kernels.gemm import tiles
from bwn.plan import bit_steps
from bwn.plan.buffers import LANES, Buffer, RowClass
from bwn.plan.builder import Lowering, Step
from bwn.plan.gemm_job import Job

SPEED = 90_000
"""Multiply-accumulates a microsecond on one thread, roughly."""
LEAST = LANES
"""Positions of an image from which lanes of them are worth it."""


def becomes_signs(lower: Lowering, node: Conv) -> bool:
    """Whether a Sign alone reads a float convolution, and a packed product that Sign.

    No maximum may stand between as with integer sums: these can be NaN, which a maximum keeps and a sign does not.
    """
    shape = lower.shapes[node.output]
    if lower.graph.is_packed(node) or node.groups > 1 or shape[1] * shape[2] < LEAST:
        return False
    reader = lower.graph.sole_reader(node.output)
    return isinstance(reader, Sign) and reader.output in lower.wanted


def product(
    lower: Lowering,
    node: Conv,
    source: Buffer,
    offsets: Callable[[Conv | Dense, Buffer, int, bool], Array],
) -> None:
    """A float convolution straight to bits. offsets: where inputs lie, as for products of planes."""
    out, kernel = bit_steps.bits_buffer(lower, node.output), registry.FLOAT_SIGNS
    RowClass.join(
        source, Buffer("", "f32", 1, 1, out.height, out.width)
    )  # outputs are counted in the input's rows
    lower.scratch = max(lower.scratch, tiles.multiply_signs_scratch())
    job, weight = Job(lower, node, source, out, 0, lower.node), lower.graph.tensors[node.weight]

    def make() -> Step:
        positions = (out.height - 1) * source.row + out.width
        units = -(-positions // (tiles.MULTIPLY_SIGNS[1] * LANES)) * out.images
        block = kernel.block(
            x=lower.start(source), x_image=source.image, depth=job.depth, positions=positions, plane_row=source.row,
            words=lower.constant(node.weight, lambda: weight.reshape(len(weight), -1)), row_words=job.depth,
            offsets=lower.constant(("offsets", job.index), lambda: offsets(node, source, job.channels, False)),
            images=out.images, outputs=out.channels, height=out.height, width=out.width,
            scale=lower.vector(node.scale, out.channels, 1.0), bias=lower.vector(node.bias, out.channels, 0.0),
            bounds=lower.bounds(node.low, node.high), **bit_steps.written(lower, out),
            scratch=lower.scratch_address, scratch_part=lower.scratch,
        )  # fmt: skip
        parts = lower.shares(units, job.macs / SPEED)
        why = "float sums, written as signs"
        return Step(kernel, block, units, parts, job.index, why, work=job.work)

    lower.task((source, out), make)
