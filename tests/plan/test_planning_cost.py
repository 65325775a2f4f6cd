"""Planning is linear in the nodes, counted in function calls, and lowers a graph once."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from graphs import conv3x3, make_graph, words

from bwn.ir.graph import Graph
from bwn.ir.model_spec import ModelSpec
from bwn.ir.node import Node
from bwn.model import Model
from bwn.ops.add import Add
from bwn.ops.clamp import Clamp
from bwn.ops.concat import Concat
from bwn.ops.conv import Conv
from bwn.ops.sign import Sign
from bwn.plan.builder import PlanBuilder
from bwn.plan.planner import make_plan


def plain(source: str, number: int) -> list[Node]:
    return [conv3x3(source, f"c{number}", "w")]


def residual(source: str, number: int) -> list[Node]:
    return [
        conv3x3(source, f"c{number}", "w"),
        Add(input=f"c{number}", other=source, output=f"a{number}"),
        Clamp(input=f"a{number}", output=f"r{number}", low=0.0),
    ]


def binary(source: str, number: int) -> list[Node]:
    sign = Sign(input=source, output=f"s{number}")
    return [sign, conv3x3(sign.output, f"c{number}", "w", activations="binary")]


def joined(source: str, number: int) -> list[Node]:
    return [
        Conv(input=source, output=f"g{number}", weight="h", kernel=(1, 1)),
        Conv(input=source, output=f"h{number}", weight="h", kernel=(1, 1)),
        Concat(input=f"g{number}", others=(f"h{number}",), output=f"j{number}"),
    ]


def chain(block: Callable[[str, int], list[Node]], count: int) -> Graph:
    """A network of `count` blocks, each of which reads the one before."""
    nodes: list[Node] = []
    for number in range(count):
        nodes += block(nodes[-1].output if nodes else "x", number)
    graph = make_graph(*nodes, shape=(64, 4, 4))
    return graph.replace(nodes, {"w": words(64, 576), "h": words(32, 64)})


def calls(graph: Graph) -> int:
    """How many functions planning calls, in Python and in C."""
    count = 0

    def on_event(frame, event, argument) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(on_event)
    try:
        make_plan(graph, 1, 2)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("block", [plain, residual, binary, joined])
def test_planning_is_linear(block) -> None:
    calls(chain(block, 4))
    small, large = calls(chain(block, 40)), calls(chain(block, 160))
    assert large < 4.1 * small


def test_a_first_run_lowers_the_graph_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    build = PlanBuilder.build

    def counted(self: PlanBuilder) -> None:
        built.append(self.batch)
        build(self)

    monkeypatch.setattr(PlanBuilder, "build", counted)
    model = Model(ModelSpec(graph=chain(plain, 3)), threads=1)
    x = np.zeros((96, 64, 4, 4), np.float32)
    model.run(x)
    model.run(x)
    assert built == [96]
