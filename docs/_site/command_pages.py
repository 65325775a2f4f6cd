"""The reference of commands as Markdown, from the code of the commands."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from bwn.cli.main import bwn

VERBATIM = "\b"
"""The first line of a paragraph whose lines click does not join."""


def all_commands() -> str:
    """A section for each command, and one for each command of a group."""
    context = click.Context(bwn, info_name="bwn")
    sections = []
    for name in bwn.list_commands(context):
        command = bwn.get_command(context, name)
        assert command is not None, name
        sections += _sections(command, click.Context(command, context, info_name=name), "##")
    return "\n\n".join(("", *sections, ""))


def _sections(command: click.Command, context: click.Context, level: str) -> Iterator[str]:
    yield f"{level} {context.command_path}"
    yield f"```text\n{_usage(command, context)}\n```"
    yield from _paragraphs(command.help or "")
    rows = [
        record
        for parameter in command.get_params(context)
        if (record := parameter.get_help_record(context)) and record[1]
    ]
    yield "\n\n".join(f"`{names}`\n{_indented(text)}" for names, text in rows)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, name
            yield from _sections(child, click.Context(child, context, info_name=name), level + "#")


def _usage(command: click.Command, context: click.Context) -> str:
    return " ".join((context.command_path, *command.collect_usage_pieces(context)))


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of a help text: prose, or verbatim lines in a block."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text).replace("\f", "")):
        first, _, rest = paragraph.partition("\n")
        if first.strip() == VERBATIM:
            yield f"```text\n{rest}\n```"
        else:
            yield _escaped(paragraph)


def _indented(text: str) -> str:
    """A definition of Markdown: the help of an option, with its verbatim part in a block."""
    parts = list(_paragraphs(text))
    lines = "\n\n".join(parts).split("\n")
    return ": " + "\n  ".join(lines)


def _escaped(text: str) -> str:
    """Markdown that shows prose as it is, and options as code."""
    code = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _plain(part) for part in code)


def _plain(text: str) -> str:
    text = re.sub(r"([\\*_<>\[\]#|])", r"\\\1", text)
    return re.sub(r"(?<![\w-])(--?[a-z][a-z-]*)", r"`\1`", text)
