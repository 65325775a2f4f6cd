"""Write a .bwn file."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from bwn._files import write_atomically
from bwn._types import StrPath
from bwn.errors import FileError, GraphError
from bwn.format.header import (
    DIGEST_AT,
    DTYPES,
    FORMAT,
    MAX_FILE,
    MAX_HEADER,
    NAMES,
    NO_DIGEST,
    Metadata,
    digest,
    header_bytes,
    in_order,
    topology_type,
    version_of,
)
from bwn.ir.checker import check_spec
from bwn.ir.graph import Topology
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ir.node import Node


def write(path: StrPath, spec: ModelSpec) -> None:
    """Write `spec` to `path`: a reader sees the old file or the new one.

    Raises:
        GraphError: The model is illegal.
        FileError: It is too large, or the file cannot be written.
    """
    write_atomically(path, to_bytes(spec))


def to_bytes(spec: ModelSpec) -> bytes:
    """The bytes of the .bwn file of `spec`; equal models give equal bytes. Raises as `write`."""
    check_spec(spec)
    data = laid_out(spec)
    if len(data) > MAX_FILE or int.from_bytes(data[:8], "little") > MAX_HEADER:
        raise FileError(
            f"the model takes {len(data):,} bytes; a .bwn file holds at most {MAX_FILE:,}, "
            f"of which the header takes at most {MAX_HEADER:,}"
        )
    return b"".join((data[: DIGEST_AT.start], digest(data), data[DIGEST_AT.stop :]))


def laid_out(spec: ModelSpec) -> bytes:
    """The bytes of the file with zeros for a digest."""
    metadata = Metadata(
        format=FORMAT,
        version=version_of(spec),
        digest=NO_DIGEST.decode(),
        producer=spec.producer,
        graph=text(
            spec.graph.topology, topology_type(frozenset(node.op for node in spec.graph.nodes))
        ),
        preprocess=text(spec.preprocess, Preprocess | None),
        classes=text(spec.classes, tuple[str, ...] | None),
    )
    tensors = in_order(dict(spec.graph.tensors))
    data = (array.astype(DTYPES[NAMES[array.dtype]], copy=False).tobytes() for _, array in tensors)
    return b"".join((header_bytes(metadata, tensors), *data))


def text(value: object, kind: Any) -> str:
    """Canonical JSON: no spaces, keys and number types as in the schema, defaults left out."""
    try:
        value = msgspec.json.decode(msgspec.json.encode(value), type=kind)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise GraphError(f"the graph does not fit the file's schema: {error}") from None
    if isinstance(value, Topology):
        value = msgspec.structs.replace(value, nodes=tuple(plain(node) for node in value.nodes))
    if isinstance(value, Preprocess):
        value = value.stored
    return msgspec.json.encode(value).decode()


def plain(node: Node) -> Node:
    """`node` with each value that equals its default made that object: msgspec compares by `is`."""
    values = {name: (getattr(node, name), value) for name, value in defaults(type(node)).items()}
    return type(node)(**{name: own for name, (own, value) in values.items() if own != value})


@cache
def defaults(kind: type[Node]) -> dict[str, Any]:
    """The default of each field of an operation, or msgspec's mark that it has none."""
    return {field.name: field.default for field in msgspec.structs.fields(kind)}
