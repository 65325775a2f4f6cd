"""`bwn pack`: a trained network into a .bwn file."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import click

from bwn._text import byte_size, listed
from bwn.cli.output import command_line, json_text, show_progress, table
from bwn.cli.params import (
    FilePath,
    Number,
    Numbers,
    OutputPath,
    Resize,
    Size,
    output_options,
    skip_bad_option,
    with_ending,
)

if TYPE_CHECKING:
    from bwn.onnx.refusals import Refusal
    from bwn.tools.pack_report import PackReport

LISTED = 3
"""Most nodes of one kind that a table names."""


@click.command(no_args_is_help=True)
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
    auto     as SOURCE was trained: signs, 8 bits
             or float32; loses no accuracy
    float32  not quantized
    int8     8 bits (signs stay signs), unsigned
             if never negative; other layers get
             8-bit weights too
    binary   signs
    """,
)
@click.option(
    "--calibration",
    type=FilePath(),
    metavar="DATA",
    help="With int8: images that fix the 8-bit scales, a folder or a data set as for bwn train.",
)
@click.option(
    "--float-layers",
    is_flag=True,
    help="With int8: leave layers without one-bit weights in float32.",
)
@skip_bad_option
@click.option(
    "--preset",
    metavar="NAME",
    help="""How images were prepared in training; the options below change single parts of it.

    \b
    imagenet   torchvision: Resize(256),
               CenterCrop(224), ImageNet's mean
               and std
    half       pixels from -1 to 1 (also 0.5,
               inception, tf)
    caffe      BGR, 0 to 255, minus ImageNet's
               means (Keras)
    raw        pixels from 0 to 255
    """,
)
@click.option(
    "--mean",
    type=Numbers(),
    help="Mean of each channel, such as 0.5,0.5,0.5: x = (pixel / 255 - mean) / std.",
)
@click.option("--std", type=Numbers(), help="Standard deviation of each channel; see --mean.")
@click.option(
    "--size",
    type=Size(),
    metavar="H[xW]",
    help="Size of the input, if SOURCE leaves it open: 32, or 224x320 (height x width).",
)
@click.option(
    "--color",
    type=click.Choice(["L", "RGB", "BGR"]),
    help="L for grayscale images, or the order of the channels (also of --mean and --std).",
)
@click.option(
    "--resize",
    type=Resize(),
    metavar="[stretch|crop|N]",
    help="How to fit images of other proportions to the size: stretch, or crop the center. N: "
    "resize the shorter side to N pixels, then crop the center (torchvision's Resize(N) and "
    "CenterCrop).",
)
@click.option(
    "--interpolation",
    type=click.Choice(["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]),
    help="How pixels are resized; all but nearest average.  [default: bilinear]",
)
@click.option(
    "--background",
    metavar="COLOR",
    help="Color under transparent pixels: white, or #rrggbb.  [default: black]",
)
@click.option(
    "--classes",
    "classes_file",
    type=FilePath(),
    metavar="FILE",
    help="Text file of class names, one on each line.",
)
@click.option(
    "--output-name",
    metavar="NAME",
    help="Output of an ONNX file to pack, if it has several.",
)
@click.option(
    "--binary-tolerance",
    type=Number(0, 0.01),
    default=1e-4,
    show_default=True,
    help="Largest distance of weights from +a and -a of their output channel, relative to a.",
)
@click.option(
    "--no-check",
    is_flag=True,
    help="Skip the comparison with ONNX Runtime before writing (about a second).",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show what would be packed, or everything that is refused, and write nothing.",
)
@output_options
def command(
    source: str,
    output: str | None,
    activations: Any,
    calibration: str | None,
    float_layers: bool,
    skip_bad: bool,
    classes_file: str | None,
    output_name: str | None,
    binary_tolerance: float,
    no_check: bool,
    dry_run: bool,
    as_json: bool,
    **preprocess: Any,
) -> None:
    """Store a network with one bit per weight.

    SOURCE is a checkpoint of `bwn train` (.pt), or an ONNX file of any framework. A layer is stored
    with one bit per weight if each of its output channels holds only +a and -a, up to rounding
    (--binary-tolerance); other layers stay float32, or become 8 bits with --activations int8.
    Preprocessing and class names are taken from SOURCE; the options replace them, or add them if
    SOURCE has none.

    Before it is written, the packed network is compared with ONNX Runtime on SOURCE, if that is
    installed. The exit code is 0 if the file was written, 1 if the networks differ, 2 for wrong
    usage, 3 if SOURCE is refused.

    \b
    bwn pack model.pt -o model.bwn
    bwn pack other.onnx --dry-run
    bwn pack other.onnx -o other.bwn --preset imagenet
    bwn pack other.onnx --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
    """
    if calibration is not None and activations != "int8":
        raise click.UsageError("--calibration needs --activations int8.")
    if float_layers and activations != "int8":
        raise click.UsageError("--float-layers needs --activations int8.")
    if skip_bad and calibration is None:
        raise click.UsageError("--skip-bad needs --calibration.")
    from bwn.onnx.refusals import UnreadableNodesError
    from bwn.tools.pack import pack, read_class_names

    show_progress("packing, and comparing with ONNX Runtime" if not no_check else "packing")
    try:
        report = pack(
            source,
            output or with_ending(source, ".bwn"),
            activations=activations,
            calibration=calibration,
            float_layers=float_layers,
            skip_bad=skip_bad,
            preprocess=preprocess,
            classes=None if classes_file is None else read_class_names(classes_file),
            output_name=output_name,
            binary_tolerance=binary_tolerance,
            check=not no_check,
            dry_run=dry_run,
        )
    except UnreadableNodesError as error:
        show_progress("")
        if as_json:
            click.echo(json_text({"source": source, "refusals": error.refusals}, indent=2))
        elif dry_run:
            click.echo(refusal_table(error.refusals))
        raise
    show_progress("")
    if as_json:
        click.echo(json_text(report, indent=2))
    else:
        click.echo(dry_text(report) if dry_run else text(report))


def refusal_table(refusals: tuple[Refusal, ...]) -> str:
    """The kinds of nodes that cannot be read."""
    rows = []
    for kind in refusals:
        names = listed(kind.nodes, LISTED)
        rows.append((len(kind.nodes), kind.op_type, names, kind.reason, kind.remedy or None))
    return table(("nodes", "operation", "names", "reason", "what would work"), rows, "><<<<")


def dry_text(report: PackReport) -> str:
    """The layers that would be packed, with N outputs that sum K products each, and sizes."""
    total = sum(prod(row.weights) for row in report.layers) or 1
    rows = [
        (
            row.name,
            row.op,
            row.weights[0] if row.weights else None,
            prod(row.weights[1:]) if row.weights else None,
            f"{prod(row.weights) / total:.1%}" if row.weights else None,
            row.stored,
            byte_size(row.before),
            byte_size(row.after),
        )
        for row in report.layers
    ]
    header = ("layer", "op", "N", "K", "of weights", "stored", "before", "after")
    lines = [
        table(header, rows, "<<>>><>>"),
        "N outputs, each a sum of K products.",
        "",
        str(report),
        "Dry run: nothing was written.",
    ]
    return "\n".join(lines)


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
        *report.size_and_notes,
    ]
    if report.resumable:
        resume = command_line("bwn", "train", "--resume", report.source)
        lines.append(f"To finish the run: {resume}")
    quantized = any(row.activations in ("int8", "uint8") for row in report.layers)
    data = " --images DATA" if quantized else ""
    lines.append(f"Next: {command_line('bwn', 'verify', report.target, report.source)}{data}")
    return "\n".join(lines)
