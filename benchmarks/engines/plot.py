"""A plot of a report as SVG: for each network, the speed of every engine relative to the fastest float32 peer."""

from __future__ import annotations

from html import escape

from engines.results import Report, Result
from engines.tables import Cell, fastest, title, unique

WIDTH, ROW, LABEL, BAR, GAP, TOP = 760, 20, 160, 440, 38, 34
OURS, THEIRS, WRONG = "#c2410c", "#94a3b8", "#e2e8f0"
STYLE = "font-family: system-ui, sans-serif; font-size: 12px; fill: #1e293b"


def plot(report: Report, cell: Cell = (1, 1)) -> str:
    """SVG of one cell, by default one thread and batch 1."""
    y = TOP
    parts: list[str] = []
    for network in unique(one.network for one in report.results):
        found = [
            one
            for one in report.results
            if one.network == network and (one.threads, one.batch) == cell
        ]
        rival = fastest(report, network, cell, "float32")
        if rival is None:
            continue
        parts.append(text(8, y + 12, network, "font-weight: 600"))
        y += ROW
        found.sort(key=lambda one: one.median_ms)
        longest = max(rival.median_ms / one.median_ms for one in found)
        for one in found:
            parts.append(bar(one, y, rival.median_ms / one.median_ms, longest))
            y += ROW
        y += GAP - ROW
    heading = f"Speed relative to the fastest float32 peer; {title(cell)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" role="img">'
        f'<title>{heading}</title><rect width="{WIDTH}" height="{y}" fill="#fff"/><g style="{STYLE}">'
        f"{text(8, 20, heading, 'font-size: 14px; font-weight: 600')}{''.join(parts)}</g></svg>\n"
    )


def text(x: float, y: float, words: str, style: str = "") -> str:
    """A piece of text."""
    return f'<text x="{x:.0f}" y="{y:.0f}" style="{style}">{escape(words)}</text>'


def bar(one: Result, y: int, ratio: float, longest: float) -> str:
    """An engine's row; what is wrong or for information is pale and says so."""
    color = WRONG if one.verdict != "ok" else OURS if one.engine == "bwn" else THEIRS
    length = BAR * ratio / longest
    aside = "" if one.verdict == "ok" else f", {one.verdict}"
    drawn = (
        f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{ROW - 4}" rx="2" fill="{color}"/>'
    )
    figures = f"{ratio:.2f} x ({one.median_ms:.3g} ms{aside})"
    return f"{text(16, y + 12, f'{one.engine} {one.kind}')}{drawn}{text(LABEL + length + 6, y + 12, figures)}"
