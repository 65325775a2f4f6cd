"""`bwn pack`: a trained network into a .bwn file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bwn._text import byte_size
from bwn.cli.output import json_text, table
from bwn.cli.params import (
    FilePath,
    Numbers,
    OutputPath,
    Size,
    output_options,
    skip_bad_option,
)

if TYPE_CHECKING:
    from bwn.tools.pack import PackReport


@click.command(
    no_args_is_help=True, short_help="Store a network with one bit per weight, as a .bwn file."
)
@click.argument("source", type=FilePath())
@click.option(
    "-o",
    "--output",
    type=OutputPath(".bwn"),
    help="The .bwn file to write.  [default: SOURCE with .bwn]",
)
@click.option(
    "--activations",
    type=click.Choice(["auto", "float32", "int8", "binary"]),
    default="auto",
    help="""Precision of the inputs of one-bit layers.  [default: auto]

    \b
    auto     exact: signs or 8 bits as in SOURCE, else float32
    float32  as they are
    int8     8 bits, but for signs; unsigned if never negative
    binary   signs
    """,
)
@click.option(
    "--calibration",
    type=FilePath(),
    metavar="DATA",
    help="With int8: images that fix the 8-bit scales, a folder or a data set as for bwn train.",
)
@skip_bad_option
@click.option(
    "--mean",
    type=Numbers(),
    help="For each channel, in x = (pixel / 255 - mean) / std: 0.5,0.5,0.5",
)
@click.option("--std", type=Numbers(), help="For each channel; see --mean.")
@click.option(
    "--size",
    type=Size(),
    metavar="H[xW]",
    help="Size of the input: 32, or 224x320 (height x width).",
)
@click.option("--color", type=click.Choice(["L", "RGB"]), help="L for grayscale images, or RGB.")
@click.option(
    "--resize",
    type=click.Choice(["stretch", "crop"]),
    help="How images of other proportions are resized.",
)
@click.option(
    "--classes",
    "classes_file",
    type=FilePath(),
    metavar="FILE",
    help="Text file of class names, one on each line.",
)
@output_options
def command(
    source: str,
    output: str | None,
    activations: Any,
    calibration: str | None,
    skip_bad: bool,
    classes_file: str | None,
    as_json: bool,
    **preprocess: Any,
) -> None:
    """Store a network with one bit per weight.

    SOURCE is a checkpoint of `bwn train` (.pt), or an ONNX file of any framework. A layer is stored
    with one bit per weight if each of its output channels holds only +a and -a; other layers stay
    float32. Preprocessing and class names are taken from SOURCE; the options replace them, or add
    them where SOURCE has none.

    \b
    bwn pack model.pt -o model.bwn
    bwn pack other.onnx -o other.bwn --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
    """
    if calibration is not None and activations != "int8":
        raise click.UsageError("--calibration needs --activations int8.")
    if skip_bad and calibration is None:
        raise click.UsageError("--skip-bad needs --calibration.")
    from bwn.tools.pack import pack, read_class_names

    report = pack(
        source,
        output or Path(source).with_suffix(".bwn"),
        activations=activations,
        calibration=calibration,
        skip_bad=skip_bad,
        preprocess=preprocess,
        classes=None if classes_file is None else read_class_names(classes_file),
    )
    click.echo(json_text(report, indent=2) if as_json else text(report))


def text(report: PackReport) -> str:
    """The report as a table and a few lines."""
    rows = [
        (
            row.name,
            row.op,
            "x".join(map(str, row.weights)) or None,
            row.stored,
            row.activations or None,
            byte_size(row.before),
            byte_size(row.after),
            None if row.margin is None else f"{row.margin:.3f}",
        )
        for row in report.layers
    ]
    header = ("layer", "op", "weights", "stored", "activations", "before", "after", "distance")
    lines = [
        table(header, rows, "<<<<<"),
        "distance: how far the trained weights were from -1 or +1, on average (- if unknown).",
        "",
        f"{report.target}: {byte_size(report.file)} for {byte_size(report.before)} of float32 "
        "weights",
    ]
    if report.before >= 1.05 * report.file:
        lines[-1] += f", {report.before / report.file:.1f} times smaller"
    lines += [f"note: {note}" for note in report.notes]
    if report.resumable:
        lines.append(f"To finish the run: bwn train --resume {report.source}")
    quantized = any(row.activations in ("int8", "uint8") for row in report.layers)
    if not report.follows_source:
        lines.append(f"Next: bwn evaluate {report.target} --data DATA")
    else:
        data = " --images DATA" if quantized else ""
        lines.append(f"Next: bwn verify {report.target} {report.source}{data}")
    return "\n".join(lines)
