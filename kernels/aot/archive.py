"""Static libraries, in the format that every linker reads (GNU ar), without a program to make them.

An archive is a header, then members: first an index of symbols, then object files.
"""

from __future__ import annotations

from collections.abc import Sequence

MAGIC = b"!<arch>\n"
MEMBER = "bwn.o"


def static_library(objects: bytes, symbols: Sequence[str]) -> bytes:
    """An archive of one object file.

    Args:
        objects: The object file.
        symbols: Names that it defines for others.

    Returns:
        The same bytes for the same arguments: members have no owner and no date.
    """
    names = b"".join(symbol.encode() + b"\0" for symbol in symbols)
    names += bytes(len(names) % 2)
    index_size = 4 + 4 * len(symbols) + len(names)
    place = len(MAGIC) + len(_header("", 0)) + index_size
    numbers = [len(symbols), *[place] * len(symbols)]
    index = b"".join(number.to_bytes(4, "big") for number in numbers) + names
    member = _header(MEMBER, len(objects)) + objects + b"\n" * (len(objects) % 2)
    return MAGIC + _header("", index_size) + index + member


def _header(name: str, size: int) -> bytes:
    """What is written before a member: name, date, owner, group, mode, size."""
    return f"{name + '/':16}{0:<12}{0:<6}{0:<6}{'644':8}{size:<10}`\n".encode()
