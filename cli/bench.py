"""`bwn bench`: latency, throughput and time per layer, compared with other engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bwn._text import count_noun
from bwn.cli.output import json_text, show_progress, table, warn
from bwn.cli.params import FilePath, Integer, Number, run_options

if TYPE_CHECKING:
    from bwn.ir.model_spec import ModelSpec
    from bwn.tools.benchmark import EngineTiming, NetworkResult
    from bwn.tools.benchmark_peers import Comparison

DEFAULT_NETWORKS = ("mlp", "vgg", "resnet18")
BUILT_IN = ("mlp", "vgg", "vgg-sign", "resnet18", "mobilenetv2")


@click.command()
@click.argument("model", required=False, type=FilePath())
@click.option(
    "--network",
    "networks",
    multiple=True,
    type=click.Choice(BUILT_IN),
    help="A built-in network with seeded random weights; can be repeated.  "
    "[default: mlp, vgg, resnet18]",
)
@click.option(
    "--batch",
    type=Integer(2, 4096),
    default=16,
    show_default=True,
    help="Batch size for throughput.",
)
@click.option("--layers", is_flag=True, help="Also show each layer's time and kernel at batch 1.")
@click.option(
    "--seconds",
    type=Number(0.01),
    default=1.0,
    show_default=True,
    help="Time for each engine and batch size.",
)
@click.option(
    "--compare/--no-compare",
    default=None,
    help="Compare with ONNX Runtime, and with ncnn if installed.  [default: with each that is "
    "installed]",
)
@run_options
def command(
    model: str | None,
    networks: tuple[str, ...],
    batch: int,
    layers: bool,
    seconds: float,
    compare: bool | None,
    threads: int | None,
    as_json: bool,
) -> list[NetworkResult]:
    """Measure the latency of one image and the throughput of a batch.

    MODEL is a .bwn file. By default built-in networks are measured: an MNIST perceptron, the VGG of
    BinaryConnect for CIFAR-10 (vgg-sign has sign activations) and ResNet-18 at 224 x 224.

    ONNX Runtime and ncnn run the same function with float32 weights and as many threads. Scores
    are compared first; wrong results are not timed. The engines are interleaved in turns of a few
    calls, of which the first is not counted. A time is the median of the turns, the speedup the
    median of the ratios of neighboring turns.
    """
    if model is not None and networks:
        raise click.UsageError("Give MODEL or --network, not both.")
    from bwn.kernels.target.limits import available_threads
    from bwn.tools.benchmark import Benchmark, machine
    from bwn.tools.benchmark_peers import ONNXRUNTIME, installed_peers

    facts = machine(threads or available_threads())
    peers = () if compare is False else installed_peers()
    if compare and ONNXRUNTIME not in peers:
        peers = (ONNXRUNTIME, *peers)  # asked for: its absence is an error
    measured = chosen(model, networks or DEFAULT_NETWORKS)  # may refuse the file
    if not as_json:
        click.echo(header(facts, missing=compare is None and not peers))
    if facts["threads"] > facts["cores"]:
        warn(f"{on_cores(facts)}: threads that share a core slow each other down")
    results = []
    for name, spec in measured:
        show_progress(f"{name}: preparing")
        benchmark = Benchmark(name, spec, facts["threads"], peers)
        results.append(benchmark.run(batch, seconds, layers=layers, progress=show_progress))
        show_progress("")
        if not as_json:
            click.echo(report(results[-1]))
        if results[-1].conditions.slow:
            warn(
                f"{name}: the processor ran below its full speed: let it cool, check its power "
                "supply, or set its governor to performance"
            )
    if as_json:
        click.echo(json_text({"machine": facts, "results": results}, indent=2))
    return results


def chosen(model: str | None, networks: tuple[str, ...]) -> list[tuple[str, ModelSpec]]:
    """Names and networks to measure."""
    from bwn.format import read
    from bwn.tools.random_networks import NETWORKS

    if model is not None:
        return [(Path(model).name, read(model))]
    return [(name, NETWORKS[name](0)) for name in dict.fromkeys(networks)]


def header(machine: dict[str, Any], *, missing: bool) -> str:
    """The machine, where its kernels come from, and what to install where no peer is."""
    versions = dict(machine["versions"])
    own = versions.pop("bwn")
    others = ", ".join(f"{name} {number}" for name, number in versions.items())
    hint = (
        "\nNeither ONNX Runtime nor ncnn is installed: nothing is compared (pip install onnx "
        "onnxruntime, pip install ncnn)"
    )
    return (
        f"bwn {own}, {on_cores(machine)}, {machine['cpu']} "
        f"({machine['kernels']}: {' '.join((machine['llvm_cpu'], *machine['features']))})\n"
        f"{machine['system']}, Python {machine['python']}, {others}{hint * missing}"
    )


def on_cores(machine: dict[str, Any]) -> str:
    """`4 threads on 2 cores`."""
    threads, cores = machine["threads"], machine["cores"]
    return f"{count_noun(threads, 'thread')} on {count_noun(cores, 'core')}"


def report(result: NetworkResult) -> str:
    """One network's tables."""
    from bwn.tools.benchmark_peers import TITLES

    lines = [click.style(f"\n{result.network}", bold=True), timing_table(result.timings)]
    lines += [agreement(TITLES[peer], each) for peer, each in result.comparisons.items()]
    lines += [f"{TITLES[peer]} is left out: {why}" for peer, why in result.left_out.items()]
    if result.binary and result.comparisons:
        lines.append(
            "the peers have no binary kernels and compute in float32, so this is no comparison of "
            "equals: docs/benchmarks.md compares with OpenVINO's binary kernels"
        )
    if result.conditions.line:
        lines.append(f"afterwards: {result.conditions.line}")
    if result.layers:
        lines += ["", layer_table(result.layers)]
    return "\n".join(lines)


