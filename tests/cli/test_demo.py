"""`bwn demo` runs the commands themselves, and its summary repeats what they measured."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from bwn.cli import demo as cli_demo
from bwn.cli.main import bwn as group
from bwn.tools import demo
from bwn.tools.benchmark import EngineTiming, NetworkResult
from bwn.tools.conditions import Conditions


def test_digits_are_written_two_of_each_class(tmp_path: Path) -> None:
    assert demo.write_digits(tmp_path) == 20
    assert sorted(folder.name for folder in tmp_path.iterdir()) == list("0123456789")
    files = sorted(tmp_path.rglob("*.png"))
    assert len(files) == 20
    with Image.open(files[0]) as image:
        assert (image.mode, image.size) == ("L", (28, 28))


def test_every_step_is_a_command_line_that_parses(tmp_path: Path) -> None:
    for _, arguments in cli_demo.steps(tmp_path):
        command = group.get_command(click.Context(group), arguments[0])
        assert command is not None
        command.make_parser(click.Context(command)).parse_args(arguments[1:])


def timing(engine: str, batch: int, ms: float, speedup: float | None) -> EngineTiming:
    return EngineTiming(
        network="model.bwn", engine=engine, batch=batch, threads=1, median_ms=ms, min_ms=ms / 2,
        turns=5, calls=100, images_per_s=batch / ms * 1e3, speedup=speedup,
    )  # fmt: skip


def test_the_summary_says_what_was_measured() -> None:
    figures = demo.Figures(
        images=1000, correct=960, float_correct=961, agreements=999, bytes=2048, float_bytes=61440
    )
    timings = [
        timing("bwn", 1, 0.02, None), timing("onnxruntime", 1, 0.05, 2.47),
        timing("bwn", 16, 0.3, None), timing("onnxruntime", 16, 0.5, 1.8),
    ]  # fmt: skip
    result = NetworkResult(
        network="model.bwn", comparisons={}, left_out={}, binary=False, timings=timings,
        conditions=Conditions(), layers=None,
    )  # fmt: skip
    text = cli_demo.summary(figures, result, Path("somewhere"))
    for part in (
        "1,000", "96.1%", "96.0%", "same class on 999", "60.0 KiB", "2.0 KiB", "30.0 times smaller",
        "one image, one thread", "0.050 ms", "0.020 ms", "2.47 times as fast",
        "bwn inspect somewhere/model.bwn",
    ):  # fmt: skip
        assert part in text, part


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's own steps with one epoch of training and little time for the benchmark."""
    complete = cli_demo.steps
    quick = {"train": ["--epochs", "1"], "bench": ["--seconds", "0.02"]}

    def steps(folder: Path) -> list[tuple[str, list[str]]]:
        return [
            (why, [*arguments, *quick.get(arguments[0], [])]) for why, arguments in complete(folder)
        ]

    monkeypatch.setattr(cli_demo, "steps", steps)


@pytest.mark.usefixtures("short")
def test_the_full_workflow_runs_and_its_summary_agrees_with_the_commands(tmp_path: Path) -> None:
    done = CliRunner().invoke(group, ["demo", "--keep", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    for name in ("train", "export", "pack", "verify", "infer", "bench"):
        assert f"$ bwn {name} " in done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "model.pt",
        "model.onnx",
        "model.bwn",
        "digits",
    }
    figures = demo.measure(tmp_path / "out/model.bwn", tmp_path / "out/model.onnx")
    assert figures.agreements == figures.images == 1000
    assert figures.correct > 700
    assert figures.float_bytes > 20 * figures.bytes

    def find(pattern: str) -> tuple[str, ...]:
        match = re.search(pattern, done.output, re.MULTILINE)
        assert match is not None, done.output
        return match.groups()

    (ours,) = find(r"^bwn +1 +([\d.]+) ")
    theirs, speedup = find(r"^onnxruntime +1 +([\d.]+) .* ([\d.]+)x$")
    row = find(r"^one image, one thread .*? ([\d.]+) ms +([\d.]+) ms +([\d.]+) times as fast$")
    assert row == (theirs, ours, speedup)


def test_a_step_that_fails_ends_the_demo_with_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        cli_demo, "steps", lambda _: [("Fails.", ["inspect", "none.bwn"]), ("Never.", ["bench"])]
    )
    done = CliRunner().invoke(group, ["demo", "--keep", str(tmp_path)])
    assert done.exit_code == 3
    assert "Never" not in done.output
    assert done.stderr.startswith("Error: ")


def test_an_interrupt_is_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_demo, "write_digits", interrupt)
    done = CliRunner().invoke(group, ["demo", "--keep", str(tmp_path)])
    assert done.exit_code == 130
    assert "Traceback" not in done.output
