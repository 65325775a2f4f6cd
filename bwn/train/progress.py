"""How far a run is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a run is. Reported about twice a second, and at the end of each epoch.

    Attributes:
        epoch: The epoch of the last step, from 1.
        epochs: Epochs of the whole run.
        step: Steps done.
        steps: Steps of the whole run.
        epoch_done: Whether this is the epoch's end.
        loss: Mean over the epoch's training images so far, without the penalty.
        accuracy: Fraction of them that were classified correctly, in 0 to 1.
        validation: Accuracy on the held-out images with the deployed weights; None before the
            epoch's end, or without such images.
        distance: Mean distance of the binary layers' real weights to +-1; None without such layers.
        flips: Share of the binary layers' weights whose sign changed in the epoch's last step; None
            before it, or without such layers.
        learning_rate: Of the next step.
        strength: lambda of the next step.
        seconds: Time since this session began.
        left: Estimate of the seconds to the end.
        best: The epoch of the best validation so far (of equal ones the last); None before one.
        images_per_second: Training images of this session, divided by its seconds.

    Example:
        >>> from bwn.train import Progress
        >>> def report(progress: Progress) -> None:
        ...     if progress.epoch_done:
        ...         print(f"epoch {progress.epoch}: loss {progress.loss:.3f}")
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    epoch_done: bool
    loss: float
    accuracy: float
    validation: float | None
    distance: float | None
    learning_rate: float
    strength: float
    seconds: float
    left: float
    best: int | None = None
    images_per_second: float = 0.0
    flips: float | None = None
