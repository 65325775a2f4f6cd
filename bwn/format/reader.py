"""Read a .bwn file, or say in one line why not. The refusals stand in the order of SPEC.md."""

from __future__ import annotations

import os
import re
from typing import Any

import msgspec
import numpy as np
import safetensors

from bwn._file_types import HEAD, looks_like, read_limited
from bwn.errors import FileError, FormatError, GraphError
from bwn.format.header import (
    DIGEST_AT,
    DTYPES,
    MAX_FILE,
    MAX_HEADER,
    PREFIXES,
    VERSIONS,
    FileTopology,
    Metadata,
    digest,
)
from bwn.format.writer import to_bytes
from bwn.ir.checker import check_spec
from bwn.ir.graph import Graph, Topology
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ir.node import Array

AGAIN = "copy it again, or make it again with bwn pack"


def read(path: str | os.PathLike[str]) -> ModelSpec:
    """What a .bwn file says, every rule of SPEC.md checked.

    Words are (out, ceil(K / 64)) uint64, C-contiguous, on 8 bytes, as they lie in the file.
    Raises FormatError (FileError where the file cannot be opened): one line that starts with the path.
    """
    data = read_limited(path, MAX_FILE)
    try:
        return from_bytes(data)
    except FileError as error:
        raise FormatError(f"{path}: {error}") from None


def from_bytes(data: bytes) -> ModelSpec:
    """As `read`, from the bytes of a file; messages do not name it."""
    recognize(data)
    try:
        found = safetensors.deserialize(data)  # type: ignore[no-untyped-call]  # the package has no types
    except safetensors.SafetensorError as error:
        raise FormatError(f"truncated or damaged ({one_line(error)}); {AGAIN}") from None
    if digest(data) != data[DIGEST_AT]:
        raise FormatError(f"damaged: its contents do not match its digest; {AGAIN}")
    metadata = metadata_of(data)
    topology = Topology(**msgspec.structs.asdict(decode(metadata.graph, "graph", FileTopology)))
    spec = ModelSpec(
        graph=Graph(
            topology=topology, tensors={name: to_array(name, entry) for name, entry in found}
        ),
        preprocess=decode(metadata.preprocess, "preprocess", Preprocess | None),
        classes=decode(metadata.classes, "classes", tuple[str, ...] | None),
        producer=metadata.producer,
    )
    try:
        check_spec(spec)
    except GraphError as error:
        raise FormatError(f"illegal model: {error}; make it again with bwn pack") from None
    if to_bytes(spec) != data:
        raise FormatError(
            "not in canonical form (another tool wrote it); make it again with bwn pack"
        )
    return spec


def recognize(data: bytes) -> None:
    """Refuse what is not a .bwn file of a known version, and say what it looks like."""
    length = int.from_bytes(data[:8], "little")
    if data[8 : DIGEST_AT.start].startswith(PREFIXES):
        if length > MAX_HEADER:
            raise FormatError(f"header of {length} bytes; at most {MAX_HEADER} are read; {AGAIN}")
        return
    if len(data) > 8 and any(start.startswith(data[8:]) for start in PREFIXES):
        raise FormatError(f"truncated after {len(data)} bytes; {AGAIN}")
    start = PREFIXES[0][: PREFIXES[0].index(b'"1"')]
    other = re.match(re.escape(start) + rb'"([0-9.]+)",', data[8:HEAD])
    if other and other[1].decode() not in VERSIONS:
        known = ", ".join(f'"{version}"' for version in VERSIONS)
        raise FormatError(
            f'format version "{other[1].decode()}"; this bwn reads versions {known}: install a newer bwn'
        )
    kind = looks_like(data[:HEAD])
    if ".bwn" in kind:
        raise FormatError(f"damaged: its header does not start as it should; {AGAIN}")
    raise FormatError(f"not a .bwn model; it looks like {kind}; make one with bwn pack")


def metadata_of(data: bytes) -> Metadata:
    """The header's metadata: exactly the keys of the schema, each a string."""
    length = int.from_bytes(data[:8], "little")
    try:
        fields = msgspec.json.decode(data[8 : 8 + length], type=dict[str, msgspec.Raw])
        return msgspec.json.decode(fields["__metadata__"], type=Metadata)
    except (msgspec.DecodeError, RecursionError) as error:
        raise FormatError(f"metadata: {one_line(error)}; make it again with bwn pack") from None


def decode(text: str, what: str, kind: Any) -> Any:
    """A JSON string of the metadata, against its schema."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise FormatError(f"{what}: {one_line(error)}; make it again with bwn pack") from None


def to_array(name: str, entry: dict[str, Any]) -> Array:
    """One tensor; the file is little-endian, the array is of this machine."""
    if entry["dtype"] not in DTYPES:
        found = f"tensor '{one_line(name)}' is {entry['dtype']}"
        raise FormatError(f"{found}, expected U64 or F32; make it again with bwn pack")
    stored = DTYPES[entry["dtype"]]
    array = np.frombuffer(entry["data"], stored).reshape(entry["shape"])
    return array.astype(stored.newbyteorder("="), copy=False)


def one_line(text: object) -> str:
    """Any text on one line of at most 200 characters."""
    return "".join(char if char.isprintable() else " " for char in str(text))[:200]
