"""Lowering of products of packed signs: as a convolution over positions, to planes or straight to the next signs.

A product whose sums only a Sign reads (a maximum may stand between: the sign of a maximum is the maximum of signs)
compares its integer sums with a threshold for each channel and writes bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from bwn.ir.graph import Array, Conv, Dense, Graph, Pads, Pair
from bwn.kernels import bits, registry
from bwn.kernels.gemm import tiles, xnor_packing
from bwn.kernels.gemm.xnor_packing import Axis
from bwn.kernels.simd.widths import BLOCK
from bwn.plan.bit_buffers import Bits
from bwn.plan.bit_steps import bits_buffer, end_of_chain, written
from bwn.plan.buffers import LANES, Buffer
from bwn.plan.builder import Lowering, Step
from bwn.plan.gemm_job import Job, ended

SPEED = 2_000_000
"""Multiply-accumulates a microsecond on one thread, roughly."""


@dataclass(frozen=True)
class Window:
    """A product of bits as a convolution; steps are bytes from one image, row and column of outputs to the next.

    A Dense of flattened planes is one whose window is the whole plane, and whose columns are the batch.
    """

    kernel: Pair
    stride: Pair
    pads: Pads
    dilation: Pair
    groups: int
    images: int
    steps: tuple[int, int, int]

    @staticmethod
    def of(node: Conv | Dense, source: Bits) -> Window:
        """The window of `node` over `source`."""
        if isinstance(node, Conv):
            steps = (source.image, node.stride[0] * source.line, node.stride[1] * source.position)
            return Window(
                node.kernel,
                node.stride,
                node.pads,
                node.dilation,
                node.groups,
                source.images,
                steps,
            )
        if source.vectors:
            return Window((1, 1), (1, 0), (0, 0, 0, 0), (1, 1), 1, 1, (0, 0, source.position))
        size = (source.height, source.width)
        return Window(size, (1, 0), (0, 0, 0, 0), (1, 1), 1, 1, (0, 0, source.image))

    def runs(self, source: Bits) -> tuple[list[int], int]:
        """Where runs of pairs begin, from tap (0, 0), and the pairs of each: taps beside each other are one run."""
        (height, width), (dy, dx) = self.kernel, self.dilation
        pairs = source.words // self.groups
        if self.groups == 1 and dx == 1:
            return [y * dy * source.line for y in range(height)], width * pairs
        return [
            y * dy * source.line + x * dx * source.position
            for y in range(height)
            for x in range(width)
        ], pairs


def product(lower: Lowering, node: Conv | Dense, source: Bits) -> None:
    """Make the output and the task of a product that reads bits."""
    if isinstance(node, Conv):
        source.want_pads(node.pads)
    end = end_of_chain(lower.graph, node) if lower.fuse else None
    # A sign of planes that nobody reads as bits is made of sums, faster than planes are made of bits.
    compares = end is not None and (end in lower.wanted or isinstance(node, Dense))
    index, window = lower.node, Window.of(node, source)
    if compares:
        job = Job(lower, node, source, bits_buffer(lower, node.output), 0, index)
    else:
        ends, added, planes = ended(lower, node)
        job = Job(lower, node, source, planes, 0, index, ends, added)
    out = job.out
    kernel = registry.XNOR_SIGNS if compares else registry.XNOR_PLANES
    lower.scratch = max(lower.scratch, tiles.xnor_scratch())
    what = "packed signs, compared with thresholds" if compares else "packed signs, summed"

    def make() -> Step:
        chunks = out.height if compares else -(-out.positions // LANES)
        units = chunks * window.images * -(-out.channels // BLOCK)
        parts = lower.shares(units, job.macs / SPEED)
        block = kernel.block(**inputs(lower, node, source, window), **tables(lower, node, source, out, window),
                             **outputs(job))  # fmt: skip
        return Step(kernel, block, units, parts, index, job.end.reason(what), work=job.work)

    lower.task(job.buffers, make)


def inputs(lower: Lowering, node: Conv | Dense, source: Bits, window: Window) -> dict[str, int]:
    """Fields that say where activations lie."""
    runs, pairs = window.runs(source)
    return {
        "x": lower.address(source) + source.offset_of(window.pads), "x_image": window.steps[0],
        "x_row": window.steps[1], "x_position": window.steps[2], "x_group": source.position // window.groups,
        "runs": lower.constant(("runs", node.output), lambda: np.array(runs, np.int64)),
        "run_count": len(runs), "run_pairs": pairs, "images": window.images, "groups": window.groups,
    }  # fmt: skip


def tables(
    lower: Lowering, node: Conv | Dense, source: Bits, out: Buffer, window: Window
) -> dict[str, int]:
    """Fields of weights and of what is made of counts."""
    signs = weight_signs(lower.graph, node, source)
    (rows, class_y), (columns, class_x) = (
        Axis(
            size, outputs, window.kernel[i], window.stride[i], window.pads[i], window.dilation[i]
        ).classes()
        for i, (size, outputs) in enumerate(
            ((source.height, out.height), (source.width, out.width))
        )
    )
    made, flips = xnor_packing.base(signs, rows, columns), np.zeros(out.channels, np.bool_)
    if isinstance(out, Bits):
        scale, bias = (
            np.full(out.channels, fill, np.float32)
            if name is None
            else lower.graph.tensors[name].astype(np.float32)
            for name, fill in ((node.scale, 1), (node.bias, 0))
        )
        least, flips = xnor_packing.thresholds(
            scale, bias, node.low, node.high, signs.shape[1] * signs.shape[2]
        )
        limits = xnor_packing.limits(made, least)
    else:
        limits = xnor_packing.in_blocks(made, 0)

    def kept(name: str, array: Array) -> int:
        return lower.constant((name, node.output), lambda: array)

    return {
        "words": kept("pairs", xnor_packing.lay_out(signs)), "blocks": -(-out.channels // window.groups // BLOCK),
        "thresholds": kept("limits", limits), "thresholds_row": limits.shape[1] * limits.itemsize,
        "class_y": kept("class_y", class_y * len(columns)), "class_x": kept("class_x", class_x),
        "inverted": kept("flips", bits.pack(np.where(flips, 1, -1)[None])),
    }  # fmt: skip


def weight_signs(graph: Graph, node: Conv | Dense, source: Bits) -> npt.NDArray[np.int8]:
    """The signs of a product's weights: (outputs, taps, channels) int8, taps in the order of the window."""
    words = graph.tensors[node.weight].astype(np.uint64, copy=False)
    if isinstance(node, Conv):
        channels = source.channels // node.groups
        return bits.unpack(words, prod(node.kernel) * channels).reshape(len(words), -1, channels)
    taps = 1 if source.vectors else source.height * source.width
    signs = np.empty((len(words), taps, source.channels), np.int8)
    for first in range(
        0, len(words), BLOCK
    ):  # a byte a weight is the most memory that a plan takes: once, not twice
        rows = bits.unpack(words[first : first + BLOCK], taps * source.channels)
        signs[first : first + BLOCK] = rows.reshape(-1, source.channels, taps).transpose(0, 2, 1)
    return signs


def outputs(job: Job) -> dict[str, int]:
    """Fields that say where outputs go, and how sums end."""
    lower, node, out = job.lower, job.node, job.out
    fields = dict.fromkeys(("out_row", "out_position", "top", "left", "rows", "columns"), 0)
    planes = dict.fromkeys(("out_plane", "out_lead", "plane_row", "positions", "mask"), 0)
    if isinstance(out, Bits):
        fields |= written(lower, out)
    else:
        fields |= {"out": lower.address(out), "out_image": out.image}
        planes = {
            "out_plane": out.plane, "out_lead": out.lead, "plane_row": out.row, "positions": out.positions,
            "mask": lower.mask(out),
        }  # fmt: skip
    ends = job.ends() | {
        "scale": lower.vector(node.scale, out.channels, 1.0), "bias": lower.vector(node.bias, out.channels, 0.0),
        "height": out.height, "width": out.width, "outputs": out.channels,
        "scratch": lower.scratch_address, "scratch_part": lower.scratch,
    }  # fmt: skip
    return fields | planes | ends
