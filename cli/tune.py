"""`bwn tune`: what the kernels cost on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bwn.cli.output import json_text, show_progress, table
from bwn.cli.params import json_option, verbose_option

if TYPE_CHECKING:
    from bwn.kernels.costs import Table
    from bwn.tools.tune import Fit


@click.command()
@click.option("--show", is_flag=True, help="Print the table in force; measure nothing.")
@click.option("--force", is_flag=True, help="Measure again, although this machine has a table.")
@json_option
@verbose_option
def command(show: bool, force: bool, as_json: bool) -> None:
    """Measure how long the kernels of packed and dense layers take on this machine.

    bwn picks each layer's kernel, and whether threads share it, by predicted time: from a table that is measured here
    once, in a few seconds, or from one that comes with bwn for each family of CPUs. Results stay the same but for
    float32 rounding. The table is kept with the compiled kernels (under BWN_CACHE_DIR, or in the user's cache folder)
    and holds for this CPU and this version of the kernels. Keep the machine quiet meanwhile.
    """
    if show and force:
        raise click.UsageError("--show and --force: choose one")
    from bwn.kernels import costs
    from bwn.tools.tune import summary, tune

    fits: list[Fit] = []
    if not show and (force or costs.table().origin != "measured"):
        try:
            fits = tune(show_progress)
        finally:
            show_progress("")
    now = costs.table()
    measured = {"kernels": fits, **summary(fits)} if fits else None
    if as_json:
        facts = {"origin": now.origin, "path": now.path, "problem": now.problem or None}
        named = {name: cost._asdict() for name, cost in now.costs.items()}
        click.echo(json_text({**facts, "costs": named, "measured": measured}, indent=2))
        return
    click.echo(text(now, fits, measured))
    if not fits and not show:
        click.echo("\nNothing was measured: this machine has its table. --force measures again.")


def text(now: Table, fits: list[Fit], measured: dict[str, Any] | None) -> str:
    """The table in force, beside how well it fits what was measured."""
    from bwn.tools.tune import summary

    off = {fit.kernel: fit for fit in fits}
    cells = []
    for name, cost in now.costs.items():
        fitted = (
            (len(off[name].shapes), *(f"{ratio:.2f}" for ratio in summary([off[name]]).values()))
            if fits
            else ()
        )
        cells.append((name, *(f"{number:.4g}" for number in cost), *fitted))
    header = ("kernel", "call ns", "gather", "sums", "end", "shapes", "off by", "at worst")
    lines = [table(header[: len(cells[0])], cells), "", f"costs: {now.line}"]
    if measured:
        ratios = f"{measured['median_ratio']:.2f} x, at worst {measured['worst_ratio']:.2f} x"
        lines.append(f"Predictions are off by {ratios}, of the times measured.")
    return "\n".join(lines)
