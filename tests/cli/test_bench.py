"""`bwn bench`: what it prints, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bwn.cli.main import bwn
from bwn.format import write
from bwn.kernels.target import loader
from bwn.tools import benchmark, benchmark_peers
from bwn.tools.conditions import Conditions
from bwn.tools.random_networks import NETWORKS

QUICK = ["--seconds", "0.01", "--threads", "1", "--batch", "2"]


def test_a_table_with_layers_compared_with_onnxruntime() -> None:
    done = CliRunner().invoke(bwn, ["bench", "--network", "mlp", "--layers", *QUICK])
    assert done.exit_code == 0, done.output
    for expected in (
        "1 thread on ",
        f"({loader.origin()}: ",
        "speedup of bwn",
        "scores agree",
        "layer by layer",
        "f32_b1_f32_planes_",
        "GMAC/s",
    ):
        assert expected in done.output


@pytest.mark.parametrize(("options", "hint"), [([], True), (["--no-compare"], False)])
def test_onnxruntime_is_missed_only_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, options: list[str], hint: bool
) -> None:
    monkeypatch.setattr(benchmark_peers, "installed_peers", tuple)
    done = CliRunner().invoke(bwn, ["bench", "--network", "mlp", *options, *QUICK])
    assert done.exit_code == 0, done.output
    assert ("Neither ONNX Runtime nor ncnn is installed" in done.output) == hint
    assert "speedup" not in done.output


def test_a_model_as_json(tmp_path: Path) -> None:
    model = tmp_path / "m.bwn"
    write(model, NETWORKS["mlp"](1))
    done = CliRunner().invoke(
        bwn, ["bench", str(model), "--json", "--no-compare", "--layers", *QUICK]
    )
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["machine"]["threads"] == 1
    assert document["machine"]["tuned"] is False
    (result,) = document["results"]
    assert result["network"] == "m.bwn"
    assert result["comparisons"] == {}
    assert set(result["conditions"]) == {"mhz", "max_mhz", "governor", "celsius", "limits"}
    assert [timing["batch"] for timing in result["timings"]] == [1, 2]
    assert all(timing["calls"] >= timing["turns"] >= 5 for timing in result["timings"])
    assert result["layers"][1]["name"] == "flatten0"


def test_more_threads_than_cores_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "available_threads", lambda: 2)
    options = ["--network", "mlp", "--no-compare", *QUICK]
    done = CliRunner().invoke(bwn, ["bench", *options, "--threads", "4"])
    assert done.exit_code == 0, done.output
    assert ", 4 threads on 2 cores, " in done.stdout
    assert done.stderr.startswith("Warning: 4 threads on 2 cores: threads that share a core ")
    assert not CliRunner().invoke(bwn, ["bench", *options]).stderr


def test_a_processor_below_full_speed_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    hot = Conditions(mhz=1500.0, max_mhz=1800.0, celsius=81.6, limits=["throttled"])
    monkeypatch.setattr(benchmark, "conditions", lambda: hot)
    done = CliRunner().invoke(bwn, ["bench", "--network", "mlp", "--no-compare", *QUICK])
    assert done.exit_code == 0, done.output
    assert "afterwards: 1,500 MHz of 1,800, 82 °C, throttled\n" in done.stdout
    assert done.stderr.startswith("Warning: mlp: the processor ran below its full speed: ")


def test_sign_activations_are_not_compared_as_if_equal() -> None:
    done = CliRunner().invoke(bwn, ["bench", "--network", "vgg-sign", *QUICK])
    assert done.exit_code == 0, done.output
    assert "the peers have no binary kernels and compute in float32" in done.stdout
    done = CliRunner().invoke(bwn, ["bench", "--network", "mlp", *QUICK])
    assert "binary kernels" not in done.stdout


def test_refusals(tmp_path: Path) -> None:
    broken = tmp_path / "broken.bwn"
    broken.write_bytes(b"not a model")
    for arguments, exit_code, text in (
        ([str(broken)], 3, "broken.bwn"),
        ([str(tmp_path / "none.bwn")], 3, "none.bwn"),
        (["--network", "vggg"], 2, "vggg"),
        ([str(broken), "--network", "mlp"], 2, "not both"),
        (["--threads", "0"], 2, "--threads"),
    ):
        done = CliRunner().invoke(bwn, ["bench", *arguments])
        assert done.exit_code == exit_code, done.output
        assert text in done.output
        assert "Traceback" not in done.output
        assert done.stdout == ""
