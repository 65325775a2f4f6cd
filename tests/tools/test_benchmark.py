"""The rules of measuring; no test asserts a time."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bwn.errors import BwnError
from bwn.ir.graph import Graph, Topology
from bwn.ir.model_spec import ModelSpec
from bwn.kernels import bits
from bwn.model import Model
from bwn.ops import Affine, Dense, Sign
from bwn.tools import benchmark as bench_module
from bwn.tools.benchmark import Bench, example_input, machine, take_turns
from bwn.tools.random_networks import NETWORKS

TIMES = {"bwn": [1.0, 2.0, 4.0], "onnxruntime": [3.0, 4.0, 4.0]}
"""Seconds of three rounds."""


def test_calls_take_turns() -> None:
    order: list[str] = []
    times = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 0.001)
    assert len(times["a"]) == len(times["b"]) >= 5
    measured = order[-2 * len(times["a"]) :]
    assert measured == ["a", "b"] * len(times["a"])


def test_rounds_and_warm_up_follow_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = [0.0], {"a": 0, "b": 0}
    monkeypatch.setattr(bench_module, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def call(name: str, seconds: float) -> None:
        now[0] += seconds
        calls[name] += 1

    times = take_turns({"a": lambda: call("a", 0.0625), "b": lambda: call("b", 0.125)}, 1.0)
    assert times == {
        "a": [0.0625] * 11,
        "b": [0.125] * 11,
    }  # the first round that begins after 2 seconds is left out
    assert calls == {"a": 11 + 4, "b": 11 + 2}  # 0.2 seconds of warm-up each


def test_a_timing_sums_up_its_rounds() -> None:
    bench = Bench("mlp", NETWORKS["mlp"](0), 1, compare=False)
    ours, theirs = bench._timing("bwn", 4, TIMES), bench._timing("onnxruntime", 4, TIMES)
    assert (ours.median_ms, ours.min_ms, ours.rounds, ours.images_per_s, ours.speedup) == (
        2000,
        1000,
        3,
        2,
        2,
    )
    assert (theirs.median_ms, theirs.min_ms, theirs.speedup) == (4000, 3000, None)
    assert bench._timing("bwn", 4, {"bwn": [1.0]}).speedup is None


def test_rounded_activations_are_not_held_to_the_tolerance() -> None:
    graph = signs_after_bias(0).graph
    node = Dense(input="x", output="y", weight="w", activations="int8")
    topology = Topology(input="x", input_shape=(8,), output="y", nodes=(node,))
    spec = ModelSpec(graph=Graph(topology=topology, tensors={"w": graph.tensors["w"]}))
    found = Bench("int8", spec, 1, compare=True).compare(8)
    assert found is not None
    assert found.tolerance is None
    assert 1e-5 < found.error < 0.05


def test_timings_stand_beside_onnxruntime() -> None:
    bench = Bench("mlp", NETWORKS["mlp"](0), 1, compare=True)
    compared = bench.compare(3)
    assert compared is not None
    assert compared.tolerance is not None
    assert compared.error <= compared.tolerance
    ours, theirs = bench.time(3, 0.01)
    assert (ours.engine, theirs.engine) == ("bwn", "onnxruntime")
    assert ours.speedup is not None
    assert theirs.speedup is None
    assert ours.images_per_s == pytest.approx(3 / ours.median_ms * 1e3)


def test_a_wrong_result_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench("mlp", NETWORKS["mlp"](0), 1, compare=True)
    right = bench.model.run
    monkeypatch.setattr(bench.model, "run", lambda x: right(x) * np.float32(1.01))
    with pytest.raises(BwnError, match="scores differ"):
        bench.compare(2)


def signs_after_bias(bias: float) -> ModelSpec:
    """Scores of the signs of x + bias."""
    nodes = (
        Affine(input="x", output="a", scale="one", bias="b"),
        Sign(input="a", output="s"),
        Dense(input="s", output="y", weight="w", activations="binary"),
    )
    words = bits.pack(np.random.default_rng(0).standard_normal((5, 8)))
    tensors = {"one": np.ones(8, np.float32), "b": np.full(8, bias, np.float32), "w": words}
    topology = Topology(input="x", input_shape=(8,), output="y", nodes=nodes)
    return ModelSpec(graph=Graph(topology=topology, tensors=tensors))


def test_a_sign_of_nearly_zero_may_fall_on_either_side() -> None:
    spec = signs_after_bias(0)
    number = example_input(spec, 3)[1, 4]
    bench = Bench("signs", signs_after_bias(-number), 1, compare=True)
    found = bench.compare(3)
    assert found is not None
    assert (found.error, found.sign_ties) == (0, 0)
    bench.model = Model(signs_after_bias(-number - 1e-7), 1)
    found = bench.compare(3)
    assert found is not None
    assert (found.error, found.sign_ties) == (0, 1)
    bench.model = Model(signs_after_bias(-number - 0.1), 1)
    with pytest.raises(BwnError, match="scores differ"):
        bench.compare(3)


def test_layers_cover_the_network() -> None:
    spec = NETWORKS["mlp"](0)
    layers = Bench("mlp", spec, 1, compare=False).layers(1, 2)
    assert [layer.name for layer in layers] == [
        "input",
        *(node.output for node in spec.graph.nodes),
        "output",
    ]
    assert sum(layer.macs for layer in layers) == 784 * 1024 + 2 * 1024 * 1024 + 1024 * 10


def test_the_machine_is_described() -> None:
    found = machine(2)
    assert found["threads"] == 2
    assert found["cores"] >= 1
    assert "numba" in found["versions"]
