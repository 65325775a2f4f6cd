"""Running where others run too: forked children, several Python threads, several models."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bwn import execute
from bwn.lowering import Lowering
from bwn.model import Model
from bwn.networks import NETWORKS

FORKED = """
import os
import signal
import numpy as np
from bwn.model import Model
from bwn.networks import NETWORKS
model, x = Model(NETWORKS["mlp"](0), threads=2), np.ones((16, 1, 28, 28), np.float32)
expected = model.run(x)
child = os.fork()
if child == 0:
    signal.alarm(15)
    os._exit(0 if np.array_equal(model.run(x), expected) else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_runs_a_model_that_its_parent_has_run() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_threads_and_models_do_not_disturb_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lowering, "worth_splitting", lambda self, microseconds: True)
    models = [Model(NETWORKS["mlp"](seed), threads=2 + seed) for seed in range(3)]
    x = np.random.default_rng(0).standard_normal((4, 1, 28, 28)).astype(np.float32)
    calls = [(model, x[:size]) for model in models for size in (1, 2, 4)]
    expected = [model.run(batch) for model, batch in calls]
    with ThreadPoolExecutor(6) as callers:
        for _ in range(5):
            found = list(callers.map(lambda call: call[0].run(call[1]), calls))
            for ours, right in zip(found, expected, strict=True):
                assert np.array_equal(ours, right)


def test_an_interrupted_run_leaves_nobody_at_work() -> None:
    done: list[int] = []

    def entry(block: int, begin: int, end: int, part: int) -> None:
        if part == 0:
            raise KeyboardInterrupt
        time.sleep(0.1)
        done.append(part)

    with pytest.raises(KeyboardInterrupt):
        execute._run_parts(entry, 0, [(0, 1, 0), (1, 2, 1), (2, 3, 2)])
    assert sorted(done) == [1, 2]


def test_results_are_the_callers_own() -> None:
    model = Model(NETWORKS["mlp"](0), threads=1)
    x = np.random.default_rng(0).standard_normal((2, 1, 28, 28)).astype(np.float32)
    first = model.run(x[:1])
    kept = first.copy()
    model.run(x[1:])
    del model
    assert np.array_equal(first, kept)


def test_any_layout_and_type_of_numbers_is_read() -> None:
    model = Model(NETWORKS["mlp"](0), threads=1)
    x = np.random.default_rng(0).standard_normal((2, 1, 28, 28)).astype(np.float32)
    right = model.run(x)
    packed = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.uint8)
    packed[:] = np.frombuffer(x.tobytes(), np.uint8)
    unaligned = np.ndarray(x.shape, np.float32, packed.data)
    assert not unaligned.flags.aligned
    for same in (x.astype(np.float64), x.astype(">f4"), np.asfortranarray(x), x[:, :, ::-1][:, :, ::-1], unaligned):
        assert np.array_equal(model.run(same), right)
