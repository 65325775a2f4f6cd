"""Options of training, made from the fields of `bwn.train.settings`; one not chosen is None."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from msgspec import Struct, inspect

from bwn.cli.params import Command, Integer, Number, Option, together
from bwn.train.options import Option as FieldOption
from bwn.train.options import options_of


class WordOrNumbers(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """One of some words, or numbers above 0: a list, or a file of them."""

    name = "numbers"

    def __init__(self, words: Sequence[str], limit: float) -> None:
        self.words, self.limit = words, limit

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | tuple[float, ...]:
        """The word or the numbers."""
        if value in self.words:
            return str(value)
        try:
            # Path.is_file would refuse a list that is too long for a name.
            is_file = os.path.isfile(value)
            text = Path(value).read_text(encoding="utf-8") if is_file else str(value)
            numbers = tuple(float(part) for part in text.replace(",", " ").split())
        except (OSError, ValueError):
            numbers = ()
        if not numbers or not all(0 < number <= self.limit for number in numbers):
            self.fail(
                f"{value!r} is not {' or '.join(self.words)}, nor a list of numbers above 0 such "
                "as 1,2.5,1, nor a file of such numbers.",
                param,
                ctx,
            )
        return numbers


def field_option(kind: type[Struct], name: str, **changes: Any) -> Callable[[Command], Command]:
    """The option of a field. changes: arguments of click.option that are not the field's."""
    option = options_of(kind)[name]
    arguments: dict[str, Any] = {
        "cls": Option,
        "type": _click_type(option),
        "default": None,
        "metavar": option.metavar,
        "help": option.help,
    }
    return click.option(option.flag, name, **(arguments | changes))


def field_options(kind: type[Struct], *without: str) -> Callable[[Command], Command]:
    """The options of all fields, but not of those named."""
    return together(*(field_option(kind, name) for name in options_of(kind) if name not in without))


def chosen(kind: type[Struct], options: dict[str, Any]) -> dict[str, Any]:
    """The values of the options that are fields of this kind, by field."""
    return {name: options[name] for name in options_of(kind) if name in options}


def _click_type(option: FieldOption) -> click.ParamType[Any]:
    """The type that click checks a value with."""
    for member in option.members:
        match member:
            case inspect.VarTupleType(item_type=inspect.FloatType(le=limit)):
                return WordOrNumbers(option.words, limit or float("inf"))
            case inspect.IntType():
                return Integer(member.ge, member.le)
            case inspect.FloatType():
                low = member.ge if member.gt is None else member.gt
                return Number(low, member.le, min_open=member.gt is not None)
    return click.Choice(option.words) if option.words else click.BOOL
