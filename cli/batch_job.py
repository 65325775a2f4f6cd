"""The command line of examples/dask/ and examples/ray/: a job on a folder of very many images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import click

from bwn.cli.infer import SOME_FAILED
from bwn.cli.main import INTERRUPTED, print_failure
from bwn.cli.output import json_text
from bwn.cli.params import FilePath, Integer
from bwn.errors import BwnError
from bwn.kernels.target.limits import available_threads
from bwn.kernels.target.loader import KernelsError
from bwn.model import Model, load
from bwn.tools.batch_job import BatchJob, Row, split


class Options(NamedTuple):
    """Options of an engine.

    Attributes:
        address: Address of a running cluster; None for workers of this machine.
        workers: Number of workers.
        part: Images that a worker classifies at a time.
    """

    address: str | None
    workers: int
    part: int


Engine = Callable[[Model, Iterator[list[str]], Options], Iterator[list[Row]]]
"""Yields the rows of every part, in any order."""


def program(name: str, engine: Engine) -> None:
    """Run a job as a program does, and end the process.

    Args:
        name: Name of the engine.
        engine: It classifies.
    """

    @click.command(
        help=f"Classify a folder of very many images with MODEL, a .bwn file, on {name}.\n\nEach "
        "image gets a line of JSON in a file of ROWS, a folder. The same command continues a job "
        "that was stopped. Workers need IMAGES by the same path."
    )
    @click.argument("model", type=FilePath())
    @click.argument("images", type=FilePath())
    @click.argument("rows", type=FilePath())
    @click.option(
        "--address", help="Address of a running cluster.  [default: workers of this machine]"
    )
    @click.option(
        "--workers",
        type=Integer(1),
        default=available_threads(),
        show_default=True,
        help="Number of workers.",
    )
    @click.option(
        "--part", type=Integer(1), default=1000, show_default=True, help="Images per file."
    )
    def command(model: str, images: str, rows: str, **options: Any) -> None:
        try:
            _run(model, images, rows, engine, Options(**options))
        except KeyboardInterrupt:
            click.echo("Stopped: the same command continues from here", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None

    command()


def _run(model: str, images: str, rows: str, engine: Engine, options: Options) -> None:
    try:
        job = BatchJob(rows, model, images)
        parts = split(job.rest, options.part)
        done = engine(load(model, threads=1), parts, options) if job.rest else ()
        summary = job.collect(done, lambda line: click.echo(line, err=True))
    # OSError: no cluster at this address. An engine's own errors keep their traceback.
    except (BwnError, KernelsError, OSError) as error:
        raise print_failure(error) from None
    click.echo(json_text(summary))
    if summary.failed:
        raise click.exceptions.Exit(SOME_FAILED)
