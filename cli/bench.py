"""`bwn bench`: latency, throughput and time per layer, beside ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bwn.cli.output import json_text, show_progress, table
from bwn.cli.params import FilePath, Number, json_option, threads_option, verbose_option

DEFAULT_NETWORKS = ("mlp", "vgg", "resnet18")
BUILT_IN = (*DEFAULT_NETWORKS[:2], "vgg-sign", DEFAULT_NETWORKS[2])


@click.command()
@click.argument("model", required=False, type=FilePath())
@click.option(
    "--network",
    "networks",
    multiple=True,
    type=click.Choice(BUILT_IN),
    help="A built-in network, with seeded random weights; may be given again.  [default: mlp, vgg, resnet18]",
)
@click.option(
    "--batch",
    type=click.IntRange(2, 4096),
    default=16,
    show_default=True,
    help="Batch for throughput.",
)
@click.option(
    "--layers", is_flag=True, help="Also time, kernel and its reason, layer by layer, at batch 1."
)
@click.option(
    "--seconds", type=Number(0.01), default=1.0, show_default=True, help="Time for each figure."
)
@click.option(
    "--compare/--no-compare",
    default=None,
    help="Beside ONNX Runtime.  [default: if it is installed]",
)
@threads_option
@json_option
@verbose_option
def command(
    model: str | None,
    networks: tuple[str, ...],
    batch: int,
    layers: bool,
    seconds: float,
    compare: bool | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure the latency of one image and the throughput of a batch.

    MODEL is a .bwn file; without one, built-in networks are measured: an MNIST perceptron (mlp), the BinaryConnect
    CIFAR-10 network (vgg; vgg-sign has sign activations) and ResNet-18 at 224 x 224.

    ONNX Runtime runs the same function with float32 weights and as many threads, in turns with bwn. Outputs are
    compared first; a wrong result is not timed.
    """
    if model is not None and networks:
        raise click.UsageError("MODEL and --network: choose one")
    from bwn.model import available_threads
    from bwn.tools import benchmark

    count = threads or available_threads()
    beside = benchmark.onnxruntime_installed() if compare is None else compare
    results: list[dict[str, Any]] = []
    if not as_json:
        click.echo(header(benchmark.machine(count), beside))
    for name, spec in chosen(model, networks or DEFAULT_NETWORKS):
        show_progress(f"{name}: preparing")
        ready = benchmark.Bench(name, spec, count, compare=beside)
        found: dict[str, Any] = {
            "network": name,
            "comparison": ready.compare(batch),
            "timings": [],
            "layers": None,
        }
        for size in (1, batch):
            show_progress(f"{name}: batch {size}")
            found["timings"] += ready.time(size, seconds)
        found["layers"] = [layer._asdict() for layer in ready.layers(1)] if layers else None
        show_progress("")
        results.append(found)
        if not as_json:
            click.echo(report(found))
    if as_json:
        click.echo(json_text({"machine": benchmark.machine(count), "results": results}, indent=2))


def chosen(model: str | None, networks: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Names and networks to measure."""
    from bwn.format import read
    from bwn.tools.random_networks import NETWORKS

    if model is not None:
        return [(Path(model).name, read(model))]
    return [(name, NETWORKS[name](0)) for name in dict.fromkeys(networks)]


def header(machine: dict[str, Any], beside: bool) -> str:
    """The machine, and where its kernels come from, in three lines."""
    versions = ", ".join(
        f"{name} {number}" for name, number in machine["versions"].items() if name != "bwn"
    )
    missing = "" if beside else "\nONNX Runtime: not compared (pip install 'bwn[onnx]')"
    return (
        f"bwn {machine['versions']['bwn']}, {machine['threads']} of {machine['cores']} cores, {machine['cpu']} "
        f"({machine['kernels']}: {' '.join((machine['llvm_cpu'], *machine['features']))})\n"
        f"{machine['system']}, Python {machine['python']}, {versions}{missing}"
    )


def report(found: dict[str, Any]) -> str:
    """One network's tables."""
    rows = [
        (
            timing.engine,
            timing.batch,
            f"{timing.median_ms:.3f}",
            f"{timing.min_ms:.3f}",
            f"{timing.images_per_s:,.0f}",
            timing.rounds,
            "" if timing.speedup is None else f"{timing.speedup:.2f}x",
        )
        for timing in found["timings"]
    ]
    titles: tuple[str, ...] = (
        "engine",
        "batch",
        "median ms",
        "min ms",
        "images/s",
        "rounds",
        "faster than ONNX Runtime",
    )
    titles = titles if found["comparison"] else titles[:-1]
    lines = [
        click.style(f"\n{found['network']}", bold=True),
        table(titles, [row[: len(titles)] for row in rows]),
    ]
    if found["comparison"]:
        lines.append(agreement(found["comparison"]))
    if found["layers"]:
        lines += ["", layer_table(found["layers"])]
    return "\n".join(lines)


def agreement(comparison: Any) -> str:
    """One line on how equal the outputs are."""
    if comparison.tolerance is None:
        return f"8-bit activations: same class as ONNX Runtime's float32 on {comparison.same_class:.1%} of the batch"
    aside = (
        f"; {comparison.sign_ties} of the batch aside, where a sign was a tie"
        if comparison.sign_ties
        else ""
    )
    return (
        f"outputs agree with ONNX Runtime: {comparison.error:.1e} of the largest score, "
        f"{comparison.tolerance:.1e} is allowed{aside}"
    )


def layer_table(layers: list[dict[str, Any]]) -> str:
    """Time of every layer; what was predicted is for one thread."""
    from bwn.kernels import costs

    whole = sum(layer["seconds"] for layer in layers)
    rows = [
        (
            layer["name"],
            f"{layer['seconds'] * 1e3:.3f}",
            None if layer["microseconds"] is None else f"{layer['microseconds'] / 1e3:.3f}",
            f"{layer['seconds'] / whole:.1%}",
            f"{layer['macs'] / layer['seconds'] / 1e9:.1f}" if layer["macs"] else None,
            layer["kernel"],
            layer["why"],
        )
        for layer in layers
    ]
    titles = ("layer", "ms", "predicted", "share", "GMAC/s", "kernel", "because")
    return f"{table(titles, rows, '<>>>><<')}\ncosts: {costs.table().line}"
