"""GEMMs whose lookup tables serve all taps (kernels/gemm/lut_window.py)."""

from __future__ import annotations

import numpy as np

from bwn.ir.node import Array
from bwn.kernels.registry import LutWindowGemm
from bwn.plan.gemm_layer import Gemm, output_shares
from bwn.plan.window_taps import rectangles


def window_call(gemm: Gemm, spec: LutWindowGemm, threads: int) -> tuple[dict[str, int], int]:
    """Parameters and units of work."""
    plan, source, out, tile = gemm.plan, gemm.source, gemm.out, spec.tile
    cut, tiles = rectangles(gemm.window), tile.tiles(out.images, out.height, out.width)
    share = output_shares(tiles * gemm.groups, threads) if gemm.outputs >= threads else 1
    phase = source.image // gemm.window.phase_count
    taps = [(r.rows, r.columns, r.phase * phase + r.y * source.row + r.x) for r in cut]
    key = ("window", tile.group, tile.single, gemm.node.weight, cut)

    def packed() -> Array:
        words = plan.graph.tensors[gemm.node.weight].astype(np.uint64, copy=False)
        return tile.pack(words, gemm.groups, gemm.channels, cut)

    params = {
        "x_group": gemm.channels * source.plane,
        "x_plane": source.plane,
        "x_row": source.row,
        "channels": gemm.channels,
        "rectangles": len(cut),
        "taps": plan.constant(("rectangles", *taps), lambda: np.array(taps, np.int64)),
        "words": plan.constant(key, packed),
        "words_group": plan.constant_bytes(key) // gemm.groups,
        "groups": gemm.groups,
        "outputs": gemm.outputs,
        "shares": share,
        "height": out.height,
        "width": out.width,
        "out_row": out.row,
        "correction": plan.constant(("correction", gemm.node.output), gemm.correction),
        **gemm.vectors(),
        **gemm.plane_params(),
    }
    return params, share * tiles * gemm.groups
