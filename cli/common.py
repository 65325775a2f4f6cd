"""What commands share: plain tables, JSON, sizes with their unit, and options."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec


def one_line(text: str) -> str:
    """Text safe for a terminal: spaces for line ends, escapes for control and undecodable characters."""
    text = " ".join(text.split("\n")).rstrip()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def table(header: Sequence[str], rows: Sequence[Sequence[object]], align: str = "") -> str:
    """Columns two spaces apart, the header underlined; None shows as `-`.

    align: one of `<` and `>` for each column; where it ends, the first column stands left and the others right.
    """
    align += "<>"[bool(align)] + ">" * len(header)
    cells = [
        [one_line("-" if cell is None else str(cell)) for cell in row] for row in (header, *rows)
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    lines = (
        "  ".join(f"{c:{a}{w}}" for c, a, w in zip(row, align, widths, strict=False))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def json_text(value: object, indent: int | None = None) -> str:
    """JSON of structs, arrays, paths and numpy scalars too; numbers that JSON lacks (nan, inf) become null."""
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


def byte_size(count: float) -> str:
    """A count of bytes with its unit (IEC 80000-13): `512 B`, `12.3 KiB`, `4.0 MiB`."""
    if count < 1024:
        return f"{count:.0f} B"
    power = min(int(math.log2(count) / 10), 4)
    return f"{count / 1024**power:.1f} {'KMGT'[power - 1]}iB"


def show_progress(text: str) -> None:
    """Overwrite one line of standard error, if a person is watching; an empty text clears it."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{text}", nl=False, err=True)


def _set_verbose(_ctx: click.Context, _param: click.Parameter, value: int) -> None:
    if value:
        logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
        logging.getLogger("bwn").setLevel(logging.DEBUG if value > 1 else logging.INFO)


class FilePath(click.Path):
    """A path. An empty one (a shell's unset variable) is refused: Python takes it for the current folder."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str | bytes | os.PathLike[str]:
        """The path, if it is not empty."""
        if not os.fspath(value):
            self.fail("the path is empty.", param, ctx)
        return super().convert(value, param, ctx)


class Number(click.FloatRange):
    """A number of a range; `nan`, which is in every range that click knows, is in none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number, if it is one."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{number} is not a number.", param, ctx)
        return number


threads_option = click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=None,
    help="Threads to use.  [default: every core available]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
verbose_option = click.option(
    "-v",
    "--verbose",
    count=True,
    expose_value=False,
    callback=_set_verbose,
    help="Say more; -vv still more.",
)
