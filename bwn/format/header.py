"""The header of a .bwn file: constants, metadata, and the order that makes files reproducible.

SPEC.md in this folder specifies the format; the numbers and names below come from it.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, Union

import msgspec
import numpy as np

from bwn.ir.graph import Topology
from bwn.ir.model_spec import ModelSpec
from bwn.ir.node import Array, Shape
from bwn.ops import NODES, node_types

FORMAT = "bwn"
VERSIONS = ("1", "2", "3", "4", "5")
"""A model is written in the first version that can hold it, so that older programs can read it."""
MAX_FILE = 2**30
MAX_HEADER = 2**24
ALIGN = 8
PREFIXES = tuple(
    b'{"__metadata__":{"format":"bwn","version":"%s","digest":"' % version.encode()
    for version in VERSIONS
)
"""Start of the header of each version, after its length; the digest follows. Equally long."""

DIGEST_DIGITS = 64
DIGEST_AT = slice(8 + len(PREFIXES[0]), 8 + len(PREFIXES[0]) + DIGEST_DIGITS)
NO_DIGEST = b"0" * DIGEST_DIGITS

DTYPES: dict[str, np.dtype[Any]] = {
    "U64": np.dtype("<u8"),
    "F32": np.dtype("<f4"),
    "I8": np.dtype("i1"),
}
NAMES: dict[np.dtype[Any], str] = {dtype.newbyteorder("="): name for name, dtype in DTYPES.items()}
INT8_SINCE = 5
"""First version that may hold int8 tensors."""


class Metadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The header's `__metadata__`: strings in this order, of which the last three hold JSON."""

    format: str
    version: str
    digest: str
    producer: str
    graph: str
    preprocess: str
    classes: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """The header's entry for one tensor, as safetensors writes it."""

    dtype: str
    shape: Shape
    data_offsets: tuple[int, int]


class StoredOp(msgspec.Struct):
    """The name of a node's operation, without the rest of the node."""

    op: str


class StoredOps(msgspec.Struct):
    """The names of the operations of a topology in the file."""

    nodes: tuple[StoredOp, ...]


@cache
def topology_type(ops: frozenset[str]) -> type[msgspec.Struct]:
    """The schema of a topology in the file whose nodes are of some operations of NODES.

    Args:
        ops: Names of operations; the schema refuses those that are not in NODES.
    """
    kinds = node_types(sorted(NODES.keys() & ops) or NODES)
    return msgspec.defstruct(
        "FileTopology",
        [("nodes", tuple[Union[kinds], ...])],  # type: ignore[valid-type]  # noqa: UP007
        bases=(Topology,),
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )


def version_of(spec: ModelSpec) -> str:
    """The first version of the file that can hold all of a model."""
    needed = [1, *(node.since for node in spec.graph.nodes)]
    if spec.preprocess:
        needed.append(spec.preprocess.since)
    if any(array.dtype == np.int8 for array in spec.graph.tensors.values()):
        needed.append(INT8_SINCE)
    return VERSIONS[max(needed) - 1]


def in_order(tensors: dict[str, Array]) -> list[tuple[str, Array]]:
    """Tensors in the order of the file: words, aligned to 8 bytes, floats, bytes; each by name."""
    return sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))


def header_bytes(metadata: Metadata, tensors: list[tuple[str, Array]]) -> bytes:
    """The length and the JSON of the header, padded with spaces to a multiple of 8 bytes."""
    fields: dict[str, Metadata | Entry] = {"__metadata__": metadata}
    start = 0
    for name, array in tensors:
        end = start + array.nbytes
        fields[name] = Entry(dtype=NAMES[array.dtype], shape=array.shape, data_offsets=(start, end))
        start = end
    text = msgspec.json.encode(fields)
    text += b" " * (-len(text) % ALIGN)
    return len(text).to_bytes(8, "little") + text


def digest(data: bytes) -> bytes:
    """SHA-256 of a file with its own digest replaced by 64 zeros, as 64 hexadecimal digits."""
    state = hashlib.sha256(data[: DIGEST_AT.start])
    state.update(NO_DIGEST)
    state.update(memoryview(data)[DIGEST_AT.stop :])
    return state.hexdigest().encode()
