"""`bwn inspect`: what a .bwn file holds."""

from __future__ import annotations

from typing import Any

import click

from bwn._text import byte_size, count_noun, listed
from bwn.cli.output import json_text, table
from bwn.cli.params import FilePath, Integer, Option, run_options

SHOWN_CLASSES = 20
LEGEND = (
    "parts/units: threads that share the work, and its pieces. K, N, P: inputs of one output,\n"
    "outputs, pixels. lanes: share of the vector lanes in use. us: predicted for one thread."
)


@click.command(no_args_is_help=True)
@click.argument("model", type=FilePath())
@click.option(
    "--plan",
    is_flag=True,
    help="Also show how each layer would run: its kernel and why, threads, memory.",
)
@click.option(
    "--batch", cls=Option, type=Integer(1, 4096), help="Images per run, for --plan.  [default: 1]"
)
@run_options
def command(model: str, plan: bool, batch: int | None, threads: int | None, as_json: bool) -> None:
    """Show what a .bwn file holds: its layers, sizes, preprocessing and class names.

    The whole file is checked, as `bwn infer` checks it before it runs.

    --plan shows what `bwn infer` and `bwn bench` would run on this machine, a row for each layer:

    \b
    parts/units  threads that share its work, and pieces of work to share
    K, N, P      inputs of one output, outputs of a group, pixels of an image
    lanes        share of the vector lanes that compute outputs
    buffers      memory that it writes
    because      predicted times of this kernel and of others, on one thread
    """
    for name, value in (("--batch", batch), ("--threads", threads)):
        if value is not None and not plan:
            raise click.UsageError(f"{name} needs --plan.")
    from bwn.tools.inspect import inspect

    facts = inspect(model, plan=plan, batch=batch or 1, threads=threads)
    click.echo(json_text(facts, indent=2) if as_json else text(facts))


def text(facts: dict[str, Any]) -> str:
    """The facts, the table of layers, and the plan if there is one."""
    weights, floats = byte_size(facts["stored_bytes"]), byte_size(facts["float32_bytes"])
    size = f"{byte_size(facts['bytes'])}, {weights} of weights ({floats} as float32)"
    producer = facts["producer"] or "an unnamed program"
    head = [
        ("file", f"{facts['file']}, {size}"),
        ("format", f"bwn version {facts['version']}, written by {producer}"),
        ("input", f"{shape(facts['input'])} float32 per image"),
        ("images", str(facts["preprocess"] or "preprocessing unknown")),
        ("classes", class_line(facts["classes"])),
        ("work", f"{facts['multiplications'] / 1e6:,.1f} million multiply-adds per image"),
    ]
    cells = [
        (
            row.name,
            row.op,
            shape(row.weights),
            shape(row.output_shape),
            row.stored or None,
            row.activations or None,
            byte_size(row.after) if row.stored else None,
        )
        for row in facts["layers"]
    ]
    header = ("layer", "op", "weights", "output", "stored", "activations", "size")
    lines = [*(f"{name:8} {value}" for name, value in head), "", table(header, cells, "<<<<<<")]
    if "plan" in facts:
        lines += ["", plan_text(facts["plan"])]
    return "\n".join(lines)


def plan_text(plan: dict[str, Any]) -> str:
    """Facts of a plan, then the table of its layers."""
    cells = [
        (
            row.name,
            " ".join(row.kernels),
            f"{row.parts}/{row.units}",
            row.depth,
            row.outputs,
            row.positions,
            None if row.filled is None else f"{row.filled:.0%}",
            byte_size(row.bytes) if row.bytes else None,
            row.why,
        )
        for row in plan["layers"]
    ]
    passes = f" in passes of {plan['pass']}" if plan["pass"] < plan["batch"] else ""
    threads, steps = (count_noun(plan[f"{noun}s"], noun) for noun in ("thread", "step"))
    rows = count_noun(len(plan["layers"]), "row")
    size = f"batch {plan['batch']:,}{passes}, {threads}, {steps} in {rows}"
    memory = byte_size(plan["arena_bytes"])
    header = ("layer", "kernel", "parts/units", "K", "N", "P", "lanes", "buffers", "because")
    return "\n".join(
        [
            f"plan     {size}",
            f"memory   {memory} of activations, shared by the layers' buffers",
            f"costs    {plan['costs']['line']}",
            "",
            table(header, cells, "<<>>>>>><"),
            LEGEND,
        ]
    )


def shape(sizes: tuple[int, ...] | list[int]) -> str | None:
    """`3x32x32`; None for nothing."""
    return "x".join(map(str, sizes)) or None


def class_line(classes: tuple[str, ...] | None) -> str:
    """How many classes, and the first of them."""
    if classes is None:
        return "names unknown"
    return f"{len(classes):,}: {listed(classes, SHOWN_CLASSES)}"
