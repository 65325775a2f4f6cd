"""Rewrite layers whose weights have two values a channel, so that they can be packed.

With the two values a > b of an output channel, w = p * s + q, where p = (a - b) / 2,
q = (a + b) / 2 and s = +-1:

    sum w * x = sum (p * s) * x + q * sum x

1. A layer whose channels hold at most two values each becomes a layer of weights +-p, a layer of
   weights 1 with an output for each group (sum x), a layer with one weight for each output (q), and
   the sum of the two. The first two are binary by value. {0, a} is the common case.
2. A layer that is binary by value as it is stays, also up to rounding. So does one of zeros.
3. A layer that would not become smaller stays.
4. The scale is also multiplied into q, the bias goes to the layer of q, and bounds become a clamp.
5. p and q are rounded to float32, as alpha is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.node import Array, Node
from bwn.kernels import bits
from bwn.ops.add import Add
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.passes.pack_weights import TOLERANCE, magnitudes
from bwn.passes.rewrite import Rewrite

Halves = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def split_offsets(graph: Graph, tolerance: float = TOLERANCE) -> Graph:
    """`graph` with the layers of two values a channel rewritten.

    Args:
        graph: A legal graph.
        tolerance: Of `pack_weights`.
    """
    rewrite = Rewrite(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, (Conv, Dense)) and ones_name(node.weight) not in graph.tensors:
            groups = node.groups if isinstance(node, Conv) else 1
            halves = two_values(graph.tensors[node.weight], groups, tolerance)
            if halves is not None:
                nodes += split(rewrite, node, *halves)
                continue
        nodes.append(node)
    return rewrite.result(nodes)


def ones_name(weight: str) -> str:
    """Name of the weights 1 that are added where weights of that name are split."""
    return f"{weight}.ones"


def two_values(weight: Array, groups: int, tolerance: float) -> Halves | None:
    """Weights +-p, shaped like `weight`, and q, (outputs,); None for a layer to leave alone."""
    outputs, depth = len(weight), weight[0].size
    words = 8 * bits.words_for(depth)
    if weight.dtype != np.float32 or outputs * (words + 8) + groups * words >= weight.nbytes:
        return None
    rows = weight.astype(np.float64).reshape(outputs, -1)
    low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
    if not ((rows == low) | (rows == high)).all() or not rows.any():
        return None
    if magnitudes(weight, tolerance) is not None:
        return None
    half, middle = (high - low) / 2, (high + low) / 2
    signed = np.where(rows == high, half, -half).astype(np.float32)
    return signed.reshape(weight.shape), middle.astype(np.float32).ravel()


def split(
    rewrite: Rewrite,
    node: Conv | Dense,
    signed: npt.NDArray[np.float32],
    middle: npt.NDArray[np.float32],
) -> Iterator[Node]:
    """The nodes of rule 1 in place of `node`."""
    groups = node.groups if isinstance(node, Conv) else 1
    rewrite.tensors[node.weight] = signed
    rewrite.tensors[ones_name(node.weight)] = np.ones((groups, *signed.shape[1:]), np.float32)
    factor = middle if node.scale is None else rewrite.wide(node.scale) * middle
    names = {
        part: rewrite.free_name(f"{node.output}.{part}")
        for part in ("ones", "offset", "signs", "sum")
    }
    shape = (-1, *[1] * (signed.ndim - 1))
    weight = rewrite.store(f"{node.output}.middle", factor.reshape(shape))
    clamps = node.low is not None or node.high is not None
    total = names["sum"] if clamps else node.output
    offset = {
        "input": names["ones"],
        "output": names["offset"],
        "weight": weight,
        "bias": node.bias,
    }
    plain = replace(node, scale=None, bias=None, low=None, high=None)
    yield replace(plain, weight=ones_name(node.weight), output=names["ones"])
    yield (
        replace(plain, kernel=(1, 1), stride=(1, 1), pads=(0, 0, 0, 0), dilation=(1, 1), **offset)
        if isinstance(node, Conv)
        else replace(plain, **offset)
    )
    yield replace(plain, scale=node.scale, output=names["signs"])
    yield Add(input=names["signs"], other=names["offset"], output=total)
    if clamps:
        yield Clamp(input=total, output=node.output, low=node.low, high=node.high)
