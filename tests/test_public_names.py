"""`bwn` has the names that it promises, and they stay what they are when their modules have been imported."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import pydoc
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

import bwn
from bwn import errors
from bwn.data.datasets import load_dataset
from bwn.format import read
from bwn.kernels.target.loader import KernelsError
from bwn.onnx.exporter import to_onnx_bytes
from bwn.predict import Result

MODEL = Path(__file__).resolve().parents[1] / "models" / "mnist-mlp.bwn"


@pytest.mark.parametrize("name", [name for name in bwn.__all__ if not name.startswith("__")])
def test_a_public_name_is_callable_whatever_was_imported(name: str) -> None:
    for module in pkgutil.iter_modules(bwn.__path__[:1]):  # a checkout's path has its root too
        importlib.import_module(
            f"bwn.{module.name}"
        )  # sets bwn.NAME to the module, also where NAME is a function
    assert callable(getattr(bwn, name)), f"bwn.{name} is {getattr(bwn, name)}"


@pytest.mark.parametrize("module", ["bwn", "bwn.train"])
def test_help_shows_what_people_can_read(module: str) -> None:
    package = importlib.import_module(module)
    for name in package.__all__:
        value = getattr(package, name)
        if callable(value):
            assert "<function" not in pydoc.plain(pydoc.render_doc(value)), name
        made = vars(value).get("__init__") if isinstance(value, type) else None
        if made is not None and made.__code__.co_filename != "<string>":  # not a dataclass's
            assert made.__doc__, name


def test_without_kernels_a_name_ends_in_an_error_of_bwn(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_name: str) -> None:
        raise KernelsError("no kernels at all")

    monkeypatch.setattr(bwn, "import_module", none)
    with pytest.raises(bwn.BwnError, match="no kernels at all"):
        bwn.Model  # noqa: B018  # to ask for it is the test


def test_every_error_can_be_caught_by_its_name_in_bwn() -> None:
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, bwn.BwnError):
            assert getattr(bwn, name) is error
            assert name in bwn.__all__
    assert issubclass(bwn.ArgumentError, ValueError)
    assert issubclass(bwn.ArgumentError, TypeError)


def test_names_are_listed_and_train_is_found() -> None:
    assert sorted({*bwn.__all__, "train"}) == dir(bwn)
    assert bwn.train.Settings is importlib.import_module("bwn.train").Settings


def test_the_version_is_that_of_the_installed_package() -> None:
    assert bwn.__version__ == version("bwn")


@pytest.mark.parametrize("module", ["bwn", "bwn.cli"])
def test_the_command_is_a_module_too(module: str) -> None:
    command = [sys.executable, "-m", module, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"bwn {bwn.__version__}\n"), done.stderr
    wrong = subprocess.run([*command[:3], "fly"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("Usage: bwn ")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="none_such"):
        bwn.none_such  # noqa: B018


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the examples read: a model, its ONNX file, and two digits."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copy(MODEL, folder / "model.bwn")
    (folder / "model.onnx").write_bytes(to_onnx_bytes(read(MODEL)))
    digits = load_dataset("mnist-sample", "test").images
    for index, name in enumerate(("digit", "zero")):
        Image.fromarray(digits[index]).save(folder / f"{name}.png")
    return folder


def public() -> dict[str, Callable[..., object]]:
    """What `bwn` exports, the methods of Model, and the type that one of them returns."""
    names = {name: getattr(bwn, name) for name in bwn.__all__ if not name.startswith("__")}
    methods = inspect.getmembers(bwn.Model, inspect.isfunction)
    names |= {f"Model.{name}": method for name, method in methods if not name.startswith("_")}
    return {**names, "Result": Result}


@pytest.mark.parametrize("name", [name for name in public() if name != "export_onnx"])
def test_the_example_of_every_name_runs(
    name: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    text = inspect.getdoc(public()[name])
    assert text is not None
    test = doctest.DocTestParser().get_doctest(
        text.partition("Example:\n")[2], {}, name, None, None
    )
    assert len(test.examples) >= 2, "an import and a use"
    output: list[str] = []
    results = doctest.DocTestRunner().run(test, out=output.append)
    assert results.failed == 0, "".join(output)
