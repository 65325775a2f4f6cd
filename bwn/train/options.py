"""The fields of `Architecture` and `Settings` as the command line needs them. Needs no torch.

`Meta` of such a field has its help as `description`. Its `extra` may hold:

    flag      the option, where it is not --field-name
    default   what the help calls the default, where that is not the field's
    note      what follows the default in the help
    choices   words that the command line offers besides the field's
    metavar   what the help shows for the value
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from msgspec import Struct, inspect

from bwn.train.networks import NETWORKS
from bwn.train.settings import Settings


@dataclass(frozen=True)
class Option:
    """A field that can be a command-line option.

    Attributes:
        flag: The option: `learning_rate` is `--lr`.
        help: What the field means, and its default.
        members: The field's type, or the types of its union.
        words: The words that it may be, in the order of the source; `none` for None.
        metavar: What the help shows for the value; None: what click finds.
    """

    flag: str
    help: str
    members: tuple[inspect.Type, ...]
    words: tuple[str, ...]
    metavar: str | None


@cache
def options_of(kind: type[Struct]) -> dict[str, Option]:
    """The option of each field that has a description, by the field's name."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    hints = get_type_hints(kind, include_extras=True)
    options = {}
    for field in info.fields:
        if isinstance(field.type, inspect.Metadata):
            extra, schema = field.type.extra or {}, field.type.extra_json_schema or {}
            default = extra.get("default") or _default_text(kind, field)
            note = f"; {extra['note']}" if "note" in extra else ""
            members = getattr(field.type.type, "types", (field.type.type,))
            words = [*extra.get("choices", ()), *_words(hints[field.name])]
            if words and any(isinstance(member, inspect.NoneType) for member in members):
                words.append("none")
            options[field.name] = Option(
                flag=extra.get("flag", f"--{field.name.replace('_', '-')}"),
                help=f"{schema['description']}  [default: {default}{note}]",
                members=members,
                words=tuple(words),
                metavar=extra.get("metavar"),
            )
    return options


def _words(hint: Any) -> list[str]:
    """The words of the Literals in a type, in the order of the source (inspect sorts them)."""
    if get_origin(hint) is Literal:
        return [*get_args(hint)]
    return [word for part in get_args(hint) for word in _words(part)]


def _default_text(kind: type[Struct], field: inspect.Field) -> str:
    """The field's default. Where networks have their own: `30; vgg, resnet18, resnet20: 60`."""
    networks: dict[object, list[str]] = {}
    for name, network in NETWORKS.items():
        own = network.settings if kind is Settings else {}
        networks.setdefault(own.get(field.name, field.default), []).append(name)
    first, *others = networks
    texts = [f"{', '.join(networks[value])}: {_text(value)}" for value in others]
    return "; ".join([_text(first), *texts])


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
