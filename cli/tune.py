"""`bwn tune`: what the kernels cost on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bwn.cli.output import json_text, show_progress, table
from bwn.cli.params import output_options

if TYPE_CHECKING:
    from bwn.kernels.costs import Table
    from bwn.tools.tune import Fit


@click.command()
@click.option("--show", is_flag=True, help="Print the table in use; measure nothing.")
@click.option("--force", is_flag=True, help="Measure again even if this machine has a table.")
@output_options
def command(show: bool, force: bool, as_json: bool) -> None:
    """Measure the kernels on this machine, so that each layer runs with the fastest.

    bwn chooses each layer's kernel, and whether threads share it, by predicted time. The prediction
    uses the table that this command measures (about ten seconds), or else a built-in table for this
    kind of CPU. Results do not change, except for float32 rounding.

    The table is stored next to the compiled kernels (under BWN_CACHE_DIR or in the user's cache
    folder) and is valid for this CPU and this version of the kernels. Keep the machine quiet while
    it is measured.
    """
    if show and force:
        raise click.UsageError("Give --show or --force, not both.")
    from bwn.kernels import costs
    from bwn.tools.tune import summary, tune

    fits: list[Fit] = []
    if not show and (force or costs.table().origin != "measured"):
        try:
            fits = tune(show_progress)
        finally:
            show_progress("")
    current = costs.table()
    if as_json:
        document = {
            "origin": current.origin,
            "path": current.path,
            "problem": current.problem or None,
            "costs": {name: cost._asdict() for name, cost in current.costs.items()},
            "measured": {"kernels": fits, **summary(fits)} if fits else None,
        }
        click.echo(json_text(document, indent=2))
        return
    click.echo(report(current, fits))
    if not fits and not show:
        click.echo("\nNothing was measured: this machine has a table. --force measures again.")


def report(current: Table, fits: list[Fit]) -> str:
    """The table in use, and how well it predicts what was measured."""
    from bwn.tools.tune import summary

    titles: tuple[str, ...] = ("kernel", "call ns", "gather", "sums", "end")
    if fits:
        titles = (*titles, "shapes", "median ratio", "worst ratio")
    by_kernel = {fit.kernel: fit for fit in fits}
    rows = []
    for name, cost in current.costs.items():
        row: list[object] = [name, *(f"{coefficient:.4g}" for coefficient in cost)]
        if fits:
            fit = by_kernel[name]
            row += [len(fit.shapes), *(f"{r:.2f}x" for r in summary([fit]).values())]
        rows.append(row)
    lines = [table(titles, rows), "", f"costs: {current.line}"]
    if fits:
        median, worst = summary(fits).values()
        lines.append(
            f"Ratio of predicted and measured time: median {median:.2f}, worst {worst:.2f} "
            "(1 is exact)."
        )
    return "\n".join(lines)
