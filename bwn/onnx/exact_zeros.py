"""Activations that are often exactly 0, as after a ReLU: there a Sign must keep 0.

Numbers that are computed of real weights and inputs are hardly ever exactly 0. Often are:

- a bound of a clamp, rounded numbers, padding, and what operations that keep 0 make of these;
- sums of signs, on which no number is added that differs from channel to channel.
"""

from __future__ import annotations

import numpy as np

from bwn.ir.node import Elementwise, Node, Rearrangement, Shape, Tensors
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.broadcasting import Arithmetic
from bwn.ops.clamp import Clamp
from bwn.ops.gather import Gather
from bwn.ops.mul import Mul
from bwn.ops.pad import Pad
from bwn.ops.pool import Pool
from bwn.ops.quantize import Quantize
from bwn.ops.reduce import Reduce
from bwn.ops.sign import Sign
from bwn.ops.unary import Unary
from bwn.ops.weighted import Weighted

ROUNDING = ("ceil", "floor", "round")


class ExactZeros:
    """The tensors of a graph that are often exactly 0, as its nodes are added.

    Attributes:
        often: Their names.
    """

    def __init__(self) -> None:
        self.often: set[str] = set()
        self._few: set[str] = set()  # tensors of few values: signs, and what is made of them

    def add(self, node: Node, tensors: Tensors, shapes: dict[str, Shape]) -> None:
        """Take a node into account.

        Args:
            node: The node, whose inputs were made by nodes before it.
            tensors: The stored tensors.
            shapes: Of the activations.
        """
        few = isinstance(node, Sign) or (
            self._few.issuperset(node.inputs) and not _differs(node, tensors)
        )
        if few:
            self._few.add(node.output)
        chosen = isinstance(node, (Sign, Rearrangement)) or node.commutes_with_sign
        if (few and not chosen) or self._keeps(node, tensors, shapes):
            self.often.add(node.output)

    def _keeps(self, node: Node, tensors: Tensors, shapes: dict[str, Shape]) -> bool:
        """Whether a node makes zeros, or makes them of zeros."""
        zero = [name in self.often for name in node.inputs]
        match node:
            case Clamp() if 0 in (node.low, node.high):
                return True
            case Unary() if node.function in ROUNDING:
                return True
            case Quantize() | Pad(value=0) | Gather(has_value=True, value=0):
                return True
            case Elementwise():
                x = np.zeros((1, *shapes[node.input]))
                return zero[0] and bool((node.reference([x], tensors) == 0).any())
            case Arithmetic(function="mul" | "max" | "min") | Mul():
                return any(zero)
            case Arithmetic(function="div"):
                return zero[0] and not node.constant_first
            case Arithmetic(function="prelu") | Pool() | Reduce():
                return zero[0]
            case Arithmetic():
                return all(zero) and not any(tensors[name].all() for name in node.constants)
        return isinstance(node, (Add, Rearrangement)) and all(zero)


def _differs(node: Node, tensors: Tensors) -> bool:
    """Whether a node adds numbers that differ, or is of another kind than sums and products."""
    match node:
        case Affine() | Weighted(bias=str()):
            added = [node.bias]
        case Weighted():
            added = []
        case Arithmetic():
            added = list(node.constants)
        case _:
            return not isinstance(node, (Add, Mul, Pool, Reduce, Rearrangement))
    return any(name is not None and np.unique(tensors[name]).size > 1 for name in added)
