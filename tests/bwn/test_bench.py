"""The rules of measuring; no test asserts a time."""

from __future__ import annotations

import numpy as np
import pytest

from bwn.bench import Bench, example_input, machine, take_turns
from bwn.errors import BwnError
from bwn.graph import Affine, Dense, Graph, Packed, Sign, Topology
from bwn.kernels import bits
from bwn.model import Model
from bwn.networks import NETWORKS


def test_calls_take_turns() -> None:
    order: list[str] = []
    times = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 0.001)
    assert len(times["a"]) == len(times["b"]) >= 5
    measured = order[-2 * len(times["a"]) :]
    assert measured == ["a", "b"] * len(times["a"])


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


def signs_after_bias(bias: float) -> Packed:
    """Scores of the signs of x + bias."""
    nodes = (
        Affine(input="x", output="a", scale="one", bias="b"),
        Sign(input="a", output="s"),
        Dense(input="s", output="y", weight="w", activations="binary"),
    )
    words = bits.pack(np.random.default_rng(0).standard_normal((5, 8)))
    tensors = {"one": np.ones(8, np.float32), "b": np.full(8, bias, np.float32), "w": words}
    topology = Topology(input="x", input_shape=(8,), output="y", nodes=nodes)
    return Packed(graph=Graph(topology=topology, tensors=tensors))


def test_a_sign_of_nearly_zero_may_fall_on_either_side() -> None:
    packed = signs_after_bias(0)
    number = example_input(packed, 3)[1, 4]
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
    packed = NETWORKS["mlp"](0)
    layers = Bench("mlp", packed, 1, compare=False).layers(1, 2)
    assert [layer.name for layer in layers] == ["input", *(node.output for node in packed.graph.nodes), "output"]
    assert sum(layer.macs for layer in layers) == 784 * 1024 + 2 * 1024 * 1024 + 1024 * 10


def test_the_machine_is_described() -> None:
    found = machine(2)
    assert found["threads"] == 2
    assert found["cores"] >= 1
    assert "numba" in found["versions"]
