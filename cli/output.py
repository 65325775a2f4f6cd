"""What commands print: tables, commands to copy, JSON and progress."""

from __future__ import annotations

import json
import math
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from bwn._text import one_line

NARROWEST = 16
"""Characters of a column below which text is left to the terminal to break."""


def table(header: Sequence[str], rows: Sequence[Sequence[object]], align: str = "") -> str:
    """Columns two spaces apart, the header underlined; None shows as `-`, integers as `1,234`.

    On a narrow terminal, text in the last column is wrapped.

    Args:
        header: Names of the columns.
        rows: Their cells.
        align: One of `<` and `>` for each column; where it ends, the first column is aligned to the
            left and the others to the right.
    """
    align += "<>"[bool(align)] + ">" * len(header)
    cells = [[_cell(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if align[len(widths) - 1] == "<" and (room := _room(widths)):
        widths[-1] = room
        cells = [part for row in cells for part in _wrapped(row, room)]
    cells.insert(1, ["-" * width for width in widths])
    lines = (
        "  ".join(f"{c:{a}{w}}" for c, a, w in zip(row, align, widths, strict=False))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _room(widths: Sequence[int]) -> int:
    """Width that a terminal leaves for the last column, if its text must and can be wrapped."""
    if not sys.stdout.isatty():
        return 0
    from shutil import get_terminal_size  # imports three compressors

    room = get_terminal_size().columns - sum(widths[:-1]) - 2 * (len(widths) - 1)
    return room if NARROWEST <= room < widths[-1] else 0


def _wrapped(row: list[str], room: int) -> list[list[str]]:
    from textwrap import wrap

    first, *others = wrap(row[-1], room) or [""]
    return [[*row[:-1], first], *([""] * (len(row) - 1) + [text] for text in others)]


def _cell(value: object) -> str:
    return one_line("-" if value is None else f"{value:,}" if isinstance(value, int) else value)


def command_line(*words: object) -> str:
    """A command that can be copied into a shell, whatever the names of its files."""
    return one_line(shlex.join(map(str, words)))


def json_text(value: object, indent: int | None = None) -> str:
    """JSON of structs, arrays, paths and numpy scalars too; nan and inf become null."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if hasattr(value, "tolist"):  # numpy's arrays and scalars
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show_progress(text: str) -> None:
    """Overwrite one line of standard error if it is a terminal; an empty text clears it."""
    if sys.stderr.isatty():
        from shutil import get_terminal_size  # imports three compressors

        room = get_terminal_size().columns - 1  # a wrapped line could not be overwritten
        click.echo(f"\r\x1b[K{one_line(text, room)}", nl=False, err=True)


def stopped() -> click.exceptions.Exit:
    """The exit of a run that Ctrl-C (code 130) or SIGTERM (143) stopped."""
    from bwn.train.run import stop_signals

    return click.exceptions.Exit(128 + (stop_signals or [signal.SIGINT])[0])


def warn(text: str) -> None:
    """One line on standard error that is no reason to stop."""
    show_progress("")
    click.echo(f"Warning: {one_line(text)}", err=True)
