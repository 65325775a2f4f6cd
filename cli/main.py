"""The `bwn` command: a table of commands, each imported only when it runs, and what errors become.

Exit codes: 0 done; 1 failed, or `verify` found a difference; 2 wrong usage; 3 an input file was
refused; 4 `infer` could not read some of the images; 70 an error inside bwn; 130 interrupted
(Ctrl-C), 143 terminated (SIGTERM).
"""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from bwn._text import __version__, one_line
from bwn.errors import BwnError, too_little_memory

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS = {
    "train": "Train an image classifier whose weights end near -1 and +1.",
    "experiment": "Compare schemes: many runs, a table, plots.",
    "export": "Write a packed model or a checkpoint as an ONNX file.",
    "pack": "Store a network with one bit per weight, as a .bwn file.",
    "verify": "Compare a .bwn file with the network it was packed from.",
    "infer": "Classify images.",
    "serve": "Answer HTTP requests that classify images.",
    "compile": "Write a packed model as a C library, or for a browser.",
    "report": "Show weights, flip risk and confusions of a run or model in one file.",
    "evaluate": "Measure the accuracy of a .bwn file on a data set.",
    "bench": "Measure speed, compared with ONNX Runtime where it is installed.",
    "inspect": "Show what a .bwn file holds.",
    "doctor": "Show the kernels in use and how to speed them up.",
    "tune": "Measure the kernels on this machine, so that the fastest are chosen.",
    "demo": "Run the full workflow on sample digits: train, pack, verify, infer, bench.",
    "completion": "Print a script that completes commands in bash, zsh or fish.",
}
"""Name of each command, which is also its file in cli/, and its line in `bwn --help`."""

INTERNAL = 70
INTERRUPTED = 130


@contextmanager
def nothing_written() -> Iterator[None]:
    """Say so where Ctrl-C comes before the work."""
    try:
        yield
    except KeyboardInterrupt:
        from bwn.cli.output import show_progress

        show_progress("")
        click.echo("Interrupted; nothing was written.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None


class Commands(click.Group):
    """The group: imports a command when it runs, and turns every exception into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's file."""
        if cmd_name not in COMMANDS:
            return None
        with nothing_written():
            command: click.Command = import_module(f"bwn.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of the table without importing their files."""
        from click.shell_completion import CompletionItem

        names = [name for name in COMMANDS if name.startswith(incomplete)]
        items = [CompletionItem(name, help=COMMANDS[name]) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest ones."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches  # only here, to start fast

            near = " or ".join(f"'{other}'" for other in get_close_matches(name, COMMANDS))
            hint = f"Did you mean {near}?" if near else f"Commands: {', '.join(COMMANDS)}."
            ctx.fail(one_line(f"No such command '{name}'. {hint}"))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever it raises becomes one line and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (KeyboardInterrupt, click.Abort):
            raise click.exceptions.Exit(INTERRUPTED) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # nobody reads our output any more; click ends quietly
            if os.environ.get("BWN_DEBUG"):
                traceback.print_exc()
            from bwn.cli.output import show_progress

            show_progress("")  # a line that the error interrupts
            raise print_failure(error) from error


def print_failure(error: Exception) -> click.exceptions.Exit:
    """Print the line that an exception becomes. Returns the exit."""
    line, code = failure(error)
    click.echo(f"Error: {one_line(line)}", err=True)
    return click.exceptions.Exit(code)


def failure(error: Exception) -> tuple[str, int]:
    """The line and the exit code that an exception becomes."""
    if isinstance(error, MemoryError):
        error = too_little_memory(error)
    if isinstance(error, BwnError):
        return str(error), error.exit_code
    from bwn.kernels.target.loader import KernelsError

    if isinstance(error, KernelsError):
        return str(error), 1
    if isinstance(error, OSError):
        if isinstance(error, FileNotFoundError) and error.filename:
            return f"no such file: {error.filename}", 1
        file = f"{error.filename}: " if error.filename else ""
        return f"{file}{error.strerror or error}", 1
    if isinstance(error, RuntimeError) and re.search("(out of|not enough) memory", str(error)):
        return "not enough memory: try smaller batches or images", 1  # of torch, CPU or GPU
    hint = "set BWN_DEBUG=1 for the traceback, and please report it"
    return f"internal: {type(error).__name__}: {error} ({hint})", INTERNAL


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, message="bwn %(version)s")
@click.pass_context
def bwn(context: click.Context) -> None:
    """Image classifiers with one bit per weight: train them, pack them, run them fast on a CPU.

    \b
    bwn train --data photos/ -o model.pt     folders of images, one per class
    bwn pack model.pt -o model.bwn           one bit per weight
    bwn verify model.bwn model.pt            does it still compute the same?
    bwn infer model.bwn images/              classify

    Run `bwn COMMAND --help` for details or `bwn demo` for a two-minute tour. `bwn completion`
    completes commands in your shell.
    """
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        context.color = False
    logger = logging.getLogger("bwn.data")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(Notices())


class Notices(logging.Handler):
    """Prints what is said of the data, each in a line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        from bwn.cli.output import show_progress

        show_progress("")
        kind = "Warning: " if record.levelno >= logging.WARNING else ""
        click.echo(f"{kind}{one_line(record.getMessage())}", err=True)


def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Raise KeyboardInterrupt; a second Ctrl-C during the cleanup ends the process at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the installed command."""
    signal.signal(signal.SIGINT, interrupt)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who started bwn
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # as long as we run
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        bwn(prog_name="bwn")
    except OSError as error:  # of click itself: help on a full disk
        sys.exit(print_failure(error).exit_code)
    finally:
        # Ctrl-C while Python exits shows no traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
