"""ONNX nodes as plain Python values, their refusals, and what an import may allocate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bwn._text import brief, one_line
from bwn.errors import GraphError
from bwn.ir.node import Node

STANDARD = ("", "ai.onnx")
"""The domains of ONNX's own operations."""
MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's."""
OWN = "bwn"
"""The domain of operations that only the importer writes."""
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
"""What numpy and readers raise where something is missing, too many, or absurd."""


class NodeError(GraphError):
    """A node cannot be read.

    Attributes:
        reason: Why, without the node's name.
    """

    def __init__(self, node: OnnxNode, reason: str) -> None:
        """Make the error; its message names the operation and the node."""
        super().__init__(one_line(f"{node.op_type} node '{node.label}': {reason}"))
        self.reason = reason


@dataclass(frozen=True)
class OnnxNode:
    """An ONNX node with plain Python values: text, numpy types and numpy arrays."""

    op_type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, Any]
    proto: Any = None

    @property
    def output(self) -> str:
        """Its first output."""
        return self.outputs[0]

    def has(self, index: int) -> bool:
        """Whether the node has the optional input `index`."""
        return index < len(self.inputs) and bool(self.inputs[index])

    def axis(self, number: int, rank: int) -> int:
        """An axis of a tensor of `rank` axes, from 0. Raises GraphError where there is none."""
        if not -rank <= number < rank:
            raise self.refuse(f"works on axis {number} of a tensor of {rank} axes")
        return number % rank

    @property
    def label(self) -> str:
        """Its name, or that of its first output."""
        return self.name or (self.outputs[0] if self.outputs else "")

    def refuse(self, why: str) -> GraphError:
        """An error that names the operation and the node, on one line."""
        return NodeError(self, why)


class RefusingMalformed:
    """Context in which a node is refused where its inputs or attributes make no sense.

    Readers check what exporters get wrong; what only a damaged or forged file has ends here.

    Args:
        refuse: Makes the error, from the reason.
        what: How the reason begins.
    """

    def __init__(self, refuse: Callable[[str], GraphError], what: str = "cannot be read") -> None:
        self.refuse, self.what = refuse, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MemoryError):
            raise self.refuse(f"{self.what}: it asks for more memory than there is") from None
        if isinstance(error, MALFORMED):
            raise self.refuse(f"{self.what}: {brief(error, 200)}") from None


class Allowance:
    """The bytes that an import may still allocate for constants.

    A file of 2 kB can ask for as much memory as there is: by constants that double, or by one
    number that becomes a vector for each of ten thousand nodes.

    Args:
        file: Bytes of the model.
    """

    BASE = 2**27
    PER_BYTE = 16
    """Times the file's size: weights of 1 byte become 4, and pass through a few nodes."""

    def __init__(self, file: int = 0) -> None:
        self.limit = self.left = self.BASE + self.PER_BYTE * file

    def check(self, node: OnnxNode | Node | None, size: int) -> None:
        """Raise GraphError where a node would allocate more bytes than are left."""
        if size > self.left:
            why = (
                f"makes a constant of {size:,} bytes; those that a model of this size computes may "
                f"take {self.limit:,} bytes together"
            )
            raise GraphError(why) if node is None else node.refuse(why)

    def take(self, node: OnnxNode | Node | None, size: int) -> None:
        """As `check`, and take the bytes off."""
        self.check(node, size)
        self.left -= size
