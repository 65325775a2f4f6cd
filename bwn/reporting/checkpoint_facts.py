"""The numbers of a checkpoint: its real weights, its epochs, and its answers to test images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bwn._text import count_noun
from bwn.data.datasets import Dataset
from bwn.data.records import Pixels
from bwn.errors import CheckpointError
from bwn.reporting.facts import FlipRisk, LayerFacts, Report
from bwn.reporting.mistakes import image_results
from bwn.tools.verify_inputs import load_test_split
from bwn.train.checkpoint import Checkpoint, read_checkpoint
from bwn.train.device import prepare_process
from bwn.train.flip_risk import flipped, shares_near_zero
from bwn.train.history import Epoch, decode_history, layer_weights
from bwn.train.layers import binary_layers, scheme_layers
from bwn.train.preprocessing import accuracy, scores_of

if TYPE_CHECKING:
    from bwn.reporting.report_sources import Request


def checkpoint_facts(path: Path, request: Request) -> tuple[Report, Pixels | None]:
    """The numbers of a checkpoint, and the images of its mistakes.

    Raises BwnError where it cannot be read, or the images do not fit it.
    """
    prepare_process(request.threads)
    checkpoint = read_checkpoint(path)
    layers, epochs = _layers(checkpoint, request.delta), _epochs(checkpoint)
    binary = [layer for layer in layers if layer.one_bit]
    one_bit = sum(layer.weights for layer in binary)
    near = sum(layer.weights * (layer.near_zero or 0) for layer in binary)
    report = Report(
        source=str(path),
        kind="checkpoint",
        about=_about(checkpoint),
        one_bit_share=one_bit / max(sum(layer.weights for layer in layers), 1),
        layers=layers,
        epochs=epochs,
        flip_risk=FlipRisk(delta=request.delta, share=near / one_bit) if binary else None,
        notes=_notes(checkpoint, binary, epochs),
    )
    return (report, None) if request.data is None else _tested(checkpoint, report, request)


def _about(checkpoint: Checkpoint) -> tuple[tuple[str, str], ...]:
    description = checkpoint.description
    network, settings = description.architecture, description.settings
    width = f" of width {network.width}" if network.width else ""
    rows = [
        ("checkpoint", checkpoint.path),
        ("network", f"{network.name}{width}, scheme {network.scheme}, {network.activations}"),
        ("images", f"{description.source}, {' x '.join(map(str, network.input_shape))}"),
        ("classes", count_noun(len(description.classes), "class")),
        (
            "training",
            f"{count_noun(settings.epochs, 'epoch')}, batches of {settings.batch_size}, learning "
            f"rate {settings.learning_rate:g} to {settings.final_learning_rate:g}, "
            f"{settings.loss}, penalty {settings.penalty or 'none'}, seed {settings.seed}",
        ),
    ]
    if description.best is not None:
        rows.append(("best epoch", f"{description.best.epoch}"))
    if description.test_accuracy is not None:
        rows.append(("test accuracy", f"{description.test_accuracy:.2%}, measured by bwn train"))
    return tuple(rows)


def _layers(checkpoint: Checkpoint, delta: float) -> tuple[LayerFacts, ...]:
    binary = binary_layers(checkpoint.module)
    now = {row.name: row for row in layer_weights(binary)}
    shares = shares_near_zero(checkpoint.module, delta)
    return tuple(
        LayerFacts(
            name=name,
            shape=tuple(layer.weight.shape),
            weights=layer.weight.numel(),
            stored="1 bit" if name in binary else "float32",
            distance=now[name].distance if name in now else None,
            near_zero=shares.get(name),
            histogram=now[name].histogram if name in now else None,
        )
        for name, layer in scheme_layers(checkpoint.module).items()
    )


def _epochs(checkpoint: Checkpoint) -> tuple[Epoch, ...]:
    try:
        return tuple(decode_history(checkpoint.training.get("history", "[]")))
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: {error}") from error


def _notes(
    checkpoint: Checkpoint, binary: Sequence[LayerFacts], epochs: Sequence[Epoch]
) -> tuple[str, ...]:
    notes = []
    if checkpoint.description.best is not None:
        notes.append(
            "The file of the best epoch holds no earlier epochs: the checkpoint next to it does."
        )
    elif not epochs:
        notes.append("The checkpoint is of an older bwn, which kept nothing of earlier epochs.")
    if not binary:
        notes.append("No layer is binary: there is no distance to +-1 and no flip risk.")
    return tuple(notes)


def _tested(
    checkpoint: Checkpoint, report: Report, request: Request
) -> tuple[Report, Pixels | None]:
    """The report with the accuracy on test images, as it is and with weights flipped."""
    module, rule = checkpoint.module, checkpoint.description.preprocess
    classes = checkpoint.description.classes
    assert request.data is not None
    name, pixels, labels = load_test_split(
        rule,
        classes,
        request.data,
        request.samples,
        skip_bad=request.skip_bad,
        progress=request.progress,
    )
    data = Dataset(pixels, labels, classes)
    request.progress(f"classifying {count_noun(len(labels), 'image')}")
    scores = scores_of(module, data, rule)
    test = image_results(name, labels, scores.softmax(1).cpu().numpy(), classes)
    report = replace(report, test=test)
    if report.flip_risk is not None:
        request.progress("measuring the flip risk")

        def if_flipped(layers: Sequence[str] | None = None) -> float:
            return accuracy(flipped(module, request.delta, layers), data, rule)

        flipped_accuracy = if_flipped()
        report = replace(
            report,
            flip_risk=replace(
                report.flip_risk,
                flipped_accuracy=flipped_accuracy,
                lost=test.accuracy - flipped_accuracy,
            ),
            layers=tuple(
                replace(layer, flipped_accuracy=if_flipped([layer.name]))
                if layer.one_bit
                else layer
                for layer in report.layers
            ),
        )
    request.progress("")
    return report, pixels[[mistake.image for mistake in test.mistakes]]
