"""Sentences of a report, for its page and the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from bwn._text import count_noun
from bwn.metrics import accuracy_text
from bwn.reporting.facts import LayerFacts, Mistake, Report


def fact_rows(report: Report) -> list[tuple[str, str]]:
    """Names and texts of what the source is, and of its accuracy on test images."""
    test = report.test
    if test is None:
        return [*report.about]
    images = count_noun(test.images, "test image")
    return [*report.about, ("accuracy", f"{accuracy_text(test.right, test.images)} on {images}")]


def flip_text(report: Report) -> list[str]:
    """The flip risk in words."""
    risk = report.flip_risk
    if risk is None:
        return []
    text = f"Flip risk: {risk.share:.2%} of the binary weights are within {risk.delta:g} of 0."
    if risk.flipped_accuracy is not None and risk.lost is not None:
        text += (
            f" If exactly these change sign, accuracy is {risk.flipped_accuracy:.2%}: "
            f"{100 * risk.lost:.2f} points are lost."
        )
    return [text]


def shape_text(layer: LayerFacts) -> str:
    """`64 x 32 x 3 x 3`."""
    return " x ".join(map(str, layer.shape))


def mistake_text(mistake: Mistake, classes: Sequence[str], separator: str = " ") -> str:
    """`4 taken for 9 (98%)`."""
    guess = f"{classes[mistake.predicted]} ({mistake.probability:.0%})"
    return f"{classes[mistake.true]} taken{separator}for {guess}"
