"""All nodes of an ONNX file that cannot be read, collected into one error."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from bwn._text import count_noun, listed, one_line
from bwn.errors import GraphError

LISTED = 3
"""Nodes of a kind that a message names."""
VARYING = re.compile(r"'[^']*'|\[[^\]]*\]|\([^()]*\)|-?\d[\d.,]*")
"""What differs between reasons of one kind: names, shapes and numbers."""
ALIKE = ", and alike"
"""Follows the first reason of a kind where others differ."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes that cannot be read for the same reason.

    Attributes:
        op_type: Their ONNX operation, with its domain where it is not ONNX's own.
        reason: Why they cannot be read.
        remedy: What would work instead; empty where nothing is known.
        nodes: Their names, in the order of the file.
    """

    op_type: str
    reason: str
    remedy: str = ""
    nodes: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = listed([f"'{name}'" for name in self.nodes], LISTED)
        remedy = f" ({self.remedy})" if self.remedy else ""
        return one_line(f"{len(self.nodes):,} x {self.op_type} ({names}): {self.reason}{remedy}")


class UnreadableNodesError(GraphError):
    """Nodes of an ONNX file cannot be read.

    Attributes:
        refusals: The kinds, the most frequent first.
    """

    def __init__(self, refusals: tuple[Refusal, ...]) -> None:
        """Make the error; its message lists the kinds."""
        count = sum(len(refusal.nodes) for refusal in refusals)
        kinds = "; ".join(map(str, refusals))
        super().__init__(f"{count_noun(count, 'node')} cannot be read: {kinds}")
        self.refusals = refusals

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.refusals,), {"args": self.args}


class Refusals:
    """The refused nodes so far."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, str, str], list[str]] = {}
        self._said: dict[tuple[str, str, str], str] = {}

    def add(self, op_type: str, node: str, reason: str, remedy: str = "") -> None:
        """Note that a node cannot be read.

        Args:
            op_type: Its ONNX operation.
            node: Its name, or that of its first output.
            reason: Why it cannot be read, without the node's name. Reasons that differ only in
                names and numbers are grouped, and the message shows the first.
            remedy: What would work instead.
        """
        kind = op_type, VARYING.sub("_", reason), remedy
        self._nodes.setdefault(kind, []).append(node)
        said = self._said.setdefault(kind, reason)
        if reason != said and not said.endswith(ALIKE):
            self._said[kind] = f"{said}{ALIKE}"

    @property
    def count(self) -> int:
        """How many nodes were refused."""
        return sum(map(len, self._nodes.values()))

    def error(self) -> UnreadableNodesError:
        """The error that lists them."""
        kinds = [
            Refusal(op_type=kind[0], reason=said, remedy=kind[2], nodes=tuple(self._nodes[kind]))
            for kind, said in self._said.items()
        ]
        return UnreadableNodesError(tuple(sorted(kinds, key=lambda kind: -len(kind.nodes))))
