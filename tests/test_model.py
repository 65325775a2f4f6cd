"""The model: what it refuses, the plans it keeps, one run at a time, and what profiling tells."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bwn.errors import BwnError
from bwn.ir.graph import Graph, Topology
from bwn.ir.model_spec import ModelSpec
from bwn.kernels import bits
from bwn.model import Model
from bwn.ops import Dense, Sign
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner
from bwn.tools.random_networks import NETWORKS


def signs_of_sums() -> ModelSpec:
    """Four sums of eight numbers, and their signs."""
    nodes = (Dense(input="x", output="y", weight="w"), Sign(input="y", output="s"))
    topology = Topology(input="x", input_shape=(8,), output="s", nodes=nodes)
    words = bits.pack(np.random.default_rng(0).standard_normal((4, 8)))
    return ModelSpec(graph=Graph(topology=topology, tensors={"w": words}))


@pytest.mark.parametrize("shape", [(0, 8), (8,), (2, 7), (2, 8, 1), ()])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BwnError, match=r"expected \(N, 8\) with N of 1 or more"):
        Model(signs_of_sums(), 1).run(np.zeros(shape))


def test_no_threads_are_refused() -> None:
    with pytest.raises(BwnError, match="threads is 0"):
        Model(signs_of_sums(), 0)


def test_the_plans_used_last_are_kept() -> None:
    model = Model(signs_of_sums(), 1)
    for batch in (1, 2, 3, 4, 1, 5):
        model.run(np.zeros((batch, 8)))
    assert list(model._runners) == [3, 4, 1, 5]


def test_runs_of_one_model_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[int] = []
    right = Runner.run

    def run(self: Runner, x: np.ndarray) -> np.ndarray:
        inside.append(1)
        assert len(inside) == 1
        time.sleep(0.02)
        inside.pop()
        return right(self, x)

    monkeypatch.setattr(Runner, "run", run)
    model = Model(signs_of_sums(), 1)
    with ThreadPoolExecutor(3) as callers:
        list(callers.map(model.run, [np.ones((1, 8))] * 6))


def test_a_profile_tells_the_median_and_whose_each_step_is(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: Iterator[int] = iter([1, 9, 2])

    def times(self: Runner, x: np.ndarray) -> list[float]:
        factor = next(rounds)
        return [float(factor)] * len(self.plan.steps)

    monkeypatch.setattr(Runner, "times", times)
    layers = Model(signs_of_sums(), 1).profile(np.ones((3, 8)), repeats=3)
    product = layers[1].kernel
    assert product.startswith("f32_b1_f32_planes_")
    assert [(layer.name, layer.kernel, layer.macs) for layer in layers] == [
        ("input", "clear f32_f32_copy", 0),
        ("y", product, 3 * 4 * 8),
        ("s", "f32_s1_sign", 0),
        ("output", "i8_f32_float f32_f32_copy", 0),
    ]
    assert [layer.seconds for layer in layers] == [4, 2, 2, 4]


def test_a_large_batch_goes_in_passes_that_fit_the_caches() -> None:
    spec = NETWORKS["vgg"](0)

    def pass_size(name: str, batch: int, threads: int = 1) -> int:
        return make_plan(NETWORKS[name](0).graph, batch, threads, passes=True).batch

    assert [pass_size("vgg", batch) for batch in (1, 2, 16)] == [1, 2, 2]
    assert pass_size("vgg", 16, threads=4) == 4  # at least an image a thread
    assert pass_size("vgg-sign", 16) == 16  # packed signs take little
    assert pass_size("mlp", 1000) % 16 == 0  # whole vectors of lanes
    x = np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype(np.float32)
    model = Model(spec, 1)
    np.testing.assert_allclose(
        model.run(x), np.concatenate([model.run(one[None]) for one in x]), rtol=0, atol=1e-4
    )
    layers = model.profile(x)
    assert sum(layer.macs for layer in layers) == 5 * sum(
        layer.macs for layer in model.profile(x[:1])
    )
    assert len({layer.name for layer in layers}) == len(layers)
