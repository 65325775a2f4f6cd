"""`bwn pack`: a trained network into a .bwn file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bwn.cli.common import FilePath, byte_size, json_option, json_text, table, verbose_option

if TYPE_CHECKING:
    from bwn.tools.pack import PackReport

MAX_CALIBRATION = 512


class Numbers(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """Comma-separated numbers."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Text such as `0.5,0.5,0.5` to a tuple."""
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 0.5,0.5,0.5", param, ctx)


class Size(click.ParamType):  # type: ignore[type-arg]  # likewise
    """Height and width."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Text such as `28` or `224x320` (height first) to (H, W)."""
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(
            part.isascii() and part.isdigit() and int(part) > 0 for part in parts
        ):
            self.fail(f"{value!r} is not a size such as 28 or 224x320 (height x width)", param, ctx)
        return int(parts[0]), int(parts[-1])


@click.command(short_help="Store a network with one bit per weight, as a .bwn file.")
@click.argument("source", type=FilePath())
@click.option(
    "-o", "--output", type=FilePath(), help="The .bwn file to write.  [default: SOURCE with .bwn]"
)
@click.option(
    "--activations",
    type=click.Choice(["auto", "float32", "int8", "binary"]),
    default="auto",
    show_default=True,
    help="How one-bit layers read their inputs. auto: signs where the network makes signs, 8 bits where SOURCE rounds "
    "to them, else float32, all exact. "
    "int8: rounded to 8 bits where they are not signs, from 0 up (uint8) where they cannot be negative.",
)
@click.option(
    "--calibration",
    type=FilePath(),
    metavar="DATA",
    help="With int8: images (a folder, or a data set as for bwn train) that fix the 8-bit scales.",
)
@click.option("--mean", type=Numbers(), help="Per channel: x = (pixel / 255 - mean) / std.")
@click.option("--std", type=Numbers(), help="Per channel; see --mean.")
@click.option(
    "--size", type=Size(), help="Images are resized to this: 28, or 224x320 (height x width)."
)
@click.option("--color", type=click.Choice(["L", "RGB"]), help="L: grey; RGB.")
@click.option("--resize", type=click.Choice(["stretch", "crop"]), help="How images get their size.")
@click.option(
    "--classes", "classes_file", type=FilePath(), help="Text file of class names, one a line."
)
@json_option
@verbose_option
def command(
    source: str,
    output: str | None,
    activations: Any,
    calibration: str | None,
    classes_file: str | None,
    as_json: bool,
    **preprocess: Any,
) -> None:
    """Store a network with one bit per weight.

    SOURCE is a checkpoint of `bwn train` (.pt), or an ONNX file of any framework. A layer is stored with one bit per
    weight if each of its output channels holds only +a and -a; other layers stay float32. Preprocessing and class
    names are taken from SOURCE; the options replace them, or give them where SOURCE has none.

    \b
    bwn pack model.pt -o model.bwn
    bwn pack other.onnx -o other.bwn --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
    """
    from bwn.tools.pack import pack

    target = output or str(Path(source).with_suffix(".bwn"))
    done = pack(
        source,
        target,
        activations=activations,
        calibration=None if calibration is None else images_of(calibration),
        preprocess=preprocess,
        classes=None if classes_file is None else class_names(classes_file),
    )
    click.echo(json_text(done, indent=2) if as_json else text(done))


def images_of(source: str) -> Iterable[Any]:
    """Up to MAX_CALIBRATION images of a folder or a data set, evenly spread."""
    from bwn.data.datasets import load_dataset
    from bwn.data.images import find_images

    found: Any = list(find_images([source])) if Path(source).is_dir() else []
    if not found:
        found = load_dataset(source, "train").images
    return list(found[:: -(-len(found) // MAX_CALIBRATION)])


def class_names(path: str) -> tuple[str, ...]:
    """Class names of a text file, one a line. Raises DataError."""
    from bwn.errors import DataError

    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as class names: {getattr(error, 'strerror', None) or error}"
        ) from None
    return tuple(line.strip() for line in lines if line.strip())


def text(done: PackReport) -> str:
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
        for row in done.layers
    ]
    header = ("layer", "op", "weights", "stored", "activations", "before", "after", "mean |1-|w||")
    lines = [table(header, rows, "<<<<<"), ""]
    ratio = f"{done.before / done.file:.1f} times smaller than float32"
    lines.append(
        f"{done.target}: {byte_size(done.file)} for {byte_size(done.before)} of float32 weights, {ratio}"
    )
    lines += [f"note: {note}" for note in done.notes]
    return "\n".join(lines)
