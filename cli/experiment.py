"""`bwn experiment`: every scheme with several seeds, compared."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import click

from bwn.cli.output import json_text, show_progress, table
from bwn.cli.params import FilePath, Number, json_option, threads_option, verbose_option
from bwn.cli.settings_options import MODELS, OPTIONS, SCHEMES, settings_options
from bwn.cli.train_text import clock
from bwn.errors import BwnError, FileError

if TYPE_CHECKING:
    from bwn.experiment.jobs import Job
    from bwn.experiment.record import Record
    from bwn.experiment.report import Row
    from bwn.experiment.worker import Event
    from bwn.train.trainer import Progress

COMPARED = "float,deterministic,stochastic,margin"
OWN = ("augment", "seed")
"""Settings whose options here are others than those of `bwn train`."""


def several(
    kind: click.ParamType[Any],
) -> Callable[[click.Context, click.Parameter, str | None], tuple[Any, ...]]:
    """What reads an option of values with commas between them, each of this kind."""

    def convert(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[Any, ...]:
        return (
            tuple(kind.convert(part.strip(), param, ctx) for part in value.split(","))
            if value
            else ()
        )

    return convert


@click.group("experiment")
def command() -> None:
    """Compare schemes: many runs, resumable at any point; a table and plots.

    \b
    bwn experiment paper --data mnist --out runs/mnist     every scheme with five seeds
    bwn experiment report runs/mnist                       its table and plots again
    """


@command.command(
    epilog="Example: bwn experiment paper --data mnist-sample --epochs 3 --seeds 2 --out runs/try"
)
@click.option(
    "--data", required=True, type=FilePath(), metavar="SOURCE", help="Images, as for `bwn train`."
)
@click.option(
    "--out",
    required=True,
    type=FilePath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where checkpoints, records, table and plots go.",
)
@click.option(
    "--schemes",
    callback=several(click.Choice(SCHEMES)),
    default=COMPARED,
    show_default=True,
    metavar="LIST",
    help="Schemes to compare, of float, deterministic, stochastic, scaled, margin.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Runs of each scheme.",
)
@click.option(
    "--first-seed",
    type=click.IntRange(0, 2**31),
    default=0,
    show_default=True,
    help="Seed of the first.",
)
@click.option(
    "--model",
    type=click.Choice(MODELS),
    help="Network.  [default: mlp for grey images, vgg for coloured]",
)
@click.option(
    "--width",
    type=click.IntRange(1, 8192),
    help="Width of the first layer.  [default: the network's]",
)
@click.option(
    "--lambdas",
    callback=several(Number(0, 1e6)),
    metavar="LIST",
    help="Also run margin with these values of lambda, for the plot of error against lambda: 30,3000.",
)
@click.option(
    "--weight-decays",
    callback=several(Number(0, 1e3)),
    metavar="LIST",
    help="Also run float with these, to find its own best: 0.01,0.1,1.",
)
@click.option(
    "--augment",
    type=click.Choice(["none", "shift", "flip"]),
    default="none",
    show_default=True,
    help="Move each image a little; the paper did not.",
)
@settings_options(*OWN)
@click.option(
    "--jobs",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Runs at the same time.",
)
@threads_option
@json_option
@verbose_option
def paper(
    data: str, out: Path, jobs: int, threads: int | None, as_json: bool, **options: Any
) -> None:
    """Train every scheme with several seeds, and compare them as the paper does.

    The same command goes on where it was stopped (by Ctrl-C, a crash, or a reboot), and does no finished run again;
    with more seeds, schemes or lambdas it adds their runs. Other settings need another DIR.

    DIR/results.jsonl has one line a run: errors by the deployed one-bit weights on the test images (for `stochastic`
    also by its real weights), on the held-out and on the training images, and of each epoch the loss and a
    histogram of the weights. DIR/table.md compares: mean, deviation, and the difference to margin over the same
    seeds with its 95 % confidence interval. Plots need the extra `plots`.

    Choose settings by the validation error, and look at the test error last. Runs at the same time share the threads.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from bwn.experiment.jobs import Wanted, held, plan, unfinished
    from bwn.experiment.worker_pool import work
    from bwn.model import available_threads
    from bwn.train.device import fast_precision

    share = max(1, (threads or available_threads()) // jobs)
    if options["precision"] == "auto":
        options["precision"] = fast_precision()
    wanted = Wanted(
        source=data,
        schemes=options["schemes"],
        seeds=range(options["first_seed"], options["first_seed"] + options["seeds"]),
        lambdas=options["lambdas"],
        weight_decays=options["weight_decays"],
        model=options["model"],
        width=options["width"],
        chosen={name: options[name] for name in OPTIONS if name != "seed"},
    )
    basis, runs = plan(wanted, out, share)
    with held(out, basis) as lock:
        left = unfinished(runs, out)
        screen = Screen(len(runs), len(runs) - len(left), as_json)
        screen.begin(jobs, share)
        work(left, jobs, lock, out, screen.tell)
        show_progress("")
        if screen.done + screen.failed < len(runs):
            screen.stopped()
            raise click.exceptions.Exit(130)
        if screen.done:
            show((out,), out, as_json)
    if screen.failed:
        raise BwnError(
            f"{screen.failed} of {len(runs)} runs failed; the same command tries them again"
        )


@command.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=FilePath(path_type=Path))
@click.option(
    "--out",
    type=FilePath(file_okay=False, path_type=Path),
    help="Where table and plots go.  [default: the DIR, if it is one]",
)
@json_option
@verbose_option
def report(folders: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Make table and plots of the runs that are finished.

    With several DIRs they stand in one table, and are compared with margin of the first one that has it.
    """
    if out is None and len(folders) > 1:
        raise click.UsageError(
            "Missing option '--out': where do table and plots of several folders go?"
        )
    show(folders, out or folders[0], as_json)


class Screen:
    """What is told while runs go on: a line for each that ends, and one that shows where the others are."""

    def __init__(self, runs: int, done: int, as_json: bool) -> None:
        self.runs, self.done, self.failed, self.as_json = runs, done, 0, as_json
        self._standing: dict[str, Progress] = {}

    def begin(self, jobs: int, share: int) -> None:
        """The first line."""
        if not self.as_json:
            already = f", {self.done} of them done" if self.done else ""
            runs, threads = plural(self.runs, "run"), plural(share, "thread")
            click.echo(f"{runs}{already}; {jobs} at a time, {threads} each")

    def tell(self, job: Job, event: Event) -> None:
        """An event of one run."""
        if event.progress is not None:
            self._standing[job.name] = event.progress
        else:
            self._standing.pop(job.name, None)
            show_progress("")
        if event.record is not None:
            self.done += 1
            click.echo(
                json_text(brief(event.record))
                if self.as_json
                else line(event.record, self.done, self.runs)
            )
        if event.failed is not None:
            self.failed += 1
            failure = {"event": "failed", "name": job.name, "reason": event.failed}
            click.echo(
                json_text(failure) if self.as_json else f"{job.name} failed: {event.failed}",
                err=not self.as_json,
            )
        where = f"{self.done}/{self.runs}  " + "  ".join(
            standing(*item) for item in self._standing.items()
        )
        show_progress(where[: get_terminal_size().columns - 1])

    def stopped(self) -> None:
        """The last line, where the end was not reached."""
        if self.as_json:
            click.echo(json_text({"event": "stopped", "done": self.done, "runs": self.runs}))
        else:
            click.echo(
                f"Stopped with {self.done} of {self.runs} runs done. The same command goes on from here."
            )


def plural(count: int, word: str) -> str:
    """A count and its word."""
    return f"{count} {word}" + "s" * (count != 1)


def standing(name: str, progress: Progress) -> str:
    """Where a run is, for the one line that shows all."""
    return f"{name}: epoch {progress.epoch}/{progress.epochs}, {clock(progress.left)} left"


def line(record: Record, done: int, runs: int) -> str:
    """A finished run."""
    parts = [f"{done}/{runs}  {record.name}: test error {percent(record.test_error)}"]
    if record.test_error_real_weights is not None:
        parts.append(f"by its real weights {percent(record.test_error_real_weights)}")
    parts.append(f"validation {percent(record.validation_error)}")
    if record.near is not None:
        parts.append(f"{record.near:.1%} of the weights at +-1")
    return ", ".join([*parts, clock(record.seconds)])


def percent(error: float | None) -> str:
    """An error as people read it."""
    return "unknown" if error is None else f"{error:.2%}"


def brief(record: Record) -> dict[str, Any]:
    """A record without its epochs, as one JSON event."""
    import msgspec

    values: dict[str, Any] = msgspec.to_builtins(record)
    del values["epochs"]
    return {"event": "run", **values}


def show(folders: Sequence[Path], out: Path, as_json: bool) -> None:
    """Write table and plots, and show the table."""
    from bwn.experiment.report import HEADER, cells, notes, read_groups, rows, write_report

    groups = read_groups(folders)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"'{out}' cannot be made: {error.strerror}") from error
    files, missing = write_report(groups, out)
    if as_json:
        found = [values(row) for row in rows(groups)]
        click.echo(json_text({"event": "table", "rows": found, "files": files, "note": missing}))
        return
    click.echo("\n" + table(HEADER, [cells(row) for row in rows(groups)]) + "\n")
    click.echo("\n".join(notes(groups)))
    if missing:
        click.echo(f"No plots: {missing}")
    click.echo(f"Wrote {', '.join(files)} in {out}.")


def values(row: Row) -> dict[str, Any]:
    """A row with the names of all its numbers."""
    return {
        name: value._asdict() if hasattr(value, "_asdict") else value
        for name, value in row._asdict().items()
    }
