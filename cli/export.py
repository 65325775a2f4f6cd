"""`bwn export`: a packed model or a checkpoint to an ONNX file."""

from __future__ import annotations

from pathlib import Path

import click

from bwn._text import byte_size
from bwn.cli.output import command_line, json_text, show_progress
from bwn.cli.params import FilePath, OutputPath, output_options, with_ending


@click.command(
    no_args_is_help=True,
    epilog="Example: bwn export model.bwn -o model.onnx",
)
@click.argument("model", metavar="MODEL", type=FilePath(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=OutputPath(".onnx", path_type=Path),
    help="File to write.  [default: MODEL with .onnx]",
)
@click.option(
    "--qonnx",
    is_flag=True,
    help="Write QONNX: BipolarQuant for one-bit weights and signs, Quant for 8-bit activations.",
)
@output_options
def command(model: Path, output: Path | None, qonnx: bool, as_json: bool) -> None:
    """Write a packed model (.bwn) or a trained checkpoint (.pt) as an ONNX file.

    It has the binarized weights, +-1 or +-alpha, stored as float32: any ONNX runtime can run it.
    `bwn pack` makes the same network of it again.

    With --qonnx it is for tools that read QONNX, such as FINN; ONNX Runtime does not run it.
    """
    from bwn.tools.onnx_export import export

    output = output or Path(with_ending(model, ".onnx"))
    show_progress(f"writing {output}")
    size, notes = export(model, output, qonnx=qonnx)
    show_progress("")
    if as_json:
        click.echo(json_text({"output": str(output), "bytes": size, "notes": notes}))
        return
    packed = output.with_suffix(".bwn")
    words = ("verify", packed, output) if packed == model else ("pack", output, "-o", packed)
    click.echo(f"Wrote {output}, {byte_size(size)}. Next: {command_line('bwn', *words)}")
    for note in notes:
        click.echo(f"note: {note}")
