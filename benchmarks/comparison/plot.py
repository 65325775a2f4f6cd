"""A report as an SVG plot: the speed of every engine relative to the fastest float32 peer."""

from __future__ import annotations

from html import escape

from comparison.results import Report, Result
from comparison.tables import Cell, fastest, title, unique

WIDTH, ROW, LABEL, BAR, GAP, TOP = 760, 20, 160, 440, 38, 34
OURS, PEERS, PALE = "#c2410c", "#94a3b8", "#e2e8f0"
STYLE = (
    "text { font: 12px system-ui, sans-serif; fill: #1e293b; } "
    ".b { font-weight: 600; } .title { font-size: 14px; } "
    f"@media (prefers-color-scheme: dark) {{ text {{ fill: {PALE}; }} "
    f'[fill="#fff"] {{ fill: #131720; }} [fill="{PALE}"] {{ fill: #303a4b; }} }}'
)


def plot(report: Report, cell: Cell = (1, 1)) -> str:
    """SVG of one cell, by default one thread and batch 1."""
    y = TOP
    parts: list[str] = []
    for network in unique(result.network for result in report.results):
        peer = fastest(report, network, cell, "float32")
        if peer is None:
            continue
        parts.append(text(8, y + 12, network, "b"))
        results = [
            result
            for result in report.results
            if result.network == network and (result.threads, result.batch) == cell
        ]
        results.sort(key=lambda result: result.median_ms)
        longest = peer.median_ms / results[0].median_ms
        for result in results:
            y += ROW
            parts.append(bar(result, y, peer.median_ms / result.median_ms, longest))
        y += GAP
    heading = f"Speed relative to the fastest float32 peer; {title(cell)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" '
        f'width="{WIDTH}" height="{y}" role="img">'
        f"<title>{heading}</title><style>{STYLE}</style>"
        f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>'
        f"{text(8, 20, heading, 'b title')}{''.join(parts)}</svg>\n"
    )


def text(x: float, y: float, words: str, classes: str = "") -> str:
    """A piece of text."""
    attribute = f' class="{classes}"' if classes else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{attribute}>{escape(words)}</text>'


def bar(result: Result, y: int, ratio: float, longest: float) -> str:
    """An engine's row; a result that is wrong or for information is pale and says so."""
    color = OURS if result.engine == "bwn" else PEERS
    aside = ""
    if result.verdict != "ok":
        color, aside = PALE, f", {result.verdict}"
    length = BAR * ratio / longest
    figures = f"{ratio:.2f} x ({result.median_ms:.3g} ms{aside})"
    return (
        f"{text(16, y + 12, f'{result.engine} {result.kind}')}"
        f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{ROW - 4}" rx="2" fill="{color}"/>'
        f"{text(LABEL + length + 6, y + 12, figures)}"
    )
