"""Plans of layers with weights, over shapes, weight and activation types, batches and threads."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import conv3x3, floats, legal_graph, words
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_checks import agree, only

from bwn.ir.graph import Graph
from bwn.ir.node import Array, Node
from bwn.kernels import bits
from bwn.kernels.registry import GEMMS
from bwn.ops.add import Add
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

VARIANTS = {spec.variant for spec in GEMMS}
TYPES = [
    (False, "float32"),
    (True, "float32"),
    (True, "int8"),
    (True, "uint8"),
    (True, "binary"),
]
"""Whether weights have one bit, and the activations."""


def conv_graph(shape, outputs: int, *, packed: bool, activations: str, **window) -> Graph:
    """A convolution with scale, bias and a bound, after a Sign if its activations are binary."""
    weights = floats(outputs, shape[0] // window.get("groups", 1), *window["kernel"])
    if packed:
        weights = bits.pack(weights.transpose(0, 2, 3, 1).reshape(outputs, -1))
    layer = {"weight": "w", "scale": "a", "bias": "b", "low": -3.0, "activations": activations}
    nodes = [Conv(input="x", output="y", **layer, **window)]
    if activations == "binary":
        nodes = [Sign(input="x", output="s"), Conv(input="s", output="y", **layer, **window)]
    vectors = {"a": floats(outputs, seed=1), "b": floats(outputs, seed=2)}
    return legal_graph(*nodes, shape=shape, w=weights, **vectors)


CONVS = [
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


@pytest.mark.parametrize(("shape", "outputs", "window"), CONVS, ids=str)
@pytest.mark.parametrize(("packed", "activations"), TYPES)
@pytest.mark.parametrize("batch", [1, 3])
def test_convolutions(shape, outputs, window, packed, activations, batch) -> None:
    graph = conv_graph(shape, outputs, packed=packed, activations=activations, **window)
    agree(graph, batch)


WHOLE_ROWS = ((70, 6, 8), 65, {"kernel": (3, 3), "pads": (1, 1, 1, 1)})
BANDS = ((20, 33, 29), 20, {"kernel": (3, 5), "pads": (2, 2, 2, 2), "dilation": (2, 1)})
WIDE = [
    WHOLE_ROWS,  # rows of blocks without a remainder, two chunks
    ((44, 5, 7), 34, {"kernel": (3, 2), "stride": (2, 2), "pads": (2, 1, 0, 1), "groups": 2}),
    ((66, 7, 5), 130, {"kernel": (1, 1), "stride": (2, 2)}),
    BANDS,  # several bands
]


@pytest.mark.skipif("permute" not in VARIANTS, reason="this CPU cannot permute tables in registers")
@pytest.mark.parametrize(("shape", "outputs", "window"), [*CONVS, *WIDE], ids=str)
@pytest.mark.parametrize("activations", ["float32", "int8"])
@pytest.mark.parametrize("batch", [1, 3])
def test_convolutions_by_tables_in_registers(shape, outputs, window, activations, batch) -> None:
    graph = conv_graph(shape, outputs, packed=True, activations=activations, **window)
    agree(graph, batch, table=only("permute"))


EDGES = [
    ((13, height, width), 3, {"kernel": (3, 3), "pads": (1, 1, 1, 1)})
    for height in (1, 3, 4, 5, 7, 8, 15)
    for width in (1, 2, 3, 8, 9, 17, 33)
]
"""Maps around the edges of blocks of 4 x 2, 2 x 2 and 7 x 1 outputs, in 4 to 16 lanes."""


@pytest.mark.parametrize("variant", ["wide", "tall", "square"])
@pytest.mark.parametrize(("shape", "outputs", "window"), [*CONVS, *WIDE, *EDGES], ids=str)
@pytest.mark.parametrize("activations", ["float32", "int8"])
@pytest.mark.parametrize("batch", [1, 3])
def test_convolutions_by_tables_that_serve_all_taps(
    shape, outputs, window, activations, batch, variant
) -> None:
    if variant not in VARIANTS:
        pytest.skip("this CPU has no such kernel")
    graph = conv_graph(shape, outputs, packed=True, activations=activations, **window)
    agree(graph, batch, table=only(variant))


@pytest.mark.parametrize(
    ("depth", "outputs"), [(1, 1), (63, 5), (64, 8), (65, 9), (784, 33), (1000, 10)]
)
@pytest.mark.parametrize(("packed", "activations"), TYPES)
@pytest.mark.parametrize("batch", [1, 2, 16, 35])
def test_fully_connected(depth, outputs, packed, activations, batch) -> None:
    layer = {"weight": "w", "bias": "b", "high": 4.0, "activations": activations}
    nodes = [Dense(input="x", output="y", **layer)]
    if activations == "binary":
        nodes = [Sign(input="x", output="s"), Dense(input="s", output="y", **layer)]
    weights = words(outputs, depth) if packed else floats(outputs, depth)
    agree(legal_graph(*nodes, shape=(depth,), w=weights, b=floats(outputs)), batch)


def test_a_fixed_input_scale() -> None:
    node = Dense(input="x", output="y", weight="w", activations="int8", input_scale=0.011)
    agree(legal_graph(node, shape=(90,), w=words(7, 90)), 5)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
@pytest.mark.parametrize("activations", ["int8", "uint8"])
def test_an_image_that_is_not_finite_gives_nan_with_8_bit_activations(odd, activations) -> None:
    dense = Dense(input="x", output="y", weight="w", activations=activations)
    conv = Conv(input="x", output="y", weight="w", kernel=(3, 3), activations=activations)
    for graph in (
        legal_graph(dense, shape=(90,), w=words(7, 90)),
        legal_graph(conv, shape=(10, 5, 5), w=words(7, 90)),
    ):
        x = np.ones((3, *graph.topology.input_shape), np.float32)
        x[1].flat[17] = odd
        y = Runner(make_plan(graph, 3, 1)).run(x)
        assert np.isnan(y[1]).all()
        assert np.isfinite(y[[0, 2]]).all()


@pytest.mark.parametrize("activations", ["int8", "uint8"])
def test_with_a_fixed_input_scale_a_nan_counts_as_0(activations: str) -> None:
    node = Dense(input="x", output="y", weight="w", activations=activations, input_scale=1.0)
    graph = legal_graph(node, shape=(90,), w=bits.pack(np.ones((1, 90))))
    x = np.full((1, 90), np.nan, np.float32)
    x[0, 5] = 3
    assert Runner(make_plan(graph, 1, 1)).run(x).tolist() == [[3.0]]


def quantized_chain(activations: str) -> Graph:
    """Layers of which two quantize for the next; two layers read c."""
    mode = {"activations": activations}
    return legal_graph(
        Conv(input="x", output="c", weight="c.w", kernel=(3, 3), low=0.0),  # float32
        Conv(input="c", output="d0", weight="d0.w", kernel=(1, 1)),
        conv3x3("c", "d", bias="b", input_scale=0.07, **mode),
        Add(input="d", output="e", other="d0"),
        Clamp(input="e", output="f", low=0.0),
        conv3x3("f", "g", stride=(2, 1), input_scale=0.07, **mode),
        Pool(input="g", output="p", kind="average", kernel=(3, 6)),
        Flatten(input="p", output="q"),
        Dense(input="q", output="r", weight="r.w", low=0.0, input_scale=0.2, **mode),
        Dense(input="r", output="s", weight="s.w", input_scale=0.1, **mode),
        shape=(3, 8, 8),
        b=floats(20),
        **{"c.w": floats(18, 3, 3, 3), "d0.w": floats(20, 18, 1, 1)},
        **{"d.w": words(20, 162), "g.w": words(33, 180), "r.w": words(17, 33), "s.w": words(5, 17)},
    )


@pytest.mark.parametrize("activations", ["int8", "uint8"])
@pytest.mark.parametrize("batch", [1, 3])
def test_layers_quantize_for_the_next_one(activations: str, batch: int) -> None:
    graph = quantized_chain(activations)
    agree(graph, batch)
    steps = make_plan(graph, batch, 1).steps
    # Before g and before s: d0 and d both read c.
    assert sum("rounds to 8 bits" in step.why for step in steps) == 2


@pytest.mark.parametrize(("other_scale", "quantized"), [(None, 1), (0.07, 2)])
@pytest.mark.parametrize("batch", [1, 3])
def test_layers_that_read_the_same_integers_quantize_once(other_scale, quantized, batch) -> None:
    graph = legal_graph(
        Conv(input="x", output="c", weight="c.w", kernel=(3, 3)),
        conv3x3("c", "d", stride=(2, 2), activations="int8"),
        Conv(
            input="c", output="e", weight="e.w", kernel=(1, 1), stride=(2, 2), activations="int8",
            input_scale=other_scale,
        ),
        Add(input="d", output="f", other="e"),
        shape=(3, 9, 9),
        **{"c.w": floats(18, 3, 3, 3), "d.w": words(20, 162), "e.w": words(20, 18)},
    )  # fmt: skip
    agree(graph, batch)
    kernels = [step.kernel.name for step in make_plan(graph, batch, 1).steps]
    assert kernels.count("f32_i8_quantize") == quantized


@pytest.mark.parametrize("activations", ["int8", "uint8"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("variant", ["lookup", "single", "permute"])
def test_each_variant_quantizes_for_the_next_layer(activations, batch, variant) -> None:
    if variant not in VARIANTS:
        pytest.skip("this CPU cannot permute tables in registers")
    agree(quantized_chain(activations), batch, table=only(variant))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_random_chains_of_convolutions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes: list[Node] = []
    tensors: dict[str, Array] = {}
    shape = tuple(int(size) for size in (rng.integers(1, 7), *rng.integers(7, 13, 2)))
    channels = shape[0]
    for index in range(int(rng.integers(1, 4))):
        outputs, size = int(rng.integers(1, 10)), int(rng.integers(1, 4))
        layer = {
            "pads": (size // 2, (size - 1) // 2, int(rng.integers(0, size)), size // 2),
            "stride": (int(rng.integers(1, 3)), int(rng.integers(1, 3))),
            "activations": ("float32", "int8", "uint8")[rng.integers(3)],
        }
        source, output = nodes[-1].output if nodes else "x", f"t{index}"
        nodes.append(
            Conv(input=source, output=output, weight=f"{output}.w", kernel=(size, size), **layer)
        )
        tensors[f"{output}.w"] = words(outputs, channels * size * size, seed)
        channels = outputs
    agree(legal_graph(*nodes, shape=shape, **tensors), int(rng.integers(1, 4)), (2,))
