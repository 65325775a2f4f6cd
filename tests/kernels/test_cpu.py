"""The CPU features that kernels choose by are those that they are compiled for."""

from __future__ import annotations

import numba
import pytest

from bwn.kernels.target import cpu


def test_features_are_those_that_numba_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CPU_FEATURES", "+avx,+avx2,-avx512f")
    assert cpu.features.__wrapped__() == {"avx", "avx2"}
    monkeypatch.setattr(numba.config, "CPU_FEATURES", None)
    assert {"avx2", "neon"} & cpu.features.__wrapped__()
