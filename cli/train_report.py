"""What `bwn train` prints: what is trained, a line per epoch, and how the run ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bwn._text import count_noun
from bwn.cli.output import command_line, json_text, show_progress
from bwn.metrics import confused_text, interval_text

LINES = 60
"""About how many epochs of a long run are printed."""

HEADER = (
    "    epoch",
    "  loss",
    "accuracy: training",
    "held-out",
    "distance to +-1",
    "images/s",
    "   left",
)

if TYPE_CHECKING:
    from bwn.train.progress import Progress
    from bwn.train.run import Outcome, Run
    from bwn.train.time_budget import Plan


def show_start(run: Run, as_json: bool) -> None:
    """Print what the weights start from, the network and the data, in one of several processes."""
    from bwn.train.distributed import rank

    if rank():
        return
    if run.origin is not None:
        click.echo(origin(run), err=as_json)
    if run.checkpointer.replaces:
        click.echo(f"Replacing {run.checkpointer.output}", err=True)
    if run.fitted is not None:
        click.echo(fitted(run.fitted), err=as_json)
    if not as_json:
        click.echo(heading(run))


class EpochPrinter:
    """Prints a row for each completed epoch and, unless as JSON, a progress bar before it.

    Of a long run, about LINES epochs are shown, among them the first and the last.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.skipped: Progress | None = None
        self._headed = False

    def show(self, progress: Progress) -> None:
        """Show how far the run is."""
        if self.as_json:
            if progress.epoch_done:
                click.echo(json_text({"event": "epoch", **vars(progress)}))
            return
        every = -(-progress.epochs // LINES)
        if progress.epoch_done and progress.epoch % every and 1 < progress.epoch < progress.epochs:
            self.skipped = progress
        elif progress.epoch_done:
            self.skipped = None
            show_progress("")
            self._print(progress)
            return
        show_progress(bar(progress))

    def finish(self) -> None:
        """Show the last epoch of a run that was stopped, or ended early."""
        if self.skipped is not None:
            self._print(self.skipped)

    def _print(self, progress: Progress) -> None:
        if not self._headed:
            click.echo("  ".join(HEADER))
        self._headed = True
        click.echo(row(progress))


def show_end(run: Run, outcome: Outcome, as_json: bool) -> None:
    """Print how the run ended, in one of several processes."""
    from bwn.train.distributed import rank

    if not rank():
        click.echo(json_text(summary(outcome, run)) if as_json else text(outcome, run))


def origin(run: Run) -> str:
    """The checkpoint that a warm start begins with."""
    from bwn.train.warm_start import keeps_last_layer

    assert run.origin is not None
    description = run.description
    text = f"Starting from {description.begun_from}, scheme {run.origin.architecture.scheme}"
    if not keeps_last_layer(run.origin, description.classes):
        text += f"; the last layer starts fresh, for {len(description.classes)} other classes"
    return text


def fitted(plan: Plan) -> str:
    """How many epochs fit into the given time."""
    epochs = count_noun(plan.epochs, "epoch")
    return f"{epochs} of about {plan.epoch_seconds:.3g} s: the same as --epochs {plan.epochs}"


def heading(run: Run) -> str:
    """The network and the images that it is trained on."""
    architecture = run.description.architecture
    shape = " x ".join(str(extent) for extent in architecture.input_shape)
    training, held_out = len(run.trainer.train_data.images), len(run.trainer.held_out.images)
    images = count_noun(training + held_out, "training image")
    split = f" ({training:,} to train on, {held_out:,} held out)" if held_out else ""
    return (
        f"{architecture.name}, scheme {architecture.scheme}, {architecture.activations} "
        f"activations; {images} of {shape}{split}, {architecture.classes} classes"
    )


def row(progress: Progress) -> str:
    """A row of the table of epochs, under HEADER."""
    validation, distance = progress.validation, progress.distance
    cells = (
        f"{progress.epoch}/{progress.epochs}",
        f"{progress.loss:.4f}",
        f"{progress.accuracy:.2%}",
        "-" if validation is None else f"{validation:.2%}",
        "-" if distance is None else f"{distance:.3f}",
        f"{progress.images_per_second:,.0f}",
        clock(progress.left),
    )
    return "  ".join(f"{cell:>{len(name)}}" for cell, name in zip(cells, HEADER, strict=True))


def bar(progress: Progress) -> str:
    """How far the run is, in one line."""
    epoch = f"epoch {progress.epoch}/{progress.epochs}"
    drawn = click.progressbar(length=progress.steps, label=epoch, width=24, show_eta=False)
    drawn.make_step(progress.step)
    rate = f"{progress.images_per_second:,.0f} images/s"
    parts = drawn.format_progress_line(), f"loss {progress.loss:.4f}", rate
    return "  ".join([*parts, f"{clock(progress.left)} left"])


def summary(outcome: Outcome, run: Run) -> dict[str, object]:
    """How the run ended, for programs."""
    best = None
    if outcome.best is not None and outcome.best.best is not None:
        best = {
            "checkpoint": str(run.checkpointer.best_output),
            "epoch": outcome.best.best.epoch,
            "validation": outcome.best.best.accuracy,
            "test_accuracy": outcome.best.test_accuracy,
        }
    return {
        "event": "finished" if outcome.finished else "stopped",
        "already_complete": outcome.already_complete,
        "early": outcome.early,
        "epochs": outcome.epochs,
        "checkpoint": str(run.checkpointer.output),
        "test_accuracy": run.description.test_accuracy,
        "best": best,
        "test_images": outcome.test_images,
        "classes": run.description.classes,
        "confusion": outcome.confusion,
        "note": outcome.note,
        "train_images": len(run.trainer.train_data.images),
        "parameters": sum(parameter.numel() for parameter in run.trainer.module.parameters()),
        "seconds": outcome.seconds,
    }


def text(outcome: Outcome, run: Run) -> str:
    """How the run ended, for people."""
    output = Path(run.checkpointer.output)
    if not outcome.finished:
        resume = command_line("bwn", "train", "--resume", output)
        return f"Stopped; {output} is a checkpoint. To resume: {resume}"
    lines, settings = [], run.description.settings
    if outcome.already_complete:
        lines.append("This run is already complete: there was nothing left to train.")
    if outcome.early:
        patience = count_noun(settings.patience or 0, "epoch")
        lines.append(
            f"Stopped early, after epoch {outcome.epochs} of {settings.epochs}: held-out accuracy "
            f"had not risen for {patience}."
        )
    lines += results(outcome, run)
    if outcome.note:
        lines.append(f"Note: {outcome.note}")
    wrote = "" if outcome.already_complete else f"Wrote {output} after {clock(outcome.seconds)}. "
    pack = command_line("bwn", "pack", output, "-o", output.with_suffix(".bwn"))
    lines.append(f"{wrote}Next: {pack}")
    return "\n".join(lines)


def results(outcome: Outcome, run: Run) -> list[str]:
    """Accuracy of the last state and of the best epoch, and the most frequent confusions."""
    lines, accuracy, counts = [], run.description.test_accuracy, outcome.confusion
    if accuracy is not None:
        images = ""
        if counts is not None:
            images = f" on {count_noun(outcome.test_images, 'test image')}"
            interval = interval_text(int(counts.trace()), outcome.test_images)
            images += interval and f" ({interval})"
        lines.append(f"Accuracy {share(accuracy)}{images}, with the weights to be packed.")
    if outcome.best is not None and outcome.best.best is not None:
        best, tested = outcome.best.best, outcome.best.test_accuracy
        test = "" if tested is None else f" {share(tested)},"
        lines.append(
            f"Best epoch {best.epoch}:{test} held-out {best.accuracy:.2%}, in "
            f"{run.checkpointer.best_output}"
        )
    if counts is not None and (mistakes := confused_text(counts, run.description.classes)):
        lines.append(f"Most frequent confusions: {mistakes}")
    return lines


def share(accuracy: float) -> str:
    """An accuracy with its error."""
    return f"{accuracy:.2%} (error {1 - accuracy:.2%})"


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
