"""`bwn.report`: numbers and figures of a run, a packed model or an experiment."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from bwn._arguments import check_counts
from bwn._files import check_path, check_target, write_atomically
from bwn._types import StrPath
from bwn.data.datasets import no_progress
from bwn.errors import ArgumentError, MissingPackageError
from bwn.reporting.facts import Report
from bwn.reporting.report_sources import DELTA, Gathered, Request, gather

if TYPE_CHECKING:
    from bwn.reporting.pictures import Picture

DPI = 120


def report(
    source: StrPath,
    target: StrPath | None = None,
    *,
    data: StrPath | None = None,
    delta: float = DELTA,
    samples: int | None = None,
    threads: int | None = None,
    skip_bad: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Describe a training run, a packed model or an experiment: numbers, and a file of figures.

    Of a checkpoint: histograms of the real weights by layer and epoch, mean distance to +-1, and
    the flip risk, which is the share of the weights within `delta` of 0. With `data` also the
    accuracy that is lost if exactly these weights change sign, the confusion matrix, and the images
    of the most frequent confusions. A packed model has signs and scales, and no real weights.

    Args:
        source: A checkpoint, a folder with `model.pt`, a .bwn file, or an experiment's folder.
        target: File to write: .html (one self-contained page), .png or .svg; None: none. It needs
            matplotlib; the numbers alone do not.
        data: A data set as in `bwn.evaluate`; its test images are classified.
        delta: Largest distance to 0 of a real weight that counts as near 0, in 0 to 1.
        samples: At most this many test images; None: all.
        threads: Threads to use; None: every core.
        skip_bad: Whether images that cannot be read are left out, with a warning.
        progress: Called with a line of text during long work, and with "" at its end, if given.

    Returns:
        The numbers.

    Raises:
        ArgumentError: `delta`, `samples` or the ending of `target` is refused.
        FileError: `source` or `data` cannot be read, or `target` cannot be written.
        MissingPackageError: matplotlib is not installed, or torch for a checkpoint.

    Example:
        >>> import bwn
        >>> numbers = bwn.report("model.bwn", "report.html", data="mnist-sample", samples=50)
        >>> numbers.kind, numbers.test.images
        ('model', 50)
    """
    check_path(source)
    check_counts(
        samples=1 if samples is None else samples, threads=1 if threads is None else threads
    )
    if not 0 <= delta <= 1:
        raise ArgumentError(f"delta is {delta:g}, expected a number from 0 to 1")
    if target is not None:
        _check_writable(target)
    request = Request(data, delta, samples, threads, skip_bad, progress or no_progress)
    gathered = gather(source, request)
    if target is not None:
        request.progress("drawing")
        write_atomically(target, _rendered(gathered, Path(target).suffix.lower()))
        request.progress("")
    return gathered.report


def _check_writable(target: StrPath) -> None:
    """Raise BwnError where the file could not be drawn or written, before anything long."""
    check_path(target)
    if Path(target).suffix.lower() not in (".html", ".png", ".svg"):
        raise ArgumentError(f"{target}: a report is named .html, .png or .svg")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingPackageError("matplotlib", "plots", "drawing a report") from None
    check_target(target)


def _rendered(gathered: Gathered, ending: str) -> bytes:
    """The file's content."""
    from matplotlib import style

    from bwn.experiment.plots import STYLE
    from bwn.reporting.pictures import pictures

    with style.context(["default", STYLE, {"font.size": 11}]):
        drawn = pictures(gathered)
        if ending == ".html":
            from bwn.reporting.page import page

            return page(gathered, drawn)
        if not drawn:
            raise ArgumentError(f"{gathered.report.source}: has nothing to draw; write .html")
        return _stacked_png(drawn) if ending == ".png" else _stacked_svg(drawn)


def _stacked_png(drawn: Sequence[Picture]) -> bytes:
    """All figures below each other."""
    from PIL import Image

    images = []
    for picture in drawn:
        buffer = BytesIO()
        picture.figure.savefig(buffer, format="png", dpi=DPI)
        images.append(Image.open(buffer))
    width, height = max(image.width for image in images), sum(image.height for image in images)
    whole, top = Image.new("RGB", (width, height), "white"), 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    buffer = BytesIO()
    whole.save(buffer, "PNG")
    return buffer.getvalue()


def _stacked_svg(drawn: Sequence[Picture]) -> bytes:
    """All figures below each other, each an <svg> of its own with names of its own."""
    from bwn.reporting.pictures import inline_svg

    parts, top, width = [], 0.0, 0.0
    for number, picture in enumerate(drawn):
        svg = inline_svg(picture.figure)
        svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>p{number}-", svg)
        inches = picture.figure.get_size_inches()
        parts.append(svg.replace("<svg ", f'<svg y="{top:g}" role="img" ', 1))
        top, width = top + 72 * inches[1], max(width, 72 * inches[0])
    head = (
        '<?xml version="1.0" encoding="utf-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" '
        f'width="{width:g}pt" height="{top:g}pt" viewBox="0 0 {width:g} {top:g}">\n'
    )
    return (head + "\n".join(parts) + "</svg>\n").encode()
