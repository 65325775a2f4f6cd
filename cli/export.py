"""`bwn export`: a checkpoint to an ONNX file."""

from __future__ import annotations

from pathlib import Path

import click

from bwn._text import byte_size
from bwn.cli.output import json_text
from bwn.cli.params import FilePath, OutputPath, output_options


@click.command(no_args_is_help=True, epilog="Example: bwn export model.pt -o model.onnx")
@click.argument("model", metavar="MODEL.pt", type=FilePath(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=OutputPath(".onnx", path_type=Path),
    help="File to write.  [default: MODEL.onnx]",
)
@output_options
def command(model: Path, output: Path | None, as_json: bool) -> None:
    """Write a trained checkpoint as an ONNX file.

    It has the binarized weights, +-1 or +-alpha, stored as float32: any ONNX runtime can run it.
    """
    from bwn.train import export_checkpoint

    output = output or model.with_suffix(".onnx")
    export_checkpoint(model, output)
    size = output.stat().st_size
    if as_json:
        click.echo(json_text({"output": str(output), "bytes": size}))
    else:
        click.echo(
            f"Wrote {output}, {byte_size(size)}. "
            f"Next: bwn pack {output} -o {output.with_suffix('.bwn')}"
        )
