"""The command-line frame: help, hints, and how every error ends."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bwn._text import byte_size, count_noun
from bwn.cli import main, output
from bwn.errors import ArgumentError, BwnError, DataError, MissingPackageError


def run(*args, error=None, monkeypatch=None):
    """The group with `inspect` replaced by a command that raises `error`."""
    if error is not None:

        @click.command()
        def command():
            raise error

        replaced = lambda group, ctx, name: command  # noqa: E731
        monkeypatch.setattr(main.Commands, "get_command", replaced)
    return CliRunner().invoke(main.bwn, args)


def test_help_lists_every_command_and_imports_none():
    code = "import sys; from bwn.cli.main import bwn; bwn(['--help'], standalone_mode=False); print(*sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    shown, modules = out.rsplit("\n", 2)[0], out.splitlines()[-1].split()
    assert all(f"\n  {name} " in shown for name in main.COMMANDS)
    assert not {"numba", "torch", "onnx", "onnxruntime"} & set(modules)
    assert not {f"bwn.cli.{name}" for name in main.COMMANDS} & set(modules)


def test_every_command_in_the_table_is_a_file_with_help():
    for name in main.COMMANDS:
        result = run(name, "--help")
        assert result.exit_code == 0, (name, result.output)
        assert result.output.startswith(f"Usage: bwn {name}"), name


def test_version():
    result = run("--version")
    assert result.exit_code == 0
    assert result.output.startswith("bwn 0.")


def test_a_mistyped_command_is_answered_with_the_nearest():
    result = run("infr", "x")
    assert result.exit_code == 2
    assert "No such command 'infr'. Did you mean 'infer'?" in result.stderr
    assert "Commands: train, experiment" in run("zzz").stderr


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BwnError("no"), 1, "no"),
        (ArgumentError("threads is 0"), 2, "threads is 0"),
        (DataError("a.png: cut\nshort \x1b[2J"), 3, r"a.png: cut short \x1b[2J"),
        (MissingPackageError("torch", "train", "bwn train"), 1, "bwn train needs torch, which is not installed: "
         "pip install torch, or '.[train]' in bwn's folder"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "m.pt"), 1, "no such file: m.pt"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), 1, "No such file or directory"),
        (MemoryError(), 1, "not enough memory for this run: run fewer inputs at a time, or on a machine with more "
         "memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 1, "not enough memory: try smaller batches or "
         "images"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"), 1, "not enough memory: try smaller "
         "batches or images"),
    ],
)  # fmt: skip
def test_errors_end_as_one_line(error, code, line, monkeypatch):
    result = run("inspect", error=error, monkeypatch=monkeypatch)
    assert result.exit_code == code
    assert result.stderr == f"Error: {line}\n"
    assert result.stdout == ""


def test_an_error_inside_says_how_to_see_it(monkeypatch):
    result = run("inspect", error=ZeroDivisionError("by\nzero"), monkeypatch=monkeypatch)
    assert result.exit_code == 70
    assert result.stderr.startswith("Error: internal: ZeroDivisionError: by zero (set BWN_DEBUG=1")
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("BWN_DEBUG", "1")
    assert "Traceback" in run("inspect", error=ZeroDivisionError(), monkeypatch=monkeypatch).stderr


def test_interrupts_are_quiet(monkeypatch):
    for error in (KeyboardInterrupt(), click.Abort()):
        result = run("inspect", error=error, monkeypatch=monkeypatch)
        assert (result.exit_code, result.output) == (130, "")


def test_ctrl_c_twice_ends_without_a_traceback():
    code = """
import os, signal
from bwn.cli import main
def bwn(prog_name):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        os.kill(os.getpid(), signal.SIGINT)
main.bwn = bwn
main.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_a_closed_pipe_is_quiet(monkeypatch):
    result = run(
        "inspect", error=BrokenPipeError(errno.EPIPE, "Broken pipe"), monkeypatch=monkeypatch
    )
    assert (result.exit_code, result.output) == (1, "")


