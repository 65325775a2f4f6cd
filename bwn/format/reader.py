"""Read a .bwn file, or say in one line why not. The refusals are in the order of SPEC.md."""

from __future__ import annotations

import os
import re
from typing import Any, BinaryIO

import msgspec
import numpy as np
import safetensors

from bwn._file_types import HEAD, PACKABLE, PACKED, looks_like, mismatch
from bwn._files import read_limited, read_stream
from bwn._text import count_noun, one_line
from bwn._types import StrPath
from bwn.errors import ArgumentError, FileError, FormatError, GraphError
from bwn.format.header import (
    DIGEST_AT,
    DTYPES,
    MAX_FILE,
    MAX_HEADER,
    PREFIXES,
    VERSIONS,
    Entry,
    Metadata,
    StoredOps,
    digest,
    topology_type,
)
from bwn.format.writer import to_bytes
from bwn.ir.checker import check_spec
from bwn.ir.graph import Graph, Topology
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ir.node import Array

Source = StrPath | bytes | bytearray | memoryview | BinaryIO
"""A path, the bytes of a file, or a file opened in binary mode."""

AGAIN = "copy it again, or pack it again with bwn pack"
REPACK = "pack it again with bwn pack"
QUOTED = 200
"""Characters of another library's message that are quoted at most."""


def read(source: Source) -> ModelSpec:
    """Read a .bwn file and check every rule of SPEC.md.

    Args:
        source: A path, the bytes of a file, or a file opened in binary mode.

    Returns:
        The model. Words are (out, ceil(K / 64)) uint64, C-contiguous, aligned to 8 bytes.

    Raises:
        FormatError: The file breaks a rule; one line that starts with the path, where there is one.
        FileError: The file cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        name, data = str(source), read_limited(source, MAX_FILE, "a .bwn file")
    elif isinstance(source, (bytes, bytearray, memoryview)):
        name, data = "model", bytes(source)
    elif hasattr(source, "read"):
        name = str(getattr(source, "name", "model"))
        data = read_stream(source, name, MAX_FILE)
    else:
        raise ArgumentError(
            f"a model is a path, bytes or a binary file, not {type(source).__name__}"
        )
    try:
        return from_bytes(data)
    except FileError as error:
        raise FormatError(f"{name}: {error}") from None


def from_bytes(data: bytes) -> ModelSpec:
    """As `read`, from the bytes of a file; messages do not name it."""
    recognize(data)
    try:
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]  # no types
    except safetensors.SafetensorError:
        raise FormatError(f"{size_problem(data)}; {AGAIN}") from None
    if digest(data) != data[DIGEST_AT]:
        raise FormatError(f"damaged: its contents do not match its digest; {AGAIN}")
    metadata = metadata_of(data)
    ops = frozenset(node.op for node in decode(metadata.graph, "graph", StoredOps).nodes)
    topology = Topology(
        **msgspec.structs.asdict(decode(metadata.graph, "graph", topology_type(ops)))
    )
    spec = ModelSpec(
        graph=Graph(
            topology=topology, tensors={name: to_array(name, entry) for name, entry in entries}
        ),
        preprocess=decode(metadata.preprocess, "preprocess", Preprocess | None),
        classes=decode(metadata.classes, "classes", tuple[str, ...] | None),
        producer=metadata.producer,
    )
    try:
        check_spec(spec)
    except GraphError as error:
        raise FormatError(f"illegal model: {error}; {REPACK}") from None
    if to_bytes(spec) != data:
        raise FormatError(f"not in canonical form (another tool wrote it); {REPACK}")
    return spec


def recognize(data: bytes) -> None:
    """Refuse what is not a .bwn file of a known version, and say what it looks like."""
    length = int.from_bytes(data[:8], "little")
    if data[8 : DIGEST_AT.start].startswith(PREFIXES):
        if length > MAX_HEADER:
            raise FormatError(
                f"header of {length:,} bytes; at most {MAX_HEADER:,} are read; {AGAIN}"
            )
        return
    if len(data) > 8 and any(start.startswith(data[8:]) for start in PREFIXES):
        raise FormatError(f"truncated after {count_noun(len(data), 'byte')}; {AGAIN}")
    start = PREFIXES[0][: PREFIXES[0].index(b'"1"')]
    other = re.match(re.escape(start) + rb'"([0-9.]+)",', data[8:HEAD])
    if other and other[1].decode() not in VERSIONS:
        known = ", ".join(f'"{version}"' for version in VERSIONS)
        raise FormatError(
            f'format version "{other[1].decode()}"; this bwn reads versions {known}: '
            "install a newer bwn"
        )
    kind = looks_like(data[:HEAD])
    if kind == PACKED:
        raise FormatError(f"damaged: its header does not start as it should; {AGAIN}")
    hint = "pack it" if kind in PACKABLE else "make one"
    raise FormatError(f"{mismatch('a .bwn file', data[:HEAD])}; {hint} with bwn pack")


def size_problem(data: bytes) -> str:
    """Why a file of fewer or more bytes than its header says, or with a broken one, is refused."""
    size = 8 + int.from_bytes(data[:8], "little")
    if size > len(data):
        return f"truncated: {len(data):,} of more than {size:,} bytes"
    try:
        fields = msgspec.json.decode(data[8:size], type=dict[str, msgspec.Raw])
        fields.pop("__metadata__", None)
        tensors = [msgspec.json.decode(field, type=Entry) for field in fields.values()]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return "damaged: its header is not valid"
    size += max((entry.data_offsets[1] for entry in tensors), default=0)
    if size > len(data):
        return f"truncated: {len(data):,} of {size:,} bytes"
    if size < len(data):
        return f"damaged: {len(data):,} bytes, expected {size:,}"
    return "damaged: its tensors overlap, leave gaps or have other sizes than their shapes"


def metadata_of(data: bytes) -> Metadata:
    """The header's metadata: exactly the keys of the schema, each a string."""
    length = int.from_bytes(data[:8], "little")
    try:
        fields = msgspec.json.decode(data[8 : 8 + length], type=dict[str, msgspec.Raw])
        return msgspec.json.decode(fields["__metadata__"], type=Metadata)
    except (msgspec.DecodeError, RecursionError) as error:
        raise FormatError(f"metadata: {one_line(error, QUOTED)}; {REPACK}") from None


def decode(text: str, what: str, kind: Any) -> Any:
    """A JSON string of the metadata, checked against its schema."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise FormatError(f"{what}: {one_line(error, QUOTED)}; {REPACK}") from None


def to_array(name: str, entry: dict[str, Any]) -> Array:
    """One tensor; the file is little-endian, the array is in this machine's order."""
    if entry["dtype"] not in DTYPES:
        raise FormatError(
            f"tensor '{one_line(name, QUOTED)}' is {entry['dtype']}, expected U64, F32 or "
            f"I8; {REPACK}"
        )
    stored = DTYPES[entry["dtype"]]
    array = np.frombuffer(entry["data"], stored).reshape(entry["shape"])
    return array.astype(stored.newbyteorder("="), copy=False)
