"""Options are made from fields: the same names, ranges, words and defaults, written once."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import click
import msgspec
import pytest
from click.testing import CliRunner

from bwn.cli.main import bwn
from bwn.cli.settings_options import field_option
from bwn.train import SCHEMES, Architecture, Settings
from bwn.train.architectures import _BUILDERS
from bwn.train.networks import NETWORK_NAMES, NETWORKS
from bwn.train.settings import SCHEME_NAMES, settings_for

FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}
OWN = {"train": set(), "paper": {"seed", "augment"}}
"""Settings whose option, in this command, is another or has another default."""
NUMBERS = (-1, 0, 1e-9, 0.5, 0.51, 1, 20, 20.5, 1000, 1001, 1e6, 1_000_000, 1_000_001, 2e6)
NUMBERS = (*NUMBERS, 2**32 - 1, 2**32, float("nan"), float("inf"))
CHOSEN_FOR_THE_USER = {
    "penalty": "margin with scheme `margin`, else none",
    "patience": "never",
    "precision": "auto",
}


def options(command):
    group = bwn.get_command(None, "experiment") if command == "paper" else bwn
    params = group.get_command(click.Context(group), command).params
    return {option.name: option for option in params}


def accepted(check, value):
    try:
        check(value)
    except (click.BadParameter, msgspec.ValidationError):
        return False
    return True


def by_settings(name):
    return lambda value: msgspec.convert({name: value}, Settings)


def words(hint):
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    return {word for part in get_args(hint) for word in words(part)}


@pytest.mark.parametrize("command", OWN)
def test_every_setting_is_an_option_that_leaves_the_default_to_the_settings(command):
    params = options(command)
    assert set(FIELDS) - set(params) <= OWN[command]
    for name in set(FIELDS) - OWN[command]:
        assert params[name].default is None
        assert params[name].get_default(click.Context(bwn)) is None


@pytest.mark.parametrize("command", OWN)
@pytest.mark.parametrize("name", FIELDS)
def test_an_option_takes_what_its_setting_takes(command, name):
    if name not in options(command):
        pytest.skip("bwn experiment has --seeds and --first-seed")
    kind = options(command)[name].type
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        whole = isinstance(kind, click.IntRange)
        for value in NUMBERS:
            if not whole or value == value // 1:
                value = int(value) if whole and abs(value) < 1e18 else value
                expected = accepted(by_settings(name), value)
                assert accepted(lambda text: kind.convert(text, None, None), str(value)) == expected
    else:
        own = words(get_type_hints(Settings, include_extras=True)[name])
        assert own
        for word in (*own, "auto", "none", "NONE", "x"):
            expected = word in own | {"penalty": {"none"}, "precision": {"auto"}}.get(name, set())
            assert accepted(lambda text: kind.convert(text, None, None), word) == expected
            assert accepted(by_settings(name), word) == (word in own)


def stated(help_text):
    """What the help says of defaults: one of each network, or one for all under None."""
    text = re.search(r"\[default: (.*)\]$", help_text)[1]
    first, *others = [part for part in text.split("; ") if not part.endswith(" few images")]
    defaults = dict.fromkeys(NETWORK_NAMES, first)
    for part in others:
        names, _, value = part.partition(": ")
        defaults.update(dict.fromkeys(names.split(", "), value))
    return defaults


@pytest.mark.parametrize("command", OWN)
@pytest.mark.parametrize("network", NETWORK_NAMES)
def test_the_help_tells_the_defaults_that_are_used(command, network):
    used = settings_for(network, SCHEMES["deterministic"], 1_000_000)
    for name in set(FIELDS) - OWN[command]:
        value, text = getattr(used, name), stated(options(command)[name].help)[network]
        if name in CHOSEN_FOR_THE_USER:
            assert text == CHOSEN_FOR_THE_USER[name]
        else:
            assert (float(text) if isinstance(value, (int, float)) else text) == value, name


def test_options_of_the_network_are_its_fields():
    params = options("train")
    names = set(Architecture.__struct_fields__) - {"input_shape", "classes"}
    assert names <= set(params)
    assert list(params["scheme"].type.choices) == list(SCHEME_NAMES) == list(SCHEMES)
    assert list(params["name"].type.choices) == list(NETWORK_NAMES)
    assert "[default: margin]" in params["scheme"].help
    assert "[default: relu]" in params["activations"].help
    assert (params["width"].type.min, params["width"].type.max) == (1, 8192)


@pytest.mark.parametrize("table", [NETWORKS, _BUILDERS])
def test_every_network_is_in_every_table(table):
    assert set(table) == set(NETWORK_NAMES)


def test_a_list_of_class_weights_may_be_longer_than_a_name():
    weights = options("train")["class_weights"].type.convert(",".join(["1.5"] * 1000), None, None)
    assert weights == (1.5,) * 1000


class More(Settings, frozen=True, kw_only=True):
    dropout: Annotated[float, msgspec.Meta(ge=0, le=0.9, description="Dropped units.")] = 0.5


def test_a_new_field_is_an_option_without_a_word_about_it():
    @click.command()
    @field_option(More, "dropout")
    def command(dropout):
        click.echo(repr(dropout))

    def run(*arguments):
        return CliRunner().invoke(command, arguments)

    assert run().output == "None\n"
    assert run("--dropout", "0.25").output == "0.25\n"
    assert run("--dropout", "0.95").exit_code == 2
    help_text = " ".join(run("--help").output.split())
    assert "Dropped units. [default: 0.5; 0 to 0.9]" in help_text
