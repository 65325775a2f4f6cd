"""Fuse padding into the windows after it, whose own padding costs nothing.

1. Zeros around the image become the padding of a Conv, added to what it has.
2. They become counted padding of an average pool that counts its padding, or has none.
3. They become padding of a max pool of numbers that are 0 or more: each window holds one at least.
4. The lowest float32 becomes padding of any max pool.
5. Not if something else reads the padded tensor, it is the graph's output, or a window would then
   lie in the padding alone.
"""

from __future__ import annotations

from msgspec.structs import replace

from bwn.ir.analysis import nonnegative
from bwn.ir.graph import Graph
from bwn.ir.node import FLOAT32_MAX, Node
from bwn.ops.conv import Conv
from bwn.ops.pad import Pad
from bwn.ops.pool import Pool
from bwn.ops.window import Pads
from bwn.passes.rewrite import merged


def fuse_pad(graph: Graph) -> Graph:
    """`graph` with each Pad fused into the window after it where that is possible."""
    known = nonnegative(graph)
    return graph.replace(merged(graph, lambda pad, node: fuse(pad, node, known)))


def fuse(pad: Node, node: Node, known: set[str]) -> Node | None:
    """`node` with the padding of `pad` too; None where a rule above forbids it.

    Args:
        pad: What makes the input of `node`.
        node: A node.
        known: Names of the tensors that are 0 or more.
    """
    if not isinstance(pad, Pad) or not isinstance(node, (Conv, Pool)):
        return None
    pads = total(pad, node)
    if pads is None or pad.mode != "constant":
        return None
    if isinstance(node, Conv):
        return replace(node, input=pad.input, pads=pads) if pad.value == 0 else None
    if node.kind == "average":
        counted = node.count_pads or not any(node.pads)
        if not counted or pad.value:
            return None
        return replace(node, input=pad.input, pads=pads, count_pads=True)
    if pad.value == -FLOAT32_MAX or (pad.value == 0 and pad.input in known):
        return replace(node, input=pad.input, pads=pads)
    return None


def total(pad: Pad, node: Conv | Pool) -> Pads | None:
    """Padding of both; None where channels are padded, or a window would hold only padding."""
    channels_before, top, left, channels_after, bottom, right = pad.pads
    added = (top, left, bottom, right)
    dilation = node.dilation if isinstance(node, Conv) else (1, 1)
    height, width = (
        step * (taps - 1) + 1 for step, taps in zip(dilation, node.kernel, strict=True)
    )
    pads = tuple(a + b for a, b in zip(added, node.pads, strict=True))
    if channels_before or channels_after or max(pads[::2]) >= height or max(pads[1::2]) >= width:
        return None
    return pads[0], pads[1], pads[2], pads[3]
