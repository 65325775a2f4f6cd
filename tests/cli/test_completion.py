"""`bwn completion` prints scripts that complete in the shells themselves; colours obey NO_COLOR."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bwn.cli import main

BASH = """
eval "$(bwn completion bash)"
complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _bwn_completion bwn; echo "${COMPREPLY[@]}"; }
complete_words bwn ev
complete_words bwn train --sch
complete_words bwn train --scheme m
complete_words bwn completion ""
"""
FISH = 'bwn completion fish | source; complete -C "bwn ev"; complete -C "bwn completion z"'
ZSH = """
autoload -U compinit; compinit -u -D
eval "$(bwn completion zsh)"
print $_comps[bwn]
"""


def shell(program: str, *arguments: str) -> str:
    """What a shell prints, in which `bwn` is that of this environment."""
    if shutil.which(program) is None:
        pytest.skip(f"no {program}")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [program, *arguments], env={**os.environ, "PATH": path}, text=True, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_bash_completes_commands_options_and_choices() -> None:
    assert shell("bash", "--norc", "-c", BASH).splitlines() == [
        "evaluate",
        "--scheme --schedule",
        "margin",
        "bash zsh fish",
    ]


def test_fish_completes() -> None:
    lines = shell("fish", "--no-config", "-c", FISH).splitlines()
    assert [line.split("\t")[0] for line in lines] == ["evaluate", "zsh"]


def test_zsh_takes_the_script() -> None:
    assert shell("zsh", "-f", "-c", ZSH) == "_bwn_completion\n"


def test_commands_complete_without_importing_them() -> None:
    code = (
        "import sys, click; from bwn.cli.main import bwn; "
        "print(*(item.value for item in bwn.shell_complete(click.Context(bwn), 'in'))); "
        "print([name for name in sys.modules if name.startswith('bwn.cli.i')])"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout == "infer inspect\n[]\n"


@pytest.mark.parametrize(("value", "bold"), [(None, True), ("", True), ("1", False)])
def test_colours_obey_no_color(
    value: str | None, bold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def command() -> None:
        click.secho("text", bold=True)

    monkeypatch.setattr(main.Commands, "get_command", lambda *_: command)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if value is not None:
        monkeypatch.setenv("NO_COLOR", value)
    done = CliRunner().invoke(main.bwn, ["inspect"], color=True)  # as on a terminal
    assert ("\x1b[1m" in done.output) is bold


def test_bwn_alone_shows_its_help() -> None:
    done = CliRunner().invoke(main.bwn, [])
    assert done.exit_code == 2
    assert "\nCommands:\n" in done.output


@pytest.mark.parametrize("name", [*main.COMMANDS, None])
@pytest.mark.parametrize("columns", [60, 100, 200])
def test_help_fits_the_terminal(name: str | None, columns: int) -> None:
    """Prose and options; lines of examples and lists of choices stay whole."""
    command = main.bwn if name is None else main.bwn.get_command(click.Context(main.bwn), name)
    assert command is not None
    verbatim = {line.strip() for p in [command, *command.params] for line in text_of(p)}
    words = [name, "--help"] if name else ["--help"]
    text = CliRunner().invoke(main.bwn, words, terminal_width=min(columns, 100)).output
    for line in text.splitlines():
        assert len(line) <= columns or line.strip() in verbatim or "|" in line, line


def text_of(part: click.Command | click.Parameter) -> list[str]:
    return (getattr(part, "help", None) or "").splitlines()
