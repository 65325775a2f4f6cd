"""Depthwise layers by products of bytes: every window whose taps form runs, and those that do not.

`test_every_gemm.py` has inputs that are no neighbors.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from bwn.ir.graph import Graph, Topology
from bwn.kernels import bits
from bwn.kernels.gemm.gemm_spec import RunsGemm
from bwn.kernels.registry import GEMMS
from bwn.ops.conv import Conv
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

ROWS = [row for row in GEMMS if isinstance(row, RunsGemm)]
SIZES = ((1, 1), (1, 9), (7, 7), (13, 5), (15, 16), (20, 33))


def layer(row: RunsGemm, size: tuple[int, int], outputs: int = 1, **window) -> Graph:
    """A depthwise layer of three channels whose output feeds nothing, so it is float32."""
    rng, channels = np.random.default_rng(3), 3
    depth = int(np.prod(window["kernel"]))
    weight = rng.integers(-127, 128, (channels * outputs, 1, *window["kernel"])).astype(np.int8)
    if row.weights == "b1":
        weight = bits.pack(np.where(weight < 0, -1, 1).reshape(len(weight), depth))
    conv = Conv(
        input="x", output="y", weight="weight", groups=channels, activations="int8",
        input_scale=1.0, **window,
    )  # fmt: skip
    topology = Topology(input="x", input_shape=(channels, *size), output="y", nodes=(conv,))
    return Graph(topology=topology, tensors={"weight": weight})


def check(graph: Graph, row: RunsGemm, images: int = 2) -> None:
    shape = (images, *graph.topology.input_shape)
    x = np.random.default_rng(4).integers(-127, 128, shape).astype(np.float32)
    expected = graph.nodes[0].reference([x], graph.tensors)
    for threads in (1, 3):
        plan = make_plan(graph, images, threads, only=row, split="always")
        np.testing.assert_array_equal(Runner(plan).run(x), expected)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 2), (3, 1)], ids=str)
def test_a_depthwise_layer_is_exact(row: RunsGemm, stride: tuple[int, int]) -> None:
    for kernel, dilation in product(
        ((1, 1), (3, 3), (1, 3), (2, 2), (5, 5), (3, 8), (7, 7)), ((1, 1), (1, 2))
    ):
        for size in SIZES:
            pads = (kernel[0] // 2, kernel[1] // 2) * 2
            span = [dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
            if all(size[i] + 2 * pads[i] >= span[i] for i in (0, 1)):
                window = {"kernel": kernel, "dilation": dilation, "stride": stride, "pads": pads}
                check(layer(row, size, **window), row)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_several_outputs_of_a_group(row: RunsGemm) -> None:
    check(layer(row, (14, 15), outputs=3, kernel=(3, 3), pads=(1, 1, 1, 1)), row)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_long_runs_and_none(row: RunsGemm) -> None:
    check(layer(row, (20, 20), kernel=(1, 17)), row)
    check(layer(row, (40, 30), kernel=(13, 4), dilation=(1, 5)), row)
    check(layer(row, (30, 40), kernel=(3, 31), stride=(1, 10)), row)  # phases past RECENT
