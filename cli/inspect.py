"""`bwn inspect`: what a .bwn file holds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from bwn.cli.common import (
    FilePath,
    byte_size,
    json_option,
    json_text,
    table,
    threads_option,
    verbose_option,
)

if TYPE_CHECKING:
    from bwn.ir.model_spec import ModelSpec
    from bwn.tools.inspect import LayerRow

SHOWN_CLASSES = 20


@click.command(short_help="Show what a .bwn file holds.")
@click.argument("model", type=FilePath())
@click.option(
    "--plan",
    is_flag=True,
    help="Also how each layer would run: its kernel and why, threads, memory.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 4096),
    default=1,
    show_default=True,
    help="Images a run, for --plan.",
)
@threads_option
@json_option
@verbose_option
def command(model: str, plan: bool, batch: int, threads: int | None, as_json: bool) -> None:
    """Show what a .bwn file holds: its layers, sizes, preprocessing and class names.

    The whole file is checked, as it is before `bwn infer` runs it.

    --plan shows what `bwn infer` and `bwn bench` would run on this machine. Predicted times are those of one thread; N
    counts the outputs of one group; lanes tells how much of the vectors is output.
    """
    from bwn.format import read
    from bwn.format.header import version_of
    from bwn.tools.inspect import layer_rows

    spec = read(model)
    rows = layer_rows(spec.graph)
    facts: dict[str, Any] = {
        "file": model,
        "bytes": os.path.getsize(model),
        "version": version_of(spec.graph.topology),
        "producer": spec.producer,
        "input": list(spec.graph.topology.input_shape),
        "output": list(rows[-1].output_shape),
        "float32_bytes": sum(row.before for row in rows),
        "stored_bytes": sum(array.nbytes for array in spec.graph.tensors.values()),
        "multiplications": sum(row.multiplications for row in rows),
        "preprocess": spec.preprocess,
        "classes": spec.classes,
    }
    planned = planned_facts(spec, batch, threads) if plan else None
    if as_json:
        click.echo(
            json_text({**facts, "layers": rows} | ({"plan": planned} if planned else {}), indent=2)
        )
    else:
        click.echo(text(facts, spec, rows) + (f"\n\n{plan_text(planned)}" if planned else ""))


def planned_facts(spec: ModelSpec, batch: int, threads: int | None) -> dict[str, Any]:
    """The plan for a batch on this machine, as facts."""
    from bwn.model import available_threads
    from bwn.plan.explain import explain
    from bwn.plan.planner import make_plan

    plan = make_plan(spec.graph, batch, threads or available_threads(), passes=True)
    return explain(plan) | {"batch": batch, "pass": plan.batch}


def plan_text(planned: dict[str, Any]) -> str:
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
        for row in planned["layers"]
    ]
    passes = f" in passes of {planned['pass']}" if planned["pass"] < planned["batch"] else ""
    header = ("layer", "kernel", "us", "parts/units", "K", "N", "P", "lanes", "buffers", "because")
    return "\n".join(
        [
            f"plan     batch {planned['batch']}{passes}, {planned['threads']} threads, {planned['steps']} steps",
            f"memory   {byte_size(planned['arena_bytes'])} of activations, shared by the layers' buffers",
            f"costs    {planned['costs']['line']}",
            "",
            table(header, cells, "<<>>>>>>><"),
        ]
    )


def text(facts: dict[str, Any], spec: ModelSpec, rows: list[LayerRow]) -> str:
    """Facts, then the table of layers."""
    size = f"{byte_size(facts['bytes'])} ({byte_size(facts['float32_bytes'])} as float32 weights)"
    head = [
        ("file", f"{facts['file']}, {size}"),
        (
            "format",
            f"bwn version {facts['version']}, written by {spec.producer or 'an unnamed program'}",
        ),
        ("input", f"{shape(facts['input'])} float32 per image"),
        ("images", preprocessing(spec)),
        ("classes", class_line(spec)),
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
        for row in rows
    ]
    header = ("layer", "op", "weights", "output", "stored", "activations", "size")
    return "\n".join(
        [*(f"{name:8} {value}" for name, value in head), "", table(header, cells, "<<<<<<")]
    )


def shape(sizes: tuple[int, ...] | list[int]) -> str | None:
    """`3x32x32`; None for nothing."""
    return "x".join(map(str, sizes)) or None


def preprocessing(spec: ModelSpec) -> str:
    """How an image becomes the input, on one line."""
    rule = spec.preprocess
    if rule is None:
        return "preparation not known"
    mean, std = (
        ", ".join(f"{number:g}" for number in numbers) for numbers in (rule.mean, rule.std)
    )
    return f"{rule.color}, {rule.resize} to {rule.size[0]}x{rule.size[1]}, (pixel / 255 - [{mean}]) / [{std}]"


def class_line(spec: ModelSpec) -> str:
    """How many classes, and the first of them."""
    if spec.classes is None:
        return "names not known"
    more = ", ..." if len(spec.classes) > SHOWN_CLASSES else ""
    return f"{len(spec.classes)}: {', '.join(spec.classes[:SHOWN_CLASSES])}{more}"
