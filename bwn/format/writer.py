"""Write a .bwn file."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from bwn._files import write_beside
from bwn.errors import FileError, GraphError
from bwn.format.header import (
    DIGEST_AT,
    DTYPES,
    FORMAT,
    MAX_FILE,
    MAX_HEADER,
    NAMES,
    NO_DIGEST,
    FileTopology,
    Metadata,
    digest,
    header_bytes,
    in_order,
    version_of,
)
from bwn.ir.checker import check_spec
from bwn.ir.graph import Topology
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ir.node import Node


def write(path: str | os.PathLike[str], spec: ModelSpec) -> None:
    """Write `packed` to `path`: beside it first, then renamed. Raises GraphError, FileError."""
    data = to_bytes(spec)
    write_beside(path, data)


def to_bytes(spec: ModelSpec) -> bytes:
    """The bytes of the .bwn file of `packed`; equal models give equal bytes. Raises GraphError, FileError."""
    check_spec(spec)
    data = laid_out(spec)
    if len(data) > MAX_FILE or int.from_bytes(data[:8], "little") > MAX_HEADER:
        raise FileError(
            f"the model takes {len(data)} bytes; a .bwn file holds at most {MAX_FILE}, header {MAX_HEADER}"
        )
    return b"".join((data[: DIGEST_AT.start], digest(data), data[DIGEST_AT.stop :]))


def laid_out(spec: ModelSpec) -> bytes:
    """The file with zeros for a digest."""
    metadata = Metadata(
        format=FORMAT,
        version=version_of(spec.graph.topology),
        digest=NO_DIGEST.decode(),
        producer=spec.producer,
        graph=text(spec.graph.topology, FileTopology),
        preprocess=text(spec.preprocess, Preprocess | None),
        classes=text(spec.classes, tuple[str, ...] | None),
    )
    tensors = in_order(dict(spec.graph.tensors))
    data = (array.astype(DTYPES[NAMES[array.dtype]], copy=False).tobytes() for _, array in tensors)
    return b"".join((header_bytes(metadata, tensors), *data))


def text(value: object, kind: Any) -> str:
    """Canonical JSON: no spaces, keys in the order of the schema, numbers of the schema's types, defaults left out."""
    try:
        value = msgspec.json.decode(msgspec.json.encode(value), type=kind)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise GraphError(f"the graph does not fit the file's schema: {error}") from None
    if isinstance(value, Topology):
        value = msgspec.structs.replace(value, nodes=tuple(plain(node) for node in value.nodes))
    return msgspec.json.encode(value).decode()


def plain(node: Node) -> Node:
    """`node` with each value that equals its default replaced by it: msgspec leaves out what *is* the default."""
    fields = msgspec.structs.fields(node)
    values = {field.name: getattr(node, field.name) for field in fields}
    return type(node)(
        **{
            field.name: values[field.name]
            for field in fields
            if values[field.name] != field.default
        }
    )
