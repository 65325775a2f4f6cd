"""`bwn compile`: a packed model to a C library."""

from __future__ import annotations

from pathlib import Path

import click

from bwn._text import byte_size
from bwn.cli.output import json_text, show_progress
from bwn.cli.params import FilePath, Integer, Option, output_options


@click.command(
    no_args_is_help=True,
    short_help="Write a packed model as a C library.",
    epilog="Example: bwn compile model.bwn -o c --target aarch64",
)
@click.argument("model", metavar="MODEL", type=FilePath(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    required=True,
    type=FilePath(path_type=Path, file_okay=False),
    help="Folder to write to; it is made if it is missing.",
)
@click.option(
    "--target",
    cls=Option,
    default="native",
    help="Processor: aarch64, aarch64-dotprod, x86-64, x86-64-avx2, x86-64-avxvnni, x86-64-avx512; "
    "native for that of this machine; aarch64-any or x86-64-any to choose when a program starts.  "
    "[default: native]",
)
@click.option(
    "--name",
    cls=Option,
    help="What the names of files and functions begin with.  [default: MODEL's, as C allows]",
)
@click.option(
    "--batch",
    type=Integer(1, 4096),
    default=1,
    show_default=True,
    help="Images of a run.",
)
@output_options
def command(
    model: Path, output: Path, target: str, name: str | None, batch: int, as_json: bool
) -> None:
    """Write a packed model (.bwn) as a C library, which needs no Python and no other library.

    It writes NAME.h, libNAME.a, libNAME.so and NAME.json. The library has the weights and the code
    of this one network, and computes the same numbers as bwn with the kernels of that target.
    docs/c-library.md describes its functions.

    Compiling takes up to a minute. It needs numba (it comes with bwn, but not in wheels with
    compiled kernels), and ld and as of binutils for the target.
    """
    from bwn.compile.library import compile_library

    show_progress("compiling; this takes up to a minute")
    report = compile_library(model, output, target=target, name=name, batch=batch)
    show_progress("")
    if as_json:
        click.echo(json_text(report))
        return
    library = output / f"lib{report.name}"
    size, arena = byte_size(report.shared_bytes), byte_size(report.arena_bytes)
    click.echo(f"Wrote {library}.so for {report.target}: {size} with weights, {arena} a thread.")
    click.echo(f'Next: #include "{report.name}.h" and cc main.c -I{output} {library}.a -lm')
