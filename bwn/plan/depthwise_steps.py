"""Float depthwise convolutions with a stride: planes are read where they are, not as phases.

Copying phases moves every input once; a depthwise convolution reads it a few times in all.
"""

from __future__ import annotations

from msgspec.structs import replace

from bwn.kernels import registry
from bwn.kernels.gemm.gemm_spec import FLOATS, STORED
from bwn.kernels.gemm.tiles import strided_scratch
from bwn.ops.weighted import Weighted
from bwn.plan.gemm_layer import Gemm, taps_of
from bwn.plan.state import PlanState, slow_note
from bwn.plan.step import Call

MAX_OUTPUTS = 4
"""Outputs of a group, each of which loads its inputs anew."""
MAX_STEP = 8
"""Stride along the row: a vector of the last output must end within the guard of the buffers."""
SPEED = 10_000
"""Multiply-accumulates a microsecond on one thread, roughly."""


def reads_in_place(plan: PlanState, node: Weighted) -> bool:
    """Whether a layer is a float depthwise convolution whose stride need not be copied."""
    (channels, *_), (outputs, *_) = plan.shape(node.input), plan.shape(node.output)
    window = node.window(plan.shape(node.input))
    return (
        plan.only is None
        and node.activations == "float32"
        and window.stride != (1, 1)
        and window.groups == channels > 1
        and outputs <= MAX_OUTPUTS * channels
        and window.stride[1] <= MAX_STEP
    )


def multiply_strided(gemm: Gemm) -> None:
    """Add a depthwise convolution with a stride."""
    plan, node, source, out = gemm.plan, gemm.node, gemm.source, gemm.out
    (sy, sx), taps = gemm.window.stride, replace(gemm.window, stride=(1, 1))

    def call() -> Call:
        params = {
            "x_group": source.plane,
            **gemm.weight_params(registry.STRIDED, FLOATS if gemm.packed else STORED),
            "depth": gemm.depth,
            "offsets": plan.constant(
                ("offsets", node.output), lambda: taps_of(taps, source.row)[1]
            ),
            "groups": gemm.groups,
            "outputs": gemm.outputs,
            "positions": out.positions,
            "correction": 0,
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
        return Call(registry.STRIDED, params, units, time, why, gemm.work)

    plan.step(gemm.buffers, call, scratch=lambda: strided_scratch(out.positions))
