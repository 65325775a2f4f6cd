"""Lowering of products whose tables stand in registers (`kernels/gemm/lut_permute.py`): taps, blocks, bands."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bwn.ir.graph import Array
from bwn.kernels.gemm.lut_permute_packing import TILE, prepare
from bwn.kernels.registry import LutPermuteGemm
from bwn.plan.buffers import Buffer, round_up
from bwn.plan.gemm_job import Job, taps

BAND = 384
"""Positions of one unit of work, roughly: their tables and totals stay in L2."""


class Geometry(NamedTuple):
    """Where a product's blocks stand and what they read.

    segments: the taps of each phase of the stride. shifts: (taps,) from an output's position to each tap's. starts:
    first position of each block. band: blocks of a unit of work. span: positions that a band reads.
    """

    segments: list[list[int]]
    shifts: Array
    starts: list[int]
    band: int
    span: int


def starts(out: Buffer) -> list[int]:
    """First positions of the blocks of a plane: row by row where rows are whole blocks, so that no slack is summed."""
    if out.width % TILE == 0:
        return [y * out.row + x for y in range(out.height) for x in range(0, out.width, TILE)]
    return list(range(0, out.positions, TILE))


def geometry(job: Job, threads: int) -> Geometry:
    """Blocks and bands, at least one band for each of `threads` where there are blocks enough."""
    (phases, shifts), first = taps(job.node, job.source), starts(job.out)
    segments = [np.flatnonzero(phases == phase).tolist() for phase in range(int(phases.max()) + 1)]
    reach = int(shifts.max() - shifts.min())
    fewest = min(len(first), -(-threads // (job.groups * job.out.images)))
    band = -(-len(first) // max(1, round(job.out.positions / max(BAND, reach)), fewest))
    longest = max(
        first[min(i + band, len(first)) - 1] - first[i] for i in range(0, len(first), band)
    )
    return Geometry(segments, shifts, first, band, longest + TILE + reach)


def permute_scratch(job: Job, kernel: LutPermuteGemm) -> int:
    """Bytes of scratch that a part needs, for one band as for many."""
    found = (geometry(job, threads) for threads in (1, job.lower.threads))
    return max(
        kernel.layout.scratch_bytes(job.outputs, job.channels, g.span, g.band) for g in found
    )


def permute_block(job: Job, kernel: LutPermuteGemm, threads: int) -> tuple[Array, int]:
    """Parameter block and units of work."""
    lower, node, source, layout = job.lower, job.node, job.source, kernel.layout
    at = geometry(job, threads)
    words = lower.graph.tensors[node.weight].astype(np.uint64, copy=False)
    key = ("indices", job.index)
    indices = lower.constant(
        key, lambda: prepare(layout, words, job.groups, job.channels, at.segments)
    )
    order = [tap for one in at.segments for tap in one]
    block = kernel.block(
        x_group=job.channels * source.plane, x_plane=source.plane, x_segment=job.groups * job.channels * source.plane,
        channels=job.channels, chunk=layout.chunk(job.channels), segments=len(at.segments),
        taps=lower.constant(("taps", job.index), lambda: np.cumsum([0, *map(len, at.segments)])),
        shifts=lower.constant(("shifts", job.index), lambda: at.shifts[order]),
        min_shift=int(at.shifts.min()), max_shift=int(at.shifts.max()),
        indices=indices, index_group=lower.constants[key].nbytes // job.groups,
        groups=job.groups, outputs=job.outputs,
        starts=lower.constant(("starts", job.index), lambda: np.array([*at.starts, job.out.plane - job.out.lead])),
        blocks=len(at.starts), band=at.band, rows_bytes=layout.room_bytes(job.channels, at.span),
        scale=padded(job, node.scale, layout.lanes, 1.0), bias=padded(job, node.bias, layout.lanes, 0.0),
        correction=lower.constant(("shift", job.index), lambda: spread(job, job.shift, layout.lanes)),
        **job.fields(),
    )  # fmt: skip
    return block, -(-len(at.starts) // at.band) * job.groups * job.out.images


def padded(job: Job, name: str | None, lanes: int, fill: float) -> int:
    """Address of a stored float32 vector, or of one full of `fill`, with each group padded to whole vectors."""

    def make() -> Array:
        vector = (
            np.full(job.out.channels, fill, np.float32)
            if name is None
            else job.lower.graph.tensors[name]
        )
        return spread(job, vector, lanes)

    return job.lower.constant(("padded", name or fill, job.groups, job.outputs, lanes), make)


def spread(job: Job, vector: Array, lanes: int) -> Array:
    """(groups, outputs of one padded to whole vectors) float32 of a vector of all outputs."""
    room = np.zeros((job.groups, round_up(job.outputs, lanes)), np.float32)
    room[:, : job.outputs] = vector.reshape(job.groups, job.outputs)
    return room
