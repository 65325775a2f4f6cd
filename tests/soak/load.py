"""The load: models with known answers, forks, signals, interrupted commands."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from PIL import Image

import bwn
from bwn.data import datasets
from bwn.passes.set_activations import set_activations

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
CALLERS = 8
THREADS = 2
BATCHES = (1, 2, 3, 5, 17)
"""More sizes than a model keeps plans for: plans are dropped and made again."""
FORK_SECONDS = 60


class Models:
    """Four models, and their answers, known before anything else runs."""

    def __init__(self) -> None:
        lenet = bwn.load(MODELS / "mnist-lenet.bwn", THREADS)
        whole = set_activations(lenet.spec.graph, "int8")
        self.models = [
            bwn.load(MODELS / "mnist-mlp.bwn", THREADS),
            lenet,
            bwn.Model(replace(lenet.spec, graph=whole), THREADS),
            bwn.load(MODELS / "cifar10-vgg-quarter.bwn", THREADS),
        ]
        rng = np.random.default_rng(0)
        largest = max(BATCHES)
        self.inputs = [
            rng.standard_normal((largest, *model.input_shape), np.float32) for model in self.models
        ]
        self.scores = [
            {size: model.run(x[:size]) for size in BATCHES}
            for model, x in zip(self.models, self.inputs, strict=True)
        ]
        digits = datasets.load_dataset("mnist-sample", "test").images[:8]
        self.images = [Image.fromarray(pixels) for pixels in digits]
        self.labels = [guess.label for guess in lenet.predict(self.images)]

    def answer(self, rng: random.Random) -> bool:
        """Ask a random model something; whether it answers what it did at first."""
        which = rng.randrange(len(self.models))
        if rng.random() < 0.1:
            model = self.models[1]
            return [guess.label for guess in model.predict(self.images)] == self.labels
        size = rng.choice(BATCHES)
        scores = self.models[which].run(self.inputs[which][:size])
        return np.array_equal(scores, self.scores[which][size])


def forked(models: Models) -> str:
    """Fork while other threads run models; the child must answer too. What went wrong."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            rng = random.Random(os.getpid())
            code = 0 if all(models.answer(rng) for _ in range(5)) else 2
        finally:
            os._exit(code)
    end = time.monotonic() + FORK_SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return {0: "", 2: "another answer in the child"}.get(
                code, f"the child ended with {code}"
            )
        time.sleep(0.01)
    os.kill(child, signal.SIGABRT)  # faulthandler shows where it stands
    os.waitpid(child, 0)
    return f"the child did not answer within {FORK_SECONDS} s"


@contextmanager
def noisy_signals(handler: Callable[[], None]) -> Iterator[None]:
    """A signal every 20 ms, which interrupts whatever the process waits in."""
    previous = signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def interrupted_command(place: Path) -> str:
    """Start a command on a folder without end and interrupt it at some moment. What went wrong."""
    command = [sys.executable, "-m", "bwn.cli", "infer", "--watch", "--threads", "2"]
    command += [str(MODELS / "mnist-mlp.bwn"), str(place / "photos")]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Not in the first moments: until Python runs bwn's code an interrupt is Python's own affair.
    time.sleep(1.5 + random.random())
    process.send_signal(signal.SIGINT)
    try:
        _, text = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "did not end within 60 s of an interrupt"
    return (
        ""
        if process.returncode == 130 and "Traceback" not in text
        else f"{process.returncode}: {text}"
    )
