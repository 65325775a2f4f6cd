"""What `bwn train` prints: a line an epoch, and how the run ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bwn._text import one_line
from bwn.cli.output import json_text, show_progress
from bwn.metrics import confused_text

if TYPE_CHECKING:
    from bwn.train.run import Outcome, Run
    from bwn.train.trainer import Progress


def heading(run: Run) -> str:
    """What is trained on what."""
    architecture = run.description.architecture
    shape = " x ".join(str(extent) for extent in architecture.input_shape)
    return (
        f"{architecture.name}, scheme {architecture.scheme}, {architecture.activations} activations; "
        f"{len(run.trainer.train_data.images):,} images of {shape}, {architecture.classes} classes"
    )


def warn(text: str) -> None:
    """One line on standard error that is no reason to stop."""
    show_progress("")
    click.echo(f"Warning: {one_line(text)}", err=True)


def show_epoch(progress: Progress, as_json: bool) -> None:
    """A line for an epoch that has ended; before, for people, a line that is written over."""
    if as_json:
        if progress.epoch_done:
            click.echo(json_text({"event": "epoch", **vars(progress)}))
    elif progress.epoch_done:
        show_progress("")
        click.echo(line(progress))
    else:
        show_progress(line(progress))


def line(progress: Progress) -> str:
    """Where the run stands."""
    parts = [
        f"epoch {progress.epoch:>{len(str(progress.epochs))}}/{progress.epochs}",
        f"loss {progress.loss:.4f}",
        f"accuracy {progress.accuracy:.2%}",
    ]
    if progress.validation is not None:
        parts.append(f"held-out {progress.validation:.2%}")
    if progress.distance is not None:
        parts.append(f"distance to +-1 {progress.distance:.3f}")
    return "  ".join([*parts, f"{clock(progress.left)} left"])


def summary(outcome: Outcome, run: Run) -> dict[str, object]:
    """How the run ended, for programs."""
    best = None
    if outcome.best is not None and outcome.best.best is not None:
        best = {
            "checkpoint": str(run.keeper.best_output),
            "epoch": outcome.best.best.epoch,
            "validation": outcome.best.best.accuracy,
            "test_accuracy": outcome.best.test_accuracy,
        }
    return {
        "event": "finished" if outcome.finished else "stopped",
        "early": outcome.early,
        "epochs": outcome.epochs,
        "checkpoint": str(run.output),
        "test_accuracy": outcome.description.test_accuracy,
        "best": best,
        "test_images": outcome.test_images,
        "classes": outcome.description.classes,
        "confusion": outcome.confusion,
        "note": outcome.note,
        "train_images": outcome.images,
        "parameters": outcome.parameters,
        "seconds": outcome.seconds,
    }


def text(outcome: Outcome, run: Run) -> str:
    """How the run ended, for people."""
    if not outcome.finished:
        return f"Stopped; {run.output} is a checkpoint. Go on with: bwn train --resume {run.output}"
    lines, description = [], outcome.description
    if outcome.early:
        lines.append(
            f"Ended after epoch {outcome.epochs} of {description.settings.epochs}: "
            f"held-out accuracy has not risen for {description.settings.patience} epochs."
        )
    if description.test_accuracy is not None:
        images = f" on {outcome.test_images:,} test images" if outcome.test_images else ""
        lines.append(
            f"Accuracy {share(description.test_accuracy)}{images}, weights as they will be packed."
        )
    if outcome.best is not None and outcome.best.best is not None:
        best, tested = outcome.best.best, outcome.best.test_accuracy
        found = "" if tested is None else f" {share(tested)},"
        lines.append(
            f"Best epoch {best.epoch}:{found} held-out {best.accuracy:.2%}, in {run.keeper.best_output}"
        )
    if outcome.confusion is not None and (
        most := confused_text(outcome.confusion, description.classes)
    ):
        lines.append(f"Most often mistaken: {most}")
    if outcome.note:
        lines.append(f"Note: {outcome.note}")
    name = Path(run.output)
    lines.append(
        f"Wrote {name} after {clock(outcome.seconds)}. Next: bwn pack {name} -o {name.with_suffix('.bwn')}"
    )
    return "\n".join(lines)


def share(found: float) -> str:
    """An accuracy with its error."""
    return f"{found:.2%} (error {1 - found:.2%})"


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes}:{rest:02d}"
        if minutes < 60
        else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    )
