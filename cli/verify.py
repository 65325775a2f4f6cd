"""`bwn verify`: a .bwn file compared with the network it was packed from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from bwn._text import count_noun, listed, three_digits
from bwn.cli.output import command_line, json_text, show_progress, table
from bwn.cli.params import (
    FilePath,
    Integer,
    Number,
    Option,
    batch_size_option,
    run_options,
    skip_bad_option,
)

if TYPE_CHECKING:
    from bwn.tools.verify import VerifyReport

DISAGREES = 1
LISTED = 10


@click.command(no_args_is_help=True)
@click.argument("model", type=FilePath())
@click.argument("reference", type=FilePath())
@click.option(
    "--images",
    type=FilePath(),
    metavar="SOURCE",
    help="An image, a folder of images, or a data set as in bwn train (its test split).  "
    "[default: seeded noise]",
)
@click.option(
    "--samples",
    cls=Option,
    type=Integer(1),
    help="At most this many inputs.  [default: all; 64 of noise]",
)
@skip_bad_option
@click.option("--seed", type=Integer(0), default=0, show_default=True, help="Seed of the noise.")
@batch_size_option(64)
@click.option(
    "--min-agreement",
    cls=Option,
    type=Number(0, 1),
    help="Share of inputs that must have the same top-1.  "
    "[default: 1; 0.99 with 8-bit activations]",
)
@click.option(
    "--max-loss",
    cls=Option,
    type=Number(0, 100),
    metavar="POINTS",
    help="Percentage points of accuracy that may be lost; needs a data set in --images.  "
    "[default: 0.3 with 8-bit activations]",
)
@click.option(
    "--output-name",
    metavar="NAME",
    help="Output of REFERENCE to compare, if it has several.  [default: MODEL's]",
)
@run_options
def command(
    model: str,
    reference: str,
    images: str | None,
    samples: int | None,
    skip_bad: bool,
    seed: int,
    batch_size: int,
    min_agreement: float | None,
    max_loss: float | None,
    output_name: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Check that MODEL, a .bwn file, computes the same as REFERENCE.

    REFERENCE is the file that MODEL was packed from.

    Each layer gets the model's own tensors and is compared with an interpreter (float64, exact
    integers) and with ONNX Runtime on REFERENCE, in units of the tolerance: 1 or less passes.
    Then the scores of all inputs are compared with ONNX Runtime. Inputs whose two best scores
    differ by less than the tolerance are ties and do not count.

    Layers with 8-bit activations must match the interpreter. If REFERENCE is not quantized, only
    the top-1 is compared with ONNX Runtime (--min-agreement). If it is, as after
    `bwn train --activations int8`, the layers must match ONNX Runtime too. On a data set the
    accuracy is measured, and may fall by --max-loss.

    The exit code is 0 if everything agrees, 1 if not, 2 for wrong usage, 3 if a file is refused or
    the networks have different shapes.

    \b
    bwn verify model.bwn model.pt
    bwn verify model.bwn model.onnx --images mnist-sample
    bwn verify int8.bwn model.pt --images mnist-sample --max-loss 0.3
    """
    if max_loss is not None and images is None:
        raise click.UsageError("--max-loss needs a data set in --images.")
    if skip_bad and images is None:
        raise click.UsageError("--skip-bad needs --images.")
    if reference.endswith(".bwn") and not model.endswith(".bwn"):
        right = command_line("bwn", "verify", reference, model)
        raise click.UsageError(f"MODEL comes first: {right}")
    from bwn.tools.verify import verify

    report = verify(
        model,
        reference,
        images,
        samples=samples,
        seed=seed,
        batch_size=batch_size,
        threads=threads,
        min_agreement=min_agreement,
        max_loss=max_loss,
        skip_bad=skip_bad,
        output_name=output_name,
        progress=show_progress,
    )
    click.echo(json_text(report, indent=2) if as_json else text(report))
    if not report.agrees:
        if as_json:
            click.echo(fault(report), err=True)
        raise click.exceptions.Exit(DISAGREES)


def text(report: VerifyReport) -> str:
    """The report as a table and a few lines; the last one is the verdict."""
    rows = [
        (
            layer.name,
            layer.op,
            layer.kind or None,
            layer.depth or None,
            units(layer.reference),
            None
            if layer.runtime is None
            else units(layer.runtime) + ("" if layer.judged else " *"),
            "ok" if layer.agrees else "DIFFERS",
        )
        for layer in report.layers
    ]
    header = (
        "layer",
        "op",
        "weights x activations",
        "K",
        "vs interpreter",
        "vs ONNX Runtime",
        "result",
    )
    lines = [
        table(header, rows, "<<<>>><"),
        "K is how many products each output sums. Differences are in units of the tolerance: 1 or "
        "less passes.",
    ]
    if any(layer.runtime is None for layer in report.layers):
        lines.append("-: not in the network of ONNX Runtime, so not compared with it.")
    if not all(layer.judged for layer in report.layers):
        lines.append("*: 8-bit activations differ from float32, so this is shown but not checked.")
    lines += ["", *score_lines(report), ""]
    return "\n".join([*lines, f"AGREES: {report.verdict}" if report.agrees else fault(report)])


def fault(report: VerifyReport) -> str:
    """The last line of a report that does not agree."""
    differs = report.verdict.removeprefix("differs")  # from a layer on
    return f"DISAGREES{':' * (differs == report.verdict)} {differs.lstrip()}"


def score_lines(report: VerifyReport) -> list[str]:
    """The end-to-end part."""
    scores = report.scores
    share = "exact" if scores.error == 0 else f"{three_digits(scores.error)} times the tolerance"
    counted = report.count - len(scores.ties)
    whole = "that are not ties" if scores.ties else ""
    same = f"all {counted:,}" if scores.agreement == 1 else f"{scores.agreement:.2%} of the inputs"
    lines = [
        f"inputs         {report.count:,} of {report.inputs}",
        f"scores         largest difference {scores.difference:.3g}"
        + ("" if scores.rounded else f", {share}"),
        f"top-1          same on {same} {whole}".rstrip(),
    ]
    for name, numbers in (
        ("ties", scores.ties),
        ("sign ties", scores.sign_ties),
        ("wrong scores", scores.departing),
        ("wrong top-1", scores.disagreements),
    ):
        if numbers:
            count = count_noun(len(numbers), "input")
            lines.append(f"{name:<13}  {count}: {listed(numbers, LISTED)}")
    if scores.accuracy is not None and scores.reference_accuracy is not None:
        loss, limit = report.loss or 0.0, report.max_loss
        allowed = "" if limit is None else f" (limit {limit:g})"
        change = f"{abs(loss):.2f} points {'higher' if loss < 0 else 'lower'}"
        if loss == 0:
            change = "no change"
        lines.append(
            f"accuracy       {scores.accuracy:.2%}, reference {scores.reference_accuracy:.2%}: "
            f"{change}{allowed}"
        )
    return lines


def units(error: float) -> str:
    """A difference in units of the tolerance, for people."""
    if error == 0:
        return "exact"
    return "not exact" if math.isinf(error) else three_digits(error)
