"""Messages of the Python API speak of its arguments, not of the options of a command."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from bwn.errors import DataError

BWN = Path(__file__).resolve().parents[1] / "bwn"
OPTION = re.compile(r"(?<![\w-])--[a-z]")


def options_in(source: str) -> list[str]:
    """Strings of a module, but for docstrings and comments, that name an option."""
    tree = ast.parse(source)
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    strings = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documentation
    ]
    return [string for string in strings if OPTION.search(string)]


# Where the options of training are defined.
DEFINITIONS = {Path("train/settings.py"), Path("train/options.py")}


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(BWN.rglob("*.py")) if path.relative_to(BWN) not in DEFINITIONS],
    ids=lambda path: path.relative_to(BWN).as_posix(),
)
def test_no_message_names_an_option_of_a_command(path: Path) -> None:
    assert options_in(path.read_text(encoding="utf-8")) == []


def test_an_option_in_a_message_is_seen() -> None:
    assert options_in('"""bwn --help."""\nraise ValueError(f"give {x} with --size")') == [
        " with --size"
    ]


def test_every_error_is_one_line_whatever_it_quotes() -> None:
    assert str(DataError("a\nb\x7fc\x1b[2J")) == "a b\\x7fc\\x1b[2J"
