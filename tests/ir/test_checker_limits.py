"""The checker's limits: what is exactly at one is legal, what is one over it is refused; SPEC.md has the numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphs import floats, make_graph, words
from msgspec.structs import replace

from bwn.errors import GraphError
from bwn.format import header
from bwn.ir import checker
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten

SPEC = Path(header.__file__).with_name("SPEC.md").read_text(encoding="utf-8")
CLAMP = make_graph(Clamp(input="x", output="y", low=0.0), shape=(2, 3, 4))
CONV = make_graph(
    Conv(input="x", output="y", weight="w", kernel=(1, 1)), shape=(2, 3, 4), w=words(5, 2)
)
NAME = "n" * 7


@pytest.mark.parametrize(
    ("limit", "exact", "graph"),
    [
        ("MAX_NODES", 1, CLAMP),
        ("MAX_ELEMENTS", 32, CLAMP),  # of the input
        ("MAX_ELEMENTS", 80, CONV),  # of an output
        ("MAX_TOTAL", 64, CLAMP),
        ("MAX_WORK", 120, CONV),
        ("MAX_NAME", 7, make_graph(Clamp(input="x", output=NAME, low=0.0), shape=(2,))),
    ],
)
def test_a_limit_is_the_last_legal_number(
    monkeypatch: pytest.MonkeyPatch, limit: str, exact: int, graph: checker.Graph
) -> None:
    monkeypatch.setattr(checker, limit, exact)
    checker.check(graph)
    monkeypatch.setattr(checker, limit, exact - 1)
    with pytest.raises(GraphError):
        checker.check(graph)


def test_the_format_states_the_limits() -> None:
    assert "longer than 1024 characters" in SPEC
    assert "more than 10,000 nodes, 2^28 elements in a tensor, 2^30 in all (each channel" in SPEC
    assert "2^42 operations" in SPEC
    limits = checker.MAX_NODES, checker.MAX_ELEMENTS, checker.MAX_TOTAL, checker.MAX_WORK
    assert limits == (10_000, 2**28, 2**30, 2**42)
    assert (checker.MAX_NAME, checker.MAX_CLASSES) == (1024, 2**20)


def scores(count: int) -> ModelSpec:
    dense = Dense(input="x", output="y", weight="w")
    return ModelSpec(graph=make_graph(dense, shape=(4,), w=floats(count, 4)))


@pytest.mark.parametrize(
    ("outputs", "legal"), [(1, {1, 2}), (2, {2}), (3, {3})], ids=["one", "two", "three"]
)
def test_class_names_are_as_many_as_scores_and_two_for_one_score(
    outputs: int, legal: set[int]
) -> None:
    for count in range(5):
        spec = replace(scores(outputs), classes=tuple("abcdefg"[:count]))
        if count in legal:
            checker.check_spec(spec)
        else:
            with pytest.raises(GraphError, match=r"given, but the network.s output has shape"):
                checker.check_spec(spec)


def test_class_names_need_a_vector_of_scores() -> None:
    with pytest.raises(GraphError, match="2 names given"):
        checker.check_spec(ModelSpec(graph=CLAMP, classes=("a", "b")))


def test_the_most_class_names_and_the_longest_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(scores(3), classes=("a", "b", "c"), producer="p" * 7)
    for limit, exact in (("MAX_CLASSES", 3), ("MAX_NAME", 7)):
        with monkeypatch.context() as patch:
            patch.setattr(checker, limit, exact)
            checker.check_spec(spec)
            patch.setattr(checker, limit, exact - 1)
            with pytest.raises(GraphError):
                checker.check_spec(spec)


@pytest.mark.parametrize(("color", "channels"), [("L", 1), ("RGB", 3)])
def test_mean_and_std_are_one_number_for_each_channel(color: str, channels: int) -> None:
    graph = make_graph(Flatten(input="x", output="y"), shape=(channels, 2, 2))
    for means in range(5):
        for stds in range(5):
            rule = Preprocess(size=(2, 2), color=color, mean=(0.5,) * means, std=(0.5,) * stds)
            spec = ModelSpec(graph=graph, preprocess=rule)
            if means == stds == channels:
                checker.check_spec(spec)
            else:
                text = f"need {channels} number{'s' if channels == 3 else ''} each"
                with pytest.raises(GraphError, match=text):
                    checker.check_spec(spec)
