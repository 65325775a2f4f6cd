"""Which package may import which, and which may import numba, torch, onnx and the like."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOMES = {"bwn": "bwn", "kernels": "bwn.kernels", "cli": "bwn.cli"}

# Lowest first. A package imports itself and packages of lower lines, none of its own line.
RULE = """
    kernels.lazy _text
    errors _types kernels kernels.bits kernels.params kernels.target
    kernels.reference kernels.simd metrics _arguments
    kernels.gemm kernels.tensor kernels.threads
    kernels.costs kernels.registry _files _file_types ir
    kernels.aot ops data
    page passes plan format onnx
    predict runtime
    model train
    compile tools experiment serve
    reporting
    __init__ cli
    __main__
"""
HEIGHT = {
    f"bwn.{name}".removesuffix(".__init__"): height
    for height, line in enumerate(RULE.strip().splitlines())
    for name in line.split()
}

# Who may import what besides the standard library, numpy and bwn, anywhere in a file.
PACKAGES = {
    "numba": "kernels",
    "llvmlite": "kernels",
    "msgspec": "kernels ir ops passes format onnx plan predict train compile tools experiment reporting serve data cli",
    "safetensors": "format",
    "PIL": "data predict tools reporting",
    "pillow_heif": "data.images",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "torch": "train",
    "onnxscript": "train",
    "onnx_ir": "train",
    "tensorboard": "train",
    "matplotlib": "experiment.plots reporting",
    "aiohttp": "serve",
    "click": "cli",
}

# What runs a model where there are only numpy, Pillow, msgspec, safetensors and click.
BOARD = ("bwn.model", "bwn.runtime.executor", "bwn.plan.planner", "bwn.kernels.registry")
NEVER_ON_A_BOARD = {"numba", "llvmlite", "onnx", "onnxruntime", "torch", "matplotlib"}


def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    paths: dict[str, Path] = {}
    for folder, home in HOMES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            paths[".".join([home, *parts]).removesuffix(".__init__")] = path
    return paths


MODULES = modules()


def imports(source: str, *, inside_functions: bool = True) -> set[str]:
    """Modules that a source imports, but for those that only type checkers read."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif isinstance(node, ast.FunctionDef) and not inside_functions:
            continue
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(inner if inner in MODULES else str(node.module))
        else:
            waiting += ast.iter_child_nodes(node)
    return names


def package_of(module: str) -> str:
    """The name in RULE that a module belongs to."""
    while module not in HEIGHT:
        module = module.rpartition(".")[0]
    return module


def breaches(module: str, source: str) -> list[str]:
    """What a source imports and, as the module of that name, must not."""
    own, bad = package_of(module), []
    for name in sorted(imports(source)):
        first = name.partition(".")[0]
        if first == "bwn":
            other = package_of(name)
            if other != own and HEIGHT[other] >= HEIGHT[own]:
                bad.append(name)
        elif first in PACKAGES:
            allowed = [f"bwn.{package}" for package in PACKAGES[first].split()]
            if not any(f"{module}.".startswith(f"{package}.") for package in allowed):
                bad.append(name)
        elif first not in sys.stdlib_module_names and first != "numpy":
            bad.append(name)
    return bad


def test_every_import_obeys_the_rule() -> None:
    bad = {name: breaches(name, path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
    assert {name: names for name, names in bad.items() if names} == {}


def test_the_rule_names_every_package() -> None:
    packages = {name for name in MODULES if name.count(".") == 1}
    packages |= {
        name for name in MODULES if name.startswith("bwn.kernels.") and name.count(".") == 2
    }
    assert packages | {"bwn"} == set(HEIGHT)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("bwn.kernels.bits", "import bwn.ir.graph"),
        ("bwn.kernels.gemm.lut", "from bwn.kernels.tensor import pooling"),
        ("bwn.kernels.simd.vectors", "from bwn.kernels import registry"),
        ("bwn.kernels.bits", "import PIL"),
        ("bwn.ops.conv", "from bwn.plan.builder import PlanBuilder"),
        ("bwn.ops.conv", "def f():\n    import onnx"),
        ("bwn.ir.graph", "from bwn.ops import NODES"),
        ("bwn.plan.gemm", "from bwn.onnx import session"),
        ("bwn.model", "def f():\n    import torch"),
        ("bwn.train.layers", "import onnxruntime"),
        ("bwn.onnx.session", "import torch.nn"),
        ("bwn.experiment.report", "import matplotlib.figure"),
        ("bwn.tools.pack", "import click"),
        ("bwn.tools.pack", "from bwn.cli import main"),
        ("bwn.tools.pack", "import bwn"),
        ("bwn.cli.pack", "import torch"),
        ("bwn.cli.pack", "import requests"),
        ("bwn.cli.pack", "import benchmarks"),
    ],
)
def test_a_breach_is_seen(module: str, line: str) -> None:
    assert breaches(module, line)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("bwn.cli.pack", "from bwn.tools.pack import pack\nimport click"),
        ("bwn.train.layers", "import torch\nfrom bwn.kernels import bits"),
        ("bwn.onnx.session", "import onnx, onnxruntime"),
        ("bwn.ops.conv", "if TYPE_CHECKING:\n    from bwn.plan.builder import PlanBuilder"),
    ],
)
def test_what_the_rule_allows_is_no_breach(module: str, line: str) -> None:
    assert not breaches(module, line)


def graph(*, inside_functions: bool) -> dict[str, set[str]]:
    """Imports of every module, of modules and of other packages."""
    return {
        name: imports(path.read_text(encoding="utf-8"), inside_functions=inside_functions)
        for name, path in MODULES.items()
    }


def test_no_modules_import_each_other_in_a_circle() -> None:
    waiting = {name: names & MODULES.keys() for name, names in graph(inside_functions=True).items()}
    while free := [name for name, names in waiting.items() if not names & waiting.keys()]:
        for name in free:
            del waiting[name]
    assert waiting == {}


def reached(*starts: str) -> set[str]:
    """What these modules import when they are imported, and what that imports."""
    edges, names, waiting = graph(inside_functions=False), set[str](), list(starts)
    while waiting:
        name = waiting.pop()
        if name not in names:
            names.add(name)
            waiting += edges.get(name, ())
    return names


def test_what_runs_on_a_board_imports_no_compiler_and_no_framework() -> None:
    assert not {name.partition(".")[0] for name in reached(*BOARD)} & NEVER_ON_A_BOARD


def test_reading_a_file_asks_for_no_cpu_features() -> None:
    assert "bwn.kernels.target.cpu" not in reached("bwn.format.reader")


def test_no_two_modules_share_a_name() -> None:
    names = [
        path.stem
        for name, path in MODULES.items()
        if path.name != "__init__.py" and not name.startswith("bwn.cli.")
    ]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_no_module_is_shadowed_by_a_name_of_its_package() -> None:
    for name, path in MODULES.items():
        if path.name == "__init__.py":
            defined = {
                alias.asname or alias.name
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
                if f"{node.module}.{alias.name}" not in MODULES
            }
            shadowed = [other for other in sorted(defined) if f"{name}.{other}" in MODULES]
            assert shadowed == [], name
