"""Networks as WebAssembly: the same bits as bwn in Node.js, and what the ES module refuses."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from c_library import CLibrary, run
from click.testing import CliRunner
from graphs import floats

import bwn
from bwn.cli.main import bwn as command
from bwn.compile.c_header import ModuleReport
from bwn.compile.library import compile_library
from bwn.data.datasets import load_dataset
from bwn.page import page_files
from bwn.predict import probabilities, to_input

HERE = Path(__file__).parent
MODEL = HERE.parents[1] / "models" / "mnist-lenet.bwn"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="no node")
OUTPUTS = 10


def scores(module: Path, x: np.ndarray) -> np.ndarray:
    """Scores of inputs, as Node.js computes them."""
    inputs, outputs = module.with_suffix(".in"), module.with_suffix(".out")
    inputs.write_bytes(x.tobytes())
    run("node", HERE / "run_module.mjs", module, inputs, outputs)
    return np.frombuffer(outputs.read_bytes(), np.float32).reshape(len(x), -1)


def images() -> np.ndarray:
    """Random inputs of LeNet, of very different sizes."""
    random, scales = np.random.default_rng(1), np.repeat([1e-30, 1.0, 1e30], 100)
    return (random.normal(0, 1, (300, 1, 28, 28)) * scales.reshape(-1, 1, 1, 1)).astype(np.float32)


@needs_node
def test_scores_are_those_of_bwn(modules: Path) -> None:
    """Sums of floats have another order with other kernels."""
    model, x = bwn.load(MODEL, threads=1), images()
    for actual, image in zip(scores(modules / "net.mjs", x), x, strict=True):
        expected = model.run(image[None])[0]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@needs_node
@pytest.mark.skipif(
    platform.machine() != "x86_64" or not all(map(shutil.which, ("ld", "as"))), reason="no x86-64"
)
def test_scores_are_the_same_bits_as_those_of_the_same_kernels(
    modules: Path, tmp_path: Path
) -> None:
    """Without features of a processor, the kernels of x86-64 are those of WebAssembly."""
    compile_library(MODEL, tmp_path, target="x86-64", name="net")
    library, x = CLibrary(tmp_path, "net"), images()
    expected = np.concatenate([library.run(image[None], (OUTPUTS,)) for image in x])
    np.testing.assert_array_equal(scores(modules / "net.mjs", x), expected)


@needs_node
def test_8_bit_activations_are_the_same_bits(modules: Path) -> None:
    model = bwn.load(modules / "many.bwn", threads=1)
    x = floats(50, 70) * np.float32(10.0) ** np.arange(-25, 25, dtype=np.float32)[:, None]
    expected = np.concatenate([model.run(part) for part in np.split(x, 10)])
    np.testing.assert_array_equal(scores(modules / "many.mjs", x), expected)


@needs_node
def test_sign_activations_are_the_same_bits(modules: Path) -> None:
    x = floats(50, 70)
    expected = bwn.load(modules / "sign.bwn", threads=1).run(x)
    np.testing.assert_array_equal(scores(modules / "sign.mjs", x), expected)


@needs_node
def test_images_are_prepared_as_bwn_does(modules: Path) -> None:
    model = bwn.load(MODEL, threads=1)
    for image in load_dataset("mnist-sample", "test").images[:3]:
        data = ",".join(map(str, image.reshape(-1)))
        code = (
            f'const {{ load }} = await import("{(modules / "net.mjs").as_uri()}");'
            f"const image = {{ data: Uint8Array.of({data}), width: 28, height: 28 }};"
            "console.log([...(await load()).classify(image).probabilities].join(' '));"
        )
        printed = run("node", "--input-type=module", "--eval", code).stdout.split()
        expected = probabilities(model.spec, model.run(to_input(model.spec, image)[None]))[0]
        np.testing.assert_allclose(np.array(printed, float), expected, rtol=1e-6)


@needs_node
def test_the_module(modules: Path) -> None:
    run("node", HERE / "test_module.mjs", modules)


def test_the_page_is_written_for_the_module(modules: Path) -> None:
    for name, content in page_files("net").items():
        assert (modules / name).read_bytes() == content
    assert 'data-module="net"' in (modules / "index.html").read_text()


@needs_node
def test_what_is_written(modules: Path, tmp_path: Path) -> None:
    model = shutil.copy(modules / "many.bwn", tmp_path / "a b.bwn")
    arguments = ["compile", str(model), "-o", str(tmp_path / "out"), "--target", "wasm32"]
    printed = CliRunner().invoke(command, arguments)
    assert printed.exit_code == 0, printed.output
    assert f"Wrote {tmp_path / 'out' / 'a_b.wasm'}: " in printed.stdout
    assert 'import { load } from "./a_b.mjs"' in printed.stdout
    files = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert set(files) == {f"a_b.{ending}" for ending in ("wasm", "mjs", "d.mts", "json")}
    assert "export declare function load(" in files["a_b.d.mts"].read_text()
    report = msgspec.json.decode(files["a_b.json"].read_bytes(), type=ModuleReport)
    assert report.module_bytes == files["a_b.wasm"].stat().st_size < 32_000
    assert (report.target, report.machine) == ("wasm32", "wasm32")


def test_without_the_linker_the_package_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    arguments = ["compile", str(MODEL), "-o", str(tmp_path / "out"), "--target", "wasm32"]
    printed = CliRunner().invoke(command, arguments)
    assert printed.exit_code == 1
    assert "no wasm-ld, which links WebAssembly: apt-get install lld" in printed.output
    assert not (tmp_path / "out").exists()
