"""Reports as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import TypeVar

from engines.case import Kind
from engines.results import Report, Result, Startup

RIVALS: tuple[tuple[Kind, Kind], ...] = (
    ("float32", "float32"),
    ("int8", "int8"),
    ("int8", "float32"),
    ("binary", "binary"),
    ("binary", "float32"),
)
"""Forms of bwn, and the forms of peers that each is held against."""

QUIET = 0.05
"""Share of the CPUs that other processes may take."""

UNRESTRICTED = ("onnxruntime", "ncnn", "litert")
"""Engines that cannot be told to keep to AVX2."""

T = TypeVar("T")
Cell = tuple[int, int]
"""Threads and batch."""


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the columns after the first two are numbers."""
    marks = ["---" if place < 2 else "---:" for place in range(len(titles))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (titles, marks, *rows))


def unique(values: Iterable[T]) -> list[T]:
    """Values in the order in which they first come."""
    return list(dict.fromkeys(values))


def cells(report: Report) -> list[Cell]:
    """Columns of the tables."""
    return sorted({(one.threads, one.batch) for one in report.results})


def title(cell: Cell) -> str:
    """Column of a cell."""
    return f"{cell[0]} thread{'s' if cell[0] > 1 else ''}, batch {cell[1]}"


def header(report: Report) -> str:
    """What the figures were taken on, in a paragraph."""
    known = report.machine
    versions = ", ".join(f"{name} {number}" for name, number in known["versions"].items())
    text = (
        f"{known['date']} UTC, {known['cpu']} ({known['llvm_cpu']}: {', '.join(known['features'])}), "
        f"{known['cores']} CPUs, {known['system']}, Python {known['python']}, {versions}; "
        f"commit {known['commit']}, load {known['load']}."
    )
    if known["isa"] == "avx2":
        text += (
            " **bwn and OpenVINO kept to AVX2.** ONNX Runtime, ncnn and LiteRT cannot be told and use what the CPU "
            "has; they are shown, and not counted."
        )
    return text


def disturbance(report: Report) -> str:
    """How quiet the machine was."""
    worst = max(one.others for one in report.results)
    text = f"Other processes took at most {worst:.0%} of the CPUs during a cell."
    if worst <= QUIET:
        return text
    return f"**{text} Engines that spin while they wait lose most to that: these ratios are not to be quoted.**"


def speed(one: Result | None) -> str:
    """Latency of one image, throughput of more."""
    if one is None:
        return ""
    text = f"{one.median_ms:.3g} ms" if one.batch == 1 else f"{one.images_per_s:,.0f} images/s"
    return f"({text})" if one.verdict == "wrong result" else text


def note(rows: Sequence[Result]) -> str:
    """What to know of a row besides its speed."""
    worst = min(rows, key=lambda one: one.cosine)
    if worst.verdict == "wrong result":
        return f"**wrong result**, cosine {worst.cosine:.2f}"
    same = min(one.same_class for one in rows)
    text = f"cosine {worst.cosine:.4f}, same class {same:.0%}"
    return f"for information; {text}" if worst.verdict == "information" else text


def speeds(report: Report) -> str:
    """Every engine on every network."""
    columns = cells(report)
    rows = []
    for network, engine, kind in unique(
        (one.network, one.engine, one.kind) for one in report.results
    ):
        found = [
            one
            for one in report.results
            if (one.network, one.engine, one.kind) == (network, engine, kind)
        ]
        by_cell = {(one.threads, one.batch): one for one in found}
        name = f"**{engine}**" if engine == "bwn" else engine
        rows.append(
            [
                network,
                f"{name} {kind}",
                *(speed(by_cell.get(cell)) for cell in columns),
                note(found),
            ]
        )
    return table(
        ["network", "engine", *map(title, columns), "scores against ONNX Runtime float32"], rows
    )


def fastest(report: Report, network: str, cell: Cell, kind: Kind) -> Result | None:
    """The fastest peer whose scores are right."""
    barred = {"bwn", *(UNRESTRICTED if report.machine["isa"] == "avx2" else ())}
    found = [
        one
        for one in report.results
        if (one.network, (one.threads, one.batch), one.kind) == (network, cell, kind)
        and one.engine not in barred
        and one.verdict == "ok"
    ]
    return min(found, key=lambda one: one.median_ms, default=None)


def advantage(report: Report, network: str, cell: Cell, ours: Kind, theirs: Kind) -> str:
    """How many times as long the fastest peer takes: the median over turns, and its name."""
    mine = [
        one
        for one in report.results
        if (one.network, (one.threads, one.batch), one.engine, one.kind)
        == (network, cell, "bwn", ours)
    ]
    rival = fastest(report, network, cell, theirs)
    if not mine or rival is None:
        return ""
    if mine[0].verdict != "ok":
        return "wrong result"
    ratio = median(b / a for a, b in zip(mine[0].turns_ms, rival.turns_ms, strict=True))
    return f"{ratio:.2f} x {rival.engine}"


def advantages(report: Report) -> str:
    """bwn against the fastest peer of each kind."""
    columns = cells(report)
    rows = []
    for network in unique(one.network for one in report.results):
        for ours, theirs in RIVALS:
            found = [advantage(report, network, cell, ours, theirs) for cell in columns]
            if any(found):
                rows.append([network, f"bwn {ours} against the fastest {theirs} peer", *found])
    return table(["network", "", *map(title, columns)], rows)


def startups(found: Sequence[Startup]) -> str:
    """Cold start and memory."""
    rows = []
    for one in found:
        name = (
            "Python and numpy alone" if one.engine == "bare_python" else f"{one.engine} {one.kind}"
        )
        rows.append([one.network, name, f"{one.seconds:.2f} s", f"{one.peak_mb:.0f} MB"])
    return table(["network", "engine", "first scores after", "peak memory"], rows)


def as_markdown(report: Report) -> str:
    """All of a report."""
    parts = [header(report)]
    if report.results:
        parts += [disturbance(report), advantages(report), speeds(report)]
    if report.startups:
        parts.append(startups(report.startups))
    reasons = unique(
        f"{one.engine} {one.kind} on {one.network}: {one.reason}" for one in report.left_out
    )
    if reasons:
        parts.append("Left out: " + "; ".join(reasons) + ".")
    return "\n\n".join(parts)
