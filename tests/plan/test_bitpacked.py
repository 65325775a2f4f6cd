"""Plans that keep signs packed: which steps they make, and that no tensor differs from a plan that keeps all."""

from __future__ import annotations

import numpy as np
import pytest

from bwn.ir.checker import check
from bwn.ir.graph import Graph, Topology
from bwn.ir.interpreter import evaluate_node
from bwn.ir.node import Array, Node, Shape
from bwn.ir.tolerance import in_tolerances, tolerance
from bwn.kernels import bits
from bwn.ops import Add, Conv, Dense, Flatten, Pool, Sign
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

GEMMS, SIGNS, PACK = "b1_b1_f32_planes_xnor", "b1_b1_b1_signs_xnor", "f32_b1_sign"
SAME = {"kernel": (3, 3), "pads": (1, 1, 1, 1), "activations": "binary"}


def graph_of(shape: Shape, *nodes: Node, seed: int = 0, **sizes: tuple[int, int]) -> Graph:
    """sizes: (outputs, K) of the packed weights of that name; scales and biases that nodes read are made too."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, Array] = {}
    read = {name for node in nodes for name in node.constants}
    for name, (outputs, depth) in sizes.items():
        tensors[name] = bits.pack(rng.standard_normal((outputs, depth)))
        for vector in sorted({f"{name}.s", f"{name}.b"} & read):
            tensors[vector] = rng.normal(0, 1, outputs).astype(np.float32)
    topology = Topology(input="x", input_shape=shape, output=nodes[-1].output, nodes=nodes)
    graph = Graph(topology=topology, tensors=tensors)
    check(graph)
    return graph


def conv(source: str, output: str, weight: str, **more: object) -> Conv:
    return Conv(
        input=source,
        output=output,
        weight=weight,
        scale=f"{weight}.s",
        bias=f"{weight}.b",
        **{**SAME, **more},
    )


def kernels(graph: Graph, batch: int = 1, *, keep_all: bool = False) -> list[str]:
    return [step.kernel.name for step in make_plan(graph, batch, 1, keep_all=keep_all).steps[2:-1]]


def agree(graph: Graph, batch: int, odd: float | None = None) -> None:
    """Run beside a plan that keeps all, each node of which is held against the plain reference."""
    x = (
        np.random.default_rng(1)
        .standard_normal((batch, *graph.topology.input_shape))
        .astype(np.float32)
    )
    if odd is not None:
        x[0].flat[3] = odd
    plan = make_plan(graph, batch, 1, keep_all=True)
    reads = {step.kernel.name for step in plan.steps}
    assert not reads & {SIGNS, "f32_f32_b1_signs_multiply"}, "a plan that keeps all fuses nothing"
    scores = Runner(plan).run(x)
    made = {name: plan.tensor(name) for name in plan.tensors}
    assert set(made) == {"x", *(node.output for node in graph.nodes)}
    for node in graph.nodes:
        inputs = [made[name] for name in node.inputs]
        assert made[node.output].shape == evaluate_node(graph, node, inputs).shape
        if odd is None:
            far = in_tolerances(
                made[node.output],
                evaluate_node(graph, node, inputs),
                tolerance(graph, node, inputs),
            )
            assert far <= 1, f"{node}: {far}"
    for threads in (1, 2):
        plan = make_plan(graph, batch, threads)
        plan.memory[:] = 0xFF
        np.testing.assert_array_equal(Runner(plan).run(x), scores)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_chain_stays_packed(batch: int) -> None:
    graph = graph_of(
        (64, 9, 8), Sign(input="x", output="s"), conv("s", "a", "u", low=-1.0), Sign(input="a", output="t"),
        conv("t", "b", "v", stride=(2, 2)), Pool(input="b", output="p", kind="max", kernel=(2, 2), pads=(0, 1, 1, 0)),
        Sign(input="p", output="q"), Flatten(input="q", output="f"),
        Dense(input="f", output="y", weight="w", activations="binary"),
        u=(70, 576), v=(33, 630), w=(5, 33 * 5 * 4),
    )  # fmt: skip
    agree(graph, batch)
    assert kernels(graph, batch) == [PACK, SIGNS, SIGNS, "b1_b1_max_pool", GEMMS]
    assert SIGNS not in kernels(graph, batch, keep_all=True)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_become_signs(odd: float) -> None:
    graph = graph_of(
        (64, 4, 4), Pool(input="x", output="p", kind="max", kernel=(2, 2)), Sign(input="p", output="s"),
        conv("s", "a", "u"), Sign(input="a", output="t"), conv("t", "y", "v"), u=(40, 576), v=(3, 360),
    )  # fmt: skip
    agree(graph, 2, odd)


def test_what_two_nodes_read_is_made_for_both() -> None:
    """Residuals: sums, signs as numbers, and signs as bits of one tensor."""
    graph = graph_of(
        (64, 5, 6), Sign(input="x", output="s"), conv("s", "a", "u"), Add(input="a", other="x", output="b"),
        Sign(input="b", output="t"), conv("t", "c", "v"), Add(input="c", other="t", output="d"),
        Sign(input="d", output="e"), conv("e", "g", "u"), Add(input="g", other="b", output="y"),
        u=(64, 576), v=(64, 576),
    )  # fmt: skip
    agree(graph, 2)
    names = kernels(graph, 2)
    assert names.count(GEMMS) == 3
    assert names.count(PACK) == 3
    assert names.count("b1_f32_unpack") == 1


@pytest.mark.parametrize("pooled", [False, True])
def test_sums_that_others_read_too_are_made(pooled: bool) -> None:
    middle = Pool(input="a", output="p", kind="max", kernel=(1, 1))
    end = "p" if pooled else "a"
    graph = graph_of(
        (64, 4, 5), Sign(input="x", output="s"), conv("s", "a", "u"), *([middle] if pooled else []),
        Sign(input=end, output="t"), conv("t", "c", "v"), Add(input="c", other=end, output="y"),
        u=(64, 576), v=(64, 576),
    )  # fmt: skip
    agree(graph, 2)
    assert kernels(graph).count(GEMMS) == 2


def test_an_output_of_signs_is_numbers() -> None:
    graph = graph_of(
        (40, 3, 3), Sign(input="x", output="s"), conv("s", "a", "u"), Sign(input="a", output="t"),
        conv("t", "b", "v"), Sign(input="t", output="y"), u=(40, 360), v=(1, 360),
    )  # fmt: skip
    agree(graph, 3)


@pytest.mark.parametrize("batch", [1, 2, 17])
def test_vectors(batch: int) -> None:
    dense = {"activations": "binary"}
    graph = graph_of(
        (100,), Sign(input="x", output="s"), Dense(input="s", output="a", weight="u", scale="u.s", bias="u.b", **dense),
        Sign(input="a", output="t"), Flatten(input="t", output="f"),
        Dense(input="f", output="b", weight="v", bias="v.b", **dense), Sign(input="b", output="y"),
        u=(130, 100), v=(9, 130),
    )  # fmt: skip
    agree(graph, batch)
    assert kernels(graph, batch) == [PACK, SIGNS, SIGNS, "b1_f32_unpack"]


def test_a_flattening_is_read_by_all_kinds() -> None:
    """Flattened bits as bits, and as numbers in the order of the planes; flattened again, and a sign once more."""
    graph = graph_of(
        (48, 3, 2), Sign(input="x", output="s"), Flatten(input="s", output="f"), Flatten(input="f", output="g"),
        Sign(input="g", output="h"), Dense(input="h", output="a", weight="u", activations="binary"),
        Dense(input="g", output="b", weight="u"), Add(input="a", other="b", output="y"), u=(7, 288),
    )  # fmt: skip
    agree(graph, 3)


@pytest.mark.parametrize(("channels", "groups", "name"), [
    (128, 2, GEMMS), (96, 2, "s1_b1_f32_planes_lookup"), (20, 1, "s1_b1_f32_planes_lookup"), (26, 1, GEMMS),
])  # fmt: skip
def test_signs_that_do_not_fill_words_stay_in_planes(channels: int, groups: int, name: str) -> None:
    graph = graph_of(
        (channels, 6, 6), Sign(input="x", output="s"), conv("s", "y", "u", groups=groups),
        u=(channels, channels // groups * 9),
    )  # fmt: skip
    agree(graph, 2)
    assert name in kernels(graph)


@pytest.mark.parametrize("channels", [30, 64, 130])
@pytest.mark.parametrize("width", [1, 15, 16, 17, 33])
def test_planes_become_bits_and_bits_planes(channels: int, width: int) -> None:
    graph = graph_of(
        (channels, 2, width), Sign(input="x", output="s"), conv("s", "a", "u", kernel=(1, 1), pads=(0, 0, 0, 0)),
        Add(input="s", other="a", output="y"), u=(channels, channels),
    )  # fmt: skip
    agree(graph, 2)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (3, 3)])
@pytest.mark.parametrize(("kernel", "stride", "pads"), [
    ((2, 2), (2, 2), (0, 0, 0, 0)), ((3, 3), (2, 2), (1, 1, 1, 1)), ((3, 2), (1, 3), (0, 1, 2, 0)),
])  # fmt: skip
def test_a_maximum_of_bits(size: tuple[int, int], kernel, stride, pads) -> None:
    graph = graph_of(
        (130, *size), Sign(input="x", output="s"),
        Pool(input="s", output="p", kind="max", kernel=kernel, stride=stride, pads=pads), conv("p", "y", "u"),
        u=(2, 1170),
    )  # fmt: skip
    agree(graph, 2)
    assert "b1_b1_max_pool" in kernels(graph)


@pytest.mark.parametrize("outputs", [26, 32, 64, 67, 130])
@pytest.mark.parametrize("window", [
    {}, {"stride": (2, 2)}, {"stride": (1, 3), "kernel": (2, 5), "pads": (0, 4, 1, 2)},
    {"pads": (2, 2, 2, 2)}, {"dilation": (2, 1), "pads": (1, 2, 3, 0)},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("odd", [None, np.nan])
def test_a_float_convolution_writes_signs(
    outputs: int, window: dict[str, object], odd: float | None
) -> None:
    rng = np.random.default_rng(2)
    size = {**SAME, "activations": "float32", **window}
    first = Conv(input="x", output="a", weight="w", scale="c", bias="d", low=-0.5, high=0.5, **size)
    nodes = (first, Sign(input="a", output="s"), conv("s", "y", "u"))
    tensors: dict[str, Array] = {
        "w": rng.standard_normal((outputs, 3, *first.kernel)).astype(np.float32),
        "c": rng.normal(0, 1, outputs).astype(np.float32), "d": rng.normal(0, 1, outputs).astype(np.float32),
        "u": bits.pack(rng.standard_normal((3, outputs * 9))), "u.s": np.ones(3, np.float32),
        "u.b": np.zeros(3, np.float32),
    }  # fmt: skip
    graph = Graph(
        topology=Topology(input="x", input_shape=(3, 9, 11), output="y", nodes=nodes),
        tensors=tensors,
    )
    check(graph)
    agree(graph, 3, odd)
    assert kernels(graph)[-2:] == ["f32_f32_b1_signs_multiply", GEMMS]
