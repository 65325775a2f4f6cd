"""Reports as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import TypeVar

from engines.case import Kind

from bwn._text import count_noun
from comparison.results import Report, Result, Startup

RIVALS: tuple[tuple[Kind, Kind], ...] = (
    ("float32", "float32"),
    ("int8", "int8"),
    ("int8", "float32"),
    ("binary", "binary"),
    ("binary", "float32"),
)
"""Kinds of bwn, and the kinds of peers that each is compared with."""

QUIET = 0.05
"""Share of the CPUs that other processes may use."""

UNRESTRICTED = ("onnxruntime", "ncnn", "litert")
"""Engines that cannot be restricted to AVX2."""

T = TypeVar("T")
Cell = tuple[int, int]
"""Threads and batch size."""


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the columns after the first two are numbers."""
    marks = ["---" if column < 2 else "---:" for column in range(len(titles))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (titles, marks, *rows))


def unique(values: Iterable[T]) -> list[T]:
    """Values in the order in which they first come."""
    return list(dict.fromkeys(values))


def cells(report: Report) -> list[Cell]:
    """Columns of the tables."""
    return sorted({(result.threads, result.batch) for result in report.results})


def title(cell: Cell) -> str:
    """Title of a cell's column."""
    return f"{count_noun(cell[0], 'thread')}, batch {cell[1]}"


def header(report: Report) -> str:
    """What the figures were measured on, in a paragraph."""
    facts = report.machine
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    text = (
        f"{facts['date']} UTC, {facts['cpu']} ({facts['llvm_cpu']}: "
        f"{', '.join(facts['features'])}), {facts['cores']} CPUs, {facts['system']}, "
        f"Python {facts['python']}, {versions}; commit {facts['commit']}, load {facts['load']}."
    )
    if facts["isa"] == "avx2":
        text += (
            " **bwn and OpenVINO are restricted to AVX2.** ONNX Runtime, ncnn and LiteRT cannot be "
            "restricted and use everything the CPU has; they are shown but not ranked."
        )
    return text


def disturbance(report: Report) -> str:
    """How quiet the machine was, with the cells where it was not."""
    quiet = max((r.others for r in report.results if r.others <= QUIET), default=0.0)
    loud = {
        f"{r.network} ({title((r.threads, r.batch))})": r.others
        for r in report.results
        if r.others > QUIET
    }
    text = f"Other processes used at most {quiet:.0%} of the CPUs while a cell was measured"
    if not loud:
        return f"{text}."
    cells = ", ".join(f"{cell} {share:.0%}" for cell, share in loud.items())
    return (
        f"{text}, **except for {cells}. Engines whose threads spin while they wait lose most to "
        "that: do not quote these ratios.**"
    )


def speed(result: Result | None) -> str:
    """Latency of one image, throughput of more."""
    if result is None:
        return ""
    text = f"{result.images_per_s:,.0f} images/s"
    if result.batch == 1:
        text = f"{result.median_ms:.3g} ms"
    return f"({text})" if result.verdict == "wrong result" else text


def note(results: Sequence[Result]) -> str:
    """What to know of a row besides its speed."""
    worst = min(results, key=lambda result: result.cosine)
    if worst.verdict == "wrong result":
        return f"**wrong result**, cosine {worst.cosine:.2f}"
    same = min(result.same_class for result in results)
    text = f"cosine {worst.cosine:.4f}, same class {same:.0%}"
    return f"for information; {text}" if worst.verdict == "information" else text


def speeds(report: Report) -> str:
    """Every engine on every network."""
    columns = cells(report)
    groups: dict[tuple[str, str, Kind], list[Result]] = {}
    for result in report.results:
        groups.setdefault((result.network, result.engine, result.kind), []).append(result)
    rows = []
    for (network, engine, kind), results in groups.items():
        by_cell = {(result.threads, result.batch): result for result in results}
        name = f"**{engine}**" if engine == "bwn" else engine
        figures = (speed(by_cell.get(cell)) for cell in columns)
        rows.append([network, f"{name} {kind}", *figures, note(results)])
    titles = ["network", "engine", *map(title, columns), "scores against ONNX Runtime float32"]
    return table(titles, rows)


def select(report: Report, network: str, cell: Cell, kind: Kind) -> list[Result]:
    """The results of all engines for one figure."""
    return [
        result
        for result in report.results
        if (result.network, (result.threads, result.batch), result.kind) == (network, cell, kind)
    ]


def fastest(report: Report, network: str, cell: Cell, kind: Kind) -> Result | None:
    """The fastest peer whose scores are right."""
    excluded = {"bwn", *(UNRESTRICTED if report.machine["isa"] == "avx2" else ())}
    peers = [
        result
        for result in select(report, network, cell, kind)
        if result.engine not in excluded and result.verdict == "ok"
    ]
    return min(peers, key=lambda result: result.median_ms, default=None)


def advantage(report: Report, network: str, cell: Cell, kind: Kind, peer_kind: Kind) -> str:
    """How many times as fast as the fastest peer bwn is, the median over rounds, and its name."""
    results = select(report, network, cell, kind)
    ours = next((result for result in results if result.engine == "bwn"), None)
    peer = fastest(report, network, cell, peer_kind)
    if ours is None or peer is None:
        return ""
    if ours.verdict != "ok":
        return "wrong result"
    ratio = median(b / a for a, b in zip(ours.turns_ms, peer.turns_ms, strict=True))
    return f"{ratio:.2f}x {peer.engine}"


def advantages(report: Report) -> str:
    """bwn against the fastest peer of each kind."""
    columns = cells(report)
    rows = []
    for network in unique(result.network for result in report.results):
        for kind, peer_kind in RIVALS:
            ratios = [advantage(report, network, cell, kind, peer_kind) for cell in columns]
            if any(ratios):
                text = f"bwn {kind} against the fastest {peer_kind} peer"
                rows.append([network, text, *ratios])
    return table(["network", "", *map(title, columns)], rows)


def startups(measured: Sequence[Startup]) -> str:
    """Cold start and memory."""
    rows = []
    for startup in measured:
        name = f"{startup.engine} {startup.kind}"
        if startup.engine == "bare_python":
            name = "Python and numpy alone"
        figures = f"{startup.seconds:.2f} s", f"{startup.peak_mb:.0f} MB"
        rows.append([startup.network, name, *figures])
    return table(["network", "engine", "first scores after", "peak memory"], rows)


def as_markdown(report: Report) -> str:
    """All of a report."""
    parts = [header(report)]
    if report.results:
        parts += [disturbance(report), advantages(report), speeds(report)]
    if report.startups:
        parts.append(startups(report.startups))
    reasons = unique(
        f"{left_out.engine} {left_out.kind} on {left_out.network} ({left_out.reason})"
        for left_out in report.left_out
    )
    if reasons:
        parts.append("Left out: " + "; ".join(reasons) + ".")
    return "\n\n".join(parts)
