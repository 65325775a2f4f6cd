"""Planning takes time in proportion to the nodes, counted in function calls, and lowers a graph once."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from op_examples import words

from bwn.ir.graph import Graph, Topology
from bwn.ir.model_spec import ModelSpec
from bwn.model import Model
from bwn.ops import Add, Clamp, Concat, Conv, Node, Sign
from bwn.plan.builder import PlanBuilder
from bwn.plan.planner import make_plan


def conv(source: str, number: int, **more: object) -> Conv:
    return Conv(
        input=source, output=f"c{number}", weight="w", kernel=(3, 3), pads=(1, 1, 1, 1), **more
    )


def plain(nodes: list[Node], source: str, number: int) -> str:
    nodes.append(conv(source, number))
    return nodes[-1].output


def residual(nodes: list[Node], source: str, number: int) -> str:
    nodes += [conv(source, number), Add(input=f"c{number}", other=source, output=f"a{number}"),
              Clamp(input=f"a{number}", output=f"r{number}", low=0.0)]  # fmt: skip
    return nodes[-1].output


def binary(nodes: list[Node], source: str, number: int) -> str:
    nodes += [Sign(input=source, output=f"s{number}"),
              conv(f"s{number}", number, activations="binary")]  # fmt: skip
    return nodes[-1].output


def joined(nodes: list[Node], source: str, number: int) -> str:
    half = Conv(input=source, output=f"h{number}", weight="h", kernel=(1, 1))
    other = Conv(input=source, output=f"o{number}", weight="h", kernel=(1, 1))
    nodes += [half, other, Concat(input=half.output, others=(other.output,), output=f"j{number}")]
    return nodes[-1].output


def chain(kind, count: int) -> Graph:
    nodes: list[Node] = []
    name = "x"
    for number in range(count):
        name = kind(nodes, name, number)
    tensors = {"w": words(64, 576), "h": words(32, 64)}
    read = {name for node in nodes for name in node.constants}
    topology = Topology(input="x", input_shape=(64, 4, 4), output=name, nodes=tuple(nodes))
    return Graph(topology=topology, tensors={n: t for n, t in tensors.items() if n in read})


def calls(graph: Graph) -> int:
    """Calls of functions, Python's and others, that planning takes."""
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


@pytest.mark.parametrize("kind", [plain, residual, binary, joined])
def test_planning_is_linear(kind) -> None:
    calls(chain(kind, 4))
    small, large = calls(chain(kind, 40)), calls(chain(kind, 160))
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
