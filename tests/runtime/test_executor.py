"""Running where others run too: forked children, several Python threads, several models, signals, the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bwn.kernels.target import loader
from bwn.model import Model
from bwn.tools.random_networks import NETWORKS

FORKED = """
import os
import signal
import numpy as np
from bwn.model import Model
from bwn.tools.random_networks import NETWORKS
model, x = Model(NETWORKS["mlp"](0), threads=2), np.ones((16, 1, 28, 28), np.float32)
expected = model.run(x)
child = os.fork()
if child == 0:
    signal.alarm(15)
    os._exit(0 if np.array_equal(model.run(x), expected) else 1)
assert os.waitpid(child, 0)[1] == 0
"""

FORKED_IN_A_RUN = """
import os
import signal
import threading
import numpy as np
from bwn.model import Model
from bwn.tools.random_networks import NETWORKS
model = Model(NETWORKS["mlp"](0), threads=2)
x = np.random.default_rng(0).standard_normal((256, 1, 28, 28)).astype(np.float32)
expected = model.run(x)
stop = threading.Event()
def keep_running():
    while not stop.is_set():
        model.run(x)
        model.run(x[:1])
thread = threading.Thread(target=keep_running, daemon=True)
thread.start()
held = 0
for _ in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(15)
        os._exit(0 if np.array_equal(model.run(x), expected) else 1)
    held += model._running
    assert os.waitpid(child, 0)[1] == 0
stop.set()
thread.join()
assert held > 0
"""
FORKED_WHILE_COMPILING = """
import os
import signal
import threading
import time
import numpy as np
from bwn.kernels.target import jit
from bwn.model import Model
from bwn.tools.random_networks import NETWORKS
model, x = Model(NETWORKS["mlp"](0), threads=1), np.ones((1, 1, 28, 28), np.float32)
compile_slowly = jit.CompiledEntry.__init__
compiling = threading.Event()
def slowly(self, *args, **kwargs):
    compiling.set()
    time.sleep(0.3)
    compile_slowly(self, *args, **kwargs)
jit.CompiledEntry.__init__ = slowly
threading.Thread(target=model.run, args=[x]).start()
compiling.wait()
child = os.fork()
if child == 0:
    signal.alarm(30)
    os._exit(0 if np.isfinite(model.run(x)).all() else 1)
assert os.waitpid(child, 0)[1] == 0
"""


SETTING = """
import os, signal, sys, threading, time
import numpy as np
from bwn.kernels.threads.run_loop import BUSY
from bwn.plan import state
from bwn.model import Model
from bwn.tools.random_networks import NETWORKS
from bwn.runtime.thread_pool import POOL
state.WORTH_SPLITTING = -1
alone, model = (Model(NETWORKS["mlp"](0), threads=count) for count in (1, 3))
x = np.random.default_rng(0).standard_normal((16, 1, 28, 28)).astype(np.float32)
expected = alone.run(x)
def asleep():
    deadline = time.monotonic() + 30
    while len(POOL._asleep) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    return len(POOL._asleep) == 2
"""
ALONE = """
assert threading.active_count() == 1
assert not POOL._workers
"""
SLEEPS = """
for _ in range(20):
    assert np.array_equal(model.run(x), expected)
    assert asleep()
assert threading.active_count() == 3
"""
INTERRUPTED = """
model.run(x)  # an interrupt while numba loads its first kernels breaks numba itself
inside, stopped = False, 0
def interrupt(*_):
    global inside
    if inside:
        inside = False
        raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.0013)
while stopped < 100:
    try:
        inside = True
        while True:
            model.run(x)
    except KeyboardInterrupt:
        stopped += 1
signal.setitimer(signal.ITIMER_REAL, 0)
for _ in range(20):
    assert np.array_equal(model.run(x), expected)
assert asleep()
assert POOL._state[BUSY // 8] == 0
"""
ENDS = {
    "spinning": "model.run(x)",
    "asleep": "model.run(x); assert asleep()",
    "never begun": "",
    "in a daemon's run": """
def forever():
    while True:
        model.run(x)
threading.Thread(target=forever, daemon=True).start()
time.sleep(0.1)
""",
    "before a last run": """
import atexit
import bwn.runtime.thread_pool
model.run(x)
atexit.unregister(bwn.runtime.thread_pool.POOL.stop)  # runs before, not after, what was registered later
atexit.register(lambda: print(np.array_equal(model.run(x), expected)))
atexit.register(bwn.runtime.thread_pool.POOL.stop)
""",
}


def script(body: str) -> str:
    command = [sys.executable, "-c", SETTING + body]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert not [line for line in lines if not re.match("compiling (more )?kernels", line)]
    return done.stdout


def test_one_thread_starts_no_other() -> None:
    script(ALONE)


def test_workers_sleep_between_runs_and_wake() -> None:
    script(SLEEPS)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_interrupts_leave_nothing_broken() -> None:
    script(INTERRUPTED)


@pytest.mark.parametrize("when", ENDS)
def test_a_process_ends(when: str) -> None:
    assert script(ENDS[when]) == ("True\n" if when == "before a last run" else "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("body", [FORKED, FORKED_IN_A_RUN], ids=["between runs", "in a run"])
def test_a_forked_child_runs_a_model_that_its_parent_runs(body: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", body], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(loader.library() is not None, reason="a library needs no compiling")
def test_a_forked_child_runs_a_model_whose_kernels_its_parent_compiles() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED_WHILE_COMPILING], capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_threads_and_models_do_not_disturb_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bwn.plan.state.WORTH_SPLITTING", -1)
    models = [Model(NETWORKS["mlp"](seed), threads=2 + seed) for seed in range(3)]
    x = np.random.default_rng(0).standard_normal((4, 1, 28, 28)).astype(np.float32)
    calls = [(model, x[:size]) for model in models for size in (1, 2, 4)]
    expected = [model.run(batch) for model, batch in calls]
    with ThreadPoolExecutor(6) as callers:
        for _ in range(5):
            found = list(callers.map(lambda call: call[0].run(call[1]), calls))
            for ours, right in zip(found, expected, strict=True):
                assert np.array_equal(ours, right)


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bwn.plan.state.WORTH_SPLITTING", -1)
    spec = NETWORKS["vgg"](0)
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    expected = Model(spec, threads=1).run(x)
    crowd = Model(spec, threads=4 * (os.cpu_count() or 1) + 1)
    for _ in range(10):
        assert np.array_equal(crowd.run(x), expected)


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
    spec = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.uint8)
    spec[:] = np.frombuffer(x.tobytes(), np.uint8)
    unaligned = np.ndarray(x.shape, np.float32, spec.data)
    assert not unaligned.flags.aligned
    for same in (
        x.astype(np.float64),
        x.astype(">f4"),
        np.asfortranarray(x),
        x[:, :, ::-1][:, :, ::-1],
        unaligned,
    ):
        assert np.array_equal(model.run(same), right)
