"""Depthwise convolutions: planes read in place or as phases, over sizes around every edge."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from graphs import floats, legal_graph
from msgspec import structs
from plan_checks import agree

from bwn.ir.graph import Graph
from bwn.kernels import bits, registry
from bwn.kernels.registry import GEMMS
from bwn.ops.add import Add
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.hard_swish import HardSwish
from bwn.plan import depthwise_steps
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

Pair = tuple[int, int]


def depthwise(size: Pair, *after, channels=3, outputs=3, packed=False, **window) -> Graph:
    """A convolution of one channel a group, with scale, bias and bounds, and what comes after."""
    weights = floats(outputs, 1, *window["kernel"])
    if packed:
        weights = bits.pack(weights.reshape(outputs, -1))
    conv = Conv(
        input="x", output="y", weight="w", scale="a", bias="b", low=-1.0, high=2.0,
        groups=channels, **window,
    )  # fmt: skip
    vectors = {"a": floats(outputs, seed=1), "b": floats(outputs, seed=2)}
    return legal_graph(conv, *after, shape=(channels, *size), w=weights, **vectors)


def names(graph: Graph, **options) -> set[str]:
    return {step.kernel.name for step in make_plan(graph, 1, 1, **options).steps}


def check(graph: Graph, *, packed: bool = False) -> None:
    """Read in place: near the reference, and bit for bit as the kernel that reads phases."""
    assert registry.STRIDED.name in names(graph)
    agree(graph, 2, (1, 2))
    weights = "b1" if packed else "f32"
    (phases,) = (row for row in GEMMS if row.name == f"f32_{weights}_f32_planes_depthwise")
    assert registry.STRIDED.name not in names(graph, only=phases)
    x = floats(2, *graph.topology.input_shape, seed=3)
    ours, theirs = (Runner(make_plan(graph, 2, 2, only=kernel)).run(x) for kernel in (None, phases))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (2, 3), (3, 2), (1, 1), (4, 7)])
@pytest.mark.parametrize("stride", [(2, 2), (2, 1), (1, 2), (3, 3)])
@pytest.mark.parametrize("packed", [False, True])
def test_windows(kernel: Pair, stride: Pair, packed: bool) -> None:
    top, left = kernel[0] // 2, kernel[1] // 2
    for pads in ((0, 0, 0, 0), (top, left, 0, left)):
        check(
            depthwise((9, 37), packed=packed, kernel=kernel, stride=stride, pads=pads),
            packed=packed,
        )


@pytest.mark.parametrize("taps", [3, 5])
def test_every_width(taps: int) -> None:
    for width in (*range(taps, 12), *range(28, 38), *range(60, 70), 97, 128, 131):
        window = {"kernel": (3, taps), "stride": (2, 2), "pads": (1, taps // 2, 1, taps // 2)}
        check(depthwise((5, width), **window))


@pytest.mark.parametrize("stride", [(2, 2), (1, 8), (5, 3)])
def test_dilations_and_several_outputs_of_a_channel(stride: Pair) -> None:
    for outputs, dilation in product((3, 6, 12), ((1, 1), (2, 3))):
        window = {"kernel": (3, 3), "pads": (1, 2, 2, 1), "dilation": dilation}
        check(depthwise((11, 29), outputs=outputs, stride=stride, **window))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("after", [(), (HardSwish(input="y", output="z"),)], ids=["", "swish"])
def test_small_planes_of_several_channels(after: tuple, packed: bool) -> None:
    """Bit for bit as the kernel of tiles, which sums in the same order."""
    weights = "b1" if packed else "f32"
    ours, tiles = (
        next(row for row in GEMMS if row.name == f"f32_{weights}_f32_planes_{variant}")
        for variant in ("depthwise", "multiply")
    )
    for size, taps in product(((1, 1), (2, 2), (3, 3), (4, 4), (5, 4)), (3, 5)):
        for channels in (3, 4, 5, 9):
            window = {"kernel": (taps, taps), "pads": (taps // 2,) * 4, "channels": channels}
            graph = depthwise(size, *after, outputs=channels, packed=packed, **window)
            x = floats(3, *graph.topology.input_shape, seed=3)
            expected = Runner(make_plan(graph, 3, 1, only=tiles)).run(x)
            for threads in (1, 2):
                plan = make_plan(graph, 3, threads, only=ours, split="always")
                np.testing.assert_array_equal(Runner(plan).run(x), expected)
            agree(graph, 3, (1,))


@pytest.mark.parametrize(
    "after",
    [
        (HardSwish(input="y", output="z"),),
        (Add(input="y", other="y0", output="z"), Clamp(input="z", output="c", low=0.0)),
    ],
    ids=["activation", "added"],
)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_what_follows(after: tuple, stride: Pair) -> None:
    for width in (7, 33, 70):
        window = {"kernel": (3, 3), "stride": stride, "pads": (1, 1, 1, 1)}
        graph = depthwise((6, width), **window)
        if len(after) == 2:
            other = Conv(input="x", output="y0", weight="w", groups=3, **window)
            graph = legal_graph(other, *graph.nodes, *after, shape=(3, 6, width), **graph.tensors)
        else:
            graph = legal_graph(*graph.nodes, *after, shape=(3, 6, width), **graph.tensors)
        agree(graph, 2, (1, 2))


def test_large_planes_take_several_chunks_of_sums() -> None:
    window = {"kernel": (3, 3), "pads": (1, 1, 1, 1)}
    graph = depthwise((40, 70), HardSwish(input="y", output="z"), **window)
    assert "f32_f32_f32_planes_depthwise" in names(graph)
    agree(graph, 2)


def test_a_stride_past_the_guard_is_copied() -> None:
    window = {"kernel": (3, 3), "stride": (1, depthwise_steps.MAX_STEP + 1)}
    graph = depthwise((5, 40), **window)
    assert registry.STRIDED.name not in names(graph)
    agree(graph, 2)


def test_one_of_few_products_is_taken_by_its_own_kernel() -> None:
    window = {"kernel": (3, 3), "pads": (1, 1, 1, 1)}
    for packed, weights in ((False, "f32"), (True, "b1")):
        graph = depthwise((14, 14), channels=64, outputs=64, packed=packed, **window)
        assert f"f32_{weights}_f32_planes_depthwise" in names(graph)


def bytes_graph(size: Pair, weights: str, activations: str, scale: float | None, **window) -> Graph:
    """Two depthwise layers of 8 bits, the first with a stride: it ends in 8 bits if it may."""
    rng, channels = np.random.default_rng(7), 3
    kinds = {"activations": activations, "input_scale": scale, "groups": channels}
    rows = rng.integers(-127, 128, (channels, 1, *window["kernel"])).astype(np.int8)
    if weights == "b1":
        rows = bits.pack(np.where(rows < 0, -1, 1).reshape(channels, -1))
    first = Conv(input="x", output="y", weight="w", scale="a", bias="b", low=0.0, **kinds, **window)
    second = Conv(input="y", output="z", weight="v", kernel=(1, 1), **kinds)
    ones = bits.pack(np.ones((channels, 1), np.int8))
    vectors = {"a": np.full(channels, 2.0**-6, np.float32), "b": floats(channels, seed=2)}
    return legal_graph(first, second, shape=(channels, *size), w=rows, v=ones, **vectors)


@pytest.mark.skipif(registry.STRIDED_RUNS is None, reason="no dot products of bytes")
@pytest.mark.parametrize("weights", ["b1", "i8"])
@pytest.mark.parametrize(
    ("activations", "scale"), [("int8", 0.03), ("int8", None), ("uint8", 0.02)]
)
def test_bytes_are_read_in_place_too(weights: str, activations: str, scale: float | None) -> None:
    phases = next(row for row in GEMMS if row.name == f"i8_{weights}_f32_planes_depthwise")
    for kernel, size in product(
        ((3, 3), (1, 5), (4, 2), (5, 7)), ((7, 7), (6, 15), (5, 33), (12, 64), (9, 131))
    ):
        pads = (kernel[0] // 2, kernel[1] // 2) * 2
        for stride, dilation in (((2, 2), (1, 1)), ((1, 2), (1, 2)), ((3, 2), (1, 1))):
            window = {"kernel": kernel, "pads": pads, "stride": stride, "dilation": dilation}
            if any(size[i] + 2 * pads[i] <= dilation[i] * (kernel[i] - 1) for i in (0, 1)):
                continue
            graph = bytes_graph(size, weights, activations, scale, **window)
            assert registry.STRIDED_RUNS.name in names(graph)
            agree(graph, 2, (1, 2))
            x = floats(2, *graph.topology.input_shape, seed=3)
            first = Graph(
                topology=structs.replace(graph.topology, nodes=graph.nodes[:1], output="y"),
                tensors={name: graph.tensors[name] for name in "wab"},
            )
            ours, theirs = (
                Runner(make_plan(first, 2, 2, only=only)).run(x) for only in (None, phases)
            )
            np.testing.assert_array_equal(ours, theirs)


def test_bytes_with_another_stride_are_copied() -> None:
    for stride in ((2, 1), (3, 3), (2, 4)):
        window = {"kernel": (3, 3), "stride": stride}
        graph = bytes_graph((9, 20), "b1", "int8", 0.03, **window)
        assert not any("strided" in name for name in names(graph))
        agree(graph, 2)
