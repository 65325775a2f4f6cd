"""The answers of the service: paths, limits, errors, and the order in which it stops."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from bwn._text import one_line
from bwn.errors import BwnError, DataError
from bwn.model import Model
from bwn.page import INDEX, page_files
from bwn.predict import class_names, fields
from bwn.serve.batching import Batcher, Limits, QueueFullError
from bwn.serve.bodies import Upload, check_headers, read_uploads
from bwn.serve.prometheus import CONTENT_TYPE, Metrics

logger = logging.getLogger(__name__)

UNREADABLE = 422
HEADERS = {
    "Server": "bwn",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src data:; form-action 'self'; frame-ancestors 'none'",
}
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def failure(status: int, error: str) -> web.Response:
    """An answer with `error` in one line. The connection ends if the body may not be read yet."""
    response = web.json_response({"error": one_line(error)}, status=status)
    if status in (408, 413, 503):
        response.force_close()
    if status == 503:
        response.headers["Retry-After"] = "1"
    return response


class Service:
    """One model behind HTTP.

    Attributes:
        stopping: Whether new requests are refused.
    """

    def __init__(self, model: Model, limits: Limits) -> None:
        self.model, self.limits, self.metrics = model, limits, Metrics()
        self.batcher = Batcher(model, limits, self.metrics)
        self.stopping = False
        self._page = {
            f"/{name}": (content, KINDS[name.rpartition(".")[2]])
            for name, content in page_files().items()
        }
        self._page["/"] = self._page.pop(f"/{INDEX}")

    def app(self) -> web.Application:
        """The application, which runs batches while it is served."""
        app = web.Application(client_max_size=self.limits.max_bytes, middlewares=[self._guarded])
        app.router.add_post("/classify", self._classify)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/model", self._describe)
        for path in self._page:
            app.router.add_get(path, self._show_page)
        app.cleanup_ctx.append(self._batches)
        return app

    async def _batches(self, _app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self.batcher.run())
        yield
        task.cancel()
        self.batcher.close()

    async def finish(self) -> None:
        """Answer the requests that have begun to arrive, and refuse new ones."""
        self.stopping = True
        end = time.monotonic() + 2 * self.limits.timeout
        while self.batcher.held and time.monotonic() < end:
            await asyncio.sleep(0.01)

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer every error as JSON, and count the answer."""
        try:
            if self.stopping:
                response: web.StreamResponse = failure(503, "the service is stopping")
            else:
                response = await handler(request)
        except web.HTTPException as error:
            response = failure(error.status, error.text or error.reason)
            response.headers.update({k: v for k, v in error.headers.items() if k == "Allow"})
        except QueueFullError:
            response = failure(503, "the service is busy: too many images are waiting")
        except Exception:
            logger.exception("an error inside bwn")
            response = failure(500, "an error inside bwn")
        self.metrics.requests[response.status] += 1
        response.headers.update(HEADERS)
        return response

    async def _classify(self, request: web.Request) -> web.StreamResponse:
        start = time.perf_counter()
        top = read_top(request)
        check_headers(request, self.limits.max_bytes)
        held = 0

        def admit() -> None:
            nonlocal held
            self.batcher.admit()
            held += 1

        try:
            admit()
            return await self._answer(request, top, admit)
        finally:
            self.batcher.release(held)
            self.metrics.seconds.add(time.perf_counter() - start)

    async def _answer(
        self, request: web.Request, top: int, admit: Callable[[], None]
    ) -> web.StreamResponse:
        try:
            async with asyncio.timeout(self.limits.timeout):
                uploads, form = await read_uploads(request, self.limits.max_bytes, admit)
        except TimeoutError:
            raise web.HTTPRequestTimeout(text="the body did not arrive in time") from None
        try:
            async with asyncio.timeout(self.limits.timeout):
                rows = await asyncio.gather(*(self._row(upload, top) for upload in uploads))
        except TimeoutError:
            return failure(503, "the service is busy: the answer took too long")
        status = UNREADABLE if all("error" in row for row in rows) else 200
        return web.json_response({"images": rows} if form else rows[0], status=status)

    async def _row(self, upload: Upload, top: int) -> dict[str, Any]:
        """What `bwn infer --json` says of an image."""
        row: dict[str, Any] = {} if upload.name is None else {"path": upload.name}
        try:
            predictions = await self.batcher.classify(upload.data, top)
        except BwnError as error:
            if not isinstance(error, DataError):
                logger.warning("%s", error)
            self.metrics.images["refused"] += 1
            return {**row, "error": str(error).removeprefix("image: ")}
        self.metrics.images["classified"] += 1
        return {**row, **fields(predictions)}

    async def _healthz(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        text = self.metrics.text(self.batcher.held)
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _describe(self, _request: web.Request) -> web.StreamResponse:
        spec = self.model.spec
        return web.json_response(
            {"classes": list(class_names(spec)), "input_shape": self.model.input_shape}
        )

    async def _show_page(self, request: web.Request) -> web.StreamResponse:
        content, kind = self._page[request.path]
        return web.Response(body=content, content_type=kind, charset="utf-8")


def read_top(request: web.Request) -> int:
    """How many classes a request asks for (`?top=3`)."""
    text = request.query.get("top", "1")
    if not re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII):
        raise web.HTTPBadRequest(text="top is not a whole number from 1 to 999,999,999")
    return int(text)
