"""GEMMs whose lookup tables fit in registers (kernels/gemm/lut_permute.py): taps, blocks, bands."""

from __future__ import annotations

import msgspec
import numpy as np

from bwn.ir.node import Array
from bwn.kernels.gemm.lut_permute_packing import TILE
from bwn.kernels.registry import LutPermuteGemm
from bwn.plan.buffers import Buffer, round_up
from bwn.plan.gemm_layer import Gemm

BAND = 384
"""Positions of one unit of work, roughly: their tables and totals stay in L2."""


class Geometry(msgspec.Struct, frozen=True, eq=False):
    """Where a product's blocks lie and what they read.

    Attributes:
        segments: The taps of each phase of the stride.
        shifts: From an output's position to each tap's, (taps,).
        starts: First position of each block.
        band: Blocks of a unit of work.
        span: Positions that a band reads.
    """

    segments: list[list[int]]
    shifts: Array
    starts: list[int]
    band: int
    span: int


def block_starts(out: Buffer) -> list[int]:
    """First positions of a plane's blocks: row by row, without slack, if rows are whole blocks."""
    if out.width % TILE == 0:
        rows, columns = out.row * np.arange(out.height), np.arange(0, out.width, TILE)
        return (rows[:, None] + columns).ravel().tolist()
    return list(range(0, out.positions, TILE))


def geometry(gemm: Gemm, threads: int) -> Geometry:
    """Blocks and bands, at least one band for each thread where there are blocks enough."""
    (phases, shifts), starts = gemm.taps, block_starts(gemm.out)
    order = np.argsort(phases, kind="stable")
    ends = np.cumsum(np.bincount(phases))
    segments = [taps.tolist() for taps in np.split(order, ends[:-1])]
    reach = int(shifts.max() - shifts.min())
    fewest = min(len(starts), -(-threads // (gemm.groups * gemm.out.images)))
    bands = max(1, round(gemm.out.positions / max(BAND, reach)), fewest)
    band = -(-len(starts) // bands)
    lasts = (min(first + band, len(starts)) - 1 for first in range(0, len(starts), band))
    longest = max(
        starts[end] - starts[first]
        for first, end in zip(range(0, len(starts), band), lasts, strict=True)
    )
    return Geometry(segments, shifts, starts, band, longest + TILE + reach)


def permute_scratch(gemm: Gemm, spec: LutPermuteGemm) -> int:
    """Bytes of scratch that a thread needs, for one band as for many."""
    geometries = [geometry(gemm, threads) for threads in {1, gemm.plan.threads}]
    return max(
        spec.layout.scratch_bytes(gemm.outputs, gemm.channels, g.span, g.band) for g in geometries
    )


def permute_call(gemm: Gemm, spec: LutPermuteGemm, threads: int) -> tuple[dict[str, int], int]:
    """Parameters and units of work."""
    plan, node, source, out, layout = gemm.plan, gemm.node, gemm.source, gemm.out, spec.layout
    at, channels, groups = geometry(gemm, threads), gemm.channels, gemm.groups
    words = plan.graph.tensors[node.weight].astype(np.uint64, copy=False)
    order = [tap for segment in at.segments for tap in segment]

    def kept(name: str, array: Array) -> int:
        return plan.constant((name, node.output), lambda: array)

    def padded(name: str | None, fill: float) -> int:
        vector = np.full(out.channels, fill, np.float32)
        key = ("padded", name or fill, groups, gemm.outputs, layout.lanes)
        stored = vector if name is None else plan.graph.tensors[name]
        return plan.constant(key, lambda: _spread(gemm, stored, layout.lanes))

    indices = plan.constant(
        ("indices", node.output), lambda: layout.pack(words, groups, channels, at.segments)
    )
    params = {
        "x_group": channels * source.plane,
        "x_plane": source.plane,
        "x_segment": groups * channels * source.plane,
        "channels": channels,
        "chunk": layout.chunk(channels),
        "segments": len(at.segments),
        "taps": kept("taps", np.cumsum([0, *map(len, at.segments)])),
        "shifts": kept("shifts", at.shifts[order]),
        "min_shift": int(at.shifts.min()),
        "max_shift": int(at.shifts.max()),
        "indices": indices,
        "index_group": plan.constant_bytes(("indices", node.output)) // groups,
        "groups": groups,
        "outputs": gemm.outputs,
        "starts": kept("starts", np.array([*at.starts, out.plane - out.lead])),
        "blocks": len(at.starts),
        "band": at.band,
        "rows_bytes": layout.rows_bytes(channels, at.span),
        "correction": kept("correction", _spread(gemm, gemm.correction(), layout.lanes)),
        **gemm.plane_params(),
        "scale": padded(node.scale, 1.0),
        "bias": padded(node.bias, 0.0),
    }
    return params, -(-len(at.starts) // at.band) * groups * out.images


def _spread(gemm: Gemm, vector: Array, lanes: int) -> Array:
    """All outputs with each group padded to whole vectors: (groups, outputs) float32."""
    rows = np.zeros((gemm.groups, round_up(gemm.outputs, lanes)), np.float32)
    rows[:, : gemm.outputs] = vector.reshape(gemm.groups, gemm.outputs)
    return rows
