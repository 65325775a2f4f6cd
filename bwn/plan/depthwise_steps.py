"""Depthwise convolutions with a stride: planes are read where they are, not as phases.

Copying phases moves every input once; a depthwise convolution reads it a few times in all.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from bwn.kernels import registry
from bwn.kernels.gemm.gemm_spec import BYTE_ROWS, BYTES, FLOATS, STORED, Packing
from bwn.kernels.gemm.tiles import strided_runs_scratch, strided_scratch
from bwn.kernels.registry import Element, Kernel, Weights
from bwn.ops.weighted import Weighted
from bwn.plan.gemm_layer import Gemm, taps_of
from bwn.plan.state import PlanState, slow_note
from bwn.plan.step import Call

MAX_OUTPUTS = 4
"""Outputs of a group, each of which loads its inputs anew."""
MAX_STEP = 8
"""Stride along the row: a vector of the last output must end within the guard of the buffers."""
PACKINGS: dict[tuple[Element, Weights], Packing] = {
    ("f32", "b1"): FLOATS,
    ("f32", "f32"): STORED,
    ("i8", "b1"): BYTES,
    ("i8", "i8"): BYTE_ROWS,
}
"""How weights are packed, by the types that a layer reads."""
SPEED = 10_000
"""Multiply-accumulates a microsecond on one thread, roughly."""


def reads_in_place(plan: PlanState, node: Weighted) -> bool:
    """Whether a layer is a depthwise convolution whose stride need not be copied."""
    (channels, *_), (outputs, *_) = plan.shape(node.input), plan.shape(node.output)
    window = node.window(plan.shape(node.input))
    return (
        plan.only is None
        and window.stride != (1, 1)
        and window.groups == channels > 1
        and outputs <= MAX_OUTPUTS * channels
        and _kernel(node, window.stride[1]) is not None
    )


def _kernel(node: Weighted, step: int) -> Kernel | None:
    """What computes such a layer with this stride along the row, or None."""
    if node.activations == "float32":
        return registry.STRIDED if step <= MAX_STEP else None
    return registry.STRIDED_RUNS if node.is_quantized and step == 2 else None


def multiply_strided(gemm: Gemm) -> None:
    """Add a depthwise convolution with a stride."""
    plan, node, source, out = gemm.plan, gemm.node, gemm.source, gemm.out
    (sy, sx), taps = gemm.window.stride, replace(gemm.window, stride=(1, 1))
    kernel = _kernel(node, sx)
    assert kernel is not None

    def correction() -> int:
        key = ("correction", node.output)
        return plan.constant(key, lambda: gemm.correction().astype(np.int32))

    def call() -> Call:
        params = {
            "x_group": source.plane,
            **gemm.weight_params(kernel, PACKINGS[gemm.reads]),
            "depth": gemm.depth,
            "offsets": plan.constant(
                ("offsets", node.output), lambda: taps_of(taps, source.row)[1]
            ),
            "groups": gemm.groups,
            "outputs": gemm.outputs,
            "positions": out.positions,
            "correction": correction() if node.is_quantized else 0,
            "x_row": sy * source.row,
            "x_step": sx,
            "height": out.height,
            "width": out.width,
            "out_row": out.row,
            "neighbors": taps.kernel[1] if (sy, sx, *taps.dilation) == (2, 2, 1, 1) else 0,
            **gemm.vectors(),
            **gemm.plane_params(),
        }
        why = slow_note(gemm.macs) if sx > 2 else "a stride read in place"
        units, time = out.channels * out.images, gemm.macs / SPEED
        return Call(kernel, params, units, time, why, gemm.work)

    def scratch() -> int:
        if node.is_quantized:
            return strided_runs_scratch(out.positions, gemm.depth)
        return strided_scratch(out.positions)

    plan.step(gemm.buffers, call, scratch=scratch)
