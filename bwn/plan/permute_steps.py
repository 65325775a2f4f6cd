"""GEMMs whose lookup tables fit in registers (kernels/gemm/lut_permute.py): taps, blocks, bands."""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

from bwn.ir.node import Array
from bwn.kernels.gemm.lut_permute_packing import TILE, Layout
from bwn.kernels.registry import LutPermuteGemm
from bwn.ops.window import Window
from bwn.plan.buffers import round_up
from bwn.plan.gemm_layer import Gemm, taps_of

BAND = 384
"""Positions of one unit of work, roughly: their tables and totals stay in L2."""


class Geometry(msgspec.Struct, frozen=True, eq=False):
    """Where a product's blocks lie and what they read.

    Attributes:
        segments: The taps of each phase of the stride.
        ends: Where each segment's taps begin and end, counted over all segments.
        shifts: From an output's position to each tap's, segment by segment, (taps,).
        starts: First position of each block, and where the last one's padding ends.
        band: Blocks of a unit of work.
        span: Positions that a band reads.
    """

    segments: list[list[int]]
    ends: Array
    shifts: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    band: int
    span: int

    @property
    def blocks(self) -> int:
        """Blocks of a plane."""
        return len(self.starts) - 1

    @property
    def bands(self) -> int:
        """Units of work of one group of one image."""
        return -(-self.blocks // self.band)


def geometry(gemm: Gemm, threads: int) -> Geometry:
    """Blocks and bands, at least one band for each thread where there are blocks enough."""
    out, source_row = gemm.out, gemm.source.row
    size, end = (out.height, out.width, out.row), out.plane - out.lead
    return _geometry(gemm.window, source_row, size, end, -(-threads // (gemm.groups * out.images)))


@lru_cache(maxsize=256)
def _geometry(
    window: Window, source_row: int, size: tuple[int, int, int], end: int, fewest: int
) -> Geometry:
    """The geometry of all layers of the same shape, with at least `fewest` bands.

    Args:
        window: The window of the layer.
        source_row: Elements from one input row to the next.
        size: Height and width of the output, and elements from one row to the next.
        end: Positions from the first output to the end of its plane.
        fewest: Bands, where there are as many blocks.
    """
    phases, shifts = taps_of(window, source_row)
    segments = [np.flatnonzero(phases == phase).tolist() for phase in range(int(phases.max()) + 1)]
    reach = int(np.ptp(shifts))
    starts = block_starts(*size)
    bands = max(1, round(size[0] * size[2] / max(BAND, reach)), min(len(starts), fewest))
    band = -(-len(starts) // bands)
    firsts = np.arange(0, len(starts), band)
    lasts = np.minimum(firsts + band, len(starts)) - 1
    longest = int((starts[lasts] - starts[firsts]).max())
    return Geometry(
        segments,
        np.cumsum([0, *map(len, segments)]),
        shifts[np.concatenate(segments)],
        np.append(starts, end),
        band,
        longest + TILE + reach,
    )


def block_starts(height: int, width: int, row: int) -> npt.NDArray[np.int64]:
    """First positions of a plane's blocks: row by row, without slack, if rows are whole blocks."""
    if width % TILE == 0:
        return np.add.outer(row * np.arange(height), np.arange(0, width, TILE)).ravel()
    return np.arange(0, height * row, TILE)


def permute_scratch(gemm: Gemm, spec: LutPermuteGemm) -> int:
    """Bytes of scratch that a thread needs, for one band as for many."""
    geometries = [geometry(gemm, threads) for threads in {1, gemm.plan.threads}]
    return max(
        spec.layout.scratch_bytes(gemm.outputs, gemm.channels, g.span, g.band) for g in geometries
    )


def permute_call(gemm: Gemm, spec: LutPermuteGemm, threads: int) -> tuple[dict[str, int], int]:
    """Parameters and units of work."""
    plan, source, layout, channels = gemm.plan, gemm.source, spec.layout, gemm.channels
    at, groups = geometry(gemm, threads), gemm.groups
    params = {
        "x_group": channels * source.plane,
        "x_plane": source.plane,
        "x_segment": groups * channels * source.plane,
        "channels": channels,
        "chunk": layout.chunk(channels),
        "segments": len(at.segments),
        "taps": plan.constant(("taps", at), lambda: at.ends),
        "shifts": plan.constant(("shifts", at), lambda: at.shifts),
        "min_shift": int(at.shifts.min()),
        "max_shift": int(at.shifts.max()),
        "groups": groups,
        "outputs": gemm.outputs,
        "starts": plan.constant(("starts", at), lambda: at.starts),
        "blocks": at.blocks,
        "band": at.band,
        "rows_bytes": layout.rows_bytes(channels, at.span),
        **_weight_params(gemm, layout, at.segments),
        **gemm.plane_params(),
    }
    return params, at.bands * groups * gemm.out.images


def _weight_params(gemm: Gemm, layout: Layout, segments: list[list[int]]) -> dict[str, int]:
    """Packed weights, and the vectors of the outputs with each group padded."""
    plan, node, groups = gemm.plan, gemm.node, gemm.groups
    words = plan.graph.tensors[node.weight].astype(np.uint64, copy=False)
    key = ("indices", node.output)

    def padded(name: str | None, fill: float) -> int:
        vector = np.full(gemm.out.channels, fill, np.float32)
        stored = vector if name is None else plan.graph.tensors[name]
        key = ("padded", name or fill, groups, gemm.outputs, layout.lanes)
        return plan.constant(key, lambda: _spread(gemm, stored, layout.lanes))

    return {
        "indices": plan.constant(key, lambda: layout.pack(words, groups, gemm.channels, segments)),
        "index_group": plan.constant_bytes(key) // groups,
        "correction": plan.constant(
            ("correction", node.output), lambda: _spread(gemm, gemm.correction(), layout.lanes)
        ),
        "scale": padded(node.scale, 1.0),
        "bias": padded(node.bias, 0.0),
    }


def _spread(gemm: Gemm, vector: Array, lanes: int) -> Array:
    """All outputs with each group padded to whole vectors: (groups, outputs) float32."""
    rows = np.zeros((gemm.groups, round_up(gemm.outputs, lanes)), np.float32)
    rows[:, : gemm.outputs] = vector.reshape(gemm.groups, gemm.outputs)
    return rows
