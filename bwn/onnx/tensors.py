"""Stored tensors of an ONNX file, checked before anything is computed from them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from math import prod
from pathlib import PurePath

import onnx
from onnx import TensorProto

from bwn._text import one_line, reason
from bwn._types import StrPath
from bwn.errors import GraphError

LARGEST_DIM = 2**31
MOST_AXES = 32
PACKED: dict[int, int] = {
    TensorProto.UINT4: 2,
    TensorProto.INT4: 2,
    TensorProto.FLOAT4E2M1: 2,
    TensorProto.UINT2: 4,
    TensorProto.INT2: 4,
}
"""Types of which one byte holds several elements, and how many."""
NOT_NUMBERS: dict[int, str] = {
    TensorProto.STRING: "text",
    TensorProto.COMPLEX64: "complex numbers",
    TensorProto.COMPLEX128: "complex numbers",
}


def tensors_of(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every stored tensor of a graph, of its nodes and of their subgraphs, with a name for it.

    Raises:
        GraphError: One is sparse.
    """
    if graph.sparse_initializer:
        raise sparse(graph.sparse_initializer[0].values.name)
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        for attribute in node.attribute:
            name = node.output[0] if node.output else node.name
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise sparse(name)
            if attribute.HasField("t"):
                yield name, attribute.t
            for tensor in attribute.tensors:
                yield name, tensor
            for subgraph in subgraphs(attribute):
                yield from tensors_of(subgraph)


def subgraphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that an attribute holds."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def sparse(name: str) -> GraphError:
    """The refusal of a sparse tensor."""
    return GraphError(
        f"tensor '{name}' is sparse, which is not supported; save the weights as plain tensors"
    )


def check_tensor(name: str, tensor: onnx.TensorProto) -> None:
    """Raise GraphError unless a tensor has numbers of a known type, as many as its shape says."""
    expected = byte_count(name, tensor)
    if tensor.HasField("segment"):
        raise GraphError(f"tensor '{name}': stored in segments, which is not supported")
    if tensor.HasField("raw_data"):
        stored, unit = len(tensor.raw_data), "bytes"
    else:
        field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
        stored, unit = len(getattr(tensor, field)), "numbers"
        expected = prod(tensor.dims)
        expected = -(-expected // PACKED.get(tensor.data_type, 1))
    if stored != expected:
        raise GraphError(
            f"tensor '{name}': shape {tuple(tensor.dims)} takes {expected:,} {unit}, but "
            f"{stored:,} are stored"
        )


def byte_count(name: str, tensor: onnx.TensorProto) -> int:
    """Bytes that a tensor takes by its shape and type. Raises GraphError where those are absurd."""
    if tensor.data_type in NOT_NUMBERS:
        raise GraphError(f"tensor '{name}' holds {NOT_NUMBERS[tensor.data_type]}, not real numbers")
    try:
        itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError, ValueError):
        raise GraphError(f"tensor '{name}' has the unknown type {tensor.data_type}") from None
    dims = tensor.dims
    if len(dims) > MOST_AXES:
        raise GraphError(f"tensor '{name}' has {len(dims):,} axes; at most {MOST_AXES} are read")
    if any(not 0 <= size <= LARGEST_DIM for size in dims):
        raise GraphError(f"tensor '{name}': illegal shape {tuple(dims)}")
    return int(-(-prod(dims) * itemsize // PACKED.get(tensor.data_type, 1)))


def read_external(name: str, tensor: onnx.TensorProto, folder: StrPath | None, limit: int) -> int:
    """Put the data of a tensor that lie in another file into the tensor.

    Args:
        name: Of the tensor, for messages.
        tensor: The tensor, changed in place.
        folder: The model's folder, which the file must be in; None where it is not known.
        limit: Most bytes to read.

    Returns:
        How many bytes were read.

    Raises:
        GraphError: The file is missing, too short, or outside the folder.
    """
    fields = {entry.key: entry.value for entry in tensor.external_data}
    location = fields.get("location", "")
    if not isinstance(location, str):  # protobuf gives bytes where a string is not UTF-8
        raise GraphError(f"tensor '{name}': the name of its file is not UTF-8")
    shown = f"tensor '{name}': its data are in '{one_line(location, 200)}'"
    if folder is None:
        raise GraphError(f"{shown}: give the model's path, not its bytes, or save it as one file")
    length = byte_count(name, tensor)
    offset = number(fields, "offset", 0, shown)
    if number(fields, "length", length, shown) != length:
        raise GraphError(
            f"{shown}, {one_line(fields['length'], 40)} bytes, but shape {tuple(tensor.dims)} "
            f"takes {length:,} bytes"
        )
    if length > limit:
        raise GraphError(f"{shown}: the model's data are too large; at most 1 GiB is read")
    tensor.raw_data = read_inside(folder, location, offset, length, shown)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]
    return length


def number(fields: dict[str, str], key: str, default: int, shown: str) -> int:
    """A count of bytes among the fields of external data. Raises GraphError where it is none."""
    text = fields.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise GraphError(f"{shown}: {key} is '{one_line(text, 40)}', expected a count of bytes")
    return int(text)


def read_inside(folder: StrPath, location: str, offset: int, length: int, shown: str) -> bytes:
    """Bytes of a regular file that is inside a folder, links followed. Raises GraphError."""
    parts = PurePath(location).parts
    home = os.path.realpath(folder)
    try:
        path = os.path.realpath(os.path.join(home, location))
        inside = parts and ".." not in parts and not os.path.isabs(location)
        if not inside or os.path.commonpath([home, path]) != home:
            raise GraphError(f"{shown}, which is outside the model's folder; move it there")
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe might never open
            raise GraphError(f"{shown}, which is not a regular file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if offset + length > size:
                raise GraphError(
                    f"{shown}, bytes {offset:,} to {offset + length:,}, but that file has {size:,} "
                    "bytes; copy it again"
                )
            file.seek(offset)
            data = file.read(length)
    except FileNotFoundError:
        raise GraphError(f"{shown}, which is not next to the model; copy it there") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise GraphError(f"{shown}, which cannot be read: {reason(error)}") from None
    if len(data) != length:
        raise GraphError(f"{shown}, which became shorter while it was read")
    return data
