"""The names of `bwn.train`: loaded on first use, missing in one line, each with an example."""

from __future__ import annotations

import ast
import doctest
import subprocess
import sys
from importlib import import_module
from inspect import getdoc, getsource

import pytest

import bwn.train
from bwn.errors import MissingPackageError

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_settings_and_help_need_no_torch():
    done = python(
        "import sys, bwn.train, bwn.cli.train, bwn.cli.experiment, bwn.experiment.report\n"
        "bwn.train.Settings(), bwn.train.Architecture\n"
        "print({'torch', 'onnx'} & set(sys.modules))"
    )
    assert done.stdout == "set()\n", done.stderr


def test_every_name_is_loaded_from_its_module():
    assert sorted(bwn.train._HOMES) == sorted(bwn.train.__all__)
    for name in bwn.train.__all__:
        assert getattr(bwn.train, name) is vars(import_module(bwn.train._HOMES[name]))[name]
    with pytest.raises(AttributeError, match="none_such"):
        bwn.train.none_such  # noqa: B018  # to ask for it is the test


def test_without_torch_its_names_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    needing = set(bwn.train.__all__) - {"Settings", "Architecture"}
    for name in needing:
        with pytest.raises(
            MissingPackageError, match=r"training needs torch.* pip install torch, or"
        ):
            getattr(bwn.train, name)
    assert bwn.train.Settings().epochs == 20


@pytest.mark.parametrize(
    "arguments",
    ["train --data mnist-sample -o {}/m.pt", "experiment paper --data mnist-sample --out {}/out"],
)
def test_without_torch_a_command_ends_in_one_line(arguments, tmp_path):
    code = WITHOUT_TORCH + "from bwn.cli.main import main\nmain()"
    done = python(code, *arguments.format(tmp_path).split())
    expected = "training needs torch, which is not installed: pip install torch, or '.[train]' in bwn's folder"
    assert (done.returncode, done.stderr) == (1, f"Error: {expected}\n")
    assert not list(tmp_path.iterdir())


def docstring(name):
    """Of a class or a function; of a constant, the text that follows it."""
    module = import_module(bwn.train._HOMES[name])
    if callable(getattr(module, name)):
        return getdoc(getattr(module, name))
    body = ast.parse(getsource(module)).body
    names = [ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else "" for node in body]
    return body[names.index(name) + 1].value.value


@pytest.mark.parametrize("name", bwn.train.__all__)
def test_the_example_of_every_name_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = docstring(name)
    assert "Example:\n" in text
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert len(test.examples) >= 2, "an import and a use"
    output = []
    results = doctest.DocTestRunner().run(test, out=output.append)
    assert results.failed == 0, "".join(output)
