"""What runs on a board loads neither torch nor onnx, although both are installed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

INSTALLED = Path(__file__).parent / "installed"


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", *arguments]
    return subprocess.run(
        command, cwd=cwd, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL
    )


def test_the_boards_commands_are_lean(tmp_path: Path) -> None:
    done = python(str(INSTALLED / "smoke.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_bwn_is_lean(tmp_path: Path) -> None:
    heavy = "{'torch', 'onnx', 'onnxruntime', 'onnxscript'}"
    done = python(
        "-c",
        f"import sys, bwn, bwn.kernels, bwn.cli.main; print({heavy} & set(sys.modules))",
        cwd=tmp_path,
    )
    assert done.stdout == "set()\n", done.stderr


def test_the_probe_sees_a_heavy_package(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    done = python(
        str(INSTALLED / "probe.py"), "pack", "model.onnx", "-o", "model.bwn", cwd=tmp_path
    )
    assert done.returncode == 99
    assert "loaded onnx" in done.stderr


def test_arrays_are_run_without_pillow(tmp_path: Path) -> None:
    model = Path(__file__).parents[1] / "models" / "mnist-mlp.bwn"
    done = python(
        "-c",
        f"import sys, bwn, numpy; model = bwn.load({str(model)!r}, threads=1)\n"
        "model.run(numpy.zeros((1, 1, 28, 28), numpy.float32)); print('PIL' in sys.modules)",
        cwd=tmp_path,
    )
    assert done.stdout == "False\n", done.stderr


def test_a_model_loads_only_its_operations(tmp_path: Path) -> None:
    model = Path(__file__).parents[1] / "models" / "mnist-lenet.bwn"
    done = python(
        "-c",
        f"import sys, bwn; print(bwn.load({str(model)!r}).spec.graph.topology.nodes[0].op)\n"
        "print({f'bwn.ops.{name}' for name in ('conv', 'unary', 'pad')} & set(sys.modules))",
        cwd=tmp_path,
    )
    assert done.stdout == "conv\n{'bwn.ops.conv'}\n", done.stderr
