"""`bwn serve`: a packed model as an HTTP service."""

from __future__ import annotations

import errno
import re
from typing import Any

import click

from bwn._text import one_line
from bwn.cli.params import FilePath, Integer, Number, threads_option
from bwn.errors import BwnError, MissingPackageError


class ByteSize(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """A number of bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Turn text such as `8M`, `512K` or `100000` into bytes."""
        match = re.fullmatch(r"([1-9]\d{0,9})([KMG]?)", str(value), re.ASCII)
        if match is None:
            self.fail(f"{value!r} is not a size such as 8M, 512K or 100000.", param, ctx)
        return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]


@click.command(
    no_args_is_help=True,
    epilog="Example: bwn serve model.bwn --port 8000",
)
@click.argument("model", metavar="MODEL", type=FilePath())
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 or :: accepts requests from other machines.",
)
@click.option(
    "--port",
    type=Integer(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 chooses a free one.",
)
@click.option(
    "--max-batch",
    type=Integer(1, 256),
    default=16,
    show_default=True,
    help="Largest batch of waiting images.",
)
@click.option(
    "--max-queue",
    type=Integer(1, 100_000),
    default=128,
    show_default=True,
    help="Images received and not yet answered; more are refused with status 503.",
)
@click.option(
    "--max-bytes",
    type=ByteSize(),
    default="8M",
    show_default=True,
    help="Largest body of a request.",
)
@click.option(
    "--timeout",
    type=Number(0.1, 3600),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="Time to wait for a request to arrive, and then for its answer.",
)
@threads_option
def command(
    model: str,
    host: str,
    port: int,
    max_batch: int,
    max_queue: int,
    max_bytes: int,
    timeout: float,
    threads: int | None,
) -> None:
    """Answer HTTP requests that classify images with MODEL, a .bwn file.

    POST an image, or a form with one or several files, to /classify: the answer is what bwn infer
    --json prints, with ?top=3 for the three likeliest classes. There are also /healthz, /metrics
    (for Prometheus), and a web page at / .

    Waiting images are run as one batch. After Ctrl-C or SIGTERM, requests that have arrived are
    still answered. There is no encryption and no password. Put a reverse proxy in front:
    docs/serve.md.

    \b
    curl --data-binary @photo.jpg http://127.0.0.1:8000/classify
    curl -F image=@a.jpg -F image=@b.png 'http://127.0.0.1:8000/classify?top=3'
    """
    if not host:  # an unset variable of a shell; asyncio would listen on every address
        raise click.UsageError("--host is empty.")
    try:
        from bwn.serve.server import serve
    except ModuleNotFoundError as error:
        if error.name != "aiohttp":
            raise
        raise MissingPackageError("aiohttp", "serve", "bwn serve") from None
    from bwn.model import load
    from bwn.serve.batching import Limits

    limits = Limits(max_batch, max_queue, max_bytes, timeout)
    try:
        serve(load(model, threads), limits, host, port, say_listening)
    except OSError as error:
        reason = one_line(error.strerror or error)
        reason = reason.rpartition(": ")[2]  # asyncio puts the address before it
        other = "--port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
        raise BwnError(f"cannot listen on {host}:{port}: {reason}; try another {other}") from None


def say_listening(url: str) -> None:
    """Print where the service is."""
    click.echo(f"listening on {url} (Ctrl-C to stop)", err=True)
