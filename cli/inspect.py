"""`bwn inspect`: what a .bwn file holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bwn._text import byte_size
from bwn.cli.output import json_text, table
from bwn.cli.params import FilePath, Integer, Option, run_options

if TYPE_CHECKING:
    from bwn.ir.model_spec import Preprocess

SHOWN_CLASSES = 20


@click.command(short_help="Show what a .bwn file holds.")
@click.argument("model", type=FilePath())
@click.option(
    "--plan",
    is_flag=True,
    help="Also show how each layer would run: its kernel and why, threads, memory.",
)
@click.option(
    "--batch", cls=Option, type=Integer(1, 4096), help="Images in a run, for --plan.  [default: 1]"
)
@run_options
def command(model: str, plan: bool, batch: int | None, threads: int | None, as_json: bool) -> None:
    """Show what a .bwn file holds: its layers, sizes, preprocessing and class names.

    The whole file is checked, as `bwn infer` checks it before it runs.

    --plan shows what `bwn infer` and `bwn bench` would run on this machine. Predicted times are for
    one thread. K, N and P are the depth of a sum, the outputs of one group, and the positions of an
    image; lanes is the share of the vector lanes that computes outputs.
    """
    for name, value in (("--batch", batch), ("--threads", threads)):
        if value is not None and not plan:
            raise click.UsageError(f"{name} goes with --plan only.")
    from bwn.tools.inspect import inspect

    facts = inspect(model, plan=plan, batch=batch or 1, threads=threads)
    click.echo(json_text(facts, indent=2) if as_json else text(facts))


def text(facts: dict[str, Any]) -> str:
    """The facts, the table of layers, and the plan if there is one."""
    size = f"{byte_size(facts['bytes'])} ({byte_size(facts['float32_bytes'])} as float32 weights)"
    producer = facts["producer"] or "an unnamed program"
    head = [
        ("file", f"{facts['file']}, {size}"),
        ("format", f"bwn version {facts['version']}, written by {producer}"),
        ("input", f"{shape(facts['input'])} float32 per image"),
        ("images", preprocessing(facts["preprocess"])),
        ("classes", class_line(facts["classes"])),
        ("work", f"{facts['multiplications'] / 1e6:.1f} million multiply-adds per image"),
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
            None if row.microseconds is None else f"{row.microseconds:.1f}",
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
    size = f"batch {plan['batch']}{passes}, {plan['threads']} threads, {plan['steps']} steps"
    memory = byte_size(plan["arena_bytes"])
    header = ("layer", "kernel", "us", "parts/units", "K", "N", "P", "lanes", "buffers", "because")
    return "\n".join(
        [
            f"plan     {size}",
            f"memory   {memory} of activations, shared by the layers' buffers",
            f"costs    {plan['costs']['line']}",
            "",
            table(header, cells, "<<>>>>>>><"),
        ]
    )


def shape(sizes: tuple[int, ...] | list[int]) -> str | None:
    """`3x32x32`; None for nothing."""
    return "x".join(map(str, sizes)) or None


def preprocessing(rule: Preprocess | None) -> str:
    """How an image becomes the input, on one line."""
    if rule is None:
        return "preprocessing unknown"
    mean, std = (
        ", ".join(f"{number:g}" for number in numbers) for numbers in (rule.mean, rule.std)
    )
    size = f"{rule.size[0]}x{rule.size[1]}"
    return f"{rule.color}, {rule.resize} to {size}, (pixel / 255 - [{mean}]) / [{std}]"


def class_line(classes: tuple[str, ...] | None) -> str:
    """How many classes, and the first of them."""
    if classes is None:
        return "names unknown"
    more = ", ..." if len(classes) > SHOWN_CLASSES else ""
    return f"{len(classes)}: {', '.join(classes[:SHOWN_CLASSES])}{more}"
