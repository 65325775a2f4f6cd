"""The images of a request: its body, or the files of a form."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aiohttp import BodyPartReader, web

from bwn._text import byte_size
from bwn.serve.batching import QueueFullError

CHUNK = 64 * 2**10


class Upload(NamedTuple):
    """The bytes of an image file, and the name that its sender gave it, if any."""

    name: str | None
    data: bytes


def check_headers(request: web.Request, most: int) -> None:
    """Refuse by its headers what need not be read. most: bytes of a body."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise web.HTTPUnsupportedMediaType(text="Content-Encoding: send the image as it is")
    if (request.content_length or 0) > most:
        raise too_large(most)


def too_large(most: int) -> web.HTTPRequestEntityTooLarge:
    """The refusal of a body. most: bytes that it may have."""
    text = f"the body is larger than {byte_size(most)}"
    return web.HTTPRequestEntityTooLarge(most, most + 1, text=text)


async def read_uploads(
    request: web.Request, most: int, admit: Callable[[], None]
) -> tuple[list[Upload], bool]:
    """Read the images of a request.

    Args:
        request: The body is one image, or multipart/form-data.
        most: Bytes that the body may have.
        admit: Called for each part of a form but the first, before it is read; raises where there
            are too many.

    Returns:
        The images, and whether they came in a form.
    """
    kind = request.content_type.lower()
    if not kind.startswith("multipart/"):
        upload = Upload(None, await _whole(request, most))
        if not upload.data:
            raise web.HTTPBadRequest(text="the body is empty, expected an image")
        return [upload], False
    if kind != "multipart/form-data":
        raise web.HTTPUnsupportedMediaType(text=f"{kind}, expected multipart/form-data or an image")
    uploads = await _files(request, most, admit)
    if not uploads:
        raise web.HTTPBadRequest(text="the form has no file, expected one image or several")
    return uploads, True


async def _whole(request: web.Request, most: int) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise too_large(most) from None
    except TimeoutError:
        raise
    except Exception as error:  # of the parser, or of a client that is gone
        raise web.HTTPBadRequest(text="the body is not valid HTTP") from error


async def _files(request: web.Request, most: int, admit: Callable[[], None]) -> list[Upload]:
    uploads: list[Upload] = []
    left = most
    try:
        form, first = await request.multipart(), True
        while (part := await form.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise web.HTTPBadRequest(text="a form inside the form")
            if not first:
                admit()
            first = False
            data = bytearray()
            while chunk := await part.read_chunk(CHUNK):
                data += chunk
                left -= len(chunk)
                if left < 0:
                    raise too_large(most)
            if part.filename is not None:  # other fields are of no use
                uploads.append(Upload(part.filename, bytes(data)))
    except (web.HTTPException, QueueFullError, TimeoutError):
        raise
    except Exception as error:  # the reader raises almost anything on a broken form
        raise web.HTTPBadRequest(text="the form is not valid multipart/form-data") from error
    return uploads
