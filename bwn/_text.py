"""Text for messages of one line."""

from __future__ import annotations

import math
from collections.abc import Sequence

__version__ = "0.2.0"
OWN_TRAINING = "docs/own-training.md"
"""The page, in the repository, on one-bit weights for networks that other tools trained."""


def one_line(text: object, limit: int | None = None) -> str:
    """Return `text` on one line that any terminal shows as it is.

    Args:
        text: Anything; its `str` is taken.
        limit: Largest number of characters; None: all.

    Returns:
        The text with spaces for line ends and escapes for control and undecodable characters.
    """
    line = " ".join(str(text).split("\n")).rstrip()
    return "".join(char if _is_safe(char) else _escape(char) for char in line)[:limit]


def is_name(text: str) -> bool:
    """Return whether `text` is one line that is shown as it is, in any script.

    Joiners, soft hyphens, wide spaces and characters newer than Python's tables are part of names;
    control characters, halves of characters, ends of lines, and what turns the text around it are
    not.
    """
    return all(map(_is_safe, text))


def brief(error: BaseException, limit: int) -> str:
    """At most `limit` characters of another library's message, on one line."""
    return one_line(" ".join(str(error).split()), limit)


def reason(error: Exception) -> str:
    """Return why a file cannot be read or written, without its name.

    Args:
        error: An OSError, or the ValueError of a file name with a zero byte.
    """
    return getattr(error, "strerror", None) or str(error)


def read_failure(path: object, error: Exception) -> str:
    """Return why the file `path` cannot be read. error: as for `reason`."""
    if isinstance(error, FileNotFoundError):
        return f"no such file: {path}"
    return f"{path}: cannot be read: {reason(error)}"


def count_noun(count: int, noun: str) -> str:
    """A count and its noun, in the plural where it needs one: `1 image`, `1,200 classes`."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def listed(items: Sequence[object], most: int) -> str:
    """The first items with commas between them, and `...` where there are more than `most`."""
    return ", ".join(map(str, items[:most])) + ", ..." * (len(items) > most)


def with_article(noun: str) -> str:
    """A noun with its article: `an int`, `a dict`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def three_digits(number: float) -> str:
    """A number of 0 or more with three significant digits: `0.0106`, `6,630`."""
    return f"{float(f'{number:.3g}'):,.0f}" if 100 <= number < 1e9 else f"{number:.3g}"


def byte_size(count: float) -> str:
    """A count of bytes with its unit (IEC 80000-13): `512 B`, `12.3 KiB`, `4.0 MiB`."""
    if count < 1024:
        return f"{count:.0f} B"
    power = min(int(math.log2(count) / 10), 4)
    return f"{count / 1024**power:.1f} {'KMGT'[power - 1]}iB"


def _is_safe(char: str) -> bool:
    if char.isprintable():
        return True
    import unicodedata  # characters that are rare

    turns = "\u202a" <= char <= "\u202e" or "\u2066" <= char <= "\u2069"
    return not turns and unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()
