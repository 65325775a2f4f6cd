"""Lowering of signs that stay packed from layer to layer: their buffers, and what moves them.

A Sign whose tensor a packed product can read becomes bits, and so do its maximum and its flattening. Where planes are
wanted all the same, they are made of the bits, once. The products are in `lower_xnor.py`.
"""

from __future__ import annotations

from math import prod

from bwn.ir.checker import signs_of
from bwn.ir.graph import AnyNode, Array, Conv, Dense, Flatten, Graph, Pool, Shape, Sign
from bwn.ir.shapes import depth, shapes
from bwn.kernels import bits, registry
from bwn.kernels.gemm import tiles, xnor_packing
from bwn.kernels.registry import Kernel
from bwn.kernels.simd.widths import BLOCK
from bwn.plan.bit_buffers import Bits
from bwn.plan.buffers import Buffer, Type
from bwn.plan.builder import Ends, Lowering, Step, strides_of

LEAST_FULL = 0.4
"""The share of a position's words that signs must fill, for packed products to be worth their zeros."""


def wanted(graph: Graph) -> frozenset[str]:
    """Names of the tensors of signs that some product reads as bits, or that such a tensor is made of."""
    known, signs, found = shapes(graph), signs_of(graph), set()
    for node in reversed(graph.nodes):
        passes_on = (
            isinstance(node, (Pool, Flatten, Sign)) and node.input in signs and node.output in found
        )
        if passes_on or (isinstance(node, (Conv, Dense)) and reads_bits(graph, node, known)):
            found.add(node.input)
    return frozenset(found)


def planes_of(graph: Graph, node: AnyNode) -> str:
    """The tensor that a chain of Flatten before `node` begins with: what its bits stand in."""
    makers = {made.output: made for made in graph.nodes}
    name = node.input
    while isinstance(made := makers.get(name), Flatten):
        name = made.input
    return name


