"""Reading and writing whole files."""

from __future__ import annotations

import io
import logging
import os
import reprlib
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from bwn._text import byte_size, read_failure, reason
from bwn.errors import ArgumentError, BwnError, FileError

if TYPE_CHECKING:
    from typing import BinaryIO

    from bwn._types import StrPath

logger = logging.getLogger(__name__)

PIECE = 2**20
"""Bytes of an open file that are read at once."""
SHOWN = 50
"""Characters of a file's name in that of its temporary file: names of 255 bytes are legal."""
ENDINGS = {
    ".bwn": ("packed models", "a packed model"),
    ".onnx": ("ONNX models", "an ONNX model"),
    ".pt": ("checkpoints", "a checkpoint"),
    ".pth": ("checkpoints", "a checkpoint"),
    ".txt": ("text", "a text"),
}
"""Kinds of files by the ending of their names: several of them, and one."""


def read_limited(path: StrPath, limit: int, expected: str) -> bytes:
    """Return all bytes of a regular file.

    Args:
        path: The file.
        limit: Largest size, in bytes.
        expected: The kind of file, for a message.

    Raises:
        FileError: It is larger, not a regular file, or cannot be read; the message names it.
    """
    check_file(path, expected)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise FileError(f"{path}: {size:,} bytes; at most {limit:,} are read")
            logger.info("reading %s, %s", path, byte_size(size))
            return file.read(limit)
    except OSError as error:
        raise FileError(read_failure(path, error)) from None


def read_stream(
    stream: BinaryIO, name: str, limit: int, kind: type[FileError] = FileError
) -> bytes:
    """What is left of a file that the caller opened; one that never ends is refused at `limit`."""
    if isinstance(stream, io.TextIOBase):
        raise kind(f"{name}: opened in text mode; open it with mode 'rb'")
    data = bytearray()
    try:
        while len(data) <= limit and (piece := stream.read(PIECE)):
            data += piece
    except Exception as error:  # closed, text, or whatever an archive or a connection raises
        raise kind(read_failure(name, error)) from error
    if len(data) > limit:
        raise kind(f"{name}: more than {limit:,} bytes, which is the most that is read")
    return bytes(data)


def check_file(path: StrPath, expected: str, kind: type[FileError] = FileError) -> None:
    """Raise an error of this kind where `path` names no regular file: a pipe might never open."""
    check_path(path, kind)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise kind(read_failure(path, error)) from None
    if not stat.S_ISREG(mode):
        raise kind(f"{path} {not_regular(mode)}, expected {expected}")


def check_path(path: StrPath, kind: type[BwnError] = ArgumentError) -> None:
    """Raise an error where a path is no path or empty, which Python takes for `.`."""
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError(f"{reprlib.repr(path)} is not a path")
    if not os.fspath(path):
        raise kind("the path is empty")


def not_regular(mode: int) -> str:
    """What a path of this mode is instead of a file."""
    return "is a folder" if stat.S_ISDIR(mode) else "is not a regular file"


def write_atomically(path: StrPath, data: bytes | memoryview) -> None:
    """Write `data` to `path`: a reader, or a power cut, sees the old file or the new one.

    The data go to a temporary file in the same folder, to the disk, and then to their name. A link
    stays a link: its target is written.

    Raises:
        FileError: The file cannot be written; the message names it.
    """
    import tempfile  # not needed by who only reads

    temporary = None
    check_path(path)
    try:
        check_target(path)
        logger.info("writing %s, %s", path, byte_size(len(data)))
        target = os.path.realpath(path)
        folder, name = os.path.split(target)
        prefix = f".{name[:SHOWN]}."
        with tempfile.NamedTemporaryFile(dir=folder, prefix=prefix, delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~current_umask())  # a temporary file is private; a model is not
        os.replace(temporary, target)
        _sync_folder(folder)
    except FileNotFoundError:
        raise FileError(f"{path}: cannot be written: no such folder") from None
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be written: {reason(error)}") from None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def _sync_folder(folder: str) -> None:
    with suppress(OSError):  # some systems and network disks cannot; the content is safe either way
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check_target(path: StrPath) -> None:
    """Raise FileError if `path` is a folder, pipe or device, or its name is illegal or too long.

    Renaming would destroy /dev/null.
    """
    check_path(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be written: {reason(error)}") from None
    if not stat.S_ISREG(mode):
        raise FileError(f"{path}: cannot be written: it {not_regular(mode)}")


def check_ending(path: StrPath, ending: str) -> None:
    """Raise ArgumentError where a file to write would have the name of another kind of file.

    Args:
        path: The file to write.
        ending: The usual one of its kind, a key of ENDINGS.
    """
    check_path(path)
    other = os.path.splitext(path)[1].lower()
    if other in ENDINGS and ENDINGS[other] != ENDINGS[ending]:
        _, kind = ENDINGS[ending]
        raise ArgumentError(
            f"{path}: {kind} cannot be named {other}, which is for {ENDINGS[other][0]}"
        )


def make_folder(path: StrPath) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        FileError: It cannot be made; the message names it.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path}: cannot be made: {reason(error)}") from None


def same_file(path: StrPath, other: StrPath) -> bool:
    """Return whether two paths name one file, also through links."""
    check_path(path)
    check_path(other)
    return os.path.realpath(path) == os.path.realpath(other)


def current_umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
