"""benchmarks/compare_onnx.py: ONNX files in bwn and its peers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from graphs import floats, signs
from onnx_models import model, op

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "compare_onnx.py"


def test_a_file_is_measured_at_every_batch_and_number_of_threads(tmp_path):
    layers = [op("Conv", "x w", "c"), op("GlobalAveragePool", "c", "p"), op("Flatten", "p", "f")]
    file = tmp_path / "net.onnx"
    file.write_bytes(
        model(*layers, op("Gemm", "f v"), shape=(3, 9, 9), w=signs(8, 3, 3, 3), v=floats(8, 5))
    )
    command = [sys.executable, str(SCRIPT), str(file), "--seconds", "0", "--batch", "1", "3"]
    result = subprocess.run(
        [*command, "--threads", "1", "2"], check=True, capture_output=True, text=True
    )
    rows = [line.strip("| ").split(" | ") for line in result.stdout.splitlines()[2:]]
    cells = [row for row in rows if row[3] != "ncnn"]
    assert [row[:4] for row in cells] == [
        ["net", batch, threads, engine]
        for threads in ("1", "2")
        for batch in ("1", "3")
        for engine in ("bwn", "onnxruntime")
    ]
    assert {row[-1] for row in cells} == {"ok"}
