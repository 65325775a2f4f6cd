"""The figures of a report. Needs matplotlib."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bwn.data.records import Pixels
from bwn.experiment.plots import (
    BLUE,
    ORANGE,
    draw_histograms,
    epoch_name,
    figures,
    moments,
    svg_bytes,
)
from bwn.reporting.facts import ImageResults, LayerFacts, Report
from bwn.reporting.report_sources import Gathered
from bwn.reporting.words import mistake_text, shape_text
from bwn.train.history import BINS, Epoch

WIDTH = 6.4
"""Width of a figure, in inches: a phone shows its text at about two thirds of its size."""
COLUMNS = 2
"""Panels side by side."""
PANEL_HEIGHT = 1.9
"""Height of a panel, in inches."""
NUMBERED = 12
"""Classes up to which a confusion matrix shows its numbers."""
EXPERIMENT = {
    "errors": ("Test error by scheme", "A point for each seed and a bar for the mean."),
    "weights": ("Real weights by scheme", "Histograms of all binary layers' real weights."),
    "lambda": ("Accuracy against lambda", "Error, and share of the weights at +-1, by lambda."),
}


@dataclass(frozen=True)
class Picture:
    """A figure with its words.

    Attributes:
        name: One word.
        title: Its heading.
        alt: What it shows, for who cannot see it; the numbers are in a table.
        figure: The figure.
    """

    name: str
    title: str
    alt: str
    figure: Figure


def inline_svg(figure: Figure) -> str:
    """The `<svg>` element of a figure, without document type and metadata."""
    svg = svg_bytes(figure).decode()
    return re.sub("<metadata>.*?</metadata>", "", svg[svg.index("<svg ") :], flags=re.DOTALL)


def pictures(gathered: Gathered) -> list[Picture]:
    """All figures that the numbers allow. Call it within the style of `bwn.experiment.plots`."""
    report = gathered.report
    drawn: list[Picture | None] = [
        Picture(name, *EXPERIMENT[name], figure)
        for name, figure in (figures(gathered.groups) if gathered.groups else {}).items()
    ]
    drawn += [_curves(report.epochs), _weights(report), _risk(report), _scales(report.layers)]
    if report.test is not None:
        drawn += [_confusion(report.test), mistakes_picture(report.test, gathered.images)]
    return [picture for picture in drawn if picture is not None]


def _curves(epochs: Sequence[Epoch]) -> Picture | None:
    """Loss and errors of every epoch."""
    trained = [epoch for epoch in epochs if epoch.loss is not None]
    if not trained:
        return None
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    x = [epoch.epoch for epoch in trained]
    marker = "o" if len(x) < 2 else ""
    above.plot(x, [epoch.loss for epoch in trained], color=BLUE, marker=marker)
    above.set_ylabel("loss")
    for field, color, label in (
        ("accuracy", BLUE, "training images"),
        ("validation", ORANGE, "held-out images"),
    ):
        values = [getattr(epoch, field) for epoch in trained]
        if None not in values:
            errors = [100 * (1 - value) for value in values]
            below.plot(x, errors, color=color, label=label, marker=marker)
    below.set(xlabel="epoch", ylabel="error, %")
    below.xaxis.get_major_locator().set_params(integer=True)
    below.legend()
    last = trained[-1]
    return Picture(
        "curves",
        "Loss and error by epoch",
        f"Two curves over {len(x)} epochs; the loss goes from {trained[0].loss:.3g} to "
        f"{last.loss:.3g}.",
        figure,
    )


def _panels(count: int, sharex: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels."""
    rows = ceil(count / COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.6 + PANEL_HEIGHT * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False, sharex=sharex).ravel().tolist()
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _weights(report: Report) -> Picture | None:
    """A panel for each binary layer, with the histograms of several epochs."""
    binary = [layer for layer in report.layers if layer.histogram is not None]
    if not binary:
        return None
    shown = [report.epochs[index] for index in moments(len(report.epochs))]
    figure, panels = _panels(len(binary), sharex=True)
    for axes, layer in zip(panels, binary, strict=True):
        histograms = {
            epoch_name(epoch.epoch): row.histogram
            for epoch in shown
            for row in epoch.layers
            if row.name == layer.name
        }
        draw_histograms(axes, histograms or {"now": layer.histogram or ()})
        axes.set_title(f"{layer.name}: {shape_text(layer)}", fontsize="medium")
        axes.tick_params(which="both", labelsize="small")
    figure.supxlabel("real weight", fontsize="medium")
    figure.supylabel(f"% of the weights, in each of {BINS} bins", fontsize="medium")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return Picture(
        "weights",
        "Real weights by layer and epoch",
        f"Histograms of the real weights of {len(binary)} binary layers over -1 to +1, with a "
        "logarithmic axis. Weights that have arrived at +-1 are in the outermost bins.",
        figure,
    )


