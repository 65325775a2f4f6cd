"""Every operation of a network: one file each, listed in NODES.

The list is the schema of the file. The checker, the planner, `bwn verify`, the ONNX importer and
exporter, random graphs and the tests of every operation use it. CONTRIBUTING.md says how to add an
operation.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module

from bwn.ir.node import Node

NODES = {
    "conv": "conv.Conv",
    "dense": "dense.Dense",
    "affine": "affine.Affine",
    "clamp": "clamp.Clamp",
    "sign": "sign.Sign",
    "add": "add.Add",
    "pool": "pool.Pool",
    "flatten": "flatten.Flatten",
    "softmax": "softmax.Softmax",
    "hard_swish": "hard_swish.HardSwish",
    "mul": "mul.Mul",
    "concat": "concat.Concat",
    "rearrange": "rearrange.Rearrange",
    "gather": "gather.Gather",
    "pad": "pad.Pad",
    "resize": "resize.Resize",
    "arithmetic": "broadcasting.Arithmetic",
    "unary": "unary.Unary",
    "channel_softmax": "softmax.ChannelSoftmax",
    "normalize": "normalize.Normalize",
    "local_response": "normalize.LocalResponse",
    "reduce": "reduce.Reduce",
    "quantize": "quantize.Quantize",
    "matmul": "matmul.MatMul",
}
"""The class of each operation by its name in the file. A model imports only what it needs."""


@cache
def node_type(op: str) -> type[Node]:
    """The class of an operation. op: a key of NODES."""
    module, _, name = NODES[op].partition(".")
    kind: type[Node] = getattr(import_module(f"{__name__}.{module}"), name)
    if kind.__struct_config__.tag != op:
        raise TypeError(f"{kind.__name__} is listed as '{op}', its tag is otherwise")
    return kind


def node_types(ops: Iterable[str] = NODES) -> tuple[type[Node], ...]:
    """The classes of some operations, or of all."""
    return tuple(node_type(op) for op in ops)
