"""Imports go one way: cli -> bwn -> kernels; torch, onnx and matplotlib stay in their rooms."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"kernels": "bwn.kernels", "cli": "bwn.cli", "bwn": "bwn"}
KERNELS_MAY_IMPORT = {"bwn.kernels", "numpy", "numba", "llvmlite"}
ONNX = {"onnx", "onnxruntime"}
TORCH = {"torch"}
NEVER = {"benchmarks", "tests", "kernels", "cli"}


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(tree: ast.AST) -> list[str]:
    """Dotted names that a module imports, wherever in it; `from a import b` counts as a.b, as b may be a module."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def complaints(path: Path, source: str) -> list[str]:
    """What `source`, standing at `path` relative to the root, imports and must not."""
    room, names = path.parts[0], imports(ast.parse(source))
    bad = [name for name in names if name.split(".")[0] in NEVER]
    if room == "kernels":
        standard = {"__future__"} | set(__import__("sys").stdlib_module_names)
        allowed = KERNELS_MAY_IMPORT | standard
        bad += [name for name in names if not any(inside(name, package) for package in allowed)]
    if room != "cli" and path != Path("bwn/__main__.py"):
        bad += [name for name in names if inside(name, "bwn.cli")]
    if room == "cli":
        bad += [name for name in names if name.split(".")[0] in ONNX | TORCH]
    if not path.is_relative_to("bwn/onnx"):
        bad += [name for name in names if room == "bwn" and name.split(".")[0] in ONNX]
    if not path.is_relative_to("bwn/train"):
        bad += [name for name in names if room == "bwn" and name.split(".")[0] in TORCH]
    if path != Path("bwn/experiment/plots.py"):
        bad += [name for name in names if name.split(".")[0] == "matplotlib"]
    return bad


@pytest.mark.parametrize("room", ROOMS)
def test_every_import_goes_the_one_way(room: str) -> None:
    files = sources(room)
    assert files
    bad = {
        str(f.relative_to(ROOT)): complaints(f.relative_to(ROOT), f.read_text(encoding="utf-8"))
        for f in files
    }
    assert {name: found for name, found in bad.items() if found} == {}


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("kernels/x.py", "import bwn.ir.graph"),
        ("kernels/x.py", "from bwn import graph"),
        ("kernels/x.py", "import PIL"),
        ("bwn/x.py", "from bwn.cli import main"),
        ("bwn/x.py", "def f():\n    import torch"),
        ("bwn/x.py", "from onnx import numpy_helper"),
        ("bwn/train/x.py", "import onnxruntime"),
        ("bwn/onnx/x.py", "import torch.nn"),
        ("bwn/experiment/report.py", "import matplotlib.figure"),
        ("bwn/x.py", "import kernels"),
        ("cli/x.py", "import torch"),
        ("cli/x.py", "from tests import close"),
    ],
)
def test_an_upward_import_is_caught(path: str, line: str) -> None:
    assert complaints(Path(path), line) != []


def test_each_room_may_import_what_is_below_it() -> None:
    assert complaints(Path("cli/x.py"), "from bwn.ir.graph import Graph\nimport click") == []
    assert complaints(Path("bwn/train/x.py"), "import torch\nfrom bwn.kernels import bits") == []
    assert complaints(Path("bwn/onnx/x.py"), "import onnx, onnxruntime") == []
