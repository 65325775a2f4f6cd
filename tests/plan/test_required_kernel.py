"""A plan limited to one GEMM kernel runs its layers with that kernel, or is refused."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import conv3x3, floats, legal_graph, signs, words

from bwn.errors import GraphError
from bwn.ir.graph import Graph
from bwn.ir.tolerance import in_tolerances, tolerance
from bwn.kernels.registry import GEMMS, GemmSpec, LutPermuteGemm
from bwn.ops.dense import Dense
from bwn.ops.sign import Sign
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

ACTIVATIONS = {"f32": "float32", "i8": "int8", "s1": "binary"}
INPUTS, OUTPUTS = 256, 24


def signs_then_dense(spec: GemmSpec) -> Graph:
    """A Sign, so that any type of activations may read it, and a layer of the kernel's types."""
    weights = words(OUTPUTS, INPUTS)
    if spec.weights != "b1":
        weights = signs(OUTPUTS, INPUTS).astype(np.float32 if spec.weights == "f32" else np.int8)
    dense = Dense(input="s", output="y", weight="w", activations=ACTIVATIONS[spec.activations])
    return legal_graph(Sign(input="x", output="s"), dense, shape=(INPUTS,), w=weights)


@pytest.mark.parametrize("spec", GEMMS, ids=lambda spec: spec.name)
def test_the_layer_runs_with_the_kernel_asked_for(spec: GemmSpec) -> None:
    graph = signs_then_dense(spec)
    x = floats(3, INPUTS)
    plan = make_plan(graph, 3, 1, only=spec)
    (step,) = (step for step in plan.steps if step.work)
    assert (step.kernel, step.why) == (spec, "the one asked for")
    bits = graph.nodes[0].reference([x], graph.tensors)
    expected = graph.nodes[1].reference([bits], graph.tensors)
    allowed = tolerance(graph, graph.nodes[1], [bits])
    assert in_tolerances(Runner(plan).run(x), expected, allowed) <= 1


def test_a_layer_that_the_kernel_cannot_read_is_refused() -> None:
    float32, signs = (
        next(spec for spec in GEMMS if spec.activations == kind and spec.weights == "b1")
        for kind in ("f32", "s1")
    )
    with pytest.raises(GraphError, match=f"dense 'y': kernel {float32.name} cannot compute it"):
        make_plan(signs_then_dense(signs), 1, 1, only=float32)


@pytest.mark.parametrize(
    ("blocks", "outputs", "threads", "units"),
    [
        (15, 24, 2, 30),  # 15 blocks are no even share for two: each takes half of the channels
        (16, 24, 2, 16),
        (14, 24, 2, 14),
        (17, 24, 2, 17),  # so many blocks that an odd one is no loss
        (15, 21, 2, 15),
        (1, 24, 3, 3),
    ],
)
def test_output_channels_are_divided_where_blocks_are_not_even_shares(
    blocks: int, outputs: int, threads: int, units: int
) -> None:
    (spec,) = (spec for spec in GEMMS if spec.name == "f32_f32_f32_planes_multiply")
    dense = Dense(input="x", output="y", weight="w")
    graph = legal_graph(dense, shape=(8,), w=floats(outputs, 8))
    plan = make_plan(graph, blocks * spec.lanes, threads, only=spec, split="always")
    (step,) = (step for step in plan.steps if step.work)
    assert (step.units, step.parts) == (units, threads)


PERMUTE = [spec for spec in GEMMS if isinstance(spec, LutPermuteGemm) and spec.activations == "f32"]


@pytest.mark.parametrize("spec", PERMUTE, ids=lambda spec: spec.name)
@pytest.mark.parametrize(
    ("size", "dilation", "groups", "batch", "threads", "bands"),
    [
        ((8, 8), 1, 1, 1, 1, 1),
        ((32, 32), 1, 1, 1, 1, 3),  # of 384 positions, roughly
        ((8, 200), 2, 1, 1, 1, 2),  # or as many as the taps reach over
        ((32, 32), 1, 1, 1, 4, 4),  # one for each thread
        ((32, 32), 1, 1, 3, 8, 3),  # which images and groups give too
        ((32, 32), 1, 2, 3, 24, 4),
        ((4, 4), 1, 1, 1, 8, 4),  # no more than blocks
    ],
)
def test_bands_stay_in_the_cache_and_every_thread_has_one(
    spec: GemmSpec,
    size: tuple[int, int],
    dilation: int,
    groups: int,
    batch: int,
    threads: int,
    bands: int,
) -> None:
    conv = conv3x3("x", "y", pads=(dilation,) * 4, dilation=(dilation,) * 2, groups=groups)
    graph = legal_graph(conv, shape=(8, *size), **{"y.w": words(4, 8 // groups * 9)})
    plan = make_plan(graph, batch, threads, only=spec, split="always")
    (step,) = (step for step in plan.steps if step.work)
    assert step.units == bands * groups * batch