def timing_table(timings: list[EngineTiming]) -> str:
    """Latency and throughput of each engine and batch."""
    titles: tuple[str, ...] = ("engine", "batch", "median ms", "min ms", "images/s", "calls")
    rows: list[tuple[object, ...]] = [
        (
            timing.engine,
            timing.batch,
            f"{timing.median_ms:.3f}",
            f"{timing.min_ms:.3f}",
            f"{timing.images_per_s:,.0f}",
            timing.calls,
        )
        for timing in timings
    ]
    if any(timing.speedup for timing in timings):
        titles = (*titles, "speedup of bwn")
        speedups = ("" if t.speedup is None else f"{t.speedup:.2f}x" for t in timings)
        rows = [(*row, speedup) for row, speedup in zip(rows, speedups, strict=True)]
    return table(titles, rows)


def agreement(title: str, comparison: Comparison) -> str:
    """One line on how equal the outputs are."""
    if comparison.tolerance is None:
        share = f"{comparison.same_class:.1%} of the batch"
        return f"8-bit activations: same class as {title}'s float32 on {share}"
    ties = f"; left out: {count_noun(comparison.sign_ties, 'image')} with a sign tie"
    ties *= bool(comparison.sign_ties)
    return (
        f"scores agree with {title}: they differ by {comparison.error:.1e} of the largest "
        f"score, tolerance {comparison.tolerance:.1e}{ties}"
    )


def layer_table(layers: list[dict[str, Any]]) -> str:
    """Time of every layer; what was predicted is for one thread."""
    from bwn.kernels import costs
    from bwn.tools.benchmark import LAYER_RUNS

    total = sum(layer["seconds"] for layer in layers)
    rows = [
        (
            layer["name"],
            f"{layer['seconds'] * 1e3:.3f}",
            None if layer["microseconds"] is None else f"{layer['microseconds'] / 1e3:.3f}",
            f"{layer['seconds'] / total:.1%}",
            f"{layer['macs'] / layer['seconds'] / 1e9:.1f}" if layer["macs"] else None,
            layer["kernel"],
            layer["why"],
        )
        for layer in layers
    ]
    titles = ("layer", "ms", "predicted", "share", "GMAC/s", "kernel", "because")
    return (
        f"layer by layer, batch 1: medians of {LAYER_RUNS} more runs; {total * 1e3:.3f} ms in all, "
        f"without the call from Python\n"
        f"{table(titles, rows, '<>>>><<')}\ncosts: {costs.table().line}"
    )
