"""`bwn experiment`: several schemes with several seeds each, compared."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bwn._files import make_folder
from bwn._text import count_noun
from bwn.cli.output import json_text, show_progress, stopped, table
from bwn.cli.params import FilePath, Integer, Number, output_options, run_options
from bwn.cli.settings_options import chosen, field_option, field_options
from bwn.cli.train_report import clock
from bwn.errors import BwnError
from bwn.train import require_torch
from bwn.train.settings import SCHEME_NAMES, Architecture, Settings

if TYPE_CHECKING:
    from bwn.experiment.jobs import Job
    from bwn.experiment.record import Record
    from bwn.experiment.report import Row
    from bwn.experiment.worker import Event
    from bwn.train.progress import Progress

COMPARED = "float,deterministic,stochastic,margin"


def several(
    kind: click.ParamType[Any],
) -> Callable[[click.Context, click.Parameter, str | None], tuple[Any, ...]]:
    """The callback of an option that takes a comma-separated list of such values."""

    def convert(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[Any, ...]:
        parts = value.split(",") if value else ()
        return tuple(kind.convert(part.strip(), param, ctx) for part in parts)

    return convert


@click.group("experiment")
def command() -> None:
    """Compare schemes: many runs, resumable at any point; a table and plots.

    \b
    bwn experiment paper --data mnist --out runs/mnist  four schemes, five seeds
    bwn experiment report runs/mnist                    the table and plots again
    """


@command.command(
    short_help="Train several schemes with several seeds each, and compare them.",
    epilog="Example: bwn experiment paper --data mnist-sample --epochs 3 --seeds 2 --out runs/try",
)
@click.option(
    "--data", required=True, type=FilePath(), metavar="SOURCE", help="Images, as for `bwn train`."
)
@click.option(
    "--out",
    required=True,
    type=FilePath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for checkpoints, records, table and plots.",
)
@click.option(
    "--schemes",
    callback=several(click.Choice(SCHEME_NAMES)),
    default=COMPARED,
    show_default=True,
    metavar="LIST",
    help=f"Schemes to compare, of {', '.join(SCHEME_NAMES)}.",
)
@click.option(
    "--seeds", type=Integer(1, 1000), default=5, show_default=True, help="Runs of each scheme."
)
@click.option(
    "--first-seed",
    type=Integer(0, 2**31),
    default=0,
    show_default=True,
    help="Seed of the first run.",
)
@field_option(Architecture, "name")
@field_option(Architecture, "width")
@click.option(
    "--lambdas",
    callback=several(Number(0, 1e6)),
    metavar="LIST",
    help="Also run margin with these values of lambda, for the plot of error against lambda: "
    "30,3000.",
)
@click.option(
    "--weight-decays",
    callback=several(Number(0, 1e3)),
    metavar="LIST",
    help="Also run float with these weight decays, to find its own best: 0.01,0.1,1.",
)
@field_option(
    Settings,
    "augment",
    default="none",
    help="Shift each image by a few pixels; `flip` also mirrors it at random, `alternating` in "
    "every second epoch. (The paper did neither.)  [default: none]",
)
@field_options(Settings, "augment", "seed")
@click.option(
    "--jobs", type=Integer(1, 1024), default=1, show_default=True, help="Runs at the same time."
)
@run_options
def paper(
    data: str, out: Path, jobs: int, threads: int | None, as_json: bool, **options: Any
) -> None:
    """Train several schemes with several seeds each, and compare them as the paper does.

    Run the same command again to continue after Ctrl-C, a crash or a reboot; finished runs are not
    repeated. With more seeds, schemes or lambdas it adds their runs. Other settings need another
    DIR.

    DIR/results.jsonl has one line per run: errors with the deployed one-bit weights on the test
    images (for `stochastic` also with its real weights), on the held-out and on the training
    images, and for each epoch the loss and a histogram of the weights. DIR/table.md compares:
    mean, deviation, and the difference to margin over the same seeds with its 95 % confidence
    interval. Plots need the extra `plots`.

    Choose settings by the validation error, and look at the test error last. Runs at the same time
    share the threads.
    """
    # As in `bwn train`: read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    require_torch()
    from bwn.experiment.jobs import ExperimentRequest
    from bwn.experiment.paper import run_paper

    first = options["first_seed"]
    request = ExperimentRequest(
        source=data,
        schemes=options["schemes"],
        seeds=range(first, first + options["seeds"]),
        lambdas=options["lambdas"],
        weight_decays=options["weight_decays"],
        model=options["name"],
        width=options["width"],
        chosen=chosen(Settings, options),
    )
    screen = Screen(jobs, as_json)
    run_paper(
        request, out, at_once=jobs, threads=threads, begin=screen.begin, on_event=screen.event
    )
    screen.end()
    if screen.done:
        show((out,), out, as_json)
    if screen.failed:
        raise BwnError(
            f"{screen.failed} of {count_noun(screen.runs, 'run')} failed; run the command again to "
            "retry"
        )


@command.command(short_help="Make the table and plots of finished runs.")
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=FilePath(path_type=Path))
@click.option(
    "--out",
    type=FilePath(file_okay=False, path_type=Path),
    help="Folder for the table and plots.  [default: DIR, if there is only one]",
)
@output_options
def report(folders: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Make the table and plots of finished runs.

    Several DIRs share one table. All are compared with the margin runs of the first DIR that has
    any.
    """
    if out is None and len(folders) > 1:
        raise click.UsageError(
            "Missing option '--out': the folder for the table and plots of several experiments."
        )
    show(folders, out or folders[0], as_json)


