"""Layers with weights over planes: quantization, the phases of a stride, offsets, the product.

A convolution of stride 1 reads its input's planes where they are: input k of position p lies at
offset[k] + p. One of stride s reads phases: planes that hold every s-th row and column, so that
the same holds again.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from bwn.ir.node import Array
from bwn.ir.quantization import QUANT_RANGES
from bwn.kernels import registry
from bwn.kernels.registry import GemmSpec, IndirectGemm, LutPermuteGemm, LutWindowGemm
from bwn.ops.weighted import Weighted
from bwn.ops.window import Window
from bwn.plan import tensor_steps
from bwn.plan.buffers import Buffer
from bwn.plan.gemm_layer import Gemm, input_scales, output_shares, quantized_buffer
from bwn.plan.permute_steps import permute_call, permute_scratch
from bwn.plan.state import PlanState
from bwn.plan.step import Call
from bwn.plan.tensor_steps import Ends
from bwn.plan.window_steps import window_call


def quantize(plan: PlanState, node: Weighted, source: Buffer) -> Buffer:
    """8-bit integers of a float tensor, for the layer that reads them."""
    out, (qmin, qmax) = quantized_buffer(plan, node, source), QUANT_RANGES[node.activations]

    def scales() -> int:
        return input_scales(plan, node)

    if node.input_scale is None:
        kernel = registry.SCALES_LANES if source.vectors else registry.SCALES
        tensor_steps.elementwise(
            plan, kernel, source, source,
            units=lambda: plan.batch, scales=scales, bounds=(None, qmax),
        )  # fmt: skip
    tensor_steps.elementwise(
        plan, registry.QUANTIZE, source, out, scales=scales, bounds=(qmin, qmax)
    )
    return out


def padded(plan: PlanState, node: Weighted, source: Buffer, *, in_place: bool) -> Buffer:
    """The planes that a layer reads, with room for its padding: its input, or phases of a stride.

    in_place: whether it reads its input whatever its stride.
    """
    window = node.window(plan.shape(node.input))
    if not in_place and window.stride != (1, 1):
        return phases(plan, node.output, window, source)
    source.reserve_padding(window.pads)
    return source


def phases(plan: PlanState, name: str, window: Window, source: Buffer) -> Buffer:
    """Planes of every stride-th row and column of the padded input, phase after phase."""
    rows, columns = window.phases
    (sy, sx), (top, left, bottom, right) = window.stride, window.pads
    height, width = source.height + top + bottom, source.width + left + right
    shape = (len(rows) * len(columns) * source.channels, -(-height // sy), -(-width // sx))
    out = plan.buffer(f"{name}:phases", source.type, shape)
    out.fill = source.fill
    tensor_steps.clear(plan, out)
    for number, phase in enumerate(product(rows, columns)):
        _copy_phase(plan, window, source, out, number, phase)
    return out


def _copy_phase(
    plan: PlanState,
    window: Window,
    source: Buffer,
    out: Buffer,
    number: int,
    phase: tuple[int, int],
) -> None:
    """Copy rows and columns whose padded coordinate is `phase` modulo the stride."""
    # Smallest source row y >= 0 with (y + pad) % stride == phase; it lands in row (y + pad) //
    # stride.
    (sy, sx), (top, left) = window.stride, window.pads[:2]
    y, x = (phase[0] - top) % sy, (phase[1] - left) % sx
    rows, columns = -(-(source.height - y) // sy), -(-(source.width - x) // sx)
    if rows <= 0 or columns <= 0:
        return

    def ends() -> tuple[tuple[int, ...], Ends]:
        first = plan.position_0(source) + (y * source.row + x) * source.itemsize
        plane = number * source.channels * out.plane
        target = plane + (y + top) // sy * out.row + (x + left) // sx
        strides = (source.image, source.plane, source.row * sy, sx)
        lengths = (plan.batch, source.channels, rows, columns)
        return lengths, (
            (first, strides),
            (plan.position_0(out) + target * source.itemsize, out.strides),
        )

    tensor_steps.copy(plan, (source, out), ends)


def offsets(gemm: Gemm) -> Array:
    """Where input k of position 0 lies, from position 0 of the group's first channel: (K,) int64.

    One-bit rows go tap by tap, channels innermost; others as stored, channel by channel.
    """
    phase, shift = gemm.taps
    phase_planes = gemm.source.image // (int(phase.max()) + 1)
    tap = phase * phase_planes + shift
    planes = np.arange(gemm.channels, dtype=np.int64) * gemm.source.plane
    return (tap[:, None] + planes if gemm.packed else planes[:, None] + tap).ravel()


def multiply(gemm: Gemm, variant: str | None = None) -> None:
    """Add the product.

    Args:
        gemm: The layer and its buffers.
        variant: The kernel that it must be, so that a plan that fuses nothing sums in the order of
            one that does.
    """
    plan = gemm.plan
    specs = registry.fitting(*gemm.reads, gemm.depth)
    if plan.only is not None and plan.only not in specs:
        raise gemm.node.refuse(f"kernel {plan.only.name} cannot compute it")
    if not specs:
        kind = gemm.node.activations
        raise gemm.node.refuse(f"sums {gemm.depth:,} products, too many for {kind} activations")
    required = plan.only or next((spec for spec in specs if spec.variant == variant), None)
    reason = "the one asked for" if plan.only else "the order of sums that signs are written from"

    def call() -> Call:
        if required is None:
            spec, microseconds, why = registry.select(*gemm.reads, gemm.work, plan.table.costs)
        else:
            spec, why = required, reason
            microseconds = spec.microseconds(gemm.work, plan.table.costs[spec.name])
        threads = plan.threads if plan.worth_splitting(microseconds) else 1
        params, units = _params(gemm, spec, threads)
        why = "; ".join(filter(None, (why, gemm.epilogue.note)))
        return Call(spec, params, units, microseconds, why, gemm.work)

    # Which kernel is chosen is known when the rows' slack is: room for any.
    plan.step(gemm.buffers, call, scratch=lambda: max(_scratch(gemm, spec) for spec in specs))


def _scratch(gemm: Gemm, spec: GemmSpec) -> int:
    if isinstance(spec, LutPermuteGemm):
        return permute_scratch(gemm, spec)
    if isinstance(spec, LutWindowGemm):
        return spec.tile.scratch_bytes(gemm.outputs)
    assert isinstance(spec, IndirectGemm)
    return spec.scratch(gemm.outputs, gemm.depth)


def _params(gemm: Gemm, spec: GemmSpec, threads: int) -> tuple[dict[str, int], int]:
    """Parameters and units of work."""
    if isinstance(spec, LutPermuteGemm):
        return permute_call(gemm, spec, threads)
    if isinstance(spec, LutWindowGemm):
        return window_call(gemm, spec, threads)
    assert isinstance(spec, IndirectGemm)
    return _indirect_params(gemm, spec, threads)


def _indirect_params(gemm: Gemm, spec: IndirectGemm, threads: int) -> tuple[dict[str, int], int]:
    plan, node, source, out = gemm.plan, gemm.node, gemm.source, gemm.out
    blocks = -(-out.positions // spec.lanes) if spec.lanes else 0
    share = 1
    if spec.lanes and gemm.groups == 1 and gemm.outputs % threads == 0:
        share = output_shares(blocks * out.images, threads)  # each as a group of its own
    params = {
        "x_group": gemm.channels * source.plane if share == 1 else 0,
        **gemm.weight_params(spec, spec.packing),
        "depth": gemm.depth,
        "offsets": plan.constant(("offsets", node.output), lambda: offsets(gemm)),
        "groups": gemm.groups * share,
        "outputs": gemm.outputs // share,
        "positions": out.positions,
        "correction": plan.constant(("correction", node.output), gemm.correction),
        **gemm.vectors(),
        **gemm.plane_params(),
    }
    units = blocks * gemm.groups * share * out.images if spec.lanes else out.channels
    return params, units
