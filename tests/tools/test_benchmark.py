"""What is compared and reported of one network; no test asserts a time."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_graph

from bwn.errors import BwnError
from bwn.ir.model_spec import ModelSpec
from bwn.kernels import bits
from bwn.model import Model
from bwn.ops.affine import Affine
from bwn.ops.dense import Dense
from bwn.ops.hard_swish import HardSwish
from bwn.ops.sign import Sign
from bwn.tools.benchmark import Benchmark, example_input, machine
from bwn.tools.benchmark_peers import installed_peers
from bwn.tools.random_networks import NETWORKS
from bwn.tools.timing import Timing

PEERS = ("onnxruntime",)
TIMINGS = {
    "bwn": Timing((1.0, 2.0, 4.0), 0.5, 30),
    "onnxruntime": Timing((3.0, 4.0, 4.0), 3.0, 20),
}
"""Seconds, of three turns."""


def test_rows_sum_up_the_turns() -> None:
    benchmark = Benchmark("mlp", NETWORKS["mlp"](0), 1)
    ours, theirs = benchmark.rows(4, TIMINGS)
    assert (ours.engine, ours.median_ms, ours.min_ms, ours.turns, ours.calls) == (
        "bwn", 2000, 500, 3, 30,
    )  # fmt: skip
    assert (ours.images_per_s, ours.speedup) == (2, None)
    assert (theirs.engine, theirs.median_ms, theirs.min_ms, theirs.speedup) == (
        "onnxruntime", 4000, 3000, 2,
    )  # fmt: skip
    (alone,) = benchmark.rows(4, {"bwn": TIMINGS["bwn"]})
    assert alone.speedup is None


def test_quantized_activations_are_not_held_to_the_tolerance() -> None:
    graph = signs_after_bias(0).graph
    node = Dense(input="x", output="y", weight="w", activations="int8")
    spec = ModelSpec(graph=make_graph(node, shape=(8,), w=graph.tensors["w"]))
    comparison = Benchmark("int8", spec, 1, PEERS).compare(8)["onnxruntime"]
    assert comparison.tolerance is None
    assert 1e-5 < comparison.error < 0.05


def test_both_engines_are_timed() -> None:
    benchmark = Benchmark("mlp", NETWORKS["mlp"](0), 1, PEERS)
    compared = benchmark.compare(3)["onnxruntime"]
    assert compared.tolerance is not None
    assert compared.error <= compared.tolerance
    ours, theirs = benchmark.time(3, 0.01)
    assert (ours.engine, theirs.engine) == ("bwn", "onnxruntime")
    assert ours.speedup is None
    assert theirs.speedup is not None
    assert ours.images_per_s == pytest.approx(3 / ours.median_ms * 1e3)


def test_a_wrong_result_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = Benchmark("mlp", NETWORKS["mlp"](0), 1, PEERS)
    right = benchmark.model.run
    monkeypatch.setattr(benchmark.model, "run", lambda x: right(x) * np.float32(1.01))
    with pytest.raises(BwnError, match="scores differ"):
        benchmark.compare(2)


NOT_IN_NCNN = make_graph(HardSwish(input="x", output="y"), shape=(8,))


@pytest.mark.skipif("ncnn" not in installed_peers(), reason="ncnn is not installed")
def test_ncnn_is_compared_where_it_has_the_operations() -> None:
    benchmark = Benchmark("mlp", NETWORKS["mlp"](0), 1, ("ncnn",))
    assert benchmark.compare(3)["ncnn"].same_class == 1
    assert [timing.engine for timing in benchmark.time(1, 0.01)] == ["bwn", "ncnn"]
    benchmark = Benchmark("swish", ModelSpec(graph=NOT_IN_NCNN), 1, ("ncnn",))
    result = benchmark.run(2, 0.01, layers=False, progress=lambda line: None)
    assert result.left_out == {"ncnn": "hard_swish is not implemented for ncnn"}
    assert {timing.engine for timing in result.timings} == {"bwn"}


def test_a_peer_with_wrong_scores_is_left_out() -> None:
    benchmark = Benchmark("mlp", NETWORKS["mlp"](0), 1)
    benchmark.peers.runs["ncnn"] = lambda x: benchmark.model.run(x) * np.float32(1.01)
    assert benchmark.compare(2) == {}
    assert benchmark.peers.left_out["ncnn"].startswith("scores differ from ncnn's by 0.0099 of ")
    assert [timing.engine for timing in benchmark.time(1, 0.01)] == ["bwn"]


def signs_after_bias(bias: float) -> ModelSpec:
    """Scores of the signs of x + bias."""
    nodes = (
        Affine(input="x", output="a", scale="one", bias="b"),
        Sign(input="a", output="s"),
        Dense(input="s", output="y", weight="w", activations="binary"),
    )
    words = bits.pack(np.random.default_rng(0).standard_normal((5, 8)))
    tensors = {"one": np.ones(8, np.float32), "b": np.full(8, bias, np.float32), "w": words}
    return ModelSpec(graph=make_graph(*nodes, shape=(8,), **tensors))


def test_a_sign_of_nearly_zero_may_fall_on_either_side() -> None:
    spec = signs_after_bias(0)
    number = example_input(spec, 3)[1, 4]
    benchmark = Benchmark("signs", signs_after_bias(-number), 1, PEERS)
    comparison = benchmark.compare(3)["onnxruntime"]
    assert (comparison.error, comparison.sign_ties) == (0, 0)
    benchmark.model = Model(signs_after_bias(-number - 1e-7), 1)
    comparison = benchmark.compare(3)["onnxruntime"]
    assert (comparison.error, comparison.sign_ties) == (0, 1)
    benchmark.model = Model(signs_after_bias(-number - 0.1), 1)
    with pytest.raises(BwnError, match="scores differ"):
        benchmark.compare(3)


def test_layers_cover_the_network() -> None:
    spec = NETWORKS["mlp"](0)
    layers = Benchmark("mlp", spec, 1).layers(2)
    assert [layer.name for layer in layers] == [
        "input",
        *(node.output for node in spec.graph.nodes),
        "output",
    ]
    assert sum(layer.macs for layer in layers) == 784 * 1024 + 2 * 1024 * 1024 + 1024 * 10


def test_the_machine_is_described() -> None:
    facts = machine(2)
    assert facts["threads"] == 2
    assert facts["cores"] >= 1
    assert "numba" in facts["versions"]
