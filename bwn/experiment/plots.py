"""Plots of an experiment: SVG files whose bytes depend on the records alone.

Needs the extra `plots`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import cast

from bwn._files import write_atomically
from bwn.errors import MissingPackageError
from bwn.experiment.groups import REFERENCE, Group
from bwn.experiment.record import Epoch
from bwn.train.history import BINS

try:
    from matplotlib import colormaps, style
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError:
    raise MissingPackageError("matplotlib", "plots", "drawing plots") from None

STYLE = {
    "svg.hashsalt": "bwn",  # else names inside the file would be random
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
}
BLUE, ORANGE = "#0072b2", "#d55e00"
MOMENTS = 5
"""Number of epochs whose histograms are drawn, the first and the last among them."""
EDGES = [2 * index / BINS - 1 for index in range(BINS + 1)]


def draw(groups: Sequence[Group], folder: Path) -> list[str]:
    """Draw what the records allow: errors.svg, weights.svg, lambda.svg. Returns the names."""
    written = []
    with style.context(["default", STYLE]):  # whatever this user's own style is
        for name, figure in figures(groups).items():
            write_atomically(folder / f"{name}.svg", svg_bytes(figure))
            written.append(f"{name}.svg")
    return written


def figures(groups: Sequence[Group]) -> dict[str, Figure]:
    """What the records allow of `errors`, `weights` and `lambda`, by name."""
    pictures = {"errors": _errors, "weights": _weights, "lambda": _lambda}
    drawn = {name: picture(groups) for name, picture in pictures.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def svg_bytes(figure: Figure) -> bytes:
    """A figure as SVG, without the time it was made."""
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _errors(groups: Sequence[Group]) -> Figure | None:
    """Test error by scheme: a point for each seed, a bar for the mean."""
    columns = []
    for group in groups:
        if not group.sweep:
            real = group.by_seed("test_error_real_weights")
            columns.append((group.name, group.by_seed("test_error")))
            columns.append((f"{group.name},\nreal weights", real))
    columns = [(name, values) for name, values in columns if values]
    if not columns:
        return None
    figure = Figure(figsize=(1.5 + 1.3 * len(columns), 4), layout="constrained")
    axes = figure.add_subplot(ylabel="test error, %")
    for place, (_, values) in enumerate(columns):
        _points(axes, place, values, BLUE)
    errors = [value for _, values in columns for value in values.values()]
    if 0 < 3 * min(errors) < max(errors):  # one bad scheme must not hide how the others differ
        log_axis(axes)
    axes.set_xticks(range(len(columns)), [name.replace(", ", ",\n", 1) for name, _ in columns])
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.grid(visible=False, axis="x")
    return figure


def _points(
    axes: Axes, place: float, values: dict[int, float], color: str, label: str | None = None
) -> None:
    percent = [100 * value for value in values.values()]
    # Spread in x, so that equal values stay visible.
    x = [place + 0.04 * (index - (len(percent) - 1) / 2) for index in range(len(percent))]
    axes.plot(x, percent, "o", color=color, markersize=4, alpha=0.7)
    mean = sum(percent) / len(percent)
    axes.plot([place - 0.14, place + 0.14], [mean, mean], color=color, linewidth=2, label=label)


def _weights(groups: Sequence[Group]) -> Figure | None:
    """Histograms of all binary layers' real weights, over several epochs and all seeds.

    A panel for each scheme.
    """
    shown = [group for group in groups if not group.sweep and group.records[0].epochs[-1].histogram]
    if not shown:
        return None
    figure = Figure(figsize=(1.2 + 3.2 * len(shown), 3.4), layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, group in zip(panels, shown, strict=True):
        epochs = min(len(record.epochs) for record in group.records)
        histograms = {
            epoch_name(moment): _sum([record.epochs[moment] for record in group.records])
            for moment in moments(epochs)
        }
        draw_histograms(axes, histograms)
        axes.set(title=group.name, xlabel="real weight")
    panels[0].set_ylabel(f"% of the weights, in each of {BINS} bins")
    figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside right upper")
    return figure


def _sum(epochs: Sequence[Epoch]) -> list[int]:
    """Sum of the epochs' histograms."""
    histograms = (epoch.histogram or () for epoch in epochs)
    return [sum(counts) for counts in zip(*histograms, strict=True)]


def moments(epochs: int) -> list[int]:
    """Which of `epochs` epochs are drawn: the first, the last, and some between."""
    if not epochs:
        return []
    return sorted({round((epochs - 1) * index / (MOMENTS - 1)) for index in range(MOMENTS)})


def epoch_name(epoch: int) -> str:
    """`start` before the first step, else `epoch 3`."""
    return f"epoch {epoch}" if epoch else "start"


def draw_histograms(axes: Axes, histograms: Mapping[str, Sequence[int]]) -> None:
    """Outlines of histograms of weights, in percent, by their labels; later ones are lighter."""
    viridis = cast(Callable[[float], tuple[float, float, float, float]], colormaps["viridis"])
    for index, (label, counts) in enumerate(histograms.items()):
        share = [100 * count / max(sum(counts), 1) for count in counts]
        color = viridis(0.9 * index / max(len(histograms) - 1, 1))
        axes.stairs(share, EDGES, color=color, label=label)
    log_axis(axes)


def log_axis(axes: Axes) -> None:
    """Give a panel a logarithmic axis whose numbers are written out."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")


def _lambda(groups: Sequence[Group]) -> Figure | None:
    """Error and arrived weights of the margin scheme against lambda, if it has several values.

    The deterministic scheme is margin with a lambda of 0.
    """
    swept = sorted((group for group in groups if group.scheme == REFERENCE), key=_final_lambda)
    if len(swept) < 2:
        return None
    swept = [group for group in groups if group.scheme == "deterministic"] + swept
    figure = Figure(figsize=(2 + 0.9 * len(swept), 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    for place, group in enumerate(swept):
        for side, color, name, values in (
            (-0.15, BLUE, "test", group.by_seed("test_error")),
            (0.15, ORANGE, "validation", group.by_seed("validation_error")),
        ):
            if values:
                _points(above, place + side, values, color, None if place else name)
        _points(below, place, group.by_seed("near"), BLUE)
    above.set_ylabel("error, %")
    above.legend()
    below.set(ylabel="weights within 0.05\nof -1 or +1, %", xlabel="lambda at the last step")
    below.set_xticks(range(len(swept)), [f"{_final_lambda(group):g}" for group in swept])
    return figure


def _final_lambda(group: Group) -> float:
    return group.records[0].strength or 0.0
