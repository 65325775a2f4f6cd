"""A report as one HTML file: no scripts, no files and no network, readable on a phone."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO

import numpy as np
from PIL import Image

from bwn._text import one_line
from bwn.data.records import Pixels
from bwn.metrics import most_confused
from bwn.reporting.facts import ImageResults, LayerFacts, Report
from bwn.reporting.pictures import Picture, inline_svg
from bwn.reporting.report_sources import Gathered
from bwn.reporting.words import fact_rows, flip_text, mistake_text, shape_text

THUMBNAIL = 96
"""Side that thumbnails are enlarged to, in pixels, or reduced to."""
LISTED_CONFUSIONS = 20
STYLE = """
:root { color-scheme: light; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin-top: 2rem; }
figure { margin: 1rem 0; } figure > img { width: 100%; height: auto; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
.about td { text-align: left; }
.images { display: flex; flex-wrap: wrap; gap: 1rem; } .images figure { margin: 0; width: 6rem; }
.images img { width: 6rem; height: 6rem; object-fit: contain; image-rendering: pixelated; }
figcaption { font-size: .85rem; overflow-wrap: anywhere; }
"""
Cells = Sequence[Sequence[object]]


def page(gathered: Gathered, pictures: Sequence[Picture]) -> bytes:
    """The page, UTF-8."""
    report = gathered.report
    drawn = {picture.name: picture for picture in pictures}

    def figures(*names: str) -> list[str]:
        return [_figure(drawn[name]) for name in names if name in drawn]

    parts = [_table((), fact_rows(report), "about"), *_paragraphs(report.notes)]
    parts += [_experiment(report), *figures("lambda", "errors", "curves")]
    parts += [_epochs(report), *figures("weights", "risk", "scales"), _layers(report)]
    if report.test is not None:
        parts += [*figures("confusion"), _confusions(report.test)]
        parts.append(_mistakes(report.test, gathered.images))
    title = _text(f"bwn report: {report.source}")
    body = "\n".join(part for part in parts if part)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{title}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    ).encode()


def _text(value: object) -> str:
    return escape(one_line(value))


def _paragraphs(sentences: Sequence[str]) -> list[str]:
    return [f"<p>{_text(sentence)}</p>" for sentence in sentences]


def _table(header: Sequence[str], rows: Cells, kind: str = "") -> str:
    """A table that scrolls by itself where it is wider than the screen."""
    if not rows:
        return ""
    lines = []
    if header:
        cells = "".join(f'<th scope="col">{_text(name)}</th>' for name in header)
        lines.append(f"<thead><tr>{cells}</tr></thead>")
    lines.append("<tbody>")
    for first, *others in rows:
        cells = "".join(f"<td>{_text(cell)}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{_text(first)}</th>{cells}</tr>')
    lines.append("</tbody>")
    return f'<div class="scroll"><table class="{kind}">{"".join(lines)}</table></div>'


def _figure(picture: Picture) -> str:
    data = b64encode(inline_svg(picture.figure).encode()).decode()
    return (
        f"<h2>{_text(picture.title)}</h2>\n<figure>"
        f'<img alt="{_text(picture.alt)}" src="data:image/svg+xml;base64,{data}"/>'
        f"<figcaption>{_text(picture.alt)}</figcaption></figure>"
    )


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _experiment(report: Report) -> str:
    header = ("runs of", "lambda", "seeds", "test error", "validation error", "at +-1")
    rows = [
        (
            group.name,
            _number(group.strength, "g"),
            group.runs,
            _number(group.test_error, ".2%"),
            _number(group.validation_error, ".2%"),
            _number(group.near, ".1%"),
        )
        for group in report.groups
    ]
    return _table(header, rows)


def _epochs(report: Report) -> str:
    """The epoch table, in a part that opens."""
    rows = [
        (
            epoch.epoch,
            _number(epoch.loss),
            _number(epoch.accuracy, ".2%"),
            _number(epoch.validation, ".2%"),
            _number(_distance(report.layers, {row.name: row.distance for row in epoch.layers})),
            _number(epoch.flips, ".4%"),
        )
        for epoch in report.epochs
    ]
    header = ("epoch", "loss", "accuracy: training", "held-out", "distance to +-1", "flips")
    table = _table(header, rows)
    return f"<details><summary>Table of epochs</summary>{table}</details>" if rows else ""


def _distance(layers: Sequence[LayerFacts], distances: dict[str, float]) -> float | None:
    """Mean over the weights of all binary layers."""
    known = [layer for layer in layers if layer.name in distances]
    weights = sum(layer.weights for layer in known)
    total = sum(layer.weights * distances[layer.name] for layer in known)
    return total / weights if known else None


def _layers(report: Report) -> str:
    risk, scaled = report.flip_risk, any(layer.scales for layer in report.layers)
    header = ["layer", "weights", "stored"]
    if risk is not None:
        header += ["distance to +-1", f"within {risk.delta:g} of 0"]
        header += ["accuracy if they flip"] if report.test else []
    if scaled:
        header += ["scale: lowest", "median", "highest"]
    rows = []
    for layer in report.layers:
        row = [layer.name, shape_text(layer), layer.stored]
        if risk is not None:
            row += [_number(layer.distance), _number(layer.near_zero, ".2%")]
            row += [_number(layer.flipped_accuracy, ".2%")] if report.test else []
        if scaled:
            scales = layer.scales
            values = (scales.low, scales.median, scales.high) if scales else (None,) * 3
            row += [_number(value, ".4g") for value in values]
        rows.append(row)
    table = _table(header, rows)
    return "\n".join(
        [*(["<h2>Layers</h2>"] if rows else []), table, *_paragraphs(flip_text(report))]
    )


def _confusions(test: ImageResults) -> str:
    """The most frequent confusions as a table."""
    rows = [
        (test.classes[true], test.classes[guess], count)
        for true, guess, count in most_confused(np.array(test.confusion), LISTED_CONFUSIONS)
    ]
    return _table(("true class", "taken for", "images"), rows)


def _mistakes(test: ImageResults, images: Pixels | None) -> str:
    if images is None or not len(images):
        return ""
    figures = []
    for image, mistake in zip(images, test.mistakes, strict=True):
        text = _text(mistake_text(mistake, test.classes))
        source = b64encode(_thumbnail(image)).decode()
        figures.append(
            f'<figure><img alt="{text}" src="data:image/png;base64,{source}"/>'
            f"<figcaption>{text}</figcaption></figure>"
        )
    return f'<h2>Worst-confused images</h2>\n<div class="images">{"".join(figures)}</div>'


def _thumbnail(pixels: Pixels) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
