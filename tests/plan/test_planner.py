"""The planned kernels against the plain reference, node by node, over shapes, layouts, batches and threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bwn.ir.checker import check
from bwn.ir.graph import Graph, Topology
from bwn.ir.interpreter import evaluate_node
from bwn.ir.node import Array, Node
from bwn.ir.tolerance import in_tolerances, tolerance
from bwn.kernels import bits
from bwn.kernels.costs import Cost, Table
from bwn.kernels.registry import GEMMS, LutPermuteGemm
from bwn.ops import Add, Affine, Clamp, Conv, Dense, Flatten, Pool, Sign, Softmax
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner
from bwn.tools.random_networks import NETWORKS


@pytest.fixture(autouse=True)
def split_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a step, its threads share it."""
    monkeypatch.setattr("bwn.plan.state.WORTH_SPLITTING", -1)


def graph_of(shape: tuple[int, ...], *nodes: Node, **tensors: Array) -> Graph:
    topology = Topology(input="x", input_shape=shape, output=nodes[-1].output, nodes=nodes)
    graph = Graph(topology=topology, tensors=tensors)
    check(graph)
    return graph


def agree(
    graph: Graph,
    batch: int,
    threads: tuple[int, ...] = (1, 2, 3),
    seed: int = 0,
    table: Table | None = None,
) -> None:
    """Every tensor of a plan that keeps all is right, and plans that reuse memory give the same output, twice."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, *graph.topology.input_shape)).astype(np.float32)
    plan = make_plan(graph, batch, 1, keep_all=True, table=table)
    scores = Runner(plan).run(x)
    made = {name: plan.tensor(name) for name in plan.tensors}
    assert np.array_equal(made[graph.topology.input], x)
    for node in graph.nodes:
        inputs = [made[name] for name in node.inputs]
        expected = evaluate_node(graph, node, inputs)
        far = in_tolerances(made[node.output], expected, tolerance(graph, node, inputs))
        assert far <= 1, f"{node}: {far} tolerances away"
    assert np.array_equal(scores, made[graph.topology.output])
    for count in threads:
        runner = Runner(make_plan(graph, batch, count, table=table))
        for _ in range(2):  # a second run meets what the first left in memory
            assert np.array_equal(runner.run(x), scores), f"{count} threads differ"


def conv_graph(
    shape: tuple[int, int, int],
    outputs: int,
    *,
    binary: bool,
    mode: str,
    seed: int = 0,
    **attributes,
):
    rng = np.random.default_rng(seed)
    groups = attributes.get("groups", 1)
    kernel = attributes["kernel"]
    weights = rng.standard_normal((outputs, shape[0] // groups, *kernel)).astype(np.float32)
    if binary:
        order = weights.transpose(0, 2, 3, 1).reshape(outputs, -1)
        weights = bits.pack(order)
    nodes: list[Node] = [Sign(input="x", output="s")] if mode == "binary" else []
    nodes.append(
        Conv(input=nodes[-1].output if nodes else "x", output="y", weight="w", scale="a", bias="b", low=-3.0,
             activations=mode, **attributes)
    )  # fmt: skip
    scale, bias = (
        rng.normal(0, 1, outputs).astype(np.float32),
        rng.normal(0, 1, outputs).astype(np.float32),
    )
    return graph_of(shape, *nodes, w=weights, a=scale, b=bias)


SHAPES = [
    ((3, 9, 11), 5, {"kernel": (3, 3), "pads": (1, 1, 1, 1)}),
    ((4, 8, 8), 8, {"kernel": (1, 1)}),
    ((5, 7, 6), 3, {"kernel": (3, 2), "pads": (0, 1, 2, 1)}),
    ((2, 10, 9), 9, {"kernel": (3, 3), "stride": (2, 2), "pads": (1, 1, 1, 1)}),
    (
        (2, 11, 10),
        4,
        {"kernel": (5, 4), "stride": (3, 2), "pads": (2, 0, 1, 3), "dilation": (1, 2)},
    ),
    ((4, 9, 9), 6, {"kernel": (3, 3), "pads": (2, 2, 2, 2), "dilation": (2, 2), "groups": 2}),
    ((6, 8, 7), 6, {"kernel": (3, 3), "stride": (2, 1), "pads": (1, 1, 1, 1), "groups": 6}),
    ((3, 4, 4), 70, {"kernel": (4, 4)}),
    ((3, 2, 2), 4, {"kernel": (2, 2), "stride": (2, 2)}),
    ((65, 3, 3), 17, {"kernel": (3, 3), "pads": (1, 1, 1, 1)}),
    ((1, 1, 40), 3, {"kernel": (1, 3), "pads": (0, 1, 0, 1)}),
    ((2, 7, 7), 3, {"kernel": (1, 1), "stride": (2, 2)}),
    ((2, 5, 5), 3, {"kernel": (2, 2), "stride": (3, 3)}),
]


@pytest.mark.parametrize(("shape", "outputs", "attributes"), SHAPES, ids=str)
@pytest.mark.parametrize(
    ("binary", "mode"),
    [(False, "float32"), (True, "float32"), (True, "int8"), (True, "uint8"), (True, "binary")],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_convolutions(shape, outputs, attributes, binary, mode, batch) -> None:
    agree(conv_graph(shape, outputs, binary=binary, mode=mode, **attributes), batch)


WIDE = [
    (
        (70, 6, 8),
        65,
        {"kernel": (3, 3), "pads": (1, 1, 1, 1)},
    ),  # whole rows of blocks, two chunks
    ((44, 5, 7), 34, {"kernel": (3, 2), "stride": (2, 2), "pads": (2, 1, 0, 1), "groups": 2}),
    ((66, 7, 5), 130, {"kernel": (1, 1), "stride": (2, 2)}),
    (
        (20, 33, 29),
        20,
        {"kernel": (3, 5), "pads": (2, 2, 2, 2), "dilation": (2, 1)},
    ),  # several bands
]


@pytest.mark.skipif(
    not any(isinstance(row, LutPermuteGemm) for row in GEMMS),
    reason="this CPU has no permutes of tables in registers",
)
@pytest.mark.parametrize(("shape", "outputs", "attributes"), [*SHAPES, *WIDE], ids=str)
@pytest.mark.parametrize("mode", ["float32", "int8"])
@pytest.mark.parametrize("batch", [1, 3])
def test_convolutions_by_tables_in_registers(shape, outputs, attributes, mode, batch) -> None:
    costs = {
        row.name: Cost(0.0 if isinstance(row, LutPermuteGemm) else 1e9, 0, 0, 0) for row in GEMMS
    }
    graph = conv_graph(shape, outputs, binary=True, mode=mode, **attributes)
    agree(graph, batch, table=Table(costs, "measured", Path("nowhere")))


@pytest.mark.parametrize(
    ("depth", "outputs"), [(1, 1), (63, 5), (64, 8), (65, 9), (784, 33), (1000, 10)]
)
@pytest.mark.parametrize(
    ("binary", "mode"),
    [(False, "float32"), (True, "float32"), (True, "int8"), (True, "uint8"), (True, "binary")],
)
@pytest.mark.parametrize("batch", [1, 2, 16, 35])
def test_fully_connected(depth, outputs, binary, mode, batch) -> None:
    rng = np.random.default_rng(depth)
    weights = rng.standard_normal((outputs, depth)).astype(np.float32)
    nodes: list[Node] = [Sign(input="x", output="s")] if mode == "binary" else []
    last = nodes[-1].output if nodes else "x"
    nodes.append(Dense(input=last, output="y", weight="w", bias="b", high=4.0, activations=mode))
    agree(
        graph_of(
            (depth,),
            *nodes,
            w=bits.pack(weights) if binary else weights,
            b=np.ones(outputs, np.float32),
        ),
        batch,
    )


def test_fixed_quantization_step() -> None:
    words = bits.pack(np.random.default_rng(0).standard_normal((7, 90)))
    node = Dense(input="x", output="y", weight="w", activations="int8", input_scale=0.011)
    agree(graph_of((90,), node, w=words), 5)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
@pytest.mark.parametrize("mode", ["int8", "uint8"])
def test_an_image_with_no_number_in_it_has_no_8_bit_answer(odd: float, mode: str) -> None:
    words = bits.pack(np.random.default_rng(0).standard_normal((7, 90)))
    conv = Conv(input="x", output="y", weight="w", kernel=(3, 3), activations=mode)
    for graph in (
        graph_of((90,), Dense(input="x", output="y", weight="w", activations=mode), w=words),
        graph_of((10, 5, 5), conv, w=words),
    ):
        x = np.ones((3, *graph.topology.input_shape), np.float32)
        x[1].flat[17] = odd
        y = Runner(make_plan(graph, 3, 1)).run(x)
        assert np.isnan(y[1]).all()
        assert np.isfinite(y[[0, 2]]).all()


@pytest.mark.parametrize("mode", ["int8", "uint8"])
def test_a_nan_read_in_a_fixed_step_counts_as_0(mode: str) -> None:
    node = Dense(input="x", output="y", weight="w", activations=mode, input_scale=1.0)
    graph = graph_of((90,), node, w=bits.pack(np.ones((1, 90))))
    x = np.full((1, 90), np.nan, np.float32)
    x[0, 5] = 3
    assert Runner(make_plan(graph, 1, 1)).run(x).tolist() == [[3.0]]


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 7, 9), (1, 3, 3)])
@pytest.mark.parametrize(
    ("kernel", "stride", "pads"),
    [
        ((2, 2), (2, 2), (0, 0, 0, 0)),
        ((3, 3), (2, 2), (1, 1, 1, 1)),
        ((3, 2), (1, 3), (0, 1, 2, 0)),
        ((3, 3), (1, 1), (0, 0, 0, 0)),
    ],
)
@pytest.mark.parametrize("count_pads", [False, True])
def test_pooling(kind, shape, kernel, stride, pads, count_pads) -> None:
    node = Pool(
        input="x",
        output="y",
        kind=kind,
        kernel=kernel,
        stride=stride,
        pads=pads,
        count_pads=count_pads,
    )
    agree(graph_of(shape, node), 2)


@pytest.mark.parametrize(
    "window", [[np.nan, 1, 2, 3], [1, np.nan, 2, 3], [3, 2, 1, np.nan], [-np.inf] * 4]
)
def test_a_maximum_keeps_nan_and_infinity(window) -> None:
    graph = graph_of((1, 2, 2), Pool(input="x", output="y", kind="max", kernel=(2, 2)))
    x = np.array(window, np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(
        Runner(make_plan(graph, 1, 1)).run(x), np.max(x, axis=(2, 3), keepdims=True)
    )


@pytest.mark.parametrize("shape", [(5, 4, 7), (33,)])
@pytest.mark.parametrize("batch", [1, 4, 17])
def test_elementwise_chain(shape, batch) -> None:
    rng = np.random.default_rng(1)
    channels = shape[0]
    nodes = (
        Affine(input="x", output="a", scale="s", bias="b"),
        Clamp(input="a", output="c", low=0.25, high=1.5),
        Add(input="c", other="x", output="d"),
        Sign(input="d", output="e"),
        Add(input="e", other="a", output="f"),
    )
    scale, bias = (
        rng.normal(0, 1, channels).astype(np.float32),
        rng.normal(0, 1, channels).astype(np.float32),
    )
    agree(graph_of(shape, *nodes, s=scale, b=bias), batch)


@pytest.mark.parametrize("batch", [1, 20])
def test_softmax(batch) -> None:
    agree(graph_of((11,), Softmax(input="x", output="y")), batch)


def test_softmax_of_scores_beyond_exp() -> None:
    x = np.array([[-2000, -2001, -1e30], [2000, 1999, -5]], np.float32)
    found = Runner(make_plan(graph_of((3,), Softmax(input="x", output="y")), 2, 1)).run(x)
    e = np.exp(-1)
    np.testing.assert_allclose(found, [[1 / (1 + e), e / (1 + e), 0]] * 2, rtol=1e-6)


def test_signs_pass_through_pooling_and_flattening() -> None:
    rng = np.random.default_rng(2)
    nodes = (
        Sign(input="x", output="s"),
        Pool(input="s", output="p", kind="max", kernel=(3, 3), stride=(2, 2), pads=(1, 1, 1, 1)),
        Conv(
            input="p",
            output="c",
            weight="w",
            kernel=(3, 3),
            pads=(1, 1, 1, 1),
            activations="binary",
        ),
        Sign(input="c", output="t"),
        Flatten(input="t", output="f"),
        Dense(input="f", output="y", weight="v", activations="binary"),
    )
    tensors = {
        "w": bits.pack(rng.standard_normal((6, 45))),
        "v": bits.pack(rng.standard_normal((3, 96))),
    }
    graph = graph_of((5, 8, 8), *nodes, **tensors)
    for batch in (1, 20):
        agree(graph, batch)


@pytest.mark.parametrize("mode", ["int8", "uint8"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("way", [None, "lookup", "single", "permute"])
def test_products_round_for_the_next_one(mode, batch, way) -> None:
    rng = np.random.default_rng(5)
    tensors: dict[str, Array] = {"b": rng.normal(0, 1, 20).astype(np.float32)}
    window = {"kernel": (3, 3), "pads": (1, 1, 1, 1), "activations": mode, "input_scale": 0.07}
    nodes: list[Node] = [
        Conv(input="x", output="c", weight="first", kernel=(3, 3), low=0.0),  # float32
        Conv(input="c", output="d", weight="second", bias="b", **window),
        Add(input="d", output="e", other="d0"),
        Clamp(input="e", output="f", low=0.0),
        Conv(input="f", output="g", weight="third", **(window | {"stride": (2, 1)})),
        Pool(input="g", output="p", kind="average", kernel=(3, 6)),
        Flatten(input="p", output="q"),
        Dense(input="q", output="r", weight="fourth", low=0.0, activations=mode, input_scale=0.2),
        Dense(input="r", output="s", weight="fifth", activations=mode, input_scale=0.1),
    ]
    nodes.insert(1, Conv(input="c", output="d0", weight="zeroth", kernel=(1, 1)))
    tensors["first"] = rng.standard_normal((18, 3, 3, 3)).astype(np.float32)
    tensors["zeroth"] = rng.standard_normal((20, 18, 1, 1)).astype(np.float32)
    for name, shape in {
        "second": (20, 162),
        "third": (33, 180),
        "fourth": (17, 33),
        "fifth": (5, 17),
    }.items():
        tensors[name] = bits.pack(rng.standard_normal(shape))
    graph = graph_of((3, 8, 8), *nodes, **tensors)
    if way is None:
        agree(graph, batch)
        runs = [
            step.why for step in make_plan(graph, batch, 1).steps if "rounds to 8 bits" in step.why
        ]
        assert len(runs) == 2  # before g and before s; d0 and d both read c
        return
    if way not in {row.variant for row in GEMMS}:
        pytest.skip("this CPU has no permutes of tables in registers")
    costs = {row.name: Cost(0.0 if row.variant == way else 1e9, 0, 0, 0) for row in GEMMS}
    agree(graph, batch, table=Table(costs, "measured", Path("nowhere")))


def test_residual_of_a_padded_strided_network() -> None:
    rng = np.random.default_rng(3)
    nodes = (
        Conv(input="x", output="a", weight="w", kernel=(3, 3), pads=(1, 1, 1, 1), low=0.0),
        Conv(input="a", output="b", weight="v", kernel=(5, 5), pads=(2, 2, 2, 2)),
        Add(input="b", other="a", output="c"),
        Conv(input="c", output="d", weight="v", kernel=(5, 5), stride=(2, 2), pads=(2, 2, 2, 2)),
        Conv(input="c", output="e", weight="u", kernel=(1, 1), stride=(2, 2)),
        Add(input="d", other="e", output="f"),
    )
    tensors = {
        "w": bits.pack(rng.standard_normal((6, 27))),
        "v": bits.pack(rng.standard_normal((6, 150))),
        "u": rng.standard_normal((6, 6, 1, 1)).astype(np.float32),
    }
    for batch in (1, 3):
        agree(graph_of((3, 10, 9), *nodes, **tensors), batch)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_random_chains_of_convolutions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes: list[Node] = []
    tensors: dict[str, Array] = {}
    channels, height, width = (int(size) for size in (rng.integers(1, 7), *rng.integers(7, 13, 2)))
    shape = (channels, height, width)
    for index in range(int(rng.integers(1, 4))):
        outputs, size = int(rng.integers(1, 10)), int(rng.integers(1, 4))
        pads = (size // 2, (size - 1) // 2, int(rng.integers(0, size)), size // 2)
        stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        tensors[f"w{index}"] = bits.pack(rng.standard_normal((outputs, channels * size * size)))
        nodes.append(
            Conv(input=nodes[-1].output if nodes else "x", output=f"t{index}", weight=f"w{index}", kernel=(size, size),
                 pads=pads, stride=stride, activations=("float32", "int8", "uint8")[rng.integers(3)])
        )  # fmt: skip
        channels = outputs
    agree(graph_of(shape, *nodes, **tensors), int(rng.integers(1, 4)), (2,), seed)


@pytest.mark.parametrize("name", ["mlp", "vgg", "vgg-sign"])
def test_built_in_networks(name: str) -> None:
    agree(NETWORKS[name](0).graph, 2, (2,))


def test_memory_is_reused() -> None:
    graph = NETWORKS["vgg"](0).graph
    assert make_plan(graph, 1, 1).bytes * 2 < make_plan(graph, 1, 1, keep_all=True).bytes
