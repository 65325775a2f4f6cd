"""Writing files: beside the target first, then renamed, so that a reader never sees half of one."""

from __future__ import annotations

import os
from contextlib import suppress

from bwn.errors import FileError


def write_beside(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Write `data` to `path` through a temporary file in the same folder; a link stays, its target is written.

    It is on the disk before it is renamed, and the new name before this returns: a power cut leaves the old file or
    the new one. Raises FileError, which names the file.
    """
    import tempfile  # who only reads does without

    temporary = None
    try:
        check_target(path)
        target = os.path.realpath(path)
        folder, name = os.path.split(target)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{name}.", delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~current_umask())  # a temporary file is private; a model is not
        os.replace(temporary, target)
        _sync_folder(folder)
    except (OSError, ValueError) as error:
        raise FileError(
            f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}"
        ) from None
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


def check_target(path: str | os.PathLike[str]) -> None:
    """Refuse a path that is a folder, pipe or device: renaming over /dev/null would destroy it. Raises FileError."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise FileError(f"{path}: cannot be written: not a regular file")


def same_file(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths name one file, also through links."""
    return os.path.realpath(path) == os.path.realpath(other)


def current_umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