def test_help_that_cannot_be_written_is_one_line():
    if not Path("/dev/full").is_char_device():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bwn.cli", "--help"],
            stdout=full,
            stderr=-1,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "Error: No space left on device")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", ""), ("pack", ""), ("pack", "a.pt", "-o", ""), ("pack", "a.pt", "--classes", ""),
        ("pack", "a.pt", "--calibration", ""), ("export", ""), ("export", "a.pt", "-o", ""), ("infer", "a.bwn", ""),
        ("infer", ""), ("verify", "a.bwn", ""), ("verify", "a.bwn", "a.pt", "--images", ""), ("bench", ""),
        ("train", "--data", ""), ("train", "--data", "mnist-sample", "-o", ""), ("train", "--resume", ""),
        ("demo", "--keep", ""),
    ],
)  # fmt: skip
def test_an_empty_path_is_not_the_current_folder(arguments):
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.endswith(": the path is empty.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "a.bwn", "a.pt", "--min-agreement"),
        ("bench", "--seconds"),
        *(
            ("train", "--data", "mnist-sample", name)
            for name in ("--lr", "--lambda", "--ramp", "--validation")
        ),
    ],
)
def test_nan_is_in_no_range(arguments):
    result = run(*arguments, "nan")
    assert result.exit_code == 2
    assert result.stderr.endswith(f"Invalid value for '{arguments[-1]}': nan is not a number.\n")


@pytest.mark.parametrize("command", ["pack", "export"])
@pytest.mark.parametrize("source", [".", "/", ".."])
def test_a_folder_is_no_network(command, source):
    result = run(command, source)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"Error: {source} is a folder, expected a ")


def test_an_empty_host_is_not_every_address():
    result = run("serve", "a.bwn", "--host", "")
    assert result.exit_code == 2
    assert result.stderr.endswith("Error: --host is empty.\n")


def test_an_integer_has_64_bits():
    result = run("infer", "a.bwn", "b.png", "--limit", str(2**63))
    assert result.exit_code == 2
    assert result.stderr.endswith("'--limit': 9223372036854775808 is too large.\n")


COMMAND_LINES = [*((name,) for name in main.COMMANDS), ("experiment", "paper")]


