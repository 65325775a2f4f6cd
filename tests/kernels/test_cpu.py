"""The CPU features that kernels choose by are those that they are compiled for."""

from __future__ import annotations

from pathlib import Path

import numba
import pytest

from bwn.kernels.target import cpu


def test_features_are_those_that_numba_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CPU_FEATURES", "+avx,+avx2,-avx512f")
    assert cpu.features.__wrapped__() == {"avx", "avx2"}
    monkeypatch.setattr(numba.config, "CPU_FEATURES", None)
    assert {"avx2", "neon"} & cpu.features.__wrapped__()


def test_the_l1_is_that_of_the_smallest_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "CPUS", tmp_path)
    for name, size in (("cpu0", "64K\n"), ("cpu1", "48K\n"), ("cpu2", "?\n"), ("cpufreq", None)):
        folder = tmp_path / name / "cache" / "index0"
        folder.mkdir(parents=True)
        if size is not None:
            (folder / "size").write_text(size)
    assert cpu.l1_bytes.__wrapped__() == 48 << 10
    monkeypatch.setattr(cpu, "OVERRIDE", frozenset({"neon"}))
    assert cpu.l1_bytes.__wrapped__() == 32 << 10, "of another CPU, nothing is known"
    monkeypatch.setattr(cpu, "OVERRIDE", None)
    monkeypatch.setattr(cpu, "CPUS", tmp_path / "none")
    assert cpu.l1_bytes.__wrapped__() == 32 << 10
