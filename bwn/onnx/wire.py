"""How many protobuf fields a large file has, counted before protobuf makes objects of them.

Two bytes can be a message of a hundred bytes in memory: a file of 1 GiB could ask for 100 GiB.
"""

from __future__ import annotations

from typing import Any

import onnx

from bwn.errors import GraphError

MAX_FIELDS = 2**23
DEEPEST = 100
"""Messages in messages; protobuf itself refuses more."""
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES, DAMAGED = 0, 1, 2, 5, 6
"""Wire types; 3 and 4 have no content. See https://protobuf.dev/programming-guides/encoding/."""

Table = dict[int, Any]
"""Of a kind of message: the table of each field that is a message too, by its number."""


def check_fields(data: bytes) -> None:
    """Raise GraphError where a file has more fields than the largest networks have.

    What is damaged is left to protobuf to refuse.
    """
    if len(data) <= 2 * MAX_FIELDS:  # a field takes two bytes
        return
    try:
        count = count_fields(data)
    except IndexError:
        return
    if count > MAX_FIELDS:
        raise GraphError(f"the file has more than {MAX_FIELDS:,} fields, too many for a network")


def count_fields(data: bytes) -> int:
    """Fields of a model and of all messages in it, as far as MAX_FIELDS + 1."""
    children, at, end = TABLES["onnx.ModelProto"], 0, len(data)
    outer: list[tuple[Table, int, int]] = []
    for count in range(MAX_FIELDS + 1):
        while at >= end:
            if not outer:
                return count
            children, at, end = outer.pop()
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == LENGTH:
            size, at = varint(data, at)
            if (child := children.get(tag >> 3)) is None:
                at += size
                continue
            if len(outer) == DEEPEST:
                return count
            outer.append((children, at + size, end))
            children, end = child, min(at + size, end)
        elif kind == VARINT:
            _, at = varint(data, at)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            at += 8 if kind == EIGHT_BYTES else 4
        elif kind >= DAMAGED:
            return count
    return MAX_FIELDS + 1


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a position, and the position after it."""
    byte = data[at]
    number, shift = byte & 127, 7
    while byte & 128 and shift < 70:
        at += 1
        byte = data[at]
        number |= (byte & 127) << shift
        shift += 7
    return number, at + 1


def tables() -> dict[str, Table]:
    """The table of each kind of message that a model can hold."""
    every: dict[str, Table] = {}
    waiting: list[Any] = [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        descriptor = waiting.pop()
        table = every.setdefault(descriptor.full_name, {})
        for field in descriptor.fields:
            if field.message_type is not None:
                if field.message_type.full_name not in every:
                    every[field.message_type.full_name] = {}
                    waiting.append(field.message_type)
                table[field.number] = every[field.message_type.full_name]
    return every


TABLES = tables()
