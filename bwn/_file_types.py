"""What a file that is not what it should be looks like, told from its first bytes, to say in a message."""

from __future__ import annotations

import os
import stat

from bwn.errors import FileError

HEAD = 512
UNKNOWN = "no kind of file that bwn knows"

STARTS = (
    (b"PK\x03\x04", "a zip archive (a torch checkpoint is one)"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"RIFF", "a RIFF file (WebP images are)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"%PDF", "a PDF"),
    (b"GGUF", "a GGUF model"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x7fELF", "a program"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
)


def looks_like(head: bytes) -> str:
    """What the first bytes of a file say that it is, as words for a message."""
    if not head:
        return "an empty file"
    for start, name in STARTS:
        if head.startswith(start):
            return name
    if head[4:8] == b"TFL3":
        return "a TFLite model"
    if head[8:9] == b"{":
        return "a .bwn model" if b'"format":"bwn"' in head else "a safetensors file"
    # An ONNX file opens with field 1 (ir_version, a small number) and then field 2, 3 or 8 of its message.
    if (
        head[0] == 0x08
        and head[1:2] < b"\x20"
        and head[2:3] in (b"\x12", b"\x1a", b"\x42", b"\x3a")
    ):
        return "an ONNX model"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "a text file"
    return UNKNOWN


def read_limited(path: str | os.PathLike[str], limit: int) -> bytes:
    """All bytes of a regular file of at most `limit` bytes. Raises FileError, which names the file."""
    try:
        if not stat.S_ISREG(
            os.stat(path).st_mode
        ):  # before opening: opening a pipe would wait for its writer
            raise FileError(f"{path}: not a regular file; expected a model file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise FileError(f"{path}: {size} bytes; at most {limit} are read")
            return file.read(limit)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise FileError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
