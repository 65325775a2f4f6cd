"""`bwn compile`: a packed model to a C library, or to a WebAssembly module."""

from __future__ import annotations

import platform
from pathlib import Path

import click

from bwn._text import byte_size
from bwn.cli.output import command_line, json_text, show_progress
from bwn.cli.params import FilePath, Integer, output_options


@click.command(
    no_args_is_help=True,
    epilog="Example: bwn compile model.bwn -o c --target aarch64",
)
@click.argument("model", metavar="MODEL", type=FilePath(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    required=True,
    type=FilePath(path_type=Path, file_okay=False),
    help="Folder to write to; created if missing.",
)
@click.option(
    "--target",
    default="native",
    show_default=True,
    help="Processor: aarch64, aarch64-dotprod, x86-64, x86-64-avx2, x86-64-avxvnni, x86-64-avx512, "
    "x86-64-amx; native for this machine; aarch64-any or x86-64-any to choose at run time; wasm32 "
    "for browsers and Node.js.",
)
@click.option(
    "--name",
    help="Prefix of file and function names.  [default: from the name of MODEL]",
)
@click.option(
    "--batch",
    type=Integer(1, 4096),
    default=1,
    show_default=True,
    help="Images per run.",
)
@click.option(
    "--page", is_flag=True, help="Also write a web page that uses the module; for wasm32."
)
@output_options
def command(
    model: Path,
    output: Path,
    target: str,
    name: str | None,
    batch: int,
    page: bool,
    as_json: bool,
) -> None:
    """Write a packed model (.bwn) as a C library that needs neither Python nor other libraries.

    It writes NAME.h, libNAME.a, libNAME.so and NAME.json. The library contains the code and weights
    of one network. Its scores equal those of bwn with the kernels of the same target.
    docs/c-library.md describes its functions.

    With --target wasm32 it writes NAME.wasm, NAME.mjs (an ES module that loads it), NAME.d.mts (its
    types) and NAME.json. docs/web.md describes them. With --page it also writes a web page to draw
    a digit or open a photo: index.html, with a style sheet and three scripts.

    Compiling takes up to a minute. It needs numba (it comes with bwn, but not in wheels with
    compiled kernels), and ld and as of binutils for the target, or wasm-ld for wasm32.
    """
    from bwn.compile.c_header import ModuleReport
    from bwn.compile.library import compile_library

    show_progress("compiling; this takes up to a minute")
    report = compile_library(model, output, target=target, name=name, batch=batch, page=page)
    show_progress("")
    if as_json:
        click.echo(json_text(report))
        return
    arena = byte_size(report.arena_bytes)
    if isinstance(report, ModuleReport):
        module, size = output / report.name, byte_size(report.module_bytes)
        click.echo(f"Wrote {module}.wasm: {size} with weights, {arena} for each that is loaded.")
        then = f'import {{ load }} from "./{report.name}.mjs"; docs/web.md has an example'
        if page:
            serve = command_line("python3", "-m", "http.server", "-d", output)
            then = f"{serve}, and open http://localhost:8000"
        click.echo(f"Next: {then}")
        return
    library, size = output / f"lib{report.name}", byte_size(report.shared_bytes)
    click.echo(f"Wrote {library}.so for {report.target}: {size} with weights, {arena} a thread.")
    own = report.machine == platform.machine()
    compiler = "cc" if own else f"{report.machine}-linux-gnu-gcc"
    cc = command_line(compiler, "main.c", f"-I{output}", f"{library}.a", "-lm")
    click.echo(f'Next: #include "{report.name}.h" and {cc}')