def _risk(report: Report) -> Picture | None:
    """Distance to +-1, share near 0, and accuracy lost by it: a bar for each binary layer."""
    binary = [layer for layer in report.layers if layer.distance is not None]
    if not binary or report.flip_risk is None:
        return None
    columns = [
        ("mean distance to +-1", [layer.distance or 0 for layer in binary]),
        (
            f"within {report.flip_risk.delta:g} of 0,\n% of the weights",
            [100 * (layer.near_zero or 0) for layer in binary],
        ),
    ]
    if report.test is not None:
        accuracy = report.test.accuracy
        lost = [100 * (accuracy - (layer.flipped_accuracy or 0)) for layer in binary]
        columns.append(("accuracy lost if these\nflip, points", lost))
    figure = Figure(figsize=(WIDTH, 1.2 + 0.3 * len(binary)), layout="constrained")
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, (label, values) in zip(panels, columns, strict=True):
        axes.barh(range(len(binary)), values, color=BLUE)
        axes.set_xlabel(label)
        axes.margins(x=0.1)
        axes.grid(visible=False, axis="y")
    panels[0].set_yticks(range(len(binary)), [layer.name for layer in binary])
    panels[0].set_ylabel("layer")
    panels[0].invert_yaxis()
    words = ", ".join(label.replace("\n", " ") for label, _ in columns)
    return Picture(
        "risk", "Distance to +-1 and flip risk by layer", f"Bars for each layer: {words}.", figure
    )


def _scales(layers: Sequence[LayerFacts]) -> Picture | None:
    """A panel for each packed layer that has scales."""
    scaled = [layer for layer in layers if layer.scales is not None]
    if not scaled:
        return None
    figure, panels = _panels(len(scaled))
    for axes, layer in zip(panels, scaled, strict=True):
        assert layer.scales is not None
        counts = layer.scales.histogram
        edges = np.linspace(layer.scales.low, layer.scales.high, len(counts) + 1)
        axes.stairs(counts, edges, fill=True, color=BLUE)
        axes.set_title(f"{layer.name}: {shape_text(layer)}", fontsize="medium")
    figure.supxlabel("scale of an output channel", fontsize="medium")
    figure.supylabel("channels", fontsize="medium")
    return Picture(
        "scales",
        "Scales by layer",
        f"Histograms of the output channels' scales of {len(scaled)} packed layers.",
        figure,
    )


def _confusion(test: ImageResults) -> Picture:
    """The confusion matrix, each row in shares of its class."""
    counts = np.array(test.confusion)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted class", ylabel="true class")
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    if len(counts) <= NUMBERED:
        axes.set_xticks(range(len(counts)), test.classes, rotation=45, ha="right")
        axes.set_yticks(range(len(counts)), test.classes)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if share[row, column] > 0.5 else "black"
                axes.text(
                    column, row, f"{count}", ha="center", va="center", color=color, fontsize="small"
                )
    return Picture(
        "confusion",
        "Confusion matrix",
        f"A row for each of {len(counts)} true classes and a column for each predicted one; "
        f"{test.right:,} of {test.images:,} images are on the diagonal.",
        figure,
    )


def mistakes_picture(test: ImageResults, images: Pixels | None) -> Picture | None:
    """The images of the most frequent confusions that the network is surest of."""
    if images is None or not len(images):
        return None
    columns = 4
    rows = ceil(len(images) / columns)
    figure = Figure(figsize=(WIDTH, 2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in panels:
        axes.set_axis_off()
    for axes, image, mistake in zip(panels, images, test.mistakes, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(mistake_text(mistake, test.classes, "\n"), fontsize="small")
    return Picture("mistakes", "Worst-confused images", "Images that are taken for others.", figure)
