"""A signal handler may run the model whose run it interrupts."""

from __future__ import annotations

import faulthandler
import signal

import numpy as np
import pytest
from graphs import floats

from bwn import Model
from bwn.tools.random_networks import NETWORKS

RUNS = 100


@pytest.mark.parametrize("threads", [1, 2])
def test_a_handler_that_runs_the_model_gets_its_own_scores(threads: int) -> None:
    model = Model(NETWORKS["mlp"](0), threads)
    x, other = (floats(64, 1, 28, 28, seed=seed) for seed in (1, 2))
    expected, expected_other = model.run(x), model.run(other)
    handled = []

    def handle(*_: object) -> None:
        handled.append(np.array_equal(model.run(other), expected_other))

    before = signal.signal(signal.SIGALRM, handle)
    faulthandler.dump_traceback_later(60, exit=True)  # where it hangs, no exception gets out
    try:
        right = True
        for i in range(RUNS):
            # One signal a run: with more, handlers nest without end on a busy machine.
            signal.setitimer(signal.ITIMER_REAL, (1 + i % 20) * 1e-4)
            right &= np.array_equal(model.run(x), expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()
    assert right
    assert len(handled) > 20
    assert all(handled)
