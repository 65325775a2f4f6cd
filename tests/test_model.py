"""The model: how it is loaded and copied, what it refuses, the plans it keeps, and its profile."""

from __future__ import annotations

import copy
import io
import multiprocessing
import os
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from graphs import make_graph

import bwn
from bwn.errors import ArgumentError, BwnError, FileError, FormatError
from bwn.format import write
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.kernels import bits
from bwn.model import Model
from bwn.ops.dense import Dense
from bwn.ops.sign import Sign
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner
from bwn.tools.random_networks import NETWORKS


def signs_of_sums() -> ModelSpec:
    """Four sums of eight numbers, and their signs."""
    nodes = (Dense(input="x", output="y", weight="w"), Sign(input="y", output="s"))
    words = bits.pack(np.random.default_rng(0).standard_normal((4, 8)))
    return ModelSpec(graph=make_graph(*nodes, shape=(8,), w=words))


@pytest.mark.parametrize("shape", [(8,), (2, 7), (2, 8, 1), (), (0,), (0, 7)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    model = Model(signs_of_sums(), 1)
    for call in (model.run, model.trace, model.profile):
        with pytest.raises(ArgumentError, match=r"input has shape .*, expected \(N, 8\)"):
            call(np.zeros(shape))


@pytest.mark.parametrize("kind", [np.uint8, np.bool_, np.int64, np.complex64, np.str_, object])
def test_run_takes_floating_point_only(kind: type[np.generic]) -> None:
    model = Model(signs_of_sums(), 1)
    x = np.ones((2, 8)).astype(kind)
    for call in (model.run, model.trace, model.profile):
        with pytest.raises(ArgumentError, match="expected floating point: pass images to Model"):
            call(x)
    with pytest.raises(ArgumentError, match="input is int64"):
        model.run([[1] * 8])
    right = model.run(np.ones((1, 8), np.float32))
    for same in (np.ones((1, 8), np.float16), np.ones((1, 8)), [[1.0] * 8]):
        np.testing.assert_array_equal(model.run(same), right)


def test_no_inputs_give_no_scores() -> None:
    model = Model(signs_of_sums(), 1)
    scores = model.run(np.zeros((0, 8)))
    assert (scores.shape, scores.dtype) == ((0, 4), np.float32)
    for call in (model.trace, model.profile):
        with pytest.raises(ArgumentError, match="with N of 1 or more"):
            call(np.zeros((0, 8)))


def test_no_repeats_are_refused() -> None:
    with pytest.raises(ArgumentError, match="repeats is 0"):
        Model(signs_of_sums(), 1).profile(np.zeros((1, 8)), repeats=0)


def test_no_threads_are_refused() -> None:
    with pytest.raises(ArgumentError, match="threads is 0"):
        Model(signs_of_sums(), 0)


def test_what_a_model_says_of_itself() -> None:
    rule = Preprocess(size=(2, 4), color="L", mean=(0.0,), std=(1.0,))
    spec = signs_of_sums()
    model = Model(ModelSpec(graph=spec.graph, preprocess=rule, classes=tuple("abcd")), 3)
    assert (model.input_shape, model.output_shape) == ((8,), (4,))
    assert (model.preprocess, model.classes, model.threads) == (rule, ("a", "b", "c", "d"), 3)
    assert repr(model) == "<bwn.Model (8,) -> (4,), 32 B of weights, 3 threads>"
    assert repr(Model(NETWORKS["mlp"](0), 1)).endswith("-> (10,), 385.3 KiB of weights, 1 thread>")
    assert Model(spec).preprocess is None


def test_a_model_is_loaded_from_any_path_bytes_or_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "m.bwn"
    write(path, signs_of_sums())
    data = path.read_bytes()

    class Named(os.PathLike[str]):
        def __fspath__(self) -> str:
            return str(path)

    class Trickle(io.RawIOBase):
        """A file that reads a few bytes at a time, as a pipe may."""

        def __init__(self) -> None:
            self.left = data

        def read(self, size: int = -1) -> bytes:
            piece, self.left = self.left[:100], self.left[100:]
            return piece

    x = np.random.default_rng(0).standard_normal((3, 8))
    right = bwn.load(path).run(x)
    with path.open("rb") as file:
        for source in (str(path), Named(), data, bytearray(data), memoryview(data), file,
                       io.BytesIO(data), Trickle()):  # fmt: skip
            model = bwn.load(source, threads=2)
            assert model.threads == 2
            np.testing.assert_array_equal(model.run(x), right)


def test_what_cannot_be_loaded_is_one_line_without_its_content(tmp_path: Path) -> None:
    path = tmp_path / "m.bwn"
    write(path, signs_of_sums())
    data = path.read_bytes()
    cases: list[tuple[object, type[BwnError], str]] = [
        (data[:-1], FormatError, f"model: truncated: {len(data) - 1} of {len(data)} bytes"),
        (b"SECRET" * 10**5, FormatError, "model: not a .bwn file: it looks like a text file"),
        (io.BytesIO(data + b"SECRET"), FormatError, "model: damaged: "),
        (io.StringIO("SECRET"), FileError, "model: opened in text mode; open it with mode 'rb'"),
        (tmp_path / "none", FileError, f"no such file: {tmp_path / 'none'}"),
    ]
    for source, kind, message in cases:
        with pytest.raises(kind) as caught:
            bwn.load(source)  # type: ignore[arg-type]
        assert str(caught.value).startswith(message)
        assert len(str(caught.value)) < 300 + len(str(tmp_path))
        assert "SECRET" not in str(caught.value)
    closed = path.open("rb")
    closed.close()
    with pytest.raises(FileError, match=f"^{path}: cannot be read: "):
        bwn.load(closed)
    with path.open() as text, pytest.raises(FileError, match=f"^{path}: opened in text mode"):
        bwn.load(text)  # type: ignore[arg-type]
    with pytest.raises(bwn.ArgumentError, match="a path, bytes or a binary file, not int"):
        bwn.load(3)  # type: ignore[arg-type]
    with pytest.raises(FileError, match=r"^the path is empty$"):
        bwn.load("")
    with pytest.raises(bwn.ArgumentError, match=r"^spec is str; read a file with bwn\.load$"):
        Model("m.bwn")  # type: ignore[arg-type]


def test_copies_and_pickles_compute_the_same() -> None:
    model = Model(NETWORKS["mlp"](0), 2)
    x = np.random.default_rng(0).standard_normal((2, 1, 28, 28)).astype(np.float32)
    right = model.run(x)
    for same in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same.threads == 2
        np.testing.assert_array_equal(same.run(x), right)
    assert copy.copy(model).spec is copy.deepcopy(model).spec is model.spec, "weights are shared"


def test_a_pickle_holds_the_weights_once(tmp_path: Path) -> None:
    spec = NETWORKS["mlp"](0)
    write(tmp_path / "m.bwn", spec)
    model = Model(spec, 1)
    for batch in (1, 16):
        model.run(np.zeros((batch, 1, 28, 28), np.float32))
    assert len(pickle.dumps(model)) < 1.05 * (tmp_path / "m.bwn").stat().st_size


def test_a_spawned_process_runs_a_model_that_it_was_sent() -> None:
    model = Model(signs_of_sums(), 2)
    x = np.random.default_rng(0).standard_normal((3, 8))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        np.testing.assert_array_equal(pool.submit(model.run, x).result(60), model.run(x))
        assert pool.submit(getattr, model, "threads").result(60) == 2


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
        ("dense1", product, 3 * 4 * 8),
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


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "two", 1025])
def test_threads_is_a_whole_number_in_range_and_stays(threads) -> None:
    spec = NETWORKS["mlp"](0)
    with pytest.raises(BwnError, match="threads is"):
        Model(spec, threads)
    model = Model(spec, 2)
    with pytest.raises(AttributeError):
        model.threads = threads
    assert model.threads == 2
