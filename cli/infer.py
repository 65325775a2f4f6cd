"""`bwn infer`: classify images, in input order, one batch in memory at a time."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bwn._text import count_noun, one_line
from bwn.cli.output import command_line, json_text
from bwn.cli.params import FilePath, Integer, batch_size_option, run_options
from bwn.errors import DataError

if TYPE_CHECKING:
    from bwn.model import Model
    from bwn.predict import Prediction, Result

SOME_FAILED = 4
MOST_COLUMNS = 3
"""Ranks that fit next to each other; of more, each has a row."""


@click.command(no_args_is_help=True)
@click.argument("model", type=FilePath())
@click.argument("paths", nargs=-1, required=True, type=FilePath())
@click.option(
    "--top", type=Integer(1), default=1, show_default=True, help="Classes to show for each image."
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, one line per image and rank.")
@batch_size_option(16)
@click.option("--limit", type=Integer(1), help="Stop after this many images.")
@click.option(
    "--recursive/--no-recursive",
    default=True,
    show_default=True,
    help="Search folders inside folders.",
)
@click.option("--watch", is_flag=True, help="Wait for new images in the folders; Ctrl-C to stop.")
@run_options
def command(
    model: str,
    paths: tuple[str, ...],
    top: int,
    as_csv: bool,
    batch_size: int,
    limit: int | None,
    recursive: bool,
    watch: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Classify images with MODEL, a .bwn file.

    PATHS are images and folders of images, in the order given; `-` reads paths from standard input,
    one per line. Images are prepared as the model file says. Probabilities are the softmax of the
    network's scores, unless the network ends in a softmax itself.

    An image that cannot be read is reported in one line on standard error (with --json as an object
    with "error"). The other images are classified, and the exit code is 4. If paths arrive slowly,
    --batch-size 1 answers each at once.

    --watch waits for new images and classifies each as soon as it is completely written.

    \b
    bwn infer model.bwn photos/ --top 3
    bwn infer model.bwn camera/ --watch --json
    find photos -name '*.jpg' | bwn infer model.bwn - --json
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json: choose one of them.")
    if watch:
        for folder in paths:
            if not os.path.isdir(folder):
                raise click.UsageError(f"--watch: '{one_line(folder)}' is not a folder.")
    if not model.endswith(".bwn") and (
        swapped := [path for path in paths if path.endswith(".bwn")]
    ):
        right = command_line("bwn", "infer", swapped[0], model)
        raise click.UsageError(f"MODEL comes first: {right}")
    from bwn.data.folders import Skipped, find_images
    from bwn.model import load
    from bwn.predict import class_names

    skipped = Skipped()
    if watch:
        from bwn.data.watch import arrivals

        images = arrivals(paths, recursive)  # first: those that arrive while the model loads count
    else:
        images = find_images(expand(paths), recursive, skipped)
    loaded = load(model, threads)
    if watch:
        click.echo(f"Watching {one_line(', '.join(paths))} (Ctrl-C to stop)", err=True)
    results = classified(loaded, islice(images, limit), top, 1 if watch else batch_size)
    seen, failed = show(results, Printer(as_json, as_csv, class_names(loaded.spec), top))
    for line in skipped.lines():
        click.echo(f"Skipped, {line}", err=True)
    if not seen:
        places = ("standard input" if path == "-" else path for path in paths)
        raise DataError(f"no images in {', '.join(places)}")
    if failed:
        if seen > 1:
            click.echo(f"Error: cannot read {failed:,} of {count_noun(seen, 'image')}", err=True)
        raise click.exceptions.Exit(SOME_FAILED)


def show(results: Iterable[Result[Path]], printer: Printer) -> tuple[int, int]:
    """Print results as they come. Returns how many there were, and how many failed."""
    seen = failed = 0
    for result in results:
        seen += 1
        failed += result.error is not None
        printer.show(result)
    return seen, failed


def expand(paths: Iterable[str]) -> Iterator[str]:
    """Yield the paths, with the lines of standard input in place of `-`."""
    for path in paths:
        if path == "-":
            lines = (raw.rstrip(b"\r\n") for raw in sys.stdin.buffer)
            yield from (os.fsdecode(line) for line in lines if line)
        else:
            yield path


def classified(
    model: Model, images: Iterator[Path], top: int, batch_size: int
) -> Iterator[Result[Path]]:
    """Classify the images; the first is a batch of its own, so that its answer shows at once."""
    first = model.stream(islice(images, 1), top=top, batch_size=1)
    return chain(first, model.stream(images, top=top, batch_size=batch_size))


class Printer:
    """Prints results as they come: a table, CSV or JSON Lines."""

    def __init__(self, as_json: bool, as_csv: bool, classes: Sequence[str], top: int) -> None:
        self.as_json, self.as_csv = as_json, as_csv
        self.top = min(top, len(classes))
        self.width = max(map(len, ("class", *classes)))
        self.started = False

    def show(self, result: Result[Path]) -> None:
        """Print one image's classes, or its error."""
        if self.as_json:
            click.echo(json_text(result.row()))
            return
        if result.error is not None:
            click.echo(f"Error: {one_line(result.error)}", err=True)
            return
        if not self.started:
            self.started = True
            click.echo("path,rank,label,index,probability" if self.as_csv else self.heading())
        click.echo(self.line(result.image, result.predictions))

    def heading(self) -> str:
        """The names of the table's columns: those of all ranks, or of one rank a row."""
        columns = f"{'class':{self.width}}  probability  "
        rows = self.top > MOST_COLUMNS
        return f"rank  {columns}image" if rows else f"{columns * self.top}image"

    def line(self, path: Path, best: tuple[Prediction, ...]) -> str:
        """One image's lines."""
        if self.as_csv:
            text = io.StringIO()
            rows = (
                (path, rank, b.label, b.index, f"{b.probability:.6f}")
                for rank, b in enumerate(best, 1)
            )
            csv.writer(text, lineterminator="\n").writerows(rows)
            return text.getvalue().rstrip("\n").encode("utf-8", "backslashreplace").decode()
        cells = [f"{b.label:{self.width}}  {b.probability:>11.2%}  " for b in best]
        name = one_line(path)
        if self.top <= MOST_COLUMNS:
            return f"{''.join(cells)}{name}"
        return "\n".join(f"{rank:>4}  {cell}{name}" for rank, cell in enumerate(cells, 1))
