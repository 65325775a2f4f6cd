"""Images that wait are run together."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bwn._types import Floats
from bwn.errors import BwnError
from bwn.kernels.target.limits import available_threads
from bwn.model import KEPT_PLANS, Model
from bwn.predict import Prediction, classify, to_input
from bwn.serve.prometheus import Metrics


@dataclass(frozen=True)
class Limits:
    """What a service accepts.

    Attributes:
        max_batch: Images to run at once.
        max_queue: Images that are received and not yet answered.
        max_bytes: Bytes of a request's body.
        timeout: Seconds for a request to arrive, and for its answer to be computed.
    """

    max_batch: int = 16
    max_queue: int = 128
    max_bytes: int = 8 * 2**20
    timeout: float = 10.0


class QueueFullError(Exception):
    """There are as many images as the service accepts at a time."""


class Waiting(NamedTuple):
    """A prepared image, how many classes to name for it, and who waits for them."""

    x: Floats
    top: int
    answer: asyncio.Future[tuple[Prediction, ...]]


def batch_sizes(most: int) -> list[int]:
    """Sizes of batches to run, the largest first, so few that the model keeps all their plans."""
    return sorted({round(most ** (i / (KEPT_PLANS - 1))) for i in range(KEPT_PLANS)}, reverse=True)


class Batcher:
    """Decodes images on a thread for each CPU, and runs those that wait together.

    Attributes:
        held: Images received and not yet answered.
    """

    def __init__(self, model: Model, limits: Limits, metrics: Metrics) -> None:
        self.model, self.limits, self.metrics = model, limits, metrics
        self.held = 0
        self.sizes = batch_sizes(limits.max_batch)
        self._waiting: asyncio.Queue[Waiting] = asyncio.Queue()
        self._decoders = ThreadPoolExecutor(available_threads(), "decode")
        self._runner = ThreadPoolExecutor(1, "run")

    def warm_up(self) -> None:
        """Plan the batches of all sizes, so that no request waits for it."""
        for size in self.sizes:
            self.model.run(np.zeros((size, *self.model.input_shape), np.float32))

    def admit(self) -> None:
        """Count an image that arrives. Raises QueueFullError."""
        if self.held >= self.limits.max_queue:
            raise QueueFullError
        self.held += 1

    def release(self, count: int) -> None:
        """Forget images that are answered."""
        self.held -= count

    async def classify(self, data: bytes, top: int) -> tuple[Prediction, ...]:
        """The likeliest classes of an image file.

        Raises:
            DataError: It cannot be read.
            BwnError: A score is not finite.
        """
        loop = asyncio.get_running_loop()
        x = await loop.run_in_executor(self._decoders, to_input, self.model.spec, data)
        waiting = Waiting(x, top, loop.create_future())
        self._waiting.put_nowait(waiting)
        return await waiting.answer

    async def run(self) -> None:
        """Run batches until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            ready = self._waiting.qsize() + 1
            size = next(size for size in self.sizes if size <= ready)
            batch += [self._waiting.get_nowait() for _ in range(size - 1)]
            batch = [waiting for waiting in batch if not waiting.answer.done()]  # timed out
            if batch:
                await self._run_batch(batch)

    async def _run_batch(self, batch: list[Waiting]) -> None:
        loop = asyncio.get_running_loop()
        x, top = np.stack([w.x for w in batch]), max(w.top for w in batch)
        try:
            ranked = await loop.run_in_executor(self._runner, classify, self.model, x, top)
        except Exception as error:
            if isinstance(error, BwnError) and len(batch) > 1:  # which of them is it?
                for waiting in batch:
                    await self._run_batch([waiting])
                return
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            return
        self.metrics.batches.add(len(batch))
        for waiting, predictions in zip(batch, ranked, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(predictions[: waiting.top])

    def close(self) -> None:
        """End the threads."""
        self._decoders.shutdown(cancel_futures=True)
        self._runner.shutdown(cancel_futures=True)
