"""Float convolutions whose outputs are read as signs alone: written as bits."""

from __future__ import annotations

from bwn.ir.graph import Graph
from bwn.kernels import registry
from bwn.kernels.gemm import tiles
from bwn.kernels.gemm.gemm_spec import STORED
from bwn.ops.sign import Sign
from bwn.ops.weighted import Weighted
from bwn.plan.bit_buffers import BitBuffer
from bwn.plan.bit_steps import written
from bwn.plan.buffers import STORE, Buffer
from bwn.plan.gemm_layer import Gemm
from bwn.plan.gemm_steps import offsets
from bwn.plan.step import Call

SPEED = 90_000
"""Multiply-accumulates a microsecond on one thread, roughly."""
LEAST = STORE
"""Positions of an image from which vectors of them are worth it."""


def becomes_signs(graph: Graph, node: Weighted, wanted: frozenset[str]) -> bool:
    """Whether a Sign alone reads a float convolution, and a packed layer that Sign.

    No maximum may come between, as it may with integer sums: floats can be NaN, which a maximum
    keeps and a sign does not.
    """
    shape = graph.shapes[node.output]
    if (
        node.rank != 3
        or node.weight_type(graph.tensors) != "float32"
        or shape[1] * shape[2] < LEAST
    ):
        return False
    if node.window(graph.shapes[node.input]).groups > 1:
        return False
    consumer = graph.sole_consumer(node.output)
    return isinstance(consumer, Sign) and consumer.output in wanted


def multiply_to_bits(gemm: Gemm) -> None:
    """Add a float convolution straight to bits."""
    plan, node, source, out = gemm.plan, gemm.node, gemm.source, gemm.out
    assert isinstance(out, BitBuffer)
    # Outputs are counted in the input's rows, which must be as wide.
    Buffer.of("", "f32", (1, out.height, out.width), 1).share_rows(source)

    def call() -> Call:
        positions = (out.height - 1) * source.row + out.width
        units = -(-positions // (tiles.MULTIPLY_SIGNS[1] * STORE)) * out.images
        params = {
            "x": plan.position_0(source),
            "x_image": source.image,
            "depth": gemm.depth,
            "positions": positions,
            "plane_row": source.row,
            **gemm.weight_params(registry.FLOAT_SIGNS, STORED),
            "offsets": plan.constant(("offsets", node.output), lambda: offsets(gemm)),
            "images": out.images,
            "outputs": out.channels,
            "height": out.height,
            "width": out.width,
            "bounds": plan.bounds((node.low, node.high)),
            **gemm.vectors(),
            **written(plan, out),
        }
        why = "float sums, written as signs"
        return Call(registry.FLOAT_SIGNS, params, units, gemm.macs / SPEED, why, gemm.work)

    plan.step(gemm.buffers, call, scratch=tiles.multiply_signs_scratch)
