"""What the documents name is there: commands, options and choices, make's targets, files, the Python names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from bwn.cli.main import bwn as group
from bwn.kernels.gemm.specs import SPECS
from bwn.kernels.registry import OTHERS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(
    r"(?:benchmarks|bwn|cli|docs|kernels|tests|typings)/[\w./-]*|\w+\.(?:toml|txt)|[A-Z]+\.md"
)


def text(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def snippets(document: Path) -> list[str]:
    """Lines of the code blocks without a language, and what stands between backquotes elsewhere."""
    whole = text(document)
    lines = [
        line
        for language, body in BLOCK.findall(whole)
        if not language
        for line in body.replace("\\\n", "").splitlines()  # a command may go on in the next line
    ]
    return lines + CODE.findall(BLOCK.sub("", whole))


def complaint(line: str) -> str | None:
    """Why a command line starting with `bwn` is not one of ours; files need not exist."""
    words = shlex.split(line.split("#")[0])[1:]
    if words[:1] == ["--version"]:
        return None
    command: click.Command | None = group
    while isinstance(command, click.Group):
        if not words:
            return None
        command = command.get_command(click.Context(command), word := words.pop(0))
        if command is None:
            return f"no command {word}"
    try:
        values, _, _ = command.make_parser(click.Context(command)).parse_args(words)
        for parameter in command.params:
            if isinstance(parameter.type, click.Choice) and isinstance(
                values.get(str(parameter.name)), str
            ):
                parameter.type.convert(values[str(parameter.name)], parameter, None)
    except click.UsageError as error:
        return error.format_message()
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_line_is_understood(document: Path) -> None:
    lines = [line for line in snippets(document) if re.match(r"bwn [a-z-]", line)]
    assert [(line, why) for line in lines if (why := complaint(line))] == []


@pytest.mark.parametrize(
    "line",
    [
        "bwn fly",
        "bwn train --no-such-option 3",
        "bwn train --scheme none-such",
        "bwn experiment fly",
    ],
)
def test_a_wrong_command_line_is_caught(line: str) -> None:
    assert complaint(line)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text(ROOT / "Makefile"), re.MULTILINE))
    named = {line.split()[1] for line in snippets(document) if re.match(r"make [a-z]", line)}
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_named_is_there(document: Path) -> None:
    named = {code for code in CODE.findall(BLOCK.sub("", text(document))) if FILE.fullmatch(code)}
    assert {name for name in named if not (ROOT / name).exists()} == set()


def anchors(document: Path) -> set[str]:
    """What a link into the document may name: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", text(document)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", text(document))):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not name.startswith("https://") and not (
            target.exists() and (not anchor or anchor in anchors(target))
        ):
            broken.append(link)
    assert broken == []


def test_where_things_are_is_right() -> None:
    """Each name after a file, in the table of CONTRIBUTING.md, is in that file."""
    rows = re.findall(r"`([\w/.]+\.py)`: ((?:`\w+`(?:, )?)+)", text(ROOT / "CONTRIBUTING.md"))
    named = [(file, name) for file, names in rows for name in CODE.findall(names)]
    assert len(named) >= 8
    assert [(f, n) for f, n in named if not re.search(rf"\b{n}\b", text(ROOT / f))] == []


def test_every_kernel_is_in_the_table_of_its_file() -> None:
    rows = re.findall(
        r"^\| (.*?`) .*?\| `(kernels/\w+/\w+)\.py` \|", text(ROOT / "docs/planner.md"), re.MULTILINE
    )
    endings = [(ending, file) for names, file in rows for ending in CODE.findall(names)]
    for kernel in (*SPECS, *OTHERS):
        fits = [pair for pair in endings if kernel.name.endswith(pair[0])]
        folder, module, _ = kernel.code.split(".")
        assert f"kernels/{folder}/{module}" in [file for _, file in fits], kernel.name


def test_the_readme_starts_with_the_two_commands() -> None:
    assert [body.strip() for _, body in BLOCK.findall(text(ROOT / "README.md"))[:2]] == [
        "make demo",
        "make test",
    ]


def test_the_reference_lists_every_command() -> None:
    page = text(ROOT / "docs/reference/commands.md")
    listed = re.findall(r"^\| `bwn (\w+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(group.list_commands(click.Context(group)))
