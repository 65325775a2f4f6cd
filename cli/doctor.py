"""`bwn doctor`: which kernels run here, and what would be faster."""

from __future__ import annotations

import platform
import sys
from typing import Any

import click

from bwn.cli.common import byte_size, json_option, json_text, verbose_option


@click.command()
@json_option
@verbose_option
def command(as_json: bool) -> None:
    """Tell which kernels run on this machine, and what would be faster.

    Wheels for Linux on x86-64 and 64-bit ARM bring the kernels compiled, in one library for each kind of CPU; bwn
    loads the best that this machine can run. Elsewhere, or with BWN_KERNELS=jit, numba compiles them for this very CPU
    and keeps the code. BWN_KERNELS may also name one of the libraries.
    """
    from bwn.kernels.target import loader, targets

    try:
        from bwn.tools.doctor import facts

        found = facts()
    except loader.KernelsError:  # then nothing else can be asked
        click.echo(
            f"machine     {platform.machine()}, Python of {sys.maxsize.bit_length() + 1} bits",
            err=True,
        )
        click.echo(f"could run   {names([target.name for target in targets.runnable()])}", err=True)
        click.echo(f"came along  {names(loader.shipped())}", err=True)
        raise
    click.echo(json_text(found, indent=2) if as_json else text(found))


def names(libraries: list[str]) -> str:
    """Names of libraries."""
    return ", ".join(libraries) or "no library"


def text(found: dict[str, Any]) -> str:
    """The facts, a line each, then the advice."""
    memory = (
        "" if found["memory_bytes"] is None else f", {byte_size(found['memory_bytes'])} of memory"
    )
    pages = "" if found["page_bytes"] is None else f", pages of {byte_size(found['page_bytes'])}"
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    rows = {
        "machine": f"{found['cpu']} ({found['machine']}), {found['cores']} cores{memory}{pages}",
        "system": f"{found['system']}, Python {found['python']}",
        "versions": versions,
        "kernels": f"{found['kernels']}, for {', '.join(found['features']) or 'the baseline'}",
        "file": found["library"] or "compiled here, kept in the cache",
        "could run": names(found["runnable"]),
        "came along": names(found["shipped"]),
        "costs": found["costs"],
        "clock": ", ".join(sorted(set(found["governors"]))) or "not told",
    }
    lines = [f"{name:10}  {value}" for name, value in rows.items()]
    advice = [f"- {line}" for line in found["advice"]] or ["- nothing known"]
    return "\n".join([*lines, "", "What would be faster:", *advice])
