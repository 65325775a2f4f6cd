"""What every test stands on: seeded randomness, quiet threads, no clock in property tests."""

from __future__ import annotations

import os
import random
from pathlib import Path

# Before numpy, torch or onnxruntime is imported: threads that spin while they wait fight over a
# small machine's cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

from bwn.kernels import costs

settings.register_profile("bwn", deadline=None, derandomize=True, database=None)
settings.load_profile("bwn")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """The same global randomness at the start of every test; tests of their own make their own generators."""
    random.seed(0)
    np.random.seed(0)  # libraries under test may still read it


@pytest.fixture(autouse=True)
def _default_costs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Kernels are chosen by the costs that come with bwn, whatever `bwn tune` measured on this machine."""
    monkeypatch.setattr(costs, "table_path", lambda: tmp_path / "kernels-none" / "costs.json")
    costs.table.cache_clear()
