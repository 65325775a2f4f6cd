"""`bwn doctor`: the kernels in use, and how to speed them up."""

from __future__ import annotations

import platform
import sys
from typing import Any

import click

from bwn._text import byte_size, count_noun
from bwn.cli.output import json_text
from bwn.cli.params import output_options


@click.command()
@output_options
def command(as_json: bool) -> None:
    """Show the kernels in use on this machine, and how to speed them up.

    Wheels for Linux on x86-64 and 64-bit ARM bundle the compiled kernels, in one library for each
    kind of CPU; bwn loads the fastest that this machine supports. Elsewhere, or with
    BWN_KERNELS=jit, numba compiles them for this CPU and caches the code. BWN_KERNELS can also name
    one of the libraries.
    """
    from bwn.kernels.target import loader, targets

    try:
        from bwn.tools.doctor import facts

        report = facts()
    except loader.KernelsError:  # nothing else can be found out then
        bits = sys.maxsize.bit_length() + 1
        click.echo(f"machine     {platform.machine()}, {bits}-bit Python", err=True)
        supported = [target.name for target in targets.runnable()]
        click.echo(f"supported   {names(supported)}", err=True)
        click.echo(f"bundled     {names(loader.shipped())}", err=True)
        raise
    click.echo(json_text(report, indent=2) if as_json else text(report))


def names(libraries: list[str]) -> str:
    """Names of libraries."""
    return ", ".join(libraries) or "no library"


def text(facts: dict[str, Any]) -> str:
    """The facts, a line each, then the advice."""
    memory = (
        "" if facts["memory_bytes"] is None else f", {byte_size(facts['memory_bytes'])} of memory"
    )
    cores = count_noun(facts["cores"], "core")
    pages = "" if facts["page_bytes"] is None else f", pages of {byte_size(facts['page_bytes'])}"
    unused = "none used" if facts["shipped"] else "none bundled"
    library = f"{unused}; numba compiles the kernels once and caches them"
    rows = {
        "machine": f"{facts['cpu']} ({facts['machine']}), {cores}{memory}{pages}",
        "system": f"{facts['system']}, Python {facts['python']}",
        "versions": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        "kernels": f"{facts['kernels']}, for {', '.join(facts['features']) or 'the baseline'}",
        "library": facts["library"] or library,
        "supported": names(facts["runnable"]),
        "bundled": ", ".join(facts["shipped"]),
        "costs": facts["costs"],
        "governor": ", ".join(sorted(set(facts["governors"]))) or "not reported by the system",
    }
    lines = [f"{name:10}  {value}" for name, value in rows.items() if value]
    advice = [f"- {line}" for line in facts["advice"]] or ["- no suggestions"]
    return "\n".join([*lines, "", "To speed it up:", *advice])
