"""Every operation of a network: one file each, listed in NODES.

The list is the schema of the file, and what the checker, the planner, `bwn verify`, the ONNX
importer and exporter, random graphs and the tests of every operation know. CONTRIBUTING.md says
how to add one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

from bwn.ir.node import Node
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.broadcasting import Arithmetic
from bwn.ops.clamp import Clamp
from bwn.ops.concat import Concat
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.gather import Gather
from bwn.ops.hard_swish import HardSwish
from bwn.ops.matmul import MatMul
from bwn.ops.mul import Mul
from bwn.ops.normalize import LocalResponse, Normalize
from bwn.ops.pad import Pad
from bwn.ops.pool import Pool
from bwn.ops.quantize import Quantize
from bwn.ops.rearrange import Rearrange
from bwn.ops.reduce import Reduce
from bwn.ops.resize import Resize
from bwn.ops.sign import Sign
from bwn.ops.softmax import ChannelSoftmax, Softmax
from bwn.ops.unary import Unary
from bwn.ops.weighted import Weighted

NODES: tuple[type[Node], ...] = (
    Conv,
    Dense,
    Affine,
    Clamp,
    Sign,
    Add,
    Pool,
    Flatten,
    Softmax,
    HardSwish,
    Mul,
    Concat,
    Rearrange,
    Gather,
    Pad,
    Resize,
    Arithmetic,
    Unary,
    ChannelSoftmax,
    Normalize,
    LocalResponse,
    Reduce,
    Quantize,
    MatMul,
)

if TYPE_CHECKING:
    AnyNode = Node
else:
    AnyNode = Union[NODES]  # noqa: UP007  # a tuple
    """What the file's schema accepts."""

__all__ = [
    "NODES",
    "Add",
    "Affine",
    "AnyNode",
    "Arithmetic",
    "ChannelSoftmax",
    "Clamp",
    "Concat",
    "Conv",
    "Dense",
    "Flatten",
    "Gather",
    "HardSwish",
    "LocalResponse",
    "MatMul",
    "Mul",
    "Node",
    "Normalize",
    "Pad",
    "Pool",
    "Quantize",
    "Rearrange",
    "Reduce",
    "Resize",
    "Sign",
    "Softmax",
    "Unary",
    "Weighted",
]