def reads_bits(graph: Graph, node: Conv | Dense, known: dict[str, Shape]) -> bool:
    """Whether `node` is a product that reads packed signs where they are."""
    if node.activations != "binary" or depth(node, known[node.input]) >= xnor_packing.DEEPEST:
        return False
    channels, groups = (
        known[planes_of(graph, node)][0],
        node.groups if isinstance(node, Conv) else 1,
    )
    if groups > 1 and (channels // groups % BLOCK or known[node.output][0] // groups % BLOCK):
        return False
    return channels >= LEAST_FULL * BLOCK * bits.words_for(channels)


def end_of_chain(graph: Graph, node: AnyNode) -> str | None:
    """The Sign that alone reads what `node` makes, maxima between them allowed; None where there is none."""
    reader = graph.sole_reader(node.output)
    while isinstance(reader, Pool) and reader.kind == "max":
        reader = graph.sole_reader(reader.output)
    return reader.output if isinstance(reader, Sign) else None


def bits_buffer(lower: Lowering, name: str) -> Bits:
    """A new buffer of bits for tensor `name`."""
    shape = lower.shapes[name]
    if len(shape) == 3:
        made = Bits(name, "b1", lower.batch, *shape)
    else:
        made = Bits(name, "b1", 1, shape[0], 1, lower.batch, vectors=True)
    lower.buffers.append(made)
    lower.tensors[name] = made
    return made


def sign(lower: Lowering, node: Sign) -> None:
    """Planes to bits."""
    given = lower.tensors[node.input]
    if isinstance(given, Bits):  # signs already, or the product before has compared
        same(lower, node, given)
        return
    source, out, index = lower.float_tensor(node.input), bits_buffer(lower, node.output), lower.node
    lower.scratch = max(lower.scratch, tiles.pairs_scratch())

    def make() -> Step:
        units = out.images * out.height * out.words
        block = moving(
            registry.PACK, out, x=lower.address(source), x_image=source.image, x_plane=source.plane,
            x_lead=source.lead, x_row=source.row, scratch=lower.scratch_address, scratch_part=lower.scratch,
            **written(lower, out),
        )  # fmt: skip
        work = out.images * out.channels * out.height * out.width
        return Step(registry.PACK, block, units, lower.parts(units, work), index)

    lower.task((source, out), make)


def same(lower: Lowering, node: Sign | Flatten, given: Bits) -> None:
    """The bits that stand there are the node's output as well."""
    lower.tensors[node.output] = given
    if len(lower.shapes[node.output]) == 1 and not given.vectors:
        lower.flattened[node.output] = lower.flattened.get(node.input, node.input)


def pool(lower: Lowering, node: Pool, source: Bits) -> None:
    """Maximum of bits."""
    source.want_pads(node.pads)
    out, index = bits_buffer(lower, node.output), lower.node

    def make() -> Step:
        units = out.images * out.height * out.words
        block = moving(
            registry.MAX_B1, out, x=lower.address(source) + source.offset_of(node.pads), x_image=source.image,
            x_row=node.stride[0] * source.line, x_position=node.stride[1] * source.position, tap_row=source.line,
            tap_position=source.position, kernel_y=node.kernel[0], kernel_x=node.kernel[1], **written(lower, out),
        )  # fmt: skip
        return Step(
            registry.MAX_B1,
            block,
            units,
            lower.parts(units, units * out.width * prod(node.kernel)),
            index,
        )

    lower.task((source, out), make)


def unpack(lower: Lowering, name: str, type: Type) -> Buffer:
    """Planes, float32 or int8, of a tensor of bits; made once."""
    key = (name, type)
    if key in lower.unpacked:
        return lower.unpacked[key]
    if name in lower.flattened:
        inside = unpack(lower, lower.flattened[name], type)
        out = lower.unpacked[key] = lower.buffer(f"{name}:{type}", type, lower.shapes[name])
        flat(lower, inside, out)
        return out
    source, index = lower.tensors[name], lower.node
    assert isinstance(source, Bits)
    out = lower.unpacked[key] = lower.buffer(f"{name}:{type}", type, lower.shapes[name])
    lower.scratch = max(lower.scratch, tiles.pairs_scratch())
    kernel = registry.UNPACK_F32 if type == "f32" else registry.UNPACK_S1

    def make() -> Step:
        units = out.images * source.words
        block = moving(
            kernel, out, **read(lower, source), out=lower.address(out), out_image=out.image, out_plane=out.plane,
            out_lead=out.lead, out_row=out.row, mask=lower.mask(out), scratch=lower.scratch_address,
            scratch_part=lower.scratch,
        )  # fmt: skip
        return Step(
            kernel,
            block,
            units,
            lower.parts(units, out.images * out.channels * out.positions),
            index,
        )

    lower.task((source, out), make)
    return out


def float_tensor(lower: Lowering, name: str) -> Buffer:
    """The planes of a tensor as float32, whatever it stands in."""
    return (
        unpack(lower, name, "f32")
        if isinstance(lower.tensors[name], Bits)
        else lower.float_tensor(name)
    )


def flat(lower: Lowering, source: Buffer, out: Buffer) -> None:
    """Planes to vectors: the images become the columns."""
    height, width = source.height, source.width

    def ends() -> Ends:
        strides = (1, height * width * out.plane, width * out.plane, out.plane)
        return (lower.start(source), strides_of(source)), (lower.start(out), strides)

    lower.clear(out)
    lower.copy((source, out), (lower.batch, source.channels, height, width), ends)


def read(lower: Lowering, source: Bits) -> dict[str, int]:
    """Fields of bits that are read."""
    return {
        "x": lower.address(source), "x_image": source.image, "x_row": source.line, "x_position": source.position,
        "x_top": source.pads[0], "x_left": source.pads[1],
    }  # fmt: skip


def written(lower: Lowering, out: Bits) -> dict[str, int]:
    """Fields of bits that are written."""
    return {
        "out": lower.address(out), "out_image": out.image, "out_row": out.line, "out_position": out.position,
        "top": out.pads[0], "left": out.pads[1], "rows": out.grid[0], "columns": out.grid[1],
    }  # fmt: skip


def moving(kernel: Kernel, sizes: Buffer, **values: int) -> Array:
    """The block of a kernel of `pairs.py`; fields that it does not read are 0."""
    own = {name: getattr(sizes, name) for name in ("images", "channels", "height", "width")}
    return kernel.block(**{**dict.fromkeys(kernel.fields._fields, 0), **own, **values})
