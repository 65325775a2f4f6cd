"""Steps that make, move and read bitpacked tensors of signs; the products are in `xnor_steps.py`.

A Sign whose tensor a packed layer can read becomes bits, and so do its maximum and its flattening.
Where planes are needed all the same, they are made of the bits, once.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from bwn.ir.analysis import signs_of
from bwn.ir.graph import Graph
from bwn.ir.node import Node
from bwn.kernels import bits, registry
from bwn.kernels.gemm import tiles
from bwn.kernels.gemm.depths import XNOR_DEPTH
from bwn.kernels.registry import Kernel
from bwn.kernels.simd.widths import BLOCK
from bwn.ops.flatten import Flatten
from bwn.ops.sign import Sign
from bwn.ops.weighted import Weighted
from bwn.plan.bit_buffers import BitBuffer
from bwn.plan.buffers import Buffer
from bwn.plan.state import PlanState, elementwise_time
from bwn.plan.step import Call

if TYPE_CHECKING:
    from bwn.ops.pool import Pool

LEAST_FULL = 0.4
"""Share of a position's words that signs must fill for packed layers to be worth their zeros."""


def wanted_as_bits(graph: Graph) -> frozenset[str]:
    """Names of the tensors of signs that some layer reads as bits, or that lead to one."""
    signs, wanted = signs_of(graph), set[str]()
    for node in reversed(graph.nodes):
        moves = node.moves_signs and node.input in signs and node.output in wanted
        if moves or (isinstance(node, Weighted) and reads_bits(graph, node)):
            wanted.add(node.input)
    return frozenset(wanted)


def reads_bits(graph: Graph, node: Weighted) -> bool:
    """Whether a layer reads bitpacked signs where they are."""
    shape = graph.shapes[node.input]
    if node.activations != "binary" or node.depth(shape) > XNOR_DEPTH:
        return False
    channels = graph.shapes[unflattened(graph, node.input)][0]
    groups = node.window(shape).groups
    outputs = graph.shapes[node.output][0]
    if groups > 1 and (channels // groups % BLOCK or outputs // groups % BLOCK):
        return False
    return channels >= LEAST_FULL * BLOCK * bits.words_for(channels)


def unflattened(graph: Graph, name: str) -> str:
    """The tensor that a chain of Flatten began with: whose bits they are."""
    while isinstance(node := graph.producers.get(name), Flatten):
        name = node.input
    return name


def sign_after(graph: Graph, node: Node) -> str | None:
    """The Sign that alone reads what a node makes, maxima between them allowed; or None."""
    consumer = graph.sole_consumer(node.output)
    while consumer is not None and consumer.commutes_with_sign:
        consumer = graph.sole_consumer(consumer.output)
    return consumer.output if isinstance(consumer, Sign) else None


def pack(plan: PlanState, source: Buffer, out: BitBuffer) -> None:
    """Add a step that packs the signs of float planes."""

    def call() -> Call:
        params = move_params(
            registry.PACK,
            out,
            **plan.planes("x", source),
            x_row=source.row,
            **written(plan, out),
        )
        units = out.images * out.height * out.words
        work = out.images * out.channels * out.height * out.width
        return Call(registry.PACK, params, units, elementwise_time(work))

    plan.step((source, out), call, scratch=tiles.bitpacked_scratch)


def unpack(plan: PlanState, source: BitBuffer, out: Buffer) -> None:
    """Add a step that makes planes of bits, float32 or signs in bytes."""
    kernel = registry.UNPACK_F32 if out.type == "f32" else registry.UNPACK_S1

    def call() -> Call:
        params = move_params(
            kernel,
            out,
            x=plan.address(source),
            x_image=source.image,
            x_row=source.line,
            x_position=source.position,
            x_top=source.pads[0],
            x_left=source.pads[1],
            **plan.planes("out", out),
            out_row=out.row,
            mask=plan.mask(out),
        )
        work = out.images * out.channels * out.positions
        return Call(kernel, params, out.images * source.words, elementwise_time(work))

    plan.step((source, out), call, scratch=tiles.bitpacked_scratch)


def pool_bits(plan: PlanState, node: Pool, source: BitBuffer, out: BitBuffer) -> None:
    """Add a maximum over windows of bits."""
    source.reserve_padding(node.pads)

    def call() -> Call:
        params = move_params(
            registry.MAX_B1,
            out,
            x=plan.address(source) + source.offset_of(node.pads),
            x_image=source.image,
            x_row=node.stride[0] * source.line,
            x_position=node.stride[1] * source.position,
            tap_row=source.line,
            tap_position=source.position,
            kernel_y=node.kernel[0],
            kernel_x=node.kernel[1],
            **written(plan, out),
        )
        units = out.images * out.height * out.words
        work = units * out.width * prod(node.kernel)
        return Call(registry.MAX_B1, params, units, elementwise_time(work))

    plan.step((source, out), call)


def written(plan: PlanState, out: BitBuffer) -> dict[str, int]:
    """The parameters that describe bits to be written."""
    return {
        "out": plan.address(out),
        "out_image": out.image,
        "out_row": out.line,
        "out_position": out.position,
        "top": out.pads[0],
        "left": out.pads[1],
        "rows": out.grid[0],
        "columns": out.grid[1],
    }


def move_params(kernel: Kernel, sizes: Buffer, **values: int) -> dict[str, int]:
    """Parameters of a kernel that moves bits; those that it does not read are 0."""
    sizes_of = {name: getattr(sizes, name) for name in ("images", "channels", "height", "width")}
    unread = dict.fromkeys(kernel.params.fields, 0)
    return {**unread, **sizes_of, **values}