@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_help_names_ranges_in_words_and_uses_up_to_100_columns(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    lines = run(*words, "--help").stdout.splitlines()
    assert max(map(len, lines)) <= 100
    text = " ".join(" ".join(lines).split())
    assert not re.search(r"RANGE|<=|>=|<x|x>|\]\s*\[|\.\.\.\s*$", text.partition("Options:")[2])


@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_help_fits_a_terminal_of_80_columns(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert not [line for line in run(*words, "--help").stdout.splitlines() if len(line) > 80]


def test_help_of_a_range():
    text = " ".join(run("train", "--help").stdout.split())
    assert (
        "--width N Width of the first hidden layer. [default: depends on the network; 1 to 8,192]"
        in text
    )
    assert "--lr NUMBER" in text
    assert "above 0, at most 1,000,000]" in text


def test_usage_and_exit_codes_of_commands_pass(monkeypatch):
    assert run("inspect", error=click.exceptions.Exit(4), monkeypatch=monkeypatch).exit_code == 4
    result = run("inspect", error=click.UsageError("odd"), monkeypatch=monkeypatch)
    assert result.exit_code == 2
    assert "Error: odd" in result.stderr


def test_table():
    text = output.table(
        ("layer", "bytes", "note"), [("a", 1000, None), ("long\nname", 2, "x")], "<><"
    )
    assert text.splitlines() == [
        "layer      bytes  note",
        "---------  -----  ----",
        "a          1,000  -",
        "long name      2  x",
    ]
    assert output.table(("a", "b"), []).splitlines() == ["a  b", "-  -"]


def test_a_narrow_terminal_wraps_the_last_column(monkeypatch):
    rows = [("conv1", 3, "fastest of all that can run here"), ("conv2", 4, "the only one")]
    wide = output.table(("layer", "N", "because"), rows, "<><")
    monkeypatch.setenv("COLUMNS", "30")
    assert output.table(("layer", "N", "because"), rows, "<><") == wide, "not a terminal"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert output.table(("layer", "N", "because"), rows, "<><").splitlines() == [
        "layer  N  because",
        "-----  -  --------------------",
        "conv1  3  fastest of all that",
        "          can run here",
        "conv2  4  the only one",
    ]
    monkeypatch.setenv("COLUMNS", "20")  # too little to read: the terminal breaks the lines
    assert output.table(("layer", "N", "because"), rows, "<><") == wide


def test_json_takes_what_commands_have():
    class Row(msgspec.Struct):
        path: Path
        value: float

    value = {
        "rows": [Row(Path("a"), float("nan"))],
        "array": np.arange(2),
        "one": np.float32(0.5),
        3: (True, None),
    }
    assert output.json_text(value) == (
        '{"rows": [{"path": "a", "value": null}], "array": [0, 1], "one": 0.5, "3": [true, null]}'
    )


def test_counts_have_their_noun_in_the_right_number():
    counts = [count_noun(1, "image"), count_noun(1200, "class"), count_noun(0, "input")]
    assert counts == ["1 image", "1,200 classes", "0 inputs"]


def test_byte_size_states_its_unit():
    sizes = {
        0: "0 B",
        1023: "1023 B",
        1024: "1.0 KiB",
        12600: "12.3 KiB",
        4 * 2**20: "4.0 MiB",
        2**50: "1024.0 TiB",
    }
    assert {count: byte_size(count) for count in sizes} == sizes


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_names_that_the_output_cannot_encode_are_escaped(tmp_path, encoding):
    for name in ("\u6f22.png", "\U0001f600.png"):
        Image.new("L", (28, 28)).save(tmp_path / name)
    for options in ([], ["--csv"], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "bwn", "infer", "models/mnist-mlp.bwn", tmp_path, *options],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == (2 if options == ["--json"] else 3)
        assert b"\\u6f22.png" in done.stdout


@pytest.mark.parametrize(
    ("closed", "arguments", "code"),
    [
        ("2>&-", ["evaluate", "models/mnist-mlp.bwn", "--data", "mnist-sample"], 0),
        ("2>&-", ["evaluate", "models/mnist-mlp.bwn", "--data", "missing"], 3),
        (">&-", ["inspect", "models/mnist-mlp.bwn"], 0),
        ("<&-", ["infer", "models/mnist-mlp.bwn", "-"], 3),
    ],
)
def test_closed_streams_are_no_error_inside(closed, arguments, code):
    shell = f'exec "$@" {closed}'
    command = ["sh", "-c", shell, "sh", sys.executable, "-m", "bwn", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "internal" not in done.stderr


def test_a_command_can_be_copied():
    assert (
        output.command_line("bwn", "infer", Path("my model.bwn"), "a\n")
        == "bwn infer 'my model.bwn' 'a '"
    )


def test_progress_is_cut_to_the_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    output.show_progress("x" * 50)
    assert capsys.readouterr().err == "\r\x1b[K" + "x" * 19
    output.show_progress("a\x1b[2J.bwn")
    assert capsys.readouterr().err == "\r\x1b[K" + r"a\x1b[2J.bwn"


@pytest.mark.parametrize("name", ["infer", "pack", "export", "inspect", "verify", "evaluate"])
def test_a_command_without_arguments_shows_its_help(name):
    result = run(name)
    assert result.exit_code == 2
    assert f"Usage: bwn {name} " in result.output
    assert "Options:\n" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["m.bwn", "shapes"], "Error: Missing option '--data'. Did you mean --data shapes?\n"),
        (["m.bwn", "my photos"], "Did you mean --data 'my photos'?\n"),
        (["m.bwn"], "Error: Missing option '--data'.\n"),
        (["m.bwn", "a", "--data", "b"], "Error: Got an unexpected argument: a\n"),
    ],
)
def test_evaluate_hints_at_its_data_option(arguments, message):
    result = run("evaluate", *arguments)
    assert result.exit_code == 2
    assert result.stderr.endswith(message)
