"""Lowering of Conv and Dense to products whose tables stand in registers (`kernels/permute.py`)."""

from __future__ import annotations

import numpy as np

from bwn.graph import Array, Conv, Dense
from bwn.kernels import registry
from bwn.kernels.permute import TILE, prepare
from bwn.lowering import Lowering, Step
from bwn.memory import Buffer, round_up
from bwn.shapes import depth

SPEED = 300_000
"""Multiply-accumulates a microsecond, roughly."""
BAND = 384
"""Positions of one unit of work, roughly: their tables and totals stay in L2."""


def permuted(lower: Lowering, node: Conv | Dense, out: Buffer) -> registry.Permute | None:
    """The kernel for the node, where this CPU has one and the node fills its lanes."""
    groups = node.groups if isinstance(node, Conv) else 1
    enough = min(lower.shapes[node.input][0] // groups, out.channels // groups) >= 16 and out.height * out.width >= TILE
    if not enough or not lower.graph.packed(node):
        return None
    count = depth(node, lower.shapes[node.input])
    element = {"float32": "f32", "int8": "i8"}.get(node.activations)
    return next((row for row in registry.PERMUTES if row.activations == element and count <= row.deepest), None)


def taps(node: Conv | Dense, source: Buffer) -> tuple[list[list[int]], Array]:
    """The taps of each segment, a phase of the stride, and the shift of every tap."""
    if isinstance(node, Dense):
        return [[0]], np.zeros(1, np.int64)
    (kh, kw), (dy, dx), (sy, sx) = node.kernel, node.dilation, node.stride
    y, x = np.arange(kh)[:, None] * dy, np.arange(kw)[None, :] * dx
    if node.stride == (1, 1):
        shifts = (y - node.pads[0]) * source.row + (x - node.pads[1])
        return [list(range(kh * kw))], shifts.ravel().astype(np.int64)
    shifts = (y // sy) * source.row + x // sx
    phase = ((y % sy) * sx + x % sx).ravel()
    return [np.flatnonzero(phase == one).tolist() for one in np.unique(phase)], shifts.ravel().astype(np.int64)


def starts(out: Buffer) -> list[int]:
    """First positions of the blocks of a plane: row by row where rows are whole blocks, so that no slack is summed."""
    if out.width % TILE == 0:
        return [y * out.row + x for y in range(out.height) for x in range(0, out.width, TILE)]
    return list(range(0, out.positions, TILE))


def permute(
    lower: Lowering, kernel: registry.Permute, node: Conv | Dense, source: Buffer, out: Buffer, steps: int
) -> None:
    """The product step."""
    index, graph, layout = lower.node, lower.graph, kernel.layout
    groups = node.groups if isinstance(node, Conv) else 1
    channels, outputs = lower.shapes[node.input][0] // groups, out.channels // groups
    macs = out.images * out.height * out.width * out.channels * depth(node, lower.shapes[node.input])
    threads = lower.threads if lower.worth_splitting(macs / SPEED) else 1

    def geometry() -> tuple[list[int], int, int]:
        """First positions of the blocks, blocks of a band, and positions that a band reads."""
        shifts, first = taps(node, source)[1], starts(out)
        reach = int(shifts.max() - shifts.min())
        count = max(1, round(out.positions / max(BAND, reach)), min(len(first), -(-threads // (groups * out.images))))
        band = -(-len(first) // count)
        longest = max(first[min(i + band, len(first)) - 1] - first[i] for i in range(0, len(first), band))
        return first, band, longest + TILE + reach

    def scratch() -> int:
        _, band, span = geometry()
        return layout.scratch_bytes(outputs, channels, span, band)

    def make() -> Step:
        segments, shifts = taps(node, source)
        first, band, span = geometry()
        indices = lower.constant(
            ("indices", index), lambda: prepare(layout, graph.tensors[node.weight], groups, channels, segments)
        )
        block = kernel.block(
            x=lower.start(source), x_image=source.image, x_group=channels * source.plane, x_plane=source.plane,
            x_segment=groups * channels * source.plane, channels=channels, chunk=layout.chunk(channels),
            segments=len(segments),
            taps=lower.constant(("taps", index), lambda: np.cumsum([0, *map(len, segments)])),
            shifts=lower.constant(("shifts", index), lambda: shifts[[tap for one in segments for tap in one]]),
            least=int(shifts.min()), most=int(shifts.max()),
            indices=indices, index_group=lower.constants["indices", index].nbytes // groups,
            images=out.images, groups=groups, outputs=outputs,
            starts=lower.constant(("starts", index), lambda: np.array([*first, out.plane - out.lead])),
            blocks=len(first), band=band,
            out=lower.address(out), out_image=out.image, out_plane=out.plane, out_lead=out.lead, mask=lower.mask(out),
            scale=padded(lower, node.scale, groups, outputs, layout.lanes, 1.0),
            bias=padded(lower, node.bias, groups, outputs, layout.lanes, 0.0),
            bounds=lower.bounds(node.low, node.high), steps=steps or lower.vector(None, out.images, 1.0),
            steps_per_lane=int(out.vectors) if steps else 0,
            room=layout.room_bytes(channels, span), scratch=lower.scratch_address, scratch_part=lower.scratch,
        )  # fmt: skip
        units = -(-len(first) // band) * groups * out.images
        return Step(kernel, block, units, max(1, min(threads, units)), index, "tables in registers")

    lower.needs.append(scratch)
    lower.task((source, out), make)


def padded(lower: Lowering, name: str | None, groups: int, outputs: int, lanes: int, fill: float) -> int:
    """Address of a stored float32 vector, or of one full of `fill`, with each group padded to whole vectors."""

    def make() -> Array:
        room = np.full((groups, round_up(outputs, lanes)), fill, np.float32)
        if name is not None:
            room[:, :outputs] = lower.graph.tensors[name].reshape(groups, outputs)
        return room

    return lower.constant(("padded", name or fill, groups, outputs, lanes), make)
