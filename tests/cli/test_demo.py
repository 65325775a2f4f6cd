"""`bwn demo` is the commands themselves, on the sample, and ends with figures that are true."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from bwn.cli import demo as cli_demo
from bwn.cli.main import bwn as group
from bwn.tools import demo


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


def test_the_summary_says_what_was_measured() -> None:
    found = demo.Figures(
        images=1000, right=960, float_right=961, agree=999, bytes=2048, float_bytes=61440,
        milliseconds=0.02, float_milliseconds=0.05,
    )  # fmt: skip
    text = cli_demo.summary(found, Path("somewhere"))
    for part in (
        "1,000",
        "96.1%",
        "96.0%",
        "same answer on 999",
        "60.0 KiB",
        "2.0 KiB",
        "30.0 times smaller",
    ):
        assert part in text
    assert "0.050 ms" in text
    assert "2.5 times as fast" in text
    assert "bwn inspect somewhere/model.bwn" in text


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's own steps with one epoch of training, and few repetitions."""
    whole = cli_demo.steps
    quick = {"train": ["--epochs", "1"], "bench": ["--seconds", "0.02"]}

    def steps(folder: Path) -> list[tuple[str, list[str]]]:
        return [
            (why, [*arguments, *quick.get(arguments[0], [])]) for why, arguments in whole(folder)
        ]

    monkeypatch.setattr(cli_demo, "steps", steps)
    monkeypatch.setattr(demo, "REPETITIONS", 5)


@pytest.mark.usefixtures("short")
def test_the_whole_way_runs(tmp_path: Path) -> None:
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
    found = demo.measure(tmp_path / "out/model.bwn", tmp_path / "out/model.onnx")
    assert found.agree == found.images == 1000
    assert found.right > 700
    assert found.float_bytes > 20 * found.bytes


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
