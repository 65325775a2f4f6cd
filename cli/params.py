"""Types of parameters, and the options that several commands have."""

from __future__ import annotations

import logging
import math
import os
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from bwn._files import check_ending
from bwn.errors import ArgumentError

Command = TypeVar("Command", bound=Callable[..., Any])

LARGEST_SIZE = 2**14


class FilePath(click.Path):
    """A path. An empty one (a shell's unset variable) is refused: Python takes it for `.`."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str | bytes | os.PathLike[str]:
        """Return the path, if it is not empty."""
        if not os.fspath(value):
            self.fail("the path is empty.", param, ctx)
        return super().convert(value, param, ctx)


class OutputPath(FilePath):
    """A file to write. A name with the suffix of another type of file is refused."""

    def __init__(self, ending: str, **options: Any) -> None:
        super().__init__(**options)
        self.ending = ending

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str | bytes | os.PathLike[str]:
        """Return the path, if its suffix fits."""
        path = super().convert(value, param, ctx)
        try:
            check_ending(value, self.ending)
        except ArgumentError as error:
            self.fail(f"{error}; use -o {with_ending(value, self.ending)}", param, ctx)
        return path


def with_ending(path: str | os.PathLike[str], ending: str) -> str:
    """The path with another ending; `.` and `/`, to which pathlib gives none, get one too."""
    return os.path.splitext(path)[0] + ending


def _in_words(self: click.IntRange | click.FloatRange) -> str:
    """A range as help and errors describe it, where click writes `0<x<=8`."""
    low, high = ("" if bound is None else f"{bound:,.10g}" for bound in (self.min, self.max))
    if self.min_open:
        return f"above {low}" + f", at most {high}" * bool(high)
    return f"{low} to {high}" if high else f"{low} or more"


class Integer(click.IntRange):
    """A 64-bit integer in a range."""

    name = "integer"
    _describe_range = _in_words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the integer, if it is not too large for Python's own functions."""
        number: int = super().convert(value, param, ctx)
        if number > sys.maxsize:
            self.fail(f"{number} is too large.", param, ctx)
        return number

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """The placeholder of the value in the help."""
        return "N"


class Number(click.FloatRange):
    """A number in a range; `nan`, which click accepts for any range, is refused."""

    name = "number"
    _describe_range = _in_words

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, if it is one."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{number} is not a number.", param, ctx)
        return number


class Numbers(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """Comma-separated numbers."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Turn text such as `0.5,0.5,0.5` into a tuple."""
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 0.5,0.5,0.5.", param, ctx)


def _is_size(text: str) -> bool:
    """Whether a text is a number of pixels, 1 to LARGEST_SIZE."""
    return bool(re.fullmatch(r"\d{1,5}", text, re.ASCII)) and 1 <= int(text) <= LARGEST_SIZE


class Size(click.ParamType):  # type: ignore[type-arg]  # likewise
    """Height and width of images."""

    name = "H[xW]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Turn text such as `32` or `224x320` (height first) into (H, W)."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(map(_is_size, parts)):
            self.fail(
                f"{value!r} is not a size such as 32 or 224x320 (height x width).", param, ctx
            )
        return int(parts[0]), int(parts[-1])


class Duration(click.ParamType):  # type: ignore[type-arg]  # likewise
    """A time in hours, minutes and seconds."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Turn text such as `30m`, `1h30m` or `90s` into seconds."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d{1,4}h)?(\d{1,5}m)?(\d{1,7}s)?", value, re.ASCII)
        parts = [int(part[:-1]) if part else 0 for part in (match.groups() if match else ())]
        if not any(parts):
            self.fail(f"{value!r} is not a time such as 30m, 1h30m or 90s.", param, ctx)
        hours, minutes, seconds = parts
        return float(3600 * hours + 60 * minutes + seconds)


class Resize(click.ParamType):  # type: ignore[type-arg]  # likewise
    """How images of other proportions are fitted to a size."""

    name = "resize"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | int:
        """Return `stretch` or `crop`, or turn text such as `256` into a number of pixels."""
        if value in ("stretch", "crop") or isinstance(value, int):
            return value  # type: ignore[no-any-return]  # one of the two
        if not _is_size(value):
            self.fail(f"{value!r} is not stretch, crop or pixels such as 256.", param, ctx)
        return int(value)


def _set_verbose(_ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
        logging.getLogger("bwn").setLevel(logging.INFO)


class Option(click.Option):
    """An option whose help may end in `[default: ...]`; click's own notes join that bracket."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option and its help."""
        record = super().get_help_record(ctx)
        return record and (record[0], record[1].replace("]  [", "; "))


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator for several options."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


output_options = together(
    click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print JSON, for programs; docs/reference/json.md describes it.",
    ),
    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_set_verbose,
        help="Log files, kernels and plans to standard error.",
    ),
)
threads_option = click.option(
    "--threads",
    cls=Option,
    type=Integer(1, 1024),
    default=None,
    help="Threads to use.  [default: every core available]",
)
run_options = together(threads_option, output_options)


def batch_size_option(default: int) -> Callable[[Command], Command]:
    """The option --batch-size with this default."""
    return click.option(
        "--batch-size",
        type=Integer(1, 4096),
        default=default,
        show_default=True,
        help="Images to run at once.",
    )


skip_bad_option = click.option(
    "--skip-bad",
    is_flag=True,
    help="Leave out images that cannot be read, with a warning; otherwise they are an error.",
)
