"""A service that listens until a signal stops it."""

from __future__ import annotations

import asyncio
import logging
import signal
import warnings
from collections.abc import Callable

from aiohttp import web

from bwn.errors import NotPreparedError
from bwn.model import Model
from bwn.serve.app import Service
from bwn.serve.batching import Limits

LINGER = 2.0
"""Seconds to read on after a refusal, so that a client that still sends can read it."""
BACKLOG = 1024


def serve(
    model: Model, limits: Limits, host: str, port: int, listening: Callable[[str], None]
) -> None:
    """Answer requests until SIGINT or SIGTERM; a second signal ends the process at once.

    Args:
        model: A model that says how images are prepared.
        limits: What is accepted.
        host: Name or address to listen on.
        port: Port; 0 for a free one.
        listening: Called with the URL once requests are answered.

    Raises:
        NotPreparedError: The model does not say how images are prepared.
        OSError: The address is in use, or is not one of this machine.
    """
    if model.preprocess is None:
        raise NotPreparedError
    # It logs a traceback of every request that is no HTTP, and warns of forms with odd headers: a
    # client could fill the log. It is answered all the same.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"aiohttp\b")
    asyncio.run(_serve(Service(model, limits), host, port, listening))


async def _serve(service: Service, host: str, port: int, listening: Callable[[str], None]) -> None:
    service.batcher.warm_up()
    timeout = service.limits.timeout
    runner = web.AppRunner(
        service.app(),
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=timeout,
        lingering_time=LINGER,
        shutdown_timeout=timeout,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=BACKLOG)
        await site.start()
        stop = _stop_event()
        address = runner.addresses[0]
        name = f"[{address[0]}]" if ":" in address[0] else address[0]
        listening(f"http://{name}:{address[1]}")
        await stop.wait()
        await site.stop()
        await service.finish()  # the cleanup reads no more of a body that still arrives
    finally:
        await runner.cleanup()


def _stop_event() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        event.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    return event
