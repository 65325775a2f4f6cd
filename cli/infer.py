"""`bwn infer`: classify images, in input order, one batch in memory at a time."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from bwn.cli.common import (
    FilePath,
    json_option,
    json_text,
    one_line,
    threads_option,
    verbose_option,
)
from bwn.data.images import find_images
from bwn.data.watch import arrivals
from bwn.errors import DataError
from bwn.predict import NotPreparedError, Prediction, Runs, classify, labels, to_input

SOME_FAILED = 4

Best = tuple[Prediction, ...]
Result = tuple[Path, Best | DataError]


@click.command(no_args_is_help=True)
@click.argument("model", type=FilePath())
@click.argument("paths", nargs=-1, required=True, type=FilePath())
@click.option(
    "--top",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Classes to show for each image.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, one line per image and rank.")
@click.option(
    "--batch-size",
    type=click.IntRange(1, 4096),
    default=16,
    show_default=True,
    help="Images run at once.",
)
@click.option("--limit", type=click.IntRange(1), help="Stop after this many images.")
@click.option(
    "--recursive/--no-recursive",
    default=True,
    show_default=True,
    help="Search folders inside folders.",
)
@click.option("--watch", is_flag=True, help="Wait for new images in the folders; Ctrl-C ends it.")
@threads_option
@json_option
@verbose_option
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

    PATHS are images and folders of images, in the order given; `-` reads paths from standard input, one per line.
    Images are prepared as the model file says. Probabilities are the softmax of the network's scores, unless the
    network ends in a softmax itself.

    An image that cannot be read is one line on standard error (with --json an object with "error"); the rest goes on,
    and the exit code is 4. When paths arrive slowly, --batch-size 1 answers each at once.

    --watch classifies images that arrive in folders from now on, each by itself when it is written to its end.

    \b
    bwn infer model.bwn photos/ --top 3
    bwn infer model.bwn camera/ --watch --json
    find photos -name '*.jpg' | bwn infer model.bwn - --json
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json: choose one")
    if watch:
        for folder in paths:
            if not os.path.isdir(folder):
                raise click.UsageError(f"--watch: '{one_line(folder)}' is not a folder")
    from bwn.model import load

    loaded = load(model, threads)
    if loaded.spec.preprocess is None:
        raise NotPreparedError
    names = labels(loaded.spec)
    show = Rows(as_json, as_csv, min(top, len(names)), max(map(len, ("class", *names))))
    seen = failed = 0
    images = arrivals(paths, recursive) if watch else find_images(expand(paths), recursive)
    for path, result in results(loaded, images, top, 1 if watch else batch_size, limit):
        seen += 1
        failed += isinstance(result, DataError)
        show.result(path, result)
    if not seen:
        raise DataError(f"no images found in {', '.join(paths)}")
    if failed:
        click.echo(f"Error: {failed} of {seen} images could not be read", err=True)
        raise click.exceptions.Exit(SOME_FAILED)


def expand(paths: Iterable[str]) -> Iterator[str]:
    """The paths, with the lines of standard input in place of `-`."""
    for path in paths:
        if path == "-":
            lines = (raw.rstrip(b"\r\n") for raw in sys.stdin.buffer)
            yield from (os.fsdecode(line) for line in lines if line)
        else:
            yield path


def results(
    model: Runs, paths: Iterable[Path], top: int, batch_size: int, limit: int | None
) -> Iterator[Result]:
    """What becomes of each image, in order; the first image is a batch of its own, so that it shows at once."""
    batch: list[tuple[Path, Any]] = []
    size = 1
    for count, path in enumerate(paths, 1):
        try:
            batch.append((path, to_input(model.spec, path)))
        except DataError as error:
            batch.append((path, error))
        if len(batch) == size or count == limit:
            yield from run_batch(model, batch, top)
            batch, size = [], batch_size
        if count == limit:
            break
    yield from run_batch(model, batch, top)


def run_batch(model: Runs, batch: list[tuple[Path, Any]], top: int) -> Iterator[Result]:
    """Classify the inputs of a batch and hand on its errors."""
    inputs = [entry for _, entry in batch if not isinstance(entry, DataError)]
    found = iter(classify(model, np.stack(inputs), top) if inputs else ())
    for path, entry in batch:
        yield path, entry if isinstance(entry, DataError) else next(found)


class Rows:
    """Prints results as they come: a table, CSV or JSON lines."""

    def __init__(self, as_json: bool, as_csv: bool, top: int, width: int) -> None:
        self.as_json, self.as_csv, self.top, self.width = as_json, as_csv, top, width
        self.started = as_json

    def result(self, path: Path, result: Best | DataError) -> None:
        """Print one image's classes, or its error."""
        if isinstance(result, DataError):
            if self.as_json:
                click.echo(json_text({"path": path, "error": str(result)}))
            else:
                click.echo(f"Error: {one_line(str(result))}", err=True)
            return
        if not self.started:
            self.started = True
            head = f"{'class':{self.width}}  probability  "
            click.echo(
                "path,rank,label,index,probability" if self.as_csv else head * self.top + "image"
            )
        click.echo(self.line(path, result))

    def line(self, path: Path, best: Best) -> str:
        """One image's lines."""
        if self.as_csv:
            text = io.StringIO()
            rows = (
                (path, rank, b.label, b.index, f"{b.probability:.6f}")
                for rank, b in enumerate(best, 1)
            )
            csv.writer(text, lineterminator="\n").writerows(rows)
            return text.getvalue().rstrip("\n").encode("utf-8", "backslashreplace").decode()
        if self.as_json:
            first = {"path": path, **msgspec.structs.asdict(best[0])}
            return json_text(first if self.top == 1 else {**first, "top": best})
        shown = (f"{b.label:{self.width}}  {b.probability * 100:9.2f} %  " for b in best)
        return "".join(shown) + one_line(str(path))