class Screen:
    """Shows a line for each run that ends, and one progress line for the others."""

    def __init__(self, at_once: int, as_json: bool) -> None:
        self.at_once, self.as_json = at_once, as_json
        self.runs = self.done = self.failed = 0
        self._progress: dict[str, Progress] = {}

    def begin(self, runs: int, done: int, threads: int) -> None:
        """The first line."""
        self.runs, self.done = runs, done
        if not self.as_json:
            finished = f", {done} of them done" if done else ""
            click.echo(
                f"{count_noun(runs, 'run')}{finished}; {self.at_once} at a time, "
                f"{count_noun(threads, 'thread')} each"
            )

    def event(self, job: Job, event: Event) -> None:
        """An event of one run."""
        if event.progress is not None:
            self._progress[job.name] = event.progress
        else:
            self._progress.pop(job.name, None)
            show_progress("")
        if event.record is not None:
            self.done += 1
            self._show(brief(event.record), f"{self.done}/{self.runs}  {summary(event.record)}")
        if event.failed is not None:
            self.failed += 1
            document = {"event": "failed", "name": job.name, "reason": event.failed}
            self._show(document, f"{job.name} failed: {event.failed}", err=True)
        runs = (position(*item) for item in self._progress.items())
        show_progress("  ".join([f"{self.done}/{self.runs}", *runs]))

    def _show(self, document: object, text: str, *, err: bool = False) -> None:
        """Print JSON or text. err: whether text goes to standard error."""
        click.echo(json_text(document) if self.as_json else text, err=err and not self.as_json)

    def end(self) -> None:
        """Clear the progress line. If runs are left, say so and exit."""
        show_progress("")
        if self.done + self.failed == self.runs:
            return
        self._show(
            {"event": "stopped", "done": self.done, "runs": self.runs},
            f"Stopped with {self.done} of {count_noun(self.runs, 'run')} done. Run the command "
            "again to continue.",
        )
        raise stopped()


def position(name: str, progress: Progress) -> str:
    """How far a run is, for the progress line."""
    return f"{name}: epoch {progress.epoch}/{progress.epochs}, {clock(progress.left)} left"


def summary(record: Record) -> str:
    """A finished run."""
    parts = [f"{record.name}: test error {percent(record.test_error)}"]
    if record.test_error_real_weights is not None:
        parts.append(f"with its real weights {percent(record.test_error_real_weights)}")
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
    from bwn.experiment.groups import read_groups
    from bwn.experiment.report import HEADER, cells, notes, rows, write_report

    groups = read_groups(folders)
    make_folder(out)
    files, missing = write_report(groups, out)
    if as_json:
        lines = [values(row) for row in rows(groups)]
        click.echo(json_text({"event": "table", "rows": lines, "files": files, "note": missing}))
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
