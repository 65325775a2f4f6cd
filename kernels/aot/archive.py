"""Static libraries, in the format that every linker reads (GNU ar), without a program to make them.

An archive is a header, then members: first an index of symbols, then object files.
"""

from __future__ import annotations

from collections.abc import Sequence

MAGIC = b"!<arch>\n"


def static_library(members: Sequence[tuple[bytes, Sequence[str]]]) -> bytes:
    """An archive.

    Args:
        members: Object files, each with the names that it defines for others.

    Returns:
        The same bytes for the same arguments: members have no owner and no date.
    """
    symbols = [symbol.encode() for _, names in members for symbol in names]
    texts = b"".join(symbol + b"\0" for symbol in symbols)
    texts += bytes(len(texts) % 2)
    index_size = 4 + 4 * len(symbols) + len(texts)
    place, places, body = len(MAGIC) + len(_header("", 0)) + index_size, [], b""
    for number, (objects, names) in enumerate(members):
        places += [place + len(body)] * len(names)
        body += _header(f"bwn{number}.o", len(objects)) + objects + b"\n" * (len(objects) % 2)
    index = b"".join(count.to_bytes(4, "big") for count in (len(symbols), *places)) + texts
    return MAGIC + _header("", index_size) + index + body


def _header(name: str, size: int) -> bytes:
    """What is written before a member: name, date, owner, group, mode, size."""
    return f"{name + '/':16}{0:<12}{0:<6}{0:<6}{'644':8}{size:<10}`\n".encode()
